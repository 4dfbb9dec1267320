//! How many records to ask for: more while all goes well, less where a page fails, and no less than that for long.

/// Records asked for at first contact: enough to see whether the source answers, and how large its records
/// are, before the memory of a full page is set aside.
const FIRST_QUESTION: u32 = 100;
/// How much more is asked for after an answer, up to the bound.
const GROWTH: u32 = 8;
/// A bound below this is not worth remembering: it is about one record rather than about pages.
const LEAST_BOUND: u32 = 16;

/// Answers in a row after which a larger page is tried once more.
const CALM: u32 = 8;

/// The page size of a walk.
#[derive(Clone, Debug)]
pub(crate) struct PageSize {
    full: u32,
    top: u32,
    /// Larger pages have failed in this walk.
    bound: u32,
    /// What made a page fail is among so many records from here on.
    ahead: usize,
    /// And it was certainly not what was on them.
    for_certain: bool,
    /// Answers since.
    calm: u32,
}

impl PageSize {
    /// Asks for at most `full`, and less as long as nothing is known of the feed.
    pub(crate) fn new(full: u32, is_known: bool) -> Self {
        let top = if is_known { full } else { full.min(FIRST_QUESTION) };
        Self { full, top, bound: full, ahead: 0, for_certain: false, calm: 0 }
    }

    /// Records to ask for.
    pub(crate) fn top(&self) -> u32 {
        self.top
    }

    /// The most that will be asked for.
    pub(crate) fn bound(&self) -> u32 {
        self.bound
    }

    /// A page has failed: an n-th of it may come.
    pub(crate) fn shrink(&mut self, n: u32) {
        let ahead = usize::try_from(self.top).unwrap_or(usize::MAX);
        let top = (self.top / n).max(1);
        *self = Self { top, bound: top, ahead, for_certain: false, calm: 0, ..*self };
    }

    /// No page of more than this comes, it seems.
    pub(crate) fn limit(&mut self, top: u32) {
        *self = Self { top: top.max(1), bound: top.max(1), ahead: 1, for_certain: true, calm: 0, ..*self };
    }

    /// A page has come. When it was the last of those among which one had failed, it was the size that made it
    /// fail: the bound to remember.
    ///
    /// `behind` of its `len` records will not come again with the next page.
    pub(crate) fn answered(&mut self, len: usize, behind: usize) -> Option<u32> {
        let mut found = None;
        if self.ahead > 0 {
            let full = len >= usize::try_from(self.top).unwrap_or(usize::MAX);
            self.ahead = if full { self.ahead.saturating_sub(behind) } else { 0 };
            if self.ahead > 0 {
                return None;
            }
            if self.bound < LEAST_BOUND && !self.for_certain {
                self.recover();
            } else {
                found = Some(self.bound);
            }
        } else if self.bound < self.full {
            self.calm += 1;
            if self.calm >= CALM {
                self.calm = 0;
                self.bound = self.bound.saturating_mul(2).min(self.full);
            }
        }
        self.top = self.top.saturating_mul(GROWTH).min(self.bound);
        found
    }

    /// The search goes on in another way, with pages of a middling size.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self::new(self.full, false);
    }

    /// What made pages fail has been dealt with: they may grow to the full again.
    pub(crate) fn recover(&mut self) {
        *self = Self { bound: self.full, ahead: 0, calm: 0, ..*self };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_small_at_first_contact_and_grows_to_the_full() {
        let mut size = PageSize::new(1000, false);
        assert_eq!(size.top(), 100);
        size.answered(3, 2);
        assert_eq!(size.top(), 800);
        size.answered(0, 0);
        assert_eq!((size.top(), PageSize::new(1000, true).top(), PageSize::new(40, false).top()), (1000, 1000, 40));
    }

    #[test]
    fn it_stays_small_until_it_has_passed_what_failed_and_then_knows_that_it_was_the_size() {
        let mut size = PageSize::new(1000, true);
        size.shrink(2);
        size.shrink(2);
        assert_eq!((size.top(), size.bound()), (250, 250));
        assert_eq!((size.answered(250, 249), size.top()), (None, 250), "250 of 500");
        assert_eq!((size.answered(250, 249), size.top()), (None, 250), "two records came twice");
        assert_eq!((size.answered(250, 249), size.top()), (Some(250), 250));
    }

    #[test]
    fn a_bound_is_tried_again_so_that_it_shrinks_for_no_longer_than_it_must() {
        let mut size = PageSize::new(1000, true);
        size.limit(100);
        assert_eq!(size.answered(10, 9), Some(100));
        for _ in 0..32 {
            assert!(size.top() < 1000);
            size.answered(10, 9);
        }
        assert_eq!(size.top(), 1000);
        size.limit(0);
        assert_eq!(size.top(), 1);
        size.recover();
        size.answered(1, 0);
        assert_eq!((size.top(), size.bound()), (8, 1000), "it grows step by step");
    }

    #[test]
    fn a_page_of_a_few_records_is_no_bound() {
        let mut size = PageSize::new(1000, true);
        size.limit(16);
        size.shrink(8);
        assert_eq!((size.top(), size.answered(1, 0)), (2, None), "not full: nothing is left");
        assert_eq!(size.bound(), 1000);
    }
}
