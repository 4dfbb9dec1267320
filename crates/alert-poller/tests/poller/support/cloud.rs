//! The source: shops of alerts that can be slow, refuse, throttle, or answer in another order than asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alert_poller::source::{AlertSource, FetchError, Manner, Page, Query};
use bytes::Bytes;
use bytestring::ByteString;
use domain::{
    AccessToken, AlertFacts, AlertId, AlertRecord, Axis, ContentHash, HeldTenant, IncidentId, IncidentRecord, Poison, Record, Source,
    TenantId, Ticks, Trouble, Verdict,
};
use microsoft::ApiErrorKind;
use tokio::time::{Instant, sleep};

use super::tokens::number;
use super::{EPOCH, WorldClock, lock, tenant};

/// What a tenant's source does when asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Answers,
    /// Never answers.
    Hangs,
    /// 429, with a time to wait.
    Throttles(Duration),
    /// 503, nothing else said.
    Fails,
    /// 400 to whoever asks by creation.
    RefusesCreation,
    /// 401 to every token with this number or a lower one.
    RefusesTokens(usize),
    /// 403.
    Forbids,
}

/// A record at the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) updated: Option<Ticks>,
    pub(crate) created: Ticks,
    /// It became visible after polling had passed it.
    pub(crate) late: bool,
}

impl Item {
    pub(crate) fn stamp(&self, axis: Axis) -> Option<Ticks> {
        match axis {
            Axis::Update => self.updated,
            Axis::Creation => Some(self.created),
        }
    }
}

/// A tenant at the source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shop {
    pub(crate) mood: Mood,
    pub(crate) alerts: Vec<Item>,
    pub(crate) newest_first: bool,
    pub(crate) delay: Duration,
}

/// A call that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) tenant: TenantId,
    pub(crate) source: Source,
    pub(crate) at: Instant,
    /// The same, by the true time.
    pub(crate) now: Ticks,
    pub(crate) from: Ticks,
    pub(crate) before: Option<Ticks>,
    pub(crate) axis: Axis,
}

impl Call {
    /// While the source answers in order, only re-reads ask for what has an end that is not in the future.
    pub(crate) fn is_reread(&self) -> bool {
        self.before.is_some_and(|before| before <= self.now)
    }
}

/// The source.
#[derive(Default)]
pub(crate) struct Cloud {
    pub(crate) shops: Mutex<HashMap<TenantId, Shop>>,
    pub(crate) calls: Mutex<Vec<Call>>,
    pub(crate) in_flight: AtomicUsize,
    /// Nobody expects that what can only be asked by creation is found.
    pub(crate) creation_is_refused: Mutex<bool>,
    /// A source that this version does not read.
    pub(crate) unread: Mutex<Option<Source>>,
}

struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Cloud {
    pub(crate) fn with<T>(&self, number: u32, change: impl FnOnce(&mut Shop) -> T) -> T {
        change(lock(&self.shops).entry(tenant(number)).or_default())
    }

    pub(crate) fn publish(&self, number: u32, id: impl Into<String>, stamp: Ticks) {
        self.put(number, Item { id: id.into(), updated: Some(stamp), created: stamp, late: false });
    }

    /// Becomes visible only now, with a stamp that polling may have passed.
    pub(crate) fn publish_late(&self, number: u32, id: impl Into<String>, stamp: Ticks) {
        self.put(number, Item { id: id.into(), updated: Some(stamp), created: stamp, late: true });
    }

    /// An alert without an update stamp.
    pub(crate) fn publish_unstamped(&self, number: u32, id: impl Into<String>, created: Ticks) {
        self.put(number, Item { id: id.into(), updated: None, created, late: false });
    }

    /// A new state of an alert, or a new alert.
    pub(crate) fn put(&self, number: u32, item: Item) {
        self.with(number, |shop| {
            shop.alerts.retain(|known| known.id != item.id);
            shop.alerts.push(item);
        });
    }

    /// So many alerts, the last one now, one every `apart`.
    pub(crate) fn history(&self, number: u32, count: u32, apart: Duration) {
        self.with(number, |shop| {
            for index in 0..count {
                let stamp = EPOCH.minus(apart * (count - index));
                shop.alerts.push(Item { id: format!("{number}-{index}"), updated: Some(stamp), created: stamp, late: false });
            }
        });
    }

    pub(crate) fn calls_of(&self, number: u32) -> Vec<Call> {
        lock(&self.calls).iter().filter(|call| call.tenant == tenant(number)).copied().collect()
    }

    /// Those that read something again.
    pub(crate) fn rereads_of(&self, number: u32) -> Vec<Call> {
        self.calls_of(number).into_iter().filter(Call::is_reread).collect()
    }

    pub(crate) fn calls(&self) -> usize {
        lock(&self.calls).len()
    }
}

fn error(kind: ApiErrorKind, verdict: Verdict) -> FetchError {
    let reason = format!("{kind:?}");
    FetchError { kind, trouble: Trouble { verdict, reason, action: "nothing".to_owned(), code: None, trace: None } }
}

