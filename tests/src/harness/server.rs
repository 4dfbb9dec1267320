//! A Postgres of our own under `local-postgres`, which can be torn down in the middle of its work, put back to
//! an earlier state, and started again.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use local_postgres::{Durability, LocalPostgres, Options};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::process::Command;

use super::Target;

/// The server. Dropping it stops it.
#[derive(Debug)]
pub struct OwnPostgres {
    folder: PathBuf,
    server: Option<LocalPostgres>,
    settings: Vec<(String, String)>,
}

impl OwnPostgres {
    /// Starts one in `folder`.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(folder: &Path, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut own = Self { folder: folder.to_owned(), server: None, settings };
        own.start_again().await?;
        Ok(own)
    }

    /// Starts it again after a stop.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let options = Options {
            folder: self.folder.clone(),
            purpose: "a rehearsal".to_owned(),
            // A crash of the process, which is all that happens here, loses nothing that was committed.
            durability: Durability::OffForTests,
            bindir: std::env::vars_os().find(|(name, _)| name == "PG_BINDIR").map(|(_, value)| value.into()),
            settings: self.settings.clone(),
        };
        self.server = Some(LocalPostgres::start(options).await?);
        Ok(())
    }

    /// Ends it as `pg_ctl stop -m immediate` does: nothing is written down any more, everybody is thrown out.
    ///
    /// # Errors
    /// When it is not running, or does not end.
    pub async fn stop_immediately(&mut self) -> anyhow::Result<()> {
        let mut server = self.server.take().context("the server is not running")?;
        kill_process(Pid::from_raw(i32::try_from(server.pid())?).context("no process id")?, Signal::QUIT)?;
        tokio::time::timeout(Duration::from_secs(20), server.exited()).await.context("the server does not end")?;
        Ok(())
    }

    /// Copies the files of a server that is not running, owners and all.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub async fn keep_copy(&self, to: &Path) -> anyhow::Result<()> {
        anyhow::ensure!(self.server.is_none(), "the server is running");
        copy(&self.folder.join("data"), to).await
    }

    /// Puts a copy in the place of the present files, as if a standby that lacks the last commits took over.
    ///
    /// # Errors
    /// When they cannot be put there.
    pub async fn fall_back_to(&self, copied: &Path) -> anyhow::Result<()> {
        anyhow::ensure!(self.server.is_none(), "the server is running");
        tokio::fs::remove_dir_all(self.folder.join("data")).await?;
        copy(copied, &self.folder.join("data")).await
    }

    /// Puts a base backup in the place of the present files and has the next start replay the archived log up to a named
    /// point, as `docs/how-to/restore-from-a-backup.md` says.
    ///
    /// # Errors
    /// When the files cannot be put there.
    pub async fn recover_from(&self, base: &Path, archive: &Path, point: &str) -> anyhow::Result<()> {
        anyhow::ensure!(self.server.is_none(), "the server is running");
        let data = self.folder.join("data");
        let broken = self.folder.join("data.broken");
        tokio::fs::rename(&data, &broken).await?;
        copy(base, &data).await?;
        let settings = format!(
            "\nrestore_command = 'cp {}/%f %p'\nrecovery_target_name = '{point}'\nrecovery_target_action = 'promote'\n",
            archive.display()
        );
        let written = tokio::fs::read_to_string(data.join("postgresql.conf")).await? + &settings;
        tokio::fs::write(data.join("postgresql.conf"), written).await?;
        tokio::fs::write(data.join("recovery.signal"), "").await?;
        // Whoever made the backup need not be the server's user.
        let owned = Command::new("chown").arg("-R").arg(format!("--reference={}", broken.display())).arg(&data).status().await?;
        anyhow::ensure!(owned.success(), "chown ended with {owned}");
        Ok(tokio::fs::set_permissions(&data, PermissionsExt::from_mode(0o700)).await?)
    }

    /// Runs a program of PostgreSQL against it, as its administrator; answers what it printed.
    ///
    /// # Errors
    /// When the server is not running, or the program fails, with its own words.
    pub async fn program(&self, name: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let options = self.options()?;
        let host = options.get_socket().cloned().unwrap_or_else(|| PathBuf::from(options.get_host()));
        let programs = local_postgres::find_programs(None)?;
        let mut command = Command::new(programs.bindir().join(name));
        command.env("PGHOST", host).env("PGPORT", options.get_port().to_string()).env("PGUSER", options.get_username());
        let output = command.env("PGDATABASE", "postgres").args(arguments).output().await?;
        anyhow::ensure!(output.status.success(), "{name} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// How to connect as its administrator.
    ///
    /// # Errors
    /// When it is not running.
    pub fn options(&self) -> anyhow::Result<PgConnectOptions> {
        Ok(self.server.as_ref().context("the server is not running")?.url().parse()?)
    }

    /// Its address for its administrator.
    ///
    /// # Errors
    /// When it is not running.
    pub fn url(&self) -> anyhow::Result<String> {
        Ok(self.server.as_ref().context("the server is not running")?.url().to_owned())
    }

    /// Connections as its administrator; good until it is stopped.
    ///
    /// # Errors
    /// When it is not running.
    pub fn pool(&self, connections: u32) -> anyhow::Result<PgPool> {
        Ok(PgPoolOptions::new().max_connections(connections).acquire_timeout(Duration::from_secs(20)).connect_lazy_with(self.options()?))
    }

    /// Where a door to it has to lead.
    ///
    /// # Errors
    /// When it is not running.
    pub fn target(&self) -> anyhow::Result<Target> {
        let options = self.options()?;
        let host = options.get_socket().cloned().unwrap_or_else(|| PathBuf::from(options.get_host()));
        Ok(Target::Unix(host.join(format!(".s.PGSQL.{}", options.get_port()))))
    }

    /// Ends it in peace.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        match self.server.take() {
            Some(server) => Ok(server.stop().await?),
            None => Ok(()),
        }
    }
}

/// The standard library cannot keep owners and modes of a whole folder; `cp` is everywhere.
async fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().await?;
    anyhow::ensure!(done.success(), "cp -a {} {} ended with {done}", from.display(), to.display());
    Ok(())
}
