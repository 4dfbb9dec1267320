//! Pictures in SVG. Only shapes are drawn there, stretched to whatever width the page has; words stand beside them in HTML, so
//! that they are legible on a telephone.

use maud::{Markup, html};
use panels::{Kind, Unit};

use super::Shown;
use super::answer::Series;
use super::words;

/// The picture has so many units each way, whatever its size.
const WIDE: f64 = 1000.0;
const HIGH: f64 = 100.0;

/// A picture over time with its axes, its legend, and a table of the same.
pub(super) fn over_time(shown: &Shown, id: &str) -> Markup {
    let series = shown.answer.series(&panels::SEVERITIES);
    let unit = shown.panel.unit;
    let step = f64::from(shown.step);
    let (Some(first), Some(last)) = (series.points.first(), series.points.last()) else { return html! {} };
    // A day without alerts is a gap and not left out; nothing is cut off, whatever was answered.
    let (from, to) = (shown.span.0.min(first.0), shown.span.1.max(last.0 + step));
    let stacked = matches!(shown.panel.kind, Kind::Bars(_));
    let top = round_up(highest(&series, stacked), unit);
    let x = |time: f64| (time - from) / (to - from) * WIDE;
    let middle = from + ((to - from) / 2.0 / step).floor() * step;
    html! {
        div class="chart" {
            div class="y" aria-hidden="true" {
                @for part in [1.0, 0.5, 0.0] { span { (words::figure(top * part, unit)) } }
            }
            svg viewBox=(format!("0 0 {WIDE} {HIGH}")) preserveAspectRatio="none" role="img" aria-labelledby=(format!("{id}-t {id}-d")) {
                title id=(format!("{id}-t")) { (shown.title) }
                desc id=(format!("{id}-d")) { (summary(&series, shown.step, unit)) }
                @for y in [0.0, 0.5, 1.0] { path class="grid" d=(format!("M0 {}H{WIDE}", y * HIGH)) {} }
                @if stacked { (bars(&series, &x, top, step)) } @else { (lines(&series, &x, top, step)) }
                @for point in &series.points {
                    rect class="hit" x=(number(x(point.0))) y="0" width=(number(x(point.0 + step) - x(point.0))) height=(HIGH) {
                        title { (at_point(&series, point, shown.step, unit)) }
                    }
                }
            }
            div class="x" aria-hidden="true" {
                span { (words::on_axis(from, shown.step)) }
                @if to - from > 2.5 * step { span { (words::on_axis(middle, shown.step)) } span { (words::on_axis(to - step, shown.step)) } }
            }
        }
        @if series.names.len() > 1 {
            ul class="legend" { @for (at, name) in series.names.iter().enumerate() {
                li { svg class="swatch" viewBox="0 0 10 10" aria-hidden="true" { rect class=(colour(name, at)) width="10" height="10" {} } (name) }
            } }
        }
        (as_table(&series, shown))
    }
}

fn highest(series: &Series, stacked: bool) -> f64 {
    let of = |values: &[Option<f64>]| {
        let values = values.iter().flatten().copied();
        if stacked { values.sum() } else { values.fold(0.0, f64::max) }
    };
    series.points.iter().map(|(_, values)| of(values)).fold(0.0, f64::max)
}

/// A round figure above this one, for the end of an axis.
fn round_up(value: f64, unit: Unit) -> f64 {
    if unit == Unit::Share {
        return 1.0;
    }
    let steps: &[f64] = match unit {
        Unit::Seconds => &[
            1.0, 2.0, 4.0, 10.0, 20.0, 30.0, 60.0, 120.0, 240.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 43_200.0,
            86_400.0,
        ],
        _ => &[2.0, 4.0, 6.0, 10.0],
    };
    if let Some(step) = steps.iter().find(|step| **step >= value) {
        return *step;
    }
    let base = if unit == Unit::Seconds { 86_400.0 } else { 1.0 };
    let scale = 10_f64.powf((value / base).log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0].into_iter().map(|step| step * scale * base).find(|top| *top >= value).unwrap_or(value)
}

fn bars(series: &Series, x: &impl Fn(f64) -> f64, top: f64, step: f64) -> Markup {
    html! {
        @for (time, values) in &series.points {
            @let (left, wide) = (x(*time), x(time + step) - x(*time));
            @for (at, below, value) in stacked(values) {
                rect class=(colour(&series.names[at], at)) x=(number(left + wide * 0.08)) y=(number(HIGH - (below + value) / top * HIGH))
                    width=(number(wide * 0.84)) height=(number(value / top * HIGH)) {}
            }
        }
    }
}

