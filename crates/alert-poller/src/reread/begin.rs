//! How a run begins: by the clock, or taken over from a command, from first contact, or from before a crash.

use domain::{Axis, Comparison, Errand, Reread, Ticks};

use super::{Progress, Rereading};
use crate::end::End;
use crate::poll::FIRST_DAY;
use crate::source::AlertSource;
use crate::tally::Tally;

impl<S: AlertSource> Rereading<S> {
    /// A new run of an errand of the clock.
    pub(super) async fn begin(&mut self, errand: Errand, watermark: Ticks, now: Ticks) -> Result<(), End> {
        let config = &self.caller.shared.config;
        let polled_before = watermark.minus(config.overlap);
        let last_run = self.again.row(errand).map(|row| row.run);
        // The long rung's row remembers for as long as it matters from where on this feed was to be read.
        let began = self.again.row(Errand::Long).map(|row| row.from);
        let Some(stretch) = config.ladder.stretch(errand, began, watermark, config.overlap, now) else { return Ok(()) };
        let new = |run, from, to| Reread { errand, run, axis: Axis::Update, from, to, left: to, polled_before, finished_at: None };
        let Some(last_run) = last_run else {
            // Never done: an empty run that is over sets its clock going, so that a new tenant's first is not due at once,
            // and no restart puts it off.
            let from = self.common.history_from().unwrap_or(stretch.from);
            return self.write(Reread { finished_at: Some(now), ..new(1, from, from) }, Progress::default()).await;
        };
        let run = last_run + 1;
        if !stretch.is_empty() {
            return self.open(new(run, stretch.from, stretch.to)).await;
        }
        // Every poll reads what lies after the stretch, so there is nothing to ask for by last update.
        match errand {
            // What has no update stamp is found by creation only: once a day that is looked for in a quiet feed, too.
            Errand::Long => self.open(Reread { axis: Axis::Creation, ..new(run, stretch.from, now) }).await,
            _ => {
                let comparison = errand.is_comparison().then(Comparison::default);
                self.end(Reread { finished_at: Some(now), ..new(run, stretch.from, stretch.from) }, comparison).await
            }
        }
    }

    /// Writes down that a run has begun, before anything is counted in it.
    pub(super) async fn open(&mut self, row: Reread) -> Result<(), End> {
        let (errand, run) = (row.errand, row.run);
        let tally = errand.is_comparison().then(|| Tally::new(run, row.from, row.to));
        self.write(row, Progress::default()).await?;
        self.again.opened.insert(errand, run);
        self.again.tallies.extend(tally.map(|tally| (errand, tally)));
        Ok(())
    }

    /// By creation a stretch that reached to where polling takes over is read up to now: polling goes by last update, and
    /// what has no such stamp would stay unseen. A backfill at first contact covers the day that polling began with.
    pub(super) fn creation_end(&self, row: &Reread, now: Ticks) -> Ticks {
        match row.errand {
            Errand::Backfill => row.to.plus(FIRST_DAY).min(now).max(row.to),
            _ if row.to >= row.polled_before => now.max(row.to),
            _ => row.to,
        }
    }

    /// A comparison that somebody asked for, or that was interrupted: what it had seen is not known any more.
    pub(super) async fn compare_anew(&mut self, row: Reread, watermark: Ticks) -> Result<(), End> {
        let untouched = row.axis == Axis::Update && row.left == row.to;
        let run = if untouched { row.run } else { row.run + 1 };
        let polled_before = watermark.minus(self.caller.shared.config.overlap);
        // What polling has not seen yet is no difference.
        let seen = if row.errand == Errand::Nightly { polled_before } else { watermark.next() };
        let to = row.to.min(seen).max(row.from);
        self.open(Reread { run, axis: Axis::Update, to, left: to, polled_before, ..row }).await
    }
}
