//! What this host remembers of the audit log, so that a database that has gone back in time is noticed.
//!
//! After a restore, or a failover to a standby that lagged, all that was decided since is undone, and nothing within the
//! database shows it: a customer who was removed is back, with his token. The audit log only grows, though. So the end of
//! every chain is kept in a file beside the database; an end that is not in the log any more tells that the log is an
//! earlier one, and whose chains it lacks. What it lacks is moved to a second file, for `tocsin audit verify --heads`, and
//! written down in the log itself; from then on the present database is what is remembered.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use domain::TenantId;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use crate::admin::AdminError;
use crate::audit::{AuditHead, INSTALLATION, append};
use crate::registry::Registry;
use crate::store;
use crate::store::audit::End;

/// What is written down when the database has gone back.
pub(crate) const WENT_BACK: &str = "database.went-back";

const FILE: &str = "audit.heads";
/// What the database lacks, one look after the other.
const LOST: &str = "audit.heads.lost";
const SEEN_AT: &str = "# seen at ";
/// So many chains are named in one entry of the audit log.
const NAMED: usize = 1000;

/// The end of every chain, as it was when this host last looked.
#[derive(Debug)]
pub struct Memory {
    folder: PathBuf,
    /// What the log looked like when it was last written down.
    fingerprint: Option<Vec<u8>>,
}

/// Why nothing can be remembered.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The file cannot be read or written.
    #[error("{file}: {error}", file = file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The database cannot be asked, or refuses.
    #[error(transparent)]
    Database(#[from] AdminError),
}

impl From<sqlx::Error> for MemoryError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// A chain of which the database lacks what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostChain {
    /// Whose; the nil id stands for the installation.
    pub tenant: TenantId,
    /// The last that was seen done to it, such as `tenant.remove`.
    pub last: String,
}

/// The database is older than it was, or another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WentBack {
    /// When the later state was last seen.
    pub seen_at: Option<Timestamp>,
    /// What is lacking.
    pub lost: Vec<LostChain>,
}

impl WentBack {
    /// What was decided about the customers, in words: `tenant.remove 7d0…`, at most twenty.
    fn deeds(&self) -> String {
        const TOLD: usize = 20;
        let deeds = self.lost.iter().filter(|chain| chain.tenant != INSTALLATION);
        let mut told: Vec<_> = deeds.clone().take(TOLD).map(|chain| format!("{} {}", chain.last, chain.tenant)).collect();
        if deeds.clone().count() > TOLD {
            told.push(format!("and {} more", deeds.count() - TOLD));
        }
        told.join(", ")
    }

    /// Tells the log.
    pub fn tell(&self, memory: &Memory) {
        tracing::error!(
            seen_at = self.seen_at.map(tracing::field::display),
            chains = self.lost.len(),
            undone = self.deeds(),
            lacking = %memory.lost_file().display(),
            action = "you: do again what was decided since, removals first; tocsin doctor names them, and docs/how-to/restore-from-a-backup.md says how",
            "the database is older than it was when this host last saw it: what was decided since is undone, and whoever was removed since is back"
        );
    }
}

impl Memory {
    /// The one in this folder, `state_dir`.
    pub fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), fingerprint: None }
    }

    /// Where that is kept which the database lacks, for `tocsin audit verify --heads`.
    pub fn lost_file(&self) -> PathBuf {
        self.folder.join(LOST)
    }

    fn read(&self) -> Result<Option<Remembered>, MemoryError> {
        let file = self.folder.join(FILE);
        match fs::read_to_string(&file) {
            Ok(text) => {
                let remembered = Remembered::parse(&text);
                remembered.map(Some).map_err(|words| MemoryError::File { file, error: io::Error::other(words) })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(MemoryError::File { file, error }),
        }
    }

    /// Puts this in the place of what was remembered: at once or not at all.
    fn write(&self, remembered: &Remembered) -> Result<(), MemoryError> {
        let file = self.folder.join(FILE);
        // Two daemons of one folder, which share a database, do not write into each other's draft.
        let draft = self.folder.join(format!("{FILE}.{}", std::process::id()));
        let write = || {
            fs::create_dir_all(&self.folder)?;
            let mut open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            open.write_all(remembered.to_text().as_bytes())?;
            open.sync_all()?;
            fs::rename(&draft, &file)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|error| MemoryError::File { file: file.clone(), error })
    }

    fn keep_lost(&self, lost: &Remembered) -> Result<(), MemoryError> {
        let file = self.lost_file();
        let write = || {
            let mut open = OpenOptions::new().append(true).create(true).mode(0o600).open(&file)?;
            open.write_all(lost.to_text().as_bytes())?;
            open.sync_all()
        };
        write().map_err(|error| MemoryError::File { file: file.clone(), error })
    }
}

/// The content of the file: heads as `tocsin audit heads` prints them, each with the last deed behind a `#`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Remembered {
    seen_at: Option<Timestamp>,
    ends: Vec<End>,
}

impl Remembered {
    fn parse(text: &str) -> Result<Self, String> {
        let seen_at = text.lines().find_map(|line| line.strip_prefix(SEEN_AT)).and_then(|at| at.trim().parse().ok());
        let heads = AuditHead::parse_lines(text)?;
        let deeds = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let deeds = deeds.map(|line| line.split_once('#').map_or("", |(_, deed)| deed.trim()));
        let ends = heads.into_iter().zip(deeds).map(|(head, deed)| End {
            tenant: head.tenant.0,
            seq: head.seq,
            hash: head.hash,
            action: deed.to_owned(),
        });
        Ok(Self { seen_at, ends: ends.collect() })
    }

