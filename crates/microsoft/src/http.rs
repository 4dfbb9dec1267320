//! The one HTTP client, for all tenants and clouds.
//!
//! What it promises to the rest of the crate: no redirect is followed; nothing is retried behind our
//! back; plain `http` goes to this machine and nowhere else; every call ends; every body is bounded; and
//! an access token is attached in exactly one function, which checks where the request goes.
//!
//! Behind it stand two kinds of connections: those that can only speak TLS, and those to hosts of this machine,
//! which no proxy of the environment ever sees. How many requests share one is settled in `flight`.

mod body;
mod failure;
mod flight;
mod pool;
mod resolver;
mod warmup;

use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use domain::rehearsal::bug;
use domain::token::Bearer;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, Response};
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};
use url::Url;
use zeroize::Zeroizing;

use self::flight::{Flight, Flights};
use self::pool::{Pool, Way};

pub(crate) use body::{read_error_body, read_page_body, read_secret_body};
pub(crate) use failure::{Failure, let_through};
pub use resolver::Resolver;

/// Bounds of a call. The defaults are for Microsoft as it is; tests use shorter ones.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// To a TCP connection and a TLS session.
    pub connect_timeout: Duration,
    /// Between two pieces of an answer.
    pub read_timeout: Duration,
    /// For a whole sign-in call.
    pub sign_in_timeout: Duration,
    /// For a whole page, however slowly it trickles.
    pub page_timeout: Duration,
    /// Until an unused connection is closed.
    pub pool_idle_timeout: Duration,
    /// Unused connections kept per host.
    pub pool_max_idle_per_host: usize,
    /// Requests in flight by one connection of HTTP/2. Less than the hundred that a host commonly allows, and enough for all
    /// that the poller has in flight while nobody hangs.
    pub in_flight_per_connection: usize,
    /// Requests in flight at one host, by all connections together. More than the poller ever has, however many hang: whoever
    /// meets this limit waits for others.
    pub in_flight_per_host: usize,
    /// How often an HTTP/2 connection is asked whether it still lives.
    pub keep_alive_interval: Duration,
    /// How long it may take to say so.
    pub keep_alive_timeout: Duration,
    /// The largest page, in bytes after decompression.
    pub max_body: usize,
    /// Whether `HTTPS_PROXY` and `NO_PROXY` count. Hosts of this machine are always called directly.
    pub system_proxy: bool,
    /// Looks names up in place of the machine.
    pub resolver: Option<Resolver>,
    /// Certificates (DER) of authorities that are trusted besides the machine's.
    pub extra_roots: Vec<Bytes>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            sign_in_timeout: Duration::from_secs(30),
            page_timeout: Duration::from_secs(120),
            pool_idle_timeout: Duration::from_secs(90),
            pool_max_idle_per_host: 32,
            in_flight_per_connection: 80,
            in_flight_per_host: 320,
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(10),
            max_body: 64 * 1024 * 1024,
            system_proxy: true,
            resolver: None,
            extra_roots: Vec::new(),
        }
    }
}

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be made ({0}); is the ca-certificates package installed?")]
pub struct HttpError(String);

/// The client. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct Http(Arc<Inner>);

struct Inner {
    flights: Flights,
    first: Pool,
    /// Those that are only there once they are needed.
    more: Vec<OnceLock<Option<Pool>>>,
    settings: HttpSettings,
}

/// An answer whose body may still be on its way.
pub(crate) struct Reply {
    response: Response,
    /// Ends with the body.
    _flight: Flight,
}

impl Deref for Reply {
    type Target = Response;

