//! Every switch of the simulator, each with the default that comes closest to the real service.

use crate::stamp::Clock;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How the pretend Microsoft is set up. Start from `Settings::default()` and change what the story needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen. Only loopback addresses are accepted; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Everything that looks random follows from this.
    pub seed: u64,
    /// How many customers there are.
    pub tenants: usize,
    /// Which alert APIs each customer's line in the import file names.
    pub sources: SourceMix,
    /// Alerts each customer has at the start, spread over the last [`history_days`](Settings::history_days).
    pub history: usize,
    /// How far back the history reaches.
    pub history_days: u32,
    /// New and changed alerts per second over all customers; 0 leaves publishing to the caller.
    pub rate: f64,
    /// Which share of those events changes an alert that is already there.
    pub updates: f64,
    /// The machine's clock, or one that a test moves.
    pub clock: Clock,
    /// A text that every token and secret carries, so that a leak scan can look for it. Letters, digits, `-` and `_`.
    pub marker: Option<String>,
    /// What happens to refresh tokens that were exchanged for a newer one.
    pub rotation: Rotation,
    /// Shortest and longest life of an access token.
    pub access_lifetime: (Duration, Duration),
    /// All refresh tokens belong to one account that is a guest everywhere: each can be redeemed at every customer.
    pub one_account_everywhere: bool,
    /// Resources for which Graph takes a token.
    pub graph_resources: Vec<String>,
    /// Resources for which Defender for Endpoint takes a token.
    pub defender_resources: Vec<String>,
    /// Redirect addresses of the app; empty accepts any on `localhost`, on loopback, or with https.
    pub redirect_uris: Vec<String>,
    /// Whether the pages where people sign in and consent ask first, with a button for yes and one for no. Otherwise
    /// whoever sits there agrees at once.
    pub interactive: bool,
    /// Whether an app that acts for itself has no permission at a customer before an administrator there has agreed.
    pub admin_consent_needed: bool,
    /// How often a device code may be asked for at most.
    pub device_interval: Duration,
    /// What Graph does with `$orderby`, which its documentation does not mention; for incidents as well.
    pub order_by: OrderBy,
    /// Whether and how Graph links to the next page.
    pub next_link: NextLink,
    /// Rows on a page of Graph when the caller does not say.
    pub default_page: usize,
    /// Greater `$top` values are silently lowered to this by Graph.
    pub graph_max_top: usize,
    /// A greater `$skip` is refused by Graph.
    pub graph_max_skip: usize,
    /// Incidents on a page, asked for or not: greater `$top` values are silently lowered to this.
    pub incidents_max_top: usize,
    /// Of a customer with more alerts than this, incidents with `$expand=alerts` fail with 500, for ever.
    pub expand_limit: usize,
    /// A greater `$top` is refused by Defender for Endpoint; also its page size when the caller does not say.
    pub defender_max_top: usize,
    /// A folder of JSON files whose records are served as alerts.
    pub samples: Option<PathBuf>,
    /// Where sample records stand in the order of last updates.
    pub sample_stamps: SampleStamps,
    /// How many requests the journal remembers.
    pub journal_limit: usize,
    /// How many bytes of rendered alerts are kept for the next caller.
    pub cache_bytes: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            seed: 1,
            tenants: 3,
            sources: SourceMix::Mixed,
            history: 0,
            history_days: 30,
            rate: 0.0,
            updates: 0.4,
            clock: Clock::Real,
            marker: None,
            rotation: Rotation::Entra,
            access_lifetime: (Duration::from_secs(60 * 60), Duration::from_secs(90 * 60)),
            one_account_everywhere: false,
            graph_resources: vec!["https://graph.microsoft.com".to_owned()],
            defender_resources: vec![
                "https://api.securitycenter.microsoft.com".to_owned(),
                "https://securitycenter.onmicrosoft.com/windowsatpservice".to_owned(),
                "https://api.security.microsoft.com".to_owned(),
            ],
            redirect_uris: Vec::new(),
            interactive: false,
            admin_consent_needed: false,
            device_interval: Duration::from_secs(5),
            order_by: OrderBy::Accepted,
            next_link: NextLink::SkipToken,
            default_page: 100,
            graph_max_top: 1000,
            graph_max_skip: 500,
            incidents_max_top: 50,
            expand_limit: 10_000,
            defender_max_top: 10_000,
            samples: None,
            sample_stamps: SampleStamps::Own,
            journal_limit: 50_000,
            cache_bytes: 256 << 20,
        }
    }
}

/// What happens to refresh tokens that were exchanged for a newer one.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Rotation {
    /// They stay valid, as Microsoft documents it.
    Entra,
    /// Using one again is taken for theft: every token that stems from the same consent dies.
    Strict,
}

/// What Graph does with `$orderby`.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderBy {
    /// Sorts as asked (undocumented, but seen to work).
    Accepted,
    /// Answers newest first all the same.
    Ignored,
    /// Answers 400 and names the option.
    Refused,
}

/// Whether and how Graph links to the next page.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextLink {
    /// An opaque `$skiptoken` that remembers the last row shown: rows that move do not shift the others.
    SkipToken,
    /// An opaque `$skiptoken` that counts rows: when a row moves away, the one after it is skipped.
    CountingSkipToken,
    /// A plain `$skip`, with the limit on `$skip` applied to it as well.
    Skip,
    /// No link, as the field reports it for alerts_v2.
    Absent,
}

/// Which alert APIs the customers are watched through.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SourceMix {
    /// Graph for all of them.
    GraphOnly,
    /// Graph for all, Defender for Endpoint too for every third.
    Mixed,
    /// Both for all.
    Both,
    /// Both for all, and the incidents.
    All,
    /// Graph for all, with Defender for Endpoint, with the incidents, or with both, in turn.
    Assorted,
}

/// Where sample records stand in the order of last updates.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SampleStamps {
    /// Where their own stamp puts them; those without a readable one, at the start of the simulator.
    Own,
    /// All at the start of the simulator, so that a consumer that looks back 30 days sees samples of 2021.
    Start,
}

/// One of the alert APIs.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Graph `/v1.0/security/alerts_v2`.
    GraphAlerts,
    /// Defender for Endpoint `/api/alerts`.
    MdeAlerts,
    /// Graph `/v1.0/security/incidents`.
    GraphIncidents,
}

impl Source {
    /// The word for it in the import file.
    pub const fn name(self) -> &'static str {
        match self {
            Source::GraphAlerts => "graph-alerts",
            Source::MdeAlerts => "mde-alerts",
            Source::GraphIncidents => "graph-incidents",
        }
    }
}
