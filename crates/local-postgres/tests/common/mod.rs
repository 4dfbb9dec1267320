//! The world of these tests: a folder to itself, real Postgres programs, and patience with a bound.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of it")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use local_postgres::{Durability, LocalPostgres, Options, find_programs};
use tempfile::TempDir;

/// A place for one server, removed afterwards.
pub struct Place {
    temp: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let temp = tempfile::Builder::new().prefix("lpg-").tempdir_in("/tmp").unwrap();
        // When we are root, the server's user must get through.
        fs::set_permissions(temp.path(), Permissions::from_mode(0o711)).unwrap();
        Self { temp }
    }

    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    pub fn folder(&self) -> PathBuf {
        self.path().join("pg")
    }

    pub fn options(&self, purpose: &str) -> Options {
        Options { folder: self.folder(), purpose: purpose.into(), durability: Durability::OffForTests, bindir: None, settings: Vec::new() }
    }

    pub async fn start(&self) -> LocalPostgres {
        LocalPostgres::start(self.options("a test")).await.unwrap()
    }

    /// The names in the folder.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The server that the data folder names, if it runs.
    pub fn postmaster(&self) -> Option<u32> {
        let file = fs::read_to_string(self.folder().join("data/postmaster.pid")).ok()?;
        let pid = file.lines().next()?.trim().parse().ok()?;
        lives(pid).then_some(pid)
    }
}

/// The client beside the server programs.
pub fn find_psql() -> PathBuf {
    find_programs(None).unwrap().bindir().join("psql")
}

/// What psql answers, or its complaint.
pub fn ask(url: &str, sql: &str) -> Result<String, String> {
    let output = Command::new(find_psql()).args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql, url]).env_remove("PGHOST").output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Waits for a condition, and says what was missing if it does not come.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    for _ in 0..3000 {
        if let Some(found) = condition() {
            return found;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("waited 30 s in vain: {what}");
}

/// Whether the process is there and not only waiting to be collected.
pub fn lives(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

pub fn send(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

pub fn we_are_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The program under test.
pub fn with_postgres() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_with-postgres"));
    command.env_remove("DATABASE_URL");
    command
}

/// User and group ids by /etc/passwd.
pub fn account(name: &str) -> Option<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with(&format!("{name}:")))?;
    let fields: Vec<&str> = line.split(':').collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}
