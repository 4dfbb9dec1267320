//! One turn of reading a feed again: picks what is due, asks what its walk wants to know, delivers what comes together
//! with how far it has come.

mod begin;
mod special;

use std::sync::Arc;

use domain::{Axis, Comparison, CursorMove, Errand, Gap, GapKind, Purpose, Record, Reread, RereadMove, Ticks};
use microsoft::ApiErrorKind;
use tokio::time::Instant;

use crate::again::{Again, Reading};
use crate::call::{Caller, NoPage};
use crate::deliver::{Address, Tail, deliver};
use crate::end::End;
use crate::feed::{Common, FeedKey};
use crate::metrics;
use crate::sizes::Outlook;
use crate::source::{AlertSource, FetchError, Manner, Query};
use crate::tally::Tally;
use crate::walk::{Reaction, Rules, Walk, stamp_on};

/// A re-read that has failed so often in a row is mentioned. What the tenant's trouble is, polling says.
const MENTIONED: u32 = 8;

/// One turn.
pub(crate) struct Rereading<S: AlertSource> {
    pub(crate) caller: Caller<S>,
    pub(crate) again: Again<S::Link>,
    pub(crate) common: Arc<Common>,
    /// Polling finds the source in order.
    pub(crate) reachable: bool,
}

/// What was read and how far that brings it.
#[derive(Default)]
struct Progress {
    records: Vec<Record>,
    whole: Option<(Ticks, Ticks)>,
    gaps: Vec<Gap>,
    comparison: Option<Comparison>,
}

impl<S: AlertSource> Rereading<S> {
    /// Reads, and gives back the feed's memory and how it ended.
    pub(crate) async fn run(mut self) -> (Again<S::Link>, End) {
        let end = self.turn().await;
        if matches!(end, End::Void | End::SinkGone) {
            self.again = Again::default();
            self.common.forget_learnt();
        }
        (self.again, end)
    }

    async fn turn(&mut self) -> End {
        let shared = Arc::clone(&self.caller.shared);
        let Some(manner) = shared.source.manner(self.caller.source) else { return End::Unsupported };
        if self.again.is_stale()
            && let Err(end) = self.load().await
        {
            return end;
        }
        let began = Instant::now();
        let mut steps = 0;
        loop {
            if steps >= shared.config.pages_per_turn || (steps > 0 && began.elapsed() >= shared.config.time_per_turn) {
                return End::More;
            }
            steps += 1;
            // Without a watermark polling has not begun, and there is nothing that it could have passed over.
            let Some(watermark) = self.common.watermark() else { return End::CaughtUp };
            let now = shared.clock.now();
            let feed = FeedKey { tenant: self.caller.tenant.id, source: self.caller.source };
            let Some(errand) = self.again.pick(&shared.config.ladder, feed, now, Instant::now(), self.reachable) else {
                return End::CaughtUp;
            };
            let gone_on = match self.again.row(errand).filter(|row| row.finished_at.is_none()).cloned() {
                Some(row) => self.go_on(row, manner, watermark, now).await,
                None => self.begin(errand, watermark, now).await,
            };
            if let Err(end) = gone_on {
                return end;
            }
        }
    }

    async fn load(&mut self) -> Result<(), End> {
        let Caller { shared, tenant, source, .. } = &self.caller;
        match shared.cursors.rereads(tenant.id, *source).await {
            Ok(rows) => {
                self.again.load(rows, shared.clock.now());
                Ok(())
            }
            Err(error) => {
                tracing::warn!(tenant.id = %tenant.id, %source, %error, "cannot ask what is to be read again");
                Err(End::StoreAway)
            }
        }
    }

    async fn go_on(&mut self, row: Reread, manner: Manner, watermark: Ticks, now: Ticks) -> Result<(), End> {
        let is_counted = |tally: &Tally| tally.run == row.run;
        if row.errand.is_comparison() && !self.again.tallies.get(&row.errand).is_some_and(is_counted) {
            return self.compare_anew(row, watermark).await;
        }
        if self.again.opened.get(&row.errand) != Some(&row.run) {
            // Taken over from a command, from first contact or from before a crash: it may have been cancelled.
            return self.open(row).await;
        }
        if row.errand == Errand::Replay {
            return self.replay(row).await;
        }
        if row.left > row.from {
            return self.read(row, manner, now).await;
        }
        match row.axis {
            Axis::Update => {
                if let Some(tally) = self.again.tallies.get_mut(&row.errand) {
                    tally.note_read(Instant::now());
                }
                // Written with the first answer: a crash before that comes here again.
                let to = self.creation_end(&row, now);
                self.again.note(Reread { axis: Axis::Creation, to, left: to, ..row });
                Ok(())
            }
            Axis::Creation if row.errand.is_comparison() => self.conclude(row).await,
            Axis::Creation => self.end(Reread { finished_at: Some(now), ..row }, None).await,
        }
    }

