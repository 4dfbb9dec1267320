//! Where a poll begins: from what is committed, and at first contact from what is written down before anything is asked.

use std::sync::Arc;
use std::time::Duration;

use domain::{CursorMove, FeedState, Gap, GapKind, Ticks};

use tokio::time::Instant;

use super::Poll;
use crate::deliver::{Tail, deliver};
use crate::end::End;
use crate::feed::Answered;
use crate::source::{AlertSource, Manner};
use crate::walk::{Rules, Walk};

/// At first contact polling begins so far back rather than now, so that a clock which is wrong by hours blinds nobody.
pub(crate) const FIRST_DAY: Duration = Duration::from_secs(24 * 3600);

/// What another process was told to wait is respected for so long. It knew the time by another clock, and whoever is asked
/// too early says so again.
const LONGEST_MEMORY: Duration = Duration::from_secs(5 * 60);

impl<S: AlertSource> Poll<S> {
    /// The walk that is to go on, or a new one from what is committed.
    pub(super) async fn walk(&mut self, manner: Manner) -> Result<Box<Walk<S::Link>>, End> {
        let state = self.state().await?;
        if let Some(walk) = self.feed.walk.take() {
            return Ok(walk);
        }
        (self.feed.walk_began, self.feed.answered) = (None, Answered::Nothing);
        self.feed.known.begin(Instant::now());
        let shared = Arc::clone(&self.caller.shared);
        let now = shared.clock.now();
        // The memory of a throttling before this process; in it, the allowance knows. Looked at once, or a clock that is
        // set back later would bring an old one to life again.
        let throttled_until = self.feed.state.as_mut().and_then(|state| state.throttled_until.take());
        if let Some(until) = throttled_until.filter(|until| *until > now) {
            return Err(End::NotBefore(until.since(now).min(LONGEST_MEMORY)));
        }
        let config = &shared.config;
        let rules = Rules { manner, page_size: config.page_size, overlap: config.overlap, first_sync: config.first_sync };
        let walk = Walk::new(&state, rules, now, &self.common.learnt());
        Ok(Box::new(walk))
    }

    /// What is committed of this feed; at first contact, what is committed now.
    async fn state(&mut self) -> Result<FeedState, End> {
        if let Some(state) = &self.feed.state {
            return Ok(state.clone());
        }
        let mut state = match self.caller.shared.cursors.feed_state(self.caller.tenant.id, self.caller.source).await {
            Ok(state) => state,
            Err(error) => {
                tracing::warn!(tenant.id = %self.caller.tenant.id, source = %self.caller.source, %error, "cannot ask how far this feed has been read");
                return Err(End::StoreAway);
            }
        };
        if state.watermark.is_none() {
            state.watermark = Some(self.first_contact().await?);
        }
        self.common.note_watermark(state.watermark);
        Ok(self.feed.state.insert(state).clone())
    }

    /// Writes down from where this feed is polled and what is left for a backfill, before anything is asked: a crash must
    /// not leave a watermark without the history that it hides.
    async fn first_contact(&mut self) -> Result<Ticks, End> {
        let config = &self.caller.shared.config;
        let now = self.caller.shared.clock.now();
        let live_from = now.minus(FIRST_DAY.min(config.first_sync));
        let history_from = now.minus(config.first_sync);
        let cursor = Some(CursorMove::Begin { live_from, history_from });
        deliver(&self.address(), Vec::new(), Tail { cursor, gaps: Vec::new() }).await?;
        self.common.note_history_from(history_from);
        tracing::debug!(tenant.id = %self.caller.tenant.id, source = %self.caller.source, from = %live_from, "polling begins");
        Ok(live_from)
    }

    /// The source answers, for the first time since it was last asked in vain. If nobody has read for longer than it keeps
    /// alerts, what lay in between is gone, and somebody has to know.
    pub(super) fn expired(&mut self, now: Ticks) -> Option<Gap> {
        if std::mem::replace(&mut self.feed.answers, true) {
            return None;
        }
        let keeps = self.caller.shared.config.source_keeps;
        let gone_before = now.minus(keeps);
        // A quiet feed has an old watermark, and has been read all the same.
        let from = self.feed.state.as_ref().and_then(|state| state.watermark.max(state.caught_up)).filter(|read| *read < gone_before)?;
        let reason =
            format!("nobody could read this feed for {}, and Microsoft keeps alerts for about {}", words(now.since(from)), words(keeps));
        Some(Gap { from, to: Ticks(gone_before.0.saturating_sub(1)), kind: GapKind::Expired, reason })
    }
}

fn words(span: Duration) -> String {
    match span.as_secs() / 3600 {
        hours @ ..48 => format!("{hours} hours"),
        hours => format!("{} days", hours / 24),
    }
}
