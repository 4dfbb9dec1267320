//! Reading the audit log: entries for people, and heads for keeping off the host.

use std::fmt::Write as _;

use domain::TenantId;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::admin::AdminError;
use crate::audit::{INSTALLATION, append};
use crate::registry::Registry;
use crate::store;

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct AuditEntry {
    /// To which tenant; the nil id stands for the installation.
    #[serde(rename = "directory_id")]
    pub tenant: TenantId,
    /// Counted from 1, per tenant.
    pub seq: i64,
    /// When, by the clock of the database.
    pub at: Option<Timestamp>,
    /// By whom.
    pub actor: String,
    /// What.
    pub action: String,
    /// More about it.
    pub details: Value,
}

/// The end of a chain: whoever keeps it elsewhere notices later that the chain was cut or written anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditHead {
    /// Whose chain; the nil id stands for the installation.
    #[serde(rename = "directory_id")]
    pub tenant: TenantId,
    /// The number of its last entry.
    pub seq: i64,
    /// The hash of its last entry.
    #[serde(serialize_with = "as_hex")]
    pub hash: Vec<u8>,
}

fn as_hex<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

impl AuditHead {
    /// The line in which a head is kept: tenant, number, hash.
    pub fn to_line(&self) -> String {
        format!("{} {} {}", self.tenant, self.seq, hex::encode(&self.hash))
    }

    /// Reads such lines; blank ones and what follows a `#` are passed over.
    ///
    /// # Errors
    /// When a line is none, with its number.
    pub fn parse_lines(text: &str) -> Result<Vec<Self>, String> {
        let mut heads = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let mut words = line.split_whitespace();
            let parsed = (|| {
                let tenant = Uuid::try_parse(words.next()?).ok()?;
                let seq = words.next()?.parse().ok()?;
                let hash = hex::decode(words.next()?).ok().filter(|hash| hash.len() == 32)?;
                words.next().is_none().then_some(Self { tenant: TenantId(tenant), seq, hash })
            })();
            heads
                .push(parsed.ok_or_else(|| {
                    format!("line {} is no head: expected a directory id, a number and 64 hexadecimal digits", index + 1)
                })?);
        }
        Ok(heads)
    }
}

/// One short word for all heads together: it changes whenever any chain grows.
pub(crate) fn digest(heads: &[AuditHead]) -> String {
    let mut lines = String::new();
    for head in heads {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{}", head.to_line());
    }
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, lines.as_bytes()))
}

impl Registry {
    /// The newest entries, the last one last; of one tenant, or of all and the installation.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn audit_entries(&self, tenant: Option<TenantId>, limit: i64) -> Result<Vec<AuditEntry>, AdminError> {
        let rows = store::audit::newest(&self.pool, tenant, limit).await?;
        let entries = rows.into_iter().map(|row| AuditEntry {
            tenant: TenantId(row.tenant),
            seq: row.seq,
            at: row.at,
            actor: row.actor,
            action: row.action,
            // What is no JSON any more was altered, and is shown as it is.
            details: serde_json::from_str(&row.details).unwrap_or(Value::String(row.details)),
        });
        Ok(entries.collect())
    }

    /// The end of every chain.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn audit_heads(&self, tenant: Option<TenantId>) -> Result<Vec<AuditHead>, AdminError> {
        let rows = store::audit::heads(&self.pool, tenant).await?;
        Ok(rows.into_iter().map(|(tenant, seq, hash)| AuditHead { tenant: TenantId(tenant), seq, hash }).collect())
    }

    /// Writes down which keys are in use, when they are others than were last written down: a ring is a file, and
    /// what is done to a file is seen only afterwards.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn note_ring(&self) -> Result<(), AdminError> {
        const ACTION: &str = "key.ring";
        let ids: Vec<String> = self.vault()?.key_ids().iter().map(ToString::to_string).collect();
        let details = serde_json::json!({ "keys": ids });
        let mut tx = store::begin(&self.pool).await?;
        store::audit::lock_head(&mut tx, INSTALLATION).await?;
        if store::audit::last_details(&mut tx, INSTALLATION, ACTION).await? == Some(details.to_string()) {
            return Ok(());
        }
        append(&mut tx, INSTALLATION, self.actor(), ACTION, &details).await?;
        tx.commit().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_out_of_its_line_and_anything_else_is_named() {
        let head = AuditHead { tenant: TenantId(Uuid::from_u128(7)), seq: 12, hash: vec![9; 32] };
        let file = format!("# kept on Monday\n\n{}\n", head.to_line());
        assert_eq!(AuditHead::parse_lines(&file).unwrap(), std::slice::from_ref(&head));
        for wrong in ["x", "1 2 3", &head.to_line()[..90], &format!("{} more", head.to_line())] {
            assert!(AuditHead::parse_lines(&format!("\n{wrong}")).unwrap_err().contains("line 2"), "{wrong}");
        }
        assert_ne!(digest(std::slice::from_ref(&head)), digest(&[AuditHead { seq: 13, ..head }]));
    }
}
