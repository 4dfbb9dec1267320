//! The key ring: the file whose keys seal the data keys of all tenants. Whoever has the database and
//! not this file has nothing; whoever loses this file loses every stored token.
//!
//! The file is text, one key a line, so that it can be read, copied and compared by a person:
//!
//! ```text
//! # first key seals, all open
//! tocsin-key-1 3f9c0d5b7a21e684 q0fJ…44 characters of base64…=
//! tocsin-key-1 91ab00c2d7743e5f 8sKq…44 characters of base64…= next
//! ```
//!
//! The id in the middle is derived from the key itself. A line that was cut, altered or glued
//! together from two others therefore does not pass, and is named by its number instead of sealing
//! something that nothing will ever open. Text after `#` at the start of a line is a comment.
//!
//! `next` marks the key that a rotation will make the first one: it opens and does not seal yet, so that it can
//! be brought to every replica before anything depends on it ([`change`] and the module `rotate`).
//!
//! Keys are held in memory that is wiped when dropped, and nothing here has a `Debug` that shows one.

pub(crate) mod change;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

const LINE_TAG: &str = "tocsin-key-1";
const KEY_BYTES: usize = 32;
/// Far more than a ring ever holds; a path to some other, huge file ends here.
const LARGEST_FILE: u64 = 64 * 1024;

/// The name of a key: 16 hexadecimal digits derived from the key, which tell nothing about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(crate) [u8; 8]);

impl KeyId {
    /// `context` keeps the ids of ring keys and of data keys apart.
    pub(crate) fn derive(context: &str, key: &[u8]) -> Self {
        let digest = blake3::derive_key(context, key);
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// One key of the ring.
pub(crate) struct RingKey {
    pub(crate) id: KeyId,
    pub(crate) bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl RingKey {
    fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self { id: KeyId::derive("tocsin 2026-08 ring key id", bytes.as_slice()), bytes }
    }

    fn random() -> Result<Self, KeyRingError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| KeyRingError::NoRandomness)?;
        Ok(Self::new(bytes))
    }

    fn to_line(&self, mark: &str) -> Zeroizing<String> {
        let encoded = Zeroizing::new(BASE64.encode(self.bytes.as_slice()));
        Zeroizing::new(format!("{LINE_TAG} {} {}{mark}\n", self.id, *encoded))
    }
}

/// All keys of this installation: the first seals, all open.
pub struct KeyRing {
    keys: Vec<RingKey>,
    /// The key that is to seal once every replica has it.
    next: Option<KeyId>,
    path: PathBuf,
    warning: Option<String>,
}

/// Ids only.
impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("ids", &self.ids()).finish_non_exhaustive()
    }
}

/// Why there is no key ring. Each is one sentence that says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    /// There is no such file.
    #[error("there is no key ring at {path}: create one with `tocsin key init`, or restore the file if tenants were imported before", path = .0.display())]
    Missing(PathBuf),
    /// `init` found a file and left it alone.
    #[error("{path} exists already and is left as it is, since its keys may be the only ones that open stored tokens", path = .0.display())]
    Exists(PathBuf),
    /// Others than the owner and the group may read it, or others than the owner may change it.
    #[error("the key ring {path} may be read or changed by others (mode {mode:03o}): type `chmod 600 {path}`", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is no key in it.
    #[error("the key ring {path} holds no key: restore it, or move it away and type `tocsin key init`", path = .0.display())]
    Empty(PathBuf),
    /// A line is no key.
    #[error("line {line} of the key ring {path} is not usable: {problem}; restore the file from its backup", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it; never the line itself.
        problem: &'static str,
    },
    /// Somebody else is changing it, or has changed it since it was read.
    #[error("the key ring {path} is being changed by another command: wait for that one to end, and try again", path = .0.display())]
    Busy(PathBuf),
    /// It lies where nothing can be written: a mounted secret, a credential of systemd.
    #[error(
        "the key ring {path} cannot be written ({source}): add `--write-ring FILE`, put that file in the place of the ring for every \
         replica, and type the same command again",
        path = path.display()
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// There is no such key in it, or it must stay.
    #[error("{0}")]
    Unfit(String),
    /// The operating system refused.
    #[error("the key ring {path} cannot be {doing}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        doing: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
}

