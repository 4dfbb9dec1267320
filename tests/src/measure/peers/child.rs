//! A program that runs to its end, and what it cost.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::harness::{Usage, proc_stats};

/// Nothing takes longer.
const LIMIT: Duration = Duration::from_secs(1200);

/// How often its memory is looked at. The kernel remembers the most it had; only what it takes in its last moments is missed.
const LOOK: Duration = Duration::from_millis(20);

/// A program that has ended well.
pub(super) struct Ran {
    /// What it said.
    pub(super) stdout: String,
    /// CPU seconds of it and its children.
    pub(super) cpu: f64,
    /// The most memory it had, bytes.
    pub(super) peak_rss: u64,
}

/// Runs a program in an environment without anything but this home, with this on its standard input.
///
/// # Errors
/// When it cannot be started, ends badly, or does not end.
pub(super) async fn run(program: &Path, arguments: &[&str], home: &Path, input: &str) -> anyhow::Result<Ran> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home).current_dir(home);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
    let pid = child.id().context("no process id")?;
    let (mut stdin, mut stdout, mut stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut said, mut complained) = (String::new(), String::new());
    let tell = async {
        if let Some(mut stdin) = stdin.take() {
            // A program that fails early does not read its input.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        Ok(())
    };
    let hear = stdout.as_mut().context("no stdout")?.read_to_string(&mut said);
    let hear_complaints = stderr.as_mut().context("no stderr")?.read_to_string(&mut complained);
    let whole = async { tokio::try_join!(tell, hear, hear_complaints, ended(pid)).map(|(.., peak_rss)| peak_rss) };
    let peak_rss = tokio::time::timeout(LIMIT, whole).await.with_context(|| format!("it did not end within {LIMIT:?}"))??;
    // It has ended and is not waited for yet: the last moment to see what it cost.
    let cpu = proc_stats::final_cpu(pid)?;
    let status = child.wait().await?;
    let last: Vec<&str> = complained.lines().filter(|line| !line.trim().is_empty()).collect();
    ensure!(status.success(), "{status}: {}", last[last.len().saturating_sub(5)..].join(" / "));
    Ok(Ran { stdout: said, cpu, peak_rss })
}

/// Waits until a child has ended, without taking the news from whoever waits for it; gives the most memory it had.
async fn ended(pid: u32) -> std::io::Result<u64> {
    let pid_of_child = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut peak = 0;
    loop {
        if let Ok(usage) = Usage::of(pid) {
            peak = usage.peak_rss.max(peak);
        }
        if waitid(WaitId::Pid(pid_of_child), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG)?.is_some() {
            return Ok(peak);
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_is_charged_for_its_children() {
        let home = tempfile::tempdir().unwrap();
        let burn = "read word; sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; echo $word";
        let ran = run(Path::new("/bin/sh"), &["-c", burn], home.path(), "said\n").await.unwrap();
        assert_eq!(ran.stdout, "said\n");
        assert!(ran.cpu >= 0.03 && ran.peak_rss > 100_000, "{} {}", ran.cpu, ran.peak_rss);
    }

    #[tokio::test]
    async fn a_program_that_fails_is_an_error_with_its_last_words() {
        let home = tempfile::tempdir().unwrap();
        let error = run(Path::new("/bin/sh"), &["-c", "echo so it goes >&2; exit 3"], home.path(), "").await.err().unwrap();
        assert!(error.to_string().contains("so it goes"), "{error}");
    }
}
