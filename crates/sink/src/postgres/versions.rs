//! `tocsin.alert_version`: every distinct body ever received, inserted once and never touched again.

use sqlx::postgres::PgBindIterExt;
use sqlx::{FromRow, PgConnection};

use crate::store::{Alert, Feed, Known, Standing, StoreError};
use crate::text::storable;

/// The laterals with `limit 1` are nested loops over keys whatever the planner believes of the tables,
/// and name the creation time, so that one partition is probed. The highest number has to be looked for in
/// all partitions, which is why it is a case: only a new version of an alert already there asks for it.
///
/// The latest state of an alert speaks for its versions, as they were stored by one transaction: where this very version is
/// the latest, or where there is no state at all, nothing else is asked for. Only who is `thorough` (`$6`) asks for the version
/// itself, and finds out when somebody has deleted one or the other.
///
/// A version whose month was dropped is known by what was remembered of it, or by the state that stands: it was stored once,
/// and is not stored again. Nobody asks for that where the version itself is there; and where no month was dropped, a state
/// without its version is a loss, which who is thorough mends.
const LOOK_UP: &str = "-- versions::look_up
    select r.ord,
           (a.same and not $6) is true or v.stored is not null or coalesce(s.hash = r.hash, false) or case when v.stored is null and a.same then coalesce((
               select true from tocsin.dropped_month d where d.month = date_trunc('month', r.filed at time zone 'UTC')::date limit 1
           ), false) else false end as stored,
           a.last_update_ticks,
           a.source_rank,
           coalesce(a.same, false) as same,
           case when v.stored is null and ($6 or a.same is false) and a.source is not null then greatest(s.version, coalesce((
               select max(n.version) from tocsin.alert_version n where n.tenant = $1 and n.source = $2 and n.alert_id = r.alert_id
           ), 0)) else 0 end as newest
    from unnest($3::text[], $4::bytea[], $5::timestamptz[]) with ordinality as r(alert_id, hash, filed, ord)
    left join lateral (
        select a.source, a.source_rank, a.last_update_ticks,
               a.source = $2 and a.hash = r.hash and a.version_created_at = r.filed as same
        from tocsin.alert a
        where a.tenant = $1 and a.alert_id = r.alert_id
        limit 1
    ) a on true
    left join lateral (
        select true as stored
        from tocsin.alert_version v
        where ($6 or a.same is false)
          and v.tenant = $1 and v.source = $2 and v.alert_id = r.alert_id and v.hash = r.hash and v.created_at = r.filed
        limit 1
    ) v on true
    left join lateral (
        select s.hash, s.version
        from tocsin.version_seen s
        where ($6 or a.same is false) and v.stored is null and s.tenant = $1 and s.source = $2 and s.alert_id = r.alert_id
        limit 1
    ) s on true";

#[derive(FromRow)]
struct KnownRow {
    ord: i64,
    stored: bool,
    last_update_ticks: Option<i64>,
    source_rank: Option<i16>,
    same: bool,
    newest: i32,
}

impl From<&KnownRow> for Known {
    fn from(row: &KnownRow) -> Self {
        let standing = row.last_update_ticks.zip(row.source_rank).map(|rank| Standing { same: row.same, rank });
        Self { stored: row.stored, standing, newest: row.newest }
    }
}

