//! Reading pages of alerts and incidents.

mod refusal;

use std::sync::Arc;

use bytes::Bytes;
use domain::rehearsal::point;
use domain::{AccessToken, Clock, Record, Source, Ticks, Verdict};
use reqwest::StatusCode;
use url::Url;
use uuid::Uuid;

use crate::clouds::Cloud;
use crate::error::{ApiError, ApiErrorKind};
use crate::extract;
use crate::http::{Http, read_error_body, read_page_body};
use crate::query::{NextLink, PageQuery};
use crate::split::{Next, Split};
use crate::throttle;

/// Above this a page is taken apart on a thread that may block: everything else on this one would wait.
const LONG_WORK: usize = 256 * 1024;

/// The most records that the source gives at once. It clamps what is above without saying so.
pub fn max_page(source: Source) -> u32 {
    match source {
        Source::GraphAlerts => 1000,
        Source::MdeAlerts => 10_000,
        Source::GraphIncidents => 50,
    }
}

/// The most records that may be left out at the start of a window; above it, the source answers 400.
pub fn max_skip(source: Source) -> u32 {
    match source {
        Source::GraphAlerts | Source::GraphIncidents => 500,
        // Nothing is documented; a whole page further is what a walk ever needs.
        Source::MdeAlerts => 10_000,
    }
}

/// Whether the source can be asked for an order at all. Whether it obeys is another matter.
pub fn supports_order(source: Source) -> bool {
    match source {
        Source::GraphAlerts | Source::GraphIncidents => true,
        Source::MdeAlerts => false,
    }
}

/// The alert APIs, for all tenants.
#[derive(Clone)]
pub struct AlertsApi {
    http: Http,
    clock: Arc<dyn Clock>,
}

/// One page.
#[derive(Debug)]
pub struct Page {
    /// In the order of the page. Each holds on to the bytes of the whole page.
    pub records: Vec<Record>,
    /// Where the next page is, if the source says so. It may not and still have more.
    pub next: Option<NextLink>,
    /// The page names a next page at another address. Our token must not go there (I19), so it is not in
    /// `next`; the records are as good as any, but there may be more of them.
    pub foreign_next: bool,
    /// The source's clock when it answered.
    pub server_date: Option<Ticks>,
    /// Size of the page after decompression.
    pub bytes: usize,
}

impl AlertsApi {
    /// Uses this client and clock.
    pub fn new(http: Http, clock: Arc<dyn Clock>) -> Self {
        Self { http, clock }
    }

    /// Reads one page.
    ///
    /// # Errors
    /// [`ApiError`], which carries its verdict and what a reader does about it. No part of the page is
    /// given out then.
    pub async fn fetch(&self, cloud: &Cloud, source: Source, token: &AccessToken, query: &PageQuery) -> Result<Page, ApiError> {
        let (base, url) = address(cloud, source, query)?;
        let client_request_id = Uuid::new_v4().to_string();
        let fetched = self.fetch_from(cloud, source, token, query, base, &url, &client_request_id).await;
        fetched.map_err(|mut error| {
            error.numbers.client_request_id = Some(client_request_id);
            error
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the body of `fetch`, apart so that every error gets its number in one place")]
    async fn fetch_from(
        &self,
        cloud: &Cloud,
        source: Source,
        token: &AccessToken,
        query: &PageQuery,
        base: &Url,
        url: &Url,
        client_request_id: &str,
    ) -> Result<Page, ApiError> {
        let answer = self.http.get_with_token(url, base, cloud.allow_plaintext, &token.bearer, client_request_id).await;
        let answer = answer.map_err(|failure| refusal::unanswered(source, query, &failure))?;
        let status = answer.status();
        let headers = answer.headers().clone();
        if status != StatusCode::OK {
            let body = read_error_body(answer).await;
            let refused =
                refusal::Refused { source, query, status: status.as_u16(), headers: &headers, body: &body, now: self.clock.now() };
            return Err(refused.classify());
        }
        let body = read_page_body(answer, self.http.settings().max_body).await;
        let body = body.map_err(|failure| refusal::unanswered(source, query, &failure))?;
        let bytes = body.len();
        let Split { records, next } = take_apart(source, body).await?;
        let (named, next) = match next {
            Next::None => (false, None),
            Next::Unreadable => return Err(refusal::bad_page(source)),
            Next::Link(link) => (true, NextLink::accept(&link, url, base)),
        };
        let foreign_next = named && next.is_none();
        tracing::debug!(%source, count = records.len(), bytes, client_request_id, "page read");
        Ok(Page { records, next, foreign_next, server_date: throttle::server_date(&headers), bytes })
    }
}

/// The configured address of the API, and that of the page.
fn address<'a>(cloud: &'a Cloud, source: Source, query: &PageQuery) -> Result<(&'a Url, Url), ApiError> {
    let unsupported = |reason: String, action: String| ApiError::new(ApiErrorKind::Unsupported, Verdict::OurBug, reason, action, None);
    let audience = source.audience();
    let base = cloud.api_url(audience).ok_or_else(|| {
        let action = format!("you: take {source} from the sources of this tenant, or give its cloud {audience}_url and {audience}_scope");
        unsupported(format!("this cloud has no {audience} API"), action)
    })?;
    let url = match query {
        PageQuery::Window(window) => window.url(source, base),
        PageQuery::Next(link) => link.url().clone(),
    };
    Ok((base, url))
}

/// The page as records; each ends as an alert, as an incident or as poison.
async fn take_apart(source: Source, body: Bytes) -> Result<Split<Record>, ApiError> {
    point("split.before").await.map_err(|rehearsed| refusal::rehearsed(source, &rehearsed))?;
    let long = body.len() > LONG_WORK;
    let work = move || extract::page(source, &body);
    let apart = if long { tokio::task::spawn_blocking(work).await.ok().flatten() } else { work() };
    point("split.after").await.map_err(|rehearsed| refusal::rehearsed(source, &rehearsed))?;
    apart.ok_or_else(|| refusal::bad_page(source))
}