    /// Asks one question.
    async fn read(&mut self, row: Reread, manner: Manner, now: Ticks) -> Result<(), End> {
        let shared = Arc::clone(&self.caller.shared);
        let (errand, run, axis) = (row.errand, row.run, row.axis);
        let mut walk = match self.again.readings.remove(&errand) {
            Some(reading) if (reading.run, reading.axis) == (run, axis) => reading.walk,
            _ => {
                let config = &shared.config;
                let rules = Rules { manner, page_size: config.page_size, overlap: config.overlap, first_sync: config.first_sync };
                Box::new(Walk::reread(&row, rules, now, &self.common.learnt()))
            }
        };
        let (query, records) = {
            let learnt = self.common.learnt();
            let query = walk.query(&learnt);
            let records = match &query {
                Query::Window(window) => window.top,
                Query::Next(_) => u32::try_from(learnt.longest).unwrap_or(u32::MAX),
            };
            (query, records)
        };
        let outlook = Outlook::of(&query);
        let answer = self.caller.fetch(&query, self.again.sizes.expected(records, outlook)).await;
        let (mut records, step) = match answer {
            Ok(page) => {
                self.again.sizes.note(page.bytes, page.records.len(), outlook);
                let step = walk.answer(&page.records, page.next, page.server_date, shared.clock.now(), &mut self.common.learnt());
                (page.records, step)
            }
            Err(NoPage::Refused(error)) => {
                let reaction = walk.failed(&error.kind, shared.clock.now(), &mut self.common.learnt());
                match reaction {
                    Reaction::Adapted(step) => (Vec::new(), step),
                    Reaction::GiveUp => {
                        let end = self.failed(errand, &error);
                        if error.kind == ApiErrorKind::Refused && axis == Axis::Creation && self.again.failures(errand) >= MENTIONED {
                            return self.give_up_axis(row, &error).await;
                        }
                        self.again.readings.insert(errand, Reading { run, axis, walk });
                        return Err(end);
                    }
                }
            }
            Err(no_page) => {
                self.again.readings.insert(errand, Reading { run, axis, walk });
                return Err(match no_page {
                    NoPage::NotBefore(wait) => End::NotBefore(wait),
                    NoPage::NoToken { wait: Some(wait), .. } => End::NoToken(wait),
                    NoPage::NoToken { .. } | NoPage::Crowded | NoPage::Refused(_) => {
                        self.again.failed(errand, Instant::now());
                        End::Failed { outcome: "no-token", retry_after: None }
                    }
                });
            }
        };
        if let Some(tally) = self.again.tallies.get_mut(&errand) {
            match axis {
                Axis::Update => {
                    tally.note(&records);
                    if !step.gaps.is_empty() {
                        tally.note_gap();
                    }
                }
                // What polling has not come to yet is for polling, which asks for it before the comparison is concluded: it
                // would be counted as a difference only because this came first.
                Axis::Creation => {
                    let due = tally.to.max(row.polled_before);
                    records.retain(|record| stamp_on(record, Axis::Update).is_none_or(|stamp| stamp < due));
                }
            }
        }
        self.again.works(errand);
        let left = if step.done { row.from } else { step.left.unwrap_or(row.left) };
        // Nobody has to be told twice that it is over; a comparison has to be concluded first.
        let is_over = step.done && axis == Axis::Creation && !errand.is_comparison();
        let finished_at = is_over.then(|| shared.clock.now());
        if !step.done {
            self.again.readings.insert(errand, Reading { run, axis, walk });
        }
        let moves = step.left.is_some() || step.done || !records.is_empty();
        let progress = Progress { records, whole: step.whole, gaps: step.gaps, comparison: None };
        if !moves {
            return self.deliver(&row, None, progress).await.map(drop);
        }
        let row = Reread { left, finished_at, ..row };
        if is_over { self.end_with(row, progress).await } else { self.write(row, progress).await }
    }

