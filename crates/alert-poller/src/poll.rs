//! One turn of one feed: gets a token, asks what the walk wants to know, delivers what comes, and says how it
//! ended. Everything that decides is in [`crate::walk`]; this is the thin shell around it.

use std::sync::Arc;
use std::time::Duration;

use domain::ports::{AccessTokens, Cursors};
use domain::{
    AccessToken, Clock, FeedOutcome, FeedProgress, FeedState, HeldTenant, Order, Report, ReportOrigin, SinkMessage, Source, Ticks,
};
use domain::{Trouble, Verdict};
use microsoft::ApiErrorKind;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::budget::Allowance;
use crate::config::Config;
use crate::deliver::{Address, Undelivered, deliver};
use crate::feed::{Feed, Health};
use crate::lanes::{Lanes, Pass, Waited};
use crate::metrics;
use crate::source::{AlertSource, FetchError, Page, Query};
use crate::walk::{Reaction, Rules, Step, Walk};

/// A wait for the budget that is shorter than this is waited for in place.
const SHORT_WAIT: Duration = Duration::from_millis(600);
/// Nobody is left alone for longer than this, whatever they ask for.
const LONGEST_BLOCK: Duration = Duration::from_secs(3600);
/// Failures after which a page is asked for in smaller pieces.
const STUCK: u32 = 3;

/// What all polls share.
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

/// How a poll ended, for whoever schedules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything visible is stored.
    CaughtUp,
    /// There is more to read; others may go first.
    More,
    /// The tenant may not be called before this.
    NotBefore(Duration),
    /// There is no access token to be had for so long.
    NoToken(Duration),
    /// The other lane is where this feed has to wait.
    Crowded,
    /// It failed, and the source named a time to wait.
    Failed { outcome: &'static str, retry_after: Option<Duration> },
    /// This version does not read this source.
    Unsupported,
    /// The database could not be asked where the feed stands.
    StoreAway,
    /// The right to write is lost, or the daemon stops: what is remembered counts no more.
    Void,
    /// The sink is gone.
    SinkGone,
}

impl End {
    /// The word in the metric.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::CaughtUp => "ok",
            Self::More => "partial",
            Self::NotBefore(_) => "waiting",
            Self::NoToken(_) => "no-token",
            Self::Crowded => "slow",
            Self::Failed { outcome, .. } => outcome,
            Self::Unsupported => "unsupported",
            Self::StoreAway => "no-database",
            Self::Void | Self::SinkGone => "void",
        }
    }
}

/// Why there is no page.
enum NoPage {
    Refused(FetchError),
    End(End),
}

/// One poll.
pub(crate) struct Poll<S: AlertSource> {
    pub(crate) shared: Arc<Shared<S>>,
    pub(crate) tenant: Arc<HeldTenant>,
    pub(crate) source: Source,
    pub(crate) feed: Feed<S::Link>,
    pub(crate) pass: Pass,
    pub(crate) allowance: Arc<Allowance>,
    pub(crate) token: Option<AccessToken>,
    pub(crate) began: Ticks,
}

impl<S: AlertSource> Poll<S> {
    /// Polls, and gives back the feed's memory, whether it was slow, and how it ended.
    pub(crate) async fn run(mut self) -> (Feed<S::Link>, bool, End) {
        let end = self.turn().await;
        metrics::poll(self.source, end.outcome());
        (self.feed, self.pass.was_slow(), end)
    }

    async fn turn(&mut self) -> End {
        let Some(manner) = self.shared.source.manner(self.source) else {
            return self.unsupported(format!("{} is not read by this version", self.source)).await;
        };
        let state = match self.state().await {
            Ok(state) => state,
            Err(end) => return end,
        };
        let now = self.shared.clock.now();
        if self.feed.walk.is_none()
            && let Some(until) = state.throttled_until.filter(|until| *until > now)
        {
            // The memory of a throttling before this process; in it, the allowance knows.
            if let Some(state) = &mut self.feed.state {
                state.throttled_until = None;
            }
            return End::NotBefore(until.since(now).min(LONGEST_BLOCK));
        }
        let config = &self.shared.config;
        let rules = Rules { manner, page_size: config.page_size, overlap: config.overlap, first_sync: config.first_sync };
        let began = Instant::now();
        let mut begins_walk = self.feed.walk.is_none();
        let mut walk = self.feed.walk.take().unwrap_or_else(|| Box::new(Walk::new(&state, rules, now, &self.feed.learnt)));
        let mut calls = 0;
        let end = loop {
            if calls >= self.shared.config.pages_per_turn || (calls > 0 && began.elapsed() >= self.shared.config.time_per_turn) {
                break End::More;
            }
            calls += 1;
            match self.step(&mut walk, begins_walk).await {
                Ok(true) => break End::CaughtUp,
                Ok(false) => begins_walk = false,
                Err(end) => break end,
            }
        };
        self.pass.release();
        let (order, ceiling) = (walk.order(), walk.ceiling());
        if let Some(state) = &mut self.feed.state {
            if state.order != order {
                tracing::info!(tenant.id = %self.tenant.id, source = %self.source, "the source does not answer in order: it is read by windows of time from now on");
            }
            state.order = order;
        }
        match end {
            End::CaughtUp => {
                self.feed.caught_up = true;
                self.feed.stuck = 0;
                self.working().await;
                self.progress(FeedOutcome::CaughtUp { at: ceiling }, order).await;
            }
            End::More => {
                self.feed.walk = Some(walk);
                self.working().await;
            }
            // What the walk holds may not be what is committed.
            End::Void | End::SinkGone => self.feed = Feed::default(),
            _ => self.feed.walk = Some(walk),
        }
        end
    }

