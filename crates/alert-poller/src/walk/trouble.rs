//! A question that keeps failing: is it the question, or is nobody there?
//!
//! The same failure has three causes, and each wants another remedy. The source is out of order: wait, and give
//! nothing up. It cannot answer so much at once: ask for less. It fails over one record: find that one, leave it
//! out, name the gap, and read all the others. What tells them apart is a *control question* about an instant at
//! which nothing can lie:
//!
//! | the question | control, as many records | control, one record | so |
//! | --- | --- | --- | --- |
//! | fails | fails | fails | nobody is there |
//! | fails | fails | comes | the page is too large, whatever is on it |
//! | fails | comes | – | it is something in what was asked for |
//!
//! An answer to any other question is as good, and it counts for a few failures, so that a search costs little. Before a
//! record is given up, though, failures and control questions have to alternate several times: an outage that begins or ends between the
//! two looks like a bad record once, but not again and again.

use domain::GapKind;

/// Failures in a row after which waiting is not enough. Between them lies a poll interval each.
const PATIENCE: u32 = 3;
/// Failures for which one answer shows that somebody is there.
const CREDIT: u32 = 4;
/// Failures, each followed by a good control question, after which a single record is given up.
const STRIKES: u32 = 3;

/// The control question that is being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    /// With the page size that failed.
    Full(u32),
    /// For one record.
    Tiny {
        /// One for so many has failed.
        failed: Option<u32>,
    },
}

/// What is known of questions that fail.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble {
    /// In a row.
    failures: u32,
    /// It has been tried long enough: what fails from now on is looked into at once.
    looked_into: bool,
    /// For so many failures to come, something was answered recently enough.
    credit: u32,
    /// Failures of the smallest question there is, each with a good control question after it.
    strikes: u32,
    control: Option<Control>,
    /// What has failed is too large. That is no matter of chance: one good control question is enough.
    too_large: bool,
    /// The page size has been cut until control questions were answered.
    was_limited: bool,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Later, the same again.
    Wait,
    /// Ask the control question.
    Control,
    /// Ask for less.
    Smaller,
    /// Nobody is there: as [`Failure::Wait`], and forget what was held against the question.
    Outage,
}

/// What the answer to a control question comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Controlled {
    /// Ask the question once more.
    Again,
    /// Ask for less.
    Smaller,
    /// No page of more than this comes, whatever is on it.
    Limit(u32),
    /// It is this record.
    GiveUp,
}

impl Trouble {
    /// Something is known to fail where this walk leads: that is looked into at once, without a word of alarm.
    pub(crate) fn foreseen() -> Self {
        Self { looked_into: true, ..Self::default() }
    }

    /// Whether the control question is to be asked, and for how many records.
    pub(crate) fn control(&self) -> Option<u32> {
        self.control.map(|control| match control {
            Control::Full(top) => top,
            Control::Tiny { .. } => 1,
        })
    }

    /// A question other than the control question was answered.
    pub(crate) fn answered(&mut self) {
        self.failures = 0;
        self.strikes = 0;
        self.credit = CREDIT;
    }

    /// A question for `top` records has failed. `smallest`: it cannot be asked for less.
    pub(crate) fn failed(&mut self, top: u32, smallest: bool) -> Failure {
        self.failures += 1;
        if !self.looked_into {
            self.credit = 0;
            if self.failures < PATIENCE {
                return Failure::Wait;
            }
            self.looked_into = true;
        }
        if self.credit > 0 && !smallest {
            self.credit -= 1;
            return Failure::Smaller;
        }
        self.control = Some(if top > 1 { Control::Full(top) } else { Control::Tiny { failed: None } });
        Failure::Control
    }

    /// The smallest question there is has an answer that is too large.
    pub(crate) fn too_large(&mut self) {
        self.too_large = true;
        self.control = Some(Control::Tiny { failed: None });
    }

    /// What kind of gap it is if what failed is given up.
    pub(crate) fn kind(&self) -> GapKind {
        if self.too_large { GapKind::TooLarge } else { GapKind::Failing }
    }

    /// The control question was refused, which says nothing. What it was about is asked again, as if for the first time.
    pub(crate) fn control_refused(&mut self) {
        *self = Self::default();
    }

    /// The control question has failed.
    pub(crate) fn control_failed(&mut self) -> Failure {
        match self.control {
            Some(Control::Full(top)) => {
                self.control = Some(Control::Tiny { failed: Some(top) });
                Failure::Control
            }
            _ => {
                *self = Self::default();
                Failure::Outage
            }
        }
    }

