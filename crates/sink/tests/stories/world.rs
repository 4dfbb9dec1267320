//! Builds the world of a story: tenants with leases, records, and a running sink.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytestring::ByteString;
use domain::health::StageStatus;
use domain::{
    AlertBatch, AlertFacts, AlertId, AlertRecord, Clock, Committed, ContentHash, CursorMove, Epoch, FeedProgress, Fence, Gap, Purpose,
    Record, Refusal, SinkMessage, Source, TenantId, Ticks,
};
use sink::{Config, PgStore, SinkWorker};
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const GRAPH: Source = Source::GraphAlerts;
pub(crate) const MDE: Source = Source::MdeAlerts;
pub(crate) const INCIDENTS: Source = Source::GraphIncidents;
/// Goes on from that evening, whatever the machine's clock says.
struct EveningClock(Instant);

impl Clock for EveningClock {
    fn now(&self) -> Ticks {
        ticks(EVENING).plus(self.0.elapsed())
    }
}

pub(crate) const MORNING: &str = "2026-11-21T08:00:00.1234567Z";
pub(crate) const NOON: &str = "2026-11-21T12:00:00.1234567Z";
pub(crate) const EVENING: &str = "2026-11-21T18:00:00.1234567Z";

pub(crate) fn ticks(text: &str) -> Ticks {
    Ticks::parse(text).unwrap_or_else(|| panic!("{text} is a stamp"))
}

/// A tenant with a lease of the first generation.
pub(crate) async fn tenant(pool: &PgPool, number: u128) -> Fence {
    let id = Uuid::from_u128(number);
    sqlx::query(
        "insert into tocsin.tenant (tenant, name, cloud, app, sources, state, portal_url)
         values ($1, $2, 'global', 'main', '{graph-alerts,mde-alerts,graph-incidents}', 'active', 'https://portal.example')",
    )
    .bind(id)
    .bind(format!("customer {number}"))
    .execute(pool)
    .await
    .unwrap();
    sqlx::query("insert into tocsin.lease (tenant, epoch, expires_at) values ($1, 1, now() + interval '1 minute')")
        .bind(id)
        .execute(pool)
        .await
        .unwrap();
    Fence { tenant: TenantId(id), epoch: Epoch(1) }
}

/// Another replica claims the tenant.
pub(crate) async fn claim(pool: &PgPool, fence: Fence) -> Result<Fence, sqlx::Error> {
    let epoch = sqlx::query_scalar("update tocsin.lease set epoch = epoch + 1 where tenant = $1 returning epoch")
        .bind(fence.tenant.0)
        .fetch_one(pool)
        .await?;
    Ok(Fence { epoch: Epoch(epoch), ..fence })
}

/// An alert created on a day of November, with a note that makes its body distinct.
pub(crate) fn alert(id: &str, last_update: &str, note: &str) -> Record {
    let raw = format!(
        r#"{{"id": {}, "createdDateTime": "2026-11-20T07:00:00Z", "lastUpdateDateTime": "{last_update}", "title": "{note}"}}"#,
        serde_json::to_string(id).unwrap()
    );
    with_body(id, &raw, Some(last_update), Some("2026-11-20T07:00:00Z"), note)
}

pub(crate) fn with_body(id: &str, raw: &str, last_update: Option<&str>, created: Option<&str>, title: &str) -> Record {
    Record::Alert(AlertRecord {
        id: AlertId::new(id),
        hash: ContentHash::of(raw.as_bytes()),
        raw: ByteString::from(raw),
        last_update_text: last_update.map(str::to_owned),
        last_update: last_update.and_then(Ticks::parse),
        created: created.and_then(Ticks::parse),
        facts: AlertFacts { title: Some(title.to_owned()), severity: Some("high".into()), ..AlertFacts::default() },
    })
}

/// What a story says about a batch besides its records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail {
    /// A step of live polling.
    pub(crate) cursor: Option<&'static str>,
    pub(crate) gaps: Vec<Gap>,
    /// Any other move, instead.
    pub(crate) turn: Option<CursorMove>,
    /// Polling, unless something else is said.
    pub(crate) purpose: Option<Purpose>,
}

/// A running sink.
pub(crate) struct Sink {
    begun: Mutex<HashSet<(TenantId, Source)>>,
    sender: mpsc::Sender<SinkMessage>,
    pub(crate) status: watch::Receiver<StageStatus>,
    pub(crate) stop: CancellationToken,
    task: JoinHandle<Result<(), String>>,
}

pub(crate) type Answer = oneshot::Receiver<Result<Committed, Refusal>>;

impl Sink {
    pub(crate) fn start(pool: &PgPool) -> Self {
        Self::with(pool, Config { first_delay: Duration::from_millis(10), max_delay: Duration::from_millis(100), ..Config::default() })
    }

