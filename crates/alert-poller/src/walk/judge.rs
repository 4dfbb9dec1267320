//! Is this answer all there is? The question that loses alerts when it is answered too gladly.
//!
//! An answer may be cut without a word: a source clamps `$top` to a number it does not tell, and may
//! or may not add a link to the next page. So an answer counts as complete only with a reason:
//!
//! * it is empty and leads nowhere, or
//! * it is shorter than an answer that this feed has already got in one piece, and leads nowhere; a
//!   clamp that let the longer one through cannot have cut this one.
//!
//! Such a proof grows old, since a source may begin to cut shorter: after [`super::Learnt::forget_if_old`] an answer
//! has to be looked at again.
//!
//! Anything else is looked at again ([`super::exhaust`]) or read in smaller pieces.

use std::collections::HashSet;

use domain::rehearsal::bug;
use domain::{Axis, ContentHash, Record, Ticks, cursor};

/// What the walk needs to know of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Which record: over the id for an alert or an incident, over the body for what is neither.
    pub(crate) key: ContentHash,
    /// Its stamp on the axis of the walk, if readable.
    pub(crate) stamp: Option<Ticks>,
    /// When it was created, if readable.
    pub(crate) created: Option<Ticks>,
}

/// A set of records as they stood: a record that was updated meanwhile is another member.
pub(crate) type Seen = HashSet<(ContentHash, Option<Ticks>)>;

/// The stamp of a record on an axis; `None` when it is absent or cannot be read.
pub(crate) fn stamp_on(record: &Record, axis: Axis) -> Option<Ticks> {
    match (record, axis) {
        (Record::Alert(alert), Axis::Update) => alert.last_update,
        (Record::Alert(alert), Axis::Creation) => alert.created,
        (Record::Incident(incident), Axis::Update) => incident.last_update,
        (Record::Incident(incident), Axis::Creation) => incident.created,
        (Record::Poison(_), _) => None,
    }
}

/// Reduces records to rows.
pub(crate) fn rows(records: &[Record], axis: Axis) -> Vec<Row> {
    let key = |record: &Record| match record {
        Record::Alert(alert) => ContentHash::of(alert.id.as_str().as_bytes()),
        Record::Incident(incident) => ContentHash::of(incident.id.as_str().as_bytes()),
        Record::Poison(poison) => poison.hash,
    };
    records
        .iter()
        .map(|record| Row { key: key(record), stamp: stamp_on(record, axis), created: stamp_on(record, Axis::Creation) })
        .collect()
}

/// The rows as a set.
pub(crate) fn seen(rows: &[Row]) -> Seen {
    rows.iter().map(|row| (row.key, row.stamp)).collect()
}

/// The readable stamps, in order of the answer.
pub(crate) fn stamps(rows: &[Row]) -> impl Iterator<Item = Ticks> {
    rows.iter().filter_map(|row| row.stamp)
}

/// First and last of the readable stamps on the time line.
pub(crate) fn hull(rows: &[Row]) -> Option<(Ticks, Ticks)> {
    Some((stamps(rows).min()?, stamps(rows).max()?))
}

/// Whether the readable stamps never fall.
pub(crate) fn is_ascending(rows: &[Row]) -> bool {
    cursor::is_ascending(rows.iter().map(|row| row.stamp))
}

/// What an answer to a window is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// All there is.
    Complete,
    /// It may have been cut, or not: ask what comes after it.
    CheckAfter,
    /// It has a link although it is short: see whether the link leads to anything.
    CheckLink,
    /// There is more.
    More,
}

/// Judges an answer of `len` records to a question for `top`, asked without `$skip`. `longest` is from
/// before this answer.
pub(crate) fn judge(len: usize, has_link: bool, top: u32, longest: usize, max_skip: u32) -> Judgement {
    let top = usize::try_from(top).unwrap_or(usize::MAX);
    let max_skip = usize::try_from(max_skip).unwrap_or(usize::MAX);
    if bug("clamp-not-noticed") && len < top && !has_link {
        return Judgement::Complete;
    }
    match (len, has_link) {
        (0, false) => Judgement::Complete,
        _ if len >= top => Judgement::More,
        (_, true) if len < longest || len == 0 => Judgement::CheckLink,
        (_, true) => Judgement::More,
        (_, false) if len < longest => Judgement::Complete,
        (_, false) if len <= max_skip => Judgement::CheckAfter,
        (_, false) => Judgement::More,
    }
}

#[cfg(test)]
mod tests {
    use bytestring::ByteString;
    use domain::{AlertFacts, AlertId, AlertRecord, IncidentId, IncidentRecord, Poison};

    use super::*;

    #[test]
    fn an_answer_is_complete_only_with_a_reason() {
        use Judgement::{CheckAfter, CheckLink, Complete, More};
        for (len, link, longest, expected, why) in [
            (0, false, 0, Complete, "nothing, and nowhere to go"),
            (0, true, 0, CheckLink, "an empty page may still lead on"),
            (999, false, 1000, Complete, "a longer page came through whole"),
            (1000, false, 0, More, "full"),
            (1000, true, 5000, More, "full"),
            (1200, false, 5000, More, "fuller than asked"),
            (100, false, 0, CheckAfter, "may be a clamp at 100"),
            (100, false, 100, CheckAfter, "still may be"),
            (100, false, 101, Complete, "no clamp at 100"),
            (501, false, 0, More, "what follows cannot be asked for by $skip"),
            (100, true, 0, More, "a clamp that says so"),
            (99, true, 100, CheckLink, "short, and yet a link"),
        ] {
            assert_eq!(judge(len, link, 1000, longest, 500), expected, "{why}");
        }
    }

    #[test]
    fn alerts_and_incidents_have_a_stamp_on_each_axis_and_poison_has_none() {
        let (id, raw, hash) = ("7", ByteString::from_static("{}"), ContentHash([0; 32]));
        let (last_update, created) = (Some(Ticks(2)), Some(Ticks(1)));
        let alert = AlertRecord {
            id: AlertId::new(id),
            hash,
            raw: raw.clone(),
            last_update_text: None,
            last_update,
            created,
            facts: AlertFacts::default(),
        };
        let incident = IncidentRecord {
            id: IncidentId::new(id),
            hash,
            raw: raw.clone(),
            last_update,
            created,
            title: None,
            severity: None,
            status: None,
            redirect: None,
        };
        let records = [Record::Alert(alert), Record::Incident(incident), Record::Poison(Poison::new("a test", raw.into_bytes()))];
        for (axis, expected) in [(Axis::Update, last_update), (Axis::Creation, created)] {
            let stamps: Vec<_> = rows(&records, axis).iter().map(|row| row.stamp).collect();
            assert_eq!(stamps, [expected, expected, None]);
        }
        let keys: Vec<_> = rows(&records, Axis::Update).iter().map(|row| row.key).collect();
        assert_eq!(keys[0], ContentHash::of(id.as_bytes()), "by its id, not by its body");
        assert_eq!(keys[1], keys[0]);
        assert_eq!(keys[2], ContentHash::of(b"{}"));
    }
}