    /// Asks one question. `true` when the walk is done.
    async fn step(&mut self, walk: &mut Walk<S::Link>, begins_walk: bool) -> Result<bool, End> {
        let query = walk.query(&self.feed.learnt);
        let records = match &query {
            Query::Window(window) => window.top,
            Query::Next(_) => u32::try_from(self.feed.learnt.longest).unwrap_or(u32::MAX),
        };
        let step = match self.fetch(&query, self.feed.expected_bytes(records, begins_walk)).await {
            Ok(page) => {
                self.pass.settle(page.bytes);
                self.feed.note_size(page.bytes, page.records.len(), begins_walk);
                self.feed.stuck = 0;
                let step = walk.answer(&page.records, page.next, page.server_date, self.shared.clock.now(), &mut self.feed.learnt);
                self.deliver(page.records, &step).await?;
                step
            }
            Err(NoPage::Refused(error)) => match walk.failed(&error.kind, &mut self.feed.learnt) {
                Reaction::Adapted(step) => {
                    self.deliver(Vec::new(), &step).await?;
                    step
                }
                Reaction::GiveUp => return Err(self.failed(walk, error).await),
            },
            Err(NoPage::End(end)) => return Err(end),
        };
        self.pass.release();
        Ok(step.done)
    }

    /// What is committed of this feed.
    async fn state(&mut self) -> Result<FeedState, End> {
        if let Some(state) = &self.feed.state {
            return Ok(state.clone());
        }
        match self.shared.cursors.feed_state(self.tenant.id, self.source).await {
            Ok(state) => Ok(self.feed.state.insert(state).clone()),
            Err(error) => {
                tracing::warn!(tenant.id = %self.tenant.id, source = %self.source, %error, "cannot ask how far this feed has been read");
                Err(End::StoreAway)
            }
        }
    }

