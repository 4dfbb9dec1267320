//! The lives of the two replicas.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use tokio::process::Command;
use tokio::time::Instant;
use uuid::Uuid;

use super::Lab;
use crate::harness::{Daemon, Proxy, eventually, process, serve_elsewhere};

/// One of the replicas.
pub struct Replica {
    /// Its process; none while it is down.
    pub daemon: Option<Daemon>,
    /// Its way to the database.
    pub database: Proxy,
    /// Its way to Microsoft.
    pub cloud: Proxy,
    pub(super) name: &'static str,
    pub(super) config: PathBuf,
}

/// What others may know of a replica while somebody works on it.
#[derive(Clone, Debug)]
pub struct Face {
    /// Its process id.
    pub pid: u32,
    /// Its id in the leases.
    pub replica: Uuid,
    /// Where its metrics are.
    pub ops: String,
    /// When it began.
    pub since: Instant,
}

impl Lab {
    /// What is known of the replicas that run.
    pub fn faces(&self) -> [Option<Face>; 2] {
        self.faces.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_face(&self, at: usize, face: Option<Face>) {
        self.faces.lock().unwrap_or_else(PoisonError::into_inner)[at] = face;
    }

    /// Starts a replica and waits until it is at work.
    ///
    /// # Errors
    /// When it does not come that far.
    pub async fn start(&self, replica: &mut Replica) -> anyhow::Result<()> {
        self.start_with(replica, &[]).await
    }

    /// The same with these environment variables.
    ///
    /// # Errors
    /// When it does not come that far.
    pub async fn start_with(&self, replica: &mut Replica, environment: &[(&str, &str)]) -> anyhow::Result<()> {
        self.spawn(replica, environment).await?;
        self.meet(replica).await
    }

    /// Starts a replica and waits for nothing. Where the system allows it, each has a machine name of its own, so that
    /// none can ask the kernel whether the other one still lives.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn spawn(&self, replica: &mut Replica, environment: &[(&str, &str)]) -> anyhow::Result<()> {
        let life = self.lives.fetch_add(1, Ordering::Relaxed);
        let log = self.path(&format!("{}-{life:03}.log", replica.name));
        let mut command = replica.command().await?;
        if let Some(bug) = &self.bug {
            command.env("TOCSIN_REHEARSAL", bug);
        }
        command.envs(environment.iter().copied());
        replica.daemon = Some(Daemon::spawn(command, &log)?);
        Ok(())
    }

    /// Gets to know a replica that was started: its id goes to the witness.
    ///
    /// # Errors
    /// When it does not say who it is.
    pub async fn meet(&self, replica: &mut Replica) -> anyhow::Result<()> {
        let at = usize::from(replica.name == "two");
        let daemon = replica.daemon.as_ref().context("the replica is down")?;
        let (pid, id, ops) = (daemon.pid()?, daemon.replica_id().await?, daemon.ops_address().await?);
        self.introduce(replica.name, id).await?;
        self.set_face(at, Some(Face { pid, replica: id, ops, since: Instant::now() }));
        Ok(())
    }

    async fn introduce(&self, name: &str, id: Uuid) -> anyhow::Result<()> {
        eventually("the witness knows the replica", Duration::from_secs(20), async || {
            sqlx::query("insert into soak.replica (login, replica) values ('soak_' || $1, $2) on conflict do nothing")
                .bind(name)
                .bind(id)
                .execute(&self.pool())
                .await
                .map_err(|error| error.to_string())
        })
        .await?;
        Ok(())
    }

    /// The replica's process is gone, or is about to.
    pub fn gone(&self, replica: &Replica) {
        self.set_face(usize::from(replica.name == "two"), None);
    }

    /// kill -9.
    ///
    /// # Errors
    /// When it was down already.
    pub async fn kill(&self, replica: &mut Replica) -> anyhow::Result<()> {
        self.gone(replica);
        replica.daemon.as_mut().context("the replica is down")?.kill().await
    }

    /// SIGTERM; how long it took to end well.
    ///
    /// # Errors
    /// When it does not end well in ten seconds.
    pub async fn terminate(&self, replica: &mut Replica) -> anyhow::Result<Duration> {
        self.gone(replica);
        let begun = Instant::now();
        replica.daemon.as_mut().context("the replica is down")?.terminate().await?;
        Ok(begun.elapsed())
    }
}

impl Replica {
    /// The process that runs.
    ///
    /// # Errors
    /// When it is down.
    pub fn daemon(&mut self) -> anyhow::Result<&mut Daemon> {
        self.daemon.as_mut().context("the replica is down")
    }

    /// The login it works under.
    pub fn login(&self) -> String {
        format!("soak_{}", self.name)
    }

    /// `tocsin serve` as this replica, not started yet.
    ///
    /// # Errors
    /// When there is no binary.
    pub async fn command(&self) -> anyhow::Result<Command> {
        match serve_elsewhere(&self.config, &format!("machine-{}", self.name)).await? {
            Some(command) => Ok(command),
            None => process::tocsin(&self.config, &["serve"]),
        }
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }
}
