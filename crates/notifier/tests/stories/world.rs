//! Tenants in a database, and a notifier that tells of them quickly.

use std::sync::Arc;
use std::time::Duration;

use domain::{SystemChance, SystemClock};
use notifier::{Client, Egress, Endpoint, Notifier, Settings};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const HERE: Egress = Egress { allow_private: false, allow_plaintext: true };

/// As in production, but for the pauses, and without a sign of life.
pub(crate) fn hasty() -> Settings {
    Settings {
        look_every: Duration::from_millis(50),
        repeat_after: Duration::ZERO,
        alive_every: Duration::ZERO,
        first_pause: Duration::from_millis(100),
        ..Settings::default()
    }
}

/// A running notifier.
pub(crate) struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), String>>,
}

pub(crate) fn start(pool: &PgPool, url: &str, settings: Settings) -> Running {
    let url = url.to_owned();
    let endpoints = Arc::new(move || Endpoint::parse(&url, SECRET, HERE).map_err(|error| error.to_string()));
    let client = Client::new(HERE).unwrap();
    let notifier = Notifier::new(pool.clone(), settings, client, endpoints, Arc::new(SystemClock), Arc::new(SystemChance));
    let stop = CancellationToken::new();
    Running { task: tokio::spawn(notifier.run(stop.clone())), stop }
}

impl Running {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// Active tenants of these names; the number of one is its place, from 1.
pub(crate) async fn tenants(pool: &PgPool, names: &[&str]) {
    for (at, name) in names.iter().enumerate() {
        run(
            pool,
            &format!(
                "insert into tocsin.tenant (tenant, name, cloud, app, sources, state, portal_url)
                 values ('00000000-0000-0000-0000-00000000000{}', '{name}', 'lab', 'main', '{{graph-alerts}}', 'active', 'https://portal.example')",
                at + 1
            ),
        )
        .await;
    }
}

/// This tenant needs consent now, as the registry would write it.
pub(crate) async fn blind(pool: &PgPool, number: usize) {
    run(
        pool,
        &format!(
            "insert into tocsin.trouble (tenant, origin, verdict, reason, action, error_code)
             values ('00000000-0000-0000-0000-00000000000{number}', 'sign-in', 'needs-consent', 'the refresh token was revoked',
                 'the customer: sign in again, with: tocsin tenant invite {{tenant}}', 'AADSTS50173')"
        ),
    )
    .await;
}

/// Nothing is wrong with anybody.
pub(crate) async fn heal(pool: &PgPool) {
    run(pool, "delete from tocsin.trouble").await;
}

pub(crate) async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await.unwrap();
}

/// Waits until this query counts so many.
pub(crate) async fn counts(pool: &PgPool, query: &str, wanted: i64) {
    let mut seen = -1;
    for _ in 0..1000 {
        seen = sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {query}"))).fetch_one(pool).await.unwrap();
        if seen == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{query}: {seen} and not {wanted}");
}
