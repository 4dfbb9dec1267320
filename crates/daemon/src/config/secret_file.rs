//! Reading a secret from its file, and refusing a file that others can read.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Why a secret file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretFileError {
    /// It cannot be read at all.
    #[error("cannot read {what} from {path}: {source}", path = .path.display())]
    Unreadable {
        /// What the file should hold.
        what: &'static str,
        /// Its name.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others on this machine can read it.
    #[error("{path} holds {what} and can be read by others (mode {mode:03o}); type: chmod 600 {path}", path = .path.display())]
    ReadableByOthers {
        /// What the file holds.
        what: &'static str,
        /// Its name.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds nothing.
    #[error("{path} is empty; it should hold {what}", path = .path.display())]
    Empty {
        /// What the file should hold.
        what: &'static str,
        /// Its name.
        path: PathBuf,
    },
}

impl SecretFileError {
    /// Whether the machine is at fault rather than the file: too many open files, no memory.
    pub(crate) fn is_passing(&self) -> bool {
        use io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound, PermissionDenied};
        match self {
            Self::Unreadable { source, .. } => {
                !matches!(source.kind(), NotFound | PermissionDenied | IsADirectory | NotADirectory | InvalidData)
            }
            Self::ReadableByOthers { .. } | Self::Empty { .. } => false,
        }
    }
}

/// Reads the first line of a secret file; trailing line ends are not part of the secret.
///
/// # Errors
/// When it cannot be read, when group or others may read it, or when it is empty.
pub(crate) fn read_secret_file(path: &Path, what: &'static str) -> Result<Zeroizing<String>, SecretFileError> {
    let unreadable = |source| SecretFileError::Unreadable { what, path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(unreadable)?.mode() & 0o777;
    // Group-read is what a mounted Kubernetes secret with fsGroup looks like; anybody's read is not.
    if mode & 0o007 != 0 {
        return Err(SecretFileError::ReadableByOthers { what, path: path.to_owned(), mode });
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(unreadable)?);
    let secret = text.trim_end_matches(['\n', '\r']);
    if secret.is_empty() {
        return Err(SecretFileError::Empty { what, path: path.to_owned() });
    }
    Ok(Zeroizing::new(secret.to_owned()))
}

/// What is allowed but unwise about a secret file, in a sentence: its group may read it.
pub(crate) fn shared_with_group(path: &Path, what: &str) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.mode() & 0o777;
    // systemd shows the mask of an access list in the group bits of a credential.
    (mode & 0o070 != 0 && !path.starts_with("/run/credentials")).then(|| {
        let path = path.display();
        format!("{path} holds {what} and may be read by its group (mode {mode:03o}); unless that is meant, type: chmod 600 {path}")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_the_machine_lacks_now_is_no_fault_of_the_file() {
        const TOO_MANY_OPEN_FILES: i32 = 24;
        let unreadable = |source| SecretFileError::Unreadable { what: "a test", path: PathBuf::from("/x"), source };
        assert!(unreadable(io::Error::from_raw_os_error(TOO_MANY_OPEN_FILES)).is_passing());
        assert!(!read_secret_file(Path::new("/nowhere/at/all"), "a test").unwrap_err().is_passing());
        assert!(!read_secret_file(Path::new("/"), "a test").unwrap_err().is_passing());
        assert!(!read_secret_file(file("", 0o600).path(), "a test").unwrap_err().is_passing());
    }

    fn file(content: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn the_line_end_is_not_part_of_the_secret() {
        assert_eq!(read_secret_file(file("s3cret \r\n", 0o600).path(), "a secret").unwrap().as_str(), "s3cret ");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        let file = file("s3cret", 0o644);
        let sentence = read_secret_file(file.path(), "a secret").unwrap_err().to_string();
        assert!(sentence.contains("mode 644") && sentence.contains("chmod 600"), "{sentence}");
        assert!(!sentence.contains("s3cret"));
    }

    #[test]
    fn a_file_that_its_group_can_read_is_taken_with_a_warning() {
        let file = file("s3cret", 0o640);
        assert_eq!(read_secret_file(file.path(), "a secret").unwrap().as_str(), "s3cret");
        let warning = shared_with_group(file.path(), "a secret").unwrap();
        assert!(warning.contains("mode 640") && warning.contains("chmod 600"), "{warning}");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(shared_with_group(file.path(), "a secret"), None);
    }

    #[test]
    fn an_empty_or_missing_file_is_named() {
        assert!(read_secret_file(file("\n", 0o600).path(), "a secret").unwrap_err().to_string().contains("is empty"));
        assert!(read_secret_file(Path::new("/nonexistent/x"), "a secret").unwrap_err().to_string().contains("/nonexistent/x"));
    }
}
