//! The last part of a soak: kills around the rotation of refresh tokens, in worlds of their own, since a sign-in that is
//! lost on purpose would be a trouble to everything else that is watched.

use std::os::unix::fs::PermissionsExt;

use simulator::Rotation;

use super::{Wish, say};
use crate::harness::OwnPostgres;
use crate::measure::rotation::{self, Kills};

/// In a run of ten minutes or more; a shorter one makes its share of them.
const KILLS: usize = 500;
/// Ended one after the other in each world.
const IN_A_WORLD: usize = 25;
const AT_ONCE: usize = 6;

/// What came of them where an old token stays good, and where it is taken for theft.
///
/// # Errors
/// When a sign-in was lost that need not be, or did not show within a minute.
pub async fn kills(wish: &Wish) -> anyhow::Result<(Kills, Kills)> {
    let share = usize::try_from(wish.seconds)?.min(600) * KILLS / 600;
    let worlds = (share / 2).div_ceil(IN_A_WORLD);
    say(&format!("{} kills around the rotation of refresh tokens", 2 * worlds * IN_A_WORLD));
    let folder = tempfile::Builder::new().prefix("tocsin-soak-").tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))?;
    let server = OwnPostgres::start(folder.path(), &[("max_connections", "200"), ("max_wal_size", "256MB")]).await?;
    let url = server.url()?;
    let entra = rotation::kills(Rotation::Entra, worlds, IN_A_WORLD, AT_ONCE, Some(&url)).await;
    let strict = rotation::kills(Rotation::Strict, worlds, IN_A_WORLD, AT_ONCE, Some(&url)).await;
    server.stop().await?;
    Ok((entra?, strict?))
}
