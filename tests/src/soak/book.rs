//! What a soak has seen: faults that fired, invariants that were checked, and how long things took.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is known of one fault.
#[derive(Clone, Debug, Default)]
pub struct Fired {
    /// How often it was felt.
    pub times: u64,
    /// The longest time, in milliseconds, until it showed where a person would look.
    pub shown_after_ms: Option<u64>,
    /// What went wrong with the injection itself.
    pub failures: Vec<String>,
}

/// What is known of one invariant.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// How often it was looked at.
    pub checked: u64,
    /// What was seen when it did not hold.
    pub broken: Vec<String>,
}

#[derive(Debug, Default)]
struct Pages {
    faults: BTreeMap<u8, Fired>,
    invariants: BTreeMap<u8, Checked>,
    measures: BTreeMap<&'static str, Vec<f64>>,
}

/// The book.
#[derive(Debug, Default)]
pub struct Book(Mutex<Pages>);

/// More examples than these help nobody.
const EXAMPLES: usize = 5;

impl Book {
    /// A fault was felt so many times.
    pub fn fired(&self, fault: u8, times: u64) {
        self.pages().faults.entry(fault).or_default().times += times;
    }

    /// A fault showed so many milliseconds after it was felt.
    pub fn shown(&self, fault: u8, after_ms: u64) {
        let mut pages = self.pages();
        let shown = &mut pages.faults.entry(fault).or_default().shown_after_ms;
        *shown = Some(shown.unwrap_or(0).max(after_ms));
    }

    /// A fault could not be injected, or the world did not recover from it.
    pub fn failed(&self, fault: u8, why: String) {
        super::say(&format!("fault {fault}: {why}"));
        let mut pages = self.pages();
        let failures = &mut pages.faults.entry(fault).or_default().failures;
        if failures.len() < EXAMPLES {
            failures.push(why);
        }
    }

    /// An invariant was looked at so many times and held.
    pub fn held(&self, invariant: u8, times: u64) {
        self.pages().invariants.entry(invariant).or_default().checked += times;
    }

    /// An invariant was looked at; `broken` says what was seen if it did not hold.
    pub fn check(&self, invariant: u8, broken: Option<String>) {
        let mut pages = self.pages();
        let checked = pages.invariants.entry(invariant).or_default();
        checked.checked += 1;
        if let Some(what) = broken.filter(|what| checked.broken.len() < EXAMPLES && !checked.broken.contains(what)) {
            super::say(&format!("I{invariant} DOES NOT HOLD: {what}"));
            checked.broken.push(what);
        }
    }

    /// Something took so long, or was so large.
    pub fn measure(&self, what: &'static str, value: f64) {
        self.pages().measures.entry(what).or_default().push(value);
    }

    /// A quantile (0 to 1) of what was measured under this name.
    pub fn quantile(&self, what: &str, quantile: f64) -> Option<f64> {
        let pages = self.pages();
        super::quantile(&mut pages.measures.get(what)?.clone(), quantile)
    }

    /// What is known of the faults.
    pub fn faults(&self) -> BTreeMap<u8, Fired> {
        self.pages().faults.clone()
    }

    /// What is known of the invariants.
    pub fn invariants(&self) -> BTreeMap<u8, Checked> {
        self.pages().invariants.clone()
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
