//! Changing the ring file: bringing in the next key, making it the first, taking one out.
//!
//! A change is written beside the file and renamed into its place, so that whoever reads the ring sees the old
//! one or the new one and never half of one. Owner and mode stay as they were, because it is often root who
//! types the command and somebody else who runs the daemon. A lock on the folder keeps two commands apart.
//!
//! Where the ring cannot be written, since it is a mounted secret or a credential of systemd, the new ring goes
//! to another file or to standard output, for a person to put in its place.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{KeyId, KeyRing, KeyRingError, RingKey, folder_of, write_new, write_to};

/// Where a changed ring is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RingTarget {
    /// In the place of the ring.
    InPlace,
    /// To a file of its own, for rings that cannot be written where they are.
    Elsewhere(PathBuf),
    /// To standard output, where there is no place for a file either.
    StandardOutput,
}

/// A ring that is being changed. Nobody else changes it through `tocsin` as long as this lives.
pub(crate) struct RingChange {
    ring: KeyRing,
    /// Where the file is, behind all links: a rename would otherwise replace the link.
    real: PathBuf,
    _lock: Lock,
}

/// The lock on the folder, until this is dropped.
pub(super) struct Lock(pub(super) File);

impl Drop for Lock {
    /// Closing the file would not be enough: a child that another thread has just forked has it open as well until it
    /// becomes its program, and the lock would be there for as long.
    fn drop(&mut self) {
        // Where there was no lock there is none to let go.
        let _ = self.0.unlock();
    }
}

impl RingChange {
    /// Locks and reads the ring at `path`, and clears away what a killed command has left beside it.
    pub(crate) fn begin(path: &Path) -> Result<Self, KeyRingError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => KeyRingError::Missing(path.to_owned()),
            _ => KeyRingError::Io { path: path.to_owned(), doing: "read", source },
        };
        let real = fs::canonicalize(path).map_err(failed)?;
        let folder = File::open(folder_of(&real)).map_err(failed)?;
        // A file system without locks has no second command either, as far as anybody can tell.
        if let Err(TryLockError::WouldBlock) = folder.try_lock() {
            return Err(KeyRingError::Busy(path.to_owned()));
        }
        let lock = Lock(folder);
        let ring = KeyRing::load(path)?;
        remove_drafts(&real);
        Ok(Self { ring, real, _lock: lock })
    }

    /// The ring as it is now.
    pub(crate) fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// A fresh key, for [`RingChange::add_next`].
    pub(crate) fn fresh_key() -> Result<RingKey, KeyRingError> {
        RingKey::random()
    }

    /// Adds a key that opens and does not seal yet.
    pub(crate) fn add_next(&mut self, key: RingKey, target: &RingTarget) -> Result<(), KeyRingError> {
        let id = key.id;
        let keys: Vec<&RingKey> = self.ring.keys.iter().chain([&key]).collect();
        self.write(&keys, Some(id), target)?;
        self.ring.keys.push(key);
        self.ring.next = Some(id);
        Ok(())
    }

    /// Makes the next key the one that seals.
    pub(crate) fn activate_next(&mut self, target: &RingTarget) -> Result<(), KeyRingError> {
        let Some(next) = self.ring.next else { return Ok(()) };
        let (first, rest): (Vec<&RingKey>, Vec<&RingKey>) = self.ring.keys.iter().partition(|key| key.id == next);
        let keys: Vec<&RingKey> = first.into_iter().chain(rest).collect();
        self.write(&keys, None, target)?;
        self.ring.keys.sort_by_key(|key| key.id != next);
        self.ring.next = None;
        Ok(())
    }

    /// Takes a key out that seals nothing any more.
    pub(crate) fn remove(&mut self, id: KeyId, target: &RingTarget) -> Result<(), KeyRingError> {
        let keys: Vec<&RingKey> = self.ring.keys.iter().filter(|key| key.id != id).collect();
        let next = self.ring.next.filter(|next| *next != id);
        self.write(&keys, next, target)?;
        self.ring.keys.retain(|key| key.id != id);
        self.ring.next = next;
        Ok(())
    }

    fn write(&self, keys: &[&RingKey], next: Option<KeyId>, target: &RingTarget) -> Result<(), KeyRingError> {
        match target {
            RingTarget::Elsewhere(file) => write_new(file, keys, next).map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => KeyRingError::Unfit(format!(
                    "{} exists already: if an earlier run wrote it, put it in the place of {}, and type the same command again",
                    file.display(),
                    self.ring.path.display()
                )),
                _ => KeyRingError::Io { path: file.clone(), doing: "written", source },
            }),
            RingTarget::StandardOutput => write_to(&mut io::stdout().lock(), keys, next)
                .map_err(|source| KeyRingError::Unfit(format!("the new key ring cannot be written to standard output: {source}"))),
            RingTarget::InPlace => self.replace(keys, next).map_err(|source| {
                let path = self.ring.path.clone();
                match source.kind() {
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::ResourceBusy => {
                        KeyRingError::ReadOnly { path, source }
                    }
                    _ => KeyRingError::Io { path, doing: "written", source },
                }
            }),
        }
    }

    fn replace(&self, keys: &[&RingKey], next: Option<KeyId>) -> io::Result<()> {
        // Somebody may have put another ring there by hand; none of its keys may get lost.
        let there = KeyRing::load(&self.real).map_err(io::Error::other)?;
        if !there.same_as(&self.ring) {
            return Err(io::Error::other("it was changed by somebody else meanwhile: type the same command again"));
        }
        let before = fs::metadata(&self.real)?;
        let mut name = self.real.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", RingKey::random().map_err(io::Error::other)?.id));
        let draft = folder_of(&self.real).join(name);
        let written = write_new(&draft, keys, next).and_then(|()| {
            let after = fs::metadata(&draft)?;
            if (after.uid(), after.gid()) != (before.uid(), before.gid()) {
                std::os::unix::fs::chown(&draft, Some(before.uid()), Some(before.gid()))?;
            }
            fs::set_permissions(&draft, fs::Permissions::from_mode(before.mode() & 0o640))?;
            fs::rename(&draft, &self.real)?;
            File::open(folder_of(&self.real))?.sync_all()
        });
        if written.is_err() {
            // Gone already when only the last step failed.
            let _ = fs::remove_file(&draft);
        }
        written
    }
}

/// Removes drafts of a command that was killed: they hold keys.
fn remove_drafts(ring: &Path) {
    let Some(name) = ring.file_name().and_then(|name| name.to_str()) else { return };
    let is_draft = |file: &str| {
        file.strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('.'))
            .and_then(|rest| rest.strip_suffix(".new"))
            .is_some_and(|id| id.len() == 16 && id.bytes().all(|digit| digit.is_ascii_hexdigit()))
    };
    for entry in fs::read_dir(folder_of(ring)).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_draft) && fs::remove_file(entry.path()).is_err() {
            tracing::warn!(file = %entry.path().display(), "a draft of the key ring that holds keys could not be removed");
        }
    }
}
