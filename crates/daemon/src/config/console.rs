//! `[console]`: where the pages are that customers see.

use std::net::SocketAddr;

use url::Url;

use super::{ConfigError, raw};

/// `[console]`, checked.
#[derive(Debug, Clone)]
pub(crate) struct ConsoleConfig {
    /// Where the pages are served.
    pub(crate) listen: SocketAddr,
    /// The same as customers' browsers reach it.
    pub(crate) public_url: Url,
    /// What the customer reads as the name of whoever asks.
    pub(crate) operator: String,
}

/// Checks the section.
pub(super) fn check(raw: raw::Console) -> Result<ConsoleConfig, ConfigError> {
    let listen = raw
        .listen
        .parse()
        .map_err(|_| ConfigError(format!("console.listen = \"{}\" is no address; write it like 127.0.0.1:8080", raw.listen)))?;
    let wrong =
        |problem: &str| ConfigError(format!("console.public_url = \"{}\" {problem}; write it like https://soc.example", raw.public_url));
    let public_url = Url::parse(&raw.public_url).map_err(|_| wrong("is no address"))?;
    // Cookies, codes and links pass over it: in the clear only where nobody else can listen.
    let loopback = matches!(public_url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match public_url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => return Err(wrong("is not encrypted; only a host of this machine may be reached by http")),
        _ => return Err(wrong("does not begin with https://")),
    }
    if public_url.path() != "/" || public_url.query().is_some() || public_url.fragment().is_some() || !public_url.username().is_empty() {
        return Err(wrong("holds more than a host and a port"));
    }
    let operator = raw.operator.trim().to_owned();
    if operator.is_empty() || operator.chars().any(char::is_control) {
        return Err(ConfigError("console.operator is empty; write the name by which your customers know you".into()));
    }
    Ok(ConsoleConfig { listen, public_url, operator })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(listen: &str, public_url: &str, operator: &str) -> Result<ConsoleConfig, String> {
        let raw = raw::Console { listen: listen.to_owned(), public_url: public_url.to_owned(), operator: operator.to_owned() };
        check(raw).map_err(|error| error.0)
    }

    #[test]
    fn what_customers_reach_is_encrypted_or_on_this_machine() {
        for good in ["https://soc.example", "https://soc.example:8443/", "http://localhost:8080", "http://127.0.0.1", "http://[::1]:80"] {
            assert!(checked("127.0.0.1:8080", good, "Contoso SOC").is_ok(), "{good}");
        }
        for (wrong, words) in [
            ("http://soc.example", "not encrypted"),
            ("http://localhost.evil.example", "not encrypted"),
            ("ftp://soc.example", "does not begin with https"),
            ("https://soc.example/tocsin", "more than a host"),
            ("https://soc.example/?a=b", "more than a host"),
            ("https://me@soc.example", "more than a host"),
            ("soc.example", "is no address"),
        ] {
            let error = checked("127.0.0.1:8080", wrong, "Contoso SOC").unwrap_err();
            assert!(error.contains(words) && error.contains("https://soc.example"), "{wrong}: {error}");
        }
        assert!(checked("localhost", "https://soc.example", "x").unwrap_err().contains("console.listen"));
        assert!(checked("127.0.0.1:1", "https://soc.example", " ").unwrap_err().contains("console.operator"));
    }
}
