//! Where alerts come from, as the poller sees it: one question, one page or one typed error.
//!
//! The trait is the seam between deciding and the network. Production asks Microsoft; tests and
//! simulations answer from memory, with their own kind of link.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use domain::{AccessToken, CloudName, HeldTenant, Record, Source, Ticks, Trouble, Verdict};
use microsoft::{AlertsApi, ApiErrorKind, Cloud, FacetField, NextLink, PageQuery, WindowQuery};

/// What to ask for: a window of time, or what a page's link leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query<L> {
    /// By time.
    Window(WindowQuery),
    /// Where a page said that the next one is.
    Next(L),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Page<L> {
    /// In the order of the answer.
    pub records: Vec<Record>,
    /// The source says that there is more, and where.
    pub next: Option<L>,
    /// The `Date` of the answer.
    pub server_date: Option<Ticks>,
    /// Size of the body.
    pub bytes: usize,
}

/// No answer.
#[derive(Clone, Debug)]
pub struct FetchError {
    /// What a reader of pages does about it.
    pub kind: ApiErrorKind,
    /// The same for a scheduler and for a person.
    pub trouble: Trouble,
}

/// How a source wants to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// The most records it puts on a page.
    pub max_page: u32,
    /// The most records it lets one leave out with `$skip`.
    pub max_skip: u32,
    /// Whether ascending order may be asked for.
    pub can_order: bool,
    /// By what a run of equal stamps can be divided, each column with the words it knows.
    pub facets: &'static [(FacetField, &'static [&'static str])],
}

/// Where a page of Microsoft says that the next one is.
#[derive(Clone, Debug)]
pub enum PageLink {
    /// At the origin that the page came from.
    Next(NextLink),
    /// Somewhere else. It is there to be doubted, never to be followed (I19).
    Foreign,
}

/// Reads pages of records.
pub trait AlertSource: Send + Sync + 'static {
    /// Where the next page is; opaque.
    type Link: Clone + Send + Sync + 'static;

    /// How to read this source, or `None` when this version does not.
    fn manner(&self, source: Source) -> Option<Manner>;

    /// Asks for one page. Dropping the future drops the request.
    ///
    /// # Errors
    /// Everything that is not a complete page.
    fn fetch(
        &self,
        tenant: &HeldTenant,
        source: Source,
        token: &AccessToken,
        query: &Query<Self::Link>,
    ) -> impl Future<Output = Result<Page<Self::Link>, FetchError>> + Send;

    /// Reads a body from quarantine once more, as this version understands it. No call.
    fn reread(&self, source: Source, raw: Bytes) -> Record {
        microsoft::extract::record(source, raw)
    }
}

/// Microsoft's clouds.
pub struct MicrosoftSource {
    api: AlertsApi,
    clouds: Arc<BTreeMap<CloudName, Cloud>>,
}

impl MicrosoftSource {
    /// Reads each tenant from the cloud that it names.
    pub fn new(api: AlertsApi, clouds: Arc<BTreeMap<CloudName, Cloud>>) -> Self {
        Self { api, clouds }
    }
}

impl AlertSource for MicrosoftSource {
    type Link = PageLink;

    fn manner(&self, source: Source) -> Option<Manner> {
        Some(Manner {
            max_page: microsoft::max_page(source),
            max_skip: microsoft::max_skip(source),
            can_order: microsoft::supports_order(source),
            facets: microsoft::facets(source),
        })
    }

    async fn fetch(
        &self,
        tenant: &HeldTenant,
        source: Source,
        token: &AccessToken,
        query: &Query<PageLink>,
    ) -> Result<Page<PageLink>, FetchError> {
        let cloud = self.clouds.get(&tenant.cloud).ok_or_else(|| unknown_cloud(&tenant.cloud))?;
        let query = match query {
            Query::Window(window) => PageQuery::Window(*window),
            Query::Next(PageLink::Next(link)) => PageQuery::Next(link.clone()),
            Query::Next(PageLink::Foreign) => {
                tracing::warn!(tenant.id = %tenant.id, %source, "a page names a next page at another address: it is not asked for, and links of this source are no longer believed");
                return Err(foreign_link(source));
            }
        };
        match self.api.fetch(cloud, source, token, &query).await {
            Ok(page) => {
                let next = page.next.map(PageLink::Next).or_else(|| page.foreign_next.then_some(PageLink::Foreign));
                Ok(Page { records: page.records, next, server_date: page.server_date, bytes: page.bytes })
            }
            Err(error) => Err(FetchError { kind: error.kind(), trouble: error.trouble() }),
        }
    }
}

fn foreign_link(source: Source) -> FetchError {
    FetchError {
        kind: ApiErrorKind::ForeignNextLink,
        trouble: Trouble {
            verdict: Verdict::OurBug,
            reason: format!("a page of {source} named a next page at another address; it was not asked for"),
            action: "you, if it lasts: check that the addresses of this cloud lead to Microsoft and nothing answers in its place"
                .to_owned(),
            code: Some("foreign-address".to_owned()),
            trace: None,
        },
    }
}

fn unknown_cloud(cloud: &CloudName) -> FetchError {
    FetchError {
        kind: ApiErrorKind::Refused,
        trouble: Trouble {
            verdict: Verdict::OurBug,
            reason: format!("the cloud \"{cloud}\" of this tenant is not configured"),
            action: format!("add [clouds.{cloud}] to the configuration, or import the tenant again with a cloud that is there"),
            code: Some("unknown-cloud".to_owned()),
            trace: None,
        },
    }
}
