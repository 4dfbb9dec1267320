//! Incidents: which of them replace what stands, and where merged ones lead in the end. No I/O.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::store::{Incident, Link, StandingIncident};

/// What a part of a batch changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan<'a> {
    /// Which records replace what stands, in the order of ids, which is the order in which everybody locks them.
    pub(crate) put: Vec<usize>,
    /// Ids of incidents that were not there.
    pub(crate) new: Vec<&'a str>,
    /// Ids of incidents that were.
    pub(crate) updated: Vec<&'a str>,
    /// Records that change nothing.
    pub(crate) duplicate: u64,
    /// Ids of incidents that now redirect elsewhere than before.
    pub(crate) turned: Vec<&'a str>,
}

/// Decides. `known` answers for each of `incidents`, in their order.
pub(crate) fn plan<'a>(incidents: &[Incident<'a>], known: &[Option<StandingIncident>]) -> Plan<'a> {
    let mut best = BTreeMap::<&str, usize>::new();
    for (at, incident) in incidents.iter().enumerate() {
        match best.entry(incident.id()) {
            Entry::Vacant(place) => {
                place.insert(at);
            }
            // Of equal stamps the later record wins: the last word of the source is the one that stays.
            Entry::Occupied(mut other) => {
                if incident.ticks() >= incidents[*other.get()].ticks() {
                    other.insert(at);
                }
            }
        }
    }
    let mut plan = Plan::default();
    for (id, at) in best {
        let (incident, known) = (&incidents[at], known[at].as_ref());
        if known.is_some_and(|known| known.hash == incident.record.hash || known.ticks > incident.ticks()) {
            continue;
        }
        plan.put.push(at);
        match known {
            None => plan.new.push(id),
            Some(_) => plan.updated.push(id),
        }
        if known.and_then(|known| known.redirect.as_deref()) != incident.redirect() {
            plan.turned.push(id);
        }
    }
    plan.duplicate = (incidents.len() - plan.put.len()) as u64;
    plan
}

/// Where incidents lead now, those of the links that lead elsewhere than is on record; `None` for those that lead
/// nowhere any more. In the order of ids.
///
/// A chain ends at an incident without a redirect. One that runs into a circle ends at the member of the circle with the
/// smallest id, whichever way it came, so that the end does not depend on the order in which merges were seen.
pub(crate) fn settle(links: &[Link]) -> Vec<(String, Option<String>)> {
    let near: BTreeMap<&str, &Link> = links.iter().map(|link| (link.id.as_str(), link)).collect();
    let mut settled = Vec::new();
    for (id, link) in &near {
        let end = end(id, &near);
        let end = (end != *id).then(|| end.to_owned());
        if end != link.end {
            settled.push(((*id).to_owned(), end));
        }
    }
    settled
}

fn end<'a>(from: &'a str, near: &BTreeMap<&'a str, &'a Link>) -> &'a str {
    let (mut at, mut seen) = (from, BTreeSet::new());
    loop {
        if !seen.insert(at) {
            return circle(at, near);
        }
        // Beyond the neighbourhood nothing has changed: what is on record there holds.
        let Some(link) = near.get(at) else { return at };
        let Some(next) = link.redirect.as_deref() else { return at };
        if !near.contains_key(next) {
            return link.beyond.as_deref().unwrap_or(next);
        }
        at = next;
    }
}