impl KeyRing {
    /// Reads the ring at `path`.
    ///
    /// # Errors
    /// When the file is missing, open to others than its owner and group, empty, or has a line that is no key.
    pub fn load(path: &Path) -> Result<Self, KeyRingError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => KeyRingError::Missing(path.to_owned()),
            _ => KeyRingError::Io { path: path.to_owned(), doing: "read", source },
        };
        let file = File::open(path).map_err(failed)?;
        // Asked of the open file, so that nobody can exchange it between the look and the read.
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Err(failed(io::Error::other("it is not a file")));
        }
        if meta.len() > LARGEST_FILE {
            return Err(failed(io::Error::other("it is far too large for a key ring")));
        }
        let mode = meta.permissions().mode() & 0o777;
        if is_exposed(mode) {
            return Err(KeyRingError::Exposed { path: path.to_owned(), mode });
        }
        // Capacity for all of it, so that no copy is left behind by a growing buffer.
        let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 1));
        file.take(LARGEST_FILE).read_to_end(&mut text).map_err(failed)?;
        let mut ring = Self::parse(path, &text)?;
        if is_shared(path, mode) {
            ring.warning = Some(format!(
                "the key ring {path} may be read by its group (mode {mode:03o}); unless that is meant, type `chmod 600 {path}`",
                path = path.display()
            ));
        }
        Ok(ring)
    }

    /// What is allowed but unwise about the file, in a sentence.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Creates the ring at `path` with one fresh key, readable by its owner only.
    ///
    /// # Errors
    /// [`KeyRingError::Exists`] when anything is there already: a ring is never overwritten.
    pub fn init(path: &Path) -> Result<Self, KeyRingError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyRingError::Exists(path.to_owned()),
            _ => KeyRingError::Io { path: path.to_owned(), doing: "written", source },
        };
        if path.symlink_metadata().is_ok() {
            return Err(KeyRingError::Exists(path.to_owned()));
        }
        let key = RingKey::random()?;
        let folder = folder_of(path);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;

        let mut name = path.file_name().ok_or_else(|| failed(io::Error::other("it has no file name")))?.to_owned();
        name.push(format!(".{}.new", key.id));
        let draft = folder.join(name);
        write_new(&draft, &[&key], None).map_err(failed)?;
        // A hard link appears whole or not at all, and refuses to replace what is there: a rename would not refuse.
        let linked = fs::hard_link(&draft, path);
        let removed = fs::remove_file(&draft);
        linked.and(removed).and_then(|()| File::open(folder)?.sync_all()).map_err(failed)?;
        Ok(Self { keys: vec![key], next: None, path: path.to_owned(), warning: None })
    }

    fn parse(path: &Path, text: &[u8]) -> Result<Self, KeyRingError> {
        let mut keys: Vec<RingKey> = Vec::new();
        let mut next = None;
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let parsed = parse_line(line).and_then(|(key, is_next)| {
                if keys.iter().any(|known| known.id == key.id) {
                    Err("it repeats an earlier key")
                } else if is_next && keys.is_empty() {
                    Err("it is marked \"next\" and stands first, where the key that seals belongs")
                } else if is_next && next.is_some() {
                    Err("it is marked \"next\", and so is an earlier one")
                } else {
                    Ok((key, is_next))
                }
            });
            let (key, is_next) = parsed.map_err(|problem| KeyRingError::Line { path: path.to_owned(), line: index + 1, problem })?;
            next = if is_next { Some(key.id) } else { next };
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeyRingError::Empty(path.to_owned()));
        }
        Ok(Self { keys, next, path: path.to_owned(), warning: None })
    }

    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key that is to seal once every replica has it, while a rotation is under way.
    pub fn next_id(&self) -> Option<KeyId> {
        self.next
    }

    /// Whether two rings have the same keys in the same roles.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.ids() == other.ids() && self.next == other.next
    }

    /// The ids of all keys, the active one first.
    pub fn ids(&self) -> Vec<KeyId> {
        self.keys.iter().map(|key| key.id).collect()
    }

    /// The key that seals.
    pub fn active_id(&self) -> KeyId {
        self.active().id
    }

    pub(crate) fn active(&self) -> &RingKey {
        // A ring is only ever built with at least one key: see `parse` and `init`.
        &self.keys[0]
    }

    pub(crate) fn get(&self, id: KeyId) -> Option<&RingKey> {
        self.keys.iter().find(|key| key.id == id)
    }
}

/// Whether anybody may read or change the file, or its group may change it. Only reading is left to a group: that is
/// what a mounted secret of Kubernetes looks like.
fn is_exposed(mode: u32) -> bool {
    mode & 0o037 != 0
}

/// Whether a group may read the file.
fn is_shared(path: &Path, mode: u32) -> bool {
    // systemd gives a credential to the service's user by an access list, and then the group bits show
    // the mask of that list and not what a group may do.
    mode & 0o040 != 0 && !path.starts_with("/run/credentials")
}

/// Writes a ring to a file that must not exist yet, readable by its owner only, and waits until the disk has it.
fn write_new(file: &Path, keys: &[&RingKey], next: Option<KeyId>) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(file)?;
    write_to(&mut file, keys, next)?;
    file.sync_all()
}

fn write_to(place: &mut impl io::Write, keys: &[&RingKey], next: Option<KeyId>) -> io::Result<()> {
    place.write_all(b"# The key ring of tocsin. The first key seals, all open. Keep a copy in a safe place:\n")?;
    place.write_all(b"# without it, no stored refresh token can be opened again.\n")?;
    for key in keys {
        place.write_all(key.to_line(if next == Some(key.id) { " next" } else { "" }).as_bytes())?;
    }
    place.flush()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A key, and whether it is marked as the next one.
fn parse_line(line: &[u8]) -> Result<(RingKey, bool), &'static str> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (tag, id, encoded) = (words.next(), words.next(), words.next());
    if tag != Some(LINE_TAG.as_bytes()) {
        return Err("it does not begin with \"tocsin-key-1\"");
    }
    let (Some(id), Some(encoded)) = (id, encoded) else {
        return Err("it does not consist of a tag, an id and a key");
    };
    let is_next = match (words.next(), words.next()) {
        (None, _) => false,
        (Some(b"next"), None) => true,
        _ => return Err("it does not consist of a tag, an id and a key, with or without the word \"next\""),
    };
    let decoded = Zeroizing::new(BASE64.decode(encoded).map_err(|_| "its key is cut off or altered")?);
    let bytes: [u8; KEY_BYTES] = decoded.as_slice().try_into().map_err(|_| "its key has not 32 bytes")?;
    let key = RingKey::new(Zeroizing::new(bytes));
    if id == key.id.to_string().as_bytes() { Ok((key, is_next)) } else { Err("its id and its key do not belong together") }
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;
