//! The data folder: whether there is one, of which version, and how it is made.
//!
//! Making one takes three programs in a row and half a second, in any moment of which the machine may
//! stop. So it happens in a folder of another name, which is renamed when it is complete and on disk:
//! what is called `data` is always whole, and what is called otherwise is rubbish.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::account::Account;
use crate::error::StartError;
use crate::folder::Folder;
use crate::programs::{Programs, leading_number};
use crate::spawn;
use crate::wait;

/// How the name of a data folder begins while it is being made.
const UNFINISHED: &str = "data.new-";

/// How long somebody may still write into one whose maker is dead.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// The major version that made the data folder; `None` if there is no data folder yet.
pub(crate) fn version_of(data: &Path) -> Result<Option<u32>, StartError> {
    match fs::read_to_string(data.join("PG_VERSION")) {
        Ok(text) => leading_number(&text).map(Some).ok_or_else(|| StartError::NotADataFolder { data: data.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_dir(data).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Ok(None),
            Ok(false) => Err(StartError::NotADataFolder { data: data.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StartError::files("read the folder", data)(error)),
        },
        Err(error) => Err(StartError::files("read the PG_VERSION of", data)(error)),
    }
}

/// Removes what earlier attempts left unfinished. Only for the holder of the folder.
pub(crate) fn clear_unfinished(folder: &Folder) -> Result<(), StartError> {
    for entry in fs::read_dir(folder.root()).map_err(StartError::files("read the folder", folder.root()))?.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            let path = entry.path();
            tracing::info!(folder = %path.display(), "removing a Postgres data folder that was never finished");
            // A child of an initdb that was killed a moment ago may still be adding files.
            let mut removed = Ok(());
            wait::until(LAST_WRITES, || {
                removed = fs::remove_dir_all(&path);
                removed.is_ok()
            });
            removed.map_err(StartError::files("remove", &path))?;
        }
    }
    Ok(())
}

/// Makes the data folder, with the role `tocsin` as superuser and the database `tocsin`.
pub(crate) fn create(folder: &Folder, programs: &Programs, account: &Account) -> Result<(), StartError> {
    let data = folder.data();
    let unfinished = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(folder.root())
        .map_err(StartError::files("make a folder in", folder.root()))?;
    let place = unfinished.path();
    account.own(place)?;

    init(place, programs, account)?;
    // initdb makes no database of ours, so a server of one user does, which needs no socket. Writing to
    // disk is left out until the end, where it is done for all files at once.
    let single = ["--single", "-c", "fsync=off", "-c", "exit_on_error=on", "-c", "log_checkpoints=off", "-D"].map(AsRef::as_ref);
    let arguments = single.into_iter().chain([place.as_os_str(), "template1".as_ref()]);
    step(programs, account, "postgres", arguments, "CREATE DATABASE tocsin\n")?;
    step(programs, account, "initdb", ["--sync-only".as_ref(), "-D".as_ref(), place.as_os_str()], "")?;

    fs::rename(place, &data).map_err(StartError::files("move the new data folder to", &data))?;
    // Nothing is left there for the guard to remove.
    let _ = unfinished.keep();
    File::open(folder.root()).and_then(|root| root.sync_all()).map_err(StartError::files("write to disk", folder.root()))
}

/// Hands the data folder over if root unpacked it; whoever else owns it runs it. What a link leads to is
/// somebody's decision and left as it is.
pub(crate) fn take_over(data: &Path, account: &Account) -> Result<(), StartError> {
    let found = fs::symlink_metadata(data).map_err(StartError::files("look at", data))?;
    if account.is_other() && found.is_dir() && found.uid() != account.uid() { account.own_all(data) } else { Ok(()) }
}

fn init(place: &Path, programs: &Programs, account: &Account) -> Result<(), StartError> {
    let attempt = |locale: &str| {
        // Trust is right because nobody but the server's user (and root) can reach the socket.
        let fixed = [
            "--username=tocsin",
            "--auth=trust",
            "--encoding=UTF8",
            "--data-checksums",
            "--lc-messages=C",
            // Keys are compared byte by byte: an upgrade of the system cannot change their order under an index, and it is quicker.
            "--lc-collate=C",
            "--no-sync",
            "--no-instructions",
        ];
        let mut arguments: Vec<_> = fixed.iter().map(Into::into).collect();
        arguments.push(format!("--locale={locale}").into());
        arguments.push("-D".into());
        arguments.push(place.as_os_str().to_owned());
        step(programs, account, "initdb", arguments, "")
    };
    match attempt("C.UTF-8") {
        // Older systems do not have it. It differs from C only in what counts as a letter.
        Err(StartError::SetUp { said, .. }) if said.contains("invalid locale") => attempt("C"),
        done => done,
    }
}

fn step<I: AsRef<std::ffi::OsStr>>(
    programs: &Programs,
    account: &Account,
    name: &'static str,
    arguments: impl IntoIterator<Item = I>,
    input: &str,
) -> Result<(), StartError> {
    let program = programs.program(name);
    let Output { status, stderr, .. } =
        spawn::run(&program, account, arguments, input).map_err(|reason| StartError::Program { program, reason })?;
    if status.success() {
        return Ok(());
    }
    Err(StartError::SetUp { step: name, status: status.to_string(), said: last_lines(&String::from_utf8_lossy(&stderr)) })
}

/// As much of a program's last words as a person wants to see.
pub(crate) fn last_lines(text: &str) -> String {
    const LINES: usize = 10;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_tells_whether_it_is_a_data_folder() {
        let temp = tempfile::tempdir().unwrap();
        let data = temp.path().join("data");
        assert_eq!(version_of(&data).unwrap(), None, "not there");
        fs::create_dir(&data).unwrap();
        assert_eq!(version_of(&data).unwrap(), None, "empty");
        fs::write(data.join("PG_VERSION"), "17\n").unwrap();
        assert_eq!(version_of(&data).unwrap(), Some(17));
        fs::rename(data.join("PG_VERSION"), data.join("diary")).unwrap();
        assert!(matches!(version_of(&data), Err(StartError::NotADataFolder { .. })), "somebody else's");
    }

    #[test]
    fn last_words_are_short() {
        let many: String = (0..100).map(|line| format!("line {line}\n\n")).collect();
        let said = last_lines(&many);
        assert_eq!(said.lines().count(), 10);
        assert!(said.starts_with("line 90\n") && said.ends_with("line 99"));
    }
}
