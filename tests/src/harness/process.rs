//! The real `tocsin` binary as a child process.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::Context;

use super::eventually;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// The binary that was built with this test or demo, or the one that `TOCSIN_PROGRAM` names: what is released.
///
/// # Errors
/// When it is not there: `./dev` builds everything before it runs anything.
pub fn tocsin_binary() -> anyhow::Result<PathBuf> {
    if let Some((_, named)) = std::env::vars_os().find(|(name, _)| name == "TOCSIN_PROGRAM") {
        return Ok(named.into());
    }
    let here = std::env::current_exe()?;
    let found = here.ancestors().skip(1).take(2).map(|folder| folder.join("tocsin")).find(|path| path.is_file());
    found.with_context(|| format!("no tocsin binary beside {}; run this through ./dev", here.display()))
}

/// A command of `tocsin` with this configuration, in a clean environment.
///
/// # Errors
/// When there is no binary.
pub fn tocsin(config: &Path, arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(tocsin_binary()?);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", "/nonexistent");
    command.arg("--config").arg(config).args(arguments).kill_on_drop(true).stdin(Stdio::null());
    Ok(command)
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started or does not end within a minute.
pub async fn run(config: &Path, arguments: &[&str]) -> anyhow::Result<Finished> {
    run_with_input(config, arguments, "").await
}

/// Runs a command to its end, with this on its standard input.
///
/// # Errors
/// As [`run`].
pub async fn run_with_input(config: &Path, arguments: &[&str], input: &str) -> anyhow::Result<Finished> {
    held(arguments, finish(tocsin(config, arguments)?, input).await?)
}

/// What is printed for scripts is held to its published schema, wherever a story looks at it.
fn held(arguments: &[&str], finished: Finished) -> anyhow::Result<Finished> {
    super::schemas::fits(arguments, &finished.stdout)?;
    Ok(finished)
}

/// The same with these environment variables besides.
///
/// # Errors
/// As [`run`].
pub async fn run_in(config: &Path, arguments: &[&str], input: &str, environment: &[(&str, &str)]) -> anyhow::Result<Finished> {
    let mut command = tocsin(config, arguments)?;
    command.envs(environment.iter().copied());
    held(arguments, finish(command, input).await?)
}

/// Runs a command that was put together otherwise to its end, with this on its standard input.
///
/// # Errors
/// As [`run`].
pub async fn finish(mut command: Command, input: &str) -> anyhow::Result<Finished> {
    use tokio::io::AsyncWriteExt;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that fails early does not read its input.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let Output { status, stdout, stderr } = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output())
        .await
        .with_context(|| format!("this did not end within a minute: {:?}", command.as_std()))??;
    Ok(Finished { status, stdout: String::from_utf8(stdout)?, stderr: String::from_utf8(stderr)? })
}

/// Runs a command that asks for a line of input once it has printed one: `reply` gets the printed line.
///
/// # Errors
/// As [`run`], or when the reply fails.
pub async fn converse(
    config: &Path,
    arguments: &[&str],
    reply: impl AsyncFnOnce(&str) -> anyhow::Result<String>,
) -> anyhow::Result<Finished> {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    let mut child = tocsin(config, arguments)?.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (mut stdin, stdout) = (child.stdin.take().context("no stdin")?, child.stdout.take().context("no stdout")?);
    let (mut said, mut stdout) = (String::new(), BufReader::new(stdout));
    stdout.read_line(&mut said).await?;
    stdin.write_all(format!("{}\n", reply(said.trim()).await?).as_bytes()).await?;
    drop(stdin);
    let ended = async { tokio::try_join!(child.wait_with_output(), stdout.read_to_string(&mut said)) };
    let (Output { status, stderr, .. }, _) = tokio::time::timeout(Duration::from_secs(60), ended).await??;
    held(arguments, Finished { status, stdout: said, stderr: String::from_utf8(stderr)? })
}

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub status: ExitStatus,
    /// Its data.
    pub stdout: String,
    /// All else that it said.
    pub stderr: String,
}