    fn deref(&self) -> &Response {
        &self.response
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl Http {
    /// Makes the client. Do it at start-up: it reads the machine's certificates.
    ///
    /// # Errors
    /// When the machine has no usable certificate store, or an extra certificate cannot be read.
    pub fn new(settings: HttpSettings) -> Result<Self, HttpError> {
        let flights = Flights::new(settings.in_flight_per_connection, settings.in_flight_per_host);
        let more = (1..flights.pools()).map(|_| OnceLock::new()).collect();
        Ok(Self(Arc::new(Inner { flights, first: Pool::new(&settings)?, more, settings })))
    }

    pub(crate) fn settings(&self) -> &HttpSettings {
        &self.0.settings
    }

    /// Posts a form with secrets in it to the sign-in service.
    pub(crate) async fn post_form(
        &self,
        url: &Url,
        allow_plaintext: bool,
        form: Zeroizing<Vec<u8>>,
        client_request_id: &str,
    ) -> Result<Reply, Failure> {
        // The owner wipes the form when the last handle on it is dropped.
        let form = Bytes::from_owner(form);
        let request = |client: &Client| {
            client
                .post(url.clone())
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .header(ACCEPT, "application/json")
                .header("client-request-id", client_request_id)
                .body(form)
        };
        self.send(url, allow_plaintext, self.0.settings.sign_in_timeout, request).await
    }

    /// Gets something public from the sign-in service: nothing secret is sent.
    pub(crate) async fn get_public(&self, url: &Url, allow_plaintext: bool, client_request_id: &str) -> Result<Reply, Failure> {
        let request =
            |client: &Client| client.get(url.clone()).header(ACCEPT, "application/json").header("client-request-id", client_request_id);
        self.send(url, allow_plaintext, self.0.settings.sign_in_timeout, request).await
    }

    /// Gets a page with an access token, if `url` is at the origin of `base`.
    ///
    /// This is the only place that writes an `Authorization` header.
    pub(crate) async fn get_with_token(
        &self,
        url: &Url,
        base: &Url,
        allow_plaintext: bool,
        bearer: &Bearer,
        client_request_id: &str,
    ) -> Result<Reply, Failure> {
        if !at_home(url, base) {
            return Err(Failure::Elsewhere);
        }
        let secret = bearer.expose_secret();
        let mut text = Zeroizing::new(Vec::with_capacity("Bearer ".len() + secret.len()));
        text.extend_from_slice(b"Bearer ");
        text.extend_from_slice(secret.as_bytes());
        let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(text)).map_err(|_| Failure::Unwritable)?;
        header.set_sensitive(true);
        let request = |client: &Client| {
            client
                .get(url.clone())
                .header(AUTHORIZATION, header)
                .header(ACCEPT, "application/json")
                // Without it Graph replaces every product that is newer than its first list by one word.
                .header("prefer", "include-unknown-enum-members")
                .header("client-request-id", client_request_id)
        };
        self.send(url, allow_plaintext, self.0.settings.page_timeout, request).await
    }

    /// Sends one request. All of it has to be over `within` that time: waiting for a place, the answer, and its body.
    async fn send(
        &self,
        url: &Url,
        allow_plaintext: bool,
        within: Duration,
        request: impl FnOnce(&Client) -> RequestBuilder,
    ) -> Result<Reply, Failure> {
        let way = Way::to(url, allow_plaintext)?;
        let until = Instant::now() + within;
        let flight = timeout_at(until, self.0.flights.begin(url)).await.ok().flatten().ok_or(Failure::TimedOut)?;
        let response = self.pool(flight.pool()).send(way, url, until, request).await?;
        Ok(Reply { response, _flight: flight })
    }

    /// The pool of this number. One that cannot be made, though the first could, is made up for by the first.
    fn pool(&self, number: usize) -> &Pool {
        let more = number.checked_sub(1).and_then(|number| self.0.more.get(number));
        let made = more.and_then(|pool| pool.get_or_init(|| self.another_pool()).as_ref());
        made.unwrap_or(&self.0.first)
    }

    fn another_pool(&self) -> Option<Pool> {
        tracing::debug!("many requests are in flight at one host: another connection carries what is more");
        let pool = Pool::new(&self.0.settings);
        pool.inspect_err(|error| tracing::warn!(%error, "many requests are in flight at one host, and all go by one connection")).ok()
    }
}

/// Whether both addresses have one scheme, host and port, and the first holds no user name.
pub(crate) fn same_origin(url: &Url, base: &Url) -> bool {
    url.has_host()
        && url.scheme() == base.scheme()
        && url.host() == base.host()
        && url.port_or_known_default() == base.port_or_known_default()
        && url.username().is_empty()
        && url.password().is_none()
}

/// Whether an access token for `base` may go to `url` (I19). Asked twice: when a link is read, and when it is called.
pub(crate) fn at_home(url: &Url, base: &Url) -> bool {
    same_origin(url, base) || bug("foreign-link-followed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let base = Url::parse("https://graph.microsoft.com").unwrap();
        let same = |url: &str| same_origin(&Url::parse(url).unwrap(), &base);
        assert!(same("https://graph.microsoft.com:443/x?y#z"));
        assert!(!same("https://graph.microsoft.com:8443/"));
        assert!(!same("http://graph.microsoft.com:443/"));
        assert!(!same("https://graph.microsoft.com.evil.test/"));
        assert!(!same("https://user@graph.microsoft.com/"));
        assert!(!same("https://:p@graph.microsoft.com/"));
    }
}
