//! The command that gives another command a database.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops right there")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{Place, find_psql, with_postgres};

fn run(temporary: &Path, script: &str) -> Output {
    with_postgres().env("TMPDIR", temporary).env("PSQL", find_psql()).args(["--", "sh", "-c", script]).output().unwrap()
}

#[test]
fn the_command_gets_a_database_and_its_exit_code_is_ours() {
    let place = Place::new();
    let output = run(place.path(), "$PSQL -XAtqc 'show fsync' -c 'show max_connections' $DATABASE_URL; echo $DATABASE_URL; exit 7");
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["off", "300"]);
    let socket_folder = PathBuf::from(lines[2].split_once("host=").unwrap().1);
    assert!(!socket_folder.exists());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "the folder is gone");
}

#[test]
fn two_run_side_by_side() {
    let place = Place::new();
    let script = "$PSQL -Xqc 'create table mine ()' $DATABASE_URL";
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| run(place.path(), script));
        let two = scope.spawn(|| run(place.path(), script));
        (one.join().unwrap(), two.join().unwrap())
    });
    assert!(one.status.success() && two.status.success(), "{one:?} {two:?}");
}

#[test]
fn a_command_that_is_not_there_is_named_and_leaves_nothing() {
    let place = Place::new();
    let output = with_postgres().env("TMPDIR", place.path()).args(["--", "/nowhere/program"]).output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot run /nowhere/program"));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_server_that_dies_under_the_command_is_reported() {
    let place = Place::new();
    let script = "pid=$(head -1 ${DATABASE_URL#*host=}/../data/postmaster.pid); kill -9 $pid; while kill -0 $pid 2>/dev/null; do :; done";
    let output = run(place.path(), script);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("ended by itself (signal: 9"), "{said}");
}

#[test]
fn without_a_command_it_says_how_it_is_used() {
    for arguments in [&[][..], &["ls"], &["--"], &["--folder"], &["--frobnicate", "--", "ls"]] {
        let output = with_postgres().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("usage: with-postgres"));
    }
}
