//! One walk through a feed, from a little before its watermark to now: what to ask next, what an answer
//! means for the cursor, and when everything visible has been seen. No I/O, no time of its own.
//!
//! The rules, and what each is there for:
//!
//! * **Ask `ge`, move the boundary.** With ascending order, the next question begins at the last stamp of
//!   the answer. Links and `$skip` count positions, and positions shift when an alert is updated between two
//!   pages; a stamp does not. Ties at the boundary come twice and are recognised when they are stored.
//! * **Believe order only when seen.** Ascending order is undocumented. An answer that falls, or a refusal,
//!   switches the feed to windows for good and this walk back to its start. Until enough rising stamps have been
//!   seen, pages are delivered but the cursor stays; a walk that ends in that state is done again by windows.
//! * **Windows** ([`spans`]) need no order at all: frozen stretches of time, cut until they come back whole.
//! * **Complete needs a reason** ([`judge()`]), since a source may cut an answer without a word.
//! * **What cannot be cut further** is read to its end by links or `$skip` ([`exhaust`]); what stays out of
//!   reach becomes a gap, never a silence.
//! * **The cursor** moves only over what has been seen from the start of the walk on, to the stamp of a record,
//!   and never past the ceiling taken at the walk's first answer.
//!
//! Whatever is fetched is delivered, also what has to be asked for again in smaller pieces.

mod exhaust;
mod judge;
#[cfg(test)]
mod model;
mod spans;
#[cfg(test)]
mod tests;

use std::time::Duration;

use domain::{CursorMove, FeedState, Gap, Order, Record, Ticks, cursor};
use microsoft::{ApiErrorKind, WindowQuery};

use self::exhaust::{Bounds, Exhaust, Outcome};
pub(crate) use self::judge::Learnt;
use self::judge::{Judgement, Row, hull, is_ascending, judge, rows, seen};
use self::spans::{Plan, Span};
use crate::source::{Manner, Query};

/// Records asked for at first contact: enough to see whether the source answers, and how large its records
/// are, before the memory of a full page is set aside.
const FIRST_QUESTION: u32 = 100;
/// How much more is asked for after an answer, up to a full page.
const GROWTH: u32 = 8;

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
        const LONGEST: Duration = Duration::from_secs(2 * 60);
        (self.overlap / 4).min(LONGEST)
    }
}

/// What an answer comes to, besides its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// To be committed together with the records of this answer.
    pub(crate) cursor: Option<CursorMove>,
    /// The same.
    pub(crate) gaps: Vec<Gap>,
    /// Everything visible when the walk began has been seen.
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
    start: Ticks,
    begun_at: Ticks,
    order: Order,
    ceiling: Option<Ticks>,
    watermark: Option<Ticks>,
    top: u32,
    /// Pages larger than this were refused as too large.
    top_bound: u32,
    /// Records on the longest answer of this walk.
    longest: usize,
    /// Some answer could not be told from one that was cut.
    doubted: bool,
    /// Gaps found without an answer to send them with.
    gaps: Vec<Gap>,
    method: Method,
    aside: Aside<L>,
}

#[derive(Clone, Debug)]
enum Method {
    /// Everything before `from` has been seen, if the order is what it seems.
    Ascending {
        from: Ticks,
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
    Exhaust(Exhaust<L>),
    /// All is read; one answer longer than any before is asked for, so that the next walk need not doubt.
    Measure,
    Done,
}

impl<L: Clone> Walk<L> {
    /// Begins at `now` by our clock, from what is committed.
    pub(crate) fn new(state: &FeedState, rules: Rules, now: Ticks, learnt: &Learnt) -> Self {
        let start = cursor::walk_start(state.watermark, rules.overlap, rules.first_sync, now);
        let full = rules.page_size.clamp(1, rules.manner.max_page.max(1));
        let ascending = rules.manner.can_order && state.order == Order::Ascending;
        Self {
            rules,
            start,
            begun_at: now,
            order: state.order,
            ceiling: None,
            watermark: state.watermark,
            top: if learnt.longest == 0 { full.min(FIRST_QUESTION) } else { full },
            top_bound: full,
            longest: 0,
            doubted: false,
            gaps: Vec::new(),
            method: if ascending { Method::Ascending { from: start } } else { Method::Windows(Plan::new(start, now.next())) },
            aside: Aside::Nothing,
        }
    }

    /// How this source is to be read, as learnt.
    pub(crate) fn order(&self) -> Order {
        self.order
    }

    /// Everything visible at this instant of the source's clock has been seen when the walk is done.
    pub(crate) fn ceiling(&self) -> Ticks {
        self.ceiling.unwrap_or(self.begun_at)
    }

