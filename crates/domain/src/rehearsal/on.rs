//! Rehearsals switched on. Never part of a released binary.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use super::{BUGS, COMMAND_POINTS, NOTIFY_POINTS, POINTS, Rehearsed, STAGE_POINTS};
use crate::chance::{Chance, SeededChance};

/// What happens at a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The caller gets an error.
    Error,
    /// The task panics.
    Panic,
    /// The process ends on the spot, as after `kill -9`. A simulation sees a panic with [`Rehearsal::CRASH`].
    Abort,
    /// The task stands still for so long, by tokio's clock.
    Delay(Duration),
}

/// What is switched on.
#[derive(Debug, Default)]
pub struct Rehearsal {
    /// By point: what happens, and at which passing (`None`: at every one).
    points: BTreeMap<&'static str, (Action, Option<u64>)>,
    bugs: Vec<&'static str>,
    passed: BTreeMap<&'static str, u64>,
    simulated: bool,
    chance: Option<SeededChance>,
}

thread_local! {
    static HERE: RefCell<Option<Rehearsal>> = const { RefCell::new(None) };
}

#[expect(clippy::disallowed_methods, reason = "a rehearsal is switched on from outside, before there is a configuration")]
static EVERYWHERE: LazyLock<Option<Mutex<Rehearsal>>> =
    LazyLock::new(|| std::env::var("TOCSIN_REHEARSAL").ok().map(|text| Mutex::new(Rehearsal::parse(&text))));

impl Rehearsal {
    /// The text of the panic by which a simulated process ends.
    pub const CRASH: &'static str = "rehearsal: the process ends here";

    /// Reads the notation of `TOCSIN_REHEARSAL`.
    ///
    /// # Panics
    /// On anything it does not understand: a rehearsal that does nothing by mistake would pass.
    pub fn parse(text: &str) -> Self {
        let mut rehearsal = Self::default();
        for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
            if let Some(bug) = entry.strip_prefix("bug:") {
                rehearsal = rehearsal.bug(bug);
                continue;
            }
            let (point, what) = entry.split_once('=').unwrap_or_else(|| panic!("rehearsal: no action in {entry:?}"));
            let (what, at) = match what.split_once('@') {
                Some((what, at)) => (what, Some(at.parse().unwrap_or_else(|_| panic!("rehearsal: no number after @ in {entry:?}")))),
                None => (what, None),
            };
            let action = match what.split_once(':') {
                None if what == "error" => Action::Error,
                None if what == "panic" => Action::Panic,
                None if what == "abort" => Action::Abort,
                Some(("delay", span)) => Action::Delay(seconds(span).unwrap_or_else(|| panic!("rehearsal: no span in {entry:?}"))),
                _ => panic!("rehearsal: no known action in {entry:?}"),
            };
            rehearsal = rehearsal.at(point, action, at);
        }
        rehearsal
    }

    /// Lets a point act, at every passing or at one.
    ///
    /// # Panics
    /// When there is no such point.
    #[must_use]
    pub fn at(mut self, point: &str, action: Action, passing: Option<u64>) -> Self {
        self.points.insert(known_point(point), (action, passing));
        self
    }

    /// Plants a bug.
    ///
    /// # Panics
    /// When there is no such bug.
    #[must_use]
    pub fn bug(mut self, bug: &str) -> Self {
        self.bugs.push(known(BUGS, bug));
        self
    }

    /// Lets what is drawn without a [`Chance`] at hand repeat itself ([`unit()`]).
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.chance = Some(SeededChance::new(seed));
        self
    }

    /// Switches it on for this thread, in place of whatever was on.
    pub fn begin(mut self) {
        self.simulated = true;
        HERE.with(|here| *here.borrow_mut() = Some(self));
    }

    /// Switches off what is on for this thread, and says how often each point was passed.
    pub fn end() -> BTreeMap<&'static str, u64> {
        HERE.with(|here| here.borrow_mut().take()).map(|rehearsal| rehearsal.passed).unwrap_or_default()
    }

    fn pass(&mut self, name: &'static str) -> Option<(Action, bool)> {
        let passing = self.passed.entry(known_point(name)).or_default();
        *passing += 1;
        let (action, at) = self.points.get(name)?;
        at.is_none_or(|at| at == *passing).then(|| (action.clone(), self.simulated))
    }
}

