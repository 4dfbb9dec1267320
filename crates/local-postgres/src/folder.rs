//! The folder of one server: what lies where in it, who holds it, and where its socket goes.
//!
//! Holding is an exclusive `flock` on the file `lock`. The kernel lets go of it when the holder dies,
//! so it never goes stale and needs no cleaning up; what is written in the file only tells others whom
//! to ask. The file is never removed: a lock on a removed file would guard nothing.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::error::StartError;
use crate::wait;

/// The port names the socket file even where there is no TCP.
pub(crate) const PORT: u16 = 5432;

/// The longest path of a socket: `sun_path` without its closing zero.
const LONGEST_SOCKET: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// A log longer than this is turned over at the next start.
const LOG_TURNS_AT: u64 = 8 * 1024 * 1024;

/// How long a lock may be held without a living holder being named in it: the moment between taking
/// the lock and writing the name, or somebody's glance by `attach`.
const NAMELESS: Duration = Duration::from_secs(1);

/// The folder of one server, made and found by its full path.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Makes the folder and what is missing above it, and resolves links in its path.
    ///
    /// When we are root, what we make lets others pass through but not look: the server's user must get
    /// to its data, which is closed to everybody else.
    pub(crate) fn make(path: &Path) -> Result<Self, StartError> {
        let ours = rustix::process::geteuid();
        let mode = if ours.is_root() { 0o711 } else { 0o700 };
        let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
        for folder in missing.iter().rev() {
            match DirBuilder::new().mode(mode).create(folder) {
                // Two starters at once: the lock will tell them apart.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                done => done.map_err(StartError::files("make the folder", folder))?,
            }
            // The umask may have taken away what the server's user needs.
            fs::set_permissions(folder, Permissions::from_mode(mode)).map_err(StartError::files("set the mode of", folder))?;
        }
        let root = fs::canonicalize(path).map_err(StartError::files("find the folder", path))?;
        let found = fs::metadata(&root).map_err(StartError::files("look at", &root))?;
        if !found.is_dir() {
            return Err(StartError::Files { doing: "use as a folder", path: root, reason: io::ErrorKind::NotADirectory.into() });
        }
        if found.uid() == ours.as_raw() && found.mode() & 0o777 != mode {
            fs::set_permissions(&root, Permissions::from_mode(mode)).map_err(StartError::files("set the mode of", &root))?;
        }
        Ok(Self { root })
    }

    /// The folder if it is there. Makes nothing.
    pub(crate) fn existing(path: &Path) -> io::Result<Self> {
        Ok(Self { root: fs::canonicalize(path)? })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Takes the folder for us.
    pub(crate) fn hold(&self, purpose: &str, account: &Account) -> Result<Hold, StartError> {
        let path = self.lock();
        let mut file = open_private(&path, OpenOptions::new().read(true).write(true)).map_err(StartError::files("open", &path))?;
        let mut taken = Ok(());
        let mut holder = None;
        // A living holder ends the wait at once. Anything else is over in a moment.
        wait::until(NAMELESS, || {
            taken = file.try_lock();
            match taken {
                Err(TryLockError::WouldBlock) => {
                    holder = read_holder(&mut file);
                    holder.as_ref().is_some_and(Holder::lives)
                }
                _ => true,
            }
        });
        match taken {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let Holder { pid, purpose } = holder.unwrap_or_else(Holder::unknown);
                return Err(StartError::Held { pid, purpose });
            }
            Err(TryLockError::Error(reason)) => return Err(StartError::Files { doing: "lock", path, reason }),
        }
        let hold = Hold { file };
        hold.write(&Holder { pid: std::process::id(), purpose: purpose.to_owned() }).map_err(StartError::files("write", &path))?;
        account.own(&path)?;
        Ok(hold)
    }

    /// Who holds the folder, if anybody does.
    pub(crate) fn holder(&self) -> io::Result<Option<Holder>> {
        let mut file = match File::open(self.lock()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => {
                let mut holder = None;
                wait::until(NAMELESS, || {
                    holder = read_holder(&mut file);
                    holder.as_ref().is_some_and(Holder::lives)
                });
                Ok(Some(holder.unwrap_or_else(Holder::unknown)))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Opens the log for appending; says how long it is already.
    pub(crate) fn open_log(&self, account: &Account) -> Result<(File, u64), StartError> {
        let path = self.log();
        if fs::symlink_metadata(&path).is_ok_and(|log| log.len() > LOG_TURNS_AT) {
            fs::rename(&path, path.with_extension("log.1")).map_err(StartError::files("turn over", &path))?;
        }
        let log = open_private(&path, OpenOptions::new().append(true)).map_err(StartError::files("open", &path))?;
        account.own(&path)?;
        let length = log.metadata().map_err(StartError::files("look at", &path))?.len();
        Ok((log, length))
    }

    /// Makes the folder for the socket and clears it of what a crash left.
    ///
    /// It lies in our folder if a socket's path may be that long, otherwise under a short name that
    /// follows from the folder's path, so that it is the same at each start.
    pub(crate) fn make_socket_folder(&self, account: &Account) -> Result<SocketFolder, StartError> {
        let inside = self.root.join("socket");
        let (path, is_elsewhere) = if fits_a_socket(&inside) { (inside, false) } else { (self.short_socket_folder(account), true) };
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => account.own(&path)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(StartError::files("make the folder", &path)(error)),
        }
        // Under /tmp anybody could have made it before us, also as a link.
        let found = fs::symlink_metadata(&path).map_err(StartError::files("look at", &path))?;
        let problem = if !found.is_dir() {
            Some("is not a folder")
        } else if found.uid() != account.uid() && found.uid() != rustix::process::geteuid().as_raw() {
            Some("belongs to somebody else")
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(StartError::SocketFolder { path, problem });
        }
        account.own(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(StartError::files("set the mode of", &path))?;
        let socket_folder = SocketFolder { path, is_elsewhere };
        // No server of this folder runs now. A lock file here that names a process id which somebody
        // else has by now would make Postgres believe that one does.
        socket_folder.clear();
        Ok(socket_folder)
    }

    fn short_socket_folder(&self, account: &Account) -> PathBuf {
        // Root's runtime folder is closed to the server's user.
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| !account.is_other() && folder.is_dir());
        let name = format!("tocsin-pg-{:016x}", fingerprint(self.root.as_os_str().as_encoded_bytes()));
        [runtime, Some("/tmp".into())]
            .into_iter()
            .flatten()
            .map(|folder| folder.join(&name))
            .find(|path| fits_a_socket(path))
            .unwrap_or_else(|| Path::new("/tmp").join(&name))
    }
}

/// The folder is ours as long as this lives.
#[derive(Debug)]
pub(crate) struct Hold {
    file: File,
}

impl Hold {
    fn write(&self, holder: &Holder) -> io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(holder)?)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Only a courtesy to those who look: closing the file is what lets go.
        let _ = self.file.set_len(0);
    }
}

