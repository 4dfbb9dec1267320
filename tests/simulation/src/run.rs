//! A run of one seed: an hour with faults, then none, until everything is well.

mod operators;
mod registry;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Once};

use domain::rehearsal::{Action, Rehearsal};
use domain::{Axis, Errand, Reread};
use sink::store::Feed;

use crate::check::{Broken, Checker};
use crate::identity::Identity;
use crate::process::{Run, State};
use crate::replica::Replica;
use crate::scenario::{Blow, CONVERGE, FAULTS_END, REPLICAS, Scenario, SignInFault, draw};
use crate::store::{Lease, Memory, Tables};
use crate::tally::{Fault, Invariant, Tally};
use crate::time::{HOUR, MINUTE, Ms, SECOND, ticks};
use crate::trace::Trace;
use crate::vault::Vault;
use registry::Registry;

/// Processes take turns of this length: 2^12 ms, so that the end of a turn is met by one step of tokio's timer wheel and
/// not by three.
pub(crate) const STEP: Ms = 4_096;
/// What is to be seen from outside is looked at when so much more has passed.
const LOOK: Ms = 2 * STEP;
/// A dead refresh token is on record within this, once the refresher knows.
const TOLD_WITHIN: Ms = MINUTE;

/// What to do besides running the seed.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Keep the log as lines of text.
    pub trace: bool,
    /// A bug to plant, one of `domain::rehearsal::BUGS`.
    pub bug: Option<String>,
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub seed: u64,
    /// Promises that were broken; empty when all is well.
    pub broken: Vec<Broken>,
    /// Faults fired, invariants checked, figures.
    pub tally: Tally,
    /// The same for two runs of one seed.
    pub fingerprint: u64,
    /// The log, if it was asked for.
    pub lines: Vec<String>,
}

/// Runs a seed.
pub fn run(seed: u64, options: &Options) -> Outcome {
    hear_crashes();
    let mut tally = Tally::default();
    rehearse(seed, &[], options);
    let (scenario, world) = draw(seed, &mut tally);
    rehearse(seed, &scenario.points, options);
    let mut identity = Identity::default();
    let mut vault = Vault::default();
    let mut memory = Memory::default();
    for tenant in &scenario.tenants {
        vault.import(tenant.id, identity.consent(tenant.id, tenant.rotation));
        memory.leases.insert(tenant.id, Lease { expires: Ms::MIN, ..Lease::default() });
        memory.tenants.insert(tenant.id, Tables::default());
    }
    let mut trace = Trace::new(options.trace);
    trace.event(0, "scenario", &[], || format!("{scenario:#?}"));
    if scenario.compare.is_some() {
        compared_yesterday(&scenario, &mut memory);
    }
    let checker = Checker::new(&world);
    let state = State { world, identity, vault, checker, tally, trace };
    let mut hour = Hour::new(Arc::new(Run::new(scenario, memory, state)), options.clone());
    let end = hour.pass();
    hour.close(end);
    Rehearsal::end();
    let mut state = hour.run.state();
    Outcome {
        seed,
        broken: state.checker.take(),
        fingerprint: state.trace.fingerprint(),
        lines: state.trace.take(),
        tally: std::mem::take(&mut state.tally),
    }
}

/// Every feed's last comparison ended more than a day ago.
fn compared_yesterday(scenario: &Scenario, memory: &mut Memory) {
    let at = -25 * HOUR;
    let (from, finished_at) = (ticks(at), Some(ticks(at)));
    let now =
        Reread { errand: Errand::Nightly, run: 1, axis: Axis::Creation, from, to: from, left: from, polled_before: from, finished_at };
    for tenant in &scenario.tenants {
        for source in &tenant.sources {
            memory.finished_before(Feed { tenant: tenant.id, source: *source }, now.clone(), at);
        }
    }
}

