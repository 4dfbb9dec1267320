//! One poll of one feed: asks what the walk wants to know, delivers what comes, and says how it ended. Everything
//! that decides is in [`crate::walk`]; this is the thin shell around it.

mod begin;

use std::sync::Arc;
use std::time::Duration;

use domain::{
    CursorMove, FeedOutcome, FeedProgress, Gap, Order, Purpose, Record, Report, ReportOrigin, SinkMessage, Ticks, Trouble, Verdict,
};
use microsoft::ApiErrorKind;
use tokio::time::Instant;

pub(crate) use self::begin::FIRST_DAY;
use crate::call::{Caller, NoPage};
use crate::deliver::{Address, Tail, deliver};
use crate::end::End;
use crate::feed::{Answered, Common, Feed, Health};
use crate::metrics;
use crate::sizes::Outlook;
use crate::source::{AlertSource, FetchError, Query};
use crate::walk::{Reaction, Walk};

/// A wait for the budget that is longer is told of (I24).
const UNSAID: Duration = Duration::from_secs(60);
/// A feed that was up to date and takes longer to be so again is told of (I24).
const LONG_WALK: Duration = Duration::from_secs(60);

/// One poll.
pub(crate) struct Poll<S: AlertSource> {
    pub(crate) caller: Caller<S>,
    pub(crate) feed: Feed<S::Link>,
    pub(crate) common: Arc<Common>,
    /// When it began, by our clock.
    pub(crate) began: Ticks,
}

impl<S: AlertSource> Poll<S> {
    /// Polls, and gives back the feed's memory, whether it was slow, and how it ended.
    pub(crate) async fn run(mut self) -> (Feed<S::Link>, bool, End) {
        let end = self.turn().await;
        metrics::poll(self.caller.source, end.outcome());
        (self.feed, self.caller.pass.was_slow(), end)
    }

    async fn turn(&mut self) -> End {
        let Some(manner) = self.caller.shared.source.manner(self.caller.source) else {
            return self.unsupported(format!("{} is not read by this version", self.caller.source)).await;
        };
        let mut walk = match self.walk(manner).await {
            Ok(walk) => walk,
            Err(end @ (End::Void | End::SinkGone)) => return self.void(end),
            Err(end) => return end,
        };
        let shared = Arc::clone(&self.caller.shared);
        let began = Instant::now();
        let walk_began = *self.feed.walk_began.get_or_insert(began);
        let mut calls = 0;
        let end = loop {
            if calls >= shared.config.pages_per_turn || (calls > 0 && began.elapsed() >= shared.config.time_per_turn) {
                break End::More;
            }
            calls += 1;
            match self.step(&mut walk).await {
                Ok(true) => break End::CaughtUp,
                Ok(false) => {}
                Err(end) => break end,
            }
        };
        self.caller.pass.release();
        let (order, ceiling) = (walk.order(), walk.ceiling());
        if let Some(state) = &mut self.feed.state {
            if state.order != order {
                tracing::info!(tenant.id = %self.caller.tenant.id, source = %self.caller.source, "the source does not answer in order: it is read by windows of time from now on");
            }
            state.order = order;
        }
        match end {
            End::CaughtUp => {
                if let Some(state) = &mut self.feed.state {
                    state.caught_up = state.caught_up.max(Some(ceiling));
                }
                self.feed.caught_up = true;
                self.feed.walk_began = None;
                self.feed.known.end();
                self.common.note_caught_up(walk_began);
                self.working().await;
                self.progress(FeedOutcome::CaughtUp { at: ceiling }, order).await;
            }
            End::More => {
                self.feed.walk = Some(walk);
                if !self.feed.answers {
                    return End::Searching;
                }
                self.working().await;
                let reads_for = walk_began.elapsed();
                if self.feed.caught_up && reads_for >= LONG_WALK {
                    let error = format!(
                        "it has been read for {} s without coming to its end: there is more than usual, and it goes on",
                        reads_for.as_secs()
                    );
                    self.progress(FeedOutcome::Failed { error, throttled_until: None }, order).await;
                }
            }
            End::Void | End::SinkGone => return self.void(end),
            _ => self.feed.walk = Some(walk),
        }
        end
    }

    /// What is remembered may not be what is committed.
    fn void(&mut self, end: End) -> End {
        self.feed = Feed::default();
        self.common.forget_learnt();
        end
    }

