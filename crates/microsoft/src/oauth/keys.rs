//! The keys that a tenant's sign-in service signs with (JWKS): read leniently, used strictly.
//!
//! A set is another machine's text. One key that cannot be understood must not take the others along, since services
//! add kinds of keys as they like; and a key is used only for what it says that it is for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::{Clock, Ticks, Verdict};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use url::Url;
use uuid::Uuid;

use super::error::{self, SignInError};
use crate::clouds::Cloud;
use crate::http::{self, Http, read_page_body};

/// More keys than any service has.
const MOST: usize = 100;
/// Larger than any set that was seen.
pub(super) const LARGEST: usize = 256 * 1024;
/// How often a set is fetched at most because a token names a key that is not in it. Whoever shows us tokens with
/// made-up keys makes us ask no more often than this; whoever changes its keys waits no longer than this for us.
const BETWEEN: Duration = Duration::from_secs(30);
/// After this a set is fetched anew although it knows the key, so that a withdrawn one is forgotten.
const OLDEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A set of keys.
#[derive(Default)]
pub(crate) struct Keys(Vec<Key>);

/// One key.
pub(crate) struct Key {
    id: String,
    kind: Kind,
    /// The one algorithm it is for, if it says so.
    algorithm: Option<Algorithm>,
    /// For whose tokens it is, if it says so; Entra writes `{tenantid}` for each tenant's own.
    pub(super) issuer: Option<String>,
    pub(super) decoding: DecodingKey,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    Curve,
}

#[derive(Deserialize)]
struct Written {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    issuer: Option<String>,
}

impl Keys {
    /// Reads a set; `None` when it is none. Keys that cannot be used are left out.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(body).ok()?;
        let written = set.keys.into_iter().take(MOST).filter_map(|key| serde_json::from_value::<Written>(key).ok());
        Some(Self(written.filter_map(usable).collect()))
    }

    /// The key of this name that can check this algorithm.
    pub(super) fn find(&self, id: &str, algorithm: Algorithm) -> Found<'_> {
        let mut named = self.0.iter().filter(|key| key.id == id).peekable();
        if named.peek().is_none() {
            return Found::Unknown;
        }
        named.find(|key| key.checks(algorithm)).map_or(Found::Unfit, Found::Key)
    }
}

/// What a set says of a key.
pub(super) enum Found<'a> {
    Key(&'a Key),
    /// It is for something else.
    Unfit,
    Unknown,
}

impl Key {
    fn checks(&self, algorithm: Algorithm) -> bool {
        let kind = match algorithm {
            Algorithm::ES256 => Kind::Curve,
            _ => Kind::Rsa,
        };
        self.kind == kind && self.algorithm.is_none_or(|only| only == algorithm)
    }
}

/// The algorithms that are accepted: signatures with a public key, of today's strength.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "RS256" => Some(Algorithm::RS256),
        "PS256" => Some(Algorithm::PS256),
        "ES256" => Some(Algorithm::ES256),
        _ => None,
    }
}

fn usable(written: Written) -> Option<Key> {
    if written.purpose.is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let only = match written.alg.as_deref() {
        Some(name) => Some(algorithm(name)?),
        None => None,
    };
    let (kind, decoding) = match (written.kty.as_str(), written.crv.as_deref()) {
        ("RSA", _) => (Kind::Rsa, DecodingKey::from_rsa_components(&written.n?, &written.e?).ok()?),
        ("EC", Some("P-256")) => (Kind::Curve, DecodingKey::from_ec_components(&written.x?, &written.y?).ok()?),
        _ => return None,
    };
    Some(Key { id: written.kid, kind, algorithm: only, issuer: written.issuer, decoding })
}

/// The sets that were fetched, by issuer.
#[derive(Default)]
pub(super) struct Shelf(Mutex<HashMap<String, Arc<Place>>>);

/// Held while a set is fetched, so that one tenant's slow service keeps no other waiting and is asked once.
type Place = tokio::sync::Mutex<Option<Fetched>>;

#[derive(Clone)]
struct Fetched {
    keys: Arc<Keys>,
    at: Ticks,
}

/// Where a set is.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) cloud: &'a Cloud,
    pub(super) issuer: &'a str,
    pub(super) address: &'a Url,
}

impl Shelf {
    /// The set of this issuer, fetched when we have none that is fresh enough.
    pub(super) async fn get(&self, http: &Http, clock: &dyn Clock, source: Source<'_>) -> Result<Arc<Keys>, SignInError> {
        self.younger_than(OLDEST, http, clock, source).await.map(|fetched| fetched.keys)
    }

    /// The set of this issuer after a token named a key that is not in `seen`; `None` when it was fetched a moment ago.
    pub(super) async fn again(
        &self,
        http: &Http,
        clock: &dyn Clock,
        source: Source<'_>,
        seen: &Arc<Keys>,
    ) -> Result<Option<Arc<Keys>>, SignInError> {
        let fetched = self.younger_than(BETWEEN, http, clock, source).await?;
        Ok((!Arc::ptr_eq(&fetched.keys, seen)).then_some(fetched.keys))
    }

