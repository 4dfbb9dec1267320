//! The one HTTP client, for all tenants and clouds.
//!
//! What it promises to the rest of the crate: no redirect is followed; nothing is retried behind our
//! back; plain `http` goes to this machine and nowhere else; every call ends; every body is bounded; and
//! an access token is attached in exactly one function, which checks where the request goes.
//!
//! Two connection pools stand behind it: one that can only speak TLS, and one for hosts of this machine,
//! which no proxy of the environment ever sees.

mod body;
mod failure;
mod resolver;
mod warmup;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::rehearsal::bug;
use domain::token::Bearer;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Client, RequestBuilder, Response};
use secrecy::ExposeSecret;
use url::Url;
use zeroize::Zeroizing;

use self::warmup::Warmup;
use crate::clouds::is_loopback;

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
    /// Speaks TLS only.
    secure: Client,
    /// Speaks to this machine only, past every proxy.
    local: Client,
    /// Holds back who would open too many connections at once.
    warmup: Warmup,
    settings: HttpSettings,
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
        let roots: Result<Vec<_>, _> = settings.extra_roots.iter().map(|der| Certificate::from_der(der)).collect();
        let roots = roots.map_err(|error| HttpError(failure::innermost(&error)))?;
        let builder = || {
            let builder = Client::builder()
                .user_agent(concat!("tocsin/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(settings.connect_timeout)
                .read_timeout(settings.read_timeout)
                .timeout(settings.page_timeout)
                .pool_idle_timeout(settings.pool_idle_timeout)
                .pool_max_idle_per_host(settings.pool_max_idle_per_host)
                .http2_keep_alive_interval(settings.keep_alive_interval)
                .http2_keep_alive_timeout(settings.keep_alive_timeout)
                .http2_keep_alive_while_idle(true)
                .tls_version_min(reqwest::tls::Version::TLS_1_2)
                .tls_certs_merge(roots.clone());
            match &settings.resolver {
                Some(resolver) => builder.dns_resolver(resolver.clone()),
                None => builder,
            }
        };
        let mut secure = builder().https_only(true);
        if !settings.system_proxy {
            secure = secure.no_proxy();
        }
        let build = |builder: reqwest::ClientBuilder| builder.build().map_err(|error| HttpError(failure::innermost(&error)));
        let warmup = Warmup::new(settings.pool_idle_timeout);
        Ok(Self(Arc::new(Inner { secure: build(secure)?, local: build(builder().no_proxy())?, warmup, settings })))
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
    ) -> Result<Response, Failure> {
        let request = self
            .client_for(url, allow_plaintext)?
            .post(url.clone())
            .timeout(self.0.settings.sign_in_timeout)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .header("client-request-id", client_request_id)
            // The owner wipes the form when the last handle on it is dropped.
            .body(Bytes::from_owner(form));
        self.send(url, request).await
    }

    /// Gets something public from the sign-in service: nothing secret is sent.
    pub(crate) async fn get_public(&self, url: &Url, allow_plaintext: bool, client_request_id: &str) -> Result<Response, Failure> {
        let request = self
            .client_for(url, allow_plaintext)?
            .get(url.clone())
            .timeout(self.0.settings.sign_in_timeout)
            .header(ACCEPT, "application/json")
            .header("client-request-id", client_request_id);
        self.send(url, request).await
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
    ) -> Result<Response, Failure> {
        if !at_home(url, base) {
            return Err(Failure::Elsewhere);
        }
        let client = self.client_for(url, allow_plaintext)?;
        let secret = bearer.expose_secret();
        let mut text = Zeroizing::new(Vec::with_capacity("Bearer ".len() + secret.len()));
        text.extend_from_slice(b"Bearer ");
        text.extend_from_slice(secret.as_bytes());
        let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(text)).map_err(|_| Failure::Unwritable)?;
        header.set_sensitive(true);
        let request = client
            .get(url.clone())
            .timeout(self.0.settings.page_timeout)
            .header(AUTHORIZATION, header)
            .header(ACCEPT, "application/json")
            // Without it Graph replaces every product that is newer than its first list by one word.
            .header("prefer", "include-unknown-enum-members")
            .header("client-request-id", client_request_id);
        self.send(url, request).await
    }

    async fn send(&self, url: &Url, request: RequestBuilder) -> Result<Response, Failure> {
        let warmup = &self.0.warmup;
        let _place = warmup.turn(url).await;
        match request.send().await {
            Ok(answer) => {
                warmup.answered(url);
                Ok(answer)
            }
            Err(error) => {
                if error.is_connect() {
                    warmup.unreachable(url);
                }
                Err(error.into())
            }
        }
    }

    /// The pool for an address; none for one that must not be called.
    fn client_for(&self, url: &Url, allow_plaintext: bool) -> Result<&Client, Failure> {
        match (url.scheme(), is_loopback(url)) {
            ("https", false) => Ok(&self.0.secure),
            ("https", true) => Ok(&self.0.local),
            ("http", true) if allow_plaintext => Ok(&self.0.local),
            _ => Err(Failure::Elsewhere),
        }
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
    fn plain_http_reaches_this_machine_only() {
        let http = Http::new(HttpSettings::default()).unwrap();
        let may = |url: &str, allow| http.client_for(&Url::parse(url).unwrap(), allow).is_ok();
        assert!(may("https://graph.microsoft.com", false));
        assert!(may("http://127.0.0.1:1", true));
        assert!(!may("http://127.0.0.1:1", false));
        assert!(!may("http://graph.microsoft.com", true));
        assert!(!may("ftp://127.0.0.1", true));
        assert!(!may("file:///etc/passwd", true));
    }

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
