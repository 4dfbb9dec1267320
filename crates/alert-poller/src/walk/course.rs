//! What an answer means: where the walk goes on, how far the cursor moves, and when all is done.

use domain::rehearsal::bug;
use domain::{Gap, GapKind, Order, Ticks, cursor};

use super::exhaust::{Bounds, Exhaust, Outcome};
use super::judge::{Judgement, Row, hull, is_ascending, judge, seen, stamps};
use super::plan::Plan;
use super::spans::Span;
use super::{Aside, Divided, Learnt, Method, Step, Walk, as_count};

impl<L: Clone> Walk<L> {
    /// Takes an answer to whatever was asked, except for control questions.
    pub(super) fn take(&mut self, rows: Vec<Row>, link: Option<L>, bounds: Bounds, learnt: &mut Learnt, step: &mut Step) {
        match std::mem::replace(&mut self.aside, Aside::Nothing) {
            Aside::Nothing => self.page(rows, link, bounds, learnt, step),
            Aside::CheckLink { answer, hops, dead_end, .. } => {
                let dead_end = dead_end || rows.is_empty();
                self.linked(&rows, link, answer, (hops + 1, dead_end), bounds, learnt, step);
            }
            Aside::Exhaust(mut divided) => {
                let outcome = divided.answer(&rows, link, bounds);
                self.exhausting(divided, outcome, learnt, step);
            }
            Aside::Measure { doubted } => {
                learnt.measured = Some(learnt.longest);
                let proven = doubted.as_ref().is_some_and(|answer| rows.len() > answer.len());
                match doubted {
                    Some(answer) if proven => {
                        let newest = newest(&answer, self.span(), bounds.ceiling);
                        self.span_read(newest, answer.len(), false, learnt, step);
                    }
                    doubted => self.unmeasured(doubted, bounds.ceiling),
                }
            }
            Aside::Done => self.aside = Aside::Done,
        }
    }

    /// How many records of this answer will not come again with the next question.
    pub(super) fn behind(&self, rows: &[Row]) -> usize {
        if matches!(self.aside, Aside::Exhaust(_)) {
            return rows.len();
        }
        let newest = stamps(rows).max();
        rows.iter().filter(|row| row.stamp.is_none() || row.stamp != newest).count()
    }

    /// An answer to the method's own question.
    pub(super) fn page(&mut self, rows: Vec<Row>, link: Option<L>, bounds: Bounds, learnt: &mut Learnt, step: &mut Step) {
        let mut judgement = judge(rows.len(), link.is_some(), bounds.top, bounds.longest, bounds.max_skip);
        if learnt.was_cut_at(rows.len()) {
            judgement = Judgement::More;
        }
        let span = self.span();
        if matches!(self.method, Method::Ascending { .. }) {
            if is_ascending(&rows) {
                learnt.note_rises(&rows);
            } else {
                self.distrust_order();
                // The order is not what was asked for, but if this one answer is all there is, nothing hangs on it.
                if judgement == Judgement::Complete && span == Span::open(self.start) {
                    self.move_cursor(newest(&rows, span, bounds.ceiling), step);
                    self.finish(learnt);
                }
                return;
            }
        }
        match (judgement, link) {
            (Judgement::Complete, _) => self.span_read(newest(&rows, span, bounds.ceiling), rows.len(), false, learnt, step),
            (Judgement::CheckLink, Some(link)) => self.aside = Aside::CheckLink { link, answer: rows, hops: 0, dead_end: false },
            (Judgement::CheckAfter, _) => {
                // A longer answer would spare an ascending walk this doubt and the next; by windows it would prove nothing.
                self.doubted |= matches!(self.method, Method::Ascending { .. });
                if self.is_worth_measuring(learnt) {
                    self.aside = Aside::Measure { doubted: Some(rows) };
                } else {
                    self.unmeasured(Some(rows), bounds.ceiling);
                }
            }
            (Judgement::CheckLink | Judgement::More, _) => self.more(&rows, bounds.ceiling, learnt, step),
        }
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
        let fresh = !seen(rows).is_subset(&known);
        match link {
            _ if fresh => self.more(&answer, bounds.ceiling, learnt, step),
            Some(link) if hops < MAX_HOPS => self.aside = Aside::CheckLink { link, answer, hops, dead_end },
            Some(_) if !dead_end => {
                // Round in circles: such links mean nothing. (An empty page on the way would be an end.)
                learnt.links_useless = true;
                self.page(answer, None, bounds, learnt, step);
            }
            _ => self.aside = self.exhaust(Exhaust::confirm(self.span(), answer, bounds.ceiling)),
        }
    }

