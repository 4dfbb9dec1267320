//! Who runs the server: ourselves, or, when we are root, somebody with fewer rights.
//!
//! Postgres refuses to run as root. When we are root, the owner of an existing data folder runs it, so
//! that the same folder can be used with and without root; a new folder goes to `postgres`, or to
//! `nobody` where that user is missing. That user must be able to walk down to the folder, which is
//! checked beforehand: Postgres itself would only say "permission denied" and not where.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::StartError;

/// The user that the server runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// The one we are.
    Ourselves,
    /// Another one; we are root and may become anybody.
    Other {
        /// The name, for messages.
        name: String,
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
}

impl Account {
    /// Decides for the data folder `data`, which need not exist yet.
    pub(crate) fn for_data(data: &Path) -> Result<Self, StartError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Ourselves);
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let owner = fs::metadata(data).ok().map(|data| (data.uid(), data.gid()));
        choose(&passwd, owner).ok_or(StartError::NoAccount)
    }

    /// Whether it is somebody else than ourselves.
    pub(crate) fn is_other(&self) -> bool {
        matches!(self, Self::Other { .. })
    }

    /// The user's id.
    pub(crate) fn uid(&self) -> u32 {
        match self {
            Self::Ourselves => rustix::process::geteuid().as_raw(),
            Self::Other { uid, .. } => *uid,
        }
    }

    /// Makes the child run as this user. Supplementary groups are dropped by the standard library.
    pub(crate) fn apply(&self, command: &mut Command) {
        if let Self::Other { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
    }

    /// Hands a file or folder over; a link itself, never what it points to.
    pub(crate) fn own(&self, path: &Path) -> Result<(), StartError> {
        let Self::Other { uid, gid, .. } = self else { return Ok(()) };
        lchown(path, Some(*uid), Some(*gid)).map_err(StartError::files("hand over", path))
    }

    /// Hands over a folder with all that is in it: a data folder that root unpacked from a backup.
    pub(crate) fn own_all(&self, path: &Path) -> Result<(), StartError> {
        self.own(path)?;
        if !fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
            return Ok(());
        }
        for entry in fs::read_dir(path).map_err(StartError::files("read the folder", path))? {
            self.own_all(&entry.map_err(StartError::files("read the folder", path))?.path())?;
        }
        Ok(())
    }

    /// Checks that the user can enter every folder down to and including `goal`.
    pub(crate) fn check_way(&self, goal: &Path) -> Result<(), StartError> {
        let Self::Other { name, uid, gid } = self else { return Ok(()) };
        let Some(blocked) = closed_folder(goal, *uid, *gid) else { return Ok(()) };
        // Mode bits name the culprit; whether it really is closed is asked of the kernel, since access
        // lists may grant what the bits do not.
        let mut probe = Command::new("/bin/sh");
        self.apply(probe.args(["-c", ":"]).current_dir(goal));
        if probe.status().is_ok() {
            return Ok(());
        }
        Err(StartError::Untraversable { blocked, goal: goal.to_owned(), user: name.clone() })
    }
}

/// The user by what /etc/passwd says and by who owns the data folder, if there is one.
fn choose(passwd: &str, owner: Option<(u32, u32)>) -> Option<Account> {
    let users: Vec<(&str, u32, u32)> = passwd.lines().filter_map(passwd_line).collect();
    if let Some((uid, gid)) = owner.filter(|(uid, _)| *uid != 0) {
        let name = users.iter().find(|user| user.1 == uid).map_or_else(|| format!("number {uid}"), |user| user.0.to_owned());
        return Some(Account::Other { name, uid, gid });
    }
    let wanted = ["postgres", "_postgres", "nobody"];
    let (name, uid, gid) = wanted.iter().find_map(|wanted| users.iter().find(|user| user.0 == *wanted && user.1 != 0))?;
    Some(Account::Other { name: (*name).to_owned(), uid: *uid, gid: *gid })
}

fn passwd_line(line: &str) -> Option<(&str, u32, u32)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some((name, uid, gid))
}

/// The first folder from the root down to `goal` whose mode bits do not let this user through.
fn closed_folder(goal: &Path, uid: u32, gid: u32) -> Option<PathBuf> {
    let mut way: Vec<&Path> = goal.ancestors().collect();
    way.reverse();
    way.into_iter()
        .find(|folder| fs::metadata(folder).is_ok_and(|found| !may_enter(found.mode(), found.uid(), found.gid(), uid, gid)))
        .map(Path::to_owned)
}

fn may_enter(mode: u32, owner: u32, group: u32, uid: u32, gid: u32) -> bool {
    // The kernel looks at one triple only: the owner's counts even where others may do more.
    let bit = if owner == uid {
        0o100
    } else if group == gid {
        0o010
    } else {
        0o001
    };
    mode & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/usr/sbin/nologin\nalice:x:1000:1001::/home/alice:/bin/sh\n";

    fn other(name: &str, uid: u32, gid: u32) -> Option<Account> {
        Some(Account::Other { name: name.into(), uid, gid })
    }

    #[test]
    fn a_new_folder_goes_to_postgres_and_to_nobody_where_there_is_no_such_user() {
        let with_postgres = format!("{PASSWD}postgres:x:101:104::/var/lib/postgresql:/bin/bash\n");
        assert_eq!(choose(&with_postgres, None), other("postgres", 101, 104));
        assert_eq!(choose(PASSWD, None), other("nobody", 65534, 65534));
        assert_eq!(choose("", None), None);
        assert_eq!(choose("postgres:x:0:0::/:/bin/sh\n", None), None, "a postgres that is root would be refused, too");
    }

    #[test]
    fn an_existing_folder_is_run_by_its_owner_unless_that_is_root() {
        assert_eq!(choose(PASSWD, Some((1000, 1001))), other("alice", 1000, 1001));
        assert_eq!(choose(PASSWD, Some((7, 8))), other("number 7", 7, 8));
        assert_eq!(choose(PASSWD, Some((0, 0))), other("nobody", 65534, 65534));
    }

    #[test]
    fn one_triple_of_the_mode_decides() {
        assert!(may_enter(0o711, 0, 0, 101, 104));
        assert!(!may_enter(0o700, 0, 0, 101, 104));
        assert!(may_enter(0o710, 0, 104, 101, 104));
        assert!(!may_enter(0o701, 0, 104, 101, 104));
        assert!(!may_enter(0o077, 101, 104, 101, 104));
    }
}
