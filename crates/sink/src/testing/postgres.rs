//! Postgres as a world of the model test.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use domain::{AlertFacts, ContentHash, Epoch, Errand, Fence, Order, Source, TenantId, Ticks};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::snapshot::{
    EventLine, FeedLine, GapLine, IncidentLine, LatestLine, QuarantineLine, ReconciliationLine, RereadLine, Snapshot, VersionKey,
    VersionLine,
};
use super::story::World;
use crate::ask::{self, AskError, ReplayOf};
use crate::config::Config;
use crate::postgres::PgStore;
use crate::postgres::stamp::PgStamp;
use crate::store::Feed;

/// A migrated database.
#[derive(Debug)]
pub struct PgWorld {
    pool: PgPool,
    tenants: AtomicU64,
}

impl PgWorld {
    /// Plays in this database.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, tenants: AtomicU64::new(1) }
    }
}

#[async_trait]
impl World for PgWorld {
    type Store = PgStore;

    fn store(&self, config: &Config) -> PgStore {
        PgStore::new(self.pool.clone(), config)
    }

    async fn tenant(&self) -> Fence {
        let number = self.tenants.fetch_add(1, Ordering::SeqCst);
        let id = Uuid::from_u128(u128::from(number));
        sqlx::query(
            "with t as (
                 insert into tocsin.tenant (tenant, name, cloud, app, sources, state)
                 values ($1, $2, 'global', 'main', '{graph-alerts,mde-alerts,graph-incidents}', 'active')
                 returning tenant
             )
             insert into tocsin.lease (tenant, epoch, expires_at) select tenant, 1, now() + interval '1 hour' from t",
        )
        .bind(id)
        .bind(format!("customer {number}"))
        .execute(&self.pool)
        .await
        .expect("a tenant");
        Fence { tenant: TenantId(id), epoch: Epoch(1) }
    }

    async fn claim(&self, fence: Fence) -> Fence {
        let epoch = sqlx::query_scalar("update tocsin.lease set epoch = epoch + 1 where tenant = $1 returning epoch")
            .bind(fence.tenant.0)
            .fetch_one(&self.pool)
            .await
            .expect("a lease");
        Fence { epoch: Epoch(epoch), ..fence }
    }

    async fn ask(&self, feed: Feed, errand: Errand, (from, to): (Ticks, Ticks), replace: bool) -> Option<i64> {
        match ask::ask(&self.pool, feed.tenant, feed.source, errand, (from, to), replace).await {
            Ok(run) => Some(run),
            Err(AskError::Open { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    async fn cancel(&self, feed: Feed, errand: Errand) -> Option<i64> {
        match ask::cancel(&self.pool, feed.tenant, feed.source, errand).await {
            Ok(run) => Some(run),
            Err(AskError::NothingOpen(_)) => None,
            Err(error) => panic!("{error}"),
        }
    }

    async fn want_replay(&self, feed: Feed) {
        let mut tx = self.pool.begin().await.expect("a transaction");
        ask::mark(&mut tx, &ReplayOf::All { tenant: Some(feed.tenant), source: Some(feed.source) }).await.expect("marked");
        tx.commit().await.expect("a commit");
    }

    async fn snapshot(&self, tenant: TenantId) -> Snapshot {
        snapshot(&self.pool, tenant).await
    }
}

/// Everything that is stored of a tenant.
///
/// # Panics
/// When the database cannot be read.
pub async fn snapshot(pool: &PgPool, tenant: TenantId) -> Snapshot {
    macro_rules! rows {
        ($line:expr, $sql:literal) => {{
            let rows = sqlx::query($sql).bind(tenant.0).fetch_all(pool).await.expect("an answer");
            rows.iter().map($line).collect()
        }};
    }
    Snapshot {
        versions: rows!(
            version,
            "select source, alert_id, hash, created_at, version, last_update_text, raw from tocsin.alert_version where tenant = $1"
        ),
        latest: rows!(latest, "select * from tocsin.alert where tenant = $1"),
        events: rows!(
            event,
            r#"select * from tocsin.alert_event where tenant = $1 order by alert_id collate "C", seen_at, field collate "C""#
        ),
        incidents: rows!(incident, "select * from tocsin.incident where tenant = $1"),
        redirects: rows!(
            |row| (row.get("incident_id"), row.get("final_id")),
            "select incident_id, final_id from tocsin.incident_redirect where tenant = $1"
        ),
        feeds: rows!(feed, "select * from tocsin.feed where tenant = $1"),
        rereads: rows!(reread, "select * from tocsin.reread where tenant = $1"),
        gaps: rows!(gap, "select * from tocsin.gap where tenant = $1"),
        quarantine: rows!(
            quarantined,
            "select *, replay_at is not null and replayed_at is null and (tried_at is null or tried_at < replay_at) as due
             from tocsin.quarantine where tenant = $1"
        ),
        reconciliations: {
            let mut rows: Vec<ReconciliationLine> =
                rows!(reconciliation, "select * from tocsin.reconciliation where tenant = $1 order by finished_at");
            rows.sort_by_key(|row| row.source);
            rows
        },
    }
}

fn word<T: FromStr>(row: &PgRow, column: &str) -> T {
    row.get::<&str, _>(column).parse().ok().expect("a known word")
}

fn hash(row: &PgRow) -> ContentHash {
    ContentHash(row.get::<Vec<u8>, _>("hash").try_into().expect("32 bytes"))
}

fn ticks(row: &PgRow, column: &str) -> Ticks {
    Ticks(row.get(column))
}

fn stamp(row: &PgRow, column: &str) -> Option<Ticks> {
    row.get::<Option<PgStamp>, _>(column).and_then(PgStamp::to_ticks)
}

fn is_set(row: &PgRow, column: &str) -> bool {
    row.get::<Option<PgStamp>, _>(column).is_some()
}

fn count(row: &PgRow, column: &str) -> u64 {
    u64::try_from(row.get::<i64, _>(column)).expect("a count")
}

fn version(row: &PgRow) -> (VersionKey, VersionLine) {
    let key = VersionKey { source: word(row, "source"), alert: row.get("alert_id"), hash: hash(row), filed: stamp(row, "created_at") };
    (key, VersionLine { number: row.get("version"), last_update_text: row.get("last_update_text"), raw: row.get("raw") })
}

fn latest(row: &PgRow) -> (String, LatestLine) {
    let line = LatestLine {
        source: word(row, "source"),
        hash: hash(row),
        filed: stamp(row, "version_created_at"),
        ticks: row.get("last_update_ticks"),
        facts: AlertFacts {
            incident_id: row.get("incident_id"),
            title: row.get("title"),
            severity: row.get("severity"),
            status: row.get("status"),
            service_source: row.get("service_source"),
            detection_source: row.get("detection_source"),
            category: row.get("category"),
            assigned_to: row.get("assigned_to"),
            classification: row.get("classification"),
            determination: row.get("determination"),
        },
        version_count: row.get("version_count"),
    };
    (row.get("alert_id"), line)
}

fn event(row: &PgRow) -> EventLine {
    EventLine {
        alert: row.get("alert_id"),
        field: row.get("field"),
        old: row.get("old_value"),
        new: row.get("new_value"),
        changed_at: stamp(row, "changed_at"),
        source: word(row, "source"),
    }
}

fn incident(row: &PgRow) -> (String, IncidentLine) {
    let line = IncidentLine {
        hash: hash(row),
        ticks: row.get("last_update_ticks"),
        redirect: row.get("redirect_incident_id"),
        title: row.get("title"),
        severity: row.get("severity"),
        status: row.get("status"),
        raw: row.get("raw"),
    };
    (row.get("incident_id"), line)
}

fn feed(row: &PgRow) -> (Source, FeedLine) {
    let line = FeedLine {
        watermark: row.get::<Option<i64>, _>("watermark_ticks").map(Ticks),
        caught_up: row.get::<Option<i64>, _>("caught_up_ticks").map(Ticks),
        last_attempt: stamp(row, "last_attempt_at"),
        last_success: stamp(row, "last_success_at"),
        error: row.get("last_error"),
        throttled_until: stamp(row, "throttled_until"),
        order: Order::from_word(row.get("read_order")),
        quarantined: row.get("quarantined"),
    };
    (word(row, "source"), line)
}

fn reread(row: &PgRow) -> ((Source, Errand), RereadLine) {
    let line = RereadLine {
        run: row.get("run"),
        axis: word(row, "axis"),
        from: ticks(row, "from_ticks"),
        to: ticks(row, "to_ticks"),
        left: ticks(row, "left_ticks"),
        polled_before: ticks(row, "polled_before_ticks"),
        asked: is_set(row, "asked_at"),
        started: is_set(row, "started_at"),
        finished: is_set(row, "finished_at"),
        cancelled: is_set(row, "cancelled_at"),
        records: count(row, "records"),
        new: count(row, "new_alerts"),
        updated: count(row, "updated_alerts"),
        late: count(row, "late"),
        missing: row.get("missing_ids"),
        changed: row.get("changed_ids"),
    };
    ((word(row, "source"), word(row, "errand")), line)
}

fn gap(row: &PgRow) -> ((Source, Ticks, Ticks), GapLine) {
    let line = GapLine { axis: word(row, "axis"), kind: word(row, "kind"), reason: row.get("reason"), healed: is_set(row, "healed_at") };
    ((word(row, "source"), ticks(row, "from_ticks"), ticks(row, "to_ticks")), line)
}

fn quarantined(row: &PgRow) -> ((Source, ContentHash), QuarantineLine) {
    let line =
        QuarantineLine { reason: row.get("reason"), raw: row.get("raw_bytes"), due: row.get("due"), replayed: is_set(row, "replayed_at") };
    ((word(row, "source"), hash(row)), line)
}

fn reconciliation(row: &PgRow) -> ReconciliationLine {
    ReconciliationLine {
        source: word(row, "source"),
        asked_by: row.get("asked_by"),
        run: row.get("run"),
        stretch: (ticks(row, "from_ticks"), ticks(row, "to_ticks")),
        counts: ["at_source", "stored", "missing", "changed", "only_stored"].map(|column| count(row, column)),
        ids: ["missing_ids", "changed_ids", "only_stored_ids"].map(|column| row.get(column)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Extent, model};
    use super::*;

    #[sqlx::test(migrations = "../../migrations")]
    async fn postgres_keeps_to_the_model(pool: PgPool) {
        model(&PgWorld::new(pool), Extent { cases: 64, steps: 32, seed: 1 }).await;
    }
}
