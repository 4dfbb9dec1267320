//! A run of one seed: an hour with faults, then none, until everything is well.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Once};

use domain::rehearsal::{Action, Rehearsal};
use domain::{Report, ReportOrigin, TenantId, TenantState, Verdict};

use crate::check::{Broken, Checker};
use crate::identity::Identity;
use crate::leases::Needs;
use crate::process::{Run, State};
use crate::replica::Replica;
use crate::scenario::{Blow, CONVERGE, FAULTS_END, REPLICAS, SignInFault, draw};
use crate::store::{Lease, Memory, Tables};
use crate::tally::{Fault, Invariant, Tally};
use crate::time::{MINUTE, Ms, SECOND};
use crate::trace::Trace;
use crate::vault::Vault;

/// Processes take turns of this length.
pub(crate) const STEP: Ms = 2 * SECOND;
/// An operator who is told that a customer must consent again sees to it within this.
const OPERATOR: Ms = 90 * SECOND;
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

/// What is on record about a tenant's troubles.
#[derive(Debug, Default)]
struct Registry {
    troubles: BTreeMap<(TenantId, ReportOrigin), (Verdict, Ms)>,
}

impl Registry {
    /// Tenants that need somebody.
    fn needs(&self) -> Needs {
        let need = |((tenant, _), (verdict, _)): (&(TenantId, ReportOrigin), &(Verdict, Ms))| match verdict {
            Verdict::NeedsConsent => Some((*tenant, TenantState::NeedsConsent)),
            Verdict::NeedsCustomer => Some((*tenant, TenantState::NeedsCustomer)),
            _ => None,
        };
        self.troubles.iter().filter_map(need).collect()
    }

    fn take(&mut self, report: Report, memory: &Memory, now: Ms) {
        match report {
            Report::Trouble { fence, origin, trouble } if memory.stands(fence) => {
                let since = self.troubles.get(&(fence.tenant, origin)).map_or(now, |(_, since)| *since);
                self.troubles.insert((fence.tenant, origin), (trouble.verdict, since));
            }
            Report::Working { fence, origin } if memory.stands(fence) => {
                self.troubles.remove(&(fence.tenant, origin));
            }
            _ => {}
        }
    }

    /// Whether anything is on record about a tenant. Who is throttled at one source is left alone at the others of the
    /// same API as well.
    fn concerns(&self, tenant: TenantId) -> bool {
        self.troubles.keys().any(|(whose, _)| *whose == tenant)
    }

    fn sign_in_needs_consent(&self, tenant: TenantId) -> Option<Ms> {
        let (verdict, since) = self.troubles.get(&(tenant, ReportOrigin::SignIn))?;
        (*verdict == Verdict::NeedsConsent).then_some(*since)
    }
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
    let state = State { world, identity, vault, checker: Checker::default(), tally, trace };
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
    restarts: u64,
    options: Options,
    /// How often each point was passed while they could act.
    passed: BTreeMap<&'static str, u64>,
}

impl Hour {
    fn new(run: Arc<Run>, options: Options) -> Self {
        let replicas = (0..REPLICAS).map(|number| Replica::new(number, run.scenario.skews[number])).collect();
        Self { run, replicas, registry: Registry::default(), processes: 0, blows: 0, restarts: 0, options, passed: BTreeMap::new() }
    }

    /// Lets time pass until all is well, something is broken, or it takes too long. Says when that is.
    fn pass(&mut self) -> Ms {
        let mut now = 0;
        while now < FAULTS_END + CONVERGE {
            self.befall(now);
            self.operate(now);
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
            if self.run.state().checker.is_broken() || (now > FAULTS_END + MINUTE && now % (10 * SECOND) == 0 && self.all_is_well(now)) {
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
        if now == FAULTS_END {
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

    /// Operators do what they are asked to, once the customer lets them.
    fn operate(&mut self, now: Ms) {
        let run = Arc::clone(&self.run);
        for (number, tenant) in run.scenario.tenants.iter().enumerate() {
            let refused = run.scenario.sign_in.iter().any(|(whom, during)| {
                let lasts = matches!(during.what, SignInFault::Revoked | SignInFault::Interaction);
                *whom == number && lasts && during.at(now).is_some()
            });
            let asked = self.registry.sign_in_needs_consent(tenant.id).is_some_and(|since| now >= since + OPERATOR);
            if refused || !asked || run.store_fault(REPLICAS, now).is_some() {
                continue;
            }
            let mut state = run.state();
            let serial = state.identity.consent(tenant.id, tenant.rotation);
            state.vault.import(tenant.id, serial);
            state.tally.fire(Fault::Revoked);
            state.trace.event(now, "import", &[serial.0], || format!("tenant {number}"));
            self.registry.troubles.remove(&(tenant.id, ReportOrigin::SignIn));
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
        if now % (10 * SECOND) != 0 {
            return;
        }
        let mut state = self.run.state();
        let State { checker, tally, identity, .. } = &mut *state;
        let faulty = self.replicas.iter().any(|replica| replica.says_fault());
        let holders: Vec<u64> = self.replicas.iter().filter_map(|replica| replica.process(now)).collect();
        checker.nobody_is_blind_in_silence(now, tally, |tenant| {
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
        let store_is_away = self.run.scenario.store.iter().any(|(_, during)| during.at(now).is_some());
        tally.checked(Invariant::I29, u64::from(store_is_away));
    }

    fn all_is_well(&self, now: Ms) -> bool {
        let memory = self.run.memory();
        let state = self.run.state();
        let behind = state.checker.not_caught_up_since(FAULTS_END, &state.world);
        now > FAULTS_END && behind.is_none() && state.checker.still_missing(&memory, &state.world).is_none()
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
