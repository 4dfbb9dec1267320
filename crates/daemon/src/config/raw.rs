//! The configuration as it is written: plain texts and numbers, before they are checked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::LogFormat;

/// The whole file.
#[derive(Deserialize)]
pub(super) struct Raw {
    pub(super) state_dir: PathBuf,
    pub(super) database: Database,
    pub(super) vault: Vault,
    pub(super) log: Log,
    pub(super) ops: Ops,
    pub(super) console: Console,
    #[serde(default)]
    pub(super) clouds: BTreeMap<String, Cloud>,
    #[serde(default)]
    pub(super) apps: BTreeMap<String, App>,
    pub(super) poll: Poll,
    pub(super) ladder: Ladder,
    pub(super) retention: Retention,
    pub(super) budget: Budget,
    pub(super) notify: Notify,
}

#[derive(Deserialize)]
pub(super) struct Database {
    pub(super) url: String,
    pub(super) url_file: String,
    pub(super) migrate_url_file: String,
}

#[derive(Deserialize)]
pub(super) struct Vault {
    pub(super) key_file: PathBuf,
    pub(super) require_separation: bool,
}

#[derive(Deserialize)]
pub(super) struct Log {
    pub(super) level: String,
    #[serde(deserialize_with = "format")]
    pub(super) format: LogFormat,
}

#[derive(Deserialize)]
pub(super) struct Ops {
    pub(super) listen: String,
}

#[derive(Deserialize)]
pub(super) struct Console {
    pub(super) listen: String,
    pub(super) public_url: String,
    pub(super) operator: String,
}

#[derive(Deserialize)]
pub(super) struct App {
    #[serde(default)]
    pub(super) client_id: String,
    #[serde(default)]
    pub(super) client_secret_file: String,
    #[serde(default)]
    pub(super) client_secret_expires: String,
    #[serde(default)]
    pub(super) certificate_file: String,
    #[serde(default)]
    pub(super) private_key_file: String,
    #[serde(default)]
    pub(super) federated_token_file: String,
    #[serde(default = "refresh_token")]
    pub(super) grant: String,
    #[serde(default = "version_2")]
    pub(super) endpoint: String,
}

fn version_2() -> String {
    "v2".into()
}

fn refresh_token() -> String {
    "refresh_token".into()
}

#[derive(Deserialize)]
pub(super) struct Poll {
    #[serde(deserialize_with = "duration")]
    pub(super) interval: Duration,
    #[serde(deserialize_with = "duration")]
    pub(super) quiet_interval: Duration,
    #[serde(deserialize_with = "duration")]
    pub(super) overlap: Duration,
    #[serde(deserialize_with = "duration")]
    pub(super) first_sync: Duration,
    #[serde(deserialize_with = "duration")]
    pub(super) source_keeps: Duration,
    #[serde(deserialize_with = "count")]
    pub(super) page_size: u32,
}

#[derive(Deserialize)]
pub(super) struct Ladder {
    #[serde(deserialize_with = "duration")]
    pub(super) short_reach: Duration,
    #[serde(deserialize_with = "duration")]
    pub(super) short_every: Duration,
    #[serde(deserialize_with = "duration")]
    pub(super) long_reach: Duration,
    #[serde(deserialize_with = "duration")]
    pub(super) long_every: Duration,
    pub(super) compare: bool,
    #[serde(deserialize_with = "duration")]
    pub(super) compare_reach: Duration,
    #[serde(deserialize_with = "time_of_day")]
    pub(super) compare_at: Duration,
}

#[derive(Deserialize)]
pub(super) struct Retention {
    #[serde(deserialize_with = "duration_or_ever")]
    pub(super) versions: Option<Duration>,
    #[serde(deserialize_with = "duration_or_ever")]
    pub(super) events: Option<Duration>,
    #[serde(deserialize_with = "duration_or_ever")]
    pub(super) quarantine: Option<Duration>,
    #[serde(deserialize_with = "duration_or_ever")]
    pub(super) gaps: Option<Duration>,
    #[serde(deserialize_with = "duration_or_ever")]
    pub(super) comparisons: Option<Duration>,
}

#[derive(Deserialize)]
pub(super) struct Notify {
    pub(super) url_file: String,
    pub(super) secret_file: String,
    #[serde(deserialize_with = "duration")]
    pub(super) alive_every: Duration,
    #[serde(deserialize_with = "duration")]
    pub(super) repeat_after: Duration,
    #[serde(deserialize_with = "duration")]
    pub(super) give_up_after: Duration,
    pub(super) allow_private: bool,
    pub(super) allow_plaintext: bool,
}

