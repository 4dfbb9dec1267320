//! I22, I23: who reads through schema `dash` sees the customers he was given and nothing of the others.
//!
//! Here is the database that the stories below share: owned as in production, with roles, and with rows of three
//! customers in every table, so marked that a row of the wrong one is known by a word in it.

mod catalogue;
mod lifecycle;
mod matrix;
mod probes;

use domain::TenantId;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool};
use uuid::Uuid;

/// The customer whose role asks. Every row of his has `ourown` or `0a0a0a0a` in it.
const OURS: TenantId = TenantId(Uuid::from_u128(0x0a0a_0a0a_0000_4000_8000_0000_0000_0001));
/// Two others. Every row of theirs has `stranger` or `f0e1f0e1` in it.
const THEIRS: [TenantId; 2] = [
    TenantId(Uuid::from_u128(0xf0e1_f0e1_0000_4000_8000_0000_0000_0001)),
    TenantId(Uuid::from_u128(0xf0e1_f0e1_0000_4000_8000_0000_0000_0002)),
];

/// A database as `tocsin db migrate` leaves it, and roles of its own.
struct Guarded {
    /// As a superuser.
    pool: PgPool,
    /// Sees [`OURS`].
    customer: String,
    /// Sees the first of [`THEIRS`].
    other: String,
    /// Sees every customer.
    all: String,
    /// May become each of these, as a pool of connections does that serves several people.
    pooler: String,
}

impl Guarded {
    async fn new(pool: PgPool) -> Self {
        migrate(&pool).await;
        let [customer, other, all, pooler] = ["customer", "other", "all", "pooler"].map(|who| format!("{who}_{}", Uuid::new_v4().simple()));
        let roles = format!(
            "create role {customer} login noinherit; create role {other} login noinherit; create role {all} login in role tocsin_reader;
             create role {pooler} login noinherit in role {customer}, {other}, {all};
             select tocsin.show_dash('{customer}'), tocsin.show_dash('{other}')"
        );
        run(&pool, &roles).await;
        for tenant in [OURS, THEIRS[0], THEIRS[1]] {
            fill(&pool, tenant).await;
        }
        let seen = format!("insert into tocsin.reader_tenant (tenant, role) values ('{OURS}', '{customer}'), ('{}', '{other}')", THEIRS[0]);
        run(&pool, &seen).await;
        // So that the statistics of the server hold values of everybody.
        run(&pool, "analyze").await;
        Self { pool, customer, other, all, pooler }
    }

    /// A session that began as this role, and cannot become what it was not given.
    async fn login(&self, role: &str) -> PgConnection {
        login(&self.pool, role).await
    }

    async fn end(self) {
        let Self { pool, customer, other, all, pooler } = self;
        for role in [pooler, customer, other, all] {
            run(&pool, &format!("drop owned by {role}; drop role {role}")).await;
        }
    }
}

async fn login(pool: &PgPool, role: &str) -> PgConnection {
    let options: PgConnectOptions = (*pool.connect_options()).clone();
    options.username(role).connect().await.unwrap()
}

/// Migrates as `tocsin_owner`, with all roles there.
async fn migrate(pool: &PgPool) {
    for role in ["tocsin_owner", "tocsin_ingest", "tocsin_reader"] {
        // Every test of this server makes them, at the same time.
        run(pool, &format!("do $$ begin create role {role}; exception when duplicate_object or unique_violation then null; end $$")).await;
    }
    let database: String = sqlx::query_scalar("select quote_ident(current_database())").fetch_one(pool).await.unwrap();
    run(pool, &format!("grant create on database {database} to tocsin_owner")).await;
    let mut owner: PgConnection = pool.connect_options().connect().await.unwrap();
    sqlx::raw_sql("set role tocsin_owner; create schema tocsin").execute(&mut owner).await.unwrap();
    let mut migrator = sqlx::migrate!("../../migrations");
    migrator.dangerous_set_table_name("tocsin.schema_history");
    migrator.run(&mut owner).await.unwrap();
    sqlx::raw_sql(include_str!("../../../../migrations/grants.sql")).execute(&mut owner).await.unwrap();
    owner.close().await.unwrap();
}

/// Rows of a customer in every table, with the customer's mark in each.
async fn fill(pool: &PgPool, tenant: TenantId) {
    let mark = if tenant == OURS { "ourown" } else { "stranger" };
    let sql = include_str!("readers/fill.sql").replace("TENANT", &tenant.to_string()).replace("MARK", mark);
    run(pool, &sql).await;
}

async fn run(pool: &PgPool, sql: &str) {
    if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await {
        panic!("{sql}: {error}");
    }
}

/// All names that this query finds.
async fn names(pool: &PgPool, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

/// The views of `dash`, by name.
async fn views(pool: &PgPool) -> Vec<String> {
    names(pool, "select relname::text from pg_class where relnamespace = 'dash'::regnamespace and relkind = 'v' order by 1").await
}

/// The tables of `tocsin`, partitions included, by name.
async fn tables(pool: &PgPool) -> Vec<String> {
    names(pool, "select relname::text from pg_class where relnamespace = 'tocsin'::regnamespace and relkind in ('r', 'p') order by 1").await
}
