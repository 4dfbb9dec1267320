//! What there is to derive: which alerts, their columns and bodies, what they were counted as, and versions that are not
//! measured yet.

use std::collections::BTreeMap;

use domain::{TenantId, Ticks};
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection};

use super::place::Place;
use crate::counted::Counted;

/// A body above this is not read: a hundred of them would be held at once.
pub(crate) const MAX_BODY: i32 = 4_000_000;

/// The highest version of each source whose lateness was counted.
pub(crate) type Measured = BTreeMap<String, i32>;

/// The next alerts of a sweep, in the order of their ids.
pub(crate) async fn swept(conn: &mut PgConnection, tenant: TenantId, after: &str, limit: i64) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "-- read::swept
         select alert_id from tocsin.alert where tenant = $1 and alert_id > $2 order by alert_id limit $3",
    )
    .bind(tenant.0)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// The next alerts that were changed, with the transaction that did it, in its order.
pub(crate) async fn changed(
    conn: &mut PgConnection,
    tenant: TenantId,
    place: &Place,
    limit: i64,
) -> Result<Vec<(String, i64)>, sqlx::Error> {
    sqlx::query_as(
        "-- read::changed
         select alert_id, changed_xid::text::bigint from tocsin.alert
         where tenant = $1 and changed_xid >= $2::text::xid8 and changed_xid < $3::text::xid8
         order by changed_xid limit $4",
    )
    .bind(tenant.0)
    .bind(&place.upto)
    .bind(&place.horizon)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// An alert as it stands, its body, and what it was counted as. Texts that are absent are empty.
#[derive(Debug, FromRow)]
pub(crate) struct AlertRow {
    pub(crate) alert_id: String,
    pub(crate) changed_xid: String,
    pub(crate) source: String,
    pub(crate) title: String,
    pub(crate) severity: String,
    pub(crate) status: String,
    pub(crate) service_source: String,
    pub(crate) detection_source: String,
    pub(crate) category: String,
    pub(crate) classification: String,
    pub(crate) version_count: i32,
    pub(crate) created: Option<i64>,
    pub(crate) updated: Option<i64>,
    pub(crate) first_stored: i64,
    pub(crate) last_stored: i64,
    /// Nothing when there is no such version.
    pub(crate) body_size: Option<i32>,
    /// Nothing when it is too large.
    pub(crate) body: Option<String>,
    /// Retention has let the body go, with its month.
    pub(crate) let_go: bool,
    was_created: Option<i64>,
    was_title: Option<String>,
    was_severity: Option<String>,
    was_status: Option<String>,
    was_service_source: Option<String>,
    was_classification: Option<String>,
    was_techniques: Option<Vec<String>>,
    measured: Option<Json<Measured>>,
    /// The version of which the body is.
    version: Option<i32>,
    version_stored: Option<i64>,
    last_update_text: Option<String>,
    begun: Option<i64>,
}

impl AlertRow {
    /// What the alert was counted as, if it ever was.
    pub(crate) fn before(&self) -> Option<Counted> {
        Some(Counted {
            created: self.was_created?,
            title: self.was_title.clone()?,
            severity: self.was_severity.clone()?,
            status: self.was_status.clone()?,
            service_source: self.was_service_source.clone()?,
            classification: self.was_classification.clone()?,
            techniques: self.was_techniques.clone()?,
        })
    }

    /// Which versions were measured.
    pub(crate) fn measured(&self) -> Measured {
        self.measured.as_ref().map(|json| json.0.clone()).unwrap_or_default()
    }

    /// The version that it stands in, if that is the only one which is not measured: nearly always.
    fn newest(&self) -> Option<VersionRow> {
        let measured = self.measured();
        let version = self.version?;
        let only =
            measured.values().sum::<i32>() + 1 == self.version_count && measured.get(&self.source).copied().unwrap_or(0) + 1 == version;
        only.then(|| VersionRow {
            alert_id: self.alert_id.clone(),
            source: self.source.clone(),
            version,
            stored: self.version_stored.unwrap_or(self.last_stored),
            last_update_text: self.last_update_text.clone(),
            begun: self.begun,
        })
    }
}

/// These alerts. The laterals go by key, and name the partition that a body lies in.
pub(crate) async fn alerts(conn: &mut PgConnection, tenant: TenantId, ids: &[String]) -> Result<Vec<AlertRow>, sqlx::Error> {
    sqlx::query_as(
        "-- read::alerts
         select a.alert_id, a.changed_xid::text, a.source,
             coalesce(a.title, '') as title, coalesce(a.severity, '') as severity, coalesce(a.status, '') as status,
             coalesce(a.service_source, '') as service_source, coalesce(a.detection_source, '') as detection_source,
             coalesce(a.category, '') as category, coalesce(a.classification, '') as classification, a.version_count,
             (extract(epoch from a.created_at) * 10000000)::bigint as created,
             (extract(epoch from a.last_updated_at) * 10000000)::bigint as updated,
             (extract(epoch from a.first_stored_at) * 10000000)::bigint as first_stored,
             (extract(epoch from a.last_stored_at) * 10000000)::bigint as last_stored,
             v.size as body_size, v.body, v.version, (extract(epoch from v.stored_at) * 10000000)::bigint as version_stored, v.last_update_text,
             (extract(epoch from f.begun_at) * 10000000)::bigint as begun,
             v.size is null and exists (
                 select from tocsin.dropped_month d
                 where a.version_created_at >= d.month::timestamp at time zone 'UTC'
                     and a.version_created_at < (d.month + interval '1 month') at time zone 'UTC'
             ) as let_go,
             (extract(epoch from g.created_at) * 10000000)::bigint as was_created,
             g.title as was_title, g.severity as was_severity, g.status as was_status, g.service_source as was_service_source,
             g.classification as was_classification, g.techniques as was_techniques, g.measured
         from unnest($2::text[]) as k(alert_id)
         cross join lateral (select * from tocsin.alert a where a.tenant = $1 and a.alert_id = k.alert_id limit 1) a
         left join lateral (
             select octet_length(v.raw) as size, case when octet_length(v.raw) <= $3 then v.raw end as body, v.version, v.stored_at, v.last_update_text
             from tocsin.alert_version v
             where v.tenant = $1 and v.source = a.source and v.alert_id = a.alert_id and v.hash = a.hash and v.created_at = a.version_created_at
             limit 1
         ) v on true
         left join lateral (select * from tocsin.digested g where g.tenant = $1 and g.alert_id = a.alert_id limit 1) g on true
         left join tocsin.feed f on f.tenant = $1 and f.source = a.source",
    )
    .bind(tenant.0)
    .bind(ids)
    .bind(MAX_BODY)
    .fetch_all(conn)
    .await
}

/// A version that is not measured yet.
#[derive(Debug, FromRow)]
pub(crate) struct VersionRow {
    pub(crate) alert_id: String,
    pub(crate) source: String,
    pub(crate) version: i32,
    stored: i64,
    last_update_text: Option<String>,
    begun: Option<i64>,
}

impl VersionRow {
    /// When it was visible at the source and when it was stored, if that says something about us: what was visible before
    /// the source was first tried does not.
    pub(crate) fn lateness(&self) -> Option<(Ticks, Ticks)> {
        let visible = Ticks::parse(self.last_update_text.as_deref()?)?;
        self.begun.is_some_and(|begun| visible.0 >= begun).then_some((visible, Ticks(self.stored)))
    }
}

/// Versions of these alerts above those that were measured. Those that are not in the rows already have to be looked for in
/// every month.
pub(crate) async fn versions(conn: &mut PgConnection, tenant: TenantId, alerts: &[AlertRow]) -> Result<Vec<VersionRow>, sqlx::Error> {
    let mut found: Vec<VersionRow> = Vec::new();
    let mut others: Vec<&AlertRow> = Vec::new();
    for alert in alerts {
        match alert.newest() {
            Some(newest) => found.push(newest),
            None => others.push(alert),
        }
    }
    if others.is_empty() {
        return Ok(found);
    }
    let more: Vec<VersionRow> = sqlx::query_as(
        "-- read::versions
         select v.alert_id, v.source, v.version, (extract(epoch from v.stored_at) * 10000000)::bigint as stored, v.last_update_text,
             (extract(epoch from f.begun_at) * 10000000)::bigint as begun
         from unnest($2::text[], $3::jsonb[]) as k(alert_id, measured)
         cross join unnest(array['graph-alerts', 'mde-alerts']) as s(source)
         cross join lateral (
             select v.alert_id, v.source, v.version, v.stored_at, v.last_update_text
             from tocsin.alert_version v
             where v.tenant = $1 and v.source = s.source and v.alert_id = k.alert_id and v.version > coalesce((k.measured ->> s.source)::int, 0)
         ) v
         left join tocsin.feed f on f.tenant = $1 and f.source = s.source",
    )
    .bind(tenant.0)
    .bind(others.iter().map(|alert| alert.alert_id.as_str()).collect::<Vec<_>>())
    .bind(others.iter().map(|alert| Json(alert.measured())).collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    found.extend(more);
    Ok(found)
}
