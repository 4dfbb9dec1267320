//! Secrets that print as nothing and are opened as late as possible.
//!
//! None of these has `Display`, `Serialize` or a `Debug` that shows anything, and each wipes its
//! memory when dropped. Where a secret is opened, the call says so: [`secrecy::ExposeSecret`].

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use crate::stamp::Ticks;

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(SecretString);

        impl $name {
            /// Wraps the secret; `None` when it is empty, since an empty secret is a mistake.
            pub fn new(text: impl Into<String>) -> Option<Self> {
                let text = text.into();
                (!text.is_empty()).then(|| Self(SecretString::from(text)))
            }
        }

        impl ExposeSecret<str> for $name {
            fn expose_secret(&self) -> &str {
                self.0.expose_secret()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(hidden)"))
            }
        }
    };
}

secret! {
    /// A tenant's refresh token: opens a customer for 90 days and more. Exists in the clear only in
    /// `tenant-registry` and, for the length of one call, in `token-refresher` and `microsoft`.
    RefreshToken
}

secret! {
    /// The secret of our app registration. Lives in its file.
    ClientSecret
}

secret! {
    /// The private key of a certificate of our app registration, as the one PEM block that it is. Lives in its file.
    PrivateKeyPem
}

secret! {
    /// A token of somebody else's that stands for our app registration: the one that Kubernetes writes into a pod.
    /// Lives in its file and is replaced there every hour or so.
    ClientAssertion
}

secret! {
    /// What a device code is redeemed with. Whoever has it gets the tokens of the person who types the short code.
    DeviceSecret
}

secret! {
    /// The text of an access token, without what is known about it.
    Bearer
}

/// What our app registration proves itself with. Read from where it lives at every use, never kept.
#[derive(Clone, Debug)]
pub enum AppCredential {
    /// A shared secret, sent as it is.
    Secret(ClientSecret),
    /// Certificates, of which each call signs with one. Several let an old one be replaced without a gap.
    Certificates(Vec<SigningCertificate>),
    /// A token that an identity provider of ours signed, sent as it is.
    Federated(ClientAssertion),
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct SigningCertificate {
    /// The certificate, as one PEM block. Public.
    pub certificate_pem: String,
    /// The key that belongs to it.
    pub private_key: PrivateKeyPem,
}

/// An access token for one tenant and audience, with the end of its life by our clock.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// What goes into the `Authorization` header.
    pub bearer: Bearer,
    /// When it ends. Never assume an hour: Microsoft draws 60 to 90 minutes.
    pub expires_at: Ticks,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_print_as_nothing() {
        let token = RefreshToken::new("0.AAA-very-secret").unwrap();
        assert_eq!(format!("{token:?}"), "RefreshToken(hidden)");
        let access = AccessToken { bearer: Bearer::new("eyJ0-very-secret").unwrap(), expires_at: Ticks(0) };
        assert!(!format!("{access:?}").contains("very-secret"));
        assert!(RefreshToken::new("").is_none());
        let certificate =
            SigningCertificate { certificate_pem: "public".to_owned(), private_key: PrivateKeyPem::new("very-secret").unwrap() };
        for credential in [
            AppCredential::Secret(ClientSecret::new("very-secret").unwrap()),
            AppCredential::Certificates(vec![certificate]),
            AppCredential::Federated(ClientAssertion::new("very-secret").unwrap()),
        ] {
            assert!(!format!("{credential:?}").contains("very-secret"));
        }
    }
}