    /// One page, with one more try under a new token when the first one is refused.
    async fn fetch(&mut self, query: &Query<S::Link>, bytes: usize) -> Result<Page<S::Link>, NoPage> {
        let audience = self.source.audience();
        let mut tried_again = false;
        loop {
            let token = self.token().await.map_err(NoPage::End)?;
            self.budget().await.map_err(NoPage::End)?;
            self.pass.reserve(bytes).await;
            let shared = Arc::clone(&self.shared);
            let answer = shared.source.fetch(&self.tenant, self.source, &token, query);
            let error = match self.pass.wait(answer, &shared.config).await {
                Ok(Ok(page)) => return Ok(page),
                Ok(Err(error)) => error,
                Err(Waited::Crowded) => return Err(NoPage::End(End::Crowded)),
                Err(Waited::TooLong) => return Err(NoPage::Refused(no_answer(self.source, shared.config.answer_timeout))),
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

    async fn token(&mut self) -> Result<AccessToken, End> {
        if let Some(token) = &self.token {
            return Ok(token.clone());
        }
        let shared = Arc::clone(&self.shared);
        let asked = shared.tokens.access_token(&self.tenant, self.source.audience());
        match self.pass.wait(asked, &shared.config).await {
            Ok(Ok(token)) => Ok(self.token.insert(token).clone()),
            Ok(Err(no_token)) => {
                let wait = no_token.retry_at.since(shared.clock.now());
                self.fail_progress(no_token.to_string(), None).await;
                Err(End::NoToken(wait))
            }
            Err(Waited::Crowded) => Err(End::Crowded),
            Err(Waited::TooLong) => {
                self.fail_progress(format!("no access token within {} s", shared.config.answer_timeout.as_secs()), None).await;
                Err(End::Failed { outcome: "no-token", retry_after: None })
            }
        }
    }

    async fn budget(&self) -> Result<(), End> {
        loop {
            match self.allowance.take(self.source.audience()) {
                Ok(()) => return Ok(()),
                Err(wait) if wait <= SHORT_WAIT => tokio::time::sleep(wait.max(Duration::from_millis(1))).await,
                Err(wait) => return Err(End::NotBefore(wait)),
            }
        }
    }

    async fn deliver(&mut self, records: Vec<domain::Record>, step: &Step) -> Result<(), End> {
        for gap in &step.gaps {
            tracing::error!(
                tenant.id = %self.tenant.id, source = %self.source, from = %gap.from, to = %gap.to, error = gap.reason,
                "alerts of this tenant may be missing: the source does not show them; it is recorded in dash.gap"
            );
        }
        let address = Address { sink: &self.shared.sink, fence: self.tenant.fence(), source: self.source, live: self.feed.caught_up };
        let count = records.len();
        match deliver(&address, records, step).await {
            Ok(committed) => {
                if let (Some(state), Some(cursor)) = (&mut self.feed.state, &step.cursor) {
                    state.watermark = state.watermark.max(Some(cursor.watermark));
                }
                if committed.new + committed.updated > 0 {
                    tracing::debug!(
                        tenant.id = %self.tenant.id, source = %self.source, count, new = committed.new, updated = committed.updated,
                        "alerts stored"
                    );
                }
                Ok(())
            }
            Err(Undelivered::Refused) => Err(End::Void),
            Err(Undelivered::SinkGone) => Err(End::SinkGone),
        }
    }

    /// The source refuses or cannot; the cursor stands where it stood.
    async fn failed(&mut self, walk: &mut Walk<S::Link>, error: FetchError) -> End {
        let FetchError { kind, trouble } = error;
        let (outcome, retry_after) = match kind {
            ApiErrorKind::Throttled(wait) => ("throttled", Some(wait.min(LONGEST_BLOCK))),
            ApiErrorKind::Unsupported => return self.unsupported(trouble.reason).await,
            ApiErrorKind::Unavailable => ("unavailable", None),
            ApiErrorKind::BadAnswer => ("bad-answer", None),
            ApiErrorKind::Unauthorized => ("unauthorized", None),
            ApiErrorKind::Forbidden => ("forbidden", None),
            ApiErrorKind::TooLarge => ("too-large", None),
            ApiErrorKind::ForeignNextLink => ("foreign-link", None),
            _ => ("refused", None),
        };
        if matches!(kind, ApiErrorKind::Unavailable | ApiErrorKind::BadAnswer) {
            self.feed.stuck += 1;
            if self.feed.stuck >= STUCK {
                walk.ask_less();
            }
        }
        // The first failure is for everybody to see; that it goes on is shown by the tenant's health.
        if self.feed.health == Health::Troubled {
            tracing::debug!(tenant.id = %self.tenant.id, source = %self.source, error = trouble.reason, code = trouble.code, "poll failed again");
        } else {
            tracing::warn!(tenant.id = %self.tenant.id, source = %self.source, error = trouble.reason, code = trouble.code, "poll failed");
        }
        let throttled_until = retry_after.map(|wait| self.shared.clock.now().plus(wait));
        self.fail_progress(trouble.reason.clone(), throttled_until).await;
        self.feed.health = Health::Troubled;
        self.report(Report::Trouble { fence: self.tenant.fence(), origin: ReportOrigin::Read(self.source), trouble }).await;
        End::Failed { outcome, retry_after }
    }

    async fn unsupported(&mut self, error: String) -> End {
        self.fail_progress(error, None).await;
        End::Unsupported
    }

    /// It works: said once, and again after each trouble.
    async fn working(&mut self) {
        if self.feed.health != Health::Working {
            if self.feed.health == Health::Troubled {
                tracing::info!(tenant.id = %self.tenant.id, source = %self.source, "polling works again");
            }
            self.feed.health = Health::Working;
            self.report(Report::Working { fence: self.tenant.fence(), origin: ReportOrigin::Read(self.source) }).await;
        }
    }

    async fn fail_progress(&self, error: String, throttled_until: Option<Ticks>) {
        let order = self.feed.state.as_ref().map_or(Order::default(), |state| state.order);
        self.progress(FeedOutcome::Failed { error, throttled_until }, order).await;
    }

    async fn progress(&self, outcome: FeedOutcome, order: Order) {
        let progress = FeedProgress { fence: self.tenant.fence(), source: self.source, attempted_at: self.began, outcome, order };
        if self.shared.sink.send(SinkMessage::Progress(progress)).await.is_err() {
            tracing::debug!("the sink is gone; the progress of a feed is not recorded");
        }
    }

    async fn report(&self, report: Report) {
        if self.shared.reports.send(report).await.is_err() {
            tracing::debug!("the registry is gone; a report is dropped");
        }
    }
}

fn no_answer(source: Source, after: Duration) -> FetchError {
    FetchError {
        kind: ApiErrorKind::Unavailable,
        trouble: Trouble {
            verdict: Verdict::Retry,
            reason: format!("{source} did not answer within {} s", after.as_secs()),
            action: "nothing: it is tried again by itself".to_owned(),
            code: Some("timeout".to_owned()),
        },
    }
}