/// The smallest id of the circle that this one is in.
fn circle<'a>(member: &'a str, near: &BTreeMap<&'a str, &'a Link>) -> &'a str {
    let (mut smallest, mut at) = (member, member);
    loop {
        let Some(next) = near.get(at).and_then(|link| link.redirect.as_deref()).filter(|next| *next != member) else { return smallest };
        smallest = smallest.min(next);
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytestring::ByteString;
    use domain::{ContentHash, IncidentId, IncidentRecord, Ticks};

    use super::*;

    fn incident(id: &str, body: &'static str, ticks: Option<i64>, redirect: Option<&str>) -> IncidentRecord {
        IncidentRecord {
            id: IncidentId::new(id),
            hash: ContentHash::of(body.as_bytes()),
            raw: ByteString::from_static(body),
            last_update: ticks.map(Ticks),
            created: None,
            title: None,
            severity: None,
            status: None,
            redirect: redirect.map(IncidentId::new),
        }
    }

    fn standing(body: &str, ticks: i64, redirect: Option<&str>) -> Option<StandingIncident> {
        Some(StandingIncident { hash: ContentHash::of(body.as_bytes()), ticks, redirect: redirect.map(str::to_owned) })
    }

    fn decide(records: &[IncidentRecord], known: &[Option<StandingIncident>]) -> (Vec<usize>, u64, Vec<String>) {
        let incidents: Vec<_> = records.iter().map(|record| Incident::new(record, Ticks(0)).unwrap()).collect();
        let plan = plan(&incidents, known);
        (plan.put, plan.duplicate, plan.turned.into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn what_is_not_older_and_says_something_else_replaces_what_stands() {
        for (body, ticks, put) in
            [("1", Some(9), false), ("2", Some(9), true), ("2", Some(8), false), ("2", None, false), ("2", Some(10), true)]
        {
            let (found, duplicate, _) = decide(&[incident("a", body, ticks, None)], &[standing("1", 9, None)]);
            assert_eq!((found.len(), duplicate), if put { (1, 0) } else { (0, 1) }, "{body} {ticks:?}");
        }
    }

    #[test]
    fn of_several_states_the_highest_stamp_wins_and_of_equal_ones_the_last() {
        let states = [
            incident("b", "1", None, None),
            incident("a", "2", Some(7), None),
            incident("a", "3", Some(7), None),
            incident("a", "4", Some(6), None),
        ];
        assert_eq!(decide(&states, &[None, None, None, None]), (vec![2, 0], 2, vec![]));
    }

    #[test]
    fn only_a_redirect_that_differs_is_looked_into() {
        for (before, now, turned) in [
            (None, None, false),
            (None, Some("z"), true),
            (Some("z"), Some("z"), false),
            (Some("z"), Some("y"), true),
            (Some("z"), None, true),
        ] {
            let (_, _, found) = decide(&[incident("a", "2", Some(9), now)], &[standing("1", 9, before)]);
            assert_eq!(!found.is_empty(), turned, "{before:?} {now:?}");
        }
        assert_eq!(decide(&[incident("a", "2", Some(9), None)], &[None]).2, [""; 0], "first sight of one that leads nowhere");
        assert_eq!(decide(&[incident("a", "2", Some(9), Some("z"))], &[None]).2, ["a"]);
    }

    /// What is on record, kept by asking only for the neighbourhood as a database would.
    #[derive(Default)]
    struct Record {
        redirects: HashMap<String, String>,
        ends: HashMap<String, String>,
    }

    impl Record {
        fn turn(&mut self, turned: &[(String, Option<String>)]) {
            for (id, redirect) in turned {
                match redirect {
                    Some(to) => self.redirects.insert(id.clone(), to.clone()),
                    None => self.redirects.remove(id),
                };
            }
            let mut ends: BTreeSet<String> = turned.iter().map(|(id, _)| id.clone()).collect();
            ends.extend(turned.iter().filter_map(|(id, _)| self.ends.get(id).cloned()));
            let mut near = ends.clone();
            near.extend(self.ends.iter().filter(|(_, end)| ends.contains(*end)).map(|(id, _)| id.clone()));
            let links: Vec<Link> = near
                .into_iter()
                .map(|id| {
                    let redirect = self.redirects.get(&id).cloned();
                    let beyond = redirect.as_ref().and_then(|to| self.ends.get(to).cloned());
                    Link { end: self.ends.get(&id).cloned(), id, redirect, beyond }
                })
                .collect();
            for (id, end) in settle(&links) {
                match end {
                    Some(end) => self.ends.insert(id, end),
                    None => self.ends.remove(&id),
                };
            }
        }

        /// The end of every chain, followed to its last member or around its circle.
        fn followed(&self) -> HashMap<String, String> {
            let mut ends = HashMap::new();
            for from in self.redirects.keys() {
                let (mut at, mut way) = (from, vec![from]);
                let end = loop {
                    let Some(next) = self.redirects.get(at) else { break at };
                    if let Some(start) = way.iter().position(|seen| *seen == next) {
                        break way[start..].iter().min().unwrap();
                    }
                    way.push(next);
                    at = next;
                };
                if end != from {
                    ends.insert(from.clone(), end.clone());
                }
            }
            ends
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2_000))]
        #[test]
        fn whatever_is_merged_in_whatever_order_every_record_is_the_end_of_its_chain(
            steps in proptest::collection::vec(proptest::collection::vec((0_u8..9, proptest::option::weighted(0.8, 0_u8..9)), 1..4), 1..25)) {
            let mut record = Record::default();
            for step in steps {
                let mut turned = BTreeMap::new();
                for (id, redirect) in step {
                    turned.insert(id.to_string(), redirect.map(|to| to.to_string()));
                }
                record.turn(&turned.into_iter().collect::<Vec<_>>());
                proptest::prop_assert_eq!(&record.ends, &record.followed());
            }
        }
    }
}
