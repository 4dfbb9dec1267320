//! `tocsin audit …`: who did what, whether that is still what was written, and what to keep elsewhere.

use tenant_registry::{AuditHead, Registry};

use super::Setting;
use crate::cli::Audit;
use crate::failure::{Exit, Failure};
use crate::output::printable;

/// Reads or checks the audit log.
pub(super) async fn run(setting: &Setting, command: Audit) -> Result<(), Failure> {
    let name = match &command {
        Audit::List { .. } => "audit list",
        Audit::Verify { .. } => "audit verify",
        Audit::Heads => "audit heads",
    };
    let database = setting.database(name).await?;
    let registry = Registry::without_keys(database.pool.clone());
    let result = match command {
        Audit::List { tenant, limit } => list(setting, &registry, tenant, limit).await,
        Audit::Verify { tenant, heads } => verify(setting, &registry, tenant, heads).await,
        Audit::Heads => heads(setting, &registry).await,
    };
    database.close().await;
    result
}

async fn list(setting: &Setting, registry: &Registry, tenant: Option<String>, limit: u32) -> Result<(), Failure> {
    let tenant = named(registry, tenant).await?;
    let entries = registry.audit_entries(tenant, limit.into()).await.map_err(super::tenant::failure)?;
    if entries.is_empty() && !setting.output.json {
        setting.output.note("nothing has been done yet");
    }
    setting.output.rows(&["AT", "TENANT", "ENTRY", "WHO", "WHAT", "DETAILS"], &entries, |entry| {
        vec![
            entry.at.map(|at| format!("{at:.0}")).unwrap_or_default(),
            if entry.tenant.0.is_nil() { "-".to_owned() } else { entry.tenant.to_string() },
            entry.seq.to_string(),
            entry.actor.clone(),
            entry.action.clone(),
            entry.details.to_string(),
        ]
    })
}

async fn verify(setting: &Setting, registry: &Registry, tenant: Option<String>, file: Option<std::path::PathBuf>) -> Result<(), Failure> {
    let kept = match &file {
        None => Vec::new(),
        Some(file) => {
            let unusable = |error: String| Failure::new(Exit::Failed, format!("cannot use the heads in {}: {error}", file.display()));
            let text = std::fs::read_to_string(file).map_err(|error| unusable(error.to_string()))?;
            AuditHead::parse_lines(&text).map_err(unusable)?
        }
    };
    let tenant = named(registry, tenant).await?;
    let verified = registry.verify_audit(tenant, &kept).await.map_err(super::tenant::failure)?;
    if setting.output.json {
        setting.output.document(&verified)?;
    } else {
        for finding in &verified.findings {
            setting.output.line(&printable(&finding.to_string()))?;
        }
    }
    match verified.problems {
        0 if setting.output.json => Ok(()),
        0 => setting.output.line(&format!("{} entries in {} chains are as they were written", verified.entries, verified.chains)),
        count => Err(Failure::new(
            Exit::ConditionTrue,
            format!(
                "the audit log is not as it was written: {}; compare with a backup, and with the digests in the daemons' logs",
                if count == 1 { "1 finding".to_owned() } else { format!("{count} findings") }
            ),
        )),
    }
}

async fn heads(setting: &Setting, registry: &Registry) -> Result<(), Failure> {
    let heads = registry.audit_heads(None).await.map_err(super::tenant::failure)?;
    if setting.output.json {
        return setting.output.document(&heads);
    }
    heads.iter().try_for_each(|head| setting.output.line(&head.to_line()))
}

async fn named(registry: &Registry, tenant: Option<String>) -> Result<Option<domain::TenantId>, Failure> {
    match tenant {
        None => Ok(None),
        Some(tenant) => Ok(Some(registry.find(&tenant).await.map_err(super::tenant::failure)?.id)),
    }
}

/// Who types, as the audit log names him: the login of this process, the person behind `sudo`, and the machine.
pub(super) fn actor(sudo_user: Option<String>) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = uid_in(&status).unwrap_or_default();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let user = login_of(&uid, &users).unwrap_or_else(|| format!("uid {uid}"));
    // Whoever may become root may say here what he likes, so this is a hint and no proof.
    let behind = sudo_user.filter(|name| *name != user && name.len() <= 64).map(|name| format!(" (sudo by {})", printable(&name)));
    format!("cli {user}@{}{}", host.trim(), behind.unwrap_or_default())
}

/// The real user id, out of what the kernel says of a process.
fn uid_in(status: &str) -> Option<String> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next().map(str::to_owned)
}

fn login_of(uid: &str, users: &str) -> Option<String> {
    users.lines().find(|line| line.split(':').nth(2) == Some(uid)).and_then(|line| line.split(':').next()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_types_is_told_by_login_and_who_is_behind_sudo_too() {
        let users = "root:x:0:0:root:/root:/bin/bash\ntocsin:x:998:998::/var/lib/tocsin:/usr/sbin/nologin\n";
        assert_eq!(login_of("998", users).as_deref(), Some("tocsin"));
        assert_eq!(login_of("99", users), None);
        assert_eq!(uid_in("Name:\ttocsin\nUid:\t998\t0\t0\t0\nGid:\t1\n").as_deref(), Some("998"));
        assert!(actor(None).starts_with("cli "));
        assert!(actor(Some("an\u{1b}na".to_owned())).ends_with("(sudo by an\u{fffd}na)"));
    }
}