    /// What to ask now. Asking again after a failure asks the same.
    pub(crate) fn query(&self, learnt: &Learnt) -> Query<L> {
        let ordered = matches!(self.method, Method::Ascending { .. });
        let window = |span: Span, top| Query::Window(WindowQuery { from: span.from, before: span.before, top, skip: 0, ordered });
        match &self.aside {
            Aside::CheckLink { link, .. } => Query::Next(link.clone()),
            Aside::Exhaust(exhaust) => exhaust.query(self.top, ordered),
            Aside::Measure => window(Span::open(self.begun_at.minus(self.rules.first_sync)), self.measure(learnt)),
            Aside::Nothing | Aside::Done => window(self.span(), self.top),
        }
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
        let rows = rows(records);
        let ceiling = *self.ceiling.get_or_insert_with(|| cursor::ceiling(server_date, our_clock));
        learnt.forget_if_old(our_clock, self.rules.proof_lasts());
        let bounds = Bounds { top: self.top, longest: self.proven(learnt), max_skip: self.rules.manner.max_skip, ceiling };
        learnt.note_length(rows.len(), our_clock);
        self.longest = self.longest.max(rows.len());
        self.top = self.top.saturating_mul(GROWTH).min(self.top_bound);
        let link = link.filter(|_| !learnt.links_useless);

        let mut step = Step { gaps: std::mem::take(&mut self.gaps), ..Step::default() };
        match std::mem::replace(&mut self.aside, Aside::Nothing) {
            Aside::Nothing => self.page(rows, link, bounds, learnt, &mut step),
            Aside::CheckLink { answer, hops, dead_end, .. } => {
                let dead_end = dead_end || rows.is_empty();
                self.linked(&rows, link, answer, (hops + 1, dead_end), bounds, learnt, &mut step);
            }
            Aside::Exhaust(mut exhaust) => {
                let outcome = exhaust.answer(&rows, link, bounds);
                self.exhausting(exhaust, outcome, learnt, &mut step);
            }
            Aside::Measure | Aside::Done => {
                learnt.measured = Some(learnt.longest);
                self.aside = Aside::Done;
            }
        }
        step.done = matches!(self.aside, Aside::Done);
        step
    }

    /// Takes the failure of [`Walk::query`].
    pub(crate) fn failed(&mut self, kind: &ApiErrorKind, learnt: &mut Learnt) -> Reaction {
        if matches!(self.aside, Aside::Measure) {
            // All that was to be read has been; the measuring may wait for another walk.
            learnt.measured = Some(learnt.longest);
            self.aside = Aside::Done;
            return Reaction::Adapted(Step { gaps: std::mem::take(&mut self.gaps), done: true, ..Step::default() });
        }
        let mut step = Step::default();
        let adapted = match kind {
            ApiErrorKind::OrderRefused => self.distrust_order(),
            ApiErrorKind::TooLarge if self.top > 1 => {
                self.top /= 2;
                self.top_bound = self.top;
                true
            }
            ApiErrorKind::TooLarge => {
                self.unreadable(learnt, &mut step);
                true
            }
            ApiErrorKind::ForeignNextLink | ApiErrorKind::SkipExpired | ApiErrorKind::Refused => self.refused(kind, learnt, &mut step),
            _ => false,
        };
        // What has no answer to travel with travels with the next one, or on its own at the end.
        self.gaps.append(&mut step.gaps);
        step.done = matches!(self.aside, Aside::Done);
        if step.done || step.cursor.is_some() {
            step.gaps = std::mem::take(&mut self.gaps);
        }
        if adapted { Reaction::Adapted(step) } else { Reaction::GiveUp }
    }

