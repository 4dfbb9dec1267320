//! Measures how long a full page takes to become durable: 1,000 alerts of 5.7 kB, in slices of 3 MB as
//! the poller cuts them, first as news and then, several times, as a page read again.
//!
//! `cargo run --release -p sink --example commit_page -- postgres://user@host/database [pages]`
//!
//! Makes a database of its own on that server, and drops it at the end.

#![allow(clippy::print_stdout, reason = "an example prints what it measured")]

use std::error::Error;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use domain::health::StageStatus;
use domain::{
    AlertBatch, AlertFacts, AlertId, AlertRecord, Clock, Committed, ContentHash, CursorMove, Epoch, Fence, Purpose, Record, SinkMessage,
    Source, SystemClock, TenantId, Ticks,
};
use sink::{Config, PgStore, SinkWorker};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const ALERTS: usize = 1_000;
const BYTES: usize = 5_700;
const SLICE: usize = 3_000_000;

type AnyError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("say which server: postgres://user@host/database")?;
    let pages: usize = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let server = PgConnectOptions::from_str(&url)?;
    let admin = PgPoolOptions::new().max_connections(1).connect_with(server.clone()).await?;
    let database = format!("sink_commit_page_{}", std::process::id());
    sqlx::query(AssertSqlSafe(format!("create database {database}"))).execute(&admin).await?;
    let pool = PgPoolOptions::new().max_connections(4).connect_with(server.database(&database)).await?;
    let outcome = measure(&pool, pages).await;
    pool.close().await;
    sqlx::query(AssertSqlSafe(format!("drop database {database} with (force)"))).execute(&admin).await?;
    outcome
}

async fn measure(pool: &PgPool, pages: usize) -> Result<(), AnyError> {
    sqlx::migrate!("../../migrations").run(pool).await?;
    let fence = Fence { tenant: TenantId(Uuid::from_u128(1)), epoch: Epoch(1) };
    sqlx::raw_sql(
        "insert into tocsin.tenant (tenant, name, cloud, app, sources, state)
         values ('00000000-0000-0000-0000-000000000001', 'one', 'global', 'main', '{graph-alerts}', 'active');
         insert into tocsin.lease (tenant, epoch) values ('00000000-0000-0000-0000-000000000001', 1)",
    )
    .execute(pool)
    .await?;
    let (sender, inbox) = mpsc::channel(4);
    let (publish, _status) = watch::channel(StageStatus::well(SystemClock.now()));
    let stop = CancellationToken::new();
    let config = Config::default();
    let worker = SinkWorker::new(PgStore::new(pool.clone(), &config), config, Arc::new(SystemClock), inbox, publish);
    let running = tokio::spawn(worker.run(stop.clone()));
    for (pass, name) in ["first", "again"].into_iter().enumerate() {
        let mut times = Vec::new();
        for page in 0..pages {
            let (took, whole) = commit(&sender, fence, page).await?;
            if (whole.new, whole.duplicate) != if pass == 0 { (ALERTS as u64, 0) } else { (0, ALERTS as u64) } {
                return Err(format!("not as expected: {whole:?}").into());
            }
            times.push(took);
        }
        let opening = times[0].as_secs_f64();
        times.sort_unstable();
        let (median, worst) = (times[pages / 2].as_secs_f64(), times[pages - 1].as_secs_f64());
        println!(
            "{name}: {ALERTS} alerts of {BYTES} bytes, {pages} pages: opening page {opening:.3} s, median {median:.3} s, worst {worst:.3} s"
        );
    }
    stop.cancel();
    running.await??;
    Ok(())
}

/// Sends one page in slices, one after the other as the poller does, and waits for the last answer.
async fn commit(sender: &mpsc::Sender<SinkMessage>, fence: Fence, page: usize) -> Result<(Duration, Committed), AnyError> {
    let mut slices: Vec<Vec<Record>> = vec![Vec::new()];
    let mut bytes = 0;
    for at in 0..ALERTS {
        if bytes + BYTES > SLICE {
            slices.push(Vec::new());
            bytes = 0;
        }
        bytes += BYTES;
        slices.last_mut().ok_or("there is a slice")?.push(alert(page * ALERTS + at));
    }
    let last = slices.len() - 1;
    let began = Instant::now();
    let mut whole = Committed::default();
    for (at, records) in slices.into_iter().enumerate() {
        let (ack, answer) = oneshot::channel();
        let cursor = (at == last).then(|| CursorMove::Live { from: Ticks(0), watermark: stamp(page * ALERTS) });
        let batch = AlertBatch {
            fence,
            source: Source::GraphAlerts,
            records,
            cursor,
            gaps: Vec::new(),
            purpose: Purpose::Live { fresh: false },
            ack,
        };
        sender.send(SinkMessage::Batch(batch)).await?;
        let part = answer.await??;
        whole.new += part.new;
        whole.duplicate += part.duplicate;
    }
    Ok((began.elapsed(), whole))
}

fn stamp(number: usize) -> Ticks {
    Ticks(17_900_000_000_000_000 + number as i64 * 10_000_001)
}

/// An alert with the texture of a real one: names that repeat, ids and hashes that do not.
fn alert(number: usize) -> Record {
    let id = Uuid::from_u128(u128::from(number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)).to_string();
    let updated = stamp(number).to_string();
    let mut raw = format!(r#"{{"id":"{id}","lastUpdateDateTime":"{updated}","severity":"high","status":"new","evidence":["#);
    let mut hash = ContentHash::of(id.as_bytes());
    while raw.len() < BYTES - 260 {
        hash = ContentHash::of(&hash.0);
        let digest: String = hash.0.iter().map(|byte| format!("{byte:02x}")).collect();
        raw.push_str(&format!(
            r##"{{"@odata.type":"#microsoft.graph.security.fileEvidence","verdict":"suspicious","fileName":"{}.exe","sha256":"{digest}"}},"##,
            &digest[..7]
        ));
    }
    raw.push('"');
    raw.extend(std::iter::repeat_n('.', BYTES - raw.len() - 3));
    raw.push_str("\"]}");
    Record::Alert(AlertRecord {
        id: AlertId::new(id),
        hash: ContentHash::of(raw.as_bytes()),
        raw: ByteString::from(raw),
        last_update_text: Some(updated),
        last_update: Some(stamp(number)),
        created: Some(stamp(number)),
        facts: AlertFacts {
            title: Some("Suspicious file".into()),
            severity: Some("high".into()),
            status: Some("new".into()),
            ..AlertFacts::default()
        },
    })
}
