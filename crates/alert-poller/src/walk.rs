//! One walk through a feed, from a little before its watermark to now, or through a stretch of it that is read
//! again: what to ask next, what an answer means, and when everything visible has been seen. No I/O, no time of
//! its own.
//!
//! The rules, and what each is there for:
//!
//! * **Ask `ge`, move the boundary.** With ascending order, the next question begins at the last stamp of
//!   the answer. Links and `$skip` count positions, and positions shift when an alert is updated between two
//!   pages; a stamp does not. Ties at the boundary come twice and are recognised when they are stored.
//! * **Believe order only when seen.** Ascending order is undocumented. An answer that falls, or a refusal,
//!   switches the feed to windows for good and this walk back to its start. Until enough rising stamps have been
//!   seen, pages are delivered but the cursor stays; a walk that ends in that state is done again by windows.
//! * **Windows** ([`plan`]) need no order at all: frozen stretches of time, cut until they come back whole. Re-reads
//!   know no other way, and go from the newest to the oldest.
//! * **Complete needs a reason** ([`judge`]), since a source may cut an answer without a word.
//! * **What cannot be cut further** is read to its end by links or `$skip` ([`exhaust`]), if need be in parts
//!   ([`divide`]); what stays out of reach becomes a gap, never a silence.
//! * **Nobody is skipped for a failure** ([`trouble`]) unless it is this one record that cannot be had, alone
//!   and again, while the source answers other questions. That is a gap too, and re-reads look at it again.
//! * **The cursor** moves only over what has been seen from the start of the walk on, to the stamp of a record,
//!   and never past the ceiling taken at the walk's first answer.
//!
//! Whatever is fetched is delivered, also what has to be asked for again in smaller pieces.

mod course;
mod divide;
mod exhaust;
mod judge;
mod learnt;
mod plan;
mod remedy;
mod size;
mod spans;
#[cfg(test)]
mod tests;
mod trouble;

use std::time::Duration;

use domain::{Axis, FeedState, Gap, Order, Record, Reread, Ticks, cursor};
use microsoft::WindowQuery;

use self::divide::Divided;
use self::exhaust::{Bounds, Exhaust};
pub(crate) use self::judge::stamp_on;
use self::judge::{Row, rows};
pub(crate) use self::learnt::Learnt;
use self::learnt::Unread;
use self::plan::Plan;
use self::size::PageSize;
use self::spans::Span;
use self::trouble::Trouble;
use crate::source::{Manner, Query};

/// What holds for all walks of a feed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// How the source wants to be read.
    pub(crate) manner: Manner,
    /// Records to ask for.
    pub(crate) page_size: u32,
    /// How much before the watermark to begin.
    pub(crate) overlap: Duration,
    /// How far back to begin without a watermark.
    pub(crate) first_sync: Duration,
}

impl Rules {
    /// How long a long answer proves that shorter ones are whole. Well within the overlap, so that what was
    /// cut off until then is read again from before it.
    fn proof_lasts(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(4 * 60);
        (self.overlap / 4).min(LONGEST)
    }
}

/// What an answer comes to, besides its records. Everything is to be committed together with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Polling: the new watermark.
    pub(crate) watermark: Option<Ticks>,
    /// A re-read: what is left on its axis ends here.
    pub(crate) left: Option<Ticks>,
    /// The stretch of update time, `[from, to)`, that a re-read has just seen whole: there is no gap in it.
    pub(crate) whole: Option<(Ticks, Ticks)>,
    /// What cannot be read.
    pub(crate) gaps: Vec<Gap>,
    /// Everything visible when the walk began has been seen; of a re-read, on this axis.
    pub(crate) done: bool,
}

/// What a failure comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// The walk goes on differently.
    Adapted(Step),
    /// The walk stands where it stood; the same question may be asked again later.
    GiveUp,
}

/// A walk.
#[derive(Clone, Debug)]
pub(crate) struct Walk<L> {
    rules: Rules,
    axis: Axis,
    /// It polls; otherwise it reads again.
    live: bool,
    start: Ticks,
    begun_at: Ticks,
    /// The latest that our clock has shown.
    clock: Ticks,
    order: Order,
    ceiling: Option<Ticks>,
    watermark: Option<Ticks>,
    size: PageSize,
    /// Records on the longest answer of this walk.
    longest: usize,
    /// Some answer could not be told from one that was cut.
    doubted: bool,
    /// Gaps found without an answer to send them with.
    gaps: Vec<Gap>,
    /// Where this walk has found gaps.
    holes: Vec<Ticks>,
    /// What polling goes around.
    unread: Vec<Unread>,
    method: Method,
    aside: Aside<L>,
    trouble: Trouble,
}

