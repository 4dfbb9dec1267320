//! `tocsin reload`: has the running daemon read its configuration again, and waits for what it makes of it.
//!
//! The configuration is checked twice. Here as far as it can be without secrets, so that a slip never reaches the daemon; and
//! by the daemon, with all files that it names: only it sees the credentials that a service manager has handed over.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::{Setting, healthcheck};
use crate::failure::{Exit, Failure};

/// The daemon reads its configuration within a moment; this is for a machine that swaps.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// What the ops endpoint says.
#[derive(Deserialize)]
struct Answer {
    pid: i32,
    configuration: console::Configuration,
}

/// Sends the signal to `main_pid`, which a service manager knows, or to whoever answers at the ops endpoint.
pub(super) async fn run(setting: &Setting, main_pid: Option<&str>) -> Result<(), Failure> {
    let before = ask(setting).await?;
    let pid = match main_pid {
        Some(text) => text.parse().map_err(|_| Failure::new(Exit::Usage, format!("MAINPID = \"{text}\" is no process id")))?,
        None => named_tocsin(before.pid)?,
    };
    signal(pid)?;
    let give_up = Instant::now() + PATIENCE;
    let after = loop {
        let now = ask(setting).await?.configuration;
        if now.read > before.configuration.read {
            break now;
        }
        if Instant::now() >= give_up {
            let seconds = PATIENCE.as_secs();
            return Err(Failure::new(
                Exit::Temporary,
                format!("process {pid} has not read its configuration within {seconds} s; look at its log"),
            ));
        }
        sleep(ASK_EVERY).await;
    };
    if let Some(sentence) = &after.refused {
        return Err(Failure::new(Exit::Config, format!("{sentence}; the configuration before stays in force")));
    }
    if setting.output.json {
        return setting.output.document(&after);
    }
    if !after.waits_for_restart.is_empty() {
        setting.output.note(&format!("warning: these keys wait for a restart: {}", after.waits_for_restart.join(", ")));
    }
    setting.output.line(&format!("the configuration is in force (generation {})", after.generation))
}

async fn ask(setting: &Setting) -> Result<Answer, Failure> {
    let hint = "is the daemon running? If [ops] listen was changed, it has to be restarted";
    let answer = healthcheck::ask(setting, "readyz?format=json", hint).await?;
    answer.json().await.map_err(|_| {
        let address = healthcheck::reachable(setting.config.ops_listen);
        let words = "does not say which configuration is in force; is it a tocsin of this version?";
        Failure::new(Exit::Unavailable, format!("what answers on {address} {words}"))
    })
}

/// Anybody may listen at an address where no daemon does, and name a process that is none of ours.
fn named_tocsin(pid: i32) -> Result<i32, Failure> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.trim_end() == "tocsin" {
        return Ok(pid);
    }
    Err(Failure::new(
        Exit::NotFound,
        format!("process {pid}, which answers at the ops endpoint, is no tocsin of this machine; send SIGHUP to the daemon yourself"),
    ))
}

fn signal(pid: i32) -> Result<(), Failure> {
    let process = Pid::from_raw(pid).ok_or_else(|| Failure::new(Exit::Usage, format!("{pid} is no process id")))?;
    kill_process(process, Signal::HUP).map_err(|error| match error {
        rustix::io::Errno::PERM => {
            Failure::new(Exit::NoPermission, format!("process {pid} belongs to another user; type this as root, or as that user"))
        }
        error => Failure::new(Exit::Unavailable, format!("cannot send SIGHUP to process {pid}: {error}")),
    })
}
