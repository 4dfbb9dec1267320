//! Whose alerts the worker looks at: those of whom it has heard, and everybody now and then.

use std::sync::Arc;
use std::time::Duration;

use digester::{Deps, DigestWorker};
use domain::health::StageStatus;
use domain::{Clock as _, SystemClock};
use sqlx::PgPool;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::world::{GRAPH, Sink, State, held, settled, tenant};

const SOON: Duration = Duration::from_millis(20);
const NEVER: Duration = Duration::from_secs(3600);

#[sqlx::test(migrations = "../../migrations")]
async fn who_is_heard_of_is_derived_and_who_is_not_when_everybody_is_looked_at(pool: PgPool) {
    let fences = [tenant(&pool, 1).await, tenant(&pool, 2).await, tenant(&pool, 3).await];
    let sink = Sink::start(&pool);
    for everybody_every in [NEVER, SOON] {
        let before = if everybody_every == NEVER { 0 } else { 3 };
        let (tenants_in, tenants) = watch::channel(held(&fences[..2]));
        let (status, _) = watch::channel(StageStatus::faulty(SystemClock.now(), "starting"));
        let (stored_out, stored) = mpsc::channel(8);
        let stop = CancellationToken::new();
        let deps = Deps { pool: pool.clone(), tenants, clock: Arc::new(SystemClock), status };
        let worker = DigestWorker::new(deps).looking_every(SOON).hearing(stored).looking_at_everybody_every(everybody_every);
        let state = |id: &str| State { id: format!("{id}-{before}"), ..State::default() };

        // What was there before is found without a word.
        sink.store(fences[0], GRAPH, &[state("before")]).await;
        let worker = tokio::spawn(worker.run(stop.clone()));
        settled(&pool, before + 1).await;

        // A word about one of them, and none about the other.
        sink.store(fences[1], GRAPH, &[state("told")]).await;
        if everybody_every == NEVER {
            stored_out.send(fences[1].tenant).await.unwrap();
        }
        settled(&pool, before + 2).await;

        // Whoever comes to us is looked at, whatever others have left.
        sink.store(fences[2], GRAPH, &[state("another")]).await;
        tenants_in.send_replace(held(&fences));
        settled(&pool, before + 3).await;
        stop.cancel();
        worker.await.unwrap().unwrap();
    }
}