/// Asks what is known of each of these, in their order; who is `thorough` does not take a state's word for its versions.
pub(crate) async fn look_up(conn: &mut PgConnection, feed: Feed, alerts: &[Alert<'_>], thorough: bool) -> Result<Vec<Known>, StoreError> {
    let mut rows: Vec<KnownRow> = sqlx::query_as(LOOK_UP)
        .bind(feed.tenant.0)
        .bind(feed.source.as_str())
        .bind(alerts.iter().map(|alert| alert.record.id.as_str()).bind_iter())
        .bind(alerts.iter().map(|alert| alert.record.hash.0).bind_iter())
        .bind(alerts.iter().map(|alert| alert.place).bind_iter())
        .bind(thorough)
        .fetch_all(conn)
        .await?;
    if rows.len() != alerts.len() {
        return Err(StoreError::Refused(format!("asked about {} records, the answer has {}", alerts.len(), rows.len())));
    }
    rows.sort_unstable_by_key(|row| row.ord);
    Ok(rows.iter().map(Known::from).collect())
}

/// Inserts versions under their numbers.
///
/// # Errors
/// [`StoreError::Contention`] when some of them are there all of a sudden: the look-up is then asked
/// again, so that what is counted is what was written.
pub(crate) async fn insert(conn: &mut PgConnection, feed: Feed, alerts: &[Alert<'_>], versions: &[(usize, i32)]) -> Result<(), StoreError> {
    let alert = |version: &(usize, i32)| alerts[version.0];
    let done = sqlx::query(
        "-- versions::insert
         insert into tocsin.alert_version (tenant, source, alert_id, hash, created_at, version, last_update_text, raw)
         select $1, $2, r.alert_id, r.hash, r.filed, r.version, r.last_update_text, r.raw
         from unnest($3::text[], $4::bytea[], $5::timestamptz[], $6::int[], $7::text[], $8::text[])
             as r(alert_id, hash, filed, version, last_update_text, raw)
         on conflict do nothing",
    )
    .bind(feed.tenant.0)
    .bind(feed.source.as_str())
    .bind(versions.iter().map(|version| alert(version).record.id.as_str()).bind_iter())
    .bind(versions.iter().map(|version| alert(version).record.hash.0).bind_iter())
    .bind(versions.iter().map(|version| alert(version).place).bind_iter())
    .bind(versions.iter().map(|version| version.1).bind_iter())
    .bind(versions.iter().map(|version| alert(version).record.last_update_text.as_deref().map(storable)).bind_iter())
    .bind(versions.iter().map(|version| alert(version).raw).bind_iter())
    .execute(conn)
    .await?;
    if done.rows_affected() != versions.len() as u64 {
        return Err(StoreError::Contention(format!(
            "{} of {} new versions were there already",
            versions.len() as u64 - done.rows_affected(),
            versions.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use sqlx::{AssertSqlSafe, PgPool};

    use super::*;
    use crate::postgres::session::{self, Limits};

    const LIMITS: Limits = Limits { statement: std::time::Duration::from_secs(10), lock: std::time::Duration::from_secs(10) };

    /// Every node of a plan that reads a table: which node, which alias, which index, on which condition.
    fn reads(plan: &Value, found: &mut Vec<(String, String, String, String)>) {
        if plan.get("Relation Name").is_some() {
            let text = |key: &str| plan.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            found.push((text("Node Type"), text("Alias"), text("Index Name"), text("Index Cond")));
        }
        for child in plan.get("Plans").and_then(Value::as_array).into_iter().flatten() {
            reads(child, found);
        }
    }

    async fn assert_goes_by_key(pool: &PgPool, when: &str) {
        for (mode, thorough) in
            [("force_generic_plan", false), ("force_generic_plan", true), ("force_custom_plan", false), ("force_custom_plan", true)]
        {
            let mut tx = pool.begin().await.unwrap();
            session::prepare(&mut tx, LIMITS).await.unwrap();
            sqlx::query("select set_config('plan_cache_mode', $1, true)").bind(mode).execute(&mut *tx).await.unwrap();
            let prepare = format!("prepare look_up(uuid, text, text[], bytea[], timestamptz[], boolean) as {LOOK_UP}");
            sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *tx).await.unwrap();
            let plan: Value = sqlx::query_scalar(AssertSqlSafe(format!(
                "explain (format json) execute look_up('00000000-0000-0000-0000-000000000001', 'graph-alerts',
                     '{{a,b}}', '{{\\\\x01,\\\\x02}}', '{{2026-10-01,-infinity}}', {thorough})",
            )))
            .persistent(false)
            .fetch_one(&mut *tx)
            .await
            .unwrap();
            sqlx::raw_sql("deallocate look_up").execute(&mut *tx).await.unwrap();
            let mut found = Vec::new();
            reads(&plan[0]["Plan"], &mut found);
            // Two partitions and the default one, twice, the latest state, what is remembered of dropped months, and these.
            assert_eq!(found.len(), 9, "{when}, {mode}: {plan:#}");
            for (node, alias, index, condition) in found {
                assert!(node.starts_with("Index") && index.ends_with("_pkey"), "{when}, {mode}: {node} over {index}");
                let needs: &[&str] = match alias.as_bytes() {
                    [b'v', ..] => &["alert_id", "hash", "created_at"],
                    b"d" => &["month"],
                    _ => &["alert_id"],
                };
                assert!(needs.iter().all(|column| condition.contains(column)), "{when}, {mode}: {alias} by {condition}");
            }
        }
    }

    #[sqlx::test(migrations = "../../migrations")]
    async fn the_look_up_goes_by_key_whatever_the_planner_believes_of_the_tables(pool: PgPool) {
        for month in ["2026-10-01", "2026-11-01"] {
            sqlx::query("select tocsin.ensure_version_partition($1::text::timestamptz)").bind(month).execute(&pool).await.unwrap();
        }
        assert_goes_by_key(&pool, "empty").await;
        sqlx::raw_sql("vacuum analyze").execute(&pool).await.unwrap();
        assert_goes_by_key(&pool, "analysed while empty").await;
        sqlx::raw_sql(
            "insert into tocsin.alert (tenant, alert_id, source, source_rank, hash, version_created_at, last_updated_at)
             select '00000000-0000-0000-0000-000000000001', n::text, 'graph-alerts', 2, '', '2026-10-01', now() from generate_series(1, 20000) n;
             insert into tocsin.alert_version (tenant, source, alert_id, hash, created_at, version, raw)
             select '00000000-0000-0000-0000-000000000001', 'graph-alerts', n::text, '', '2026-10-01', 1, '{}' from generate_series(1, 20000) n",
        )
        .execute(&pool)
        .await
        .unwrap();
        assert_goes_by_key(&pool, "filled").await;
    }
}
