//! One replica: a machine on which a process of the product runs, dies, is stopped, stands still and runs again.
//!
//! A process has a runtime of its own, so that it can be dropped with everything in it, or left standing while time
//! passes. Its clock is paused and moves when all of its tasks wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use domain::health::StageStatus;
use domain::ports::{AppCredentials, SecretUnreadable};
use domain::{AppCredential, AppName, Clock, Report, SeededChance, SinkMessage};
use microsoft::{App, Grant};
use sink::SinkWorker;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cloud::Cloud;
use crate::identity::SignIn;
use crate::leases::{Held, Keeper, Needs};
use crate::process::{Process, Run};
use crate::settings;
use crate::store::{MemoryStore, Reader};
use crate::tally::Fault;
use crate::time::{Ms, ProcessTime, SECOND, TICKS, span};
use crate::vault::VaultDoor;

/// A replica.
pub(crate) struct Replica {
    number: usize,
    /// Error of the machine's clock.
    error: Arc<AtomicI64>,
    live: Option<Live>,
    /// Starts again then.
    start_at: Ms,
    /// Nothing runs before then; whether the monotonic clock stands still as well.
    still_until: Option<(Ms, bool)>,
    /// When its keeper was last seen at work.
    seen: Ms,
    /// How often a process was started here.
    pub(crate) starts: u64,
}

/// A process that runs.
struct Live {
    runtime: Runtime,
    process: Arc<Process>,
    keeper: Keeper,
    held: Held,
    reports: mpsc::Receiver<Report>,
    tasks: JoinSet<(&'static str, Result<(), String>)>,
    stops: Stops,
    poller: watch::Receiver<StageStatus>,
    sink: watch::Receiver<StageStatus>,
    stopping: bool,
    restart_after: Ms,
}

/// How each stage is asked to stop.
#[derive(Default)]
struct Stops {
    poller: CancellationToken,
    sink: CancellationToken,
    refresher: CancellationToken,
}

impl Replica {
    pub(crate) fn new(number: usize, skew: Ms) -> Self {
        let error = Arc::new(AtomicI64::new(skew * TICKS));
        Self { number, error, live: None, start_at: 0, still_until: None, seen: Ms::MIN, starts: 0 }
    }

    /// Whether others see it at work.
    pub(crate) fn is_seen(&self, now: Ms) -> bool {
        self.live.is_some() && now - self.seen < 30 * SECOND
    }

    /// The process that runs here and is not standing still, if one does.
    pub(crate) fn process(&self, now: Ms) -> Option<u64> {
        let still = self.still_until.is_some_and(|(until, _)| now < until);
        self.live.as_ref().filter(|live| !still && !live.stopping).map(|live| live.process.serial)
    }

    /// What its stages say is wrong, if anything.
    pub(crate) fn says_fault(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.poller.borrow().fault.is_some() || live.sink.borrow().fault.is_some())
    }

    /// The process dies on the spot.
    pub(crate) fn crash(&mut self, now: Ms, restart_after: Ms) {
        if let Some(live) = self.live.take() {
            live.process.die();
            self.start_at = now + restart_after;
            self.still_until = None;
            // In the runtime, since what is dropped may look at its clock.
            let _context = live.runtime.enter();
            drop(live.tasks);
            drop(_context);
            live.runtime.shutdown_background();
        }
    }

    /// The process is asked to stop.
    pub(crate) fn stop(&mut self, restart_after: Ms) {
        if let Some(live) = &mut self.live {
            live.stopping = true;
            live.restart_after = restart_after;
            live.stops.poller.cancel();
        }
    }

    /// Nothing runs until then.
    pub(crate) fn stand_still(&mut self, until: Ms, sleeps: bool) {
        if self.live.is_some() {
            self.still_until = Some((until, sleeps));
        }
    }

    /// The machine's clock jumps, or is set right.
    pub(crate) fn set_clock(&self, jump: Option<Ms>) {
        match jump {
            Some(jump) => self.error.fetch_add(jump * TICKS, Ordering::Relaxed),
            None => self.error.swap(0, Ordering::Relaxed),
        };
    }

