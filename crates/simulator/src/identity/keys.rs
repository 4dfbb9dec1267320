//! The keys that id tokens are really signed with, so that a client can be held to checking them.
//!
//! Making an RSA key takes a tenth of a second, so all simulators of a process share a row of them, made when first
//! needed; each simulator has its own place in that row, and changing keys means going one further.

use super::jwt::Mint;
use crate::json::Json;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

static ROW: Mutex<Vec<Arc<Key>>> = Mutex::new(Vec::new());

struct Key {
    pair: KeyPair,
    id: String,
}

impl Key {
    fn at(place: usize) -> Arc<Key> {
        let mut row = ROW.lock().unwrap_or_else(PoisonError::into_inner);
        while row.len() <= place {
            // Fails only when the system gives no randomness, and then nothing else works either.
            let pair = KeyPair::generate(KeySize::Rsa2048).expect("an RSA key of 2048 bits can be made");
            let id = URL_SAFE_NO_PAD.encode(&digest(&SHA256, pair.public_key().as_ref()).as_ref()[..20]);
            row.push(Arc::new(Key { pair, id }));
        }
        row[place].clone()
    }
}

/// The keys of one simulator.
#[derive(Debug, Default)]
pub(crate) struct SigningKeys(AtomicUsize);

impl SigningKeys {
    /// From now on tokens are signed with a key that was not published before.
    pub(crate) fn change(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// A token with these claims, signed with the key of today.
    pub(crate) fn sign(&self, claims: impl FnOnce(&mut Json)) -> String {
        let key = Key::at(self.0.load(Ordering::SeqCst));
        let header = Json::render(120, |json| {
            json.str("typ", "JWT");
            json.str("alg", "RS256");
            json.str("kid", &key.id);
        });
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(Json::render(700, claims)));
        let mut signature = vec![0; key.pair.public_modulus_len()];
        let outcome = key.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature);
        outcome.expect("a key of our own making signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The document that names the keys: that of today and, for tokens that are still about, that of yesterday.
    pub(crate) fn document(&self, issuer: &str) -> String {
        let today = self.0.load(Ordering::SeqCst);
        Json::render(1500, |json| {
            json.array("keys", |json| {
                for place in today.saturating_sub(1)..=today {
                    let key = Key::at(place);
                    let (modulus, exponent) = numbers(key.pair.public_key().as_ref());
                    json.item(|json| {
                        json.str("kty", "RSA");
                        json.str("use", "sig");
                        json.str("kid", &key.id);
                        json.str("x5t", &key.id);
                        json.str("n", &URL_SAFE_NO_PAD.encode(modulus));
                        json.str("e", &URL_SAFE_NO_PAD.encode(exponent));
                        json.str("issuer", issuer);
                    });
                }
            });
        })
    }
}

/// Modulus and exponent of a public key as PKCS#1 writes it: a sequence of two integers.
fn numbers(der: &[u8]) -> (&[u8], &[u8]) {
    let (_, sequence, _) = element(der);
    let (_, modulus, rest) = element(sequence);
    let (_, exponent, _) = element(rest);
    // A zero in front only says that the number is not negative.
    (modulus.strip_prefix(&[0]).unwrap_or(modulus), exponent)
}

/// Tag, content and what follows of the first element. The bytes are those of a key that this process has made.
fn element(der: &[u8]) -> (u8, &[u8], &[u8]) {
    let (length, from) = match der[1] {
        short @ 0..=0x7f => (usize::from(short), 2),
        long => {
            let digits = usize::from(long & 0x7f);
            (der[2..2 + digits].iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)), 2 + digits)
        }
    };
    (der[0], &der[from..from + length], &der[from + length..])
}

impl Mint {
    /// A text that a leak scan finds, as a claim of a token whose signature leaves no room for it.
    pub(crate) fn mark(&self, json: &mut Json) {
        if !self.marker().is_empty() {
            json.str("rh", self.marker());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

    #[test]
    fn what_is_signed_can_be_checked_with_what_is_published_until_the_day_after_a_change() {
        let keys = SigningKeys::default();
        let token = keys.sign(|json| json.str("sub", "x"));
        let check = |token: &str, document: &str| {
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let header: serde_json::Value =
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().0).unwrap()).unwrap();
            let document: serde_json::Value = serde_json::from_str(document).unwrap();
            let Some(key) = document["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]) else { return false };
            let bytes = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
            let public = RsaPublicKeyComponents { n: bytes("n"), e: bytes("e") };
            public.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
            true
        };
        let before = keys.document("x");
        assert!(check(&token, &before));
        keys.change();
        let later = keys.sign(|json| json.str("sub", "x"));
        assert!(!check(&later, &before), "nobody has seen the new key yet");
        assert!(check(&later, &keys.document("x")) && check(&token, &keys.document("x")));
    }
}