    /// The control question was answered. `smallest`: what had failed cannot be asked for less. `before`: the
    /// record at this very place has been given up before.
    pub(crate) fn control_answered(&mut self, smallest: bool, before: bool) -> Controlled {
        if std::mem::take(&mut self.too_large) {
            self.control = None;
            return Controlled::GiveUp;
        }
        match self.control.take() {
            Some(Control::Tiny { failed: Some(top) }) => {
                let half = (top / 2).max(1);
                self.was_limited = half > 1;
                self.control = self.was_limited.then_some(Control::Full(half));
                Controlled::Limit(half)
            }
            Some(Control::Full(_)) if std::mem::take(&mut self.was_limited) => Controlled::Again,
            None => Controlled::Again,
            Some(Control::Full(_) | Control::Tiny { .. }) if !smallest => {
                self.credit = CREDIT - 1;
                Controlled::Smaller
            }
            Some(Control::Full(_) | Control::Tiny { .. }) => {
                self.strikes += 1;
                if self.strikes >= STRIKES || before {
                    self.strikes = 0;
                    Controlled::GiveUp
                } else {
                    Controlled::Again
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails until it is looked into, with a question for so many records.
    fn troubled(top: u32) -> Trouble {
        let mut trouble = Trouble::default();
        assert_eq!([1, 2].map(|_| trouble.failed(top, false)), [Failure::Wait; 2], "patience first");
        assert_eq!(trouble.failed(top, false), Failure::Control);
        trouble
    }

    #[test]
    fn what_control_questions_say() {
        let mut page = troubled(1000);
        assert_eq!(page.control(), Some(1000));
        assert_eq!(page.control_answered(false, false), Controlled::Smaller);
        assert_eq!(page.control(), None);

        let mut size = troubled(1000);
        assert_eq!((size.control_failed(), size.control()), (Failure::Control, Some(1)));
        assert_eq!((size.control_answered(false, false), size.control()), (Controlled::Limit(500), Some(500)));
        assert_eq!((size.control_failed(), size.control()), (Failure::Control, Some(1)));
        assert_eq!((size.control_answered(false, false), size.control()), (Controlled::Limit(250), Some(250)));
        assert_eq!((size.control_answered(false, false), size.control()), (Controlled::Again, None));

        let mut outage = troubled(1000);
        assert_eq!((outage.control_failed(), outage.control()), (Failure::Control, Some(1)));
        assert_eq!((outage.control_failed(), outage.control()), (Failure::Outage, None));
        assert_eq!([1, 2].map(|_| outage.failed(1000, false)), [Failure::Wait; 2], "all begins anew");

        let mut refused = troubled(1000);
        refused.control_refused();
        assert_eq!((refused.control(), refused.failed(1000, false)), (None, Failure::Wait));
    }

    #[test]
    fn an_answer_from_before_the_patience_counts_for_nothing_and_what_is_foreseen_needs_no_patience() {
        let mut trouble = Trouble::default();
        trouble.answered();
        assert_eq!([0; 3].map(|_| trouble.failed(1000, false)), [Failure::Wait, Failure::Wait, Failure::Control]);
        assert_eq!(Trouble::foreseen().failed(1000, false), Failure::Control);
    }

    #[test]
    fn an_answer_counts_for_a_few_failures_and_never_for_a_single_record() {
        let mut trouble = troubled(1000);
        assert_eq!(trouble.control_answered(false, false), Controlled::Smaller, "the first");
        assert_eq!([0; 4].map(|_| trouble.failed(500, false)), [Failure::Smaller, Failure::Smaller, Failure::Smaller, Failure::Control]);
        trouble.control_answered(false, false);
        trouble.answered();
        assert_eq!([0; 5].map(|_| trouble.failed(9, false)), [[Failure::Smaller; 4].as_slice(), &[Failure::Control]].concat()[..]);
        trouble.control_answered(false, false);
        trouble.answered();
        assert_eq!(trouble.failed(1, true), Failure::Control);
    }

    #[test]
    fn a_record_is_given_up_after_failures_and_answers_have_alternated() {
        let mut trouble = troubled(1);
        for expected in [Controlled::Again, Controlled::Again, Controlled::GiveUp] {
            assert_eq!(trouble.control(), Some(1));
            assert_eq!(trouble.control_answered(true, false), expected);
            trouble.failed(1, true);
        }
        assert_eq!(trouble.control_answered(true, true), Controlled::GiveUp, "once more, without so much ado");
    }

    #[test]
    fn what_is_too_large_is_given_up_at_once_unless_everything_is() {
        let mut trouble = Trouble::default();
        trouble.too_large();
        assert_eq!((trouble.control(), trouble.kind()), (Some(1), GapKind::TooLarge));
        assert_eq!(
            (trouble.control_answered(true, false), trouble.control(), trouble.kind()),
            (Controlled::GiveUp, None, GapKind::Failing)
        );
        trouble.too_large();
        assert_eq!((trouble.control_failed(), trouble.control(), trouble.kind()), (Failure::Outage, None, GapKind::Failing));
    }

    #[test]
    fn an_answer_in_between_begins_the_count_anew() {
        let mut trouble = troubled(1);
        trouble.control_answered(true, false);
        trouble.failed(1, true);
        trouble.control_answered(true, false);
        trouble.answered();
        trouble.failed(1, true);
        assert_eq!(trouble.control_answered(true, false), Controlled::Again);
    }
}
