//! The certificates that our app registration proves itself with: read, told apart, and paired with their keys.
//!
//! Operators keep them in two files that may each hold several PEM blocks, since a certificate is replaced by adding
//! its successor first. Which key belongs to which certificate is found by the public key and not by the order of
//! the blocks: a file that somebody appended to at the wrong end still works.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{PrivateKeyPem, SigningCertificate, Ticks};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

/// Why a certificate or its key cannot be used: a sentence without a file name, which the reader of the file adds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CertificateError(String);

/// What is public about a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of the certificate in base64url, as `x5t#S256` names it.
    pub thumbprint: String,
    /// From when on it is good.
    pub not_before: Ticks,
    /// Until when it is good.
    pub not_after: Ticks,
    /// The RSA public key in the form of PKCS#1, to find its private key by.
    public_key: Vec<u8>,
}

impl Certificate {
    /// Whether it is good at this instant.
    pub fn is_valid_at(&self, now: Ticks) -> bool {
        self.not_before <= now && now < self.not_after
    }
}

/// Reads a certificate from its PEM block.
///
/// # Errors
/// When it is no certificate, or one whose key cannot sign what Entra wants signed (PS256 takes RSA of 2048 bits and more).
pub fn read(certificate_pem: &str) -> Result<Certificate, CertificateError> {
    let unreadable = |what: &str| CertificateError(format!("holds a certificate that cannot be read ({what})"));
    let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|_| unreadable("no PEM"))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|_| unreadable("no X.509"))?;
    match parsed.public_key().parsed() {
        Ok(x509_parser::public_key::PublicKey::RSA(key)) if key.key_size() >= 2048 => {}
        Ok(x509_parser::public_key::PublicKey::RSA(_)) => {
            return Err(CertificateError("holds a certificate whose RSA key has less than 2048 bits; make one with 2048 or more".into()));
        }
        _ => return Err(CertificateError("holds a certificate without an RSA key; the sign-in service takes RSA for PS256".into())),
    }
    let ticks = |seconds: i64| Ticks(seconds.saturating_mul(10_000_000));
    let validity = parsed.validity();
    Ok(Certificate {
        thumbprint: URL_SAFE_NO_PAD.encode(digest(&SHA256, &der)),
        not_before: ticks(validity.not_before.timestamp()),
        // Good through its last second.
        not_after: ticks(validity.not_after.timestamp().saturating_add(1)),
        public_key: parsed.public_key().subject_public_key.data.to_vec(),
    })
}

/// Takes the certificates of one text and gives each the key of the other text that belongs to it, in the order of the
/// certificates. Both texts may be the same one.
///
/// # Errors
/// When there is no certificate, when one cannot be read, or when one has no key. A key without a certificate is
/// passed over: that of a certificate that was taken out is harmless.
pub fn pair(certificates: &str, keys: &str) -> Result<Vec<SigningCertificate>, CertificateError> {
    let keys = blocks(keys).filter(|block| block.contains("PRIVATE KEY-----")).map(Key::read).collect::<Result<Vec<_>, _>>()?;
    let pairs = blocks(certificates).filter(|block| block.starts_with("-----BEGIN CERTIFICATE-----")).map(|block| {
        let certificate = read(block)?;
        let key = keys.iter().find(|key| key.public_key == certificate.public_key).ok_or_else(|| {
            CertificateError(format!("holds no private key for the certificate with the thumbprint {} (SHA-256)", certificate.thumbprint))
        })?;
        Ok(SigningCertificate { certificate_pem: block.to_owned(), private_key: key.pem.clone() })
    });
    let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
    if pairs.is_empty() {
        return Err(CertificateError("holds no certificate (a block that begins with -----BEGIN CERTIFICATE-----)".into()));
    }
    Ok(pairs)
}

/// A private key that can sign.
pub(crate) fn signer(key: &PrivateKeyPem) -> Result<KeyPair, CertificateError> {
    let pem = key.expose_secret();
    if pem.contains("ENCRYPTED") {
        let sentence =
            "holds a private key behind a pass phrase, which a daemon cannot be asked for; store it without one, readable by tocsin alone";
        return Err(CertificateError(sentence.into()));
    }
    let unusable = || CertificateError("holds a private key that cannot be read; it should be an RSA key as PEM (PKCS#8 or PKCS#1)".into());
    let der = Zeroizing::new(PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| unusable())?);
    match &*der {
        PrivateKeyDer::Pkcs8(key) => KeyPair::from_pkcs8(key.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(key) => KeyPair::from_der(key.secret_pkcs1_der()),
        _ => return Err(unusable()),
    }
    .map_err(|_| unusable())
}

