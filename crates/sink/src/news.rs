//! News of feeds, folded so that a thousand polls that found nothing cost one statement.

use std::collections::BTreeMap;

use domain::{FeedOutcome, FeedProgress, Fence, Order, Source, TenantId, Ticks};

/// News of one feed: what is to be written of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The right to write.
    pub fence: Fence,
    /// Which feed of the tenant.
    pub source: Source,
    /// When it was last polled, by our clock.
    pub attempted_at: Ticks,
    /// When a poll last came to a good end, if one did.
    pub succeeded_at: Option<Ticks>,
    /// Everything visible at the source at this instant of its clock is stored.
    pub caught_up: Option<Ticks>,
    /// How the last poll failed, in words; `None` when it did not.
    pub error: Option<String>,
    /// The source asked to be left alone until then.
    pub throttled_until: Option<Ticks>,
    /// How the source is to be read.
    pub order: Order,
}

impl From<FeedProgress> for Item {
    fn from(news: FeedProgress) -> Self {
        let base = Self {
            fence: news.fence,
            source: news.source,
            attempted_at: news.attempted_at,
            succeeded_at: None,
            caught_up: None,
            error: None,
            throttled_until: None,
            order: news.order,
        };
        match news.outcome {
            FeedOutcome::CaughtUp { at } => Self { succeeded_at: Some(news.attempted_at), caught_up: Some(at), ..base },
            FeedOutcome::Failed { error, throttled_until } => Self { error: Some(error), throttled_until, ..base },
        }
    }
}

impl Item {
    /// What stands after `self` and then `later`: how it ended is the later word, that it once succeeded
    /// is kept. A word from an older lease generation does not count.
    fn then(self, later: Self) -> Self {
        match later.fence.epoch.cmp(&self.fence.epoch) {
            std::cmp::Ordering::Less => self,
            std::cmp::Ordering::Greater => later,
            std::cmp::Ordering::Equal => {
                Self { succeeded_at: later.succeeded_at.or(self.succeeded_at), caught_up: later.caught_up.max(self.caught_up), ..later }
            }
        }
    }
}

/// News that is not written yet, at most one item per feed.
#[derive(Debug, Default)]
pub(crate) struct News(BTreeMap<(TenantId, Source), Item>);

impl News {
    pub(crate) fn add(&mut self, news: FeedProgress) {
        self.put(news.into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes everything out, to be written.
    pub(crate) fn take(&mut self) -> Vec<Item> {
        std::mem::take(&mut self.0).into_values().collect()
    }

    /// Puts back what could not be written, below what has come in since.
    pub(crate) fn put_back(&mut self, items: Vec<Item>) {
        let since = std::mem::take(&mut self.0);
        self.0 = items.into_iter().map(|item| ((item.fence.tenant, item.source), item)).collect();
        since.into_values().for_each(|item| self.put(item));
    }

    fn put(&mut self, item: Item) {
        let key = (item.fence.tenant, item.source);
        let folded = match self.0.remove(&key) {
            Some(earlier) => earlier.then(item),
            None => item,
        };
        self.0.insert(key, folded);
    }
}

#[cfg(test)]
mod tests {
    use domain::Epoch;
    use uuid::Uuid;

    use super::*;

    fn news(epoch: i64, attempted_at: i64, outcome: FeedOutcome) -> FeedProgress {
        FeedProgress {
            fence: Fence { tenant: TenantId(Uuid::nil()), epoch: Epoch(epoch) },
            source: Source::GraphAlerts,
            attempted_at: Ticks(attempted_at),
            outcome,
            order: Order::Ascending,
        }
    }

    fn well(epoch: i64, attempted_at: i64) -> FeedProgress {
        news(epoch, attempted_at, FeedOutcome::CaughtUp { at: Ticks(attempted_at) })
    }

    fn ill(epoch: i64, attempted_at: i64) -> FeedProgress {
        news(epoch, attempted_at, FeedOutcome::Failed { error: "no answer".into(), throttled_until: Some(Ticks(99)) })
    }

    fn fold(all: impl IntoIterator<Item = FeedProgress>) -> Item {
        let mut news = News::default();
        all.into_iter().for_each(|item| news.add(item));
        let mut items = news.take();
        assert_eq!(items.len(), 1);
        assert!(news.is_empty());
        items.remove(0)
    }

    #[test]
    fn a_success_ends_the_failure_before_it() {
        let item = fold([ill(1, 10), well(1, 20)]);
        assert_eq!((item.error, item.throttled_until), (None, None));
        assert_eq!((item.succeeded_at, item.caught_up), (Some(Ticks(20)), Some(Ticks(20))));
    }

    #[test]
    fn a_failure_does_not_hide_the_success_of_the_same_second() {
        let item = fold([well(1, 10), ill(1, 20)]);
        assert_eq!((item.error.as_deref(), item.throttled_until), (Some("no answer"), Some(Ticks(99))));
        assert_eq!((item.attempted_at, item.succeeded_at, item.caught_up), (Ticks(20), Some(Ticks(10)), Some(Ticks(10))));
    }

    #[test]
    fn caught_up_never_falls() {
        let mut before = well(1, 20);
        before.outcome = FeedOutcome::CaughtUp { at: Ticks(50) };
        assert_eq!(fold([before, well(1, 30)]).caught_up, Some(Ticks(50)));
    }

    #[test]
    fn a_word_from_a_lease_that_is_over_does_not_count() {
        assert_eq!(fold([well(2, 10), ill(1, 20)]).error, None);
        assert_eq!(fold([well(1, 10), ill(2, 20)]).succeeded_at, None);
    }

    #[test]
    fn what_could_not_be_written_lies_below_what_came_since() {
        let mut news = News::default();
        news.add(ill(1, 10));
        let unwritten = news.take();
        news.add(well(1, 20));
        news.put_back(unwritten);
        assert_eq!(news.take(), [Item::from(well(1, 20))]);
    }
}