    pub(crate) fn with(pool: &PgPool, config: Config) -> Self {
        let (sender, inbox) = mpsc::channel(16);
        let (publish, status) = watch::channel(StageStatus::well(ticks(EVENING)));
        let stop = CancellationToken::new();
        let store = PgStore::new(pool.clone(), &config);
        let worker = SinkWorker::new(store, config, Arc::new(EveningClock(Instant::now())), inbox, publish);
        let task = tokio::spawn(worker.run(stop.clone()));
        Self { begun: Mutex::default(), sender, status, stop, task }
    }

    pub(crate) async fn send(&self, fence: Fence, source: Source, records: Vec<Record>, tail: Tail) -> Answer {
        let (ack, answer) = oneshot::channel();
        let cursor = tail.turn.or_else(|| {
            let to = ticks(tail.cursor?);
            // The first move of a feed is its beginning.
            let is_first = self.begun.lock().expect("nobody panics").insert((fence.tenant, source));
            let live = CursorMove::Live { from: Ticks(i64::MIN), watermark: to };
            Some(if is_first { CursorMove::Begin { live_from: to, history_from: to } } else { live })
        });
        let purpose = tail.purpose.unwrap_or(Purpose::Live { fresh: true });
        let batch = AlertBatch { fence, source, records, cursor, gaps: tail.gaps, purpose, ack };
        self.sender.send(SinkMessage::Batch(batch)).await.expect("the sink is running");
        answer
    }

    pub(crate) async fn store(&self, fence: Fence, source: Source, records: Vec<Record>) -> Result<Committed, Refusal> {
        self.store_with(fence, source, records, Tail::default()).await
    }

    pub(crate) async fn store_with(&self, fence: Fence, source: Source, records: Vec<Record>, tail: Tail) -> Result<Committed, Refusal> {
        soon("an answer to the batch", self.send(fence, source, records, tail).await).await.expect("every batch is answered")
    }

    pub(crate) async fn news(&self, news: FeedProgress) {
        self.sender.send(SinkMessage::Progress(news)).await.expect("the sink is running");
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        soon("the end of the sink", self.task).await.expect("the sink does not panic").expect("the sink ends well");
    }
}

/// What a batch came to, in short: new, updated, duplicate, quarantined.
pub(crate) fn counts(outcome: Result<Committed, Refusal>) -> (u64, u64, u64, u64) {
    let it = outcome.expect("the batch is committed");
    (it.new, it.updated, it.duplicate, it.quarantined)
}

/// Waits for something that has to happen, generously.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.unwrap_or_else(|_| panic!("{what} did not come within a minute"))
}

/// Asks until the answer is right, and shows the last one when it never is.
pub(crate) async fn until<T: std::fmt::Debug, F: Future<Output = T>>(
    what: &str,
    mut ask: impl FnMut() -> F,
    right: impl Fn(&T) -> bool,
) -> T {
    let mut last = None;
    for _ in 0..3000 {
        let answer = ask().await;
        if right(&answer) {
            return answer;
        }
        last = Some(answer);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come true; last seen: {last:?}")
}

/// A row of `dash.alert` in short.
#[derive(Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Latest {
    pub(crate) alert_id: String,
    pub(crate) title: Option<String>,
    pub(crate) version_count: i32,
    pub(crate) raw: String,
}

pub(crate) async fn latest(pool: &PgPool) -> Vec<Latest> {
    sqlx::query_as(r#"select alert_id, title, version_count, raw::text as raw from dash.alert order by alert_id collate "C""#)
        .fetch_all(pool)
        .await
        .unwrap()
}

/// Titles of the latest states, by id.
pub(crate) async fn titles(pool: &PgPool) -> Vec<(String, String)> {
    latest(pool).await.into_iter().map(|it| (it.alert_id, it.title.unwrap_or_default())).collect()
}

pub(crate) async fn number(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// Every row of every table that a batch may touch, with the transaction that wrote it: equal only when
/// nothing was written in between, not even the same again.
pub(crate) async fn fingerprint(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "select 'version ' || t.xmin || ' ' || t::text from tocsin.alert_version t
         union all select 'alert ' || t.xmin || ' ' || t::text from tocsin.alert t
         union all select 'feed ' || t.xmin || ' ' || t::text from tocsin.feed t
         union all select 'gap ' || t.xmin || ' ' || t::text from tocsin.gap t
         union all select 'quarantine ' || t.xmin || ' ' || t::text from tocsin.quarantine t
         union all select 'event ' || t.xmin || ' ' || t::text from tocsin.alert_event t
         union all select 'incident ' || t.xmin || ' ' || t::text from tocsin.incident t
         union all select 'redirect ' || t.xmin || ' ' || t::text from tocsin.incident_redirect t
         union all select 'reread ' || t.xmin || ' ' || t::text from tocsin.reread t
         union all select 'reconciliation ' || t.xmin || ' ' || t::text from tocsin.reconciliation t
         order by 1",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}
