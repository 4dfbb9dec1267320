//! Random histories, played on a store and on the reference.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::clock::ManualClock;
use domain::health::StageStatus;
use domain::{AlertBatch, Committed, Errand, Fence, Refusal, SinkMessage, Source, TenantId, Ticks};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config as Runs, RngAlgorithm, TestRng, TestRunner};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::dealt::{self, Step};
use super::faulty::{Fault, Faults, Faulty};
use super::reference::{Batch, NOW, Reference};
use super::snapshot::Snapshot;
use crate::config::Config;
use crate::store::{Feed, Store};
use crate::worker::SinkWorker;

/// A store under test, and what happens to it from other sides than the sink's.
#[async_trait]
pub trait World: Send + Sync {
    /// What stands behind the seam.
    type Store: Store;

    /// A handle on the one store of this world.
    fn store(&self, config: &Config) -> Self::Store;

    /// A new tenant that reads all three sources, with a lease of the first generation.
    async fn tenant(&self) -> Fence;

    /// Another replica claims the tenant: the epoch grows by one.
    async fn claim(&self, fence: Fence) -> Fence;

    /// An operator asks for a re-read of `[from, to)`, as [`crate::ask`] does: no row becomes run 1; a row becomes the
    /// next run, unless it is open and `replace` is false. The row is then asked for, on the axis of updates, all of it
    /// left, polled before its end, neither started nor finished nor cancelled, and all counters and lists are empty.
    /// Returns the run, or `None` when it was refused.
    async fn ask(&self, feed: Feed, errand: Errand, stretch: (Ticks, Ticks), replace: bool) -> Option<i64>;

    /// An operator calls off what is open: it is finished and cancelled now. Returns the run, or `None`.
    async fn cancel(&self, feed: Feed, errand: Errand) -> Option<i64>;

    /// An operator wants everything in quarantine of this feed tried again that was not understood yet.
    async fn want_replay(&self, feed: Feed);

    /// Everything that is stored of a tenant.
    async fn snapshot(&self, tenant: TenantId) -> Snapshot;
}

/// How much to play.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// So many histories, each of a tenant of its own.
    pub cases: u32,
    /// The most steps of one.
    pub steps: usize,
    /// Other histories for another seed; the same for the same.
    pub seed: u8,
}

/// Plays histories, and looks for a smaller one when one fails.
///
/// # Panics
/// When a store differs from the reference, with the smallest history found and what differs.
pub async fn model<W: World>(world: &W, extent: Extent) {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[extent.seed; 32]);
    let mut runner = TestRunner::new_with_rng(Runs::default(), rng);
    let mut before: Option<(TenantId, Snapshot)> = None;
    for case in 0..extent.cases {
        let mut tree = dealt::history(extent.steps).new_tree(&mut runner).expect("the strategy refuses nothing");
        let mut error = match play(world, &tree.current()).await {
            Ok((tenant, found)) => {
                if let Some((other, found)) = before.replace((tenant, found)) {
                    let still = world.snapshot(other).await;
                    assert!(found == still, "case {case} has changed what is stored of another tenant: {:?}", found.difference(&still));
                }
                continue;
            }
            Err(error) => error,
        };
        let mut smallest = tree.current();
        let mut goes_on = tree.simplify();
        while goes_on {
            goes_on = match play(world, &tree.current()).await {
                Err(smaller) => {
                    (error, smallest) = (smaller, tree.current());
                    tree.simplify()
                }
                Ok(_) => tree.complicate(),
            };
        }
        panic!("case {case}: {error}\nin the history {smallest:#?}");
    }
}

/// A sink on a store that fails when told to.
struct Player {
    sender: mpsc::Sender<SinkMessage>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), String>>,
    faults: Faults,
}

impl Player {
    fn start<W: World>(world: &W) -> Self {
        let pause = Duration::from_millis(1);
        let config = Config { first_delay: pause, max_delay: pause, ..Config::default() };
        let faults = Faults::default();
        let store = Faulty { store: world.store(&config), faults: faults.clone() };
        let (sender, inbox) = mpsc::channel(1);
        let (publish, _status) = watch::channel(StageStatus::well(NOW));
        let stop = CancellationToken::new();
        let worker = SinkWorker::new(store, config, Arc::new(ManualClock::at(NOW)), inbox, publish);
        Self { sender, stop: stop.clone(), task: tokio::spawn(worker.run(stop)), faults }
    }

    async fn send(&self, batch: &Batch) -> Result<Committed, Refusal> {
        let Batch { fence, source, records, cursor, gaps, purpose } = batch.clone();
        let (ack, answer) = oneshot::channel();
        let batch = AlertBatch { fence, source, records, cursor, gaps, purpose, ack };
        self.sender.send(SinkMessage::Batch(batch)).await.expect("the sink is running");
        answer.await.expect("every batch is answered")
    }
}

async fn play<W: World>(world: &W, history: &[Step]) -> Result<(TenantId, Snapshot), String> {
    let fence = world.tenant().await;
    let mut reference = Reference::new(fence);
    let player = Player::start(world);
    for (at, step) in history.iter().enumerate() {
        let wrong = take(world, &player, &mut reference, step).await;
        wrong.map_err(|error| format!("step {at}: {error}"))?;
        if let Some(difference) = reference.stored.difference(&world.snapshot(fence.tenant).await) {
            return Err(format!("after step {at}: {difference}"));
        }
    }
    player.stop.cancel();
    player.task.await.map_err(|error| error.to_string())??;
    Ok((fence.tenant, reference.stored))
}

async fn take<W: World>(world: &W, player: &Player, reference: &mut Reference, step: &Step) -> Result<(), String> {
    let feed = |source: Source| Feed { tenant: reference.fence.tenant, source };
    match step {
        Step::Batch { deal, fault } => {
            let batch = deal.batch(reference);
            player.faults.next(*fault);
            let found = player.send(&batch).await;
            // Who holds no lease is told so before anything can get lost, and a fault that did not come is none.
            let happened = player.faults.is_over();
            player.faults.next(None);
            if *fault == Some(Fault::LostAnswer) && happened && batch.fence == reference.fence {
                let _ = reference.apply(&batch);
            }
            expect("the answer", reference.apply(&batch), found)
        }
        Step::News(news) => {
            let item = news.item(reference.fence);
            let noted = world.store(&Config::default()).note(std::slice::from_ref(&item)).await.map_err(|error| error.to_string())?;
            reference.news(&item);
            expect("news written", u64::from(item.fence == reference.fence), noted.written)
        }
        Step::Claim => {
            let claimed = world.claim(reference.fence).await;
            reference.fence.epoch.0 += 1;
            expect("the new generation", reference.fence, claimed)
        }
        Step::Ask { source, errand, stretch, replace } => {
            let found = world.ask(feed(*source), *errand, *stretch, *replace).await;
            expect("the run asked for", reference.ask(*source, *errand, *stretch, *replace), found)
        }
        Step::Cancel { source, errand } => {
            let found = world.cancel(feed(*source), *errand).await;
            expect("the run cancelled", reference.cancel(*source, *errand), found)
        }
        Step::Replay { source } => {
            world.want_replay(feed(*source)).await;
            reference.want_replay(*source);
            Ok(())
        }
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, found: T) -> Result<(), String> {
    if expected == found { Ok(()) } else { Err(format!("{what}: expected {expected:?}, found {found:?}")) }
}
