//! Passwords as Postgres keeps them (RFC 5802, 7677), made here so that no statement and no log holds one.

use std::num::NonZeroU32;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// As many rounds as Postgres itself uses.
const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).expect("not 0");

/// What the server has to know to recognise a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier(String);

/// Why a password or its verifier could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Characters that client and server would have to agree on first.
    #[error("it may hold printable ASCII characters only")]
    NotPlain,
    /// Whoever steals the verifiers can try passwords as fast as he likes.
    #[error("it is shorter than 16 characters")]
    Short,
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandom,
}

impl Verifier {
    /// The verifier of a password, under a salt of its own.
    ///
    /// # Errors
    /// When the password cannot be used.
    pub fn of(password: &str) -> Result<Self, PasswordError> {
        if !password.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(PasswordError::NotPlain);
        }
        if password.len() < 16 {
            return Err(PasswordError::Short);
        }
        Ok(Self(verifier(password, random::<16>()?.as_slice())))
    }

    /// A string literal of SQL. It has no quote in it.
    pub(super) fn literal(&self) -> String {
        format!("'{}'", self.0)
    }
}

/// A password of 192 random bits that can be written anywhere.
///
/// # Errors
/// [`PasswordError::NoRandom`].
pub fn random_password() -> Result<Zeroizing<String>, PasswordError> {
    Ok(Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(random::<24>()?.as_slice())))
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, PasswordError> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| PasswordError::NoRandom)?;
    Ok(bytes)
}

fn verifier(password: &str, salt: &[u8]) -> String {
    let mut salted = Zeroizing::new([0; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt, password.as_bytes(), salted.as_mut_slice());
    let key = hmac::Key::new(hmac::HMAC_SHA256, salted.as_slice());
    let client = hmac::sign(&key, b"Client Key");
    let stored = digest::digest(&digest::SHA256, client.as_ref());
    let server = hmac::sign(&key, b"Server Key");
    let text = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    format!("SCRAM-SHA-256${ROUNDS}:{}${}:{}", text(salt), text(stored.as_ref()), text(server.as_ref()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_example_of_rfc_7677_has_the_verifier_that_postgres_makes_of_it() {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        assert_eq!(
            verifier("pencil", &salt),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn a_password_that_could_be_guessed_or_spelt_in_two_ways_is_refused() {
        assert_eq!(Verifier::of("short"), Err(PasswordError::Short));
        assert_eq!(Verifier::of("schön-lang-und-doch-nicht"), Err(PasswordError::NotPlain));
        let made = random_password().unwrap();
        assert_eq!(made.len(), 32);
        let (once, again) = (Verifier::of(&made).unwrap(), Verifier::of(&made).unwrap());
        assert_ne!(once, again, "each has a salt of its own");
        assert!(!once.literal().contains(made.as_str()));
    }
}