fn seconds(span: &str) -> Option<Duration> {
    span.strip_suffix('s')?.parse().ok().map(Duration::from_secs_f64)
}

fn known(list: &'static [&'static str], name: &str) -> &'static str {
    list.iter().copied().find(|known| *known == name).unwrap_or_else(|| panic!("rehearsal: there is no {name:?}"))
}

fn known_point(name: &str) -> &'static str {
    let others = COMMAND_POINTS.iter().chain(STAGE_POINTS).chain(NOTIFY_POINTS);
    others.copied().find(|known| *known == name).unwrap_or_else(|| known(POINTS, name))
}

/// Asks the rehearsal of this thread, or else that of the process.
fn ask<T>(question: impl FnOnce(&mut Rehearsal) -> T) -> Option<T> {
    HERE.with(|here| match &mut *here.borrow_mut() {
        Some(rehearsal) => Some(question(rehearsal)),
        None => EVERYWHERE.as_ref().map(|everywhere| question(&mut everywhere.lock().unwrap_or_else(PoisonError::into_inner))),
    })
}

/// Passes a named point.
///
/// # Errors
/// When the rehearsal says so.
///
/// # Panics
/// When the rehearsal says so, or there is no such point.
pub async fn point(name: &'static str) -> Result<(), Rehearsed> {
    let told = ask(|rehearsal| rehearsal.pass(name)).flatten();
    if let Some((action, false)) = &told {
        tell(name, action);
    }
    match told {
        None => Ok(()),
        Some((Action::Error, _)) => Err(Rehearsed(name)),
        Some((Action::Panic, _)) => panic!("rehearsal: a panic at {name}"),
        Some((Action::Abort, true)) => panic!("{}", Rehearsal::CRASH),
        Some((Action::Abort, false)) => std::process::abort(),
        Some((Action::Delay(span), _)) => {
            tokio::time::sleep(span).await;
            Ok(())
        }
    }
}

/// What was made to happen stands in the output of the process, also when that is its last word: a run can prove
/// that the point was reached.
#[expect(clippy::print_stderr, reason = "a process that ends on the spot has no other way to say so")]
fn tell(name: &str, action: &Action) {
    eprintln!("rehearsal: {action:?} at {name}");
}

/// Whether a known bug is planted.
///
/// # Panics
/// When there is no such bug.
pub fn bug(name: &'static str) -> bool {
    ask(|rehearsal| rehearsal.bugs.contains(&known(BUGS, name))).unwrap_or(false)
}

/// How often each point has been passed, in this thread's rehearsal or else the process's.
pub fn passed() -> BTreeMap<&'static str, u64> {
    ask(|rehearsal| rehearsal.passed.clone()).unwrap_or_default()
}

/// A number in `0.0..1.0` that repeats itself, in a seeded rehearsal.
pub fn unit() -> Option<f64> {
    ask(|rehearsal| rehearsal.chance.as_ref().map(Chance::unit)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_point_acts_at_its_passing_and_all_are_counted() {
        Rehearsal::parse("commit.before=error@2; commit.after=delay:3s; bug:no-overlap").begin();
        assert!(point("commit.before").await.is_ok());
        assert_eq!(point("commit.before").await, Err(Rehearsed("commit.before")));
        assert!(point("commit.before").await.is_ok());
        let began = tokio::time::Instant::now();
        assert!(point("commit.after").await.is_ok());
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        assert!(bug("no-overlap") && !bug("fence-removed"));
        assert_eq!(Rehearsal::end(), BTreeMap::from([("commit.before", 3), ("commit.after", 1)]));
        assert!(point("commit.before").await.is_ok() && !bug("no-overlap"));
    }

    #[test]
    fn a_seeded_rehearsal_repeats_the_jitter_of_a_backoff() {
        let delays = |seed| {
            Rehearsal::default().seeded(seed).begin();
            let mut backoff = crate::retry::Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
            let delays: Vec<_> = (0..20).map(|_| backoff.next_delay(None)).collect();
            Rehearsal::end();
            delays
        };
        assert_eq!(delays(1), delays(1));
        assert_ne!(delays(1), delays(2));
        assert_eq!(unit(), None);
    }

    #[test]
    #[should_panic(expected = "there is no \"commit.nowhere\"")]
    fn a_point_that_does_not_exist_is_a_mistake() {
        let _ = Rehearsal::parse("commit.nowhere=error");
    }
}