    fn to_text(&self) -> String {
        let mut lines = vec![format!("{SEEN_AT}{}", self.seen_at.map(|at| at.to_string()).unwrap_or_default())];
        lines.extend(self.ends.iter().map(|end| {
            let head = AuditHead { tenant: TenantId(end.tenant), seq: end.seq, hash: end.hash.clone() };
            format!("{}  # {}", head.to_line(), end.action)
        }));
        lines.join("\n") + "\n"
    }

    /// The same, with these chains only.
    fn only(&self, tenants: &[Uuid]) -> Self {
        let ends = self.ends.iter().filter(|end| tenants.contains(&end.tenant)).cloned().collect();
        Self { seen_at: self.seen_at, ends }
    }

    fn went_back(&self) -> WentBack {
        let lost = self.ends.iter().map(|end| LostChain { tenant: TenantId(end.tenant), last: end.action.clone() });
        WentBack { seen_at: self.seen_at, lost: lost.collect() }
    }
}

impl Registry {
    /// Whether the database lacks what this host has seen in it. Writes nothing.
    ///
    /// # Errors
    /// When the file cannot be read or the database not be asked.
    pub async fn went_back(&self, memory: &Memory) -> Result<Option<WentBack>, MemoryError> {
        Ok(self.lost(memory).await?.map(|lost| lost.went_back()))
    }

    async fn lost(&self, memory: &Memory) -> Result<Option<Remembered>, MemoryError> {
        let Some(remembered) = memory.read()? else { return Ok(None) };
        let lost = store::audit::lacking(&self.pool, &remembered.ends).await?;
        Ok((!lost.is_empty()).then(|| remembered.only(&lost)))
    }

    /// Remembers where the audit log stands now; answers what the database lacks of what was remembered before, which is
    /// written down then. Cheap when nothing has changed.
    ///
    /// # Errors
    /// When the file cannot be read or written, or the database refuses. What was remembered stays then.
    pub async fn remember(&self, memory: &mut Memory) -> Result<Option<WentBack>, MemoryError> {
        let (fingerprint, seen_at) = store::audit::fingerprint(&self.pool).await?;
        if memory.fingerprint.as_ref() == Some(&fingerprint) {
            return Ok(None);
        }
        let lost = self.lost(memory).await?;
        let went_back = match &lost {
            Some(lost) => {
                memory.keep_lost(lost)?;
                let went_back = lost.went_back();
                self.write_down(&went_back).await?;
                Some(went_back)
            }
            None => None,
        };
        let ends = store::audit::ends(&self.pool).await?;
        memory.write(&Remembered { seen_at: Some(seen_at), ends })?;
        // What was added between the two questions is asked for again.
        memory.fingerprint = went_back.is_none().then_some(fingerprint);
        Ok(went_back)
    }

    /// Once, by whichever of the daemons that share this folder comes first.
    async fn write_down(&self, went_back: &WentBack) -> Result<(), AdminError> {
        let lacks = went_back.lost.iter().take(NAMED).map(|chain| json!({ "directory_id": chain.tenant, "last": chain.last }));
        let details = json!({ "seen_at": went_back.seen_at, "chains": went_back.lost.len(), "lacks": lacks.collect::<Vec<_>>() });
        let mut tx = store::begin(&self.pool).await?;
        store::audit::lock_head(&mut tx, INSTALLATION).await?;
        if store::audit::last_details(&mut tx, INSTALLATION, WENT_BACK).await? == Some(details.to_string()) {
            return Ok(());
        }
        append(&mut tx, INSTALLATION, self.actor(), WENT_BACK, &details).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The last time that the database was found to have gone back, if that was within these days, with the chains that
    /// nothing was written into since: what is still to be decided again.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn still_undone(&self, days: i32) -> Result<Option<WentBack>, AdminError> {
        let rows = store::audit::still_undone(&self.pool, INSTALLATION, WENT_BACK, days).await?;
        let seen_at = rows.first().and_then(|row| row.0.as_deref()).and_then(|at| at.parse().ok());
        let lost: Vec<_> = rows.into_iter().map(|(_, tenant, last)| LostChain { tenant: TenantId(tenant), last }).collect();
        Ok((!lost.is_empty()).then_some(WentBack { seen_at, lost }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_comes_back_and_can_be_given_to_audit_verify() {
        let end = |tenant, action: &str| End { tenant: Uuid::from_u128(tenant), seq: 3, hash: vec![7; 32], action: action.to_owned() };
        let remembered =
            Remembered { seen_at: Some(Timestamp::UNIX_EPOCH), ends: vec![end(0, "key.rotate"), end(9, "tenant.remove"), end(10, "")] };
        let text = remembered.to_text();
        assert_eq!(Remembered::parse(&text).unwrap(), remembered, "{text}");
        assert_eq!(AuditHead::parse_lines(&text).unwrap().len(), 3);
        assert_eq!(remembered.only(&[Uuid::from_u128(9)]).ends, [end(9, "tenant.remove")]);
        assert!(Remembered::parse("rubbish").is_err());
    }
}