/// Who holds a folder, and what for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    pub(crate) purpose: String,
}

impl Holder {
    fn unknown() -> Self {
        Self { pid: 0, purpose: "an unknown program".to_owned() }
    }

    fn lives(&self) -> bool {
        process_lives(self.pid)
    }
}

/// Whether there is a process of this id, whoever it may be.
pub(crate) fn process_lives(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return false };
    // "Not permitted" is said only of processes that are there.
    !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// Where the socket is.
#[derive(Debug)]
pub(crate) struct SocketFolder {
    pub(crate) path: PathBuf,
    is_elsewhere: bool,
}

impl SocketFolder {
    /// Removes what a server puts there, and the folder too if it lies outside of ours.
    pub(crate) fn clear(&self) {
        for name in [format!(".s.PGSQL.{PORT}"), format!(".s.PGSQL.{PORT}.lock")] {
            // Usually there is nothing to remove.
            let _ = fs::remove_file(self.path.join(name));
        }
    }

    /// Removes the folder if it lies outside of ours, where nobody would know what it is.
    pub(crate) fn remove_if_elsewhere(&self) {
        if self.is_elsewhere {
            self.clear();
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// The URL of a server by the folder of its socket.
pub(crate) fn url(socket_folder: &Path) -> String {
    let mut host = String::new();
    for byte in socket_folder.as_os_str().as_encoded_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => host.push(char::from(*byte)),
            other => host.push_str(&format!("%{other:02X}")),
        }
    }
    format!("postgres://tocsin@localhost/tocsin?host={host}")
}

/// Whether a socket can live in this folder: its path must be short enough, and free of what means
/// something to Postgres' list of folders or to a client's list of hosts.
fn fits_a_socket(folder: &Path) -> bool {
    let Some(text) = folder.to_str() else { return false };
    let socket = folder.join(format!(".s.PGSQL.{PORT}"));
    socket.as_os_str().len() <= LONGEST_SOCKET && !text.contains([',', '"', '\'']) && !text.contains(char::is_control)
}

/// A short, stable name for a path (FNV-1a). It need not be secret: the folder's owner is checked.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Opens or makes a file that only its owner may read, and never follows a link: the folder may belong
/// to a user with fewer rights than ours.
fn open_private(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(io::Error::other)?;
    options.create(true).mode(0o600).custom_flags(no_follow).open(path)
}

fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(4096).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_survives_any_path() {
        assert_eq!(
            url(Path::new("/var/lib/tocsin/postgres/socket")),
            "postgres://tocsin@localhost/tocsin?host=/var/lib/tocsin/postgres/socket"
        );
        assert_eq!(url(Path::new("/home/søren/a b&c%")), "postgres://tocsin@localhost/tocsin?host=/home/s%C3%B8ren/a%20b%26c%25");
    }