    /// The source refuses to be asked by creation, again and again: this run ends without that. What comes round by the
    /// clock tries again by itself; a backfill does not, and leaves a gap.
    async fn give_up_axis(&mut self, row: Reread, error: &FetchError) -> Result<(), End> {
        tracing::warn!(
            tenant.id = %self.caller.tenant.id, source = %self.caller.source, errand = %row.errand, error = error.trouble.reason,
            "the source refuses to be asked by creation time: alerts without an update stamp are not looked for"
        );
        self.again.works(row.errand);
        if row.errand != Errand::Backfill {
            self.again.note(Reread { left: row.from, ..row });
            return Ok(());
        }
        let reason =
            format!("the source refuses to be asked by creation time, so what has no update stamp is not seen: {}", error.trouble.reason);
        let gap = Gap { from: row.from, to: Ticks(row.left.0.saturating_sub(1)), kind: GapKind::Failing, reason };
        self.write(Reread { left: row.from, ..row }, Progress { gaps: vec![gap], ..Progress::default() }).await
    }

    /// It goes on later; if the tenant is in trouble, polling says so.
    fn failed(&mut self, errand: Errand, error: &FetchError) -> End {
        let end = End::refused(&error.kind);
        if let End::Failed { retry_after: Some(wait), .. } = end {
            return End::NotBefore(wait);
        }
        let failures = self.again.failed(errand, Instant::now());
        let (tenant, source) = (self.caller.tenant.id, self.caller.source);
        if failures == MENTIONED {
            tracing::warn!(tenant.id = %tenant, %source, %errand, error = error.trouble.reason, "a re-read keeps failing; it goes on where it stands");
        } else {
            tracing::debug!(tenant.id = %tenant, %source, %errand, error = error.trouble.reason, "a re-read failed");
        }
        end
    }

    async fn end(&mut self, row: Reread, comparison: Option<Comparison>) -> Result<(), End> {
        self.end_with(row, Progress { comparison, ..Progress::default() }).await
    }

    async fn end_with(&mut self, row: Reread, progress: Progress) -> Result<(), End> {
        let errand = row.errand;
        self.write(row, progress).await?;
        metrics::reread(errand);
        if errand == Errand::Backfill {
            tracing::info!(tenant.id = %self.caller.tenant.id, source = %self.caller.source, "the backfill is complete");
        }
        Ok(())
    }

    /// Commits how far it has come, and remembers it.
    async fn write(&mut self, row: Reread, progress: Progress) -> Result<(), End> {
        let cursor = RereadMove {
            now: row.clone(),
            before: self.again.before(&row),
            whole: progress.whole,
            comparison: progress.comparison.clone(),
        };
        if self.deliver(&row, Some(CursorMove::Reread(cursor)), progress).await? {
            tracing::info!(tenant.id = %self.caller.tenant.id, source = %self.caller.source, errand = %row.errand, "a re-read was cancelled or begun anew, or the database has lost how far it had come");
            self.again.cancelled(row.errand, Instant::now());
            return Err(End::More);
        }
        self.again.committed(&row);
        self.again.note(row);
        Ok(())
    }

    /// `true` when the re-read is void.
    async fn deliver(&mut self, row: &Reread, cursor: Option<CursorMove>, progress: Progress) -> Result<bool, End> {
        let Caller { shared, tenant, source, pass, .. } = &mut self.caller;
        for gap in progress.gaps.iter().filter(|gap| self.again.is_new_gap(gap.from)) {
            tracing::error!(
                tenant.id = %tenant.id, %source, from = %gap.from, to = %gap.to, kind = %gap.kind, error = gap.reason,
                "alerts of this tenant may be missing: the source does not show them; it is recorded in dash.gap"
            );
        }
        let purpose = Purpose::Reread { errand: row.errand, polled_before: row.polled_before };
        let address = Address { sink: &shared.sink, fence: tenant.fence(), source: *source, purpose };
        let committed = deliver(&address, progress.records, Tail { cursor, gaps: progress.gaps }).await?;
        pass.release();
        if committed.new + committed.updated > 0 {
            self.common.note_news();
        }
        if committed.late > 0 && row.errand.is_rung() {
            tracing::warn!(
                tenant.id = %tenant.id, %source, errand = %row.errand, late = committed.late,
                "alerts were found that polling had missed; they are stored now"
            );
        }
        Ok(committed.void)
    }
}