/// Switches on what the product is to do to itself.
fn rehearse(seed: u64, points: &[(&'static str, Action, u64)], options: &Options) {
    let mut rehearsal = Rehearsal::default().seeded(seed);
    for (point, action, passing) in points {
        rehearsal = rehearsal.at(point, action.clone(), Some(*passing));
    }
    if let Some(bug) = &options.bug {
        rehearsal = rehearsal.bug(bug);
    }
    rehearsal.begin();
}

thread_local! {
    static CRASHED: Cell<bool> = const { Cell::new(false) };
}

/// Panics on purpose are not printed, and those that stand for the end of a process are remembered.
fn hear_crashes() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let text = panic.payload_as_str().unwrap_or_default();
            if text == Rehearsal::CRASH {
                CRASHED.set(true);
            } else if !text.starts_with("rehearsal: a panic at ") {
                before(panic);
            }
        }));
    });
}

/// Whether a process has just ended on the spot.
pub(crate) fn has_crashed() -> bool {
    CRASHED.take()
}

/// The hour, and what comes after.
struct Hour {
    run: Arc<Run>,
    replicas: Vec<Replica>,
    registry: Registry,
    processes: u64,
    blows: usize,
    asks: usize,
    restarts: u64,
    /// No more faults.
    over: bool,
    options: Options,
    /// How often each point was passed while they could act.
    passed: BTreeMap<&'static str, u64>,
}

impl Hour {
    fn new(run: Arc<Run>, options: Options) -> Self {
        let replicas = (0..REPLICAS).map(|number| Replica::new(number, run.scenario.skews[number])).collect();
        Self {
            run,
            replicas,
            registry: Registry::default(),
            processes: 0,
            blows: 0,
            asks: 0,
            restarts: 0,
            over: false,
            options,
            passed: BTreeMap::new(),
        }
    }

    /// Lets time pass until all is well, something is broken, or it takes too long. Says when that is.
    fn pass(&mut self) -> Ms {
        let mut now = 0;
        while now < FAULTS_END + CONVERGE {
            self.befall(now);
            self.operate(now);
            self.ask(now);
            let live = self.replicas.iter().filter(|replica| replica.is_seen(now)).count();
            let needs = self.registry.needs();
            for replica in &mut self.replicas {
                if replica.start(&self.run, self.processes + 1, now) {
                    self.processes += 1;
                    self.restarts += u64::from(replica.starts > 1);
                }
                replica.live(now + STEP, live, &needs);
            }
            now += STEP;
            self.look_round(now);
            if self.run.state().checker.is_broken() || (now > FAULTS_END + MINUTE && now % LOOK == 0 && self.all_is_well(now)) {
                break;
            }
        }
        now
    }

    /// What the scenario has in store.
    fn befall(&mut self, now: Ms) {
        let run = Arc::clone(&self.run);
        while let Some((_, number, blow)) = run.scenario.blows.get(self.blows).copied().filter(|(at, ..)| *at <= now) {
            self.blows += 1;
            let replica = &mut self.replicas[number];
            run.state().trace.event(now, "blow", &[], || format!("replica {number} {blow:?}"));
            let fault = match blow {
                Blow::Crash(after) => {
                    replica.crash(now, after);
                    Fault::Crash
                }
                Blow::Stop(after) => {
                    replica.stop(after);
                    Fault::Stop
                }
                Blow::Freeze(lasts) => {
                    replica.stand_still(now + lasts, false);
                    Fault::Freeze
                }
                Blow::Suspend(lasts) => {
                    replica.stand_still(now + lasts, true);
                    Fault::Suspend
                }
                Blow::Step(by) => {
                    replica.set_clock(Some(by));
                    if by > 0 { Fault::StepForward } else { Fault::StepBack }
                }
            };
            run.state().tally.fire(fault);
        }
        if now >= FAULTS_END && !self.over {
            self.over = true;
            // Whoever keeps the machines sets their clocks right.
            self.replicas.iter().for_each(|replica| replica.set_clock(None));
            self.passed = domain::rehearsal::passed();
            rehearse(run.scenario.seed, &[], &self.options);
        }
        for (tenant, during) in &run.scenario.sign_in {
            let id = run.scenario.tenants[*tenant].id;
            if during.what == SignInFault::Revoked && during.from <= now && now < during.from + STEP {
                run.state().identity.revoke(id);
            }
        }
    }

