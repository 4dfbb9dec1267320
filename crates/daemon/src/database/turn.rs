//! Who may change the schema now: one session at a time.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::Instant;

use crate::failure::Failure;

/// Waits until nobody else changes the schema; the turn ends with the connection. Any login can take an advisory lock, so
/// whoever waits for long says for whom.
pub(super) async fn wait(connection: &mut PgConnection) -> Result<(), Failure> {
    const KEY: i64 = i64::from_be_bytes(*b"migrates");
    let begun = Instant::now();
    let mut told = 0;
    loop {
        let mine: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(KEY).fetch_one(&mut *connection).await?;
        if mine {
            return Ok(());
        }
        // After five seconds, and each minute.
        if begun.elapsed().as_secs() >= told * 60 + 5 {
            told += 1;
            let holder: Option<(i32, String, String)> = sqlx::query_as(
                "select a.pid, a.usename::text, a.application_name
                 from pg_locks l
                 join pg_stat_activity a using (pid)
                 join pg_database d on d.oid = l.database and d.datname = current_database()
                 where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and (l.classid::bigint << 32) | l.objid::bigint = $1",
            )
            .bind(KEY)
            .fetch_optional(&mut *connection)
            .await?;
            if let Some((pid, role, program)) = holder {
                tracing::warn!(
                    pid,
                    role,
                    program,
                    "waiting for another session to change the schema; if that is no tocsin, an administrator ends it: select pg_terminate_backend({pid})"
                );
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
