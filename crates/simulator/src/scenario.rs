//! The scenario script: rules that make the pretend Microsoft misbehave, for one tenant or all, one endpoint or
//! all, for a number of requests or until cleared. Rules are plain data (JSON over `POST /sim/script`, or values
//! in a test); how each is carried out is in `faults.rs`.

use crate::settings::{NextLink, OrderBy};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

mod script;
mod words;
pub(crate) use script::{Effects, Script};
pub use words::{OddToken, Outage, Poison, RetryAfter, Truncate};

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
    /// Only requests whose query contains this text once it is decoded, such as `$skiptoken=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
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
        Rule { tenant: None, endpoint: None, query: None, after: 0, times: None, effect }
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

    /// The same for requests whose decoded query contains this text.
    pub fn query(mut self, text: &str) -> Rule {
        self.query = Some(text.to_owned());
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
    /// The pages where people sign in and consent, and where device codes are asked for.
    Authorize,
    /// The discovery document and the keys that tokens are signed with.
    Discovery,
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
    /// The id token is signed with a key that was not published before; so is every later one.
    ChangeKeys,
    /// The document that names the signing keys names none.
    MissingKeys,
    /// Refresh tokens rotate strictly, whatever the settings say: using one again is taken for theft.
    StrictRotation,
    /// The token answer says this about its life, in JSON: `0`, `-5`, `"soon"`, `1e300`.
    ExpiresIn {
        /// The value of `expires_in`.
        json: String,
    },
    /// The rows of a page come in another order.
    Reorder,
    /// The body ends too early.
    Truncate(Truncate),
    /// What was asked for is done, and the connection is reset after so many bytes of the answer: none (the answer
    /// is lost), some forty (within the headers), or more (within the body).
    ResetAfter {
        /// How many bytes get through.
        bytes: usize,
    },
    /// A small answer that says it is gzip and inflates to so many megabytes.
    GzipBomb {
        /// Its size once inflated.
        megabytes: usize,
    },
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
    /// The link to the next page works no longer: requests that carry a `$skiptoken` are refused.
    ExpiredSkipToken {
        /// The status to refuse with: 400 or 410.
        #[serde(default = "gone")]
        status: u16,
    },
    /// Another kind of link to the next page than the settings say.
    NextLink(NextLink),
    /// Another answer to `$orderby` than the settings say.
    OrderBy(OrderBy),
    /// Whenever the caller is behind the first page, the first row it has passed changes and moves away.
    Shift,
    /// Every page that this record is on fails with 500, however small the page. Several can be in force at once.
    Broken {
        /// The record's id.
        id: String,
    },
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

const fn gone() -> u16 {
    410
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

/// The kinds of effect of which one request can feel one each.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Stage {
    Publication,
    Delay,
    Answer,
    Page,
    Order,
    Broken,
    Shift,
    Rows,
    Link,
    Token,
    Rotation,
    Keys,
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
            | Effect::ExpiredSkipToken { .. }
            | Effect::Unauthorized { .. } => Stage::Answer,
            Effect::IgnoreTop | Effect::Clamp { .. } => Stage::Page,
            Effect::OrderBy(_) => Stage::Order,
            Effect::Broken { .. } => Stage::Broken,
            Effect::Shift => Stage::Shift,
            Effect::Reorder | Effect::PoisonRecord { .. } | Effect::DuplicateRecord => Stage::Rows,
            Effect::ForeignNextLink { .. } | Effect::LoopingNextLink | Effect::NextLink(_) => Stage::Link,
            Effect::OddToken(_) | Effect::ExpiresIn { .. } => Stage::Token,
            Effect::StrictRotation => Stage::Rotation,
            Effect::ChangeKeys | Effect::MissingKeys => Stage::Keys,
            Effect::Trickle { .. } | Effect::Truncate(_) | Effect::ResetAfter { .. } | Effect::GzipBomb { .. } => Stage::Delivery,
        }
    }

    /// Whether a request to this endpoint, with this decoded query, can feel the effect.
    fn applies_to(&self, endpoint: Endpoint, query: &str) -> bool {
        let api = !matches!(endpoint, Endpoint::Token | Endpoint::Authorize | Endpoint::Discovery);
        match self {
            Effect::ChangeKeys => endpoint == Endpoint::Token,
            Effect::MissingKeys => endpoint == Endpoint::Discovery,
            Effect::Revoke { .. } | Effect::SecretExpired | Effect::OddToken(_) | Effect::ExpiresIn { .. } | Effect::StrictRotation => {
                endpoint == Endpoint::Token
            }
            Effect::ExpiredSkipToken { .. } => api && query.contains("$skiptoken="),
            Effect::Shift => api && query.contains("$skip"),
            Effect::ConsentMissing | Effect::SignInError { .. } => matches!(endpoint, Endpoint::Token | Endpoint::Authorize),
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
        let felt = |tenant, endpoint| script.take(Some(tenant), endpoint, "").felt.len();
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
        assert_eq!(script.take(None, Endpoint::Graph, "").felt, [Effect::Slow { ms: 5 }, Effect::Reorder, Effect::Clamp { top: 3 }]);
        assert_eq!(script.take(None, Endpoint::Token, "").felt, [Effect::Slow { ms: 5 }]);
        assert_eq!(script.take_late(Uuid::nil()), Some(9));
    }

    #[test]
    fn a_rule_can_wait_for_a_query_and_several_records_can_be_broken_at_once() {
        let script = Script::default();
        script.add(Rule::new(Effect::Outage(Outage::InternalError)).query("$skip=").times(1));
        script.add(Rule::new(Effect::Broken { id: "one".to_owned() }));
        script.add(Rule::new(Effect::Broken { id: "other".to_owned() }));
        script.add(Rule::new(Effect::ExpiredSkipToken { status: 410 }));
        let felt = |query: &str| script.take(None, Endpoint::Graph, query).felt.len();
        assert_eq!(felt("$top=5"), 2, "both broken records, nothing else");
        assert_eq!(felt("$top=5&$skip=5"), 3);
        assert_eq!(felt("$top=5&$skip=5"), 2, "used up");
        assert_eq!(felt("$skiptoken=abc"), 3);
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
            r#"{"effect":{"order_by":"refused"}}"#,
            r#"{"effect":{"next_link":"counting_skip_token"},"query":"$filter"}"#,
            r#"{"effect":{"expires_in":{"json":"-5"}}}"#,
            r#"{"effect":{"reset_after":{"bytes":40}}}"#,
            r#"{"effect":{"broken":{"id":"da1"}}}"#,
            r#"{"effect":"change_keys","endpoint":"token","times":1}"#,
            r#"{"effect":"missing_keys","endpoint":"discovery"}"#,
        ] {
            let rule: Rule = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(serde_json::from_str::<Rule>(&serde_json::to_string(&rule).unwrap()).unwrap(), rule);
        }
        let error = serde_json::from_str::<Rule>(r#"{"effect":{"slow":{"sm":1}}}"#).unwrap_err().to_string();
        assert!(error.contains("sm"), "{error}");
        assert!(serde_json::from_str::<Rule>(r#"{"effect":"hang","tenent":null}"#).is_err());
    }
}
