//! `tocsin.link` and `tocsin.sign_in`: invitations, and the sign-ins begun from them.

use std::collections::HashSet;
use std::time::Duration;

use domain::{AppName, CloudName, LinkKind, TenantId, TenantState};
use jiff::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgExecutor, PgTransaction, Row as _};
use uuid::Uuid;

use crate::links::{Accepted, Invited, LinkStatus, Step};
use crate::store::tenants::{sources_of, state_of, unknown_word};
use crate::store::{candidates, exactly_one, proofs};

/// A link on its way into the database.
pub(crate) struct NewLink<'a> {
    pub(crate) link: Uuid,
    pub(crate) kind: LinkKind,
    pub(crate) replaces: bool,
    pub(crate) secret_hash: &'a [u8],
    pub(crate) life: Duration,
}

/// Ends the open link of a tenant, if there is one, and with it what its sign-ins brought; answers whether there was.
pub(crate) async fn end_open(tx: &mut PgTransaction<'_>, tenant: TenantId, outcome: &str) -> Result<bool, sqlx::Error> {
    let result = sqlx::query(
        "-- links::end_open
         update tocsin.link set ended_at = now(), outcome = $2, proving_at = null where tenant = $1 and ended_at is null",
    )
    .bind(tenant.0)
    .bind(outcome)
    .execute(&mut **tx)
    .await?;
    candidates::forget_all(tx, tenant).await?;
    Ok(result.rows_affected() > 0)
}

/// Ends this link because a sign-in of it has done its work, and with it what all of them brought; `false` when it had
/// ended before.
pub(crate) async fn end_this(tx: &mut PgTransaction<'_>, accepted: &Accepted) -> Result<bool, sqlx::Error> {
    let result = sqlx::query(
        "-- links::end_this
         update tocsin.link set ended_at = now(), outcome = 'linked', proving_at = null, proving = $3
         where tenant = $1 and link = $2 and ended_at is null",
    )
    .bind(accepted.invited.tenant.0)
    .bind(accepted.invited.link)
    .bind(accepted.sign_in)
    .execute(&mut **tx)
    .await?;
    proofs::end(tx, accepted.invited.tenant, accepted.sign_in).await?;
    candidates::forget_all(tx, accepted.invited.tenant).await?;
    Ok(result.rows_affected() == 1)
}

/// Makes a link; answers when it expires. Links that ended long ago go, and their sign-ins with them.
pub(crate) async fn insert(tx: &mut PgTransaction<'_>, tenant: TenantId, new: &NewLink<'_>) -> Result<Timestamp, sqlx::Error> {
    let old = sqlx::query("-- links::forget_old\ndelete from tocsin.link where tenant = $1 and ended_at < now() - interval '90 days'");
    old.bind(tenant.0).execute(&mut **tx).await?;
    let expires: jiff_sqlx::Timestamp = sqlx::query_scalar(
        "-- links::insert
         insert into tocsin.link (tenant, link, kind, replaces, secret_hash, expires_at)
         values ($1, $2, $3, $4, $5, now() + $6 * interval '1 second') returning expires_at",
    )
    .bind(tenant.0)
    .bind(new.link)
    .bind(new.kind.as_str())
    .bind(new.replaces)
    .bind(new.secret_hash)
    .bind(new.life.as_secs_f64())
    .fetch_one(&mut **tx)
    .await?;
    Ok(expires.to_jiff())
}

/// A link as it stands, with whom it invites.
pub(crate) struct StoredLink {
    pub(crate) invited: Invited,
    pub(crate) secret_hash: Vec<u8>,
    pub(crate) expired: bool,
    pub(crate) ended: Option<String>,
    /// As in `dash.tenant_health`.
    pub(crate) tenant_state: TenantState,
}

fn kind_of(row: &PgRow) -> Result<LinkKind, sqlx::Error> {
    row.try_get::<String, _>("kind")?.parse().map_err(|error| unknown_word("kind", error))
}

impl FromRow<'_, PgRow> for StoredLink {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            invited: Invited {
                tenant: TenantId(row.try_get("tenant")?),
                link: row.try_get("link")?,
                kind: kind_of(row)?,
                replaces: row.try_get("replaces")?,
                name: row.try_get("name")?,
                cloud: CloudName::new(row.try_get::<String, _>("cloud")?),
                app: AppName::new(row.try_get::<String, _>("app")?),
                sources: sources_of(row)?,
                expires_at: row.try_get::<jiff_sqlx::Timestamp, _>("expires_at")?.to_jiff(),
            },
            secret_hash: row.try_get("secret_hash")?,
            expired: row.try_get("expired")?,
            ended: row.try_get("outcome")?,
            tenant_state: state_of(row)?,
        })
    }
}

