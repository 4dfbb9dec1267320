//! Signatures after Standard Webhooks (version 1.0): HMAC-SHA256 over `id.timestamp.body`, written `v1,base64`.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

const PREFIX: &str = "whsec_";

/// A secret that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// It is written otherwise.
    #[error("a signing secret does not begin with whsec_; make one with: echo whsec_$(openssl rand -base64 32)")]
    Prefix,
    /// What follows is no base64.
    #[error("what follows whsec_ in a signing secret is no base64")]
    Base64,
    /// Too short to be safe, or longer than Standard Webhooks allows.
    #[error("a signing secret holds {0} bytes; Standard Webhooks asks for 24 to 64")]
    Length(usize),
}

/// The secrets that sign: one, or two while the receiver changes over from one to the other.
pub struct Secrets(Vec<hmac::Key>);

impl Secrets {
    /// Reads them, one a line.
    ///
    /// # Errors
    /// [`BadSecret`], in a sentence without the secret.
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        let key = |line: &str| {
            let encoded = line.strip_prefix(PREFIX).ok_or(BadSecret::Prefix)?;
            let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| BadSecret::Base64)?);
            if !(24..=64).contains(&bytes.len()) {
                return Err(BadSecret::Length(bytes.len()));
            }
            Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys = lines.map(key).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(BadSecret::Prefix) } else { Ok(Self(keys)) }
    }

    /// The header `webhook-signature`: one signature per secret.
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let content = format!("{id}.{timestamp}.{body}");
        let signature = |key| format!("v1,{}", STANDARD.encode(hmac::sign(key, content.as_bytes())));
        self.0.iter().map(signature).collect::<Vec<_>>().join(" ")
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_signature_is_that_of_the_library_standardwebhooks() {
        // new Webhook(SECRET).sign(...) of standardwebhooks on npm; the vector of its documentation.
        let signature = Secrets::parse(SECRET).unwrap().sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn the_signature_is_that_of_openssl_with_either_of_two_secrets() {
        let secrets = ["first-secret-of-32-bytes-length!", "second-secret-of-33-bytes-length!"];
        let text = secrets.map(|secret| format!("{PREFIX}{}", STANDARD.encode(secret))).join("\n");
        let signed = Secrets::parse(&text).unwrap().sign("msg_1", 1_700_000_000, "{\"ä\":1}");
        let theirs = secrets.map(|secret| {
            let mut openssl = Command::new("openssl")
                .args(["dgst", "-sha256", "-hmac", secret, "-binary"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            openssl.stdin.take().unwrap().write_all("msg_1.1700000000.{\"ä\":1}".as_bytes()).unwrap();
            format!("v1,{}", STANDARD.encode(openssl.wait_with_output().unwrap().stdout))
        });
        assert_eq!(signed, theirs.join(" "));
    }

    #[test]
    fn a_secret_that_is_none_is_refused_without_being_shown() {
        for (text, problem) in [
            ("", BadSecret::Prefix),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", BadSecret::Prefix),
            ("whsec_?", BadSecret::Base64),
            ("whsec_c2hvcnQ=", BadSecret::Length(5)),
            (&format!("{SECRET}\nwhsec_c2hvcnQ="), BadSecret::Length(5)),
        ] {
            let refused = Secrets::parse(text).unwrap_err();
            assert_eq!(refused, problem);
            assert!(!refused.to_string().contains("c2hvcnQ"));
        }
        assert_eq!(format!("{:?}", Secrets::parse(SECRET).unwrap()), "Secrets");
    }
}