    #[test]
    fn a_socket_folder_must_be_short_and_plain() {
        let of_length = |length: usize| PathBuf::from(format!("/{}", "x".repeat(length - 1)));
        let name = "/.s.PGSQL.5432".len();
        assert!(fits_a_socket(&of_length(LONGEST_SOCKET - name)));
        assert!(!fits_a_socket(&of_length(LONGEST_SOCKET - name + 1)));
        assert!(fits_a_socket(Path::new("/home/søren/with space")));
        assert!(!fits_a_socket(Path::new("/home/a,b")));
    }

    #[test]
    fn a_folder_is_held_by_one_and_free_again_afterwards() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::make(&temp.path().join("a/b")).unwrap();
        assert_eq!(folder.holder().unwrap(), None);
        let hold = folder.hold("first", &Account::Ourselves).unwrap();
        let us = Holder { pid: std::process::id(), purpose: "first".into() };
        assert_eq!(folder.holder().unwrap(), Some(us));
        let second = folder.hold("second", &Account::Ourselves).unwrap_err();
        assert!(matches!(second, StartError::Held { pid, ref purpose } if pid == std::process::id() && purpose == "first"), "{second}");
        drop(hold);
        assert_eq!(folder.holder().unwrap(), None);
        folder.hold("second", &Account::Ourselves).unwrap();
    }

    #[test]
    fn a_lock_that_is_a_link_is_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::make(&temp.path().join("f")).unwrap();
        let victim = temp.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, folder.lock()).unwrap();
        folder.hold("first", &Account::Ourselves).unwrap_err();
        assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
    }

    #[test]
    fn a_long_log_is_turned_over_once() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::make(&temp.path().join("f")).unwrap();
        File::create(folder.log()).unwrap().set_len(LOG_TURNS_AT + 1).unwrap();
        assert_eq!(folder.open_log(&Account::Ourselves).unwrap().1, 0);
        assert_eq!(fs::metadata(folder.root().join("server.log.1")).unwrap().len(), LOG_TURNS_AT + 1);
    }
}
