//! `tocsin.notification`, `tocsin.notified` and `tocsin.notifier`: what is to be told, was told, and by whom.

use std::time::Duration;

use jiff_sqlx::Timestamp;
use sqlx::{FromRow, PgConnection, PgExecutor, PgPool, PgTransaction};
use uuid::Uuid;

use crate::message::{EVERYBODY, Message};

/// How long one process tells without saying so again.
const LEASE: &str = "30 seconds";
/// Messages that may wait per tenant and subject: what is older is overtaken by what is newer.
const WAITING: i64 = 10;
/// Changes taken at once.
const AT_ONCE: i64 = 500;

/// Something is other than was last told.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Change {
    pub(crate) tenant: Uuid,
    pub(crate) subject: String,
    pub(crate) condition: String,
    pub(crate) before: Option<String>,
    pub(crate) since: Timestamp,
    pub(crate) now: Timestamp,
    pub(crate) name: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) error_code: Option<String>,
    pub(crate) link: Option<String>,
}

/// A message that is due.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Due {
    pub(crate) tenant: Uuid,
    pub(crate) number: i64,
    pub(crate) webhook_id: Uuid,
    pub(crate) payload: String,
    pub(crate) tries: i32,
}

/// How the webhook fares.
#[derive(Clone, Copy, Debug, FromRow)]
pub struct Standing {
    /// Messages that wait.
    pub waiting: i64,
    /// Messages that were given up in the last week.
    pub given_up: i64,
    /// Seconds since one was last taken.
    pub success_seconds: Option<f64>,
    /// Seconds since it began to fail, while it fails.
    pub failing_seconds: Option<f64>,
}

/// How the webhook fares, for a diagnosis.
///
/// # Errors
/// When the database cannot be asked.
pub async fn standing(pool: &PgPool) -> Result<Standing, sqlx::Error> {
    sqlx::query_as(
        "-- notifications::standing
         select
             (select count(*) from tocsin.notification where delivered_at is null and given_up_at is null) as waiting,
             (select count(*) from tocsin.notification where given_up_at is not null) as given_up,
             extract(epoch from now() - n.last_success_at)::float8 as success_seconds,
             extract(epoch from now() - n.failing_since)::float8 as failing_seconds
         from tocsin.notifier n",
    )
    .fetch_one(pool)
    .await
}

/// Becomes or stays the one that tells; `false` where another does.
pub(crate) async fn hold(db: impl PgExecutor<'_>, me: Uuid) -> Result<bool, sqlx::Error> {
    let statement = sqlx::query(sqlx::AssertSqlSafe(format!(
        "-- notifications::hold
         update tocsin.notifier set holder = $1, expires_at = now() + interval '{LEASE}'
         where holder = $1 or holder is null or expires_at <= now()"
    )));
    Ok(statement.bind(me).execute(db).await?.rows_affected() == 1)
}

/// Lets another one tell at once.
pub(crate) async fn let_go(db: impl PgExecutor<'_>, me: Uuid) -> Result<(), sqlx::Error> {
    let statement =
        sqlx::query("-- notifications::let_go\nupdate tocsin.notifier set holder = null, expires_at = '-infinity' where holder = $1");
    statement.bind(me).execute(db).await.map(drop)
}

/// Begins a transaction in which nobody else tells; `None` where another does by now.
pub(crate) async fn begin(pool: &PgPool, me: Uuid) -> Result<Option<PgTransaction<'static>>, sqlx::Error> {
    let mut tx = pool
        .begin_with("begin; set local statement_timeout = '9s'; set local lock_timeout = '4s'; set local idle_in_transaction_session_timeout = '9s'")
        .await?;
    let held = sqlx::query("-- notifications::begin\nselect from tocsin.notifier where holder = $1 and expires_at > now() for update");
    Ok(held.bind(me).fetch_optional(&mut *tx).await?.map(|_| tx))
}

