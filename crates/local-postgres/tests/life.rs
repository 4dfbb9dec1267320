//! A server's ordinary life: started, used, found by others, stopped, started again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops right there")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use common::{Place, ask, lives, until};
use local_postgres::{Durability, LocalPostgres, Options, StartError, StopError, attach};
use rustix::process::Signal;

#[tokio::test]
async fn the_first_start_makes_everything_and_the_second_finds_it_as_it_was() {
    let place = Place::new();
    let server = place.start().await;
    assert_eq!(server.url(), format!("postgres://tocsin@localhost/tocsin?host={}", place.folder().join("socket").display()));
    assert_eq!(ask(server.url(), "select current_user, current_database()").unwrap(), "tocsin|tocsin");
    assert_eq!(ask(server.url(), "select rolsuper from pg_roles where rolname = current_user").unwrap(), "t");
    ask(server.url(), "create table kept (what text); insert into kept values ('søster İğ')").unwrap();
    let first = server.pid();
    server.stop().await.unwrap();
    assert!(!lives(first));

    let server = place.start().await;
    assert_ne!(server.pid(), first);
    assert_eq!(ask(server.url(), "select what from kept").unwrap(), "søster İğ");
    server.stop().await.unwrap();
    assert_eq!(place.names(), ["data", "lock", "server.log", "socket"]);
}

#[tokio::test]
async fn the_server_is_private_and_careful() {
    let place = Place::new();
    let options = Options { durability: Durability::Full, settings: vec![("work_mem".into(), "5MB".into())], ..place.options("a test") };
    let server = LocalPostgres::start(options).await.unwrap();
    let table = [
        ("listen_addresses", ""),
        ("unix_socket_permissions", "0700"),
        ("data_checksums", "on"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("server_encoding", "UTF8"),
        ("work_mem", "5MB"),
    ];
    for (setting, value) in table {
        assert_eq!(ask(server.url(), &format!("show {setting}")).unwrap(), value, "{setting}");
    }
    assert_eq!(ask(server.url(), "select datcollate from pg_database where datname = 'tocsin'").unwrap(), "C");
    assert_eq!(ask(server.url(), "select lower('\u{c6}\u{d8}')").unwrap(), "\u{e6}\u{f8}", "what counts as a letter is not only English");

    let owner = fs::metadata(place.folder().join("data")).unwrap().uid();
    assert!(owner != 0, "Postgres refuses to be root");
    for (name, mode) in [("data", 0o700), ("socket", 0o700), ("server.log", 0o600), ("lock", 0o600)] {
        let found = fs::metadata(place.folder().join(name)).unwrap();
        assert_eq!((found.permissions().mode() & 0o777, found.uid()), (mode, owner), "{name}");
    }
    let open_to_others = fs::metadata(place.folder()).unwrap().permissions().mode() & 0o066;
    assert_eq!(open_to_others, 0, "nobody else may look into the folder");

    let group = rustix::process::getpgid(rustix::process::Pid::from_raw(i32::try_from(server.pid()).unwrap())).unwrap();
    assert_eq!(group.as_raw_nonzero().get().unsigned_abs(), server.pid(), "a Ctrl-C in our terminal is not for the server");

    let environment = fs::read_to_string(format!("/proc/{}/environ", server.pid())).unwrap();
    let names: Vec<&str> = environment.split('\0').filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let passed = [
        "PATH",
        "TZ",
        "LD_LIBRARY_PATH",
        "LC_ALL",
        "PGLOCALEDIR",
        "PGSYSCONFDIR",
        "PG_GRANDPARENT_PID",
        "LC_COLLATE",
        "LC_CTYPE",
        "LC_MESSAGES",
        "LC_MONETARY",
        "LC_NUMERIC",
        "LC_TIME",
    ];
    assert!(names.iter().all(|name| passed.contains(name)), "our environment is nobody's business: {names:?}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_starter_is_told_who_holds_the_folder_and_can_attach() {
    let place = Place::new();
    assert_eq!(attach(&place.folder()).unwrap(), None, "there is not even a folder");
    let server = place.start().await;

    let refused = LocalPostgres::start(place.options("another")).await.unwrap_err();
    let StartError::Held { pid, purpose } = &refused else { panic!("{refused}") };
    assert_eq!((*pid, &**purpose), (std::process::id(), "a test"));
    assert!(refused.to_string().contains("\"a test\" (process "), "{refused}");
    assert!(lives(server.pid()), "the refused one has touched nothing");

    let attached = attach(&place.folder()).unwrap().unwrap();
    assert_eq!((attached.pid, &*attached.purpose), (std::process::id(), "a test"));
    assert_eq!(ask(&attached.url, "select 1").unwrap(), "1");

    server.stop().await.unwrap();
    assert_eq!(attach(&place.folder()).unwrap(), None);
}

#[tokio::test]
async fn of_many_that_start_at_once_one_wins_and_the_rest_hear_of_it() {
    let place = Place::new();
    let starts = (0..5).map(|number| tokio::spawn(LocalPostgres::start(place.options(&format!("starter {number}")))));
    let mut winners = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        match start.await.unwrap() {
            Ok(server) => winners.push(server),
            Err(StartError::Held { purpose, .. }) => assert!(purpose.starts_with("starter "), "{purpose}"),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(winners.len(), 1);
    winners.remove(0).stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_ends_by_itself_is_reported_with_its_last_words() {
    let place = Place::new();
    let mut server = place.start().await;
    common::send(server.pid(), Signal::TERM);
    let words = server.exited().await;
    assert!(words.contains(&server.pid().to_string()) && words.contains("database system is shut down"), "{words}");
    assert_eq!(server.exited().await, words, "and it can be asked again");
    assert!(matches!(server.stop().await, Err(StopError::EndedBefore { .. })));
    place.start().await.stop().await.unwrap();
}

#[tokio::test]
async fn open_sessions_do_not_hold_up_the_stop() {
    let place = Place::new();
    let server = place.start().await;
    let url = server.url().to_owned();
    let session = std::thread::spawn(move || ask(&url, "select pg_sleep(600)"));
    until("the session sleeps", || {
        (ask(server.url(), "select count(*) from pg_stat_activity where wait_event = 'PgSleep'").unwrap() == "1").then_some(())
    });
    server.stop().await.unwrap();
    assert!(session.join().unwrap().unwrap_err().contains("terminating connection"));
}

#[tokio::test]
async fn a_dropped_handle_stops_the_server_and_a_dropped_start_leaves_none() {
    let place = Place::new();
    let server = place.start().await;
    let pid = server.pid();
    drop(server);
    until("the server ends", || (!lives(pid)).then_some(()));

    // In the middle of making a data folder, the caller loses interest.
    let place = Place::new();
    let mut start = Box::pin(LocalPostgres::start(place.options("impatient")));
    assert!(poll_once(start.as_mut()).is_none());
    until("the work has begun", || attach(&place.folder()).is_err().then_some(()));
    drop(start);
    until("the folder is free and no server runs", || {
        let free = attach(&place.folder()).is_ok_and(|attached| attached.is_none());
        (free && place.postmaster().is_none()).then_some(())
    });
    place.start().await.stop().await.unwrap();
}

#[test]
fn the_server_outlives_the_runtime_and_threads_it_was_started_from() {
    let place = Place::new();
    let options = place.options("a test");
    let server = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(LocalPostgres::start(options)).unwrap()
    });
    let server = server.join().unwrap();
    // Had the kernel taken that thread's end for ours, the server would be on its way down and refuse
    // new sessions.
    assert_eq!(ask(server.url(), "select 1").unwrap(), "1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(server.stop()).unwrap();
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}
