//! The thread that brings a server up and stays with it until it ends.
//!
//! One plain thread does it all, in order, with blocking calls: hold the folder, find the programs, stop
//! what was left, make the data folder, start, wait for ready, report, wait for the end. It must be one
//! thread, since the kernel takes the end of the thread that started the server for our death (see
//! `spawn`), and it may be a plain one, since nothing here is done twice at once. A caller that loses
//! interest meanwhile costs nothing: the handle that it no longer takes is dropped, and dropping a
//! handle stops the server. The folder is held until the server has ended, not only until somebody
//! wishes it to.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::account::Account;
use crate::cluster::{self, last_lines};
use crate::error::StartError;
use crate::folder::{self, Folder, Hold, PORT, SocketFolder};
use crate::leftover::{self, PostmasterPid};
use crate::programs::{Programs, Search};
use crate::server::{Durability, LocalPostgres, Options};
use crate::spawn::{self, Running};
use crate::wait;

/// How long a start may take. Usually it is a twentieth of a second, but after a crash Postgres first
/// replays its log, which the settings keep under half a gigabyte.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// The life of one server.
pub(crate) fn keep(options: &Options, reply: oneshot::Sender<Result<LocalPostgres, StartError>>) {
    let launched = match launch(options, &|| reply.is_closed()) {
        Ok(launched) => launched,
        Err(error) => {
            // Nobody to tell: the caller has gone.
            let _ = reply.send(Err(error));
            return;
        }
    };
    let Launched { hold, folder, socket_folder, running, log_start } = launched;
    let (ended, watch_end) = watch::channel(None);
    // If nobody takes it, it is dropped here, and that stops the server.
    let _ = reply.send(Ok(LocalPostgres::new(folder::url(&socket_folder.path), Arc::clone(&running), watch_end)));

    let status = running.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
    socket_folder.remove_if_elsewhere();
    drop(hold);
    let said = tail(&folder.log(), log_start);
    ended.send_replace(Some(format!(
        "Postgres (process {}) ended by itself ({status}); its log is {} and ends:\n{said}",
        running.pid(),
        folder.log().display()
    )));
}

struct Launched {
    hold: Hold,
    folder: Folder,
    socket_folder: SocketFolder,
    running: Arc<Running>,
    log_start: u64,
}

fn launch(options: &Options, is_unwanted: &dyn Fn() -> bool) -> Result<Launched, StartError> {
    let began = Instant::now();
    // First, and before anything is made: without programs nothing else matters, and a container has neither these nor
    // a folder to write to.
    let search = Search::of_this_machine(options.bindir.as_deref());
    let newest = search.choose(None)?;
    let folder = Folder::make(&options.folder)?;
    let data = folder.data();
    let account = Account::for_data(&data)?;
    let hold = folder.hold(&options.purpose, &account)?;
    account.check_way(folder.root())?;

    let made_by = cluster::version_of(&data)?;
    let programs = if made_by.is_some() { search.choose(made_by)? } else { newest };
    account.check_way(programs.bindir())?;
    if let Some(data_major) = made_by.filter(|major| *major != programs.major()) {
        return Err(StartError::OtherVersion { data, data_major, bindir: programs.bindir().to_owned(), programs_major: programs.major() });
    }
    leftover::stop(&data)?;
    cluster::clear_unfinished(&folder)?;
    if made_by.is_none() {
        tracing::info!(folder = %data.display(), version = programs.version(), "making a new Postgres data folder");
        cluster::create(&folder, &programs, &account)?;
    }
    cluster::take_over(&data, &account)?;
    let socket_folder = folder.make_socket_folder(&account)?;
    let (log, log_start) = folder.open_log(&account)?;
    let running = start(options, &programs, &account, &data, &socket_folder, log)?;
    wait_until_ready(&running, &folder, log_start, is_unwanted)?;
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(pid = running.pid(), version = programs.version(), duration_ms, "Postgres is ready");
    Ok(Launched { hold, folder, socket_folder, running, log_start })
}

fn start(
    options: &Options,
    programs: &Programs,
    account: &Account,
    data: &Path,
    socket_folder: &SocketFolder,
    log: File,
) -> Result<Arc<Running>, StartError> {
    let program = programs.program("postgres");
    // The fast shutdown: it writes everything down, so that the next start is a quick one.
    let mut command = spawn::command(&program, account, Signal::INT);
    command.arg("-D").arg(data);
    for (name, value) in settings(options, &socket_folder.path) {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    let second = log.try_clone().map_err(StartError::files("open the log in", data))?;
    command.stdin(Stdio::null()).stdout(log).stderr(second);
    let child = command.spawn().map_err(|reason| StartError::Program { program, reason })?;
    Ok(Arc::new(Running::new(child)))
}

/// All settings are given on the command line, so that the data folder's own files stay as initdb wrote
/// them and an old folder gets today's. The caller's come last and win.
fn settings(options: &Options, socket_folder: &Path) -> Vec<(String, String)> {
    // Quoted, as the value is a list.
    let socket_folders = format!("\"{}\"", socket_folder.display());
    let port = PORT.to_string();
    let common = [
        ("listen_addresses", ""),
        ("unix_socket_directories", &*socket_folders),
        ("unix_socket_permissions", "0700"),
        ("port", &*port),
        ("max_connections", "100"),
        ("shared_buffers", "128MB"),
        ("max_wal_size", "512MB"),
        ("log_destination", "stderr"),
        ("logging_collector", "off"),
        ("log_checkpoints", "off"),
    ];
    let durability: &[_] = match options.durability {
        Durability::Full => &[("fsync", "on"), ("full_page_writes", "on")],
        Durability::OffForTests => &[
            ("fsync", "off"),
            ("synchronous_commit", "off"),
            ("full_page_writes", "off"),
            ("wal_level", "minimal"),
            ("max_wal_senders", "0"),
        ],
    };
    let ours = common.iter().chain(durability).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    ours.chain(options.settings.iter().cloned()).collect()
}

/// Waits for the word `ready` in postmaster.pid, without a single attempt to connect.
fn wait_until_ready(running: &Running, folder: &Folder, log_start: u64, is_unwanted: &dyn Fn() -> bool) -> Result<(), StartError> {
    // The file of an earlier server names another process.
    let is_ready = || PostmasterPid::read(&folder.data()).is_some_and(|file| file.is_ready && file.pid == running.pid());
    let mut ended = false;
    let settled = wait::until(READY_WITHIN, || {
        ended = running.has_ended();
        ended || is_ready() || is_unwanted()
    });
    if settled && !ended {
        return Ok(());
    }
    if !ended {
        running.signal(Signal::QUIT);
    }
    let status = running.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
    let (log, said) = (folder.log(), tail(&folder.log(), log_start));
    Err(if ended { StartError::Died { status, log, said } } else { StartError::NotReady { seconds: READY_WITHIN.as_secs(), log, said } })
}

/// The last lines of what the log says since `start`.
fn tail(log: &Path, start: u64) -> String {
    const ENOUGH: u64 = 16 * 1024;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let start = start.max(file.metadata()?.len().saturating_sub(ENOUGH));
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    // The log is a help to the reader, not the news itself.
    read().map(|text| last_lines(&text)).unwrap_or_default()
}