    /// Starts a process if it is time to.
    pub(crate) fn start(&mut self, run: &Arc<Run>, serial: u64, now: Ms) -> bool {
        if self.live.is_some() || now < self.start_at {
            return false;
        }
        self.starts += 1;
        self.live = Some(Live::start(run, self.number, serial, now, &self.error));
        self.seen = now;
        true
    }

    /// Lets the process live until then, and sees to its leases.
    pub(crate) fn live(&mut self, until: Ms, replicas: usize, needs: &Needs) {
        let now = until - crate::run::STEP;
        if let Some((still, sleeps)) = self.still_until {
            if now < still {
                return;
            }
            self.still_until = None;
            if let Some(live) = &mut self.live {
                live.wake(now, sleeps);
            }
        } else if let Some(live) = &mut self.live
            && !live.stopping
        {
            let _context = live.runtime.enter();
            live.keeper.round(&live.process, replicas, needs, &live.held, now);
            self.seen = now;
        }
        let Some(live) = &mut self.live else { return };
        if let Some(restart_after) = live.go_on(until) {
            self.crash(until, restart_after);
        }
    }

    /// What the process reports of its tenants.
    pub(crate) fn reports(&mut self) -> Vec<Report> {
        let Some(live) = &mut self.live else { return Vec::new() };
        std::iter::from_fn(|| live.reports.try_recv().ok()).collect()
    }
}

impl Live {
    fn start(run: &Arc<Run>, number: usize, serial: u64, now: Ms, error: &Arc<AtomicI64>) -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime needs only memory");
        let context = runtime.enter();
        let process = Arc::new(Process::new(Arc::clone(run), number, serial, ProcessTime::new(now, Arc::clone(error))));
        let clock: Arc<dyn Clock> = Arc::new(ProcessClock(Arc::clone(&process)));
        let chance = Arc::new(SeededChance::new(run.scenario.seed.wrapping_mul(31) + serial));
        let store = MemoryStore { memory: Arc::clone(&run.memory), around: Arc::clone(&process) as Arc<_> };

