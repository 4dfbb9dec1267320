//! A moment as people type it: how long ago, or when.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use domain::Ticks;

/// Before this there was nothing to be asked for, and arithmetic with instants ends at some year.
const LONGEST: Duration = Duration::from_hours(24 * 36_500);

/// A moment of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// So long ago.
    Ago(Duration),
    /// At this instant.
    At(Ticks),
}

impl Moment {
    /// As an instant.
    pub(crate) fn before(self, now: Ticks) -> Ticks {
        match self {
            Self::Ago(span) => now.minus(span),
            Self::At(at) => at,
        }
    }
}

/// An end that somebody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// On this day or at this instant.
    At(Ticks),
    /// None.
    Never,
}

impl FromStr for End {
    type Err = NoEnd;

    fn from_str(text: &str) -> Result<Self, NoEnd> {
        if text == "never" { Ok(Self::Never) } else { day_or_instant(text).map(Self::At).ok_or(NoEnd) }
    }
}

/// What was typed is no end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoEnd;

impl fmt::Display for NoEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write a date such as 2027-03-01, or never")
    }
}

impl std::error::Error for NoEnd {}

/// A day, which begins at midnight (UTC), or an instant.
pub(crate) fn day_or_instant(text: &str) -> Option<Ticks> {
    let day = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if day { Ticks::parse(&format!("{text}T00:00:00Z")) } else { Ticks::parse(text) }
}

/// What was typed is no moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoMoment;

impl fmt::Display for NoMoment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write how long ago (30m, 24h, 7d) or when (2026-11-20, 2026-11-20T08:00:00Z), at most a hundred years")
    }
}

impl std::error::Error for NoMoment {}

impl FromStr for Moment {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        if let Ok(span) = humantime::parse_duration(text) {
            return if span <= LONGEST { Ok(Self::Ago(span)) } else { Err(NoMoment) };
        }
        day_or_instant(text).map(Self::At).ok_or(NoMoment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_counted_back_from_now_and_a_time_is_itself() {
        let now = Ticks::parse("2026-11-21T12:00:00Z").unwrap();
        for (text, at) in [
            ("24h", "2026-11-20T12:00:00Z"),
            ("7d", "2026-11-14T12:00:00Z"),
            ("1h 30m", "2026-11-21T10:30:00Z"),
            ("0s", "2026-11-21T12:00:00Z"),
            ("2026-11-20T08:00:00Z", "2026-11-20T08:00:00Z"),
            ("2026-11-20T08:00:00.1234567Z", "2026-11-20T08:00:00.1234567Z"),
            ("2026-11-20", "2026-11-20T00:00:00Z"),
            ("2026-11-20T08:00:00+03:00", "2026-11-20T05:00:00Z"),
        ] {
            assert_eq!(text.parse::<Moment>().map(|moment| moment.before(now)), Ok(Ticks::parse(at).unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused_with_examples() {
        for text in ["yesterday", "", "-24h", "24", "2026-13-20", "20.11.2026", "24h ago", "----------", "36501d", "999999d"] {
            let refused = text.parse::<Moment>().unwrap_err().to_string();
            assert!(refused.contains("24h") && refused.contains("2026-11-20T08:00:00Z"), "{text}");
        }
    }

    #[test]
    fn an_end_is_a_date_or_there_is_none() {
        assert_eq!("2027-03-01".parse(), Ok(End::At(Ticks::parse("2027-03-01T00:00:00Z").unwrap())));
        assert_eq!("never".parse(), Ok(End::Never));
        for text in ["", "30d", "Never ", "2027-13-01", "soon"] {
            assert_eq!(text.parse::<End>(), Err(NoEnd), "{text}");
        }
    }
}