/// What is other than was last told. A condition that was told of the same tenant less than `repeat_after` ago waits, so that
/// what goes to and fro comes to few messages; the last one is told when that time is over.
pub(crate) async fn changes(tx: &mut PgConnection, repeat_after: Duration) -> Result<Vec<Change>, sqlx::Error> {
    sqlx::query_as(
        "-- notifications::changes
         with tenants as (
             select t.tenant, 'state' as subject,
                 case when h.state <> 'active' then h.state when h.reason is null then 'well' else 'troubled' end as condition,
                 case
                     when h.state <> 'active' then h.since
                     when h.reason is null then now()
                     else (
                         select min(x.since) from tocsin.trouble x
                         where x.tenant = t.tenant and x.shown_from <= now() and (x.origin = 'sign-in' or x.origin = any (t.sources))
                     )
                 end as since,
                 t.name, h.reason, h.action, h.error_code,
                 case when t.portal_url <> '' then t.portal_url || '/?tid=' || t.tenant::text end as link
             from tocsin.tenant t join dash.tenant_health h on h.directory_id = t.tenant
             -- A fault of our own app is told once, and of none of its tenants.
             where not (h.state = 'active' and exists (select from tocsin.app_fault f where f.app = t.app and f.cloud = t.cloud))
                 and (t.state <> 'removed' or exists (select from tocsin.notified n where n.tenant = t.tenant))
         ), gaps as (
             select t.tenant, 'gap' as subject,
                 case when count(g.tenant) > 0 then 'open' else 'none' end as condition,
                 coalesce(min(g.noticed_at), now()) as since, t.name,
                 (array_agg(g.reason order by g.noticed_at desc))[1] as reason,
                 case when count(g.tenant) > 0 then
                     'nothing at first, it is read again by itself; if it stays: tocsin backfill start ' || tocsin.typed_name(t.name, t.tenant) || ' --since 7d'
                 end as action,
                 null as error_code,
                 case when t.portal_url <> '' then t.portal_url || '/?tid=' || t.tenant::text end as link
             from tocsin.tenant t
             left join tocsin.gap g on g.tenant = t.tenant and g.healed_at is null and g.kind <> 'expired'
             where t.state not in ('offboarding', 'removed')
                 and (g.tenant is not null or exists (select from tocsin.notified n where n.tenant = t.tenant and n.subject = 'gap'))
             group by t.tenant
         ), lost as (
             -- What Microsoft has no more never heals: each time that there is more of it, it is told.
             select t.tenant, 'lost' as subject, 'lost-' || count(*) as condition, max(g.noticed_at) as since, t.name,
                 (array_agg(g.reason order by g.noticed_at desc))[1] as reason,
                 'look into the portal of the customer for what lies between ' || to_char(min(tocsin.ticks_to_timestamptz(g.from_ticks)) at time zone 'UTC', 'YYYY-MM-DD')
                     || ' and ' || to_char(max(tocsin.ticks_to_timestamptz(g.to_ticks)) at time zone 'UTC', 'YYYY-MM-DD') as action,
                 null as error_code,
                 case when t.portal_url <> '' then t.portal_url || '/?tid=' || t.tenant::text end as link
             from tocsin.tenant t join tocsin.gap g on g.tenant = t.tenant and g.kind = 'expired'
             where t.state not in ('offboarding', 'removed')
             group by t.tenant
         ), apps as (
             select $1 as tenant, 'app:' || f.app || '@' || f.cloud as subject, 'refused' as condition, f.since,
                 null as name, f.reason, f.action, f.error_code, null as link
             from tocsin.app_fault f
             union all
             select n.tenant, n.subject, 'accepted', now(), null, null, null, null, null
             from tocsin.notified n
             where n.tenant = $1 and n.subject like 'app:%'
                 and not exists (select from tocsin.app_fault f where 'app:' || f.app || '@' || f.cloud = n.subject)
         ), current as (
             select * from tenants union all select * from gaps union all select * from lost union all select * from apps
         )
         select c.tenant, c.subject, c.condition, n.condition as before, coalesce(c.since, now()) as since, now() as now,
             c.name, c.reason, c.action, c.error_code, c.link
         from current c
         left join tocsin.notified n using (tenant, subject)
         where c.condition is distinct from n.condition
             and not exists (
                 select from tocsin.notification m
                 where m.tenant = c.tenant and m.subject = c.subject and m.condition = c.condition
                     and m.created_at > now() - $2 * interval '1 second'
             )
         order by c.tenant, c.subject
         limit $3",
    )
    .bind(EVERYBODY)
    .bind(repeat_after.as_secs_f64())
    .bind(AT_ONCE)
    .fetch_all(tx)
    .await
}

/// Notes that this is what was told last.
pub(crate) async fn note(tx: &mut PgConnection, change: &Change) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- notifications::note
         insert into tocsin.notified (tenant, subject, condition) values ($1, $2, $3)
         on conflict (tenant, subject) do update set condition = excluded.condition, since = now()",
    )
    .bind(change.tenant)
    .bind(&change.subject)
    .bind(&change.condition)
    .execute(tx)
    .await
    .map(drop)
}

/// Puts a message into the outbox. Older ones of the same subject that still wait are overtaken when they are too many.
pub(crate) async fn put(tx: &mut PgConnection, tenant: Uuid, subject: &str, condition: &str, message: &Message) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- notifications::put (overtaken)
         update tocsin.notification set given_up_at = now(), last_error = 'overtaken by newer messages'
         where (tenant, number) in (
             select tenant, number from tocsin.notification
             where tenant = $1 and subject = $2 and delivered_at is null and given_up_at is null
             order by number desc offset $3
         )",
    )
    .bind(tenant)
    .bind(subject)
    .bind(WAITING - 1)
    .execute(&mut *tx)
    .await?;
    sqlx::query("-- notifications::put\ninsert into tocsin.notification (tenant, subject, condition, payload) values ($1, $2, $3, $4)")
        .bind(tenant)
        .bind(subject)
        .bind(condition)
        .bind(message.to_json())
        .execute(tx)
        .await
        .map(drop)
}

