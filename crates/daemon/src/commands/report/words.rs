//! Figures and instants as people read them.

use domain::Ticks;
use panels::Unit;

/// A figure with its unit.
pub(super) fn figure(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds => span(value),
        Unit::Share => format!("{} %", short(value * 100.0)),
        Unit::Days => format!("{} d", grouped(value)),
        Unit::PerSecond => format!("{}/s", short(value)),
        Unit::Count | Unit::None => grouped(value),
    }
}

/// A span in the unit that fits it.
pub(super) fn span(seconds: f64) -> String {
    match seconds {
        0.0 => "0 s".into(),
        s if s < 1.0 => format!("{} ms", (s * 1000.0).round()),
        s if s < 90.0 => format!("{} s", short(s)),
        s if s < 90.0 * 60.0 => format!("{} min", short(s / 60.0)),
        s if s < 36.0 * 3600.0 => format!("{} h", short(s / 3600.0)),
        s => format!("{} d", short(s / 86_400.0)),
    }
}

/// Two digits that count.
fn short(value: f64) -> String {
    let text = if value.abs() < 9.95 { format!("{value:.1}") } else { grouped(value) };
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// A whole number, its thousands apart; or with one digit behind the point.
fn grouped(value: f64) -> String {
    if value.fract() != 0.0 && value.abs() < 10.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 && digits != "0" { format!("-{text}") } else { text }
}

/// An instant to the minute. The zone is named once, at the top of the page and of each column.
pub(super) fn minute(at: Ticks) -> String {
    said(at, "%-d %b %Y, %H:%M")
}

/// An instant on an axis: days alone where the steps are days.
pub(super) fn on_axis(seconds: f64, step: u32) -> String {
    said(from_seconds(seconds), if step >= 86_400 { "%-d %b" } else { "%-d %b %H:%M" })
}

/// An instant of a cell, as the database writes it.
pub(super) fn cell(text: &str) -> String {
    Ticks::parse(text).map_or_else(|| text.to_owned(), |at| said(at, "%Y-%m-%d %H:%M"))
}

fn from_seconds(seconds: f64) -> Ticks {
    // Seconds of this age are far inside of i64, and what lies beyond is cut off.
    Ticks((seconds * 1e7) as i64)
}

fn said(at: Ticks, form: &str) -> String {
    at.to_timestamp().map_or_else(|| at.to_string(), |at| at.strftime(form).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_whole_ones_stay_whole() {
        for (value, unit, said) in [
            (0.0, Unit::Count, "0"),
            (999.0, Unit::Count, "999"),
            (1_234_567.0, Unit::Count, "1,234,567"),
            (-4.0, Unit::Days, "-4 d"),
            (0.123, Unit::Share, "12 %"),
            (0.0312, Unit::Share, "3.1 %"),
            (1.0, Unit::Share, "100 %"),
            (0.0, Unit::Seconds, "0 s"),
            (0.25, Unit::Seconds, "250 ms"),
            (38.05, Unit::Seconds, "38 s"),
            (724.08, Unit::Seconds, "12 min"),
            (7200.0, Unit::Seconds, "2 h"),
            (262_144.0, Unit::Seconds, "3 d"),
            (2.5, Unit::PerSecond, "2.5/s"),
        ] {
            assert_eq!(figure(value, unit), said);
        }
    }

    #[test]
    fn instants_are_those_of_utc() {
        assert_eq!(cell("2026-11-20T08:00:00.123+03:00"), "2026-11-20 05:00");
        assert_eq!(cell("-infinity"), "-infinity");
        assert_eq!(on_axis(86_400.0, 86_400), "2 Jan");
        assert_eq!(on_axis(90_000.0, 3600), "2 Jan 01:00");
    }
}
