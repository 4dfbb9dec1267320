//! How long another machine asks us to wait: `Retry-After` in every form that was ever seen.
//!
//! Seconds, seconds with a fraction (Graph), a date (the standard), a date by a clock that is not
//! ours, ten years, minus one, nothing at all. Whatever it says, a wait is between a second (nobody is
//! hammered because of a zero) and an hour (nobody goes blind because of a typing error over there).

use std::time::{Duration, SystemTime};

use domain::Ticks;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// The longest we let ourselves be sent away; then we ask again.
pub(crate) const LONGEST: Duration = Duration::from_secs(60 * 60);
pub(crate) const SHORTEST: Duration = Duration::from_secs(1);

/// A wait that the other side asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// How long we wait.
    pub(crate) span: Duration,
    /// Whether it asked for more than we are willing to wait.
    pub(crate) shortened: bool,
}

impl Wait {
    fn of(asked: Duration) -> Self {
        Self { span: asked.clamp(SHORTEST, LONGEST), shortened: asked > LONGEST }
    }

    /// The wait in words, saying so when it was shortened.
    pub(crate) fn words(self) -> String {
        let seconds = self.span.as_secs_f64().ceil();
        if self.shortened {
            format!("it asked for more than an hour; we ask again after {seconds} s at the earliest")
        } else {
            format!("we ask again after {seconds} s at the earliest")
        }
    }
}

/// Reads `Retry-After`; `None` when there is none, or none that makes sense. A date is measured
/// against the answer's own `Date`, since the two come from one clock, and against ours without it.
pub(crate) fn retry_after(headers: &HeaderMap, our_clock: Ticks) -> Option<Wait> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    parse(text, server_date(headers).unwrap_or(our_clock))
}

/// The `Date` header as an instant.
pub(crate) fn server_date(headers: &HeaderMap) -> Option<Ticks> {
    read_http_date(headers.get(DATE)?.to_str().ok()?)
}

fn parse(text: &str, now: Ticks) -> Option<Wait> {
    let text = text.trim();
    match read_seconds(text) {
        Some(span) => Some(Wait::of(span)),
        None => read_http_date(text).map(|until| Wait::of(until.since(now))),
    }
}

/// Digits, and perhaps a dot and more digits. More digits than fit mean "very long".
fn read_seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let seconds = whole.parse::<u64>().unwrap_or(u64::MAX);
    // Milliseconds are finer than anyone means; what is cut off is rounded up, never down.
    let millis: u64 = format!("{fraction:0<3}").get(..3).and_then(|first| first.parse().ok()).unwrap_or(0);
    let rest = fraction.get(3..).is_some_and(|rest| rest.bytes().any(|byte| byte != b'0'));
    Some(Duration::from_secs(seconds).saturating_add(Duration::from_millis(millis + u64::from(rest))))
}

/// A date as HTTP writes it.
pub fn read_http_date(text: &str) -> Option<Ticks> {
    let date = httpdate::parse_http_date(text).ok()?;
    let since_epoch = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Ticks(0).plus(since_epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-21T12:00:00Z";

    fn waits(text: &str) -> Option<(u128, bool)> {
        parse(text, Ticks::parse(NOW).unwrap()).map(|wait| (wait.span.as_millis(), wait.shortened))
    }

    #[test]
    fn fault_15_every_form_of_retry_after_becomes_a_bounded_wait() {
        for (text, expected) in [
            ("41", Some((41_000, false))),
            (" 315 ", Some((315_000, false))),
            ("2.128", Some((2_128, false))),
            ("2.1280001", Some((2_129, false))),
            ("2.", Some((2_000, false))),
            ("2.5", Some((2_500, false))),
            ("0", Some((1_000, false))),
            ("0.001", Some((1_000, false))),
            ("3600", Some((3_600_000, false))),
            ("3601", Some((3_600_000, true))),
            ("315360000", Some((3_600_000, true))),
            ("99999999999999999999999999", Some((3_600_000, true))),
            ("Sat, 21 Nov 2026 12:00:30 GMT", Some((30_000, false))),
            ("Saturday, 21-Nov-26 12:00:30 GMT", Some((30_000, false))),
            ("Sat Nov 21 12:00:30 2026", Some((30_000, false))),
            ("Sat, 21 Nov 2026 11:59:30 GMT", Some((1_000, false))),
            ("Fri, 21 Nov 2036 12:00:00 GMT", Some((3_600_000, true))),
            ("-5", None),
            ("-2.5", None),
            ("+5", None),
            ("1e3", None),
            (".5", None),
            ("1.2.3", None),
            ("NaN", None),
            ("inf", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(waits(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_date_is_measured_by_the_clock_that_wrote_it() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "Sat, 21 Nov 2026 12:00:30 GMT".parse().unwrap());
        let ours = Ticks::parse("2026-11-21T11:00:00Z").unwrap();
        assert!(retry_after(&headers, ours).unwrap().span > Duration::from_secs(1800), "without a Date we have only our clock");
        headers.insert(DATE, "Sat, 21 Nov 2026 12:00:00 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers, ours).unwrap().span, Duration::from_secs(30));
    }

    #[test]
    fn no_header_is_no_wait() {
        assert_eq!(retry_after(&HeaderMap::new(), Ticks(0)), None);
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, reqwest::header::HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        assert_eq!(retry_after(&headers, Ticks(0)), None);
    }

    #[test]
    fn a_shortened_wait_says_so() {
        assert!(Wait::of(Duration::from_secs(86_400)).words().contains("more than an hour"));
        assert_eq!(Wait::of(Duration::from_millis(2_128)).words(), "we ask again after 3 s at the earliest");
    }

    proptest::proptest! {
        #[test]
        fn no_header_panics_and_every_wait_is_bounded(text in "[0-9A-Za-z.,:+\\- ]{0,40}|\\PC{0,40}", now in proptest::num::i64::ANY) {
            if let Some(wait) = parse(&text, Ticks(now)) {
                proptest::prop_assert!(wait.span >= SHORTEST && wait.span <= LONGEST);
            }
        }
    }
}
