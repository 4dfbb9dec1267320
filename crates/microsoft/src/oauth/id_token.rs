//! Who signed in, as a token says that came by way of a browser: believed only after every check.
//!
//! All of it is pure; keys, clock and expectations are handed in. Each check that says no has a code of its own for
//! the log and the audit, and one sentence, the same for all, for whoever sits in front of the browser.

use domain::consent::Account;
use domain::{TenantId, Ticks, Verdict};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode};
use serde::Deserialize;

use super::error::SignInError;
use super::keys::{self, Found, Key, Keys};
use crate::members::{members, text};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How far their clock and ours may be apart.
const LEEWAY: f64 = 300.0;
/// Longer than any token that a sign-in gives; what is longer is not even decoded.
const LONGEST: usize = 64 * 1024;

/// As long as a user principal name may be: 64 before the @, 48 behind it, and room for what guests are called.
const LONGEST_NAME: usize = 256;

/// What a token must say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) tenant: TenantId,
    /// As discovery spelled it; `{tenantid}` stands for the tenant.
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    /// `None` where no browser was involved (device code), and none was sent.
    pub(crate) nonce: Option<&'a str>,
    pub(crate) now: Ticks,
}

/// Which check said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    Missing,
    Unreadable,
    Algorithm,
    UnknownKey,
    UnfitKey,
    Signature,
    Issuer,
    Audience,
    Expired,
    NotYet,
    Nonce,
    Tenant,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    nonce: Option<String>,
    tid: Option<String>,
    azp: Option<String>,
    oid: Option<String>,
    preferred_username: Option<String>,
    upn: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    /// Whether it is ours and nobody else's: a token for several is one that another of them could have passed on.
    fn is_only(&self, client_id: &str) -> bool {
        match self {
            Self::One(one) => one == client_id,
            Self::Many(many) => many.len() == 1 && many[0] == client_id,
        }
    }
}

/// Checks everything: form, algorithm, key, signature, issuer, audience, time, nonce, tenant; in this order, so that
/// nothing of a token is looked at before its signature has been checked.
pub(crate) fn check(token: &str, keys: &Keys, expected: &Expected<'_>) -> Result<Account, Flaw> {
    let (algorithm, key) = key_of(token, keys)?;
    let mut validation = Validation::new(algorithm);
    // The library would read the machine's clock, and knows nothing of tenants: the claims are checked below.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let claims = decode::<Claims>(token, &key.decoding, &validation).map_err(|error| match error.kind() {
        ErrorKind::Json(_) | ErrorKind::Utf8(_) => Flaw::Unreadable,
        _ => Flaw::Signature,
    })?;
    check_claims(claims.claims, key, expected)
}

fn key_of<'k>(token: &str, keys: &'k Keys) -> Result<(Algorithm, &'k Key), Flaw> {
    if token.is_empty() {
        return Err(Flaw::Missing);
    }
    let mut parts = token.split('.');
    let (Some(header), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Flaw::Unreadable);
    };
    if token.len() > LONGEST {
        return Err(Flaw::Unreadable);
    }
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| Flaw::Unreadable)?;
    let header = std::str::from_utf8(&header).map_err(|_| Flaw::Unreadable)?;
    let [alg, kid, crit] = members(header, ["alg", "kid", "crit"]).map_err(|_| Flaw::Unreadable)?;
    // Something that must be understood and is not: RFC 7515 leaves no choice.
    if crit.is_some() {
        return Err(Flaw::Unreadable);
    }
    let algorithm = text(alg).and_then(|alg| keys::algorithm(&alg)).ok_or(Flaw::Algorithm)?;
    let kid = text(kid).ok_or(Flaw::UnfitKey)?;
    match keys.find(&kid, algorithm) {
        Found::Key(key) => Ok((algorithm, key)),
        Found::Unfit => Err(Flaw::UnfitKey),
        Found::Unknown => Err(Flaw::UnknownKey),
    }
}

fn check_claims(claims: Claims, key: &Key, expected: &Expected<'_>) -> Result<Account, Flaw> {
    let spelled_out = |issuer: &str| issuer.replace("{tenantid}", &expected.tenant.to_string());
    if claims.iss != spelled_out(expected.issuer) || key.issuer.as_deref().is_some_and(|issuer| spelled_out(issuer) != claims.iss) {
        return Err(Flaw::Issuer);
    }
    let ours = |id: &str| id == expected.client_id;
    if !claims.aud.is_only(expected.client_id) || !claims.azp.as_deref().is_none_or(ours) {
        return Err(Flaw::Audience);
    }
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below what a float holds exactly")]
    let now = expected.now.0.div_euclid(10_000_000) as f64;
    if now >= claims.exp + LEEWAY {
        return Err(Flaw::Expired);
    }
    if [claims.nbf, claims.iat].into_iter().flatten().any(|begin| begin > now + LEEWAY) {
        return Err(Flaw::NotYet);
    }
    if expected.nonce.is_some() && claims.nonce.as_deref() != expected.nonce {
        return Err(Flaw::Nonce);
    }
    let tenant = claims.tid.as_deref().and_then(|tid| uuid::Uuid::try_parse(tid).ok());
    if tenant != Some(expected.tenant.0) {
        return Err(Flaw::Tenant);
    }
    let name = [claims.preferred_username, claims.upn].into_iter().flatten().find(|name| is_plain(name));
    Ok(Account { oid: claims.oid.as_deref().and_then(crate::error::harmless), name })
}

/// Whether a name that somebody may have chosen for himself is fit for an audit log.
fn is_plain(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Flaw {
    /// The code in the log and the audit, and what was wrong.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Missing => ("id-token-missing", "is not there"),
            Self::Unreadable => ("id-token-unreadable", "cannot be read"),
            Self::Algorithm => ("id-token-algorithm", "is signed in a way that is not accepted"),
            Self::UnknownKey => ("id-token-key", "is signed with a key that the sign-in service does not name"),
            Self::UnfitKey => ("id-token-key", "is signed with a key that is not for it"),
            Self::Signature => ("id-token-signature", "has a signature that is wrong"),
            Self::Issuer => ("id-token-issuer", "comes from another issuer"),
            Self::Audience => ("id-token-audience", "is for another app"),
            Self::Expired => ("id-token-expired", "has expired"),
            Self::NotYet => ("id-token-not-yet-valid", "is of the future"),
            Self::Nonce => ("id-token-nonce", "belongs to another sign-in"),
            Self::Tenant => ("id-token-tenant", "is of another tenant"),
        }
    }
}

impl From<Flaw> for SignInError {
    fn from(flaw: Flaw) -> Self {
        let (code, what) = flaw.words();
        let action = match flaw {
            Flaw::Expired | Flaw::NotYet => "you: check this machine's clock, then make a new link and have it opened",
            _ => "you: make a new link and have it opened by the customer's administrator; if it happens again, look at who had the link",
        };
        Self::new(Verdict::NeedsConsent, code, format!("the token that says who signed in {what}; nothing of it was kept"), action)
    }
}

#[cfg(test)]
mod tests;
