//! A daemon on "another machine": one whose host name differs, so that no other replica can ask the kernel whether it
//! still lives and take over from it before its leases end.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::process::tocsin;

/// Ways to get a host name of one's own: as root, or as anybody where the kernel lets anybody.
const WAYS: [&[&str]; 2] = [&["--uts"], &["--user", "--map-root-user", "--uts"]];

/// Gives this machine another name for whatever runs next.
const RENAMED: &str = "echo \"$0\" > /proc/sys/kernel/hostname && exec \"$@\"";

/// `tocsin serve` under another host name. `None` where this system lets nobody have one.
///
/// # Errors
/// When there is no binary.
pub async fn serve_elsewhere(config: &Path, host: &str) -> anyhow::Result<Option<Command>> {
    for way in WAYS {
        let mut probe = Command::new("unshare");
        probe.args(way).args(["sh", "-c", RENAMED, host, "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if probe.status().await.is_ok_and(|status| status.success()) {
            let inner = tocsin(config, &["serve"])?;
            let inner = inner.as_std();
            let mut command = Command::new("unshare");
            command.args(way).args(["sh", "-c", RENAMED, host]).arg(inner.get_program()).args(inner.get_args());
            command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
            command.kill_on_drop(true).stdin(Stdio::null());
            return Ok(Some(command));
        }
    }
    Ok(None)
}
