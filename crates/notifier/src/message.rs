//! What a message says: the envelope of Standard Webhooks (`type`, `timestamp`, `data`), with everything that a person needs
//! in `data.text`. `docs/how-to/webhook.md` describes it for receivers.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::store::Change;

/// Under which what concerns everybody is told.
pub(crate) const EVERYBODY: Uuid = Uuid::nil();

/// A tenant in a message.
#[derive(Clone, Debug, Serialize)]
struct Tenant {
    directory_id: Uuid,
    name: String,
}

/// What a message is about.
#[derive(Clone, Debug, Serialize)]
struct Data {
    /// All of it in a sentence or two, for people.
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<Tenant>,
    /// How it is now.
    state: String,
    /// How it was when that was last told.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    since: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
}

/// A message.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Message {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: Timestamp,
    data: Data,
}

impl Message {
    /// As it is sent and stored.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a message has text keys only")
    }

    /// What has changed, in words; nothing where nobody has to be told: what is well when it is first seen.
    pub(crate) fn of(change: &Change) -> Option<Self> {
        let name = change.name.clone().unwrap_or_default();
        let was_ill = change.before.as_deref().is_some_and(is_ill);
        // Reasons and actions are written without a full stop, but for those that Microsoft words.
        let bare = |text: &Option<String>| text.as_deref().unwrap_or_default().trim_end_matches('.').to_owned();
        let reason = bare(&change.reason);
        let action = if change.action.is_some() { format!(" What to do: {}.", bare(&change.action)) } else { String::new() };
        let (kind, text) = match (change.subject.as_str(), change.condition.as_str()) {
            ("gap", "open") => ("gap.opened", format!("A stretch of the alerts of {name} could not be read: {reason}.")),
            ("lost", _) => ("gap.lost", format!("Alerts of {name} cannot be read any more: {reason}.{action}")),
            ("gap", _) => ("gap.healed", format!("What could not be read of {name} has been read.")),
            ("state", condition) if is_ill(condition) => ("tenant.blind", format!("{name} cannot be seen: {reason}.{action}")),
            ("state", "well") if was_ill => ("tenant.recovered", format!("{name} can be seen again.")),
            ("state", "well") => ("tenant.changed", format!("{name} is read now.")),
            ("state", _) => ("tenant.changed", format!("{name} is not read: {reason}.{action}")),
            (app, "refused") => ("app.refused", format!("Our {} is refused, for all of its customers: {reason}.{action}", in_words(app))),
            (app, _) => ("app.accepted", format!("Our {} is accepted again.", in_words(app))),
        };
        if change.before.is_none() && !is_ill(&change.condition) {
            return None;
        }
        let tenant = (change.tenant != EVERYBODY).then_some(Tenant { directory_id: change.tenant, name });
        let data = Data {
            text,
            tenant,
            state: change.condition.clone(),
            before: change.before.clone(),
            since: change.since.to_jiff(),
            reason: change.reason.clone(),
            action: change.action.clone(),
            error_code: change.error_code.clone(),
            link: change.link.clone(),
        };
        Some(Self { kind, timestamp: change.now.to_jiff(), data })
    }

    /// A message about everybody, of which there is nothing to say but a sentence.
    pub(crate) fn plain(kind: &'static str, state: &str, since: Timestamp, now: Timestamp, text: String) -> Self {
        let data = Data {
            text,
            tenant: None,
            state: state.to_owned(),
            before: None,
            since,
            reason: None,
            action: None,
            error_code: None,
            link: None,
        };
        Self { kind, timestamp: now, data }
    }

    /// What `tocsin notify test` sends.
    pub(crate) fn test(now: Timestamp) -> Self {
        Self::plain("tocsin.test", "test", now, now, "This is a test of tocsin's webhook; nothing has happened.".to_owned())
    }
}

fn is_ill(condition: &str) -> bool {
    matches!(condition, "needs-consent" | "needs-customer" | "troubled" | "open" | "refused") || condition.starts_with("lost-")
}

fn in_words(subject: &str) -> String {
    let (app, cloud) = subject.trim_start_matches("app:").split_once('@').unwrap_or((subject, ""));
    format!("app registration {app} in {cloud}")
}
