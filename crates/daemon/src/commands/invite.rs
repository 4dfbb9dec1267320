//! `tocsin tenant invite`: a link, and the wait until somebody has used it.
//!
//! With `--json` a command that waits prints an event a line: first the link, last that the tenant is connected.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::{CloudName, LinkKind, Source, TenantId};
use microsoft::{Grant, Http, HttpSettings, SignIn};
use serde_json::json;
use tenant_registry::{Invitation, LinkStatus, Registry, StepResult, TenantDraft, TenantSummary};
use tokio::time::{Instant, sleep};

use super::tenant::{failure, rules};
use super::{Setting, confirm};
use crate::cli::{Invite, MaybeNew};
use crate::failure::{Exit, Failure};

const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Makes a link, and waits for its use unless told not to.
pub(super) async fn run(setting: &Setting, registry: &Registry, options: Invite) -> Result<(), Failure> {
    if options.cancel {
        return cancel(setting, registry, &options.who.name).await;
    }
    if options.qr && setting.output.json {
        return Err(Failure::new(Exit::Usage, "--qr draws for people and --json prints for scripts: say one of them"));
    }
    let tenant = tenant(setting, registry, &options.who).await?;
    let kind = kind_of(setting, &tenant)?;
    let invitation = registry.invite(tenant.id, kind, options.who.relink, options.expires).await.map_err(failure)?;
    let address = format!("{}/consent/{}", setting.config.console.public_url.as_str().trim_end_matches('/'), *invitation.ticket.text());
    print(setting, &tenant, &invitation, &address, &options)?;
    let attention = registry.attention(tenant.id).await.map_err(failure)?;
    if attention.daemons == 0 {
        setting.output.note("no daemon is running, so nobody answers at this address yet: start `tocsin serve`");
    }
    if options.no_wait {
        return Ok(());
    }
    setting.output.note("waiting until it is used; Ctrl-C ends the waiting, not the link");
    wait(setting, registry, tenant.id, &invitation, options.timeout).await
}

/// The tenant that is meant: one that is there, or a new one that waits for its consent. Either lives in its cloud, as far
/// as that can be known now.
pub(super) async fn tenant(setting: &Setting, registry: &Registry, who: &MaybeNew) -> Result<TenantSummary, Failure> {
    let Some(directory) = &who.tenant else {
        let found = registry.find(&who.name).await.map_err(|error| match error {
            tenant_registry::AdminError::NotFound { .. } => {
                Failure::new(Exit::NotFound, format!("{error}; for a new one, name its directory: --tenant GUID or --tenant DOMAIN"))
            }
            other => failure(other),
        })?;
        return still_lives_there(setting, found).await;
    };
    let cloud = match &who.cloud {
        Some(cloud) => CloudName::new(cloud.as_str()),
        None => match registry.find(&who.name).await {
            Ok(found) if found.state != domain::TenantState::Removed => found.cloud,
            _ => CloudName::new("global"),
        },
    };
    let id = resolve(setting, &cloud, directory).await?;
    if id.to_string() != directory.to_lowercase() {
        setting.output.note(&format!("{directory} is directory {id} in cloud {cloud}"));
        confirm(&who.name, who.yes, &format!("Connect {directory} ({id}) as {}?", who.name))?;
    }
    if let Ok(found) = registry.find(&id.to_string()).await
        && found.state != domain::TenantState::Removed
    {
        if found.name != who.name {
            return Err(Failure::new(
                Exit::Conflict,
                format!("directory {id} is here already, as {:?}: invite it by that name", found.name),
            ));
        }
        return differs(who, &found).map_or(Ok(found), |words| Err(Failure::new(Exit::Conflict, words)));
    }
    let draft = TenantDraft {
        directory_id: id.to_string(),
        name: who.name.clone(),
        cloud: cloud.to_string(),
        app: who.app.clone().unwrap_or_else(|| "main".to_owned()),
        sources: if who.sources.is_empty() { Source::GraphAlerts.to_string() } else { who.sources.join(";") },
        refresh_token: None,
    };
    registry.add_invited(draft, &rules(setting, false)).await.map_err(failure)?;
    registry.find(&id.to_string()).await.map_err(failure)
}

