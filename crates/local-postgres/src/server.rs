//! The handle to a server that runs: its address, its end, and the wish for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::{oneshot, watch};

use crate::error::{StartError, StopError};
use crate::keeper;
use crate::spawn::Running;

/// How long the fast shutdown may take: sessions are cut off, everything is written down.
const FAST: Duration = Duration::from_secs(5);
/// How long the immediate one may take: nothing is written down, the next start replays the log.
const IMMEDIATE: Duration = Duration::from_secs(2);

/// What is wanted of a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder for everything the server needs; made if missing. Nothing else should be in it.
    pub folder: PathBuf,
    /// What it is run for, for others who find the folder held, such as `tocsin serve`.
    pub purpose: String,
    /// Whether what was committed must survive the machine.
    pub durability: Durability,
    /// Where the server programs are; `None` to search. The daemon passes what `PG_BINDIR` says.
    pub bindir: Option<PathBuf>,
    /// Further settings of Postgres, by name and value; they win over ours.
    pub settings: Vec<(String, String)>,
}

/// Whether what was committed must survive the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// What was committed stays committed, whatever happens.
    Full,
    /// Nothing is forced to disk: several times faster, and worthless after a power cut. Survives the
    /// death of a process.
    OffForTests,
}

/// A private server that runs.
///
/// Dropping it asks the server to shut down without waiting for it; [`LocalPostgres::stop`] waits. On
/// Linux the server is also shut down when this process dies in any way.
#[derive(Debug)]
pub struct LocalPostgres {
    url: String,
    running: Arc<Running>,
    ended: watch::Receiver<Option<String>>,
}

impl LocalPostgres {
    pub(crate) fn new(url: String, running: Arc<Running>, ended: watch::Receiver<Option<String>>) -> Self {
        Self { url, running, ended }
    }

    /// Starts the server of a folder, and makes the data folder if there is none. Returns when the
    /// server accepts connections.
    ///
    /// It does not matter which runtime or thread this is called from. If the future is dropped, the
    /// server is stopped.
    ///
    /// # Errors
    ///
    /// [`StartError::Held`] when another living process owns the folder; the others each say what is
    /// missing and what to do about it.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let (reply, answer) = oneshot::channel();
        thread::Builder::new()
            .name("local-postgres".to_owned())
            .spawn(move || keeper::keep(&options, reply))
            .map_err(|error| StartError::Keeper { reason: error.to_string() })?;
        // No answer means that the thread panicked, and has told so on its own.
        answer.await.unwrap_or_else(|_| Err(StartError::Keeper { reason: "it ended without an answer".to_owned() }))
    }

    /// The address, as sqlx and psql take it; user and database are `tocsin`, and the user may do anything.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Waits until the server ends without having been told to by us, and says how, with the last lines
    /// of its log. Can be cancelled and called again.
    pub async fn exited(&mut self) -> String {
        match self.ended.wait_for(Option::is_some).await {
            Ok(words) => words.clone().unwrap_or_default(),
            Err(_) => format!("the thread that looks after Postgres (process {}) has died", self.running.pid()),
        }
    }

    /// Shuts the server down and waits for its end: fast first, then immediately, each within its bound.
    ///
    /// # Errors
    ///
    /// When it goes on running all the same, or had ended by itself before. In neither case is anything
    /// lost that was committed.
    pub async fn stop(mut self) -> Result<(), StopError> {
        if let Some(words) = self.ended.borrow().clone() {
            return Err(StopError::EndedBefore { words });
        }
        for (signal, bound) in [(Signal::INT, FAST), (Signal::QUIT, IMMEDIATE)] {
            self.running.signal(signal);
            if tokio::time::timeout(bound, self.ended.wait_for(Option::is_some)).await.is_ok() {
                return Ok(());
            }
        }
        Err(StopError::StillRunning { pid: self.running.pid(), seconds: (FAST + IMMEDIATE).as_secs() })
    }
}

impl Drop for LocalPostgres {
    fn drop(&mut self) {
        // After a stop there is nobody left to be told, which `signal` knows.
        self.running.signal(Signal::INT);
    }
}