#[derive(Clone, Debug)]
enum Method {
    /// Everything before `from` has been seen, if the order is what it seems; before `base`, in any case.
    Ascending {
        base: Ticks,
        from: Ticks,
        /// Here lies what polling goes around.
        before: Option<Ticks>,
    },
    Windows(Plan),
}

/// What is being done besides the next question of the method.
#[derive(Clone, Debug)]
enum Aside<L> {
    Nothing,
    /// A short answer had a link: does it lead to anything?
    CheckLink {
        link: L,
        answer: Vec<Row>,
        hops: u32,
        /// Some hop led to an empty page.
        dead_end: bool,
    },
    Exhaust(Box<Divided<L>>),
    /// One answer longer than any before is asked for: it shows that this one, of which it is in doubt whether it is whole,
    /// was not cut; or, when all is read, spares the next walk such a doubt.
    Measure {
        doubted: Option<Vec<Row>>,
    },
    Done,
}

impl<L: Clone> Walk<L> {
    /// Polls. Begins at `now` by our clock, from what is committed.
    pub(crate) fn new(state: &FeedState, rules: Rules, now: Ticks, learnt: &Learnt) -> Self {
        let start = cursor::walk_start(state.watermark, rules.overlap, rules.first_sync, now);
        let nothing = Method::Windows(Plan::down(start, start, Vec::new()));
        let mut walk = Self::blank(rules, Axis::Update, start, now, nothing, learnt);
        walk.live = true;
        walk.order = state.order;
        walk.watermark = state.watermark;
        walk.unread = learnt.unread(Axis::Update, now);
        if walk.unread.iter().any(|unread| unread.again && unread.at >= start) {
            walk.trouble = Trouble::foreseen();
        }
        if rules.manner.can_order && state.order == Order::Ascending {
            walk.method = Method::Ascending { base: start, from: start, before: None };
            walk.ascend_from(start);
        } else {
            walk.method = Method::Windows(Plan::up(start, now.next(), walk.unread.clone()));
        }
        walk
    }

    /// Reads again what is left of a stretch, from the newest to the oldest. No watermark moves.
    pub(crate) fn reread(reread: &Reread, rules: Rules, now: Ticks, learnt: &Learnt) -> Self {
        let unread = learnt.unread(reread.axis, now);
        let foreseen = unread.iter().any(|unread| unread.at >= reread.from && unread.at < reread.left);
        let plan = Plan::down(reread.from, reread.left, unread);
        let nothing_left = plan.current().is_none();
        let mut walk = Self::blank(rules, reread.axis, reread.from, now, Method::Windows(plan), learnt);
        if nothing_left {
            walk.aside = Aside::Done;
        }
        if foreseen {
            walk.trouble = Trouble::foreseen();
        }
        walk
    }

    fn blank(rules: Rules, axis: Axis, start: Ticks, now: Ticks, method: Method, learnt: &Learnt) -> Self {
        let full = rules.page_size.clamp(1, rules.manner.max_page.max(1));
        Self {
            rules,
            axis,
            live: false,
            start,
            begun_at: now,
            clock: now,
            order: Order::Windows,
            ceiling: None,
            watermark: None,
            size: PageSize::new(learnt.page_bound(full, now), learnt.longest > 0),
            longest: 0,
            doubted: false,
            gaps: Vec::new(),
            holes: Vec::new(),
            unread: Vec::new(),
            method,
            aside: Aside::Nothing,
            trouble: Trouble::default(),
        }
    }

    /// How this source is to be read, as learnt by polling.
    pub(crate) fn order(&self) -> Order {
        self.order
    }

    /// Everything visible at this instant of the source's clock has been seen when the walk is done.
    pub(crate) fn ceiling(&self) -> Ticks {
        self.ceiling.unwrap_or(self.begun_at)
    }

