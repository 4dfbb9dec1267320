//! One pool of connections: a client that can only speak TLS, and one for hosts of this machine, which no proxy of the
//! environment ever sees.

use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder, Response};
use tokio::time::Instant;
use url::Url;

use super::failure::innermost;
use super::warmup::Warmup;
use super::{Failure, HttpError, HttpSettings};
use crate::clouds::is_loopback;

/// Connections that are shared.
pub(super) struct Pool {
    /// Speaks TLS only.
    secure: Client,
    /// Speaks to this machine only, past every proxy.
    local: Client,
    /// Holds back who would open too many connections at once.
    warmup: Warmup,
}

/// Which of the two clients of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Secure,
    Local,
}

impl Way {
    /// The way to an address; none to one that must not be called.
    pub(super) fn to(url: &Url, allow_plaintext: bool) -> Result<Self, Failure> {
        match (url.scheme(), is_loopback(url)) {
            ("https", false) => Ok(Self::Secure),
            ("https", true) => Ok(Self::Local),
            ("http", true) if allow_plaintext => Ok(Self::Local),
            _ => Err(Failure::Elsewhere),
        }
    }
}

impl Pool {
    /// Reads the machine's certificates.
    pub(super) fn new(settings: &HttpSettings) -> Result<Self, HttpError> {
        let failed = |error: reqwest::Error| HttpError(innermost(&error));
        let roots: Result<Vec<_>, _> = settings.extra_roots.iter().map(|der| Certificate::from_der(der)).collect();
        let roots = roots.map_err(failed)?;
        let mut secure = builder(settings, roots.clone()).https_only(true);
        if !settings.system_proxy {
            secure = secure.no_proxy();
        }
        Ok(Self {
            secure: secure.build().map_err(failed)?,
            local: builder(settings, roots).no_proxy().build().map_err(failed)?,
            warmup: Warmup::new(settings.pool_idle_timeout),
        })
    }

    /// Sends what `request` makes of a client, which has to be answered in whole by `until`.
    pub(super) async fn send(
        &self,
        way: Way,
        url: &Url,
        until: Instant,
        request: impl FnOnce(&Client) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let request = request(match way {
            Way::Secure => &self.secure,
            Way::Local => &self.local,
        });
        let _place = self.warmup.turn(url).await;
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match request.timeout(left).send().await {
            Ok(answer) => {
                self.warmup.answered(url);
                Ok(answer)
            }
            Err(error) => {
                if error.is_connect() {
                    self.warmup.unreachable(url);
                }
                Err(error.into())
            }
        }
    }
}

fn builder(settings: &HttpSettings, roots: Vec<Certificate>) -> ClientBuilder {
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
        .tls_certs_merge(roots);
    match &settings.resolver {
        Some(resolver) => builder.dns_resolver(resolver.clone()),
        None => builder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_reaches_this_machine_only() {
        let way = |url: &str, allow| Way::to(&Url::parse(url).unwrap(), allow).ok();
        assert_eq!(way("https://graph.microsoft.com", false), Some(Way::Secure));
        assert_eq!(way("https://127.0.0.1:1", false), Some(Way::Local));
        assert_eq!(way("http://127.0.0.1:1", true), Some(Way::Local));
        assert_eq!(way("http://127.0.0.1:1", false), None);
        assert_eq!(way("http://graph.microsoft.com", true), None);
        assert_eq!(way("ftp://127.0.0.1", true), None);
        assert_eq!(way("file:///etc/passwd", true), None);
    }
}