    /// Asks one question. `true` when the walk is done.
    async fn step(&mut self, walk: &mut Walk<S::Link>) -> Result<bool, End> {
        let (query, records) = {
            let learnt = self.common.learnt();
            let query = walk.query(&learnt);
            let records = match &query {
                Query::Window(window) => window.top,
                Query::Next(_) => u32::try_from(learnt.longest).unwrap_or(u32::MAX),
            };
            (query, records)
        };
        let clock = Arc::clone(&self.caller.shared.clock);
        let measures = walk.is_measuring();
        let is_short = self.feed.answered != Answered::Much && !measures && (self.asks_in_vain() || self.is_up_to_date(clock.now()));
        let outlook = if is_short { Outlook::UpToDate } else { Outlook::Open };
        let bytes = self.feed.sizes.expected(records, outlook);
        let (mut records, step) = match self.caller.fetch(&query, bytes).await {
            Ok(page) => {
                if self.feed.answered == Answered::Nothing {
                    self.feed.sizes.begin_walk(page.bytes);
                    self.feed.answered = Answered::Little;
                }
                if page.next.is_some() || page.records.len() >= usize::try_from(records).unwrap_or(usize::MAX) {
                    self.feed.answered = Answered::Much;
                }
                self.feed.sizes.note(page.bytes, page.records.len(), outlook);
                let mut step = walk.answer(&page.records, page.next, page.server_date, clock.now(), &mut self.common.learnt());
                step.gaps.extend(self.expired(clock.now()));
                (page.records, step)
            }
            Err(NoPage::Refused(error)) => {
                if error.kind == ApiErrorKind::TooLarge {
                    self.feed.answered = Answered::Much;
                }
                let reaction = walk.failed(&error.kind, clock.now(), &mut self.common.learnt());
                match reaction {
                    Reaction::Adapted(step) => (Vec::new(), step),
                    Reaction::GiveUp => return Err(self.failed(error).await),
                }
            }
            Err(NoPage::NoToken { error, wait }) => {
                self.fail_progress(error, None).await;
                return Err(wait.map_or(End::Failed { outcome: "no-token", retry_after: None }, End::NoToken));
            }
            Err(NoPage::NotBefore(wait)) => {
                self.held_back(wait).await;
                return Err(End::NotBefore(wait));
            }
            Err(NoPage::Crowded) => return Err(self.crowded().await),
        };
        metrics::known(self.caller.source, self.feed.known.keep(&mut records, measures));
        self.deliver(records, step.watermark, step.gaps).await?;
        self.caller.pass.release();
        Ok(step.done)
    }

    /// Whether the next answer is about a short time only. After a restart the database says so: thousands of customers are
    /// then asked at once, and must not wait for memory that none of them needs.
    fn is_up_to_date(&self, now: Ticks) -> bool {
        const SHORT: Duration = Duration::from_secs(2 * 3600);
        // What lies in the overlap is known to this process, once it has read it.
        let further = if self.feed.caught_up { Duration::ZERO } else { self.caller.shared.config.overlap };
        let read_to = self.feed.state.as_ref().and_then(|state| state.caught_up);
        read_to.is_some_and(|at| now.since(at) + further <= SHORT)
    }

    /// Whether the source was last asked in vain. A hundred who hang for hours must not wait for memory that only answers need: others
    /// who are merely slow would wait with them. One page of each may come without, when they are well again.
    fn asks_in_vain(&self) -> bool {
        self.feed.health == Health::Troubled && !self.feed.answers
    }

