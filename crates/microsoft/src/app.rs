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

/// Which generation of the token endpoint is asked for access tokens.
///
/// Signing in (the consent link, the device code) speaks the second whatever stands here: a refresh token is bound
/// to its user and its app and not to the endpoint that it came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Endpoint {
    /// `/oauth2/token`, which takes a `resource`: for apps of the days when there was no other.
    V1,
    /// `/oauth2/v2.0/token`, which takes a `scope`.
    #[default]
    V2,
}

/// An app registration. Its credential is not here: it is handed to each call that needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// The application (client) id.
    pub client_id: String,
    /// How it gets access tokens.
    pub grant: Grant,
    /// Where it asks for them.
    pub endpoint: Endpoint,
}

impl App {
    /// An app that speaks the usual version of the protocol.
    pub fn new(client_id: impl Into<String>, grant: Grant) -> Self {
        Self { client_id: client_id.into(), grant, endpoint: Endpoint::default() }
    }
}
