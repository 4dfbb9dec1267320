//! One check of a diagnosis, and how several of them read.

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// As it should be.
    Ok,
    /// It works, and will not for ever.
    Warn,
    /// It does not work.
    Fail,
}

impl Outcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One check. Nothing but `private` may hold a name, an address or a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// Given once all checks are there.
    pub(super) number: usize,
    pub(super) title: &'static str,
    pub(super) outcome: Outcome,
    /// What was found.
    pub(super) found: String,
    /// Why that matters.
    pub(super) why: &'static str,
    /// What to do and who; nothing when all is well.
    pub(super) fix: Option<String>,
    /// What only this machine's people may read.
    #[serde(skip)]
    pub(super) private: Vec<String>,
}

impl Check {
    /// A check that found all well.
    pub(super) fn ok(title: &'static str, why: &'static str, found: impl Into<String>) -> Self {
        Self { number: 0, title, outcome: Outcome::Ok, found: found.into(), why, fix: None, private: Vec::new() }
    }

    /// The same, but not well.
    pub(super) fn but(self, outcome: Outcome, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { outcome, found: found.into(), fix: Some(fix.into()), ..self }
    }

    /// With a sentence for this machine's people.
    pub(super) fn privately(mut self, sentences: impl IntoIterator<Item = String>) -> Self {
        self.private.extend(sentences);
        self
    }
}

/// Counts: how many are well, warn, and fail.
pub(super) fn tally(checks: &[Check]) -> [usize; 3] {
    [Outcome::Ok, Outcome::Warn, Outcome::Fail].map(|outcome| checks.iter().filter(|check| check.outcome == outcome).count())
}
