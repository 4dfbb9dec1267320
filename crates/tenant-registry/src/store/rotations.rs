//! `tocsin.key_rotation`: which rotation is under way. It is why a rotation that was killed is gone on with.

use sqlx::{PgExecutor, PgTransaction};

/// The key of a rotation that has not come to its end, the latest if there are several.
pub(crate) async fn unfinished(db: impl PgExecutor<'_>) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "-- rotations::unfinished
         select key_id from tocsin.key_rotation where finished_at is null order by begun_at desc limit 1",
    )
    .fetch_optional(db)
    .await
}

/// Notes that a rotation to this key is under way; `true` when it was not known.
pub(crate) async fn begin(tx: &mut PgTransaction<'_>, key_id: &str) -> Result<bool, sqlx::Error> {
    let result = sqlx::query(
        "-- rotations::begin
         insert into tocsin.key_rotation as r (key_id) values ($1)
         on conflict (key_id) do update set finished_at = null where r.finished_at is not null",
    )
    .bind(key_id)
    .execute(&mut **tx)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Notes that everything is sealed under this key now. Earlier rotations have come to their end with it.
pub(crate) async fn finish(tx: &mut PgTransaction<'_>) -> Result<(), sqlx::Error> {
    sqlx::query("-- rotations::finish\nupdate tocsin.key_rotation set finished_at = now() where finished_at is null")
        .execute(&mut **tx)
        .await
        .map(drop)
}

/// Forgets a rotation to a key that is gone, or was never taken into use.
pub(crate) async fn forget(tx: &mut PgTransaction<'_>, key_id: &str) -> Result<(), sqlx::Error> {
    let statement = sqlx::query("-- rotations::forget\ndelete from tocsin.key_rotation where key_id = $1 and finished_at is null");
    statement.bind(key_id).execute(&mut **tx).await.map(drop)
}