    pub(super) fn exhausting(&mut self, divided: Box<Divided<L>>, outcome: Outcome, learnt: &mut Learnt, step: &mut Step) {
        match outcome {
            Outcome::Continue => self.aside = Aside::Exhaust(divided),
            Outcome::LinksUseless => {
                learnt.links_useless = true;
                self.aside = Aside::Exhaust(divided);
            }
            Outcome::Complete => self.exhausted(&divided, learnt, step),
            Outcome::More => {
                learnt.note_cut(divided.first().len());
                self.more(divided.first(), self.ceiling(), learnt, step);
            }
            Outcome::Gap(kind, reason) => {
                self.gap(divided.span().from, kind, reason, learnt, step);
                self.exhausted(&divided, learnt, step);
            }
        }
    }

    /// Something at this instant cannot be read.
    fn gap(&mut self, at: Ticks, kind: GapKind, reason: &str, learnt: &mut Learnt, step: &mut Step) {
        learnt.note_unread(self.axis, at, self.clock);
        self.holes.push(at);
        // What made pages fail has been found.
        self.size.recover();
        // Polling tells it once. A re-read tells it again, in case somebody thought that it had healed.
        let news = learnt.is_new_gap(at);
        if news || !self.live {
            step.gaps.push(Gap { from: at, to: at, kind, reason: reason.to_owned() });
        }
    }

    /// A span has been read to its end, as far as it can be.
    fn exhausted(&mut self, divided: &Divided<L>, learnt: &mut Learnt, step: &mut Step) {
        let span = divided.span();
        match self.method {
            // The ties at the boundary are done: go on right after them, if there is an after.
            Method::Ascending { base, from, before }
                if span == Span::tick(from) && before != span.before && !Span::open(from.next()).is_empty() =>
            {
                let next = from.next();
                self.method = Method::Ascending { base: if base == from { next } else { base }, from: next, before };
                if base == from || learnt.order_is_believed() {
                    self.move_cursor(divided.newest(), step);
                }
                if before.is_none() && self.was_around(from) {
                    self.ascend_from(next);
                }
            }
            _ => self.span_read(divided.newest(), divided.count(), !span.is_tick(), learnt, step),
        }
    }

    /// The current span holds more than these rows.
    pub(super) fn more(&mut self, rows: &[Row], ceiling: Ticks, learnt: &mut Learnt, step: &mut Step) {
        let span = self.span();
        match &mut self.method {
            Method::Ascending { from, .. } => match hull(rows) {
                // The boundary cannot move: a run of ties fills the answer.
                Some((_, last)) if last == *from => self.aside = self.exhaust(Exhaust::afresh(Span::tick(last))),
                Some((_, last)) if last > *from && span.holds(last) => match learnt.border(rows).filter(|border| *border > *from) {
                    Some(border) => {
                        *from = if bug("gt-instead-of-ge") { border.next() } else { border };
                        if learnt.order_is_believed() {
                            self.move_cursor(newest(rows, span, ceiling.min(border)), step);
                        }
                    }
                    None => self.fall_back(learnt),
                },
                // Nothing readable to move by, but the source's own filter knows the stamps.
                _ => self.fall_back(learnt),
            },
            Method::Windows(_) if span.is_tick() || bug("skip-on-descending-order") => self.aside = self.exhaust(Exhaust::afresh(span)),
            Method::Windows(plan) => plan.cut(hull(rows)),
        }
    }

