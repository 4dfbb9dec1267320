//! The scenario script: rules that make the pretend Microsoft misbehave, for one tenant or all, one endpoint or
//! all, for a number of requests or until cleared. Rules are plain data (JSON over `POST /sim/script`, or values
//! in a test); how each is carried out is in `faults.rs`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

mod script;
pub(crate) use script::{Effects, Script};

/// One instruction of the script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The tenant it is about; absent means every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Uuid>,
    /// The endpoint it is about; absent means every one to which the effect applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// How many matching requests pass untouched first.
    #[serde(default)]
    pub after: u32,
    /// For how many requests it holds; absent means until cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// What happens.
    pub effect: Effect,
}

impl Rule {
    /// A rule for every tenant and endpoint, until cleared.
    pub fn new(effect: Effect) -> Rule {
        Rule { tenant: None, endpoint: None, after: 0, times: None, effect }
    }

    /// The same for one tenant.
    pub fn tenant(mut self, tenant: Uuid) -> Rule {
        self.tenant = Some(tenant);
        self
    }

    /// The same for one endpoint.
    pub fn endpoint(mut self, endpoint: Endpoint) -> Rule {
        self.endpoint = Some(endpoint);
        self
    }

    /// The same, for so many requests.
    pub fn times(mut self, times: u32) -> Rule {
        self.times = Some(times);
        self
    }

    /// The same, after so many untouched requests.
    pub fn after(mut self, requests: u32) -> Rule {
        self.after = requests;
        self
    }
}

/// What a request is addressed to.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// The token endpoints, v1 and v2.
    Token,
    /// The page where a person signs in and consents.
    Authorize,
    /// Graph `/v1.0/security/alerts_v2`.
    Graph,
    /// Graph `/v1.0/security/incidents`.
    Incidents,
    /// Defender for Endpoint `/api/alerts`.
    Defender,
}

/// What can go wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// 429 (or 503) with one of the forms of `Retry-After`.
    Throttle {
        /// The status to answer with.
        #[serde(default = "too_many")]
        status: u16,
        /// The header to send.
        #[serde(default)]
        retry_after: RetryAfter,
    },
    /// Not there at all.
    Outage(Outage),
    /// The answer comes after so many milliseconds.
    Slow {
        /// How long it takes.
        ms: u64,
    },
    /// The answer never comes; the connection stays open.
    Hang,
    /// The body comes in small pieces.
    Trickle {
        /// Bytes per piece.
        bytes: usize,
        /// Time between pieces.
        every_ms: u64,
    },
    /// New alerts become visible with a stamp that lies so far back. Counts published alerts, not requests.
    Late {
        /// How far back.
        seconds: u64,
    },
    /// The token endpoint refuses the refresh token.
    Revoke {
        /// The AADSTS number; 50173 when absent.
        #[serde(default = "revoked")]
        code: u32,
    },
    /// Consent is missing (AADSTS65001).
    ConsentMissing,
    /// The app's secret has expired (AADSTS7000222).
    SecretExpired,
    /// The token endpoint answers with any error.
    SignInError {
        /// The AADSTS number.
        code: u32,
        /// The `error` word; by default the usual one for this number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// The `suberror` word.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        suberror: Option<String>,
        /// The HTTP status; by default the usual one for this number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
    },
    /// Tokens are odd in one way.
    OddToken(OddToken),
    /// The rows of a page come in another order.
    Reorder,
    /// The body ends too early.
    Truncate(Truncate),
    /// A page of HTML, as a captive portal or a proxy would send it.
    Html {
        /// The status to send it with.
        #[serde(default = "ok")]
        status: u16,
    },
    /// A record that cannot be understood stands in the middle of the page. It is on that page only; the ledger does
    /// not know it (`publish_poison` makes a lasting one).
    PoisonRecord {
        /// Which kind.
        kind: Poison,
    },
    /// The link to the next page leads to another host.
    ForeignNextLink {
        /// Where it leads.
        #[serde(default = "elsewhere")]
        url: String,
    },
    /// The link to the next page leads to the same page.
    LoopingNextLink,
    /// The first record of a page stands at its end once more.
    DuplicateRecord,
    /// 403.
    Forbidden {
        /// The code in the body; by default the API's own for "no permission".
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
    },
    /// 401, whatever the token.
    Unauthorized {
        /// With a claims challenge in the header.
        #[serde(default)]
        claims: bool,
    },
    /// `$top` has no effect.
    IgnoreTop,
    /// `$top` is silently lowered further.
    Clamp {
        /// The most rows on a page.
        top: usize,
    },
}

const fn too_many() -> u16 {
    429
}

const fn ok() -> u16 {
    200
}

const fn revoked() -> u32 {
    50173
}

fn elsewhere() -> String {
    "https://graph.attacker.example/v1.0/security/alerts_v2?$skiptoken=x".to_owned()
}

/// The forms of the `Retry-After` header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// Whole seconds: `5`.
    Seconds(u64),
    /// Seconds with a fraction, as Graph has been seen to send: `2.128`.
    Decimal(f64),
    /// A date so many seconds ahead.
    HttpDate(u64),
    /// No header.
    Missing,
    /// A number no one can wait for.
    Absurd,
    /// Any text at all.
    Text(String),
}

impl Default for RetryAfter {
    fn default() -> RetryAfter {
        RetryAfter::Seconds(5)
    }
}

/// The ways of not being there.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// The connection is reset.
    Reset,
    /// 500.
    InternalError,
    /// 503 without a `Retry-After`.
    Unavailable,
}

/// The ways in which a body ends too early.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncate {
    /// The connection ends before `Content-Length` bytes have come.
    ShortBody,
    /// The transfer is complete, the JSON is not.
    CutJson,
}

