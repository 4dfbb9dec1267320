//! Awkward folders, users, versions and machines.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops right there")]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use common::{Place, account, ask, we_are_root, with_postgres};
use local_postgres::{LocalPostgres, Options, StartError, attach, find_programs};

#[tokio::test]
async fn a_path_too_long_for_a_socket_gets_a_short_private_one_elsewhere() {
    let place = Place::new();
    let folder = place
        .path()
        .join("a-rather-long-name-for-a-folder")
        .join("which-has-another-one-inside")
        .join("until-no-socket-fits-in-it-any-more-at-all");
    let start = async || LocalPostgres::start(Options { folder: folder.clone(), ..place.options("a test") }).await.unwrap();
    let server = start().await;
    let url = server.url().to_owned();
    let socket_folder = PathBuf::from(url.split_once("host=").unwrap().1);
    assert!(!socket_folder.starts_with(place.path()), "{url}");
    assert!(socket_folder.join(".s.PGSQL.5432").as_os_str().len() <= 107, "{url}");
    assert_eq!(fs::metadata(&socket_folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(ask(&url, "select 1").unwrap(), "1");
    assert_eq!(attach(&folder).unwrap().unwrap().url, url);
    server.stop().await.unwrap();
    assert!(!socket_folder.exists(), "nothing is left outside of the folder");

    // Somebody else may have made it in the meantime, and must not be trusted with our socket.
    fs::write(&socket_folder, "").unwrap();
    let error = LocalPostgres::start(Options { folder: folder.clone(), ..place.options("a test") }).await.unwrap_err();
    fs::remove_file(&socket_folder).unwrap();
    assert!(matches!(&error, StartError::SocketFolder { path, .. } if *path == socket_folder), "{error}");

    let again = start().await;
    assert_eq!(again.url(), url, "the name follows from the folder");
    again.stop().await.unwrap();
}

#[tokio::test]
async fn a_path_with_blanks_and_letters_of_the_world_is_a_path_like_any_other() {
    let place = Place::new();
    let folder = place.path().join("søren's data/%41 b&c, d");
    let server = LocalPostgres::start(Options { folder: folder.clone(), ..place.options("a test") }).await.unwrap();
    assert_eq!(ask(server.url(), "select 1").unwrap(), "1");
    server.stop().await.unwrap();
    let folder = place.path().join("søren data/%41 b&c");
    let server = LocalPostgres::start(Options { folder: folder.clone(), ..place.options("a test") }).await.unwrap();
    assert!(server.url().ends_with("/s%C3%B8ren%20data/%2541%20b%26c/socket"), "{}", server.url());
    assert_eq!(ask(server.url(), "select 1").unwrap(), "1");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn data_of_another_major_version_is_refused_by_name_and_left_as_it_is() {
    let place = Place::new();
    place.start().await.stop().await.unwrap();
    let version = place.folder().join("data/PG_VERSION");
    let installed = fs::read_to_string(&version).unwrap().trim().to_owned();
    fs::write(&version, "99\n").unwrap();
    let error = LocalPostgres::start(place.options("a test")).await.unwrap_err();
    assert!(matches!(error, StartError::OtherVersion { data_major: 99, .. }), "{error}");
    let words = error.to_string();
    for part in ["data was made by Postgres 99", &format!("are Postgres {installed}"), "install Postgres 99", "pg_upgrade"] {
        assert!(words.contains(part), "{words}");
    }
    fs::write(&version, format!("{installed}\n")).unwrap();
    place.start().await.stop().await.unwrap();
}

#[tokio::test]
async fn a_folder_of_somebody_else_is_not_taken_for_data() {
    let place = Place::new();
    fs::create_dir_all(place.folder().join("data")).unwrap();
    fs::write(place.folder().join("data/diary"), "dear").unwrap();
    let error = LocalPostgres::start(place.options("a test")).await.unwrap_err();
    assert!(matches!(error, StartError::NotADataFolder { .. }), "{error}");
    assert_eq!(fs::read_to_string(place.folder().join("data/diary")).unwrap(), "dear");
}

#[tokio::test]
async fn programs_that_are_not_where_they_should_be_are_missed_by_name() {
    let place = Place::new();
    let error = LocalPostgres::start(Options { bindir: Some("/nowhere/bin".into()), ..place.options("a test") }).await.unwrap_err();
    assert!(matches!(error, StartError::NotFound(_)));
    let words = error.to_string();
    assert!(words.contains("/nowhere/bin") && words.contains("install") && words.contains("database URL"), "{words}");

    let given = find_programs(None).unwrap().bindir().to_owned();
    assert_eq!(find_programs(Some(&given)).unwrap().bindir(), given);
}

#[tokio::test]
async fn root_is_told_which_folder_the_servers_user_cannot_pass() {
    if !we_are_root() {
        return;
    }
    let place = Place::new();
    let closed = place.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let options = || Options { folder: closed.join("state/pg"), ..place.options("a test") };
    let error = LocalPostgres::start(options()).await.unwrap_err();
    assert!(matches!(&error, StartError::Untraversable { blocked, .. } if *blocked == closed), "{error}");
    let remedy = format!("chmod o+x {}", closed.display());
    assert!(error.to_string().contains(&remedy), "{error}");

    // The remedy is one.
    fs::set_permissions(&closed, Permissions::from_mode(0o701)).unwrap();
    LocalPostgres::start(options()).await.unwrap().stop().await.unwrap();
}

#[test]
fn an_ordinary_user_runs_the_server_as_himself() {
    let place = Place::new();
    let Some((uid, gid)) = we_are_root().then(|| account("nobody")).flatten() else { return };
    chown(place.path(), Some(uid), Some(gid)).unwrap();
    let script = "grep -h '^Uid' /proc/$(head -1 $FOLDER/data/postmaster.pid)/status && $PSQL -XAtqc 'select 6 * 7' $DATABASE_URL";
    let psql = find_programs(None).unwrap().bindir().join("psql");
    let run = || {
        let mut command = with_postgres();
        command.uid(uid).gid(gid).current_dir("/").env("FOLDER", place.folder()).env("PSQL", &psql);
        command.arg("--folder").arg(place.folder()).args(["--", "sh", "-c", script]).output().unwrap()
    };
    for round in ["first", "second"] {
        let output = run();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{round}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(said, format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n42\n"), "{round}");
    }
    assert_eq!(fs::metadata(place.folder()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn root_runs_an_existing_folder_as_its_owner_and_takes_over_one_that_root_unpacked() {
    let Some((uid, gid)) = we_are_root().then(|| account("nobody")).flatten() else { return };
    let place = Place::new();
    chown(place.path(), Some(uid), Some(gid)).unwrap();
    let mut command = with_postgres();
    let status = command.uid(uid).gid(gid).current_dir("/").arg("--folder").arg(place.folder()).args(["--", "true"]).status().unwrap();
    assert!(status.success());
    let server = place.start().await;
    assert_eq!(fs::metadata(format!("/proc/{}", server.pid())).unwrap().uid(), uid);
    assert_eq!(ask(server.url(), "select 1").unwrap(), "1");
    server.stop().await.unwrap();

    let unpacked = std::process::Command::new("chown").arg("-R").arg("0:0").arg(place.folder()).status().unwrap();
    assert!(unpacked.success());
    let server = place.start().await;
    assert_ne!(fs::metadata(format!("/proc/{}", server.pid())).unwrap().uid(), 0);
    assert_eq!(ask(server.url(), "select 1").unwrap(), "1");
    server.stop().await.unwrap();
}