/// What was asked for and is stored otherwise: an invitation changes nothing about a tenant that is here. Pure.
fn differs(who: &MaybeNew, found: &TenantSummary) -> Option<String> {
    let stored: BTreeSet<&str> = found.sources.iter().map(|source| source.as_str()).collect();
    let wanted: BTreeSet<&str> = who.sources.iter().map(|source| source.trim()).collect();
    let mut other = Vec::new();
    if let Some(cloud) = who.cloud.as_deref().filter(|cloud| *cloud != found.cloud.as_str()) {
        other.push(format!("cloud {} and not {cloud}", found.cloud));
    }
    if let Some(app) = who.app.as_deref().filter(|app| *app != found.app.as_str()) {
        other.push(format!("app {} and not {app}", found.app));
    }
    if !wanted.is_empty() && wanted != stored {
        let list = |sources: BTreeSet<&str>| sources.into_iter().collect::<Vec<_>>().join(", ");
        other.push(format!("sources {} and not {}", list(stored), list(wanted)));
    }
    let name = &found.name;
    (!other.is_empty()).then(|| {
        format!("{name} is here already, with {}: change it with `tocsin tenant import`, or leave the option out", other.join(", with "))
    })
}

/// Asks the cloud of a tenant that is here whether it is the right one. A link is for later, so only a clear no counts:
/// a cloud that cannot be asked now is told of, and that is all.
async fn still_lives_there(setting: &Setting, found: TenantSummary) -> Result<TenantSummary, Failure> {
    match resolve(setting, &found.cloud, &found.id.to_string()).await {
        Ok(_) => Ok(found),
        Err(failure) if failure.exit == Exit::Temporary => {
            setting
                .output
                .note(&format!("warning: whether {} lives in cloud {} cannot be asked now: {}", found.name, found.cloud, failure.message));
            Ok(found)
        }
        Err(failure) => Err(failure),
    }
}

/// Asks the cloud who this directory is, and whether it lives there.
async fn resolve(setting: &Setting, cloud: &CloudName, directory: &str) -> Result<TenantId, Failure> {
    let known = setting.config.clouds.get(cloud).ok_or_else(|| {
        let names = setting.config.clouds.keys().map(CloudName::as_str).collect::<Vec<_>>().join(", ");
        Failure::new(Exit::Usage, format!("cloud {cloud} is not known; known are {names}"))
    })?;
    let http = Http::new(HttpSettings::default()).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let sign_in = SignIn::new(http, std::sync::Arc::new(domain::SystemClock));
    let found = sign_in.discover(known, directory.trim()).await.map_err(|error| {
        let trouble = error.trouble();
        let exit = if trouble.verdict.needs_a_person() { Exit::NotFound } else { Exit::Temporary };
        Failure::new(exit, format!("{directory}: {}; next: {}", trouble.reason, trouble.action))
    })?;
    found.fits(cloud, known).map_err(|words| Failure::new(Exit::Conflict, format!("{directory}: {words}")))?;
    Ok(found.id)
}

/// What a customer of this app is asked to consent to.
pub(super) fn kind_of(setting: &Setting, tenant: &TenantSummary) -> Result<LinkKind, Failure> {
    let app = setting.config.apps.get(&tenant.app).ok_or_else(|| {
        Failure::new(
            Exit::Config,
            format!("the configuration has no app {}: add [apps.{}], or import the tenant with another", tenant.app, tenant.app),
        )
    })?;
    Ok(match app.app.grant {
        Grant::RefreshToken => LinkKind::Delegated,
        Grant::ClientCredentials => LinkKind::Application,
    })
}

fn print(setting: &Setting, tenant: &TenantSummary, invitation: &Invitation, address: &str, options: &Invite) -> Result<(), Failure> {
    if setting.output.json {
        let mut link = json!({
            "directory_id": tenant.id, "name": tenant.name, "link": invitation.link, "url": address, "expires_at": invitation.expires_at,
        });
        if options.no_wait {
            return setting.output.document(&link);
        }
        link["event"] = "link".into();
        return setting.output.event(&link);
    }
    setting.output.note(&format!(
        "for {} ({}), good once, until {}:",
        tenant.name,
        tenant.id,
        invitation.expires_at.strftime("%Y-%m-%d %H:%M UTC")
    ));
    setting.output.line(address)?;
    if options.qr {
        let code =
            qrcode::QrCode::new(address).map_err(|error| Failure::new(Exit::Failed, format!("the link fits into no QR code: {error}")))?;
        setting.output.line(&code.render::<qrcode::render::unicode::Dense1x2>().build())?;
    }
    Ok(())
}

