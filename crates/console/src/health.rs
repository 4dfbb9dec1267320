//! Judges what the stages say about themselves: who is alive, who does its job, and why not.
//!
//! Pure, so that each case is a line in a table. Alive and ready are two questions on purpose: a
//! stage that waits for an absent database is alive (a restart would not bring the database back)
//! and not ready (nobody should believe that alerts arrive). What is wrong with our app registration
//! is wrong for every replica alike, so it is said and makes none unready (docs/decisions/0009).

use std::time::Duration;

use domain::Ticks;
use domain::health::{Stage, StageStatus};
use serde::Serialize;

/// How old a stage's last beat may be. Stages beat every second; this leaves room for a machine that
/// swaps or a process that was stopped for a moment.
pub const FRESH_WITHIN: Duration = Duration::from_secs(30);

/// One stage, judged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Judged {
    /// The stage's word.
    pub(crate) stage: &'static str,
    /// Whether it goes round its loop.
    pub(crate) alive: bool,
    /// Whether it also does its job.
    pub(crate) ready: bool,
    /// Why it is not ready, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What a person has to mend although it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<String>,
    /// Seconds since its last beat.
    beat_age_seconds: f64,
}

/// Judges one stage. `ended` says that its task is gone, so that no further beat can come.
pub(crate) fn judge(stage: Stage, status: &StageStatus, ended: bool, now: Ticks) -> Judged {
    // A beat of the future is no proof of life: the clock was set back, and a live stage beats again
    // within a second, with a stamp that fits.
    let age = now.since(status.beat).max(status.beat.since(now));
    let alive = age <= FRESH_WITHIN;
    let reason = if ended {
        Some("the stage has ended".to_owned())
    } else if !alive {
        Some(format!("no sign of life for {} s", age.as_secs()))
    } else {
        status.fault.clone()
    };
    Judged {
        stage: stage.as_str(),
        alive,
        ready: reason.is_none(),
        reason,
        remark: status.remark.clone(),
        beat_age_seconds: age.as_secs_f64(),
    }
}

impl Judged {
    /// One line for a person.
    pub(crate) fn line(&self) -> String {
        let words = match (&self.reason, &self.remark) {
            (None, None) => "ok".to_owned(),
            (None, Some(remark)) => format!("ok, but {remark}"),
            (Some(reason), _) => reason.clone(),
        };
        // Words may come from a database or a sign-in service: they must not add lines of their own.
        format!("{}: {}", self.stage, words.replace(['\r', '\n'], " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Ticks = Ticks(17_000_000_000_000_000);

    #[test]
    fn alive_and_ready_are_two_questions() {
        let ago = |seconds| NOW.minus(Duration::from_secs(seconds));
        let later = |seconds| NOW.plus(Duration::from_secs(seconds));
        // (what is told, status, ended, alive, ready, words in the line)
        let cases = [
            ("well", StageStatus::well(NOW), false, true, true, "sink: ok"),
            ("well 30 s ago", StageStatus::well(ago(30)), false, true, true, "sink: ok"),
            ("silent for 31 s", StageStatus::well(ago(31)), false, false, false, "no sign of life for 31 s"),
            ("silent, and at fault before", StageStatus::faulty(ago(45), "old news"), false, false, false, "no sign of life for 45 s"),
            ("at fault", StageStatus::faulty(NOW, "the database is away"), false, true, false, "the database is away"),
            ("refused", StageStatus::well(NOW).remarking(Some("app main".into())), false, true, true, "sink: ok, but app main"),
            ("refused and at fault", StageStatus::faulty(NOW, "away").remarking(Some("app".into())), false, true, false, "sink: away"),
            ("ended a moment ago", StageStatus::well(NOW), true, true, false, "ended"),
            ("the clock was set back a little", StageStatus::well(later(5)), false, true, true, "sink: ok"),
            ("the clock was set back an hour", StageStatus::well(later(3600)), false, false, false, "no sign of life"),
        ];
        for (told, status, ended, alive, ready, words) in cases {
            let judged = judge(Stage::Sink, &status, ended, NOW);
            assert_eq!((judged.alive, judged.ready), (alive, ready), "{told}");
            assert!(judged.line().contains(words), "{told}: {}", judged.line());
        }
    }

    #[test]
    fn a_fault_of_several_lines_stays_one_line() {
        let judged = judge(Stage::Poller, &StageStatus::faulty(NOW, "one\r\ntwo"), false, NOW);
        assert_eq!(judged.line(), "poller: one  two");
    }
}
