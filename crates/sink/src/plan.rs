//! What a part of a batch changes, decided from what the database already knows. No I/O.

use std::collections::{BTreeMap, HashSet};

use crate::store::{Alert, Known, Offer};

/// What is to be written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Versions to insert: which record, and its number.
    pub(crate) versions: Vec<(usize, i32)>,
    /// Latest states to offer, in the order of the alert ids, which is the order in which everybody
    /// locks them: two sources of one tenant never wait for each other in a circle.
    pub(crate) latest: Vec<Offer>,
    /// Records that are stored already.
    pub(crate) duplicate: u64,
}

#[derive(Default)]
struct Group {
    best: usize,
    new: i32,
    stored: i32,
}

/// Decides. `known` answers for each of `alerts`, in their order; `rank` is that of their source.
pub(crate) fn plan(alerts: &[Alert<'_>], known: &[Known], rank: i16) -> Plan {
    let mut plan = Plan::default();
    let mut groups = BTreeMap::<&str, Group>::new();
    let mut seen = HashSet::new();
    for (at, (alert, known)) in alerts.iter().zip(known).enumerate() {
        let id = alert.id();
        let group = groups.entry(id).or_insert_with(|| Group { best: at, ..Group::default() });
        // Of equal stamps the later record wins: the last word of the source is the one that stays.
        if alert.ticks() >= alerts[group.best].ticks() {
            group.best = at;
        }
        let first_time = seen.insert((id, alert.record.hash, alert.filed()));
        if first_time && !known.stored {
            group.new += 1;
            plan.versions.push((at, known.newest.saturating_add(group.new)));
        } else {
            group.stored += i32::from(first_time);
            plan.duplicate += 1;
        }
    }
    plan.latest = groups
        .into_values()
        .filter_map(|group| {
            let versions = match known[group.best].standing {
                None => group.new.saturating_add(group.stored),
                Some(_) => group.new,
            };
            let improves = known[group.best].standing.is_none_or(|it| !it.same && (alerts[group.best].ticks(), rank) >= it.rank);
            (improves || group.new > 0).then_some(Offer { record: group.best, versions })
        })
        .collect();
    plan
}

#[cfg(test)]
mod tests {
    use bytestring::ByteString;
    use domain::{AlertFacts, AlertId, AlertRecord, ContentHash, Ticks};

    use super::*;
    use crate::store::Standing;

    const RANK: i16 = 2;
    const UNKNOWN: Known = Known { stored: false, standing: None, newest: 0 };

    fn record(id: &str, body: &'static str, ticks: Option<i64>) -> AlertRecord {
        AlertRecord {
            id: AlertId::new(id),
            hash: ContentHash::of(body.as_bytes()),
            raw: ByteString::from_static(body),
            last_update_text: None,
            last_update: ticks.map(Ticks),
            created: None,
            facts: AlertFacts::default(),
        }
    }

    fn decide(records: &[AlertRecord], known: &[Known]) -> Plan {
        let alerts: Vec<_> = records.iter().map(|record| Alert::new(record, Ticks(0)).unwrap()).collect();
        plan(&alerts, known, RANK)
    }

    fn standing(same: bool, ticks: i64, rank: i16) -> Option<Standing> {
        Some(Standing { same, rank: (ticks, rank) })
    }

    #[test]
    fn a_version_that_is_stored_and_stands_writes_nothing() {
        let known = Known { stored: true, standing: standing(true, 5, RANK), newest: 0 };
        assert_eq!(decide(&[record("a", "1", Some(5))], &[known]), Plan { duplicate: 1, ..Plan::default() });
    }

    #[test]
    fn the_same_body_twice_in_a_batch_is_one_version() {
        let plan = decide(&[record("a", "1", Some(5)), record("a", "1", Some(5))], &[UNKNOWN, UNKNOWN]);
        assert_eq!(plan, Plan { versions: vec![(0, 1)], latest: vec![Offer { record: 1, versions: 1 }], duplicate: 1 });
    }

    #[test]
    fn ids_that_differ_in_case_are_two_alerts_in_byte_order() {
        let plan = decide(&[record("a", "1", Some(5)), record("A", "1", Some(5))], &[UNKNOWN, UNKNOWN]);
        assert_eq!(plan.latest, [Offer { record: 1, versions: 1 }, Offer { record: 0, versions: 1 }]);
    }

    #[test]
    fn of_several_versions_the_highest_stamp_wins_and_of_equal_ones_the_last() {
        let versions = [record("a", "1", Some(7)), record("a", "2", Some(9)), record("a", "3", Some(9)), record("a", "4", None)];
        let plan = decide(&versions, &[UNKNOWN; 4]);
        assert_eq!(plan.versions, [(0, 1), (1, 2), (2, 3), (3, 4)]);
        assert_eq!(plan.latest, [Offer { record: 2, versions: 4 }]);
    }

    #[test]
    fn an_older_version_is_inserted_and_counted_but_offered_in_vain() {
        let known = Known { stored: false, standing: standing(false, 9, RANK), newest: 3 };
        let plan = decide(&[record("a", "1", Some(5))], &[known]);
        assert_eq!(plan, Plan { versions: vec![(0, 4)], latest: vec![Offer { record: 0, versions: 1 }], duplicate: 0 });
    }

    #[test]
    fn a_known_version_comes_back_only_if_what_stands_is_not_higher() {
        for (ticks, rank, comes_back) in [(4, 1, true), (5, 1, true), (5, RANK, true), (5, 3, false), (6, 0, false)] {
            let known = Known { stored: true, standing: standing(false, ticks, rank), newest: 0 };
            let plan = decide(&[record("a", "1", Some(5))], &[known]);
            assert_eq!(!plan.latest.is_empty(), comes_back, "against {ticks}, {rank}");
            assert_eq!((plan.versions.len(), plan.duplicate), (0, 1));
        }
    }

    #[test]
    fn without_a_stamp_nothing_that_has_one_is_overwritten() {
        let known = Known { stored: true, standing: standing(false, -621_355_968_000_000_000, 0), newest: 0 };
        assert!(decide(&[record("a", "1", None)], &[known]).latest.is_empty());
    }
}