    /// Whether there is nothing to ask. A re-read of nothing is done before it begins.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.aside, Aside::Done)
    }

    /// What to ask now. Asking again after a failure asks the same.
    pub(crate) fn query(&self, learnt: &Learnt) -> Query<L> {
        let ordered = matches!(self.method, Method::Ascending { .. });
        let window = |span: Span, top| WindowQuery {
            from: span.from,
            before: span.before,
            top,
            skip: 0,
            ordered,
            axis: self.axis,
            facets: [None; 3],
        };
        if let Some(top) = self.trouble.control() {
            // Nothing that the source could object to.
            return Query::Window(WindowQuery { ordered: false, ..window(self.nowhere(), top) });
        }
        match &self.aside {
            Aside::CheckLink { link, .. } => Query::Next(link.clone()),
            Aside::Exhaust(divided) => divided.query(window(divided.span(), self.size.top())),
            Aside::Measure { .. } => Query::Window(window(Span::open(self.begun_at.minus(self.rules.first_sync)), self.measure(learnt))),
            Aside::Nothing | Aside::Done => Query::Window(window(self.span(), self.size.top())),
        }
    }

    /// The question only measures how long answers may be.
    pub(crate) fn is_measuring(&self) -> bool {
        matches!(self.aside, Aside::Measure { .. })
    }

    /// Takes the answer to [`Walk::query`]. All of its records are to be delivered, with this step.
    pub(crate) fn answer(
        &mut self,
        records: &[Record],
        link: Option<L>,
        server_date: Option<Ticks>,
        our_clock: Ticks,
        learnt: &mut Learnt,
    ) -> Step {
        self.clock = our_clock;
        let ceiling = *self.ceiling.get_or_insert_with(|| cursor::ceiling(server_date, our_clock));
        let mut step = Step { gaps: std::mem::take(&mut self.gaps), ..Step::default() };
        if self.trouble.control().is_some() {
            self.control_answered(learnt, &mut step);
        } else {
            learnt.forget_if_old(our_clock, self.rules.proof_lasts());
            let rows = rows(records, self.axis);
            let bounds = self.bounds(ceiling, learnt);
            learnt.note_length(rows.len(), our_clock);
            self.longest = self.longest.max(rows.len());
            self.trouble.answered();
            if let Some(bound) = self.size.answered(rows.len(), self.behind(&rows)) {
                learnt.note_page_bound(bound, our_clock);
            }
            let link = link.filter(|_| !learnt.links_useless);
            self.take(rows, link, bounds, learnt, &mut step);
        }
        step.done = self.is_done();
        step
    }

    /// What an answer is judged by, before it is counted itself.
    fn bounds(&self, ceiling: Ticks, learnt: &Learnt) -> Bounds {
        Bounds { top: self.size.top(), longest: self.proven(learnt), max_skip: self.rules.manner.max_skip, ceiling }
    }

    /// An answer shorter than this is whole, if nothing else speaks against it.
    ///
    /// In ascending order a cut answer still leaves the cursor before what it hides, so an answer of an earlier
    /// walk may prove it. By windows the cursor passes over the whole window: there only this walk counts.
    fn proven(&self, learnt: &Learnt) -> usize {
        match self.method {
            Method::Ascending { .. } => learnt.longest,
            Method::Windows(_) => self.longest,
        }
    }

    /// What the method asks about.
    fn span(&self) -> Span {
        match &self.method {
            Method::Ascending { from, before, .. } => Span { from: *from, before: *before },
            Method::Windows(plan) => plan.current().unwrap_or(Span::open(self.begun_at)),
        }
    }

    /// An instant at which nothing can lie.
    fn nowhere(&self) -> Span {
        const YEAR: Duration = Duration::from_secs(365 * 86_400);
        Span::tick(self.begun_at.plus(YEAR))
    }

    /// The question that takes up again what a side track was about.
    fn exhaust(&self, exhaust: Exhaust<L>) -> Aside<L> {
        Aside::Exhaust(Box::new(Divided::new(exhaust, self.rules.manner.facets)))
    }

    /// How many records to ask for in order to see an answer longer than any before.
    fn measure(&self, learnt: &Learnt) -> u32 {
        const SPARE: u32 = 16;
        let longest = as_count(learnt.longest);
        longest.saturating_mul(2).max(longest.saturating_add(SPARE)).min(self.size.bound())
    }
}

fn as_count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
