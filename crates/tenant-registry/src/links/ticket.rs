//! What lies in an address or a cookie: whose it is, which it is, and 256 bits that nobody can guess.
//!
//! The database keeps a hash of the whole, so that whoever reads it can neither open a link nor answer a sign-in.
//! The ids are in the clear, because every look-up begins with the tenant; they tell nobody anything of use.

use std::fmt;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::TenantId;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::vault::VaultError;

const SECRET_BYTES: usize = 32;
const BYTES: usize = 16 + 16 + SECRET_BYTES;

/// A link, the state of a sign-in, or the key of a browser. Prints as nothing.
#[derive(Clone)]
pub struct Ticket {
    tenant: TenantId,
    id: Uuid,
    bytes: Zeroizing<[u8; BYTES]>,
}

impl Ticket {
    /// A fresh one.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub(crate) fn random(tenant: TenantId, id: Uuid) -> Result<Self, VaultError> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        bytes[..16].copy_from_slice(tenant.0.as_bytes());
        bytes[16..32].copy_from_slice(id.as_bytes());
        SystemRandom::new().fill(&mut bytes[32..]).map_err(|_| VaultError::NoRandomness)?;
        Ok(Self { tenant, id, bytes })
    }

    /// Reads what [`Ticket::text`] wrote; `None` when it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        // Longer texts are not even decoded.
        if text.len() != (BYTES * 4).div_ceil(3) {
            return None;
        }
        let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        let bytes = Zeroizing::new(<[u8; BYTES]>::try_from(decoded.as_slice()).ok()?);
        let uuid = |at: usize| Uuid::from_slice(&bytes[at..at + 16]).ok();
        Some(Self { tenant: TenantId(uuid(0)?), id: uuid(16)?, bytes: bytes.clone() })
    }

    /// For an address or a cookie: letters, digits, `-` and `_`.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.bytes.as_slice()))
    }

    /// Whose it is.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Which link or sign-in.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// What is stored of it. `purpose` keeps a link from passing as a state, and a state as a browser's key.
    pub(crate) fn hash(&self, purpose: Purpose) -> [u8; 32] {
        blake3::derive_key(purpose.context(), self.bytes.as_slice())
    }

    /// The verifier of the code challenge (RFC 7636), of a browser's key.
    pub fn verifier(&self) -> Zeroizing<String> {
        self.derived("tocsin 2026-11 pkce verifier")
    }

    /// The nonce that the identity token has to repeat, of a browser's key.
    pub fn nonce(&self) -> Zeroizing<String> {
        self.derived("tocsin 2026-11 sign-in nonce")
    }

    fn derived(&self, context: &str) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(blake3::derive_key(context, self.bytes.as_slice())))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("tenant", &self.tenant).field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a ticket is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Link,
    State,
    Browser,
}

impl Purpose {
    fn context(self) -> &'static str {
        match self {
            Self::Link => "tocsin 2026-11 link",
            Self::State => "tocsin 2026-11 sign-in state",
            Self::Browser => "tocsin 2026-11 sign-in browser",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket::random(TenantId(Uuid::from_u128(7)), Uuid::from_u128(9)).unwrap()
    }

    #[test]
    fn a_ticket_survives_its_address_and_prints_as_nothing() {
        let ticket = ticket();
        let text = ticket.text();
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{}", *text);
        let again = Ticket::parse(&text).unwrap();
        assert_eq!((again.tenant(), again.id()), (TenantId(Uuid::from_u128(7)), Uuid::from_u128(9)));
        assert_eq!(again.hash(Purpose::Link), ticket.hash(Purpose::Link));
        let secret = URL_SAFE_NO_PAD.encode(&ticket.bytes[32..]);
        assert!(!format!("{ticket:?}").contains(&secret));
    }

    #[test]
    fn every_character_counts_and_nothing_else_passes() {
        let text = ticket().text().to_string();
        for at in 0..text.len() - 1 {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = Ticket::parse(std::str::from_utf8(&other).unwrap()).unwrap();
            assert_ne!(other.hash(Purpose::State), Ticket::parse(&text).unwrap().hash(Purpose::State), "character {at}");
        }
        let long = text.repeat(1000);
        for wrong in ["", "x", &text[1..], &format!("{text}A"), &format!("{text}="), &text.replace(&text[..1], "%"), &long] {
            assert!(Ticket::parse(wrong).is_none(), "{wrong:.100}");
        }
    }

    #[test]
    fn one_ticket_is_never_good_for_two_purposes() {
        let ticket = ticket();
        let hashes = [Purpose::Link, Purpose::State, Purpose::Browser].map(|purpose| ticket.hash(purpose));
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
        assert_ne!(*ticket.verifier(), *ticket.nonce());
        assert!((43..=128).contains(&ticket.verifier().len()), "as RFC 7636 wants it");
    }
}