    /// Reports, and what must be seen from outside.
    fn look_round(&mut self, now: Ms) {
        let memory = self.run.memory();
        for replica in &mut self.replicas {
            for report in replica.reports() {
                self.registry.take(report, &memory, now);
            }
        }
        if now % LOOK != 0 {
            return;
        }
        let mut state = self.run.state();
        let State { checker, tally, identity, .. } = &mut *state;
        let faulty = self.replicas.iter().any(|replica| replica.says_fault());
        let holders: Vec<u64> = self.replicas.iter().filter_map(|replica| replica.process(now)).collect();
        checker.nobody_is_blind_in_silence(self.run.scenario.interval, now, tally, |tenant| {
            let lease = memory.leases.get(&tenant);
            let held = lease.and_then(|lease| lease.holder).is_some_and(|holder| holders.contains(&holder));
            // Without somebody who lives and holds it, the lease itself and the absent replica are what is seen.
            // A feed that is stuck behind locks is told in the log, and nowhere else.
            !held || faulty || self.run.scenario.contended(now) || self.registry.concerns(tenant)
        });
        // A token that is dead for sure is on record.
        for tenant in &self.run.scenario.tenants {
            let Some(since) = identity.confirmed_dead(tenant.id) else { continue };
            tally.checked(Invariant::I30, 1);
            let calm = (0..REPLICAS).all(|replica| self.run.scenario.calm(replica, now));
            if now > since + TOLD_WITHIN && calm && self.registry.sign_in_needs_consent(tenant.id).is_none() {
                checker.broken(Invariant::I30, now, format!("the token of {} is dead since {since} and nobody is told", tenant.id.0));
            }
        }
        for (number, replica) in self.replicas.iter().enumerate() {
            let since = self.run.scenario.no_store_since(number, now);
            if let Some((process, since)) = replica.process(now).zip(since) {
                checker.nothing_is_fetched_without_a_store(process, since, now, tally);
            }
        }
    }

    fn all_is_well(&self, now: Ms) -> bool {
        let memory = self.run.memory();
        let state = self.run.state();
        let behind = state.checker.not_caught_up_since(FAULTS_END, &state.world);
        let missing = || state.checker.still_missing(&memory, &state.world);
        now > FAULTS_END && behind.is_none() && missing().is_none() && state.checker.still_asked(&memory).is_none()
    }

    /// The end of the run.
    fn close(&mut self, end: Ms) {
        for replica in &mut self.replicas {
            replica.crash(end, MINUTE);
        }
        let memory = self.run.memory();
        let mut state = self.run.state();
        let State { world, checker, tally, trace, .. } = &mut *state;
        if !checker.is_broken() {
            checker.at_the_end(&memory, world, end, self.restarts, tally);
            if let Some(feed) = checker.not_caught_up_since(FAULTS_END, world) {
                checker.broken(Invariant::I4, end, format!("{feed} has not caught up since the faults were over"));
            }
            if let Some(asked) = checker.still_asked(&memory) {
                checker.broken(Invariant::I4, end, format!("asked for and never done: {asked}"));
            }
        }
        for (point, action, passing) in &self.run.scenario.points {
            if self.passed.get(point).is_some_and(|passed| passed >= passing) {
                tally.fire(match action {
                    Action::Error => Fault::PointError,
                    Action::Panic => Fault::Panic,
                    Action::Abort => Fault::PointAbort,
                    Action::Delay(_) => Fault::PointDelay,
                });
            }
        }
        let seconds = u64::try_from((end - FAULTS_END).max(0) / SECOND).unwrap_or(0);
        tally.add("seconds_until_all_was_well", seconds);
        tally.add("runs", 1);
        tally.add("restarts", self.restarts);
        trace.event(end, "close", &[], String::new);
        tally.add("events", trace.events());
    }
}
