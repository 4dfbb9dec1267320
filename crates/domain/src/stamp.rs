//! Time stamps of the alert APIs, exact to the 100 nanoseconds that they carry.
//!
//! Microsoft sends UTC with 0 to 7 fractional digits. Postgres keeps 6, so a stamp that goes through
//! `timestamptz` and back names another instant, and a cursor made of it skips or repeats alerts.
//! Therefore cursors are [`Ticks`]. A stamp may also be absurd (year 9999, year 1, empty, no zone):
//! [`Ticks::parse`] answers `None` to what it cannot place on the time line, and no alert is ever
//! lost for its stamp.

use std::fmt;
use std::time::Duration;

use jiff::civil;

/// 100-nanosecond units since 1970-01-01T00:00:00Z; negative before. Years 1 to 9999 fit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticks(pub i64);

const EPOCH: civil::DateTime = civil::date(1970, 1, 1).at(0, 0, 0, 0);
const PER_SECOND: i64 = 10_000_000;

impl Ticks {
    /// Reads an RFC 3339 stamp. `None` for anything without a date, a time and a zone, or outside
    /// years 1 to 9999. Digits past the seventh are cut off.
    pub fn parse(text: &str) -> Option<Self> {
        let (civil_part, offset_seconds) = split_zone(text)?;
        if civil_part.as_bytes().get(10).is_none_or(|byte| !matches!(byte, b'T' | b't' | b' ')) {
            return None;
        }
        let civil: civil::DateTime = civil_part.parse().ok()?;
        if civil.year() < 1 {
            return None;
        }
        let since_epoch = civil.duration_since(EPOCH);
        let ticks = since_epoch.as_nanos().div_euclid(100);
        let ticks = i64::try_from(ticks).ok()?;
        ticks.checked_sub(offset_seconds.checked_mul(PER_SECOND)?).map(Self)
    }

    /// The tick at or before `timestamp`.
    pub fn from_timestamp(timestamp: jiff::Timestamp) -> Self {
        // Years -9999 to 9999 in ticks are far inside i64.
        Self(i64::try_from(timestamp.as_nanosecond().div_euclid(100)).unwrap_or(i64::MAX))
    }

    /// The instant as a timestamp, or `None` beyond what one can hold (the last two days of 9999).
    pub fn to_timestamp(self) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_nanosecond(i128::from(self.0) * 100).ok()
    }

    /// This instant moved into the past, saturating.
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(to_ticks(span)))
    }

    /// This instant moved into the future, saturating.
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(to_ticks(span)))
    }

    /// The next instant that can be told apart.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        let ticks = u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0);
        Duration::from_nanos(ticks.saturating_mul(100))
    }
}

/// The stamp as Microsoft's filters take it: seven fractional digits and `Z`.
impl fmt::Display for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(PER_SECOND);
        let fraction = self.0.rem_euclid(PER_SECOND);
        match EPOCH.checked_add(jiff::SignedDuration::from_secs(seconds)) {
            Ok(civil) => write!(f, "{}.{fraction:07}Z", civil.strftime("%Y-%m-%dT%H:%M:%S")),
            Err(_) => write!(f, "{} ticks", self.0),
        }
    }
}

impl fmt::Debug for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticks({self})")
    }
}

fn to_ticks(span: Duration) -> i64 {
    i64::try_from(span.as_nanos() / 100).unwrap_or(i64::MAX)
}

/// Splits `2026-01-02T03:04:05.6Z` into the local part and the offset east of UTC in seconds.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    if let Some(civil) = text.strip_suffix(['Z', 'z']) {
        return Some((civil, 0));
    }
    let sign_at = text.rfind(['+', '-']).filter(|at| *at > 10)?;
    let (civil, zone) = text.split_at(sign_at);
    let (hours, minutes) = match zone.as_bytes() {
        [_, h1, h2, b':', m1, m2] | [_, h1, h2, m1, m2] => (two(*h1, *h2)?, two(*m1, *m2)?),
        [_, h1, h2] => (two(*h1, *h2)?, 0),
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = hours * 3600 + minutes * 60;
    Some((civil, if zone.starts_with('-') { -seconds } else { seconds }))
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    Some(digit(tens)? * 10 + digit(ones)?)
}

#[cfg(test)]
mod tests {
    use super::Ticks;

    fn ticks(text: &str) -> i64 {
        Ticks::parse(text).unwrap_or_else(|| panic!("{text} should be readable")).0
    }

    #[test]
    fn every_precision_microsoft_sends_is_read_exactly() {
        assert_eq!(ticks("1970-01-01T00:00:00Z"), 0);
        assert_eq!(ticks("2020-06-30T10:09:01.1569718Z"), 15_935_117_411_569_718);
        assert_eq!(ticks("2020-06-30T10:09:01.19Z"), 15_935_117_411_900_000);
        assert_eq!(ticks("2020-06-30T10:09:01Z"), 15_935_117_410_000_000);
        assert_eq!(ticks("2020-06-30T10:09:01.156971899Z"), 15_935_117_411_569_718);
    }

    #[test]
    fn offsets_name_the_same_instant() {
        let zulu = ticks("2020-06-30T10:09:01.5Z");
        for same in ["2020-06-30T10:09:01.5+00:00", "2020-06-30T12:09:01.5+02:00", "2020-06-30T05:39:01.5-0430", "2020-06-30T12:09:01.5+02"]
        {
            assert_eq!(ticks(same), zulu, "{same}");
        }
    }

    #[test]
    fn the_sentinels_of_dotnet_are_readable() {
        assert_eq!(ticks("0001-01-01T00:00:00Z"), -621_355_968_000_000_000);
        assert_eq!(ticks("9999-12-31T23:59:59.9999999Z"), 2_534_023_007_999_999_999);
    }

    #[test]
    fn what_cannot_be_placed_is_none_and_never_a_panic() {
        for text in [
            "",
            "Z",
            "null",
            "2020-06-30",
            "2020-06-30T10:09:01",
            "2020-06-30T10:09:01.5",
            "10:09:01Z",
            "2020-13-30T10:09:01Z",
            "2020-06-30T25:09:01Z",
            "-0001-01-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "2020-06-30T10:09:01+99:00",
            "2020-06-30T10:09:01+ä",
            "ä020-06-30T10:09:01Z",
            "2020-06-30T10:09:01ZZ",
            "99999-01-01T00:00:00Z",
            "2020-06-30T10:09:01.Z",
        ] {
            assert_eq!(Ticks::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_printed_stamp_reads_back() {
        for text in
            ["2020-06-30T10:09:01.1569718Z", "0001-01-01T00:00:00.0000000Z", "9999-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.9999999Z"]
        {
            assert_eq!(Ticks(ticks(text)).to_string(), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_tick_of_years_1_to_9999_round_trips(value in -621_355_968_000_000_000_i64..2_534_023_008_000_000_000) {
            proptest::prop_assert_eq!(Ticks::parse(&Ticks(value).to_string()), Some(Ticks(value)));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = Ticks::parse(&text);
        }
    }
}
