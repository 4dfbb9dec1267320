//! The form a client posts to the token endpoint, with the client's name and secret from wherever it put them.

use super::errors::Refusal;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use std::collections::HashMap;
use uuid::Uuid;

/// A form that was posted to the token endpoint.
#[derive(Debug, Default)]
pub(crate) struct Form {
    fields: HashMap<String, String>,
    /// The id under which the client wants to find the request again.
    pub(crate) correlation: Option<Uuid>,
}

impl Form {
    pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Form {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let is_form = text(header::CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        let mut fields: HashMap<String, String> =
            if is_form { url::form_urlencoded::parse(body).into_owned().collect() } else { HashMap::new() };
        if let Some((id, secret)) = text(header::AUTHORIZATION.as_str()).and_then(basic) {
            fields.entry("client_id".to_owned()).or_insert(id);
            fields.entry("client_secret".to_owned()).or_insert(secret);
        }
        Form { fields, correlation: text("client-request-id").and_then(|id| id.parse().ok()) }
    }

    /// A field that is there and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn need(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| Refusal::of(900144).about(&format!("Missing: '{name}'.")))
    }

    pub(crate) fn has_scope(&self, word: &str) -> bool {
        self.get("scope").is_some_and(|scope| scope.split(' ').any(|part| part == word))
    }

    /// What the journal may say about it: no secret, no token.
    pub(crate) fn summary(&self) -> String {
        let shown = ["grant_type", "client_id", "scope", "resource", "redirect_uri"];
        shown.iter().filter_map(|name| self.get(name).map(|value| format!("{name}={value}"))).collect::<Vec<_>>().join("&")
    }
}

/// Name and secret from a `Basic` header: each form-encoded before they were joined, as the standard wants it.
fn basic(header: &str) -> Option<(String, String)> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (id, secret) = text.split_once(':')?;
    let plain = |part: &str| url::form_urlencoded::parse(format!("x={part}").as_bytes()).next().map(|(_, value)| value.into_owned());
    Some((plain(id)?, plain(secret)?))
}
