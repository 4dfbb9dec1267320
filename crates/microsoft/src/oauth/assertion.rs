//! How our app proves itself with a certificate: a short-lived token of its own, signed for one address
//! (`private_key_jwt`, RFC 7523, in the form that Entra documents: PS256 and `x5t#S256`).
//!
//! Several certificates make a rotation without a gap. Of those that are good today each call uses the first, unless
//! Entra has said that it does not know it; then the next is tried, in that same call, and the one that worked is
//! remembered. So the new certificate may be put into the file before or after it is put into the app registration.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::RSA_PSS_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{ClientAssertion, PrivateKeyPem, SigningCertificate, Ticks, Verdict};
use serde_json::json;
use uuid::Uuid;

use super::error::SignInError;
use crate::certificates::{self, Certificate};

/// `client_assertion_type` of every assertion.
pub(super) const KIND: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How long an assertion is good: Entra asks for five to ten minutes.
const LIFE: Duration = Duration::from_secs(10 * 60);
/// Entra does not know the certificate that signed. Other faults of an assertion (time, subject) are those of every
/// certificate, and another one would not help.
const UNKNOWN_CERTIFICATE: [u32; 3] = [700_027, 50012, 700_030];

/// Whether the answer says that another certificate may help.
pub(super) fn is_about_the_certificate(codes: &[u32]) -> bool {
    codes.iter().any(|code| UNKNOWN_CERTIFICATE.contains(code))
}

/// A certificate that is good now, with its key.
pub(super) struct Signer<'a> {
    pub(super) thumbprint: String,
    key: &'a PrivateKeyPem,
}

/// What an assertion says.
pub(super) struct Statement<'a> {
    /// The address that it is sent to, and good for.
    pub(super) audience: &'a str,
    pub(super) client_id: &'a str,
    pub(super) now: Ticks,
    /// Makes it unique.
    pub(super) id: Uuid,
}

impl Signer<'_> {
    /// Signs a statement.
    ///
    /// Header and claims are all ours, so nothing has to be escaped by hand and the compact form is three parts; the
    /// cryptography is the library's. The key stays in memory that the library wipes.
    pub(super) fn sign(&self, statement: &Statement<'_>) -> Result<ClientAssertion, SignInError> {
        let header = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": self.thumbprint });
        let now = statement.now.0.div_euclid(10_000_000);
        let claims = json!({
            "aud": statement.audience,
            "iss": statement.client_id,
            "sub": statement.client_id,
            "jti": statement.id,
            "nbf": now,
            "iat": now,
            "exp": now.saturating_add_unsigned(LIFE.as_secs()),
        });
        let encode = |part: &serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let key = certificates::signer(self.key).map_err(|error| unusable(&error.to_string()))?;
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| unusable("holds a private key that does not sign"))?;
        let assertion = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        ClientAssertion::new(assertion).ok_or_else(|| unusable("makes an empty signature"))
    }
}

/// The certificates that are good now, in their order. An error when there is none, in words: our app is at fault, and
/// no tenant is.
pub(super) fn usable(certificates: &[SigningCertificate], now: Ticks) -> Result<Vec<Signer<'_>>, SignInError> {
    let mut signers = Vec::new();
    let mut others = Vec::new();
    for pair in certificates {
        let certificate = certificates::read(&pair.certificate_pem).map_err(|error| unusable(&error.to_string()))?;
        if certificate.is_valid_at(now) {
            signers.push(Signer { thumbprint: certificate.thumbprint, key: &pair.private_key });
        } else {
            others.push(certificate);
        }
    }
    if signers.is_empty() { Err(none_is_good(&others, now)) } else { Ok(signers) }
}

fn none_is_good(certificates: &[Certificate], now: Ticks) -> SignInError {
    let expired = certificates.iter().map(|certificate| certificate.not_after).filter(|end| *end <= now).max();
    let (code, reason) = match (expired, certificates.iter().map(|certificate| certificate.not_before).min()) {
        (Some(end), _) => ("certificate-expired", format!("the certificate of our app has expired (it was good until {end})")),
        (None, Some(begin)) => {
            ("certificate-not-yet-valid", format!("the certificate of our app is not good yet (it will be from {begin})"))
        }
        (None, None) => ("certificate-missing", "our app has no certificate".to_owned()),
    };
    let action = "you: add a new certificate to the app registration, then to certificate_file and its key to private_key_file; \
                  and check this machine's clock";
    SignInError::new(Verdict::Global, code, reason, action)
}

fn unusable(what: &str) -> SignInError {
    let action = "you: put the certificate of the app registration into certificate_file and its RSA key into private_key_file \
                  (tocsin config check reads both)";
    SignInError::new(Verdict::Global, "certificate-unusable", format!("the credential of our app {what}"), action)
}

