//! More equal stamps than links or `$skip` reach: the instant is read in parts, by severity, by status, by product.
//!
//! The parts are one for each word that the source knows and one for everything else. Each is read to its end by
//! itself ([`super::exhaust`], passes and all): a record that is changed meanwhile gets another update stamp, so
//! it does not go from one part to another, it leaves the instant. (In an instant of creation time it may go from
//! part to part unseen. It has been changed, so polling finds it.) A part that is still too large is divided
//! once more, and what then is out of reach is a gap.
//!
//! A source may refuse such a filter, ignore it, or count a record without the word to neither part. So parts
//! that show what their neighbours have shown end the division; and at its end the instant is looked at undivided
//! once more: what it shows must have been in some part.

use domain::{GapKind, Ticks};
use microsoft::{Facet, FacetField, WindowQuery};

use super::exhaust::{Bounds, Exhaust, Outcome};
use super::judge::{Row, Seen, seen};
use super::spans::Span;
use crate::source::Query;

/// What a source can be divided by.
pub(crate) type Facets = &'static [(FacetField, &'static [&'static str])];
/// One part.
type Part = [Option<Facet>; 3];

/// A span being read to its end, in parts if need be.
#[derive(Clone, Debug)]
pub(crate) struct Divided<L> {
    facets: Facets,
    now: Exhaust<L>,
    part: Part,
    stage: Stage,
    /// Seen in parts that have been read.
    seen: Seen,
    newest: Option<Ticks>,
    gap: Option<(GapKind, &'static str)>,
}

#[derive(Clone, Debug)]
enum Stage {
    Whole,
    /// With the parts still to be read, the next one last.
    Parts(Vec<Part>),
    /// The look at the end, at this place.
    Check(u32),
}

impl<L: Clone> Divided<L> {
    /// Reads on where `now` stands, and divides by `facets` when it has to.
    pub(crate) fn new(now: Exhaust<L>, facets: Facets) -> Self {
        Self { facets, now, part: [None; 3], stage: Stage::Whole, seen: Seen::new(), newest: None, gap: None }
    }

    /// What to ask for. `window` is everything else about the question.
    pub(crate) fn query(&self, window: WindowQuery) -> Query<L> {
        let window = WindowQuery { from: self.span().from, before: self.span().before, facets: self.part, ..window };
        match self.stage {
            Stage::Check(skip) => Query::Window(WindowQuery { skip, ..window }),
            _ => self.now.query(window),
        }
    }

    /// The span.
    pub(crate) fn span(&self) -> Span {
        self.now.span()
    }

    /// The newest stamp seen in it that a cursor may reach.
    pub(crate) fn newest(&self) -> Option<Ticks> {
        self.newest.max(self.now.newest())
    }

    /// How many different records were seen.
    pub(crate) fn count(&self) -> usize {
        self.seen.len().max(self.now.pass().len())
    }

    /// The answer it began with, if any.
    pub(crate) fn first(&self) -> &[Row] {
        self.now.first()
    }

    /// Whether the record at this place has been left out in a pass before.
    pub(crate) fn has_left_out(&self) -> bool {
        self.now.has_left_out()
    }

    /// Whether a place in an instant is asked for, so that a question for one record is about that one only.
    pub(crate) fn is_by_place(&self) -> bool {
        self.span().is_tick() && (matches!(self.stage, Stage::Check(_)) || self.now.is_by_place())
    }

    /// Takes an answer.
    pub(crate) fn answer(&mut self, rows: &[Row], link: Option<L>, bounds: Bounds) -> Outcome {
        if let Stage::Check(skip) = self.stage {
            return self.check(rows, skip, bounds.max_skip);
        }
        let outcome = self.now.answer(rows, link, bounds);
        self.came(outcome)
    }

    /// The record at this place cannot be had even alone.
    pub(crate) fn leave_out_one(&mut self, kind: GapKind, max_skip: u32) -> Outcome {
        if matches!(self.stage, Stage::Check(_)) {
            return self.end(); // Its part has said so already.
        }
        let outcome = self.now.leave_out_one(kind, max_skip);
        self.came(outcome)
    }

    /// The source refuses this page. `None` when that has nothing to do with how it was asked for.
    pub(crate) fn refused(&mut self) -> Option<Outcome> {
        if let Stage::Check(skip) = self.stage {
            return (skip > 0).then(|| self.end());
        }
        match self.now.refused() {
            Some(outcome) => Some(self.came(outcome)),
            None if self.part == [None; 3] => None,
            // Only the filter by words can be at fault; if it is something else, the look at the end is refused as well.
            None => Some(self.stop("more records share one stamp than the source shows, and it refuses to divide them by their words")),
        }
    }

    /// What the part that is being read has come to.
    fn came(&mut self, outcome: Outcome) -> Outcome {
        let whole = matches!(self.stage, Stage::Whole);
        match outcome {
            Outcome::Continue | Outcome::LinksUseless | Outcome::More => outcome,
            Outcome::Gap(GapKind::Ties, _) if whole && self.span().is_tick() && !self.facets.is_empty() => {
                self.stage = Stage::Parts(self.parts(self.part));
                self.next_part()
            }
            _ if whole => outcome,
            Outcome::Complete => self.part_ends(),
            Outcome::Gap(GapKind::Ties, reason) => self.out_of_reach(reason),
            Outcome::Gap(kind, reason) => {
                self.note_gap(kind, reason);
                self.part_ends()
            }
        }
    }

    /// Even this part holds more than can be reached.
    fn out_of_reach(&mut self, reason: &'static str) -> Outcome {
        if !self.now.pass().is_empty() && self.now.pass().is_subset(&self.seen) {
            return self.stop("more records share one stamp than the source shows, and it does not divide them by their words");
        }
        let smaller = self.parts(self.part);
        if smaller.is_empty() {
            self.note_gap(GapKind::Ties, reason);
            return self.part_ends();
        }
        if let Stage::Parts(parts) = &mut self.stage {
            parts.extend(smaller);
        }
        self.newest = self.newest.max(self.now.newest());
        self.next_part()
    }

    fn part_ends(&mut self) -> Outcome {
        self.newest = self.newest.max(self.now.newest());
        self.seen.extend(self.now.pass().iter().copied());
        self.next_part()
    }

    fn next_part(&mut self) -> Outcome {
        let next = match &mut self.stage {
            Stage::Parts(parts) => parts.pop(),
            _ => None,
        };
        self.now = Exhaust::afresh(self.span());
        match next {
            Some(part) => self.part = part,
            None => {
                self.part = [None; 3];
                self.stage = Stage::Check(0);
            }
        }
        Outcome::Continue
    }

    /// The parts of a part; none if there is nothing left to divide by.
    fn parts(&self, part: Part) -> Vec<Part> {
        let depth = part.iter().flatten().count();
        let Some((field, words)) = self.facets.get(depth).filter(|_| depth < part.len()) else { return Vec::new() };
        let values = words.iter().map(|word| Some(*word)).chain([None]);
        let mut parts: Vec<_> = values
            .map(|value| {
                let mut smaller = part;
                smaller[depth] = Some(Facet { field: *field, value });
                smaller
            })
            .collect();
        parts.reverse();
        parts
    }

    /// The parts are of no use.
    fn stop(&mut self, reason: &'static str) -> Outcome {
        self.note_gap(GapKind::Ties, reason);
        self.stage = Stage::Parts(Vec::new());
        self.next_part()
    }

    fn check(&mut self, rows: &[Row], skip: u32, max_skip: u32) -> Outcome {
        if !seen(rows).is_subset(&self.seen) {
            self.note_gap(
                GapKind::Ties,
                "more records share one stamp than the source shows, and some have none of the words that divide them",
            );
        }
        let reach = skip.saturating_add(u32::try_from(rows.len()).unwrap_or(u32::MAX)).min(max_skip);
        if rows.is_empty() || reach <= skip {
            return self.end();
        }
        self.stage = Stage::Check(reach);
        Outcome::Continue
    }

    fn note_gap(&mut self, kind: GapKind, reason: &'static str) {
        // The one that hides the most is told.
        if self.gap.is_none_or(|(known, _)| kind < known) {
            self.gap = Some((kind, reason));
        }
    }

    fn end(&self) -> Outcome {
        self.gap.map_or(Outcome::Complete, |(kind, reason)| Outcome::Gap(kind, reason))
    }
}

#[cfg(test)]
mod tests {
    use domain::ContentHash;

    use super::*;

    const AT: Ticks = Ticks(1_000);
    const WORDS: Facets = &[(FacetField::Severity, &["low"])];
    const BOUNDS: Bounds = Bounds { top: 2, longest: 9, max_skip: 2, ceiling: AT };

    fn page(ids: &[u8]) -> Vec<Row> {
        ids.iter().map(|id| Row { key: ContentHash([*id; 32]), stamp: Some(AT), created: Some(AT) }).collect()
    }

    /// One whose whole is out of reach: it asks for its first part.
    fn divided() -> Divided<()> {
        let mut divided = Divided::new(Exhaust::afresh(Span::tick(AT)), WORDS);
        assert_eq!(divided.answer(&page(&[1, 2]), None, BOUNDS), Outcome::Continue);
        assert_eq!(divided.answer(&page(&[3, 4]), None, BOUNDS), Outcome::Continue);
        assert_eq!(divided.part, [Some(Facet { field: FacetField::Severity, value: Some("low") }), None, None]);
        divided
    }

    #[test]
    fn the_look_at_the_end_goes_as_far_as_it_can() {
        for (last, expected) in [(&[3, 4][..], Outcome::Complete), (&[3, 9][..], Outcome::Gap(GapKind::Ties, ""))] {
            let mut divided = divided();
            assert_eq!([&[1][..], &[3]].map(|ids| divided.answer(&page(ids), None, BOUNDS)), [Outcome::Continue; 2]);
            // The parts were small; so is the whole by now, but for what had been in neither.
            divided.seen.extend(seen(&page(&[2, 4])));
            assert_eq!(divided.answer(&page(&[1, 2]), None, BOUNDS), Outcome::Continue);
            let end = divided.answer(&page(last), None, BOUNDS);
            assert_eq!(std::mem::discriminant(&end), std::mem::discriminant(&expected), "{end:?}");
            assert_eq!((divided.newest(), divided.count()), (Some(AT), 4), "what the cursor may reach is not forgotten");
        }
    }

    #[test]
    fn a_refusal_is_about_the_words_unless_the_whole_is_refused_as_well() {
        let mut divided = divided();
        assert_eq!(divided.refused(), Some(Outcome::Continue), "without the words, then");
        assert_eq!((divided.part, divided.refused()), ([None; 3], None), "it is something else");
        assert_eq!(divided.answer(&page(&[1, 2]), None, BOUNDS), Outcome::Continue);
        assert!(matches!(divided.refused(), Some(Outcome::Gap(GapKind::Ties, _))), "no more of it is shown");
    }
}