/// The ways in which a token answer is odd.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OddToken {
    /// The tokens are for another tenant than the one asked for.
    WrongTenant,
    /// The access token is not readable; the id token still is.
    Opaque,
    /// No new refresh token comes along.
    NoRefreshToken,
    /// No id token comes along.
    NoIdToken,
    /// The access token carries no permission at all.
    NoPermissions,
}

/// Records that cannot be understood, or only just.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Poison {
    /// A text with an escaped NUL, which Postgres does not take.
    NulEscape,
    /// A text with half of a surrogate pair.
    LoneSurrogate,
    /// Bytes that are not UTF-8.
    InvalidUtf8,
    /// Ten thousand arrays in each other.
    Deep,
    /// No id.
    MissingId,
    /// A last update in the year 9999.
    FarFuture,
    /// A last update that is an empty text.
    EmptyStamp,
    /// A last update that is no time at all.
    NonsenseStamp,
    /// A number instead of an object.
    NotAnObject,
}

/// The kinds of effect of which one request can feel one each.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Stage {
    Publication,
    Delay,
    Answer,
    Page,
    Rows,
    Link,
    Token,
    Delivery,
}

impl Effect {
    const fn stage(&self) -> Stage {
        match self {
            Effect::Late { .. } => Stage::Publication,
            Effect::Slow { .. } => Stage::Delay,
            Effect::Throttle { .. }
            | Effect::Outage(_)
            | Effect::Hang
            | Effect::Revoke { .. }
            | Effect::ConsentMissing
            | Effect::SecretExpired
            | Effect::SignInError { .. }
            | Effect::Html { .. }
            | Effect::Forbidden { .. }
            | Effect::Unauthorized { .. } => Stage::Answer,
            Effect::IgnoreTop | Effect::Clamp { .. } => Stage::Page,
            Effect::Reorder | Effect::PoisonRecord { .. } | Effect::DuplicateRecord => Stage::Rows,
            Effect::ForeignNextLink { .. } | Effect::LoopingNextLink => Stage::Link,
            Effect::OddToken(_) => Stage::Token,
            Effect::Trickle { .. } | Effect::Truncate(_) => Stage::Delivery,
        }
    }

    /// Whether a request to this endpoint can feel the effect.
    fn applies_to(&self, endpoint: Endpoint) -> bool {
        let api = !matches!(endpoint, Endpoint::Token | Endpoint::Authorize);
        match self {
            Effect::Revoke { .. } | Effect::SecretExpired | Effect::OddToken(_) => endpoint == Endpoint::Token,
            Effect::ConsentMissing | Effect::SignInError { .. } => !api,
            Effect::Forbidden { .. } | Effect::Unauthorized { .. } => api,
            _ => matches!(self.stage(), Stage::Delay | Stage::Answer | Stage::Delivery) || api,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_holds_for_its_tenant_endpoint_and_number_of_requests() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let script = Script::default();
        script.add(Rule::new(Effect::Hang).tenant(one).endpoint(Endpoint::Graph).after(1).times(2));
        let felt = |tenant, endpoint| script.take(Some(tenant), endpoint).felt.len();
        assert_eq!(felt(other, Endpoint::Graph), 0);
        assert_eq!(felt(one, Endpoint::Token), 0);
        assert_eq!(felt(one, Endpoint::Graph), 0, "the first request passes");
        assert_eq!((felt(one, Endpoint::Graph), felt(one, Endpoint::Graph), felt(one, Endpoint::Graph)), (1, 1, 0));
        assert!(script.rules().is_empty(), "a rule that is used up is gone");
    }

    #[test]
    fn effects_of_different_stages_are_felt_together() {
        let script = Script::default();
        for effect in
            [Effect::Slow { ms: 5 }, Effect::Reorder, Effect::DuplicateRecord, Effect::Clamp { top: 3 }, Effect::Late { seconds: 9 }]
        {
            script.add(Rule::new(effect));
        }
        assert_eq!(script.take(None, Endpoint::Graph).felt, [Effect::Slow { ms: 5 }, Effect::Reorder, Effect::Clamp { top: 3 }]);
        assert_eq!(script.take(None, Endpoint::Token).felt, [Effect::Slow { ms: 5 }]);
        assert_eq!(script.take_late(Uuid::nil()), Some(9));
    }

    #[test]
    fn rules_are_read_from_json_and_typos_are_named() {
        for text in [
            r#"{"effect":"hang"}"#,
            r#"{"effect":{"throttle":{}},"endpoint":"graph","times":3}"#,
            r#"{"effect":{"throttle":{"status":503,"retry_after":{"decimal":2.128}}},"tenant":"00000000-0000-0000-0000-000000000001"}"#,
            r#"{"effect":{"throttle":{"retry_after":"missing"}}}"#,
            r#"{"effect":{"outage":"reset"},"after":2}"#,
            r#"{"effect":{"sign_in_error":{"code":50076,"error":"interaction_required"}}}"#,
            r#"{"effect":{"poison_record":{"kind":"deep"}}}"#,
            r#"{"effect":{"odd_token":"wrong_tenant"}}"#,
        ] {
            let rule: Rule = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(serde_json::from_str::<Rule>(&serde_json::to_string(&rule).unwrap()).unwrap(), rule);
        }
        let error = serde_json::from_str::<Rule>(r#"{"effect":{"slow":{"sm":1}}}"#).unwrap_err().to_string();
        assert!(error.contains("sm"), "{error}");
        assert!(serde_json::from_str::<Rule>(r#"{"effect":"hang","tenent":null}"#).is_err());
    }
}
