//! Builds the world of a story: tenants with leases, alerts as sources send them, and the sink that stores them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use digester::{Right, Stepped, look, step};
use domain::health::StageStatus;
use domain::{
    AlertBatch, AppName, Clock as _, CloudName, Epoch, Fence, HeldTenant, Purpose, SinkMessage, Source, SystemClock, TenantId, TenantSet,
    TenantState,
};
use sink::{Config, PgStore, SinkWorker};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const GRAPH: Source = Source::GraphAlerts;
pub(crate) const MDE: Source = Source::MdeAlerts;

/// A tenant with a lease of the first generation, whose sources were first tried two hours ago.
pub(crate) async fn tenant(pool: &PgPool, number: u128) -> Fence {
    let id = Uuid::from_u128(number);
    let sql = format!(
        "insert into tocsin.tenant (tenant, name, cloud, app, sources, state) values ('{id}', 'customer {number}', 'global', 'main', '{{graph-alerts,mde-alerts}}', 'active');
         insert into tocsin.lease (tenant, epoch, expires_at) values ('{id}', 1, now() + interval '1 hour');
         insert into tocsin.feed (tenant, source, begun_at) select '{id}', source, now() - interval '2 hours' from unnest(array['graph-alerts', 'mde-alerts']) source"
    );
    run(pool, &sql).await;
    Fence { tenant: TenantId(id), epoch: Epoch(1) }
}

pub(crate) async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

pub(crate) async fn number(pool: &PgPool, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// What is said of an alert in one of its states.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) id: String,
    /// Hours since an evening in November.
    pub(crate) created: u32,
    /// Minutes before now at which the source showed it.
    pub(crate) ago: u32,
    pub(crate) severity: &'static str,
    pub(crate) status: &'static str,
    pub(crate) classification: &'static str,
    pub(crate) techniques: Vec<&'static str>,
    pub(crate) addresses: Vec<u8>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            id: "a".into(),
            created: 0,
            ago: 10,
            severity: "high",
            status: "new",
            classification: "unknown",
            techniques: vec!["T1059"],
            addresses: vec![1],
        }
    }
}

impl State {
    /// The body as the source sends it.
    pub(crate) fn body(&self, source: Source) -> String {
        let updated = SystemClock.now().minus(Duration::from_secs(60 * u64::from(self.ago))).to_timestamp().unwrap();
        let updated = updated.strftime("%Y-%m-%dT%H:%M:%S.%6fZ");
        let created = format!("2026-11-{:02}T{:02}:30:00Z", 1 + self.created / 24, self.created % 24);
        let (at_created, at_updated) = match source {
            Source::MdeAlerts => ("alertCreationTime", "lastUpdateTime"),
            _ => ("createdDateTime", "lastUpdateDateTime"),
        };
        let techniques: Vec<_> = self.techniques.iter().map(|text| format!("{text:?}")).collect();
        let evidence: Vec<_> =
            self.addresses.iter().map(|n| format!(r#"{{"ipAddress": "192.0.2.{n}", "verdict": "suspicious"}}"#)).collect();
        format!(
            r#"{{"id": "{}", "{at_created}": "{created}", "{at_updated}": "{updated}", "title": "Detection {}", "serviceSource": "microsoftDefenderForEndpoint",
            "severity": "{}", "status": "{}", "classification": "{}", "mitreTechniques": [{}], "evidence": [{}]}}"#,
            self.id,
            self.id.len(),
            self.severity,
            self.status,
            self.classification,
            techniques.join(", "),
            evidence.join(", ")
        )
    }
}

