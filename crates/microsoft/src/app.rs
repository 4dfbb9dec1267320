//! Who we are at Microsoft: an app registration, and how it gets access tokens.

use serde::{Deserialize, Serialize};

/// How an app registration gets access tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// As a user who consented: each tenant has its own refresh token.
    RefreshToken,
    /// As itself, with permissions that an administrator of the tenant consented to.
    ClientCredentials,
}

impl Grant {
    /// The word in the configuration and in the request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
        }
    }
}

/// An app registration. Its secret is not here: it is handed to each call that needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// The application (client) id.
    pub client_id: String,
    /// How it gets access tokens.
    pub grant: Grant,
}
