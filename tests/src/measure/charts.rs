//! Pictures of what `./dev bench` printed: horizontal bars in SVG, for light and for dark pages, made of its lines of JSON and of
//! nothing else.

use std::fmt::Write as _;

use serde_json::Value;

/// Bars that are compared with each other.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The file's name, without its ending.
    pub name: &'static str,
    /// What is compared, with its unit.
    pub title: &'static str,
    /// What the parts of a bar are called, in their order.
    pub parts: &'static [&'static str],
    /// The bars.
    pub bars: Vec<Bar>,
}

/// One bar, and how long each part of it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// What it stands for.
    pub label: String,
    /// In the unit of the chart.
    pub parts: Vec<f64>,
}

/// Every chart of which these lines hold at least one bar. Of two lines of one name the later one counts.
pub fn charts(lines: &[Value]) -> Vec<Chart> {
    let again = |at: usize| lines[at + 1..].iter().any(|later| later["bench"] == lines[at]["bench"]);
    let lines: Vec<Value> = (0..lines.len()).filter(|at| !again(*at)).map(|at| lines[at].clone()).collect();
    let lines = lines.as_slice();
    let all = [
        Chart {
            name: "ingest-cpu",
            title: "CPU seconds for 100,000 alerts",
            parts: &["program", "Postgres", "derived later"],
            bars: each(lines, PASSES, |line| {
                let alerts = line["alerts"].as_f64().or(line["read"].as_f64()).unwrap_or(1.0);
                let of = |name: &str| line[name].as_f64().map(|seconds| seconds / alerts * 100_000.0);
                [of("program_cpu_s"), of("postgres_cpu_s"), of("derived_later_cpu_s").or(Some(0.0))].into_iter().collect()
            }),
        },
        Chart {
            name: "ingest-rate",
            title: "Alerts a second, on two cores shared with the simulator and Postgres",
            parts: &["alerts/s"],
            bars: each(lines, RATES, |line| {
                let rate = if line["unit"] == "rows/s" { &line["value"] } else { &line["alerts_per_s"] };
                rate.as_f64().map(|rate| vec![rate])
            }),
        },
        Chart {
            name: "idle-cpu",
            title: "CPU seconds for 1,000 polls that find nothing, by customers",
            parts: &["daemon", "Postgres"],
            bars: lines.iter().filter_map(idle).collect(),
        },
        Chart {
            name: "growth",
            title: "CPU seconds for 100,000 alerts, by how many are stored already",
            parts: &["daemon", "Postgres"],
            bars: ["first", "again"].iter().flat_map(|pass| lines.iter().filter_map(move |line| grown(line, pass))).collect(),
        },
    ];
    all.into_iter().filter(|chart| !chart.bars.is_empty()).collect()
}

/// Names of lines and what their bars are called.
type Named = &'static [(&'static str, &'static str)];

const PASSES: Named = &[
    ("ingest_first", "first sync: tocsin"),
    ("ingest_script_first", "first sync: script"),
    ("ingest_dlt_first", "first sync: dlt"),
    ("ingest_again", "read again: tocsin"),
    ("ingest_script_again", "read again: script"),
    ("ingest_dlt_again", "read again: dlt"),
    ("ingest_changed", "a tenth changed: tocsin"),
    ("ingest_script_changed", "a tenth changed: script"),
    ("ingest_dlt_changed", "a tenth changed: dlt"),
];

const RATES: Named = &[
    ("ingest_again", "read again: tocsin"),
    ("ingest_changed", "a tenth changed: tocsin"),
    ("ingest_copy_2", "COPY, two connections"),
    ("ingest_copy_1", "COPY, one connection"),
    ("ingest_first", "first sync: tocsin"),
    ("ingest_script_first", "first sync: script"),
    ("ingest_dlt_first", "first sync: dlt"),
];

fn idle(line: &Value) -> Option<Bar> {
    let (tenants, interval) = (line["tenants"].as_f64()?, line["interval_s"].as_f64()?);
    let parts = vec![line["value"].as_f64()?, line["postgres_per_1000"].as_f64()?];
    Some(Bar { label: format!("{} every {interval} s", figure(tenants)), parts })
}

fn grown(line: &Value, pass: &str) -> Option<Bar> {
    let name = line["bench"].as_str()?;
    if !(name.starts_with("growth_") && name.ends_with(&format!("_{pass}_cpu"))) {
        return None;
    }
    let what = if pass == "first" { "new" } else { "again" };
    let parts = vec![line["program_per_100000"].as_f64()?, line["postgres_per_100000"].as_f64()?];
    Some(Bar { label: format!("{what}, {} stored", figure(line["stored"].as_f64()?)), parts })
}