    /// The current span has been seen whole, but for the gaps in it that have been told.
    fn span_read(&mut self, newest: Option<Ticks>, records: usize, doubted: bool, learnt: &mut Learnt, step: &mut Step) {
        let span = self.span();
        let has_hole = self.holes.iter().any(|hole| span.holds(*hole));
        if let Some(before) = span.before.filter(|_| !has_hole) {
            learnt.note_read(self.axis, span.from, before);
        }
        match &mut self.method {
            Method::Ascending { base, from, before } if *base == *from || learnt.order_is_believed() => {
                let before = *before;
                self.move_cursor(newest, step);
                match before {
                    Some(before) => self.ascend_from(before),
                    None => self.finish(learnt),
                }
            }
            // The end was reached on the strength of an order that has not shown itself: not good enough.
            Method::Ascending { .. } => self.fall_back(learnt),
            Method::Windows(plan) => {
                plan.read(records, self.size.bound(), doubted);
                if has_hole {
                    plan.mend();
                }
                let finished = plan.current().is_none();
                if self.live {
                    self.move_cursor(newest, step);
                } else {
                    step.left = Some(span.from);
                    step.whole = span.before.filter(|_| !has_hole).map(|before| (span.from, before));
                }
                if finished {
                    self.finish(learnt);
                }
            }
        }
    }

    /// Goes on in ascending order from here, where all before is certain, up to what polling goes around.
    pub(super) fn ascend_from(&mut self, from: Ticks) {
        let mut from = from;
        let mut ahead = self.unread.iter().filter(|unread| unread.at >= from).copied().collect::<Vec<_>>().into_iter().peekable();
        while let Some(unread) = ahead.next_if(|unread| unread.at == from) {
            if unread.again {
                // Its turn: alone, so that nobody else has to wait for what comes of it.
                self.method = Method::Ascending { base: from, from, before: None };
                self.aside = self.exhaust(Exhaust::afresh(Span::tick(from)));
                return;
            }
            from = from.next();
        }
        self.method = Method::Ascending { base: from, from, before: ahead.next().map(|unread| unread.at) };
    }

    /// Whether this instant was looked at alone because of what was known of it.
    fn was_around(&self, at: Ticks) -> bool {
        self.unread.iter().any(|unread| unread.at == at)
    }

    fn move_cursor(&mut self, newest: Option<Ticks>, step: &mut Step) {
        if let Some(watermark) = newest
            && self.watermark < newest
        {
            self.watermark = newest;
            step.watermark = Some(watermark);
        }
    }

    fn finish(&mut self, learnt: &Learnt) {
        self.aside = if self.is_worth_measuring(learnt) { Aside::Measure { doubted: None } } else { Aside::Done };
    }

    fn is_worth_measuring(&self, learnt: &Learnt) -> bool {
        self.doubted && learnt.measured != Some(learnt.longest) && self.measure(learnt) > as_count(learnt.longest)
    }

    /// No longer answer came: an answer in doubt has to be gone into, and the rest may wait for another walk.
    pub(super) fn unmeasured(&mut self, doubted: Option<Vec<Row>>, ceiling: Ticks) {
        self.aside = match doubted {
            Some(answer) => self.exhaust(Exhaust::after(self.span(), answer, ceiling)),
            None => Aside::Done,
        };
    }

    /// The order is not to be had: this feed is read by windows from now on, this walk from its start.
    pub(super) fn distrust_order(&mut self) -> bool {
        let ascending = matches!(self.method, Method::Ascending { .. });
        if ascending {
            self.order = Order::Windows;
            self.read_by_windows(self.start);
        }
        ascending
    }

    /// This walk goes on by windows, from as far as it has got for certain.
    pub(super) fn fall_back(&mut self, learnt: &Learnt) {
        if let Method::Ascending { base, from, .. } = self.method {
            self.read_by_windows(if learnt.order_is_believed() { from } else { base });
        }
    }

    fn read_by_windows(&mut self, from: Ticks) {
        self.method = Method::Windows(Plan::up(from, self.ceiling().next(), self.unread.clone()));
        self.aside = Aside::Nothing;
    }
}

/// The newest stamp of an answer that lies before the end of its span and not past the ceiling.
pub(super) fn newest(rows: &[Row], span: Span, ceiling: Ticks) -> Option<Ticks> {
    cursor::advance(None, rows.iter().map(|row| row.stamp.filter(|stamp| span.before.is_none_or(|before| *stamp < before))), ceiling)
}