/// The link of this id.
pub(crate) async fn find(db: impl PgExecutor<'_>, tenant: TenantId, link: Uuid) -> Result<Option<StoredLink>, sqlx::Error> {
    sqlx::query_as(
        "-- links::find
         select l.tenant, l.link, l.kind, l.replaces, l.secret_hash, l.expires_at, l.expires_at <= now() as expired, l.outcome,
             t.name, t.cloud, t.app, t.sources, h.state
         from tocsin.link l join tocsin.tenant t using (tenant) join dash.tenant_health h on h.directory_id = l.tenant
         where l.tenant = $1 and l.link = $2",
    )
    .bind(tenant.0)
    .bind(link)
    .fetch_optional(db)
    .await
}

/// Notes that somebody looked at a link; the first time is kept.
pub(crate) async fn note_opened(db: impl PgExecutor<'_>, tenant: TenantId, link: Uuid) -> Result<(), sqlx::Error> {
    let statement = sqlx::query(
        "-- links::note_opened
         update tocsin.link set opened_at = now() where tenant = $1 and link = $2 and opened_at is null",
    );
    statement.bind(tenant.0).bind(link).execute(db).await.map(drop)
}

/// A sign-in on its way into the database.
pub(crate) struct NewSignIn<'a> {
    pub(crate) sign_in: Uuid,
    pub(crate) link: Uuid,
    pub(crate) state_hash: &'a [u8],
    pub(crate) browser_hash: &'a [u8],
    pub(crate) redirect_uri: &'a str,
    pub(crate) life: Duration,
}

