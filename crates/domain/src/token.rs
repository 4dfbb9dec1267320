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
    /// The text of an access token, without what is known about it.
    Bearer
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
    }
}
