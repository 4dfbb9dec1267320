//! How often each fault fired and each invariant was really checked: a run that never did either proves nothing.

use std::collections::BTreeMap;

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $(#[doc = $word] $variant,)+ }

        impl $name {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word in the report.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

named! {
    /// A fault, with its numbers in the fault catalogue of the design where it has some.
    Fault {
        AnswerHangs = "2/8/10 an answer that never comes",
        AnswerTruncated = "9/11/13 an answer that is no page",
        Throttled = "14/15 throttled, with odd times to wait",
        Unavailable = "16 5xx",
        PageFails = "17 only some pages fail",
        LinkExpired = "18 the link to the next page has expired",
        LinkForeign = "19 the link leads to another host",
        LinkLoops = "20 links lead in circles",
        LinkPresent = "links that lead on",
        Ties = "21 equal stamps across a page border",
        LateWithinOverlap = "22 late arrival, within the overlap",
        LateBeyondOverlap = "23 late arrival, beyond the overlap",
        Update = "24 rows move between pages",
        OlderAfterNewer = "25 an older version after a newer",
        IdsDifferInCase = "26 ids differ in case",
        Poison = "27-30 records that cannot be understood",
        RecordTooLarge = "31 a record that is too large",
        RecordAlwaysFails = "a record that the source cannot give",
        NullStamp = "27 no update stamp",
        Year9999 = "27 the year 9999",
        OrderIgnored = "$orderby ignored",
        OrderRefused = "$orderby refused",
        Clamp = "$top clamped in silence",
        Revoked = "33 refresh token revoked, and a new one imported",
        InteractionRequired = "34 a user must act",
        AppRefused = "35 our own app is refused",
        RefreshAbsent = "36 no new refresh token in the answer",
        RefreshAnswerLost = "37 answer lost after rotation",
        StrictRotation = "a reused refresh token revokes the family",
        OddExpiresIn = "40 odd expires_in",
        SignInUnavailable = "42 sign-in temporarily unavailable",
        Unauthorized = "43 401 in mid-flight",
        StoreAway = "44/45 the store is away",
        StoreSilent = "the store does not answer",
        CommitAnswerLost = "46 the answer to a commit is lost",
        StoreReadOnly = "48 the store is read-only",
        StoreContention = "51/52 deadlock, lock wait",
        DataRefused = "the store refuses one record",
        Crash = "56 a process dies at any await",
        Stop = "57 a process is asked to stop",
        Freeze = "59 a process stands still for longer than its lease",
        Panic = "60 a panic in a task",
        PointError = "an error at a named point",
        PointDelay = "61 a long delay at a named point",
        PointAbort = "the process ends at a named point",
        StepForward = "65 the clock steps 2 h forward",
        StepBack = "66 the clock steps 2 h back",
        Suspend = "67 the machine sleeps for 10 min",
        Skew = "the clocks differ by up to 10 min",
        AskedBackfill = "an operator asks for a stretch to be read back",
        AskedReconcile = "an operator asks for a comparison",
        AskedReplay = "an operator asks for quarantine to be tried again",
        ComparisonDue = "the nightly comparison is due",
        CutFromStore = "68 a replica is cut from the store only",
        CutFromCloud = "69 a replica is cut from Microsoft only",
    }
}

named! {
    /// What must never break.
    Invariant {
        I1 = "I1",
        I2 = "I2",
        I3 = "I3",
        I4 = "I4",
        I5 = "I5",
        I6 = "I6",
        I7 = "I7",
        I10 = "I10",
        I11 = "I11",
        I12 = "I12",
        I24 = "I24",
        I29 = "I29",
        I30 = "I30",
        I31 = "I31",
        I33 = "I33",
    }
}

/// Counts of one run, or of many.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    faults: BTreeMap<Fault, u64>,
    checks: BTreeMap<Invariant, u64>,
    /// Other figures, by name.
    figures: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// A fault happened.
    pub fn fire(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub(crate) fn fire_if(&mut self, fired: bool, fault: Fault) {
        if fired {
            self.fire(fault);
        }
    }

    /// An invariant was held against what happened, so many times.
    pub fn checked(&mut self, invariant: Invariant, times: u64) {
        if times > 0 {
            *self.checks.entry(invariant).or_default() += times;
        }
    }

    /// Adds to a figure.
    pub fn add(&mut self, figure: &'static str, by: u64) {
        *self.figures.entry(figure).or_default() += by;
    }

    /// Takes in the counts of another run.
    pub fn merge(&mut self, other: &Self) {
        for (fault, times) in &other.faults {
            *self.faults.entry(*fault).or_default() += times;
        }
        for (invariant, times) in &other.checks {
            *self.checks.entry(*invariant).or_default() += times;
        }
        for (figure, by) in &other.figures {
            *self.figures.entry(figure).or_default() += by;
        }
    }

    /// How often a fault fired.
    pub fn fired(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or(0)
    }

    /// A figure.
    pub fn figure(&self, name: &str) -> u64 {
        self.figures.get(name).copied().unwrap_or(0)
    }

    /// What is in scope and never happened.
    pub fn never(&self) -> Vec<&'static str> {
        let faults = Fault::ALL.iter().filter(|fault| !self.faults.contains_key(fault)).map(|fault| fault.as_str());
        let checks = Invariant::ALL.iter().filter(|invariant| !self.checks.contains_key(invariant)).map(|invariant| invariant.as_str());
        faults.chain(checks).collect()
    }

    /// As JSON: faults fired, invariants checked, figures.
    pub fn json(&self) -> serde_json::Value {
        let faults: BTreeMap<_, _> = self.faults.iter().map(|(fault, times)| (fault.as_str(), times)).collect();
        let checks: BTreeMap<_, _> = self.checks.iter().map(|(invariant, times)| (invariant.as_str(), times)).collect();
        serde_json::json!({ "faults_fired": faults, "invariants_checked": checks, "figures": self.figures })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_is_named_and_counts_add_up() {
        let mut tally = Tally::default();
        assert_eq!(tally.never().len(), Fault::ALL.len() + Invariant::ALL.len());
        let mut other = Tally::default();
        other.fire(Fault::Ties);
        other.checked(Invariant::I1, 3);
        other.checked(Invariant::I3, 0);
        tally.merge(&other);
        tally.merge(&other);
        assert_eq!(tally.fired(Fault::Ties), 2);
        assert_eq!(tally.json()["invariants_checked"]["I1"], 6);
        assert!(tally.never().contains(&"I3") && !tally.never().contains(&"I1"));
    }
}