/// Begins a sign-in, unless `most` of this link are under way already; `false` then. Those that ended go.
pub(crate) async fn begin_sign_in(
    tx: &mut PgTransaction<'_>,
    tenant: TenantId,
    new: &NewSignIn<'_>,
    most: i64,
) -> Result<bool, sqlx::Error> {
    let old =
        sqlx::query("-- links::forget_sign_ins\ndelete from tocsin.sign_in where tenant = $1 and expires_at < now() - interval '1 day'");
    old.bind(tenant.0).execute(&mut **tx).await?;
    let result = sqlx::query(
        "-- links::begin_sign_in
         insert into tocsin.sign_in (tenant, sign_in, link, state_hash, browser_hash, redirect_uri, expires_at)
         select $1, $2, $3, $4, $5, $6, now() + $7 * interval '1 second'
         where (select count(*) from tocsin.sign_in where tenant = $1 and link = $3 and used_at is null and expires_at > now()) < $8",
    )
    .bind(tenant.0)
    .bind(new.sign_in)
    .bind(new.link)
    .bind(new.state_hash)
    .bind(new.browser_hash)
    .bind(new.redirect_uri)
    .bind(new.life.as_secs_f64())
    .bind(most)
    .execute(&mut **tx)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// A sign-in as it stands.
#[derive(FromRow)]
pub(crate) struct StoredSignIn {
    pub(crate) link: Uuid,
    pub(crate) state_hash: Vec<u8>,
    pub(crate) browser_hash: Vec<u8>,
    pub(crate) redirect_uri: String,
    pub(crate) expired: bool,
    pub(crate) used: bool,
}

/// The sign-in of this id, kept from being answered by anybody else until the end of the transaction.
pub(crate) async fn lock_sign_in(tx: &mut PgTransaction<'_>, tenant: TenantId, sign_in: Uuid) -> Result<Option<StoredSignIn>, sqlx::Error> {
    sqlx::query_as(
        "-- links::lock_sign_in
         select link, state_hash, browser_hash, redirect_uri, expires_at <= now() as expired, used_at is not null as used
         from tocsin.sign_in where tenant = $1 and sign_in = $2 for update",
    )
    .bind(tenant.0)
    .bind(sign_in)
    .fetch_optional(&mut **tx)
    .await
}

/// The link that the browser with this key has begun a sign-in from.
pub(crate) async fn of_browser(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    sign_in: Uuid,
    browser_hash: &[u8],
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar("-- links::of_browser\nselect link from tocsin.sign_in where tenant = $1 and sign_in = $2 and browser_hash = $3")
        .bind(tenant.0)
        .bind(sign_in)
        .bind(browser_hash)
        .fetch_optional(db)
        .await
}

/// Marks a sign-in as answered and being proved, and its link with an empty checklist.
pub(crate) async fn use_sign_in(tx: &mut PgTransaction<'_>, tenant: TenantId, sign_in: Uuid, link: Uuid) -> Result<(), sqlx::Error> {
    let used = sqlx::query(
        "-- links::use_sign_in\nupdate tocsin.sign_in set used_at = now(), proving_at = now() where tenant = $1 and sign_in = $2 and used_at is null",
    );
    exactly_one(&used.bind(tenant.0).bind(sign_in).execute(&mut **tx).await?)?;
    let proving = sqlx::query(
        "-- links::begin_proof
         update tocsin.link set proving_at = now(), proving = $3, steps = '[]' where tenant = $1 and link = $2",
    );
    exactly_one(&proving.bind(tenant.0).bind(link).bind(sign_in).execute(&mut **tx).await?)
}

/// Writes the checklist of a sign-in, if it is the one that its link shows. `done` says that the proof has ended.
pub(crate) async fn put_steps(db: impl PgExecutor<'_>, accepted: &Accepted, steps: &[Step], done: bool) -> Result<(), sqlx::Error> {
    sqlx::query(
        "-- links::put_steps
         update tocsin.link set steps = $4, proving_at = case when $5 then null else proving_at end
         where tenant = $1 and link = $2 and proving = $3",
    )
    .bind(accepted.invited.tenant.0)
    .bind(accepted.invited.link)
    .bind(accepted.sign_in)
    .bind(sqlx::types::Json(steps))
    .bind(done)
    .execute(db)
    .await
    .map(drop)
}

impl FromRow<'_, PgRow> for LinkStatus {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let at =
            |column: &str| Ok::<_, sqlx::Error>(row.try_get::<Option<jiff_sqlx::Timestamp>, _>(column)?.map(jiff_sqlx::Timestamp::to_jiff));
        Ok(Self {
            link: row.try_get("link")?,
            kind: kind_of(row)?,
            expires_at: row.try_get::<jiff_sqlx::Timestamp, _>("expires_at")?.to_jiff(),
            expired: row.try_get("expired")?,
            opened_at: at("opened_at")?,
            proving_for: row.try_get::<Option<f64>, _>("proving_for")?.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))),
            outcome: row.try_get("outcome")?,
            steps: row.try_get::<sqlx::types::Json<Vec<Step>>, _>("steps")?.0,
            tenant_state: state_of(row)?,
        })
    }
}

/// How far the newest invitation of a tenant has come.
pub(crate) async fn newest(db: impl PgExecutor<'_>, tenant: TenantId) -> Result<Option<LinkStatus>, sqlx::Error> {
    sqlx::query_as(
        "-- links::newest
         select l.link, l.kind, l.expires_at, l.expires_at <= now() as expired, l.opened_at, l.outcome, l.steps, h.state,
             extract(epoch from now() - l.proving_at)::float8 as proving_for
         from tocsin.link l join dash.tenant_health h on h.directory_id = l.tenant
         where l.tenant = $1 order by l.made_at desc limit 1",
    )
    .bind(tenant.0)
    .fetch_optional(db)
    .await
}

/// How far an invitation has come.
pub(crate) async fn status(db: impl PgExecutor<'_>, tenant: TenantId, link: Uuid) -> Result<Option<LinkStatus>, sqlx::Error> {
    sqlx::query_as(
        "-- links::status
         select l.link, l.kind, l.expires_at, l.expires_at <= now() as expired, l.opened_at, l.outcome, l.steps, h.state,
             extract(epoch from now() - l.proving_at)::float8 as proving_for
         from tocsin.link l join dash.tenant_health h on h.directory_id = l.tenant
         where l.tenant = $1 and l.link = $2",
    )
    .bind(tenant.0)
    .bind(link)
    .fetch_optional(db)
    .await
}

/// The ids of open links, and of sign-ins that ended no more than an hour ago.
pub(crate) async fn open_tickets(db: impl PgExecutor<'_>) -> Result<HashSet<Uuid>, sqlx::Error> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "-- links::open_tickets
         select link from tocsin.link where ended_at is null and expires_at > now()
         union all select sign_in from tocsin.sign_in where expires_at > now() - interval '1 hour'",
    )
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().collect())
}
