//! One message on its way to the receiver, and what came back: https, no redirect, five seconds, 64 KB.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use domain::{Clock, Ticks};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client as Http, StatusCode};
use url::{Host, Url};
use uuid::Uuid;

use crate::guard::{Forbidden, Guard, Resolver};
use crate::sign::{BadSecret, Secrets};

/// For a whole call, from the look-up of the name to the last byte of the answer.
const WHOLE: Duration = Duration::from_secs(5);
/// More of an answer is not read.
const MOST: usize = 64 * 1024;
/// So much of an answer is shown.
const SHOWN: usize = 200;
/// A receiver may ask to be left alone for so long at most.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// What is allowed besides https to the internet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// Receivers in private networks.
    pub allow_private: bool,
    /// http, to this machine only.
    pub allow_plaintext: bool,
}

/// Where messages go and what signs them.
#[derive(Debug)]
pub struct Endpoint {
    url: Url,
    secrets: Secrets,
}

/// An address or a secret that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadEndpoint {
    /// It is no address.
    #[error("the webhook's address is none; write it like https://hooks.example/tocsin")]
    NoUrl,
    /// It is not encrypted.
    #[error(
        "the webhook's address does not begin with https://; http is sent to this machine only, and only with notify.allow_plaintext = true"
    )]
    Plaintext,
    /// It holds a user.
    #[error("the webhook's address holds a user or a password; a receiver knows us by the signature")]
    User,
    /// It leads where nothing is sent.
    #[error("the webhook's address: {0}")]
    Forbidden(#[from] Forbidden),
    /// The secret.
    #[error(transparent)]
    Secret(#[from] BadSecret),
}

impl Endpoint {
    /// Checks address and secret as they are written in their files.
    ///
    /// # Errors
    /// [`BadEndpoint`], in a sentence that holds neither of them.
    pub fn parse(url: &str, secret: &str, egress: Egress) -> Result<Self, BadEndpoint> {
        let url = Url::parse(url.trim()).map_err(|_| BadEndpoint::NoUrl)?;
        let literal = match url.host().ok_or(BadEndpoint::NoUrl)? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        };
        let own = url.host_str() == Some("localhost") || literal.is_some_and(|address: std::net::IpAddr| address.is_loopback());
        match url.scheme() {
            "https" => {}
            "http" if egress.allow_plaintext && own => {}
            _ => return Err(BadEndpoint::Plaintext),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadEndpoint::User);
        }
        // A literal address is never looked up, so it is judged here.
        if let Some(address) = literal {
            guard(egress).check(address)?;
        }
        Ok(Self { url, secrets: Secrets::parse(secret)? })
    }

    /// The receiver's name, which is no secret; the rest of the address may be.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }
}

fn guard(egress: Egress) -> Guard {
    Guard { allow_private: egress.allow_private, allow_loopback: egress.allow_plaintext }
}

/// What a receiver answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// How long it wants to be left alone.
    pub retry_after: Option<Duration>,
    /// The beginning of what it said, printable.
    pub words: String,
}

impl Answer {
    /// It has taken the message.
    pub fn is_taken(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// It wants nothing more, ever.
    pub fn is_gone(&self) -> bool {
        self.status == StatusCode::GONE.as_u16()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            200..=299 => write!(f, "the receiver has taken it ({})", self.status),
            300..=399 => {
                write!(f, "the receiver redirects ({}), and no redirect is followed; write the address where it ends", self.status)
            }
            401 | 403 => write!(f, "the receiver refuses it ({}); compare the signing secret on both sides", self.status),
            404 => f.write_str("the receiver does not know this address (404)"),
            410 => f.write_str("the receiver wants nothing more (410); make a new address there, or switch the webhook off"),
            429 => f.write_str("the receiver wants to be left alone for a while (429)"),
            500..=599 => write!(f, "the receiver has trouble of its own ({})", self.status),
            other => write!(f, "the receiver answers {other}"),
        }
    }
}

/// No answer came; why, in words and without the address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(String);

/// Sends messages.
#[derive(Clone, Debug)]
pub struct Client(Http);

impl Client {
    /// Makes the client: it goes past every proxy, since a proxy would look the name up where nobody judges it.
    ///
    /// # Errors
    /// When the machine has no usable certificate store.
    pub fn new(egress: Egress) -> Result<Self, NoAnswer> {
        Self::resolving(egress, Resolver::new(guard(egress)))
    }

    /// The same with another look-up.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn resolving(egress: Egress, resolver: Resolver) -> Result<Self, NoAnswer> {
        let client = Http::builder()
            .user_agent(concat!("tocsin/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .no_gzip()
            .https_only(!egress.allow_plaintext)
            .connect_timeout(WHOLE)
            .timeout(WHOLE)
            // Each message is looked up and judged anew.
            .pool_max_idle_per_host(0)
            .tls_version_min(reqwest::tls::Version::TLS_1_2)
            .dns_resolver(resolver);
        client.build().map(Self).map_err(|error| NoAnswer(format!("the HTTP client cannot be made: {}", innermost(&error))))
    }

    /// Sends one message, signed.
    ///
    /// # Errors
    /// [`NoAnswer`] when none came in time; nobody knows then whether the message arrived.
    pub async fn send(&self, endpoint: &Endpoint, id: Uuid, body: &str, clock: &dyn Clock) -> Result<Answer, NoAnswer> {
        let id = format!("msg_{}", id.simple());
        let timestamp = seconds(clock.now());
        let call = self
            .0
            .post(endpoint.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", endpoint.secrets.sign(&id, timestamp, body))
            .body(body.to_owned());
        let lost = |error: reqwest::Error| NoAnswer(in_words(&error));
        let mut answer = call.send().await.map_err(lost)?;
        let (status, retry_after) = (answer.status().as_u16(), retry_after(answer.headers()));
        let mut said = Vec::new();
        while said.len() < MOST {
            match answer.chunk().await {
                Ok(Some(piece)) => said.extend_from_slice(&piece[..piece.len().min(MOST - said.len())]),
                // The status is the answer; what follows it is for people.
                Ok(None) | Err(_) => break,
            }
        }
        let words = String::from_utf8_lossy(&said);
        let words = words.chars().map(|char| if char.is_control() { ' ' } else { char }).take(SHOWN).collect();
        Ok(Answer { status, retry_after, words })
    }
}

fn seconds(now: Ticks) -> i64 {
    now.0.div_euclid(10_000_000)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn in_words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("the receiver has not answered within {} s", WHOLE.as_secs());
    }
    // Its own words would hold the address.
    match error.source() {
        Some(_) if error.is_connect() => format!("the receiver cannot be reached: {}", innermost(error)),
        Some(_) => format!("the call broke off: {}", innermost(error)),
        None => "the call could not be made".to_owned(),
    }
}
