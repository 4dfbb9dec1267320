//! Refresh tokens and access tokens: how they are made, recognised, exchanged and killed.
//!
//! A refresh token names its tenant, its family (all tokens that stem from one consent) and its generation
//! within it, sealed so that only this simulator can make one. Nothing is stored per token, so a long run does
//! not grow, and a simulator started again with the same seed still knows the tokens it gave out before.

use super::errors::Refusal;
use super::jwt::Mint;
use crate::scenario::Endpoint;
use crate::settings::Rotation;
use crate::stamp::Stamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// What a refresh token says.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ticket {
    pub(crate) tenant: Uuid,
    pub(crate) family: u32,
    pub(crate) generation: u64,
}

impl Ticket {
    /// The name under which the journal knows it.
    pub(crate) fn name(&self) -> String {
        format!("rt-{}.{}", self.family, self.generation)
    }
}

#[derive(Debug, Default)]
struct Family {
    newest: u64,
    dead: Option<u32>,
}

/// The books about refresh tokens.
#[derive(Debug, Default)]
pub(crate) struct Families {
    families: Mutex<HashMap<(Uuid, u32), Family>>,
}

impl Families {
    /// The first token of the family that every tenant has from the start.
    pub(crate) fn original(tenant: Uuid) -> Ticket {
        Ticket { tenant, family: 0, generation: 0 }
    }

    /// The first token of a new family: what a fresh consent yields.
    pub(crate) fn start(&self, tenant: Uuid) -> Ticket {
        let mut families = self.lock();
        let family = 1 + families.keys().filter(|(owner, _)| *owner == tenant).map(|(_, family)| *family).max().unwrap_or(0);
        families.insert((tenant, family), Family::default());
        Ticket { tenant, family, generation: 0 }
    }

    /// Kills all tokens a tenant has so far; those from a later consent live.
    pub(crate) fn revoke(&self, tenant: Uuid, code: u32) {
        let mut families = self.lock();
        families.entry((tenant, 0)).or_default();
        for (_, family) in families.iter_mut().filter(|((owner, _), _)| *owner == tenant) {
            family.dead = Some(code);
        }
    }

    /// Exchanges a token for its successor.
    pub(crate) fn exchange(&self, ticket: Ticket, rotation: Rotation) -> Result<Ticket, Refusal> {
        let mut families = self.lock();
        let family = families.entry((ticket.tenant, ticket.family)).or_default();
        if let Some(code) = family.dead {
            return Err(Refusal::of(code));
        }
        if rotation == Rotation::Strict && ticket.generation < family.newest {
            family.dead = Some(50173);
            return Err(Refusal::of(70000).about("It was used before; all tokens of this sign-in have been revoked."));
        }
        family.newest = family.newest.max(ticket.generation) + 1;
        Ok(Ticket { generation: family.newest, ..ticket })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Uuid, u32), Family>> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text of a refresh token.
pub(crate) fn write(mint: &Mint, ticket: Ticket) -> String {
    let mut bytes = ticket.tenant.as_bytes().to_vec();
    bytes.extend(ticket.family.to_be_bytes());
    bytes.extend(ticket.generation.to_be_bytes());
    format!("1.A{}{}.{}", mint.marker(), URL_SAFE_NO_PAD.encode(&bytes), mint.seal(&bytes, 480))
}

/// What a refresh token says, if it is one of ours and whole.
pub(crate) fn read(mint: &Mint, text: &str) -> Option<Ticket> {
    let (payload, _) = text.strip_prefix("1.A")?.strip_prefix(mint.marker())?.split_once('.')?;
    let bytes = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let (tenant, rest) = bytes.split_first_chunk::<16>()?;
    let (family, rest) = rest.split_first_chunk::<4>()?;
    let (generation, _) = rest.split_first_chunk::<8>()?;
    let ticket =
        Ticket { tenant: Uuid::from_bytes(*tenant), family: u32::from_be_bytes(*family), generation: u64::from_be_bytes(*generation) };
    (write(mint, ticket) == text).then_some(ticket)
}

/// What a good access token allows.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) tenant: Uuid,
    pub(crate) audience: String,
    /// The roles or scopes that were granted.
    permissions: Vec<String>,
}

impl Access {
    /// Whether one of the permissions is for this endpoint.
    pub(crate) fn allows(&self, endpoint: Endpoint) -> bool {
        let subject = match endpoint {
            Endpoint::Incidents => "SecurityIncident.",
            Endpoint::Defender => "Alert.",
            _ => "SecurityAlert.",
        };
        self.permissions.iter().any(|permission| permission.starts_with(subject))
    }
}

/// Why an access token is not good.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum BadAccess {
    Missing,
    Unknown,
    Expired,
}

/// What an access token allows at this moment; the name is for the journal.
pub(crate) fn check(mint: &Mint, token: &str, now: Stamp) -> (Option<String>, Option<Uuid>, Result<Access, BadAccess>) {
    let Some(claims) = mint.read(token) else { return (None, None, Err(BadAccess::Unknown)) };
    let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
    let name = Some(text("uti"));
    let Ok(tenant) = text("tid").parse::<Uuid>() else { return (name, None, Err(BadAccess::Unknown)) };
    if claims["exp"].as_i64().is_none_or(|expiry| expiry <= now.unix_seconds()) {
        return (name, Some(tenant), Err(BadAccess::Expired));
    }
    let roles = claims["roles"].as_array().into_iter().flatten().filter_map(|role| role.as_str().map(str::to_owned));
    let permissions = roles.chain(text("scp").split_whitespace().map(str::to_owned)).collect();
    (name, Some(tenant), Ok(Access { tenant, audience: text("aud"), permissions }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refresh_tokens_are_recognised_only_whole_and_by_their_maker() {
        let mint = Mint::new(1, Some("MARK-er_1"));
        let ticket = Ticket { tenant: Uuid::from_u128(7), family: 2, generation: 9 };
        let text = write(&mint, ticket);
        assert!(text.contains("MARK-er_1") && text.len() > 500, "{} characters", text.len());
        assert_eq!(read(&mint, &text), Some(ticket));
        assert_eq!(read(&mint, &text[..text.len() - 1]), None);
        assert_eq!(read(&mint, &text.to_lowercase()), None);
        assert_eq!(read(&Mint::new(2, Some("MARK-er_1")), &text), None);
        assert_eq!(read(&mint, ""), None);
    }
}