struct Key {
    pem: PrivateKeyPem,
    public_key: Vec<u8>,
}

impl Key {
    fn read(block: &str) -> Result<Self, CertificateError> {
        let pem = PrivateKeyPem::new(block).ok_or_else(|| CertificateError("holds an empty private key".into()))?;
        let public_key = signer(&pem)?.public_key().as_ref().to_vec();
        Ok(Self { pem, public_key })
    }
}

/// The PEM blocks of a text, each from its first dash to its last. What stands between them is for people.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    const END: &str = "-----END ";
    let mut rest = text;
    std::iter::from_fn(move || {
        let begin = rest.find("-----BEGIN ")?;
        let end = begin + rest[begin..].find(END)? + END.len();
        let stop = end + rest[end..].find("-----")? + "-----".len();
        let block = &rest[begin..stop];
        rest = &rest[stop..];
        Some(block)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{CertificateParams, KeyPair as Made, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};

    use super::*;

    /// A certificate that is good from the first of January of one year until that of another, with its key: both PEM.
    pub(crate) fn made(from: i32, until: i32) -> (String, String) {
        let key = Made::generate_for(&PKCS_RSA_SHA256).unwrap();
        let mut params = CertificateParams::new(vec!["tocsin.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_certificate_finds_its_key_wherever_it_stands() {
        let (old, new) = (made(2025, 2027), made(2026, 2028));
        let certificates = format!("Bag Attributes\n  friendlyName: old\n{}\n{}", old.0, new.0);
        let pairs = pair(&certificates, &format!("{}{}", new.1, old.1)).unwrap();
        let thumbprints: Vec<_> = pairs.iter().map(|pair| read(&pair.certificate_pem).unwrap().thumbprint).collect();
        assert_eq!(thumbprints, [read(&old.0).unwrap().thumbprint, read(&new.0).unwrap().thumbprint]);
        for pair in &pairs {
            let key = signer(&pair.private_key).unwrap();
            assert_eq!(key.public_key().as_ref(), read(&pair.certificate_pem).unwrap().public_key);
        }
        let together = format!("{}{}", old.1, old.0);
        assert_eq!(pair(&together, &together).unwrap().len(), 1, "one file for both");
        assert_eq!(pair(&old.0, &format!("{}{}", new.1, old.1)).unwrap().len(), 1, "a key without a certificate is harmless");
    }

    #[test]
    fn validity_includes_its_first_and_last_second() {
        let certificate = read(&made(2026, 2027).0).unwrap();
        let at = |text: &str| certificate.is_valid_at(Ticks::parse(text).unwrap());
        assert!(!at("2025-12-31T23:59:59Z") && at("2026-01-01T00:00:00Z"));
        assert!(at("2027-01-01T00:00:00Z") && !at("2027-01-01T00:00:01Z"));
        assert_eq!(certificate.thumbprint.len(), 43);
    }

    #[test]
    fn what_cannot_be_used_is_told_in_words() {
        let (certificate, key) = made(2026, 2027);
        let elliptic = Made::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let curved = CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&elliptic).unwrap().pem();
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let cut = certificate.replace("\n-----END", "AAAA\n-----END");
        for (certificates, keys, words) in [
            ("", key.as_str(), "holds no certificate"),
            (&key, &key, "holds no certificate"),
            (&certificate, "", "holds no private key for the certificate"),
            (&certificate, &made(2026, 2027).1, "holds no private key for the certificate"),
            (&certificate, locked, "pass phrase"),
            (&certificate, broken, "cannot be read"),
            (&certificate, &elliptic.serialize_pem(), "RSA"),
            (&curved, &key, "without an RSA key"),
            (&cut[..100], &key, "holds no certificate"),
        ] {
            let sentence = pair(certificates, keys).unwrap_err().to_string();
            assert!(sentence.contains(words), "{sentence}");
            assert!(!sentence.contains("BEGIN PRIVATE") && !sentence.contains("AAAA"), "{sentence}");
        }
    }
}