    async fn younger_than(&self, age: Duration, http: &Http, clock: &dyn Clock, source: Source<'_>) -> Result<Fetched, SignInError> {
        let place = Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(source.issuer.to_owned()).or_default());
        let mut place = place.lock().await;
        let now = clock.now();
        // A clock that was set back makes a set look as if it came from the future: then it is fetched.
        if let Some(fetched) = &*place
            && fetched.at <= now
            && now.since(fetched.at) < age
        {
            return Ok(fetched.clone());
        }
        let fetched = Fetched { keys: Arc::new(fetch(http, source).await?), at: now };
        *place = Some(fetched.clone());
        Ok(fetched)
    }
}

async fn fetch(http: &Http, source: Source<'_>) -> Result<Keys, SignInError> {
    if !http::same_origin(source.address, &source.cloud.login_url) {
        return Err(elsewhere());
    }
    let answer = http.get_public(source.address, source.cloud.allow_plaintext, &Uuid::new_v4().to_string()).await;
    let answer = answer.map_err(|failure| error::unanswered(&failure))?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = read_page_body(answer, LARGEST).await.map_err(|failure| error::unanswered(&failure))?;
    if status != reqwest::StatusCode::OK {
        return Err(error::refused(status.as_u16(), &headers, &body, Ticks(0)));
    }
    // One without a key that we could use is an accident of the other side, and not to be believed for long.
    Keys::read(&body).filter(|keys| !keys.0.is_empty()).ok_or_else(|| {
        let action =
            "you, if it lasts: check that login_url of this cloud leads to Microsoft's sign-in service and no proxy answers in its place";
        SignInError::new(
            Verdict::Retry,
            "bad-answer",
            "the sign-in service answered with no key that we could check its tokens with",
            action,
        )
    })
}

/// The set of keys lies on another host than the sign-in service: whoever answers there could sign anything.
pub(super) fn elsewhere() -> SignInError {
    let reason = "the sign-in service names keys that lie on another host; it was not believed";
    SignInError::new(Verdict::OurBug, "foreign-keys", reason, "you: check login_url of this cloud; it is not Microsoft's sign-in service")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(body: &str) -> Option<usize> {
        Keys::read(body.as_bytes()).map(|keys| keys.0.len())
    }

    #[test]
    fn a_key_that_is_not_understood_does_not_take_the_others_along() {
        const GOOD: &str = r#"{"kty":"RSA","kid":"1","use":"sig","n":"sXch","e":"AQAB","x5c":["x"],"issuer":"https://x/{tenantid}/v2.0"}"#;
        for (other, found) in [
            (r#"{"kty":"EC","kid":"2","crv":"P-256","x":"AA","y":"AA"}"#, 2),
            (r#"{"kty":"EC","kid":"2","crv":"P-521","x":"AA","y":"AA"}"#, 1),
            (r#"{"kty":"oct","kid":"2","k":"c2VjcmV0"}"#, 1),
            (r#"{"kty":"AKP","kid":"2","alg":"ML-DSA-44","pub":"AA"}"#, 1),
            (r#"{"kty":"RSA","kid":"2","use":"enc","n":"sXch","e":"AQAB"}"#, 1),
            (r#"{"kty":"RSA","kid":"2","alg":"HS256","n":"sXch","e":"AQAB"}"#, 1),
            (r#"{"kty":"RSA","kid":"2","alg":"none","n":"sXch","e":"AQAB"}"#, 1),
            (r#"{"kty":"RSA","kid":"2","n":"***","e":"AQAB"}"#, 1),
            (r#"{"kty":"RSA","kid":"2","e":"AQAB"}"#, 1),
            (r#"{"kty":"RSA","n":"sXch","e":"AQAB"}"#, 1),
            ("7", 1),
            ("null", 1),
        ] {
            assert_eq!(count(&format!(r#"{{"keys":[{other},{GOOD}]}}"#)), Some(found), "{other}");
        }
    }

    #[test]
    fn what_is_no_set_is_none() {
        for body in ["", "{}", "[]", "null", r#"{"keys":{}}"#, r#"{"keys":[}"#, "<html>"] {
            assert_eq!(count(body), None, "{body}");
        }
        let many = format!(r#"{{"keys":[{}]}}"#, vec![r#"{"kty":"RSA","kid":"1","n":"sXch","e":"AQAB"}"#; 200].join(","));
        assert_eq!(count(&many), Some(MOST));
    }

    #[test]
    fn a_key_is_used_for_what_it_is_for() {
        let keys = Keys::read(
            br#"{"keys":[{"kty":"RSA","kid":"any","n":"sXch","e":"AQAB"},{"kty":"RSA","kid":"one","alg":"RS256","n":"sXch","e":"AQAB"},
                {"kty":"EC","kid":"curve","crv":"P-256","x":"AA","y":"AA"}]}"#,
        )
        .unwrap();
        for (id, algorithm, found) in [
            ("any", Algorithm::RS256, "key"),
            ("any", Algorithm::PS256, "key"),
            ("any", Algorithm::ES256, "unfit"),
            ("one", Algorithm::RS256, "key"),
            ("one", Algorithm::PS256, "unfit"),
            ("curve", Algorithm::ES256, "key"),
            ("curve", Algorithm::RS256, "unfit"),
            ("ANY", Algorithm::RS256, "unknown"),
            ("", Algorithm::RS256, "unknown"),
        ] {
            let said = match keys.find(id, algorithm) {
                Found::Key(_) => "key",
                Found::Unfit => "unfit",
                Found::Unknown => "unknown",
            };
            assert_eq!(said, found, "{id} {algorithm:?}");
        }
    }
}