/// A running sink.
pub(crate) struct Sink {
    sender: mpsc::Sender<SinkMessage>,
    stop: CancellationToken,
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Sink {
    pub(crate) fn start(pool: &PgPool) -> Self {
        let (sender, inbox) = mpsc::channel(16);
        let (publish, _) = watch::channel(StageStatus::well(SystemClock.now()));
        let stop = CancellationToken::new();
        let config = Config { first_delay: Duration::from_millis(10), ..Config::default() };
        tokio::spawn(SinkWorker::new(PgStore::new(pool.clone(), &config), config, Arc::new(SystemClock), inbox, publish).run(stop.clone()));
        Self { sender, stop }
    }

    pub(crate) async fn store(&self, fence: Fence, source: Source, states: &[State]) {
        self.store_bodies(fence, source, &states.iter().map(|state| state.body(source)).collect::<Vec<_>>()).await;
    }

    pub(crate) async fn store_bodies(&self, fence: Fence, source: Source, bodies: &[String]) {
        let (ack, answer) = oneshot::channel();
        let records = bodies.iter().map(|body| microsoft::extract::record(source, Bytes::copy_from_slice(body.as_bytes()))).collect();
        let batch = AlertBatch { fence, source, records, cursor: None, gaps: Vec::new(), purpose: Purpose::Live { fresh: true }, ack };
        self.sender.send(SinkMessage::Batch(batch)).await.expect("the sink is running");
        let stored = answer.await.expect("every batch is answered").expect("it is committed");
        assert_eq!(stored.quarantined, 0, "{bodies:?}");
    }
}

/// Derives until nothing waits, and says how many alerts were. Transactions of other stories on the same server may hold it
/// up for a moment, and an alert that a sweep found above such a one is looked at, and said, once more.
pub(crate) async fn derive(pool: &PgPool, right: Right) -> usize {
    let mut count = 0;
    for _ in 0..6000 {
        count += derive_now(pool, right).await;
        let waits = look(pool, &[right.tenant()]).await.unwrap();
        if waits.iter().all(|due| due.tenant != right.tenant()) {
            return count;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("something waits for a minute");
}

/// Derives what can be derived now.
pub(crate) async fn derive_now(pool: &PgPool, right: Right) -> usize {
    let mut count = 0;
    for _ in 0..1000 {
        match step(pool, right, false).await.unwrap() {
            Stepped::Moved { alerts, more } => {
                count += alerts;
                if !more {
                    return count;
                }
            }
            // Whoever was killed gives its lock back a moment later.
            Stepped::NotOurs => return count,
        }
    }
    panic!("it never comes to an end")
}

/// Each view and the same counted from the alerts and versions themselves. What differs is named.
const RECOUNTS: &[(&str, &str, &str)] = &[
    (
        "evidence",
        "select directory_id, alert_id, kind, value, verdict, created_at from dash.evidence",
        "select distinct directory_id, alert_id, 'ip', e ->> 'ipAddress', e ->> 'verdict', created_at from dash.alert, json_array_elements(raw -> 'evidence') e",
    ),
    (
        "alert_day",
        "select directory_id, tenant, day, severity, status, service_source, alerts from dash.alert_day",
        "select directory_id, tenant, (created_at at time zone 'UTC')::date, severity, status, service_source, count(*) from dash.alert group by 1, 2, 3, 4, 5, 6",
    ),
    (
        "technique_day",
        "select directory_id, day, technique, alerts from dash.technique_day",
        "select directory_id, (created_at at time zone 'UTC')::date, technique, count(*) from dash.alert, json_array_elements_text(raw -> 'mitreTechniques') technique group by 1, 2, 3",
    ),
    (
        "detection_day",
        "select directory_id, day, title, severity, service_source, alerts, true_positives, false_positives, resolved from dash.detection_day",
        "select directory_id, (created_at at time zone 'UTC')::date, title, severity, service_source, count(*), count(*) filter (where classification = 'truePositive'),
            count(*) filter (where classification = 'falsePositive'), count(*) filter (where status = 'resolved') from dash.alert group by 1, 2, 3, 4, 5",
    ),
    (
        "alert_hour",
        "select hour, severity, alerts from dash.alert_hour",
        "select date_trunc('hour', created_at, 'UTC'), severity, count(*) from dash.alert group by 1, 2",
    ),
    (
        "ingest_hour",
        "select hour, le_seconds, versions from dash.ingest_hour",
        "select hour, le, (select count(*) from tocsin.alert_version v where date_trunc('hour', v.stored_at, 'UTC') = hour and extract(epoch from v.stored_at - v.last_update_text::timestamptz) <= le)
         from (select distinct date_trunc('hour', stored_at, 'UTC') as hour from tocsin.alert_version) hours,
             unnest(array[1, 2.5, 5, 10, 20, 30, 45, 60, 120, 300, 900, 3600, 14400, 86400, 'infinity']::float8[]) le",
    ),
    (
        "ocsf_finding",
        "select alert_id, finding -> 'metadata' ->> 'tenant_uid', finding ->> 'message', finding ->> 'time' from dash.ocsf_finding",
        "select alert_id, directory_id::text, title, floor(extract(epoch from last_updated_at) * 1000)::bigint::text from dash.alert",
    ),
];

/// Every view equals its recount.
pub(crate) async fn assert_recounted(pool: &PgPool, when: &str) {
    for (view, derived, recount) in RECOUNTS {
        let sql = format!(
            "select 'too much: ' || x::text from (({derived}) except all ({recount})) x union all select 'missing: ' || x::text from (({recount}) except all ({derived})) x"
        );
        let differ: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap_or_else(|error| panic!("{view}: {error}"));
        assert!(differ.is_empty(), "{when}: dash.{view} is not a recount: {differ:#?}");
    }
}

/// What the registry says to somebody who holds these.
pub(crate) fn held(fences: &[Fence]) -> Arc<TenantSet> {
    let tenant = |fence: &Fence| HeldTenant {
        id: fence.tenant,
        name: "customer".into(),
        cloud: CloudName::new("global"),
        app: AppName::new("main"),
        sources: vec![GRAPH],
        state: TenantState::Active,
        epoch: fence.epoch,
        credential_version: 1,
        last_refresh_at: None,
    };
    let tenants = fences.iter().map(|fence| (fence.tenant, Arc::new(tenant(fence)))).collect::<BTreeMap<_, _>>();
    Arc::new(TenantSet { trusted_until: Instant::now(), replicas: NonZeroU32::MIN, tenants: Arc::new(tenants) })
}

/// Waits until so many alerts are derived and none is left. The database is asked: a beat after the sink's answer may be of a
/// round that began before it.
pub(crate) async fn settled(pool: &PgPool, alerts: i64) {
    let sql = "select case when max(waiting) = 0 then (select coalesce(sum(alerts), 0)::bigint from dash.alert_day) else -1 end from dash.digest_health";
    timeout(Duration::from_secs(60), async {
        while number(pool, sql).await != alerts {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("all is derived");
}