    /// A page that keeps failing for no stated reason is asked for in smaller pieces; success lets them
    /// grow again.
    pub(crate) fn ask_less(&mut self) {
        const FLOOR: u32 = 16;
        self.top = (self.top / 2).max(FLOOR).min(self.top_bound);
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

    fn span(&self) -> Span {
        match &self.method {
            Method::Ascending { from } => Span::open(*from),
            Method::Windows(plan) => plan.current().unwrap_or(Span::open(self.begun_at)),
        }
    }

    /// An answer to the method's own question.
    fn page(&mut self, rows: Vec<Row>, link: Option<L>, bounds: Bounds, learnt: &mut Learnt, step: &mut Step) {
        let mut judgement = judge(rows.len(), link.is_some(), bounds.top, bounds.longest, bounds.max_skip);
        if learnt.was_cut_at(rows.len()) {
            judgement = Judgement::More;
        }
        if let Method::Ascending { from } = self.method {
            if is_ascending(&rows) {
                learnt.note_rises(&rows);
            } else {
                self.distrust_order();
                // The order is not what was asked for, but if this one answer is all there is, nothing hangs on it.
                if judgement == Judgement::Complete && from == self.start {
                    self.move_cursor(newest(&rows, Span::open(from), bounds.ceiling), step);
                    self.finish(learnt);
                }
                return;
            }
        }
        let span = self.span();
        match (judgement, link) {
            (Judgement::Complete, _) => self.span_read(newest(&rows, span, bounds.ceiling), rows.len(), learnt, step),
            (Judgement::CheckLink, Some(link)) => self.aside = Aside::CheckLink { link, answer: rows, hops: 0, dead_end: false },
            (Judgement::CheckAfter, _) => self.check_after(span, rows, bounds.ceiling),
            (Judgement::CheckLink | Judgement::More, _) => self.more(&rows, bounds.ceiling, learnt, step),
        }
    }

    fn check_after(&mut self, span: Span, rows: Vec<Row>, ceiling: Ticks) {
        // A longer answer would spare an ascending walk the next doubt; by windows it would prove nothing.
        self.doubted |= matches!(self.method, Method::Ascending { .. });
        self.aside = Aside::Exhaust(Exhaust::after(span, rows, ceiling));
    }

    /// What the link of a short answer led to.
    #[expect(clippy::too_many_arguments, reason = "the parts of one answer and of the one before")]
    fn linked(
        &mut self,
        rows: &[Row],
        link: Option<L>,
        answer: Vec<Row>,
        (hops, dead_end): (u32, bool),
        bounds: Bounds,
        learnt: &mut Learnt,
        step: &mut Step,
    ) {
        const MAX_HOPS: u32 = 3;
        let known = seen(&answer);
        let fresh = rows.iter().any(|row| !known.contains(&(row.key, row.stamp)));
        match link {
            _ if fresh => self.more(&answer, bounds.ceiling, learnt, step),
            Some(link) if hops < MAX_HOPS => self.aside = Aside::CheckLink { link, answer, hops, dead_end },
            Some(_) if !dead_end => {
                // Round in circles: such links mean nothing. (An empty page on the way would be an end.)
                learnt.links_useless = true;
                self.page(answer, None, bounds, learnt, step);
            }
            _ => self.aside = Aside::Exhaust(Exhaust::confirm(self.span(), answer, bounds.ceiling)),
        }
    }

    fn exhausting(&mut self, exhaust: Exhaust<L>, outcome: Outcome, learnt: &mut Learnt, step: &mut Step) {
        match outcome {
            Outcome::Continue => self.aside = Aside::Exhaust(exhaust),
            Outcome::LinksUseless => {
                learnt.links_useless = true;
                self.aside = Aside::Exhaust(exhaust);
            }
            Outcome::Complete => self.exhausted(&exhaust, learnt, step),
            Outcome::More => {
                learnt.note_cut(exhaust.first().len());
                self.more(exhaust.first(), self.ceiling(), learnt, step);
            }
            Outcome::Gap(reason) => {
                let at = exhaust.span().from;
                if learnt.is_new_gap(at) {
                    step.gaps.push(Gap { from: at, to: at, reason: reason.to_owned() });
                }
                self.exhausted(&exhaust, learnt, step);
            }
        }
    }

    /// A span has been read to its end, as far as it can be.
    fn exhausted(&mut self, exhaust: &Exhaust<L>, learnt: &mut Learnt, step: &mut Step) {
        match &mut self.method {
            // The ties at the boundary are done: go on right after them, if there is an after.
            Method::Ascending { from } if exhaust.span().before.is_some() && !Span::open(from.next()).is_empty() => {
                *from = from.next();
                if learnt.order_is_believed() {
                    self.move_cursor(exhaust.newest(), step);
                }
            }
            _ => self.span_read(exhaust.newest(), exhaust.count(), learnt, step),
        }
    }

    /// The current span holds more than these rows.
    fn more(&mut self, rows: &[Row], ceiling: Ticks, learnt: &mut Learnt, step: &mut Step) {
        match &mut self.method {
            Method::Ascending { from } => match hull(rows) {
                Some((_, last)) if last > *from => {
                    let newest = newest(rows, Span::open(*from), ceiling);
                    *from = last;
                    if learnt.order_is_believed() {
                        self.move_cursor(newest, step);
                    }
                }
                // The boundary cannot move: a run of ties fills the answer.
                Some((_, last)) if last == *from => self.aside = Aside::Exhaust(Exhaust::afresh(Span::tick(last))),
                // Nothing readable to move by, but the source's own filter knows the stamps.
                _ => self.fall_back(learnt),
            },
            Method::Windows(plan) => match plan.current() {
                Some(span) if span.is_tick() => self.aside = Aside::Exhaust(Exhaust::afresh(span)),
                _ => plan.cut(hull(rows)),
            },
        }
    }

    /// The current span has been seen whole.
    fn span_read(&mut self, newest: Option<Ticks>, records: usize, learnt: &mut Learnt, step: &mut Step) {
        match &mut self.method {
            Method::Ascending { from } if *from == self.start || learnt.order_is_believed() => {
                self.move_cursor(newest, step);
                self.finish(learnt);
            }
            // The end was reached on the strength of an order that has not shown itself: not good enough.
            Method::Ascending { .. } => self.fall_back(learnt),
            Method::Windows(plan) => {
                plan.read(records, self.top_bound);
                let finished = plan.current().is_none();
                self.move_cursor(newest, step);
                if finished {
                    self.finish(learnt);
                }
            }
        }
    }

    fn move_cursor(&mut self, newest: Option<Ticks>, step: &mut Step) {
        if let Some(watermark) = newest
            && self.watermark < newest
        {
            self.watermark = newest;
            step.cursor = Some(CursorMove { watermark });
        }
    }

    fn finish(&mut self, learnt: &Learnt) {
        let worthwhile = self.doubted && learnt.measured != Some(learnt.longest) && self.measure(learnt) > as_count(learnt.longest);
        self.aside = if worthwhile { Aside::Measure } else { Aside::Done };
    }

    /// How many records to ask for in order to see an answer longer than any before.
    fn measure(&self, learnt: &Learnt) -> u32 {
        const SPARE: u32 = 16;
        let longest = as_count(learnt.longest);
        longest.saturating_mul(2).max(longest.saturating_add(SPARE)).min(self.top_bound)
    }

    /// The order is not to be had: this feed is read by windows from now on, this walk from its start.
    fn distrust_order(&mut self) -> bool {
        let ascending = matches!(self.method, Method::Ascending { .. });
        if ascending {
            self.order = Order::Windows;
            self.read_by_windows(self.start);
        }
        ascending
    }

    /// This walk goes on by windows, from as far as it has got for certain.
    fn fall_back(&mut self, learnt: &Learnt) {
        if let Method::Ascending { from } = self.method {
            self.read_by_windows(if learnt.order_is_believed() { from } else { self.start });
        }
    }

    fn read_by_windows(&mut self, from: Ticks) {
        self.method = Method::Windows(Plan::new(from, self.ceiling().next()));
        self.aside = Aside::Nothing;
    }

    /// Even one record is too large a page.
    fn unreadable(&mut self, learnt: &mut Learnt, step: &mut Step) {
        match std::mem::replace(&mut self.aside, Aside::Nothing) {
            Aside::Exhaust(mut exhaust) => {
                let outcome = exhaust.leave_out_one(self.rules.manner.max_skip);
                self.exhausting(exhaust, outcome, learnt, step);
            }
            Aside::CheckLink { answer, .. } => self.more(&answer, self.ceiling(), learnt, step),
            _ => match &mut self.method {
                Method::Ascending { .. } => self.fall_back(learnt),
                Method::Windows(plan) => match plan.current() {
                    Some(span) if span.is_tick() => {
                        let mut exhaust = Exhaust::afresh(span);
                        let outcome = exhaust.leave_out_one(self.rules.manner.max_skip);
                        self.exhausting(exhaust, outcome, learnt, step);
                    }
                    _ => plan.cut(None),
                },
            },
        }
    }

    /// A link that leads elsewhere or nowhere, or a `$skip` too far. `false` when it is something else.
    fn refused(&mut self, kind: &ApiErrorKind, learnt: &mut Learnt, step: &mut Step) -> bool {
        // Whoever names a page of another host is not believed when it says that there is more.
        learnt.links_useless |= *kind == ApiErrorKind::ForeignNextLink;
        match std::mem::replace(&mut self.aside, Aside::Nothing) {
            Aside::CheckLink { answer, .. } if learnt.links_useless => {
                let bounds =
                    Bounds { top: self.top, longest: self.proven(learnt), max_skip: self.rules.manner.max_skip, ceiling: self.ceiling() };
                self.page(answer, None, bounds, learnt, step);
                true
            }
            Aside::CheckLink { answer, .. } => {
                self.more(&answer, self.ceiling(), learnt, step);
                true
            }
            Aside::Exhaust(mut exhaust) => match exhaust.refused() {
                Some(outcome) => {
                    self.exhausting(exhaust, outcome, learnt, step);
                    true
                }
                None => {
                    self.aside = Aside::Exhaust(exhaust);
                    false
                }
            },
            other => {
                self.aside = other;
                false
            }
        }
    }
}

/// The newest stamp of an answer that lies before the end of its span and not past the ceiling.
fn newest(rows: &[Row], span: Span, ceiling: Ticks) -> Option<Ticks> {
    cursor::advance(None, rows.iter().map(|row| row.stamp.filter(|stamp| span.before.is_none_or(|before| *stamp < before))), ceiling)
}

fn as_count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