    fn address(&self) -> Address<'_> {
        let Caller { shared, tenant, source, .. } = &self.caller;
        Address { sink: &shared.sink, fence: tenant.fence(), source: *source, purpose: Purpose::Live { fresh: self.feed.caught_up } }
    }

    async fn deliver(&mut self, records: Vec<Record>, watermark: Option<Ticks>, gaps: Vec<Gap>) -> Result<(), End> {
        for gap in &gaps {
            tracing::error!(
                tenant.id = %self.caller.tenant.id, source = %self.caller.source, from = %gap.from, to = %gap.to, kind = %gap.kind, error = gap.reason,
                "alerts of this tenant may be missing: the source does not show them; it is recorded in dash.gap"
            );
        }
        let count = records.len();
        let on_record = self.feed.state.as_ref().and_then(|state| state.watermark);
        let cursor = on_record.zip(watermark).map(|(from, watermark)| CursorMove::Live { from, watermark });
        let committed = deliver(&self.address(), records, Tail { cursor, gaps }).await?;
        if committed.void {
            tracing::warn!(
                tenant.id = %self.caller.tenant.id, source = %self.caller.source,
                "the database has lost what it had, as after a failover: this feed is read again from where it stands there"
            );
            return Err(End::Void);
        }
        if let Some(state) = &mut self.feed.state {
            state.watermark = state.watermark.max(watermark);
            self.common.note_watermark(state.watermark);
        }
        if committed.new + committed.updated + committed.quarantined > 0 {
            self.common.note_news();
            tracing::debug!(
                tenant.id = %self.caller.tenant.id, source = %self.caller.source, count, new = committed.new, updated = committed.updated,
                "alerts stored"
            );
        }
        Ok(())
    }

    /// The source refuses or cannot; the cursor stands where it stood.
    async fn failed(&mut self, error: FetchError) -> End {
        let FetchError { kind, trouble } = error;
        let end = End::refused(&kind);
        let End::Failed { retry_after, .. } = end else { return self.unsupported(trouble.reason).await };
        let (tenant, source) = (self.caller.tenant.id, self.caller.source);
        // The first failure is for everybody to see; that it goes on is shown by the tenant's health.
        if self.feed.health == Health::Troubled {
            tracing::debug!(tenant.id = %tenant, %source, error = trouble.reason, code = trouble.code, "poll failed again");
        } else {
            tracing::warn!(tenant.id = %tenant, %source, error = trouble.reason, code = trouble.code, "poll failed");
        }
        self.troubled(trouble, retry_after).await;
        end
    }

    /// Says so wherever somebody looks: at the feed, and at the tenant.
    async fn troubled(&mut self, trouble: Trouble, retry_after: Option<Duration>) {
        let throttled_until = retry_after.map(|wait| self.caller.shared.clock.now().plus(wait));
        self.fail_progress(trouble.reason.clone(), throttled_until).await;
        self.feed.health = Health::Troubled;
        let (fence, origin) = (self.caller.tenant.fence(), ReportOrigin::Read(self.caller.source));
        self.report(Report::Trouble { fence, origin, trouble }).await;
    }

    /// The source may have asked a re-read, or the tenant's other feed, to wait; or so many calls are to be made that it takes
    /// long until it is the turn of this one. This feed is blind all the same (I24).
    async fn held_back(&mut self, wait: Duration) {
        if self.feed.health == Health::Troubled {
            return;
        }
        let source = self.caller.source;
        let asked = self.caller.left_alone();
        let (wait, reason, action, code) = match asked {
            Some(wait) => {
                let reason = format!("the API of {source} asked to be left alone for {} s", wait.as_secs().max(1));
                (wait, reason, "nothing: it is tried again by itself", "throttled")
            }
            None if wait > UNSAID => {
                let reason = format!("the calls that [budget] allows to {source} are used up: it is asked again in {} s", wait.as_secs());
                (wait, reason, "you, if it lasts: raise that limit if Microsoft allows more, or poll.interval", "budget")
            }
            None => return,
        };
        let verdict = Verdict::RetryAfter(wait);
        let trouble = Trouble { verdict, reason, action: action.to_owned(), code: Some(code.to_owned()), trace: None };
        self.troubled(trouble, asked).await;
    }

    /// Too many others are slow, too, for it to be waited for any longer; nobody may be blind unsaid for that (I24).
    async fn crowded(&mut self) -> End {
        let seconds = self.caller.shared.config.slow_after.as_secs_f32();
        let source = self.caller.source;
        let trouble = Trouble {
            verdict: Verdict::Retry,
            reason: format!("{source} has not answered within {seconds} s, and now waits for a place among others that are slow"),
            action: "nothing: it is tried again by itself".to_owned(),
            code: Some("timeout".to_owned()),
            trace: None,
        };
        self.troubled(trouble, None).await;
        End::Crowded
    }

    async fn unsupported(&mut self, error: String) -> End {
        self.fail_progress(error, None).await;
        End::Unsupported
    }

    /// It works: said once, and again after each trouble.
    async fn working(&mut self) {
        if self.feed.health != Health::Working {
            if self.feed.health == Health::Troubled {
                tracing::info!(tenant.id = %self.caller.tenant.id, source = %self.caller.source, "polling works again");
            }
            self.feed.health = Health::Working;
            let (fence, origin) = (self.caller.tenant.fence(), ReportOrigin::Read(self.caller.source));
            self.report(Report::Working { fence, origin }).await;
        }
    }

    async fn fail_progress(&mut self, error: String, throttled_until: Option<Ticks>) {
        self.feed.answers = false;
        let order = self.feed.state.as_ref().map_or(Order::default(), |state| state.order);
        self.progress(FeedOutcome::Failed { error, throttled_until }, order).await;
    }

    async fn progress(&self, outcome: FeedOutcome, order: Order) {
        let Caller { shared, tenant, source, .. } = &self.caller;
        let progress = FeedProgress { fence: tenant.fence(), source: *source, attempted_at: self.began, outcome, order };
        if shared.sink.send(SinkMessage::Progress(progress)).await.is_err() {
            tracing::debug!("the sink is gone; the progress of a feed is not recorded");
        }
    }

    async fn report(&self, report: Report) {
        if self.caller.shared.reports.send(report).await.is_err() {
            tracing::debug!("the registry is gone; a report is dropped");
        }
    }
}
