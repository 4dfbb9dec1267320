//! What the metrics say about all tenants together, whoever holds them: every replica counts the same, so that an alert
//! rule takes the largest and never the sum.

use sqlx::{FromRow, PgExecutor};

/// How many of the active tenants cannot be seen, how old the oldest success is, and what else is open.
#[derive(Clone, Copy, Debug, PartialEq, FromRow)]
pub(crate) struct Counts {
    /// Active tenants that cannot be seen in whole: some need or trouble of theirs is shown, or a fault of their app.
    pub(crate) blind: i64,
    /// Those of them for a quarter of an hour at least.
    pub(crate) blind_15m: i64,
    /// Those of them for a day at least.
    pub(crate) blind_1d: i64,
    /// Seconds since 1970: the oldest last success of a feed that should be read. A feed that was never read counts from
    /// when its tenant became active, and nothing but now is left where nothing is to be read.
    pub(crate) oldest_success: f64,
    /// Gaps that are neither healed nor past healing.
    pub(crate) open_gaps: i64,
}

pub(crate) async fn read(db: impl PgExecutor<'_>) -> Result<Counts, sqlx::Error> {
    sqlx::query_as(
        "-- counts::read
         with active as (
             select tenant, app, cloud, sources, state_since from tocsin.tenant where state = 'active'
         ), blind as (
             select tenant, min(since) as since, bool_or(needs) as needs
             from (
                 select t.tenant, x.since, x.verdict in ('needs-consent', 'needs-customer') as needs
                 from active t join tocsin.trouble x using (tenant)
                 where x.shown_from <= now() and (x.origin = 'sign-in' or x.origin = any (t.sources))
                 union all
                 select t.tenant, f.since, false from active t join tocsin.app_fault f using (app, cloud)
             ) causes
             group by tenant
         )
         select
             (select count(*) from blind) as blind,
             (select count(*) from blind where since <= now() - interval '15 minutes') as blind_15m,
             (select count(*) from blind where since <= now() - interval '1 day') as blind_1d,
             (
                 -- Who needs somebody is told by name: his silence must not hide that of another.
                 select extract(epoch from coalesce(min(greatest(f.last_success_at, t.state_since)), now()))::float8
                 from active t
                 cross join lateral unnest(t.sources) as s (source)
                 left join tocsin.feed f on f.tenant = t.tenant and f.source = s.source
                 where not exists (select from blind b where b.tenant = t.tenant and b.needs)
             ) as oldest_success,
             (
                 select count(*) from tocsin.gap g join tocsin.tenant t using (tenant)
                 where g.healed_at is null and g.kind <> 'expired' and t.state not in ('offboarding', 'removed')
             ) as open_gaps",
    )
    .fetch_one(db)
    .await
}
