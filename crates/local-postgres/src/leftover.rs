//! What a crash left running: a postmaster without us, or its children without a postmaster.
//!
//! Postgres takes care of a stale `postmaster.pid`. It cannot know that a server which does run was
//! ours and that its owner is dead; we know, because we hold the folder's lock. Before anything is
//! signalled it must prove to be a Postgres of this very folder: process ids are given away anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::error::StartError;
use crate::folder::process_lives;
use crate::wait;

/// How long a server gets to write everything down; it may be the one that our last owner's death is stopping.
const FAST: Duration = Duration::from_secs(20);
/// How long it gets to drop everything: nothing is lost, the next start replays the log.
const IMMEDIATE: Duration = Duration::from_secs(10);

/// Makes sure that no server of this data folder runs. Only for the holder of the folder.
pub(crate) fn stop(data: &Path) -> Result<(), StartError> {
    // A process shows the resolved path of its folder, and somebody may have put the data elsewhere by a link.
    let Ok(data) = &fs::canonicalize(data) else { return Ok(()) };
    let path = data.join("postmaster.pid");
    let Some(postmaster) = PostmasterPid::read(data).map(|file| file.pid) else { return Ok(()) };
    if is_of_folder(postmaster, data) {
        tracing::warn!(pid = postmaster, "stopping a Postgres that an earlier run left behind");
        end(postmaster, data, &[(Signal::INT, FAST), (Signal::QUIT, IMMEDIATE)])?;
    } else if process_lives(postmaster) {
        // A stranger has its id now, and Postgres would take that stranger for a server and refuse to
        // start. That none runs here is certain: the id was looked at, and the lock is ours.
        fs::remove_file(&path).map_err(StartError::files("remove", &path))?;
    }
    // Children notice the death of their postmaster by themselves, but not in the middle of a long sum,
    // and Postgres does not start while they hold its memory.
    for child in processes_of(data) {
        end(child, data, &[(Signal::QUIT, IMMEDIATE)])?;
    }
    Ok(())
}

fn end(pid: u32, data: &Path, ways: &[(Signal, Duration)]) -> Result<(), StartError> {
    for (signal, bound) in ways.iter().copied() {
        // Looked at again each time: it may have ended, and its id may be a stranger's.
        if is_of_folder(pid, data)
            && let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw)
        {
            // A failure shows as a process that goes on living.
            let _ = kill_process(pid, signal);
        }
        if wait::until(bound, || !is_of_folder(pid, data)) {
            return Ok(());
        }
    }
    Err(StartError::Leftover { pid, data: data.to_owned() })
}

/// What a server writes about itself into its data folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PostmasterPid {
    pub(crate) pid: u32,
    pub(crate) socket_folder: Option<PathBuf>,
    pub(crate) is_ready: bool,
}

impl PostmasterPid {
    pub(crate) fn read(data: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(data.join("postmaster.pid")).ok()?)
    }

    /// Lines: process, data folder, start time, port, socket folder, address, memory key, status. The
    /// status is padded with blanks, and the last lines come as the server gets that far.
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().collect();
        Some(Self {
            pid: lines.first()?.trim().parse().ok()?,
            socket_folder: lines.get(4).filter(|line| !line.is_empty()).map(PathBuf::from),
            is_ready: lines.get(7).is_some_and(|line| line.trim() == "ready"),
        })
    }
}

/// What the program calls itself; the last is how NixOS wraps it.
#[cfg(target_os = "linux")]
const NAMES: &[&str] = &["postgres", "postmaster", ".postgres-wrapp"];

/// Whether this process is a Postgres that works in this data folder. Each of them, postmaster or child,
/// makes the data folder its working directory.
#[cfg(target_os = "linux")]
fn is_of_folder(pid: u32, data: &Path) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    // The program's name keeps a shell that somebody opened there out of it.
    let is_postgres = fs::read_to_string(process.join("comm")).is_ok_and(|name| NAMES.contains(&name.trim_end()));
    is_postgres && fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == data)
}

#[cfg(target_os = "linux")]
fn processes_of(data: &Path) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| is_of_folder(*pid, data)).collect()
}

/// Without /proc, the command line tells: we start the server with the folder's path in it.
#[cfg(not(target_os = "linux"))]
fn is_of_folder(pid: u32, data: &Path) -> bool {
    let listed = std::process::Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output();
    listed.is_ok_and(|listed| {
        let line = String::from_utf8_lossy(&listed.stdout);
        line.contains("postgres") && line.contains(&*data.to_string_lossy())
    })
}

/// Without /proc, children cannot be told from those of other servers; they end by themselves.
#[cfg(not(target_os = "linux"))]
fn processes_of(_data: &Path) -> Vec<u32> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_is_read_as_far_as_it_has_been_written() {
        let whole = "4711\n/f/data\n1790000000\n5432\n/f/socket\n\n 1 2\nready   \n";
        let read = PostmasterPid::parse(whole).unwrap();
        assert_eq!(read, PostmasterPid { pid: 4711, socket_folder: Some("/f/socket".into()), is_ready: true });
        assert!(!PostmasterPid::parse(&whole.replace("ready   ", "starting")).unwrap().is_ready);
        assert_eq!(PostmasterPid::parse("4711\n/f/data\n").unwrap(), PostmasterPid { pid: 4711, socket_folder: None, is_ready: false });
        assert_eq!(PostmasterPid::parse(""), None);
    }

    #[test]
    fn a_process_of_ours_that_is_no_postgres_is_left_alone() {
        let here = std::env::current_dir().unwrap();
        assert!(!is_of_folder(std::process::id(), &here));
    }

    #[test]
    fn a_pid_file_that_names_a_stranger_is_removed_and_the_stranger_lives() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("postmaster.pid");
        fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        stop(data.path()).unwrap();
        assert!(!path.exists());
    }
}
