//! What is left when somebody dies at a bad moment, and how the next start deals with it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops right there")]

mod common;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use common::{Place, account, ask, lives, send, until, we_are_root, with_postgres};
use local_postgres::{StartError, find_programs};
use rustix::process::Signal;

/// A process that runs a server in the folder until it is killed.
fn runner(place: &Place) -> Child {
    with_postgres().arg("--folder").arg(place.folder()).args(["--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

fn ready_server_of(place: &Place, runner: &Child) -> u32 {
    until("the runner's server is ready", || {
        let attached = local_postgres::attach(&place.folder()).ok()??;
        assert_eq!((attached.pid, &*attached.purpose), (runner.id(), "with-postgres"));
        place.postmaster()
    })
}

/// A server of this folder that nobody of ours looks after, started past the lock.
fn stray_server(place: &Place) -> Child {
    let programs = find_programs(None).unwrap();
    let mut command = Command::new(programs.bindir().join("postgres"));
    command.arg("-D").arg(place.folder().join("data")).args(["-c", "listen_addresses=", "-c", "fsync=off"]);
    command.arg("-c").arg(format!("unix_socket_directories={}", place.folder().join("socket").display()));
    if we_are_root() {
        let (uid, gid) = account("postgres").or_else(|| account("nobody")).unwrap();
        command.uid(uid).gid(gid);
    }
    command.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn ready_stray(place: &Place, stray: &Child) {
    until("the stray server is ready", || {
        let file = fs::read_to_string(place.folder().join("data/postmaster.pid")).ok()?;
        (file.starts_with(&format!("{}\n", stray.id())) && file.lines().nth(7)?.starts_with("ready")).then_some(())
    });
}

#[tokio::test]
async fn when_its_parent_is_killed_the_server_ends_and_the_next_start_finds_all_data() {
    let place = Place::new();
    let mut runner = runner(&place);
    let server = ready_server_of(&place, &runner);
    let url = local_postgres::attach(&place.folder()).unwrap().unwrap().url;
    ask(&url, "create table kept as select 1 as n").unwrap();

    runner.kill().unwrap();
    runner.wait().unwrap();
    // At once, while the old server is still on its way down.
    let next = place.start().await;
    assert!(!lives(server));
    assert_eq!(ask(next.url(), "select n from kept").unwrap(), "1");
    next.stop().await.unwrap();
}

#[test]
fn when_its_parent_is_killed_the_server_ends_without_anybody_starting_again() {
    let place = Place::new();
    let mut runner = runner(&place);
    let server = ready_server_of(&place, &runner);
    runner.kill().unwrap();
    runner.wait().unwrap();
    until("the server ends", || (!lives(server)).then_some(()));
    let log = fs::read_to_string(place.folder().join("server.log")).unwrap();
    assert!(log.contains("database system is shut down"), "an orderly end:\n{log}");
}

#[tokio::test]
async fn twenty_kills_in_a_row_lose_nothing() {
    let place = Place::new();
    place.start().await.stop().await.unwrap();
    for _ in 0..20 {
        let mut runner = runner(&place);
        ready_server_of(&place, &runner);
        let url = local_postgres::attach(&place.folder()).unwrap().unwrap().url;
        ask(&url, "create table if not exists kept (n int); insert into kept select count(*) + 1 from kept").unwrap();
        runner.kill().unwrap();
        runner.wait().unwrap();
    }
    let server = place.start().await;
    assert_eq!(ask(server.url(), "select count(*), max(n) from kept").unwrap(), "20|20");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_left_running_is_stopped_by_the_next_start() {
    let place = Place::new();
    place.start().await.stop().await.unwrap();
    let mut stray = stray_server(&place);
    ready_stray(&place, &stray);
    let server = place.start().await;
    assert!(stray.wait().unwrap().success(), "it was asked, not killed");
    assert_eq!(ask(server.url(), "select 1").unwrap(), "1");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn children_without_their_postmaster_are_ended_before_the_next_start() {
    let place = Place::new();
    place.start().await.stop().await.unwrap();
    let mut stray = stray_server(&place);
    ready_stray(&place, &stray);
    // A backend deep in a calculation looks neither left nor right; this one also ignores cancelling.
    let url = format!("postgres://tocsin@localhost/tocsin?host={}", place.folder().join("socket").display());
    let busy = "do $$ begin loop begin perform count(*) from generate_series(1, 100000000); exception when query_canceled then null; end; end loop; end $$";
    let session = std::thread::spawn({
        let url = url.clone();
        move || ask(&url, busy)
    });
    let backend: u32 = until("the session is busy", || {
        ask(&url, "select pid from pg_stat_activity where state = 'active' and query like 'do %'").ok()?.parse().ok()
    });
    stray.kill().unwrap();
    stray.wait().unwrap();
    assert!(lives(backend), "it has not noticed yet");

    let server = place.start().await;
    assert!(!lives(backend));
    session.join().unwrap().unwrap_err();
    assert_eq!(ask(server.url(), "select 1").unwrap(), "1");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_pid_file_that_names_a_stranger_keeps_nobody_from_starting() {
    let place = Place::new();
    place.start().await.stop().await.unwrap();
    // Both lock files name a living process of the server's own user, the worst case.
    let mut stranger = Command::new("sleep");
    if we_are_root() {
        let (uid, gid) = account("postgres").or_else(|| account("nobody")).unwrap();
        stranger.uid(uid).gid(gid);
    }
    let mut stranger = stranger.arg("600").spawn().unwrap();
    for file in ["data/postmaster.pid", "socket/.s.PGSQL.5432.lock"] {
        fs::write(place.folder().join(file), format!("{}\n/elsewhere\n1790000000\n5432\n/elsewhere\n\n 1 2\nready   \n", stranger.id()))
            .unwrap();
    }
    place.start().await.stop().await.unwrap();
    assert!(lives(stranger.id()), "and the stranger is left alone");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_data_folder_that_was_being_made_when_its_maker_was_killed_is_made_again() {
    let place = Place::new();
    let mut runner = runner(&place);
    until("initdb is at work", || {
        let unfinished =
            fs::read_dir(place.folder()).ok()?.flatten().find(|entry| entry.file_name().to_string_lossy().starts_with("data.new-"))?;
        unfinished.path().join("PG_VERSION").exists().then_some(())
    });
    runner.kill().unwrap();
    runner.wait().unwrap();
    assert!(!place.folder().join("data").exists());

    let server = place.start().await;
    assert_eq!(ask(server.url(), "select 1").unwrap(), "1");
    server.stop().await.unwrap();
    assert_eq!(place.names(), ["data", "lock", "server.log", "socket"], "and nothing is left of the first attempt");
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why_and_lets_go_of_the_folder() {
    let place = Place::new();
    let options = local_postgres::Options { settings: vec![("shared_buffers".into(), "nonsense".into())], ..place.options("a test") };
    let error = local_postgres::LocalPostgres::start(options).await.unwrap_err();
    assert!(matches!(error, StartError::Died { .. }));
    let words = error.to_string();
    assert!(words.contains("invalid value for parameter \"shared_buffers\"") && words.contains("server.log"), "{words}");
    place.start().await.stop().await.unwrap();
}

#[test]
fn signals_end_the_runner_only_when_its_command_has_ended_and_leave_nothing() {
    let place = Place::new();
    let mut runner = runner(&place);
    let server = ready_server_of(&place, &runner);
    // Waiting for a child closes its input, at which `cat` would end happily.
    let _input = runner.stdin.take();
    send(runner.id(), Signal::INT);
    send(runner.id(), Signal::TERM);
    // `cat` dies of the SIGTERM that is passed on.
    assert_eq!(runner.wait().unwrap().code(), Some(128 + 15));
    assert!(!lives(server));
    assert_eq!(local_postgres::attach(&place.folder()).unwrap(), None);
}
