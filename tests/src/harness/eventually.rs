//! Waiting for a condition instead of sleeping, and saying what was seen when it never came.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// Looks every 50 ms until `look` finds what it wants, at most `limit` long.
///
/// `look` answers `Ok(found)`, or `Err(what was seen instead)`, which is printed if time runs out.
///
/// # Errors
/// When the condition never came, with the last thing seen.
pub async fn eventually<T, E: Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let give_up = Instant::now() + limit;
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(seen) if Instant::now() >= give_up => anyhow::bail!("{what}: not within {limit:?}; last seen: {seen:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
