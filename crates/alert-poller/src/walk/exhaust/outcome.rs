//! What reading a span to its end is told with each answer, and what it says.

use domain::{GapKind, Ticks};

/// What is known besides the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Records asked for.
    pub(crate) top: u32,
    /// The longest answer before this one.
    pub(crate) longest: usize,
    /// The most that `$skip` may say.
    pub(crate) max_skip: u32,
    /// The latest instant that a cursor may reach.
    pub(crate) ceiling: Ticks,
}

/// How it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Ask again.
    Continue,
    /// The links of this source lead in circles; ask again, without them.
    LinksUseless,
    /// Everything in the span has been seen.
    Complete,
    /// The span holds more than an answer does, and can be cut.
    More,
    /// The rest of the narrowest span is out of reach, for this reason.
    Gap(GapKind, &'static str),
}