/// A bar for each line of these names that holds what it takes.
fn each(lines: &[Value], named: Named, parts: impl Fn(&Value) -> Option<Vec<f64>>) -> Vec<Bar> {
    let bar = |(name, label): &(&str, &str)| {
        let line = lines.iter().find(|line| line["bench"] == *name)?;
        Some(Bar { label: (*label).to_owned(), parts: parts(line)? })
    };
    named.iter().filter_map(bar).collect()
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 56.0;
const STEP: f64 = 26.0;
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}.t{font-weight:600}.n{text-anchor:end}\
.p0{fill:#0969da}.p1{fill:#8250df}.p2{fill:#bf8700}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.p0{fill:#4493f8}.p1{fill:#ab7df8}.p2{fill:#d29922}}";

impl Chart {
    /// As SVG, with every figure in words beside its bar.
    pub fn svg(&self) -> String {
        let longest = self.bars.iter().map(Bar::length).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let scale = (WIDTH - LEFT - RIGHT) / longest;
        let height = TOP + STEP * self.bars.len() as f64 + 8.0;
        let mut svg = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\"><style>{STYLE}</style>\n\
             <text class=\"t\" x=\"0\" y=\"16\">{}</text>\n",
            self.title, self.title
        );
        if self.parts.len() > 1 {
            for (at, part) in self.parts.iter().enumerate() {
                let x = LEFT + 120.0 * at as f64;
                let _ = writeln!(
                    svg,
                    "<rect class=\"p{at}\" x=\"{x}\" y=\"30\" width=\"12\" height=\"12\"/><text x=\"{}\" y=\"41\">{part}</text>",
                    x + 18.0
                );
            }
        }
        for (row, bar) in self.bars.iter().enumerate() {
            let y = TOP + STEP * row as f64;
            let _ = writeln!(svg, "<text class=\"n\" x=\"{}\" y=\"{}\">{}</text>", LEFT - 8.0, y + 14.0, bar.label);
            let mut x = LEFT;
            for (at, part) in bar.parts.iter().enumerate() {
                let _ = writeln!(svg, "<rect class=\"p{at}\" x=\"{x:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"18\"/>", part * scale);
                x += part * scale;
            }
            let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{}\">{}</text>", x + 6.0, y + 14.0, figure(bar.length()));
        }
        svg.push_str("</svg>\n");
        svg
    }
}

impl Bar {
    fn length(&self) -> f64 {
        self.parts.iter().sum()
    }
}

/// Three digits that count, thousands apart.
fn figure(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let mut text = format!("{value:.digits$}");
    if digits == 0 {
        for place in (1..text.len()).rev().filter(|place| (text.len() - place).is_multiple_of(3)).collect::<Vec<_>>() {
            text.insert(place, ',');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bars_are_as_long_as_what_was_measured() {
        let lines = [
            json!({ "bench": "ingest_first", "alerts": 50_000.0, "read": 50_100.0, "program_cpu_s": 1.0, "postgres_cpu_s": 2.0, "derived_later_cpu_s": 0.5, "alerts_per_s": 21_234.5 }),
            json!({ "bench": "ingest_dlt", "skipped": "no network" }),
            json!({ "bench": "idle_10000", "tenants": 10_000, "interval_s": 30, "value": 0.9, "postgres_per_1000": 0.9 }),
            json!({ "bench": "growth_1m_first_cpu", "stored": 1_000_000, "value": 9.0, "program_per_100000": 3.0, "postgres_per_100000": 6.0 }),
            json!({ "bench": "growth_1m_rate", "stored": 1_000_000, "value": 9.0 }),
            json!({ "bench": "growth_10k_again_cpu", "stored": 10_000, "value": 2.0, "program_per_100000": 1.5, "postgres_per_100000": 0.5 }),
            json!({ "bench": "idle_10000", "tenants": 10_000, "interval_s": 30, "value": 0.2, "postgres_per_1000": 0.1 }),
        ];
        let charts = charts(&lines);
        let names: Vec<_> = charts.iter().map(|chart| chart.name).collect();
        assert_eq!(names, ["ingest-cpu", "ingest-rate", "idle-cpu", "growth"]);
        assert_eq!(charts[0].bars, [Bar { label: "first sync: tocsin".to_owned(), parts: vec![2.0, 4.0, 1.0] }]);
        assert_eq!(charts[2].bars, [Bar { label: "10,000 every 30 s".to_owned(), parts: vec![0.2, 0.1] }]);
        let new = Bar { label: "new, 1,000,000 stored".to_owned(), parts: vec![3.0, 6.0] };
        assert_eq!(charts[3].bars, [new, Bar { label: "again, 10,000 stored".to_owned(), parts: vec![1.5, 0.5] }]);
        let svg = charts[1].svg();
        assert!(svg.contains(">21,234<") && svg.contains("width=\"500.0\""), "{svg}");
        assert!(charts[0].svg().contains(">7.00<"), "{}", charts[0].svg());
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert!(charts(&[json!({ "bench": "ingest_first", "failed": "no" })]).is_empty());
    }
}