/// When the last sign of life was given, and the time of the database; and how many tenants are seen, blind and others.
#[derive(Clone, Copy, Debug, FromRow)]
pub(crate) struct Life {
    pub(crate) now: Timestamp,
    pub(crate) due: bool,
    pub(crate) seen: i64,
    pub(crate) blind: i64,
    pub(crate) others: i64,
}

pub(crate) async fn life(tx: &mut PgConnection, every: Duration) -> Result<Life, sqlx::Error> {
    sqlx::query_as(
        "-- notifications::life
         with due as (
             select $2 > 0 and not exists (
                 select from tocsin.notified where tenant = $1 and subject = 'alive' and since > now() - $2 * interval '1 second'
             ) as it
         )
         select now() as now, due.it as due,
             count(*) filter (where h.state = 'active' and h.reason is null) as seen,
             count(*) filter (where h.state in ('needs-consent', 'needs-customer') or h.state = 'active' and h.reason is not null) as blind,
             count(*) filter (where h.state in ('awaiting-consent', 'paused')) as others
         from due left join dash.tenant_health h on due.it
         group by due.it",
    )
    .bind(EVERYBODY)
    .bind(every.as_secs_f64())
    .fetch_one(tx)
    .await
}

pub(crate) async fn note_life(tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- notifications::note_life
         insert into tocsin.notified (tenant, subject, condition) values ($1, 'alive', 'alive')
         on conflict (tenant, subject) do update set since = now()",
    )
    .bind(EVERYBODY)
    .execute(tx)
    .await
    .map(drop)
}

/// The oldest waiting message of each tenant, those that may be tried now. A tenant's order is kept; tenants do not wait for
/// each other.
pub(crate) async fn due(db: impl PgExecutor<'_>, at_most: i64) -> Result<Vec<Due>, sqlx::Error> {
    sqlx::query_as(
        "-- notifications::due
         select tenant, number, webhook_id, payload, tries
         from (
             select distinct on (tenant) * from tocsin.notification
             where delivered_at is null and given_up_at is null
             order by tenant, number
         ) heads
         where next_try_at <= now()
         order by number
         limit $1",
    )
    .bind(at_most)
    .fetch_all(db)
    .await
}

/// It was taken.
pub(crate) async fn delivered(pool: &PgPool, due: &Due) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- notifications::delivered
         with taken as (
             update tocsin.notification set delivered_at = now(), tries = tries + 1, last_error = null where tenant = $1 and number = $2
         )
         update tocsin.notifier set last_success_at = now(), failing_since = null",
    )
    .bind(due.tenant)
    .bind(due.number)
    .execute(pool)
    .await
    .map(drop)
}

/// It was not; whether it is given up now.
pub(crate) async fn failed(pool: &PgPool, due: &Due, error: &str, pause: Duration, give_up_after: Duration) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "-- notifications::failed
         with tried as (
             update tocsin.notification set tries = tries + 1, last_error = $3, next_try_at = now() + $4 * interval '1 second',
                 given_up_at = case when created_at < now() - $5 * interval '1 second' then now() end
             where tenant = $1 and number = $2
             returning given_up_at is not null as over
         ), failing as (
             update tocsin.notifier set failing_since = coalesce(failing_since, now())
         )
         select over from tried",
    )
    .bind(due.tenant)
    .bind(due.number)
    .bind(error)
    .bind(pause.as_secs_f64())
    .bind(give_up_after.as_secs_f64())
    .fetch_one(pool)
    .await
}

/// Since when it fails, in seconds since 1970; 0 while it works.
pub(crate) async fn failing_since(db: impl PgExecutor<'_>) -> Result<f64, sqlx::Error> {
    sqlx::query_scalar(
        "-- notifications::failing_since\nselect coalesce(extract(epoch from failing_since), 0)::float8 from tocsin.notifier",
    )
    .fetch_one(db)
    .await
}

/// Deletes what has been done with for a week, a piece at a time.
pub(crate) async fn prune(db: impl PgExecutor<'_>) -> Result<(), sqlx::Error> {
    let statement = sqlx::query(
        "-- notifications::prune
         delete from tocsin.notification where ctid = any (array(
             select ctid from tocsin.notification where coalesce(delivered_at, given_up_at) < now() - interval '7 days' limit 1000
         ))",
    );
    statement.execute(db).await.map(drop)
}
