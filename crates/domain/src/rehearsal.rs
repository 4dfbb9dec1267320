//! Failing on purpose: named points where a rehearsal may let the code fail, and known bugs it may plant.
//!
//! Without the feature `rehearsal`, which no released binary has, every function here is empty and compiles to
//! nothing. With it, a point or a bug is switched on for the current thread ([`Rehearsal::begin`]: simulations,
//! which run on one thread each), or for the whole process by the environment: `TOCSIN_REHEARSAL` holds entries
//! separated by `;`, such as
//!
//! ```text
//! commit.before=abort@3; cursor.read=error; refresh.answered=delay:35s; bug:gt-instead-of-ge
//! ```
//!
//! `@3` means the third time and only then; without it every time. A point that was passed is counted, so that a
//! run can prove that it fired ([`passed`]).

/// Every step that a daemon passes. A name that is neither here nor in [`COMMAND_POINTS`], [`STAGE_POINTS`] or
/// [`NOTIFY_POINTS`] is a mistake and panics in a rehearsal.
pub const POINTS: &[&str] = &[
    // token-refresher
    "refresh.before-call",
    "refresh.answered",
    "refresh.before-save",
    "refresh.saved",
    // alert-poller
    "fetch.before-call",
    "fetch.answered",
    "deliver.before-slice",
    "deliver.acknowledged",
    // microsoft
    "split.before",
    "split.after",
    // sink
    "commit.begin",
    "commit.fence",
    "commit.looked-up",
    "commit.versions",
    "commit.latest",
    "cursor.before",
    "cursor.after",
    "commit.before",
    "commit.after",
    "cursor.read",
    // digester
    "digest.begin",
    "digest.derived",
    "digest.before-commit",
    "digest.committed",
    // tenant-registry
    "lease.before-renew",
    "lease.renewed",
    "lease.before-claim",
    "lease.claimed",
    "lease.before-release",
];

/// The points that commands pass, and no daemon.
pub const COMMAND_POINTS: &[&str] = &[
    // tenant-registry
    "rotate.begin",
    "rotate.noted",
    "rotate.next-in-ring",
    "rotate.all-have-it",
    "rotate.before-activation",
    "rotate.activated",
    "rotate.before-batch",
    "rotate.batch-wrapped",
    "rotate.batch-written",
    "rotate.batch-committed",
    "retire.noted",
    "retire.removed",
];

/// The points in the loop of a stage, which are no step of anything: a delay there makes the stage stand still, so that it
/// gives no sign of life.
pub const STAGE_POINTS: &[&str] = &[
    // alert-poller
    "poller.beat",
];

/// The points that a daemon passes only where it tells somebody.
pub const NOTIFY_POINTS: &[&str] = &[
    // notifier
    "notify.sent",
];

/// Every bug that can be planted. The suites have to go red for each of them.
pub const BUGS: &[&str] = &[
    "gt-instead-of-ge",
    "no-overlap",
    "cursor-before-commit",
    "cursor-moves-on-failure",
    "fence-removed",
    "skip-on-descending-order",
    "foreign-link-followed",
    "rotated-token-not-saved",
    "clamp-not-noticed",
    "microseconds-only",
    "older-overwrites-newer",
    "poison-drops-page",
    "dedupe-by-id-only",
    "two-redemptions-at-once",
    "ceiling-ignored",
];

/// What a point was told to do, as far as the caller has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rehearsal lets \"{0}\" fail")]
pub struct Rehearsed(pub &'static str);

#[cfg(not(feature = "rehearsal"))]
mod off {
    use super::Rehearsed;

    /// Passes a named point. Without rehearsals it does nothing.
    ///
    /// # Errors
    /// Never without rehearsals.
    #[inline]
    pub async fn point(_name: &'static str) -> Result<(), Rehearsed> {
        Ok(())
    }

    /// Whether a known bug is planted. Without rehearsals none is.
    #[inline]
    pub const fn bug(_name: &'static str) -> bool {
        false
    }

    /// A number in `0.0..1.0` that repeats itself, in a seeded rehearsal. Without rehearsals there is none.
    #[inline]
    pub const fn unit() -> Option<f64> {
        None
    }
}
#[cfg(not(feature = "rehearsal"))]
pub use off::{bug, point, unit};

#[cfg(feature = "rehearsal")]
mod on;
#[cfg(feature = "rehearsal")]
pub use on::{Action, Rehearsal, bug, passed, point, unit};
