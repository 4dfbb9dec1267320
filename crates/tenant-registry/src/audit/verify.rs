//! Walking the chains: whatever was altered, taken out, moved or cut off is found. The checking is pure; rows go in
//! one after the other, so that memory stays flat whatever the length of the log.

use std::collections::BTreeMap;
use std::fmt;

use domain::TenantId;
use futures_util::TryStreamExt as _;
use serde::Serialize;
use uuid::Uuid;

use crate::admin::AdminError;
use crate::audit::{AuditHead, hash};
use crate::registry::Registry;
use crate::store;
use crate::store::audit::EntryRow;

/// How many findings are told apart; beyond, they are counted.
const TOLD: usize = 100;

/// One thing that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whose chain.
    pub tenant: TenantId,
    /// Which entry.
    pub seq: i64,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenant, seq, problem } = self;
        if tenant.0.is_nil() { write!(f, "installation, entry {seq}: {problem}") } else { write!(f, "{tenant}, entry {seq}: {problem}") }
    }
}

/// What walking all chains has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Entries that were read.
    pub entries: u64,
    /// Chains that they form.
    pub chains: u64,
    /// How much was found.
    pub problems: u64,
    /// The first hundred of it.
    pub findings: Vec<Finding>,
}

/// Where the walk stands in a chain.
struct Standing {
    tenant: Uuid,
    seq: i64,
    hash: Vec<u8>,
}

/// Takes entries in the order of tenant and number.
pub(super) struct Walk {
    result: Verified,
    at: Option<Standing>,
    /// The end of each chain as the database has it.
    heads: BTreeMap<Uuid, (i64, Vec<u8>)>,
    /// Heads that were kept elsewhere and not met yet.
    kept: BTreeMap<Uuid, BTreeMap<i64, Vec<u8>>>,
}

impl Walk {
    pub(super) fn new(heads: impl IntoIterator<Item = (Uuid, i64, Vec<u8>)>, kept: &[AuditHead]) -> Self {
        let mut by_tenant: BTreeMap<Uuid, BTreeMap<i64, Vec<u8>>> = BTreeMap::new();
        // A head of nothing says nothing.
        for head in kept.iter().filter(|head| head.seq > 0) {
            by_tenant.entry(head.tenant.0).or_default().insert(head.seq, head.hash.clone());
        }
        let heads = heads.into_iter().map(|(tenant, seq, hash)| (tenant, (seq, hash))).collect();
        Self { result: Verified::default(), at: None, heads, kept: by_tenant }
    }

    pub(super) fn take(&mut self, entry: EntryRow) {
        self.result.entries += 1;
        if self.at.as_ref().is_none_or(|at| at.tenant != entry.tenant) {
            self.end_chain();
            self.result.chains += 1;
            self.at = Some(Standing { tenant: entry.tenant, seq: 0, hash: vec![0; 32] });
        }
        let (seq, before) = self.at.as_ref().map(|at| (at.seq, at.hash.clone())).unwrap_or_default();
        let (tenant, number) = (entry.tenant, entry.seq);
        if number != seq + 1 {
            let missing = if number == seq + 2 { format!("entry {}", seq + 1) } else { format!("entries {} to {}", seq + 1, number - 1) };
            self.found(tenant, number, format!("{missing} before it are missing"));
        }
        if entry.previous != before {
            self.found(tenant, number, "it does not follow the entry before it: one of the two was altered, moved or put in".to_owned());
        }
        match entry.at {
            Some(at) if hash(&entry, at)[..] == entry.hash => {}
            _ => self.found(tenant, number, "it was altered: its hash is another one".to_owned()),
        }
        if let Some(kept) = self.kept.get_mut(&tenant).and_then(|kept| kept.remove(&number))
            && kept != entry.hash
        {
            self.found(tenant, number, "it is not the entry whose head was kept: the chain was written anew".to_owned());
        }
        self.at = Some(Standing { tenant, seq: number, hash: entry.hash });
    }

    /// Compares the end of the chain that was walked with what the database says is its end.
    fn end_chain(&mut self) {
        let Some(at) = self.at.take() else { return };
        match self.heads.remove(&at.tenant) {
            None => self.found(at.tenant, at.seq, "the head of this chain is missing".to_owned()),
            Some((seq, _)) if seq > at.seq => self.found(at.tenant, at.seq, format!("the entries after it, up to {seq}, are cut off")),
            Some((seq, hash)) if seq < at.seq || hash != at.hash => {
                self.found(at.tenant, at.seq, format!("the head of this chain, {seq}, is not its last entry"));
            }
            Some(_) => {}
        }
    }

    pub(super) fn end(mut self) -> Verified {
        self.end_chain();
        for (tenant, (seq, hash)) in std::mem::take(&mut self.heads) {
            if seq != 0 || hash != [0; 32] {
                self.found(tenant, seq, "this entry and all before it are missing".to_owned());
            }
        }
        for (tenant, kept) in std::mem::take(&mut self.kept) {
            for seq in kept.into_keys() {
                self.found(tenant, seq, "this entry is missing, although its head was kept: the chain was cut".to_owned());
            }
        }
        self.result
    }

    fn found(&mut self, tenant: Uuid, seq: i64, problem: String) {
        self.result.problems += 1;
        if self.result.findings.len() < TOLD {
            self.result.findings.push(Finding { tenant: TenantId(tenant), seq, problem });
        }
    }
}

impl Registry {
    /// Walks the audit log, all of it or that of one tenant, and compares it with heads that were kept elsewhere.
    ///
    /// # Errors
    /// When the database cannot be asked. That something was found is no error.
    pub async fn verify_audit(&self, tenant: Option<TenantId>, kept: &[AuditHead]) -> Result<Verified, AdminError> {
        // One view of the database for the entries and their heads, however long it takes.
        let mut tx = self.pool.begin_with("begin isolation level repeatable read read only").await?;
        let heads = store::audit::heads(&mut *tx, tenant).await?;
        let kept: Vec<AuditHead> = kept.iter().filter(|head| tenant.is_none_or(|tenant| tenant == head.tenant)).cloned().collect();
        let mut walk = Walk::new(heads, &kept);
        let mut entries = store::audit::stream(&mut *tx, tenant);
        while let Some(entry) = entries.try_next().await? {
            walk.take(entry);
        }
        drop(entries);
        tx.commit().await?;
        Ok(walk.end())
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