/// The source as the poller gets it.
#[derive(Clone)]
pub(crate) struct Front {
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) clock: WorldClock,
}

impl AlertSource for Front {
    type Link = ();

    fn manner(&self, source: Source) -> Option<Manner> {
        if *lock(&self.cloud.unread) == Some(source) {
            return None;
        }
        let (max_page, max_skip, can_order) = match source {
            Source::GraphAlerts => (1000, 500, true),
            Source::MdeAlerts => (10_000, 10_000, false),
            Source::GraphIncidents => (50, 500, true),
        };
        Some(Manner { max_page, max_skip, can_order, facets: &[] })
    }

    async fn fetch(&self, tenant: &HeldTenant, source: Source, token: &AccessToken, query: &Query<()>) -> Result<Page<()>, FetchError> {
        let Query::Window(window) = query else { return Err(error(ApiErrorKind::SkipExpired, Verdict::Retry)) };
        let call = Call {
            tenant: tenant.id,
            source,
            at: Instant::now(),
            now: self.clock.truth(),
            from: window.from,
            before: window.before,
            axis: window.axis,
        };
        lock(&self.cloud.calls).push(call);
        self.cloud.in_flight.fetch_add(1, Ordering::SeqCst);
        let _in_flight = InFlight(&self.cloud.in_flight);
        let (mood, delay) = lock(&self.cloud.shops).get(&tenant.id).map(|shop| (shop.mood.clone(), shop.delay)).unwrap_or_default();
        sleep(delay.max(Duration::from_millis(20))).await;
        match mood {
            Mood::Answers => {}
            Mood::Hangs => std::future::pending().await,
            Mood::Throttles(wait) => return Err(error(ApiErrorKind::Throttled(wait), Verdict::RetryAfter(wait))),
            Mood::Fails => return Err(error(ApiErrorKind::Unavailable, Verdict::Retry)),
            Mood::RefusesCreation if window.axis == Axis::Update => {}
            Mood::RefusesCreation => return Err(error(ApiErrorKind::Refused, Verdict::OurBug)),
            Mood::Forbids => return Err(error(ApiErrorKind::Forbidden, Verdict::NeedsCustomer)),
            Mood::RefusesTokens(last) => {
                if number(token) <= last {
                    return Err(error(ApiErrorKind::Unauthorized, Verdict::Retry));
                }
            }
        }
        let inside = |stamp: Ticks| stamp >= window.from && window.before.is_none_or(|before| stamp < before);
        let shops = lock(&self.cloud.shops);
        let shop = shops.get(&tenant.id);
        let mut items: Vec<_> = shop
            .iter()
            .flat_map(|shop| &shop.alerts)
            .filter_map(|item| item.stamp(window.axis).filter(|stamp| inside(*stamp)).map(|stamp| (stamp, item)))
            .collect();
        items.sort_by(|one, other| (one.0, &one.1.id).cmp(&(other.0, &other.1.id)));
        if shop.is_some_and(|shop| shop.newest_first) || !window.ordered {
            items.reverse();
        }
        let (skip, top) = (usize::try_from(window.skip).unwrap_or(0), usize::try_from(window.top).unwrap_or(0));
        let records: Vec<_> = items.into_iter().skip(skip).take(top).map(|(_, item)| record(source, item)).collect();
        let bytes = records.iter().map(Record::len).sum();
        Ok(Page { records, next: None, server_date: Some(self.clock.truth()), bytes })
    }

    /// In this world a body is an alert if it begins like one.
    fn reread(&self, source: Source, raw: Bytes) -> Record {
        match std::str::from_utf8(&raw).ok().and_then(|text| text.strip_prefix("now readable: ")) {
            Some(id) => {
                let id = id.to_owned();
                let item = Item { id, updated: Some(EPOCH), created: EPOCH, late: true };
                match record(source, &item) {
                    Record::Alert(alert) => Record::Alert(AlertRecord {
                        hash: ContentHash::of(&raw),
                        raw: ByteString::try_from(raw).expect("it is text"),
                        ..alert
                    }),
                    other => other,
                }
            }
            None => Record::Poison(Poison::new("still not readable", raw)),
        }
    }
}

fn record(source: Source, item: &Item) -> Record {
    let stamp = item.updated.map(|stamp| stamp.to_string()).unwrap_or_default();
    let raw = ByteString::from(format!("{{\"id\":\"{}\",\"lastUpdateDateTime\":\"{stamp}\"}}", item.id));
    let hash = ContentHash::of(raw.as_bytes());
    if source == Source::GraphIncidents {
        return Record::Incident(IncidentRecord {
            id: IncidentId::new(item.id.clone()),
            hash,
            raw,
            last_update: item.updated,
            created: Some(item.created),
            title: None,
            severity: None,
            status: None,
            redirect: None,
        });
    }
    Record::Alert(AlertRecord {
        id: AlertId::new(item.id.clone()),
        hash,
        raw,
        last_update_text: Some(stamp),
        last_update: item.updated,
        created: Some(item.created),
        facts: AlertFacts::default(),
    })
}
