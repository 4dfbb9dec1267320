//! What a question came to: rows of cells, held to what its panel says of its columns.

use std::collections::BTreeSet;

use domain::Ticks;
use panels::{Holds, Panel};
use serde::Serialize;
use serde_json::{Map, Value};

/// Rows and columns.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub(super) columns: Vec<&'static str>,
    pub(super) rows: Vec<Vec<Cell>>,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Cell {
    /// There is none.
    Nothing,
    /// A figure.
    Figure(f64),
    /// Words.
    Words(String),
}

/// Points over time by the name of their series.
pub(super) struct Series {
    /// In the order in which they are drawn.
    pub(super) names: Vec<String>,
    /// Seconds since 1970, and a value for each name.
    pub(super) points: Vec<(f64, Vec<Option<f64>>)>,
}

impl Answer {
    /// Reads rows as objects in JSON.
    ///
    /// # Errors
    /// When a column is missing or holds something else than it should.
    pub(super) fn read(panel: &Panel, rows: &[String]) -> Result<Self, String> {
        let columns: Vec<_> = panel.columns.iter().map(|column| column.name).collect();
        let mut read = Vec::with_capacity(rows.len());
        for row in rows {
            let row: Map<String, Value> = serde_json::from_str(row).map_err(|error| error.to_string())?;
            let cells = panel.columns.iter().map(|column| {
                let value = row.get(column.name).ok_or_else(|| format!("no column {:?}", column.name))?;
                Cell::read(value, column.holds).ok_or_else(|| format!("{:?} holds {value}", column.name))
            });
            read.push(cells.collect::<Result<_, _>>()?);
        }
        Ok(Self { columns, rows: read })
    }

    /// The same as series: by names in a column, or by columns.
    pub(super) fn series(&self, order: &[&str]) -> Series {
        let long = self.columns.get(1) == Some(&"metric");
        let mut names: Vec<String> = if long {
            let found: BTreeSet<String> = self.rows.iter().filter_map(|row| row[1].words().map(str::to_owned)).collect();
            found.into_iter().collect()
        } else {
            self.columns.iter().skip(1).map(|name| (*name).to_owned()).collect()
        };
        names.sort_by_key(|name| order.iter().position(|known| known == name).unwrap_or(order.len()));
        let mut points: Vec<(f64, Vec<Option<f64>>)> = Vec::new();
        for row in &self.rows {
            let Some(time) = row[0].figure() else { continue };
            if points.last().is_none_or(|(last, _)| *last < time) {
                points.push((time, vec![None; names.len()]));
            }
            let Some((_, values)) = points.last_mut() else { continue };
            if long {
                if let Some(at) = row[1].words().and_then(|name| names.iter().position(|known| known == name)) {
                    values[at] = row[2].figure();
                }
            } else {
                *values = row[1..].iter().map(Cell::figure).collect();
            }
        }
        Series { names, points }
    }
}

impl Cell {
    fn read(value: &Value, holds: Holds) -> Option<Self> {
        match (value, holds) {
            (Value::Null, _) => Some(Self::Nothing),
            (Value::Number(number), Holds::Figure | Holds::FigureIn(_) | Holds::Time) => number.as_f64().map(Self::Figure),
            // An instant on an axis is a figure as well.
            (Value::String(text), Holds::Time) => Ticks::parse(text).map(|at| Self::Figure((at.0 / 10_000_000) as f64)),
            (Value::String(text), Holds::Words | Holds::Series | Holds::When | Holds::Address | Holds::Customer) => {
                Some(Self::Words(text.clone()))
            }
            _ => None,
        }
    }

    /// As a figure, if it is one.
    pub(super) fn figure(&self) -> Option<f64> {
        match self {
            Self::Figure(figure) => Some(*figure),
            Self::Nothing | Self::Words(_) => None,
        }
    }

    /// As words, if it is some.
    pub(super) fn words(&self) -> Option<&str> {
        match self {
            Self::Words(words) => Some(words),
            Self::Nothing | Self::Figure(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(title: &str) -> Panel {
        let all = panels::boards::ALL.iter().flat_map(|board| board.panels);
        *all.into_iter().find(|panel| panel.title == title).unwrap()
    }

    #[test]
    fn names_in_a_column_become_series_in_the_order_of_their_rank() {
        let rows = [
            r#"{"time": 3600, "metric": "low", "value": 4}"#,
            r#"{"time": 3600, "metric": "high", "value": 1}"#,
            r#"{"time": 7200.0, "metric": "low", "value": 2}"#,
        ];
        let series = Answer::read(&panel("Alerts per hour"), &rows.map(str::to_owned)).unwrap().series(&panels::SEVERITIES);
        assert_eq!(series.names, ["high", "low"]);
        assert_eq!(series.points, [(3600.0, vec![Some(1.0), Some(4.0)]), (7200.0, vec![None, Some(2.0)])]);
    }

    #[test]
    fn columns_are_series_too_and_a_day_is_an_instant() {
        let row = r#"{"time": "1970-01-02T00:00:00+00:00", "found false": null}"#.to_owned();
        let series = Answer::read(&panel("Found to be false, by day"), &[row]).unwrap().series(&[]);
        assert_eq!((series.names, series.points), (vec!["found false".to_owned()], vec![(86_400.0, vec![None])]));
    }

    #[test]
    fn what_is_no_answer_to_the_question_is_said() {
        let read = |row: &str| Answer::read(&panel("Alerts created"), &[row.to_owned()]).map(|answer| answer.rows).unwrap_err();
        assert_eq!(read("{}"), "no column \"created\"");
        assert_eq!(read(r#"{"created": "many"}"#), "\"created\" holds \"many\"");
    }
}