        let held = Held::new();
        let [tenants_to_refresh, tenants_to_poll] = held.listeners();
        let (out, observed) = mpsc::channel(1);
        let (inbox_out, inbox) = mpsc::channel(8);
        let (reports_out, reports) = mpsc::channel(1024);
        let status = || watch::channel(StageStatus::faulty(clock.now(), "starting"));
        let ((refresher_says, _), (poller_says, poller), (sink_says, sink)) = (status(), status(), status());
        let clouds = Arc::new(microsoft::built_in());
        let lanes = Arc::new(token_refresher::Lanes::new(&clouds, settings::TOKEN_PER_SECOND, &tenants_to_refresh));
        let (tokens, refresher) = token_refresher::start(
            token_refresher::Deps {
                redeemer: Arc::new(SignIn { process: Arc::clone(&process) }),
                vault: Arc::new(VaultDoor { process: Arc::clone(&process) }),
                clouds,
                lanes,
                apps: Arc::new(BTreeMap::from([(AppName::new("main"), App::new("app", Grant::RefreshToken))])),
                credentials: Arc::new(NoCredentials),
                clock: Arc::clone(&clock),
                chance: chance.clone(),
                tenants: tenants_to_refresh,
                reports: reports_out.clone(),
                status: refresher_says,
            },
            settings::refresher(),
        );
        let tokens = Arc::new(tokens);
        let poll = alert_poller::Poller::new(
            alert_poller::Deps {
                source: Arc::new(Cloud { process: Arc::clone(&process) }),
                tokens: tokens.clone(),
                cursors: Arc::new(Reader { store: store.clone(), reads: reads(&process) }),
                clock: Arc::clone(&clock),
                chance,
                tenants: tenants_to_poll,
                sink: out,
                sink_status: sink.clone(),
                reports: reports_out,
                status: poller_says,
            },
            settings::poller(&run.scenario),
        );
        let keep = SinkWorker::new(store, settings::sink(), clock, inbox, sink_says);
        let stops = Stops::default();
        let mut tasks = JoinSet::new();
        let stop = stops.poller.clone();
        tasks.spawn(async move { ("poller", poll.run(stop).await) });
        let stop = stops.sink.clone();
        tasks.spawn(async move { ("sink", keep.run(stop).await) });
        let stop = stops.refresher.clone();
        tasks.spawn(async move { ("refresher", refresher.run(stop).await) });
        let watching = Arc::clone(&process);
        runtime.spawn(async move { observe(&watching, observed, inbox_out).await });
        drop(context);
        run.state().trace.event(now, "start", &[i64::try_from(serial).unwrap_or(0)], || format!("replica {number}"));
        let keeper = Keeper::new(now, tokens);
        Self { runtime, process, keeper, held, reports, tasks, stops, poller, sink, stopping: false, restart_after: 0 }
    }

    /// Time has passed while nothing ran.
    fn wake(&mut self, now: Ms, slept: bool) {
        let process = &self.process;
        self.runtime.block_on(async {
            if slept {
                process.time.slept_until(now);
            } else {
                tokio::time::advance(span(now - process.now())).await;
            }
        });
    }

    /// Lets all tasks run until then. Says after how long the process is to be started again if it has ended.
    fn go_on(&mut self, until: Ms) -> Option<Ms> {
        let Self { runtime, process, tasks, stops, stopping, restart_after, .. } = self;
        let end = runtime.block_on(async {
            let until = process.time.instant(until);
            loop {
                let (stage, end) = tokio::select! {
                    biased;
                    () = process.death() => return Some("died".to_owned()),
                    Some(ended) = tasks.join_next() => match ended {
                        Ok((stage, end)) => (stage, end),
                        Err(error) => return Some(format!("a stage panicked: {error}")),
                    },
                    () = tokio::time::sleep_until(until) => return None,
                };
                match (stage, end) {
                    // As the daemon does it: the poller first, then the sink, the refresher beside it.
                    ("poller", Ok(())) if *stopping => {
                        stops.sink.cancel();
                        stops.refresher.cancel();
                    }
                    (_, Ok(())) if *stopping => {}
                    (stage, end) => return Some(format!("the {stage} ended: {end:?}")),
                }
                if tasks.is_empty() {
                    return Some("stopped".to_owned());
                }
            }
        })?;
        let _context = runtime.enter();
        let now = process.now();
        process.run.state().trace.event(now, "end", &[], || format!("process {} {end}", process.serial));
        if end == "stopped" {
            Keeper::release_all(process);
            return Some(*restart_after);
        }
        let mut state = process.run.state();
        state.tally.add("processes_ended_by_themselves", 1);
        let planned = process.is_dead() || process.run.scenario.rehearsed;
        if !planned {
            let what = format!("process {} ended by itself: {end}", process.serial);
            state.checker.broken(crate::Invariant::I33, now, what);
        }
        state.tally.fire_if(process.is_dead(), Fault::PointAbort);
        Some(3 * SECOND)
    }
}

/// Looks at everything that the poller sends, and hands it on.
async fn observe(process: &Process, mut from: mpsc::Receiver<SinkMessage>, to: mpsc::Sender<SinkMessage>) {
    while let Some(message) = from.recv().await {
        if matches!(message, SinkMessage::Progress(_)) {
            process.observe(&message);
        }
        if to.send(message).await.is_err() {
            return;
        }
    }
}

fn reads(process: &Arc<Process>) -> Box<dyn Fn(domain::TenantId, domain::Source, Option<domain::Ticks>) + Send + Sync> {
    let process = Arc::clone(process);
    Box::new(move |tenant, source, watermark| {
        let now = process.now();
        process.run.state().checker.reading(process.serial, tenant, source, watermark, now);
    })
}

/// The clock of the machine.
struct ProcessClock(Arc<Process>);

impl Clock for ProcessClock {
    fn now(&self) -> domain::Ticks {
        Clock::now(&self.0.time)
    }
}

struct NoCredentials;

impl AppCredentials for NoCredentials {
    fn credential(&self, _: &AppName) -> Result<Option<AppCredential>, SecretUnreadable> {
        Ok(None)
    }
}
