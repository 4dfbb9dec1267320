//! Points in time the way Microsoft writes them: 100 ns ticks, zero to seven fractional digits, trailing
//! zeros dropped, `Z` at the end, and years no time library would accept. That is why this is written by
//! hand: a pretend Microsoft must be able to send, sort and filter the year 9999.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const TICKS_PER_SECOND: i64 = 10_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// A point in time, counted in 100-nanosecond ticks since 1970-01-01T00:00:00Z.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Stamp(i64);

impl Stamp {
    /// The stamp that many ticks (100 ns) after the start of 1970.
    pub const fn from_ticks(ticks: i64) -> Stamp {
        Stamp(ticks)
    }

    /// Ticks (100 ns) since the start of 1970.
    pub const fn ticks(self) -> i64 {
        self.0
    }

    /// The stamp of whole seconds since the start of 1970.
    pub const fn from_unix_seconds(seconds: i64) -> Stamp {
        Stamp(seconds * TICKS_PER_SECOND)
    }

    /// Whole seconds since the start of 1970, rounded down.
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(TICKS_PER_SECOND)
    }

    /// Reads `2021-04-27T12:19:27.7211305Z`, with zero to seven fractional digits and `Z` or `±hh:mm`.
    /// Anything else, an eighth digit included, is `None`.
    pub fn parse(text: &str) -> Option<Stamp> {
        let bytes = text.as_bytes();
        if bytes.len() < 20 || !text.is_ascii() {
            return None;
        }
        let number = |from: usize, to: usize| -> Option<i64> {
            let digits = &text[from..to];
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
        };
        let marks = bytes[4] == b'-' && bytes[7] == b'-' && bytes[10] == b'T' && bytes[13] == b':' && bytes[16] == b':';
        if !marks {
            return None;
        }
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let mut rest = &text[19..];
        let mut fraction = 0;
        if let Some(after) = rest.strip_prefix('.') {
            let length = after.bytes().take_while(u8::is_ascii_digit).count();
            if length == 0 || length > 7 {
                return None;
            }
            fraction = after[..length].parse::<i64>().ok()? * 10_i64.pow(7 - length as u32);
            rest = &after[length..];
        }
        let offset = offset_seconds(rest)?;
        let seconds = days_from_civil(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset;
        Some(Stamp(seconds * TICKS_PER_SECOND + fraction))
    }

    /// This moment moved into the future.
    pub fn plus(self, by: Duration) -> Stamp {
        Stamp(self.0.saturating_add(ticks_of(by)))
    }

    /// This moment moved into the past.
    pub fn minus(self, by: Duration) -> Stamp {
        Stamp(self.0.saturating_sub(ticks_of(by)))
    }

    /// The latest point of the 1/300 s grid that is not after this one.
    ///
    /// Every last-update value Microsoft shows lies on that grid (`.1133333`, `.3266667`), which is why equal
    /// stamps on different alerts are ordinary.
    pub fn on_grid(self) -> Stamp {
        Stamp::from_grid(self.grid_index())
    }

    /// The next point of the 1/300 s grid after this one.
    pub fn next_on_grid(self) -> Stamp {
        Stamp::from_grid(self.grid_index() + 1)
    }

    fn grid_index(self) -> i64 {
        let seconds = self.0.div_euclid(TICKS_PER_SECOND);
        let within = self.0.rem_euclid(TICKS_PER_SECOND);
        // The one more makes up for grid points that were rounded down to a whole tick.
        seconds * 300 + (within * 3 + 1) / 100_000
    }

    fn from_grid(index: i64) -> Stamp {
        let seconds = index.div_euclid(300);
        let within = index.rem_euclid(300);
        Stamp(seconds * TICKS_PER_SECOND + (within * 100_000 + 1) / 3)
    }

    /// `Tue, 27 Apr 2021 12:19:27 GMT`, for headers.
    pub fn http_date(self) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let parts = self.parts();
        let weekday = DAYS[self.unix_seconds().div_euclid(SECONDS_PER_DAY).rem_euclid(7) as usize];
        let month = MONTHS[(parts.month - 1) as usize];
        format!("{weekday}, {:02} {month} {:04} {:02}:{:02}:{:02} GMT", parts.day, parts.year, parts.hour, parts.minute, parts.second)
    }

    /// `2016-01-09 02:02:12Z`, as the token endpoint writes it (and RFC 3339 does not).
    pub fn sign_in_text(self) -> String {
        let p = self.parts();
        format!("{:04}-{:02}-{:02} {:02}:{:02}:{:02}Z", p.year, p.month, p.day, p.hour, p.minute, p.second)
    }

    /// `2020-08-18T12:51:51`, without a zone, as Graph writes it inside errors.
    pub fn error_text(self) -> String {
        let p = self.parts();
        format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", p.year, p.month, p.day, p.hour, p.minute, p.second)
    }

    fn parts(self) -> Parts {
        let seconds = self.unix_seconds();
        let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
        let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
        Parts { year, month, day, hour: of_day / 3600, minute: of_day / 60 % 60, second: of_day % 60 }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error_text())?;
        let fraction = self.0.rem_euclid(TICKS_PER_SECOND);
        if fraction != 0 {
            write!(f, ".{}", format!("{fraction:07}").trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl std::str::FromStr for Stamp {
    type Err = NotAStamp;
    fn from_str(text: &str) -> Result<Stamp, NotAStamp> {
        Stamp::parse(text).ok_or_else(|| NotAStamp(text.to_owned()))
    }
}

/// The text is no time stamp in the form Microsoft writes.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no time stamp such as 2021-04-27T12:19:27.7211305Z")]
pub struct NotAStamp(String);

struct Parts {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

fn ticks_of(span: Duration) -> i64 {
    i64::try_from(span.as_nanos() / 100).unwrap_or(i64::MAX)
}

fn offset_seconds(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone[1..].split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    Some(sign * (hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar. Years are counted from March, so that the
/// leap day is the last one of its year and needs no special case.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Where the simulator takes its time from: the machine, or a hand that moves it.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock: what the stand-alone program uses.
    Real,
    /// A clock that stands still until it is moved. Two runs with the same steps publish the same bytes.
    Manual(ManualClock),
}

/// A clock that only moves when told to; clones share the same hand.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<Stamp>>);

impl ManualClock {
    /// A clock that stands at this moment.
    pub fn at(start: Stamp) -> ManualClock {
        ManualClock(Arc::new(Mutex::new(start)))
    }

    /// Moves the hand forward.
    pub fn advance(&self, by: Duration) {
        let mut hand = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *hand = hand.plus(by);
    }

    /// What the clock shows.
    pub fn now(&self) -> Stamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock {
    /// The present moment by this clock.
    pub fn now(&self) -> Stamp {
        match self {
            Clock::Manual(clock) => clock.now(),
            Clock::Real => Clock::machine(),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the simulator asks the machine; everything else is handed a `Clock`"
    )]
    fn machine() -> Stamp {
        let now = jiff::Timestamp::now();
        Stamp(now.as_second() * TICKS_PER_SECOND + i64::from(now.subsec_nanosecond()) / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_keep_seven_digits_and_drop_trailing_zeros() {
        for text in [
            "2021-04-27T12:19:27.7211305Z",
            "2020-07-20T10:53:50.19Z",
            "2021-01-26T20:33:59.2Z",
            "2021-01-26T20:33:59Z",
            "9999-12-31T23:59:59.9999999Z",
            "0001-01-01T00:00:00Z",
            "2024-02-29T23:59:59Z",
        ] {
            assert_eq!(Stamp::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_stamp_is_refused() {
        for text in [
            "",
            "2021-04-27",
            "2021-04-27T12:19:27",
            "2021-04-27T12:19:27.72113055Z",
            "2021-02-29T12:00:00Z",
            "2021-13-01T00:00:00Z",
            "2021-04-27T12:19:27 00:00",
            "２021-04-27T12:19:27Z",
        ] {
            assert_eq!(Stamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn offsets_are_turned_into_utc() {
        assert_eq!(Stamp::parse("2021-04-27T14:19:27.5+02:00"), Stamp::parse("2021-04-27T12:19:27.5Z"));
    }

    #[test]
    fn the_grid_is_the_one_seen_in_the_field() {
        for text in
            ["2021-05-02T14:19:01.3266667Z", "2021-08-13T08:43:35.5533333Z", "2021-09-30T09:35:45.1133333Z", "2020-07-20T10:53:50.19Z"]
        {
            let stamp = Stamp::parse(text).unwrap();
            assert_eq!(stamp.on_grid(), stamp, "{text} lies on the grid");
            assert_eq!(stamp.plus(Duration::from_micros(100)).on_grid(), stamp);
            assert!(stamp.next_on_grid() > stamp);
        }
    }

    #[test]
    fn header_dates_name_the_right_weekday() {
        assert_eq!(Stamp::parse("2021-04-27T12:19:27Z").unwrap().http_date(), "Tue, 27 Apr 2021 12:19:27 GMT");
        assert_eq!(Stamp::from_unix_seconds(0).http_date(), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
