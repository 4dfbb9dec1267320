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