#[derive(Deserialize)]
pub(super) struct Budget {
    #[serde(deserialize_with = "count")]
    pub(super) graph_per_minute: u32,
    #[serde(deserialize_with = "count")]
    pub(super) defender_per_minute: u32,
    #[serde(deserialize_with = "count")]
    pub(super) defender_per_hour: u32,
    #[serde(deserialize_with = "count")]
    pub(super) app_graph_per_10s: u32,
    #[serde(deserialize_with = "count")]
    pub(super) app_defender_per_minute: u32,
    #[serde(deserialize_with = "count")]
    pub(super) token_per_second: u32,
}

/// A cloud of the file: what is left out comes from the built-in one of the same name.
#[derive(Deserialize)]
pub(super) struct Cloud {
    #[serde(default, deserialize_with = "address")]
    login_url: Option<url::Url>,
    #[serde(default, deserialize_with = "address")]
    graph_url: Option<url::Url>,
    #[serde(default, deserialize_with = "address")]
    defender_url: Option<url::Url>,
    portal_url: Option<String>,
    graph_scope: Option<String>,
    defender_scope: Option<String>,
    allow_plaintext: Option<bool>,
}

impl Cloud {
    /// Lays these values over a built-in cloud, if there is one.
    pub(super) fn over(self, base: Option<microsoft::Cloud>) -> Result<microsoft::Cloud, String> {
        const GRAPH_SCOPE: &str = "https://graph.microsoft.com/.default offline_access";
        const DEFENDER_SCOPE: &str = "https://api.securitycenter.microsoft.com/.default offline_access";
        let missing = |key: &str| format!("{key} is missing; a cloud that is not built in needs login_url and graph_url");
        let base_urls = base.as_ref().map(|cloud| (cloud.login_url.clone(), cloud.graph_url.clone()));
        let (base_login, base_graph) = base_urls.unzip();
        Ok(microsoft::Cloud {
            login_url: self.login_url.or(base_login).ok_or_else(|| missing("login_url"))?,
            graph_url: self.graph_url.or(base_graph).ok_or_else(|| missing("graph_url"))?,
            portal_url: self.portal_url.or_else(|| base.as_ref().and_then(|cloud| cloud.portal_url.clone())),
            graph_scope: self
                .graph_scope
                .or_else(|| base.as_ref().map(|cloud| cloud.graph_scope.clone()))
                .unwrap_or_else(|| GRAPH_SCOPE.into()),
            defender_scope: self
                .defender_scope
                .or_else(|| base.as_ref().and_then(|cloud| cloud.defender_scope.clone()))
                .or_else(|| Some(DEFENDER_SCOPE.into())),
            allow_plaintext: self.allow_plaintext.or_else(|| base.as_ref().map(|cloud| cloud.allow_plaintext)).unwrap_or(false),
            defender_url: self.defender_url.or_else(|| base.and_then(|cloud| cloud.defender_url)),
        })
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?)
}

fn duration_or_ever<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { parse_duration(&text).map(Some) }
}

fn parse_duration<E: serde::de::Error>(text: &str) -> Result<Duration, E> {
    humantime::parse_duration(text).map_err(|_| E::custom(format!("\"{text}\" is no duration; write it like 30s, 15m or 90d")))
}

fn time_of_day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let number = |digits: &str, below: u64| {
        let number: u64 = digits.parse().ok().filter(|_| digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit()))?;
        (number < below).then_some(number)
    };
    let time = text.split_once(':').and_then(|(hours, minutes)| Some(number(hours, 24)? * 60 + number(minutes, 60)?));
    time.map(|minutes| Duration::from_secs(minutes * 60))
        .ok_or_else(|| serde::de::Error::custom(format!("\"{text}\" is no time of day; write it like 02:00, in UTC")))
}

fn format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LogFormat, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "pretty" => Ok(LogFormat::Pretty),
        "json" => Ok(LogFormat::Json),
        _ => Err(serde::de::Error::custom(format!("\"{text}\" is neither pretty nor json"))),
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<url::Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    url::Url::parse(&text)
        .map(Some)
        .map_err(|_| serde::de::Error::custom(format!("\"{text}\" is no address; write it like https://graph.microsoft.com")))
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    // Read as text, which takes numbers as well: the message is then ours.
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| serde::de::Error::custom(format!("\"{text}\" is no count; write a whole number such as 100")))
}
