//! Using a server that another process runs.

use std::io;
use std::path::{Path, PathBuf};

use crate::folder::{self, Folder};
use crate::leftover::PostmasterPid;

/// A server that another process runs. It may end at any moment: that process does not know of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The address, as [`crate::LocalPostgres::url`].
    pub url: String,
    /// The process that runs the server (not the server itself).
    pub pid: u32,
    /// What it runs it for, in its own words.
    pub purpose: String,
}

/// Why a folder's server cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// It is on its way up or down.
    #[error("\"{purpose}\" (process {pid}) is starting or stopping the Postgres in {}; try again in a moment", .folder.display())]
    NotReady {
        /// The process that runs it.
        pid: u32,
        /// What for.
        purpose: String,
        /// The folder.
        folder: PathBuf,
    },
    /// The folder cannot be looked into.
    #[error("cannot see whether a Postgres runs in {}: {reason}; use the account that runs it, or root", .folder.display())]
    Unreadable {
        /// The folder.
        folder: PathBuf,
        /// The operating system's reason.
        reason: io::Error,
    },
}

/// Finds the server that another process runs in `folder`; `None` if nobody runs one.
///
/// # Errors
///
/// When the server is not ready yet, or the folder cannot be read.
pub fn attach(folder: &Path) -> Result<Option<Attached>, AttachError> {
    let unreadable = |reason| AttachError::Unreadable { folder: folder.to_owned(), reason };
    let found = match Folder::existing(folder) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let Some(holder) = found.holder().map_err(unreadable)? else { return Ok(None) };
    match PostmasterPid::read(&found.data()) {
        Some(PostmasterPid { socket_folder: Some(socket_folder), is_ready: true, .. }) => {
            Ok(Some(Attached { url: folder::url(&socket_folder), pid: holder.pid, purpose: holder.purpose }))
        }
        _ => Err(AttachError::NotReady { pid: holder.pid, purpose: holder.purpose, folder: folder.to_owned() }),
    }
}
