//! What a kernel or an operator does to a process: kill it, freeze it, wake it, ask it to stop.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use super::eventually;

/// Sends a signal to a process.
///
/// # Errors
/// When there is no such process, or it is not ours.
pub fn send(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let target = Pid::from_raw(i32::try_from(pid)?).context("0 is no process id")?;
    kill_process(target, signal).with_context(|| format!("{signal:?} to process {pid}"))
}

/// `kill -9`: the process ends wherever it stands.
///
/// # Errors
/// As [`send`].
pub fn kill(pid: u32) -> anyhow::Result<()> {
    send(pid, Signal::KILL)
}

/// Freezes a process: it keeps its memory and its connections and does nothing. Waits until every thread stands still.
///
/// # Errors
/// As [`send`].
pub async fn freeze(pid: u32) -> anyhow::Result<()> {
    send(pid, Signal::STOP)?;
    eventually("the process stands still", Duration::from_secs(10), async || match state(pid) {
        Some('T') => Ok(()),
        other => Err(other),
    })
    .await
}

/// Wakes a frozen process.
///
/// # Errors
/// As [`send`].
pub fn wake(pid: u32) -> anyhow::Result<()> {
    send(pid, Signal::CONT)
}

/// Asks a process to stop, as a service manager does.
///
/// # Errors
/// As [`send`].
pub fn terminate(pid: u32) -> anyhow::Result<()> {
    send(pid, Signal::TERM)
}

/// Whether a process exists and is not only waiting to be collected.
pub fn lives(pid: u32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The kernel's letter for what a process does: R, S, D, T, Z …; `None` when there is none of that number.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name before it stands in parentheses and may hold anything.
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_freezes_wakes_and_ends() {
        let mut child = tokio::process::Command::new("sleep").arg("600").kill_on_drop(true).spawn().unwrap();
        let pid = child.id().unwrap();
        freeze(pid).await.unwrap();
        assert!(lives(pid));
        wake(pid).unwrap();
        terminate(pid).unwrap();
        child.wait().await.unwrap();
        assert!(!lives(pid));
        assert!(kill(pid).is_err());
    }
}
