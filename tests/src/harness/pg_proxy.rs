//! A wire in front of Postgres that loses one answer in particular: the one to a COMMIT that was carried out.
//!
//! It reads the protocol message by message, so that only answers to real commits count, and only of transactions that
//! are about something; everything else gets through. What networks do besides, [`super::Proxy`] does.

mod frames;
mod pooler;
mod wires;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use sqlx::postgres::PgConnectOptions;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::pooler::Pooler;

/// What becomes of a connection whose answer to COMMIT is swallowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It breaks.
    Cut,
    /// It stays open, and nothing ever comes.
    Silence,
}

/// The wire. Dropping it cuts everything.
#[derive(Debug)]
pub struct PgProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    gone: watch::Sender<bool>,
    listener: JoinHandle<()>,
}

/// Which answers are to be swallowed.
#[derive(Debug)]
struct Appetite {
    left: u64,
    loss: Loss,
    /// Only those of transactions with a statement that holds this text.
    about: String,
}

#[derive(Debug)]
struct Shared {
    server: Server,
    appetite: Mutex<Appetite>,
    swallowed: AtomicU64,
}

/// Where Postgres is.
#[derive(Clone, Debug)]
enum Server {
    Socket(PathBuf),
    Address(String, u16),
}

impl PgProxy {
    /// Puts a wire in front of the server that `url` names.
    ///
    /// # Errors
    /// When the URL cannot be read, or no port is free.
    pub async fn start(url: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no port for the proxy")?;
        let address = listener.local_addr()?;
        let appetite = Mutex::new(Appetite { left: 0, loss: Loss::Cut, about: String::new() });
        let shared = Arc::new(Shared { server: Server::named_by(url)?, appetite, swallowed: AtomicU64::new(0) });
        let gone = watch::Sender::new(false);
        let listener = tokio::spawn(wires::accept(listener, shared.clone(), gone.subscribe()));
        Ok(Self { address, shared, gone, listener })
    }

    /// The URL of a database on the same server through this wire, given the direct one.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn url(&self, direct: &str) -> anyhow::Result<String> {
        through(self.address, direct)
    }

    /// Swallows the answers to the next `times` COMMITs that the server carried out, of transactions with a
    /// statement that holds `about` (empty: of all of them).
    pub fn swallow_commits(&self, times: u64, loss: Loss, about: &str) {
        *self.shared.appetite() = Appetite { left: times, loss, about: about.to_owned() };
    }

    /// How many answers to COMMITs have been swallowed since the start. Each of these transactions is committed.
    pub fn swallowed(&self) -> u64 {
        self.shared.swallowed.load(Ordering::Relaxed)
    }
}

impl Drop for PgProxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.gone.send_replace(true);
    }
}

impl Shared {
    fn appetite(&self) -> MutexGuard<'_, Appetite> {
        self.appetite.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this COMMIT's answer is to be swallowed, and how. `statements` are those of its transaction.
    fn swallows(&self, statements: &[Arc<str>]) -> Option<Loss> {
        let mut appetite = self.appetite();
        let about = appetite.about.is_empty() || statements.iter().any(|statement| statement.contains(&appetite.about));
        if appetite.left == 0 || !about {
            return None;
        }
        appetite.left -= 1;
        self.swallowed.fetch_add(1, Ordering::Relaxed);
        Some(appetite.loss)
    }
}

/// The URL of a database, given the direct one, by another address.
fn through(address: SocketAddr, direct: &str) -> anyhow::Result<String> {
    let (scheme, rest) = direct.split_once("://").context("no scheme in the URL")?;
    let (rest, _) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').context("no database in the URL")?;
    let login = authority.rsplit_once('@').map(|(login, _)| format!("{login}@")).unwrap_or_default();
    Ok(format!("{scheme}://{login}{}/{database}?sslmode=disable", address))
}

impl Server {
    fn named_by(url: &str) -> anyhow::Result<Self> {
        let options: PgConnectOptions = url.parse().context("the URL of the server cannot be read")?;
        let port = options.get_port();
        // A host that is a folder is written in the query of the URL.
        Ok(match options.get_socket() {
            Some(folder) => Self::Socket(folder.join(format!(".s.PGSQL.{port}"))),
            None => Self::Address(options.get_host().to_owned(), port),
        })
    }
}
