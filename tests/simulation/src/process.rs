//! A process of the product, as the world around it sees it: what time it is for it, whether it still lives, and
//! what stands between it and everybody else. And the run that all processes are part of.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domain::ContentHash;
use sink::store::Item;
use tokio::sync::Notify;

use crate::check::Checker;
use crate::dice::Dice;
use crate::identity::Identity;
use crate::scenario::{Scenario, StoreFault};
use crate::store::{Effects, Memory, Obstacle, Statement, Surroundings};
use crate::tally::{Fault, Tally};
use crate::time::{Ms, ProcessTime, SECOND, span};
use crate::trace::Trace;
use crate::vault::Vault;
use crate::world::World;

/// Everything that outlives a process, except the database.
pub(crate) struct State {
    pub(crate) world: World,
    pub(crate) identity: Identity,
    pub(crate) vault: Vault,
    pub(crate) checker: Checker,
    pub(crate) tally: Tally,
    pub(crate) trace: Trace,
}

/// A run of one seed.
pub(crate) struct Run {
    pub(crate) scenario: Scenario,
    /// The database. Whoever wants both locks this one first.
    pub(crate) memory: Arc<Mutex<Memory>>,
    state: Mutex<State>,
}

impl Run {
    pub(crate) fn new(scenario: Scenario, memory: Memory, state: State) -> Self {
        Self { scenario, memory: Arc::new(Mutex::new(memory)), state: Mutex::new(state) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the store does to a replica now.
    pub(crate) fn store_fault(&self, replica: usize, now: Ms) -> Option<StoreFault> {
        let faults = self.scenario.store.iter().filter(|(whom, _)| whom.is_none_or(|whom| whom == replica));
        faults.filter_map(|(_, during)| during.at(now)).next()
    }
}

/// One process.
pub(crate) struct Process {
    pub(crate) run: Arc<Run>,
    pub(crate) replica: usize,
    /// Never used again by another one.
    pub(crate) serial: u64,
    pub(crate) time: ProcessTime,
    /// For what befalls this process.
    pub(crate) dice: Dice,
    dead: AtomicBool,
    died: Notify,
}

impl Process {
    pub(crate) fn new(run: Arc<Run>, replica: usize, serial: u64, time: ProcessTime) -> Self {
        let dice = Dice::of(run.scenario.seed, 1000 + serial);
        Self { run, replica, serial, time, dice, dead: AtomicBool::new(false), died: Notify::new() }
    }

    pub(crate) fn now(&self) -> Ms {
        self.time.now()
    }

    /// Nothing that this process asks is answered any more.
    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.died.notify_one();
    }

    /// Whether it died.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Returns when it dies.
    pub(crate) async fn death(&self) {
        self.died.notified().await;
    }

    /// Never returns once the process is dead: from then on it has no effect on anything.
    pub(crate) async fn alive(&self) {
        if crate::run::has_crashed() {
            self.die();
        }
        if self.is_dead() {
            std::future::pending().await
        }
    }
}

#[async_trait]
impl Surroundings for Process {
    fn now(&self) -> Ms {
        self.time.now()
    }

    async fn pass(&self, statement: Statement) -> Result<(), Obstacle> {
        self.alive().await;
        let now = self.now();
        if let Some(fault) = self.run.store_fault(self.replica, now) {
            return self.befall(fault, statement).await;
        }
        if self.dice.chance(self.run.scenario.slowness) {
            tokio::time::sleep(span(self.dice.range(1, 200))).await;
            self.alive().await;
        }
        Ok(())
    }

    fn accepts(&self, hash: ContentHash) -> bool {
        // The same record is refused every time, until somebody has mended the store.
        let share = f64::from(u16::from_le_bytes([hash.0[0], hash.0[1]])) / 65536.0;
        let accepts = share >= self.run.scenario.refuses_data || self.run.scenario.mended.is_some_and(|mended| self.now() >= mended);
        self.run.state().tally.fire_if(!accepts, Fault::DataRefused);
        accepts
    }

    fn committed(&self, memory: &Memory, effects: &Effects) {
        let now = self.now();
        let mut state = self.run.state();
        let State { world, checker, tally, trace, .. } = &mut *state;
        trace.event(now, "commit", &[effects.versions.len() as i64, effects.latest.len() as i64], || {
            let ids: Vec<_> = effects.versions.iter().map(|(feed, id, _)| format!("{}:{id}", feed.source)).collect();
            format!(
                "process {} {:?} {ids:?} cursor {:?} rereads {:?}",
                self.serial,
                effects.tenant.map(|it| it.0),
                effects.cursor,
                effects.rereads
            )
        });
        tally.add("commits", 1);
        checker.committed(self, memory, effects, now, world, tally);
    }

    fn noted(&self, memory: &Memory, item: &Item) {
        let now = self.now();
        let mut state = self.run.state();
        let State { checker, tally, .. } = &mut *state;
        checker.noted(self, memory, item, now, tally);
    }
}

impl Process {
    /// The poller tells how a poll ended.
    pub(crate) fn observe(&self, message: &domain::SinkMessage) {
        let now = self.now();
        let memory = self.run.memory();
        let mut state = self.run.state();
        let State { world, checker, tally, .. } = &mut *state;
        checker.sending(self, &memory, message, now, world, tally);
    }

    /// A statement meets a fault of the store.
    async fn befall(&self, fault: StoreFault, statement: Statement) -> Result<(), Obstacle> {
        let writes = matches!(statement, Statement::Write | Statement::Commit | Statement::Note);
        let fire = |fault| self.run.state().tally.fire(fault);
        match fault {
            StoreFault::Away => {
                fire(if self.run.scenario.store.iter().any(|(whom, _)| *whom == Some(self.replica)) {
                    Fault::CutFromStore
                } else {
                    Fault::StoreAway
                });
                tokio::task::yield_now().await;
                Err(Obstacle::Away)
            }
            StoreFault::Silent => {
                fire(Fault::StoreSilent);
                tokio::time::sleep(span(60 * SECOND)).await;
                Err(Obstacle::Away)
            }
            StoreFault::ReadOnly if writes => {
                fire(Fault::StoreReadOnly);
                Err(Obstacle::Refused)
            }
            StoreFault::Contention if writes && self.dice.chance(0.3) => {
                fire(Fault::StoreContention);
                Err(Obstacle::Contention)
            }
            StoreFault::AnswersLost if statement == Statement::Commit && self.dice.chance(0.5) => {
                fire(Fault::CommitAnswerLost);
                Err(Obstacle::AnswerLost)
            }
            _ => Ok(()),
        }
    }
}