/// What lies below each value: the worst is at the bottom, where heights can be compared.
fn stacked(values: &[Option<f64>]) -> Vec<(usize, f64, f64)> {
    let mut below = 0.0;
    let known = values.iter().enumerate().filter_map(|(at, value)| value.map(|value| (at, value)));
    known
        .map(|(at, value)| {
            below += value;
            (at, below - value, value)
        })
        .collect()
}

fn lines(series: &Series, x: &impl Fn(f64) -> f64, top: f64, step: f64) -> Markup {
    html! {
        @for (at, name) in series.names.iter().enumerate() {
            path class={ "line " (colour(name, at)) } d=(line(series, at, x, top, step)) {}
        }
    }
}

/// A line that is interrupted where there is nothing; a point alone is a dot.
fn line(series: &Series, at: usize, x: &impl Fn(f64) -> f64, top: f64, step: f64) -> String {
    let mut path = String::new();
    let mut before: Option<f64> = None;
    for (time, values) in &series.points {
        let Some(value) = values[at] else { continue };
        let goes_on = before.is_some_and(|before| time - before <= step * 1.5);
        let (x, y) = (number(x(time + step / 2.0)), number(HIGH - value.min(top) / top * HIGH));
        path.push_str(&if goes_on { format!("L{x} {y}") } else { format!("M{x} {y}h0") });
        before = Some(*time);
    }
    path
}

fn at_point(series: &Series, (time, values): &(f64, Vec<Option<f64>>), step: u32, unit: Unit) -> String {
    let named =
        series.names.iter().zip(values).filter_map(|(name, value)| value.map(|value| format!("{name} {}", words::figure(value, unit))));
    format!("{} UTC: {}", words::on_axis(*time, step), named.collect::<Vec<_>>().join(", "))
}

fn summary(series: &Series, step: u32, unit: Unit) -> String {
    let Some(highest) = series.points.iter().max_by(|a, b| sum(a).total_cmp(&sum(b))) else { return String::new() };
    format!("{} steps; the highest is {}", series.points.len(), at_point(series, highest, step, unit))
}

fn sum((_, values): &(f64, Vec<Option<f64>>)) -> f64 {
    values.iter().flatten().sum()
}

/// The class that gives a series its colour: the severities have one of their own.
fn colour(name: &str, at: usize) -> String {
    if panels::SEVERITIES.contains(&name) { format!("c-{name}") } else { format!("c{}", at % 6) }
}

fn as_table(series: &Series, shown: &Shown) -> Markup {
    html! {
        details {
            summary { "As a table" }
            div class="scroll" tabindex="0" role="region" aria-label={ (shown.title) ", as a table" } {
                table {
                    thead { tr { th scope="col" { "time (UTC)" } @for name in &series.names { th scope="col" class="n" { (name) } } } }
                    tbody { @for (time, values) in &series.points {
                        tr {
                            th scope="row" { (words::on_axis(*time, shown.step)) }
                            @for value in values { td class="n" { (value.map(|value| words::figure(value, shown.panel.unit)).unwrap_or_default()) } }
                        }
                    } }
                }
            }
        }
    }
}

/// The bar of one row of a ranking.
pub(super) fn bar(value: f64, highest: f64) -> Markup {
    let part = if highest > 0.0 { (value / highest * 100.0).clamp(0.0, 100.0) } else { 0.0 };
    html! {
        svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" { rect class="c3" width=(number(part)) height="10" {} }
    }
}

/// With two digits behind the point: more cannot be seen.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_figure() {
        for (value, unit, top) in [
            (0.0, Unit::Count, 2.0),
            (7.0, Unit::Count, 10.0),
            (11.0, Unit::Count, 20.0),
            (4001.0, Unit::Count, 6000.0),
            (0.3, Unit::Share, 1.0),
            (50.0, Unit::Seconds, 60.0),
            (100_000.0, Unit::Seconds, 172_800.0),
        ] {
            assert!((round_up(value, unit) - top).abs() < 1e-9, "{value}: {}", round_up(value, unit));
        }
    }

    #[test]
    fn a_line_is_interrupted_where_nothing_is_known() {
        let series = Series {
            names: vec!["p50".into()],
            points: vec![(0.0, vec![Some(1.0)]), (10.0, vec![Some(2.0)]), (20.0, vec![None]), (30.0, vec![Some(0.0)])],
        };
        assert_eq!(line(&series, 0, &|time| time, 2.0, 10.0), "M5 50h0L15 0M35 100h0");
    }
}
