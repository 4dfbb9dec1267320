//! One call to a source: a token, a place in the tenant's allowance, memory for the answer, and the answer itself.
//! Polling and re-reading call in the same way; they differ in whose share of the allowance is used.

use std::sync::Arc;
use std::time::Duration;

use domain::ports::{AccessTokens, Cursors};
use domain::rehearsal::point;
use domain::{AccessToken, Clock, HeldTenant, Report, SinkMessage, Source, Trouble, Verdict};
use microsoft::ApiErrorKind;
use tokio::sync::mpsc;

use crate::budget::{Allowance, AppBudget};
use crate::config::Config;
use crate::feed::Work;
use crate::lanes::{Lanes, Pass, Waited};
use crate::source::{AlertSource, FetchError, Page, Query};

/// Nobody is left alone for longer than this, whatever they ask for.
pub(crate) const LONGEST_BLOCK: Duration = Duration::from_secs(3600);

/// What all turns share.
pub(crate) struct Shared<S> {
    pub(crate) config: Config,
    pub(crate) source: Arc<S>,
    pub(crate) tokens: Arc<dyn AccessTokens>,
    pub(crate) cursors: Arc<dyn Cursors>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sink: mpsc::Sender<SinkMessage>,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) lanes: Arc<Lanes>,
}

impl<S> Shared<S> {
    /// The same with other settings. Turns in flight end with those that they began with.
    pub(crate) fn with(&self, config: Config) -> Self {
        Self {
            config,
            source: Arc::clone(&self.source),
            tokens: Arc::clone(&self.tokens),
            cursors: Arc::clone(&self.cursors),
            clock: Arc::clone(&self.clock),
            sink: self.sink.clone(),
            reports: self.reports.clone(),
            lanes: Arc::clone(&self.lanes),
        }
    }
}

/// Why there is no page.
pub(crate) enum NoPage {
    /// The source says no, or nothing that can be understood.
    Refused(FetchError),
    /// There is no token, in words. To be asked for again after this, if that is known.
    NoToken { error: String, wait: Option<Duration> },
    /// The tenant, or its app, may not call before this.
    NotBefore(Duration),
    /// The slow lane is where this has to wait.
    Crowded,
}

/// Calls one source of one tenant, for one turn.
pub(crate) struct Caller<S: AlertSource> {
    pub(crate) shared: Arc<Shared<S>>,
    pub(crate) tenant: Arc<HeldTenant>,
    pub(crate) source: Source,
    pub(crate) work: Work,
    pub(crate) pass: Pass,
    allowance: Arc<Allowance>,
    app: Arc<AppBudget>,
    token: Option<AccessToken>,
}

impl<S: AlertSource> Caller<S> {
    pub(crate) fn new(
        shared: Arc<Shared<S>>,
        tenant: Arc<HeldTenant>,
        source: Source,
        work: Work,
        pass: Pass,
        (allowance, app): (Arc<Allowance>, Arc<AppBudget>),
    ) -> Self {
        Self { shared, tenant, source, work, pass, allowance, app, token: None }
    }

    /// One page, with one more try under a new token when the first one is refused. So much memory is set aside for it.
    pub(crate) async fn fetch(&mut self, query: &Query<S::Link>, bytes: usize) -> Result<Page<S::Link>, NoPage> {
        let audience = self.source.audience();
        let mut tried_again = false;
        loop {
            let token = self.token().await?;
            let shared = Arc::clone(&self.shared);
            let may_call = self.allowance.come_through(self.source, self.work, &self.app, &shared.config).await;
            may_call.map_err(NoPage::NotBefore)?;
            self.pass.reserve(bytes).await;
            if let Some(wait) = self.left_alone() {
                self.pass.release();
                return Err(NoPage::NotBefore(wait));
            }
            let answer = self.ask(&shared, &token, query);
            let error = match answer.await? {
                Ok(page) => {
                    self.pass.settle(page.bytes);
                    return Ok(page);
                }
                Err(error) => error,
            };
            match error.kind {
                ApiErrorKind::Unauthorized if !tried_again => {
                    tried_again = true;
                    self.token = None;
                    shared.tokens.refused(self.tenant.id, audience, &token).await;
                }
                ApiErrorKind::Throttled(wait) => {
                    self.allowance.block(audience, wait.min(LONGEST_BLOCK));
                    return Err(NoPage::Refused(error));
                }
                _ => return Err(NoPage::Refused(error)),
            }
        }
    }

    /// For how long the source has asked not to be called, if it has: it may have said so to somebody else.
    pub(crate) fn left_alone(&self) -> Option<Duration> {
        self.allowance.left_alone(self.source.audience())
    }

    async fn ask(
        &mut self,
        shared: &Shared<S>,
        token: &AccessToken,
        query: &Query<S::Link>,
    ) -> Result<Result<Page<S::Link>, FetchError>, NoPage> {
        self.rehearse("fetch.before-call").await?;
        let answer = shared.source.fetch(&self.tenant, self.source, token, query);
        let answer = match self.pass.wait(answer, &shared.config).await {
            Ok(answer) => answer,
            Err(Waited::Crowded) => return Err(NoPage::Crowded),
            Err(Waited::TooLong) => {
                let seconds = shared.config.answer_timeout.as_secs();
                Err(failing(format!("{} did not answer within {seconds} s", self.source), "timeout"))
            }
        };
        self.rehearse("fetch.answered").await?;
        Ok(answer)
    }

    /// A rehearsed failure looks like a source that cannot answer now.
    async fn rehearse(&self, name: &'static str) -> Result<(), NoPage> {
        point(name).await.map_err(|rehearsed| NoPage::Refused(failing(rehearsed.to_string(), "rehearsal")))
    }

    async fn token(&mut self) -> Result<AccessToken, NoPage> {
        if let Some(token) = &self.token {
            return Ok(token.clone());
        }
        let shared = Arc::clone(&self.shared);
        let asked = shared.tokens.access_token(&self.tenant, self.source.audience());
        match self.pass.wait(asked, &shared.config).await {
            Ok(Ok(token)) => Ok(self.token.insert(token).clone()),
            Ok(Err(no_token)) => {
                let wait = Some(no_token.retry_at.since(shared.clock.now()));
                Err(NoPage::NoToken { error: no_token.to_string(), wait })
            }
            Err(Waited::Crowded) => Err(NoPage::Crowded),
            Err(Waited::TooLong) => {
                let error = format!("no access token within {} s", shared.config.answer_timeout.as_secs());
                Err(NoPage::NoToken { error, wait: None })
            }
        }
    }
}

fn failing(reason: String, code: &str) -> FetchError {
    FetchError {
        kind: ApiErrorKind::Unavailable,
        trouble: Trouble {
            verdict: Verdict::Retry,
            reason,
            action: "nothing: it is tried again by itself".to_owned(),
            code: Some(code.to_owned()),
            trace: None,
        },
    }
}
