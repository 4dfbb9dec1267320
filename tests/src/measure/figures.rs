//! The figure of several runs as the line of JSON that is printed: their median, the least and the greatest.

use serde_json::{Map, Value, json};

/// Figures of several runs of the same thing.
pub(super) struct Figures(Vec<f64>);

impl Figures {
    /// What each of these came to.
    pub(super) fn of<T>(of: &[T], figure: impl Fn(&T) -> f64) -> Self {
        let mut values: Vec<f64> = of.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The one in the middle. Zero when there are none.
    pub(super) fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().map_or(0.0, rounded)
    }

    /// The least and the greatest.
    pub(super) fn range(&self) -> [f64; 2] {
        [self.0.first(), self.0.last()].map(|end| end.copied().map_or(0.0, rounded))
    }
}

/// To three digits after the point.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// What every line begins with.
pub(super) fn line(name: &str, figures: &Figures, unit: &str, against: &str) -> Map<String, Value> {
    let members = [
        ("bench", json!(name)),
        ("value", json!(figures.median())),
        ("unit", json!(unit)),
        ("against", json!(against)),
        ("range", json!(figures.range())),
        ("runs", json!(figures.0.len())),
    ];
    members.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// The same line with more members.
pub(super) fn with(mut line: Map<String, Value>, more: &[(&str, Value)]) -> Value {
    line.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    Value::Object(line)
}
