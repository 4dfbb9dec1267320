//! What a failure means: the same again later, the same in another way, or for less, down to a single record.

use domain::rehearsal::bug;
use domain::{GapKind, Ticks};
use microsoft::ApiErrorKind;

use super::exhaust::Exhaust;
use super::trouble::{Controlled, Failure};
use super::{Aside, Learnt, Method, Reaction, Step, Walk};

/// By how much a page shrinks that fails: in ascending order a half of it is a half of the search for what is at
/// fault. At a single instant there is nearly always just one record.
const HALF: u32 = 2;
const AT_AN_INSTANT: u32 = 8;

impl<L: Clone> Walk<L> {
    /// Takes the failure of [`Walk::query`].
    pub(crate) fn failed(&mut self, kind: &ApiErrorKind, our_clock: Ticks, learnt: &mut Learnt) -> Reaction {
        self.clock = our_clock;
        let mut step = Step::default();
        let adapted = match kind {
            _ if self.is_measuring() && self.trouble.control().is_none() => {
                learnt.measured = Some(learnt.longest);
                if let Aside::Measure { doubted } = std::mem::replace(&mut self.aside, Aside::Done) {
                    self.unmeasured(doubted, self.ceiling());
                }
                true
            }
            ApiErrorKind::Unavailable | ApiErrorKind::BadAnswer => self.in_trouble(learnt, &mut step),
            // The account, not the question: the same again when that is settled.
            ApiErrorKind::Unauthorized | ApiErrorKind::Forbidden | ApiErrorKind::Throttled(_) | ApiErrorKind::Unsupported => false,
            ApiErrorKind::TooLarge if self.trouble.control().is_some() => self.in_trouble(learnt, &mut step),
            _ if self.trouble.control().is_some() => {
                self.trouble.control_refused();
                false
            }
            ApiErrorKind::OrderRefused => self.distrust_order(),
            ApiErrorKind::TooLarge => {
                // A source whose every answer is too large is no source, and no record is to blame.
                if self.is_smallest() {
                    self.trouble.too_large();
                } else {
                    self.smaller(GapKind::TooLarge, learnt, &mut step);
                }
                true
            }
            ApiErrorKind::ForeignNextLink | ApiErrorKind::SkipExpired | ApiErrorKind::Refused => self.refused(kind, learnt, &mut step),
        };
        if bug("cursor-moves-on-failure") && !adapted && self.live {
            step = Step { watermark: Some(self.ceiling()), done: true, ..step };
            return Reaction::Adapted(step);
        }
        // What has no answer to travel with travels with the next one, or on its own when something depends on it.
        self.gaps.append(&mut step.gaps);
        step.done = self.is_done();
        if step.done || step.watermark.is_some() || step.left.is_some() {
            step.gaps = std::mem::take(&mut self.gaps);
        }
        if adapted { Reaction::Adapted(step) } else { Reaction::GiveUp }
    }

    /// No answer, or none that makes sense. `false`: nobody is there, or it is too early to tell.
    fn in_trouble(&mut self, learnt: &mut Learnt, step: &mut Step) -> bool {
        let top = self.size.top();
        let failure = match self.trouble.control() {
            Some(_) => self.trouble.control_failed(),
            None => match learnt.known_bound(top) {
                Some(bound) => {
                    self.size.limit(bound);
                    return true;
                }
                None => self.trouble.failed(top, self.is_smallest()),
            },
        };
        match failure {
            Failure::Wait => false,
            Failure::Control => true,
            Failure::Smaller => {
                self.smaller(GapKind::Failing, learnt, step);
                true
            }
            Failure::Outage => {
                self.size.recover();
                if let (Method::Windows(plan), Aside::Nothing) = (&mut self.method, &self.aside) {
                    plan.mend();
                }
                false
            }
        }
    }

    /// The control question was answered.
    pub(super) fn control_answered(&mut self, learnt: &mut Learnt, step: &mut Step) {
        let before = matches!(&self.aside, Aside::Exhaust(divided) if divided.has_left_out());
        let kind = self.trouble.kind();
        match self.trouble.control_answered(self.is_smallest(), before) {
            Controlled::Again => {}
            Controlled::Smaller | Controlled::GiveUp => self.smaller(kind, learnt, step),
            Controlled::Limit(top) => self.size.limit(top),
        }
    }

    /// Whether the question is about a single record at a place of a single instant.
    fn is_smallest(&self) -> bool {
        match &self.aside {
            Aside::Exhaust(divided) => divided.is_by_place() && self.size.top() == 1,
            Aside::Nothing => matches!(self.method, Method::Windows(_)) && self.span().is_tick() && self.size.top() == 1,
            Aside::CheckLink { .. } | Aside::Measure { .. } | Aside::Done => false,
        }
    }

    /// What was asked for cannot be had: less of it may.
    fn smaller(&mut self, kind: GapKind, learnt: &mut Learnt, step: &mut Step) {
        let max_skip = self.rules.manner.max_skip;
        match std::mem::replace(&mut self.aside, Aside::Nothing) {
            Aside::Exhaust(divided) if divided.is_by_place() && self.size.top() > 1 => {
                self.aside = Aside::Exhaust(divided);
                self.size.shrink(AT_AN_INSTANT);
            }
            Aside::Exhaust(mut divided) => {
                let outcome = divided.leave_out_one(kind, max_skip);
                self.exhausting(divided, outcome, learnt, step);
            }
            Aside::CheckLink { answer, .. } => self.more(&answer, self.ceiling(), learnt, step),
            Aside::Nothing | Aside::Measure { .. } | Aside::Done => self.smaller_question(kind, learnt, step),
        }
    }

    /// The same for the method's own question.
    fn smaller_question(&mut self, kind: GapKind, learnt: &mut Learnt, step: &mut Step) {
        let span = self.span();
        match &mut self.method {
            Method::Ascending { .. } if self.size.top() > 1 => self.size.shrink(HALF),
            Method::Ascending { .. } => {
                // It comes right after what has been read, at an instant that only the source's filter knows.
                self.size.begin_anew();
                self.fall_back(learnt);
            }
            Method::Windows(plan) if !span.is_tick() => plan.halve(),
            Method::Windows(_) => {
                self.aside = self.exhaust(Exhaust::afresh(span));
                self.smaller(kind, learnt, step);
            }
        }
    }

    /// A link that leads elsewhere or nowhere, a `$skip` too far, a filter that is not taken. `false` when it is
    /// something else.
    fn refused(&mut self, kind: &ApiErrorKind, learnt: &mut Learnt, step: &mut Step) -> bool {
        // Whoever names a page of another host is not believed when it says that there is more.
        learnt.links_useless |= *kind == ApiErrorKind::ForeignNextLink;
        match std::mem::replace(&mut self.aside, Aside::Nothing) {
            Aside::CheckLink { answer, .. } if learnt.links_useless => {
                let bounds = self.bounds(self.ceiling(), learnt);
                self.page(answer, None, bounds, learnt, step);
                true
            }
            Aside::CheckLink { answer, .. } => {
                self.more(&answer, self.ceiling(), learnt, step);
                true
            }
            Aside::Exhaust(mut divided) => match divided.refused() {
                Some(outcome) => {
                    self.exhausting(divided, outcome, learnt, step);
                    true
                }
                None => {
                    self.aside = Aside::Exhaust(divided);
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
