//! `tocsin.reader_tenant`, the roles that it is about, and whether row security binds them.

use domain::TenantId;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

/// A role, as far as it matters for what it sees.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct RoleRow {
    pub(crate) name: String,
    pub(crate) login: bool,
    /// Member of `tocsin_reader`.
    pub(crate) sees_all: bool,
    /// May use schema dash.
    pub(crate) reads: bool,
    /// Names of the customers that it may see.
    pub(crate) tenants: Vec<String>,
    /// As in `statement_timeout=15s`.
    pub(crate) settings: Vec<String>,
    /// What it may do besides, each a sentence without its subject.
    pub(crate) excess: Vec<String>,
}

/// The role of this name, or all that read schema dash without being one of ours.
pub(crate) async fn roles(db: impl PgExecutor<'_>, name: Option<&str>) -> Result<Vec<RoleRow>, sqlx::Error> {
    sqlx::query_as(
        "-- readers::roles
         with role as (
             select r.*, has_schema_privilege(r.oid, 'dash', 'usage') as reads,
                 coalesce(pg_has_role(r.oid, to_regrole('tocsin_reader')::oid, 'member'), false) as sees_all,
                 array(select t.name from tocsin.reader_tenant g join tocsin.tenant t using (tenant) where g.role = r.rolname order by t.name) as tenants
             from pg_roles r
         )
         select rolname::text as name, rolcanlogin as login, sees_all, reads, tenants, coalesce(rolconfig, '{}') as settings,
             array_remove(array[
                 case when rolsuper then 'is a superuser' end,
                 case when rolbypassrls then 'is exempt from row security' end,
                 case when rolcreaterole then 'may make roles' end,
                 case when rolreplication then 'may replicate the whole server' end,
                 case when sees_all and not rolsuper and cardinality(tenants) > 0 then 'is a member of tocsin_reader, which sees every customer' end,
                 case when not rolsuper and (has_schema_privilege(oid, 'tocsin', 'usage') or exists (
                     select from pg_class c
                     where c.relnamespace = 'tocsin'::regnamespace and c.relkind in ('r', 'p', 'v')
                         and has_any_column_privilege(role.oid, c.oid, 'select, insert, update')
                 )) then 'has rights in schema tocsin' end
             ] || array(
                 select 'is a member of ' || m.rolname
                 from pg_roles m
                 where not role.rolsuper and m.oid <> role.oid and m.rolname <> 'tocsin_reader' and pg_has_role(role.oid, m.oid, 'member')
                 order by m.rolname
             ), null) as excess
         from role
         where case
             when $1 is not null then rolname = $1
             else cardinality(tenants) > 0 or (
                 reads and not rolsuper and rolname !~ '^(pg|tocsin)_' and not pg_has_role(oid, 'pg_read_all_data', 'member')
                 and not pg_has_role(oid, (select nspowner from pg_namespace where nspname = 'tocsin'), 'member')
                 and not coalesce(pg_has_role(oid, to_regrole('tocsin_ingest')::oid, 'member'), false)
             )
         end
         order by rolname",
    )
    .bind(name)
    .fetch_all(db)
    .await
}

/// Roles that may see somebody, and are not there.
pub(crate) async fn gone(db: impl PgExecutor<'_>) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "-- readers::gone
         select distinct g.role::text from tocsin.reader_tenant g where not exists (select from pg_roles r where r.rolname = g.role) order by 1",
    )
    .fetch_all(db)
    .await
}

/// Why row security does not bind readers, a sentence each.
pub(crate) async fn leaks(db: impl PgExecutor<'_>) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "-- readers::leaks
         select distinct 'the views belong to ' || o.rolname || ', whom row security does not bind'
         from pg_class v join pg_roles o on o.oid = v.relowner
         where v.relnamespace = 'dash'::regnamespace and v.relkind = 'v' and (o.rolsuper or o.rolbypassrls)
         union all
         select 'tocsin.' || c.relname || ' is not guarded'
         from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant' and not a.attisdropped
         where c.relnamespace = 'tocsin'::regnamespace and c.relkind in ('r', 'p') and not (c.relrowsecurity and c.relforcerowsecurity)
         order by 1",
    )
    .fetch_all(db)
    .await
}

/// Lets a role see these customers; answers those that it did not see before.
pub(crate) async fn grant(db: impl PgExecutor<'_>, role: &str, tenants: &[TenantId]) -> Result<Vec<TenantId>, sqlx::Error> {
    let statement = sqlx::query_scalar(
        "-- readers::grant
         insert into tocsin.reader_tenant (tenant, role) select unnest($1::uuid[]), $2::text::name on conflict do nothing returning tenant",
    );
    ids(statement.bind(raw(tenants)).bind(role).fetch_all(db).await)
}

/// Takes the sight of these customers from a role, or of all; answers those that it saw.
pub(crate) async fn revoke(db: impl PgExecutor<'_>, role: &str, tenants: Option<&[TenantId]>) -> Result<Vec<TenantId>, sqlx::Error> {
    let statement = sqlx::query_scalar(
        "-- readers::revoke
         delete from tocsin.reader_tenant where role = $1 and ($2::uuid[] is null or tenant = any ($2)) returning tenant",
    );
    ids(statement.bind(role).bind(tenants.map(raw)).fetch_all(db).await)
}

/// Nobody sees this customer any more; answers how many did.
pub(crate) async fn forget(db: impl PgExecutor<'_>, tenant: TenantId) -> Result<u64, sqlx::Error> {
    let statement = sqlx::query("-- readers::forget\ndelete from tocsin.reader_tenant where tenant = $1").bind(tenant.0);
    Ok(statement.execute(db).await?.rows_affected())
}

/// Lets a role read the views.
pub(crate) async fn show_dash(db: impl PgExecutor<'_>, role: &str) -> Result<(), sqlx::Error> {
    sqlx::query("/* readers::show_dash */ select tocsin.show_dash($1::text::name)").bind(role).execute(db).await.map(drop)
}

/// The name of a role as a statement needs it.
pub(crate) async fn quoted(db: impl PgExecutor<'_>, role: &str) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("/* readers::quoted */ select quote_ident($1)").bind(role).fetch_one(db).await
}

/// From here to the end of the transaction this is the login itself, which may have been given the right to make roles.
pub(crate) async fn be_the_login(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("set local role none").execute(db).await.map(drop)
}

/// From here to the end of the transaction this is the owner of the schemas.
pub(crate) async fn be_the_owner(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    let sql = "/* readers::be_the_owner */ select quote_ident(pg_get_userbyid(nspowner)) from pg_namespace where nspname = 'tocsin'";
    let owner: String = sqlx::query_scalar(sql).fetch_one(&mut *db).await?;
    statement(db, format!("set local role {owner}")).await
}

/// Runs a statement in which names are quoted already.
pub(crate) async fn statement(db: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(db).await.map(drop)
}

fn raw(tenants: &[TenantId]) -> Vec<Uuid> {
    tenants.iter().map(|tenant| tenant.0).collect()
}

fn ids(rows: Result<Vec<Uuid>, sqlx::Error>) -> Result<Vec<TenantId>, sqlx::Error> {
    Ok(rows?.into_iter().map(TenantId).collect())
}
