//! Runs a command with a Postgres of its own: `with-postgres -- cargo nextest run`.
//!
//! The server forgets everything when the command ends, which is what tests want: nothing to set up,
//! nothing left over, no two runs in each other's way. The command finds it by `DATABASE_URL`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use local_postgres::{Durability, LocalPostgres, Options};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

const USAGE: &str = "usage: with-postgres [--folder FOLDER] -- COMMAND [ARGUMENT...]\n\
    Runs COMMAND with DATABASE_URL set to a Postgres of its own, durability off, in a temporary folder\n\
    (or in FOLDER, which is then kept), and ends with its exit code.";

/// Exit codes, as the rest of tocsin uses them.
const USAGE_ERROR: u8 = 2;
const UNAVAILABLE: u8 = 69;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(wish) = Wish::from_arguments(std::env::args_os().skip(1)) else {
        tell(USAGE);
        return ExitCode::from(USAGE_ERROR);
    };
    match run(wish).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tell(&format!("with-postgres: {error}"));
            ExitCode::from(UNAVAILABLE)
        }
    }
}

/// What the command line asks for.
struct Wish {
    folder: Option<PathBuf>,
    command: OsString,
    arguments: Vec<OsString>,
}

impl Wish {
    fn from_arguments(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut folder = None;
        loop {
            let argument = arguments.next()?;
            if argument == "--" {
                break;
            }
            if argument != "--folder" {
                return None;
            }
            folder = Some(arguments.next()?.into());
        }
        Some(Self { folder, command: arguments.next()?, arguments: arguments.collect() })
    }
}

async fn run(wish: Wish) -> Result<u8, Box<dyn std::error::Error>> {
    // From here on these two no longer end us: the server is to be stopped and the folder removed first.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;

    let temporary = match wish.folder {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("tocsin-pg-").tempdir()?),
    };
    let folder = wish.folder.or_else(|| temporary.as_ref().map(|folder| folder.path().to_owned())).unwrap_or_default();
    let mut server = LocalPostgres::start(Options {
        folder,
        purpose: "with-postgres".to_owned(),
        durability: Durability::OffForTests,
        bindir: std::env::var_os("PG_BINDIR").map(PathBuf::from),
        // Each test has its own pool, and many run at once.
        settings: vec![("max_connections".to_owned(), "300".to_owned())],
    })
    .await?;

    let outcome = supervise(&wish.command, &wish.arguments, &mut server, &mut interrupts, &mut terminations).await;
    // Whatever came of it: first the server, which writes into the folder, then the folder.
    if let Err(error) = server.stop().await {
        tell(&format!("with-postgres: {error}"));
    }
    if let Some(folder) = temporary {
        folder.close()?;
    }
    outcome.map(code_of).map_err(|error| format!("cannot run {}: {error}", wish.command.display()).into())
}

async fn supervise(
    command: &OsStr,
    arguments: &[OsString],
    server: &mut LocalPostgres,
    interrupts: &mut Signal,
    terminations: &mut Signal,
) -> io::Result<ExitStatus> {
    let mut child = Command::new(command).args(arguments).env("DATABASE_URL", server.url()).spawn()?;
    let mut server_lives = true;
    loop {
        tokio::select! {
            status = child.wait() => return status,
            // A terminal sends this one to the command as well, and twice would mean something else to it.
            _ = interrupts.recv() => {}
            _ = terminations.recv() => pass_on_termination(&child),
            // The command fails by itself now; `stop` is going to say why.
            _ = server.exited(), if server_lives => server_lives = false,
        }
    }
}

fn pass_on_termination(child: &Child) {
    // No id means that it has ended, which the loop is about to learn.
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// As a shell counts: the code, or 128 and the signal.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

#[expect(clippy::print_stderr, reason = "a command-line tool talks to whoever typed it")]
fn tell(words: &str) {
    eprintln!("{words}");
}
