//! What can go wrong between the wish for a server and a server that answers.
//!
//! These errors are read by whoever typed a command on a machine they may not know well, and most of
//! them end that command. So each `Display` is the whole sentence: what, where, and what to do. The
//! operating system's reason is part of it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::programs::NotFound;

/// Why no server was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another living process owns the folder. See [`crate::attach()`].
    #[error("\"{purpose}\" (process {pid}) already runs Postgres here; stop that first or use another folder")]
    Held {
        /// The process that holds the folder.
        pid: u32,
        /// What it holds the folder for, in its own words, such as `tocsin serve`.
        purpose: String,
    },
    /// There are no server programs on this machine that would do.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The data folder was made by another major version than the programs that are there.
    #[error("{}", other_version(.data, *.data_major, .bindir, *.programs_major))]
    OtherVersion {
        /// The data folder.
        data: PathBuf,
        /// The major version that made it.
        data_major: u32,
        /// Where the programs are that were found.
        bindir: PathBuf,
        /// Their major version.
        programs_major: u32,
    },
    /// There is something at the place of the data folder that Postgres did not make.
    #[error("{} has files in it but no PG_VERSION, so it is no Postgres data folder; move it away, and a new one is made", .data.display())]
    NotADataFolder {
        /// The place.
        data: PathBuf,
    },
    /// The user the server must run as cannot get to the folder or to the programs.
    #[error(
        "Postgres may not run as root and runs as the user {user} here, who cannot enter {}, which is on the way to {}; let it through with: chmod o+x {}",
        .blocked.display(), .goal.display(), .blocked.display()
    )]
    Untraversable {
        /// The folder that is closed.
        blocked: PathBuf,
        /// What lies behind it.
        goal: PathBuf,
        /// The user it is closed to.
        user: String,
    },
    /// We are root, and there is no user the server could run as.
    #[error(
        "Postgres may not run as root, and this machine has neither a user postgres nor a user nobody to run it as; create one with: useradd --system postgres"
    )]
    NoAccount,
    /// Something about files and folders.
    #[error("cannot {doing} {}: {reason}", .path.display())]
    Files {
        /// What was tried, such as `make the folder`.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// The operating system's reason.
        reason: io::Error,
    },
    /// The folder for the socket, under the common temporary folder, is not safe to use.
    #[error("{} is needed for the server's socket but {problem}; remove it, or use a folder with a shorter path for the data", .path.display())]
    SocketFolder {
        /// The place.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A program could not be started at all.
    #[error("cannot run {}: {reason}", .program.display())]
    Program {
        /// Which one.
        program: PathBuf,
        /// The operating system's reason.
        reason: io::Error,
    },
    /// The data folder could not be made.
    #[error("Postgres could not set up its data folder: {step} ended with {status}{}", Said(.said))]
    SetUp {
        /// Which step failed.
        step: &'static str,
        /// How it ended.
        status: String,
        /// Its last words.
        said: String,
    },
    /// A server that an earlier crash left would not end.
    #[error("process {pid} is a Postgres that an earlier run left in {}, and it does not end; stop it by hand", .data.display())]
    Leftover {
        /// Its process id.
        pid: u32,
        /// The data folder.
        data: PathBuf,
    },
    /// The server ended before it was ready.
    #[error("Postgres ended while starting ({status}); its log is {}{}", .log.display(), Said(.said))]
    Died {
        /// How it ended.
        status: String,
        /// Where its log is.
        log: PathBuf,
        /// The log's last lines.
        said: String,
    },
    /// The server runs but did not become ready.
    #[error("Postgres was not ready after {seconds} s and was stopped; its log is {}{}", .log.display(), Said(.said))]
    NotReady {
        /// How long we waited.
        seconds: u64,
        /// Where its log is.
        log: PathBuf,
        /// The log's last lines.
        said: String,
    },
    /// The thread that looks after the server could not be started, or died.
    #[error("the thread that looks after Postgres failed: {reason}")]
    Keeper {
        /// In words.
        reason: String,
    },
}

impl StartError {
    /// For `map_err`: the same sentence for every file operation.
    pub(crate) fn files(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |reason| Self::Files { doing, path: path.to_owned(), reason }
    }
}

/// Why a server did not stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// It neither heeded the wish for a fast shutdown nor that for an immediate one.
    #[error("Postgres (process {pid}) did not end within {seconds} s of being told to; the data is safe, but look at the process")]
    StillRunning {
        /// The server's process.
        pid: u32,
        /// How long we waited in all.
        seconds: u64,
    },
    /// It had ended by itself before.
    #[error("{words}")]
    EndedBefore {
        /// What [`crate::LocalPostgres::exited`] says of it.
        words: String,
    },
}

fn other_version(data: &Path, data_major: u32, bindir: &Path, programs_major: u32) -> String {
    format!(
        "{} was made by Postgres {data_major}, but the programs in {} are Postgres {programs_major}; install Postgres {data_major} beside it, name its programs with PG_BINDIR, \
         or move the data over with pg_upgrade",
        data.display(),
        bindir.display(),
    )
}

/// A program's last words, as the tail of a sentence.
struct Said<'a>(&'a str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.trim_end() {
            "" => Ok(()),
            said => write!(f, "; it said:\n{said}"),
        }
    }
}
