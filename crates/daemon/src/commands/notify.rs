//! `tocsin notify test`: does the webhook work, from here?

use domain::SystemClock;
use notifier::Client;
use serde_json::json;

use super::Setting;
use crate::cli::Notify;
use crate::failure::{Exit, Failure};
use crate::output::printable;

/// Sends one message past the outbox; no database is needed for it.
pub(super) async fn run(setting: &Setting, Notify::Test: &Notify) -> Result<(), Failure> {
    let Some(notify) = &setting.config.notify else {
        return Err(Failure::new(
            Exit::Config,
            "the webhook is switched off; name the file with its address in notify.url_file and the one with its secret in notify.secret_file",
        ));
    };
    let endpoint = notify.endpoint().map_err(|error| Failure::new(Exit::Config, error))?;
    let client = Client::new(notify.egress).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let (answer, took) = notifier::test(&client, &endpoint, &SystemClock)
        .await
        .map_err(|error| Failure::new(Exit::Unavailable, format!("{}: {error}", endpoint.host())))?;
    if setting.output.json {
        setting.output.document(&json!({
            "taken": answer.is_taken(), "status": answer.status, "found": answer.to_string(), "answer": answer.words,
            "duration_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }))?;
    } else {
        setting.output.line(&format!("{}: {answer}, after {} ms", endpoint.host(), took.as_millis()))?;
        if !answer.words.trim().is_empty() {
            setting.output.line(&printable(&format!("it says: {}", answer.words.trim())))?;
        }
    }
    if answer.is_taken() { Ok(()) } else { Err(Failure::new(Exit::Failed, "the test message was not taken")) }
}
