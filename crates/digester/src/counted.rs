//! What an alert is counted as, and how counts move when that changes. No I/O: a table of cases.
//!
//! Every count is moved by what an alert was counted as before (remembered in `tocsin.digested`) and what it is counted
//! as now. So however often and in whatever order alerts are derived, the counts are those of a recount.

use std::collections::BTreeMap;

use domain::Ticks;
use domain::metric::LAG_SECONDS;

/// Of a headline so many characters are counted apart: it is part of a key, which is bounded.
const TITLE: usize = 300;
const SECOND: i64 = 10_000_000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// What an alert is counted as. A text that the source left out is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// When it was created or, where it does not say, first stored.
    pub(crate) created: i64,
    pub(crate) title: String,
    pub(crate) severity: String,
    pub(crate) status: String,
    pub(crate) service_source: String,
    pub(crate) classification: String,
    pub(crate) techniques: Vec<String>,
}

impl Counted {
    /// The headline as it is counted.
    pub(crate) fn headline(title: &str) -> String {
        title.chars().take(TITLE).collect()
    }

    fn day(&self) -> i64 {
        self.created.div_euclid(DAY) * DAY
    }

    fn hour(&self) -> i64 {
        self.created.div_euclid(HOUR) * HOUR
    }
}

/// Alerts, true positives, false positives, resolved.
pub(crate) type Tally = [i64; 4];

/// How the counts move. Days and hours are ticks of their beginning, UTC; every map is in the order of its keys, in which
/// the rows are written: two who write the same rows wait for each other and never in a circle.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Moves {
    /// By day, severity, status, product.
    pub(crate) alert_day: BTreeMap<(i64, String, String, String), i64>,
    /// By day and technique.
    pub(crate) technique_day: BTreeMap<(i64, String), i64>,
    /// By day, headline, severity, product.
    pub(crate) detection_day: BTreeMap<(i64, String, String, String), Tally>,
    /// By hour and severity.
    pub(crate) alert_hour: BTreeMap<(i64, String), i64>,
    /// By hour of storing and which bound of [`LAG_SECONDS`] holds it; one more for what is above all of them.
    pub(crate) ingest_hour: BTreeMap<(i64, usize), i64>,
}

impl Moves {
    /// An alert is counted as something else now.
    pub(crate) fn alert(&mut self, before: Option<&Counted>, now: &Counted) {
        if before == Some(now) {
            return;
        }
        if let Some(before) = before {
            self.add(before, -1);
        }
        self.add(now, 1);
    }

    fn add(&mut self, counted: &Counted, by: i64) {
        let Counted { title, severity, status, service_source, classification, techniques, .. } = counted;
        let (day, hour) = (counted.day(), counted.hour());
        *self.alert_day.entry((day, severity.clone(), status.clone(), service_source.clone())).or_default() += by;
        for technique in techniques {
            *self.technique_day.entry((day, technique.clone())).or_default() += by;
        }
        let of = |is: bool| if is { by } else { 0 };
        let tally = [by, of(classification == "truePositive"), of(classification == "falsePositive"), of(status == "resolved")];
        let sum = self.detection_day.entry((day, title.clone(), severity.clone(), service_source.clone())).or_default();
        sum.iter_mut().zip(tally).for_each(|(sum, by)| *sum += by);
        *self.alert_hour.entry((hour, severity.clone())).or_default() += by;
    }

    /// A version was stored so long after it was visible.
    pub(crate) fn version(&mut self, visible: Ticks, stored: Ticks) {
        let late = stored.since(visible).as_secs_f64();
        let bound = LAG_SECONDS.iter().position(|bound| late <= *bound).unwrap_or(LAG_SECONDS.len());
        *self.ingest_hour.entry((stored.0.div_euclid(HOUR) * HOUR, bound)).or_default() += 1;
    }

    /// Drops what moves nothing.
    pub(crate) fn settle(&mut self) {
        self.alert_day.retain(|_, by| *by != 0);
        self.technique_day.retain(|_, by| *by != 0);
        self.detection_day.retain(|_, by| *by != Tally::default());
        self.alert_hour.retain(|_, by| *by != 0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(text: &str) -> Ticks {
        Ticks::parse(text).unwrap()
    }

    fn alert(status: &str, classification: &str, techniques: &[&str]) -> Counted {
        Counted {
            created: at("2026-11-20T07:59:59.9Z").0,
            title: "t".into(),
            severity: "high".into(),
            status: status.into(),
            classification: classification.into(),
            techniques: techniques.iter().map(|text| (*text).to_owned()).collect(),
            ..Counted::default()
        }
    }

    #[test]
    fn an_update_moves_an_alert_from_one_count_to_another() {
        let (new, closed) = (alert("new", "", &["T1"]), alert("resolved", "truePositive", &["T1", "T2"]));
        let mut moves = Moves::default();
        moves.alert(Some(&new), &closed);
        moves.settle();
        let day = at("2026-11-20T00:00:00Z").0;
        let key = |status: &str| (day, "high".to_owned(), status.to_owned(), String::new());
        assert_eq!(moves.alert_day, BTreeMap::from([(key("new"), -1), (key("resolved"), 1)]));
        assert_eq!(moves.technique_day, BTreeMap::from([((day, "T2".to_owned()), 1)]));
        let detection = (day, "t".to_owned(), "high".to_owned(), String::new());
        assert_eq!(moves.detection_day, BTreeMap::from([(detection, [0, 1, 0, 1])]));
        assert_eq!(moves.alert_hour, BTreeMap::new(), "the same hour and severity");
    }

    #[test]
    fn a_new_alert_is_added_and_the_same_again_moves_nothing() {
        let new = alert("new", "", &[]);
        let mut moves = Moves::default();
        moves.alert(None, &new);
        assert_eq!(moves.alert_hour, BTreeMap::from([((at("2026-11-20T07:00:00Z").0, "high".to_owned()), 1)]));
        let mut again = Moves::default();
        again.alert(Some(&new), &new);
        assert_eq!(again, Moves::default());
    }

    #[test]
    fn lateness_falls_into_the_first_bound_that_holds_it() {
        let visible = at("2026-11-20T07:59:59Z");
        for (late, bound) in
            [(0, 0), (1000, 0), (1001, 1), (60_000, 7), (86_400_000, LAG_SECONDS.len() - 1), (86_400_001, LAG_SECONDS.len())]
        {
            let mut moves = Moves::default();
            let stored = visible.plus(Duration::from_millis(late));
            moves.version(visible, stored);
            assert_eq!(moves.ingest_hour.into_keys().map(|(_, bound)| bound).collect::<Vec<_>>(), [bound], "{late} ms");
        }
        // Stored before it was visible, by a clock of another: not late.
        let mut moves = Moves::default();
        moves.version(visible, visible.minus(Duration::from_secs(5)));
        assert_eq!(moves.ingest_hour.into_keys().next(), Some((at("2026-11-20T07:00:00Z").0, 0)));
    }

    #[test]
    fn a_time_before_1970_lies_in_the_day_that_holds_it() {
        let old = Counted { created: at("1969-12-31T23:30:00Z").0, ..Counted::default() };
        assert_eq!((old.day(), old.hour()), (at("1969-12-31T00:00:00Z").0, at("1969-12-31T23:00:00Z").0));
    }
}