/// Which certificate each app was last known by.
#[derive(Debug, Default)]
pub(super) struct Accepted(Mutex<BTreeMap<String, String>>);

impl Accepted {
    /// Puts the certificate first by which Entra knew this app last, where that is no longer the first of the file.
    pub(super) fn order(&self, client_id: &str, signers: &mut [Signer<'_>]) {
        let accepted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thumbprint) = accepted.get(client_id)
            && let Some(at) = signers.iter().position(|signer| signer.thumbprint == *thumbprint)
        {
            signers[..=at].rotate_right(1);
        }
    }

    /// Remembers the certificate that was tried after others and not refused.
    pub(super) fn note(&self, client_id: &str, signer: &Signer<'_>) {
        let mut accepted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.insert(client_id.to_owned(), signer.thumbprint.clone());
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

    use super::*;
    use crate::certificates::tests::made;

    fn pair(from: i32, until: i32) -> SigningCertificate {
        let (certificate, key) = made(from, until);
        certificates::pair(&certificate, &key).unwrap().remove(0)
    }

    fn at(text: &str) -> Ticks {
        Ticks::parse(text).unwrap()
    }

    #[test]
    fn an_assertion_says_who_we_are_to_one_address_for_ten_minutes() {
        let (pair, now) = ([pair(2026, 2027)], at("2026-11-21T12:00:00Z"));
        let signer = usable(&pair, now).unwrap().remove(0);
        let statement = Statement { audience: "https://login.test/t/oauth2/v2.0/token", client_id: "client", now, id: Uuid::from_u128(7) };
        let assertion = signer.sign(&statement).unwrap();
        // Checked by a library that had no part in writing it.
        let (_, pem) = x509_parser::pem::parse_x509_pem(pair[0].certificate_pem.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let key = DecodingKey::from_rsa_der(&certificate.public_key().subject_public_key.data);
        let mut validation = Validation::new(Algorithm::PS256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        let token = secrecy::ExposeSecret::expose_secret(&assertion);
        let read = decode::<serde_json::Value>(token, &key, &validation).unwrap();
        let begin = 1_795_262_400;
        assert_eq!(
            read.claims,
            json!({ "aud": statement.audience, "iss": "client", "sub": "client", "jti": Uuid::from_u128(7), "nbf": begin, "iat": begin, "exp": begin + 600 })
        );
        let header = token.split('.').next().unwrap();
        let header: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
        assert_eq!(header, json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": signer.thumbprint }));
    }

    #[test]
    fn the_first_that_is_good_today_signs_and_the_one_that_worked_is_remembered() {
        let pairs = [pair(2020, 2021), pair(2026, 2027), pair(2026, 2028), pair(2030, 2031)];
        let names: Vec<_> = pairs.iter().map(|pair| certificates::read(&pair.certificate_pem).unwrap().thumbprint).collect();
        let now = at("2026-06-01T00:00:00Z");
        let order = |accepted: &Accepted, now| {
            let mut signers = usable(&pairs, now).unwrap();
            accepted.order("client", &mut signers);
            signers.into_iter().map(|signer| signer.thumbprint).collect::<Vec<_>>()
        };
        let accepted = Accepted::default();
        assert_eq!(order(&accepted, now), names[1..3]);
        accepted.note("client", &usable(&pairs, now).unwrap()[1]);
        assert_eq!(order(&accepted, now), [names[2].clone(), names[1].clone()]);
        assert_eq!(order(&Accepted::default(), at("2027-06-01T00:00:00Z")), names[2..3]);
        accepted.note("another", &usable(&pairs, now).unwrap()[0]);
        assert_eq!(order(&accepted, now)[0], names[2], "one app's memory is no other's");
    }

    #[test]
    fn an_expired_certificate_is_one_fault_of_ours() {
        for (pairs, code) in [
            (vec![pair(2020, 2021)], "certificate-expired"),
            (vec![pair(2030, 2031)], "certificate-not-yet-valid"),
            (vec![], "certificate-missing"),
        ] {
            let trouble = usable(&pairs, at("2026-06-01T00:00:00Z")).err().unwrap().trouble();
            assert_eq!((trouble.verdict, trouble.code.as_deref()), (Verdict::Global, Some(code)));
            assert!(trouble.action.starts_with("you"));
        }
    }

    #[test]
    fn only_a_certificate_that_is_not_known_is_replaced_by_the_next() {
        assert!(is_about_the_certificate(&[700_027]) && is_about_the_certificate(&[70002, 50012]));
        assert!(!is_about_the_certificate(&[]) && !is_about_the_certificate(&[7_000_222, 500_133, 70008]));
    }
}