async fn cancel(setting: &Setting, registry: &Registry, name: &str) -> Result<(), Failure> {
    let tenant = registry.find(name).await.map_err(failure)?;
    let ended = registry.cancel_link(tenant.id).await.map_err(failure)?;
    if setting.output.json {
        return setting.output.document(&json!({ "directory_id": tenant.id, "name": tenant.name, "cancelled": ended }));
    }
    setting.output.line(&if ended {
        format!("{}: the link is good no more", tenant.name)
    } else {
        format!("{}: there was no open link", tenant.name)
    })
}

/// Shows the checklist as it grows. Ends when the tenant is connected, or the link has ended.
pub(super) async fn wait(
    setting: &Setting,
    registry: &Registry,
    tenant: TenantId,
    invitation: &Invitation,
    timeout: Option<Duration>,
) -> Result<(), Failure> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut watched = Watched::default();
    loop {
        let status = registry.link_status(tenant, invitation.link).await.map_err(failure)?;
        for line in watched.news(&status) {
            setting.output.note(&line);
        }
        match (status.outcome.as_deref(), status.expired) {
            (Some("linked"), _) => {
                return if setting.output.json { setting.output.event(&connected(tenant, &status)) } else { Ok(()) };
            }
            (Some(_), _) => return Err(Failure::new(Exit::Conflict, "the link was called back, or a newer one took its place")),
            (None, true) => return Err(Failure::new(Exit::Failed, "the link has expired unused; make a new one")),
            (None, false) => {}
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Failure::new(
                Exit::Temporary,
                "nobody has connected in this time; the link stays good, and `tocsin tenant show` tells more",
            ));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The last event for scripts.
pub(super) fn connected(tenant: TenantId, status: &LinkStatus) -> serde_json::Value {
    json!({ "event": "connected", "directory_id": tenant, "state": status.tenant_state, "steps": status.steps })
}

/// A checklist as lines.
pub(super) fn told(status: &LinkStatus) -> Vec<String> {
    Watched { opened: true, ..Watched::default() }.news(status)
}

/// What has been said of a checklist.
#[derive(Default)]
struct Watched {
    opened: bool,
    told: BTreeSet<(usize, String)>,
}

impl Watched {
    fn news(&mut self, status: &LinkStatus) -> Vec<String> {
        let mut lines = Vec::new();
        if status.opened_at.is_some() && !self.opened {
            self.opened = true;
            lines.push("the link was opened".to_owned());
        }
        for (at, step) in status.steps.iter().enumerate() {
            if self.told.insert((at, format!("{}{}", step.step, step.words))) {
                let mark = match step.result {
                    StepResult::Ok => "ok  ",
                    StepResult::Warn => "note",
                    StepResult::Fail => "FAIL",
                };
                lines.push(format!("  {mark}  {}: {}", token_refresher::title(&step.step), step.words));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use domain::TenantState;
    use tenant_registry::Step;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn each_step_is_told_once_and_a_second_attempt_is_told_anew() {
        let step = |step: &str, result, words: &str| Step { step: step.to_owned(), result, words: words.to_owned(), outside: None };
        let mut status = LinkStatus {
            link: Uuid::nil(),
            kind: LinkKind::Delegated,
            expires_at: "2026-11-30T00:00:00Z".parse().unwrap(),
            expired: false,
            opened_at: None,
            proving_for: None,
            outcome: None,
            steps: Vec::new(),
            tenant_state: TenantState::AwaitingConsent,
        };
        let mut watched = Watched::default();
        assert!(watched.news(&status).is_empty());
        status.opened_at = Some(status.expires_at);
        assert_eq!(watched.news(&status), ["the link was opened"]);
        status.steps = vec![step("signed-in", StepResult::Fail, "the person declined")];
        assert_eq!(watched.news(&status), ["  FAIL  Signed in and consented: the person declined"]);
        assert!(watched.news(&status).is_empty());
        status.steps = vec![step("signed-in", StepResult::Ok, "yes"), step("clock", StepResult::Warn, "hm")];
        assert_eq!(watched.news(&status).len(), 2);
    }
}