impl Finished {
    /// The exit code; -1 after a signal.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Its data, read as JSON.
    ///
    /// # Errors
    /// When stdout is not exactly one JSON document.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("stdout is no JSON: {self:?}"))
    }

    /// The sentence with which it ended badly, without the program's name before it.
    ///
    /// # Errors
    /// When it said something else than that: stderr must hold exactly one such line, the last one, and
    /// besides it only notes (a warning, the line of an import file, the daemon's log as JSON).
    pub fn complaint(&self) -> anyhow::Result<&str> {
        let is_note = |line: &&str| line.starts_with("warning: ") || line.starts_with("line ") || line.starts_with('{');
        let said: Vec<&str> = self.stderr.lines().filter(|line| !is_note(line)).collect();
        let [only] = said.as_slice() else { anyhow::bail!("not one sentence: {self:?}") };
        anyhow::ensure!(self.stderr.lines().next_back() == Some(only), "the sentence is not the last word: {self:?}");
        only.strip_prefix("tocsin: ").with_context(|| format!("the sentence does not begin with the program's name: {self:?}"))
    }

    /// The same, if it ended well.
    ///
    /// # Errors
    /// When it did not, with what it said.
    pub fn ok(self) -> anyhow::Result<Self> {
        anyhow::ensure!(self.status.success(), "exit {}: {}{}", self.code(), self.stdout, self.stderr);
        Ok(self)
    }
}

/// A running `tocsin serve`.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it; its log goes to a file, appended.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(config: &Path, log: &Path, environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut command = tocsin(config, &["serve"])?;
        command.envs(environment.iter().copied());
        Self::spawn(command, log)
    }

    /// Starts a `tocsin serve` that was put together otherwise; its log goes to a file, appended.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        command.stdout(file.try_clone()?).stderr(file);
        // A process group of its own: a Ctrl-C for the demo is the demo's to pass on.
        command.process_group(0);
        Ok(Self { child: command.spawn()?, log: log.to_owned() })
    }

    /// Its process id, while it runs.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().with_context(|| format!("the daemon has ended; its last words:\n{}", self.last_words()))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()?)?;
        kill_process(Pid::from_raw(pid).context("no process id")?, signal)?;
        Ok(())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it takes longer than `limit`.
    pub async fn ended(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        tokio::time::timeout(limit, self.child.wait())
            .await
            .with_context(|| format!("the daemon did not end within {limit:?}:\n{}", self.last_words()))?
            .map_err(Into::into)
    }

    /// kill -9, and waits until it is gone.
    ///
    /// # Errors
    /// When it had ended before.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.ended(Duration::from_secs(10)).await?;
        Ok(())
    }

    /// SIGTERM, and waits for a clean end.
    ///
    /// # Errors
    /// When it does not end well within ten seconds.
    pub async fn terminate(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.ended(Duration::from_secs(10)).await?;
        anyhow::ensure!(status.success(), "the daemon ended with {status}:\n{}", self.last_words());
        Ok(())
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kilobytes * 1024)
    }

    /// How many files and connections it has open.
    ///
    /// # Errors
    /// When it has ended.
    pub fn open_files(&self) -> anyhow::Result<usize> {
        super::proc_stats::descriptors(self.pid()?)
    }

    /// The id under which it holds leases, as it says in its log.
    ///
    /// # Errors
    /// When it does not say so within half a minute.
    pub async fn replica_id(&self) -> anyhow::Result<uuid::Uuid> {
        Ok(self.said("replica.id").await?.parse()?)
    }

    /// Where its ops endpoint listens, as it says in its log.
    ///
    /// # Errors
    /// When it does not say so within half a minute.
    pub async fn ops_address(&self) -> anyhow::Result<String> {
        self.said("ops.address").await
    }

    /// Where the pages are that customers see, as it says in its log.
    ///
    /// # Errors
    /// As [`Daemon::ops_address`].
    pub async fn console_address(&self) -> anyhow::Result<String> {
        self.said("console.address").await
    }

    /// The last text that its log has under this name.
    async fn said(&self, field: &str) -> anyhow::Result<String> {
        eventually(&format!("the daemon says its {field}"), Duration::from_secs(30), async || {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let line =
                log.lines().rev().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?[field].as_str().map(str::to_owned));
            line.ok_or_else(|| self.last_words())
        })
        .await
    }

    /// Asks the ops endpoint; gives status and body.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn ops(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        let answer = client.get(format!("http://{}{path}", self.ops_address().await?)).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// The sum of all samples of a metric whose labels contain `label`.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn metric(&self, name: &str, label: &str) -> anyhow::Result<f64> {
        let (_, text) = self.ops("/metrics").await?;
        let samples = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        });
        Ok(samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Everything it has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}
