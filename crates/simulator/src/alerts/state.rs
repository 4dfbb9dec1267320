//! What has happened to an alert since it appeared: taken up, commented, given more evidence, moved to another
//! incident, resolved, opened again. The state is folded from the number of updates alone.

use super::evidence::Kind;
use super::face::Face;
use super::{Alert, purpose, text};
use crate::dice::Dice;
use crate::stamp::Stamp;
use std::time::Duration;

/// No alert grows past these, so that a long demo keeps its alerts at a likely size.
const MOST_COMMENTS: usize = 6;
const MOST_EVIDENCE: usize = 12;

const AFTERTHOUGHTS_ON_DEVICE: &[Kind] = &[Kind::File, Kind::Process, Kind::Ip, Kind::RegistryValue, Kind::NetworkConnection];
const AFTERTHOUGHTS_ELSEWHERE: &[Kind] = &[Kind::Ip, Kind::User, Kind::Url];
const INVESTIGATION: &[&str] =
    &["queued", "running", "pendingApproval", "partiallyRemediated", "successfullyRemediated", "terminatedBySystem"];

pub(crate) struct Comment {
    pub(crate) text: String,
    pub(crate) author: String,
    pub(crate) at: Stamp,
}

/// The changeable side of an alert.
pub(crate) struct State {
    pub(crate) status: &'static str,
    pub(crate) severity: &'static str,
    pub(crate) classification: Option<&'static str>,
    pub(crate) determination: Option<&'static str>,
    pub(crate) assigned_to: Option<String>,
    pub(crate) incident: u32,
    pub(crate) investigation: Option<&'static str>,
    pub(crate) investigation_id: Option<i64>,
    pub(crate) resolved: Option<Stamp>,
    pub(crate) updated: Stamp,
    pub(crate) comments: Vec<Comment>,
    pub(crate) evidence: Vec<Kind>,
}

impl State {
    /// The state of an alert after its first `versions` states, of which the first is its appearance.
    pub(crate) fn after(face: &Face, alert: &Alert, versions: usize) -> State {
        let mut state = State::at_first(face, alert);
        for (number, at) in alert.stamps.iter().enumerate().take(versions).skip(1) {
            if let Some((_, incident)) = alert.moves.iter().find(|(state, _)| *state == number) {
                state.updated = *at;
                state.incident = *incident;
                continue;
            }
            let mut dice = Dice::of(&[face.seed, face.index as u64, purpose::UPDATE, alert.number, number as u64]);
            state.change(face, alert.is_endpoint(face), *at, &mut dice);
        }
        state
    }

    fn at_first(face: &Face, alert: &Alert) -> State {
        let template = alert.template(face);
        let mut dice = Dice::of(&[face.seed, face.index as u64, purpose::UPDATE, alert.number, 0]);
        let severity = if dice.chance(0.15) { dice.pick(&["informational", "low", "medium", "high"]) } else { template.severity };
        let updated = alert.stamps[0];
        let handled = template.detection == "antivirus" && dice.chance(0.5);
        let mut evidence = template.evidence.to_vec();
        // A few alerts are far larger than the rest.
        if dice.chance(0.04) {
            let most = MOST_EVIDENCE.min(evidence.len() + 5 + dice.below(5));
            while evidence.len() < most {
                evidence.push(dice.pick(template.evidence));
            }
        }
        State {
            status: if handled { "resolved" } else { "new" },
            severity,
            classification: handled.then_some("truePositive"),
            determination: handled.then_some("malware"),
            assigned_to: handled.then(|| "Automation".to_owned()),
            incident: alert.incident,
            investigation: alert.is_endpoint(face).then(|| dice.pick(&INVESTIGATION[..2])),
            investigation_id: dice.chance(0.6).then(|| dice.between(1_000, 900_000)),
            resolved: handled.then_some(updated),
            updated,
            comments: Vec::new(),
            evidence,
        }
    }

    fn change(&mut self, face: &Face, on_device: bool, at: Stamp, dice: &mut Dice) {
        self.updated = at;
        let roll = dice.below(100);
        match self.status {
            "new" => match roll {
                0..=44 => self.take_up(face, dice),
                45..=59 => self.comment(face, at, dice),
                60..=84 => self.more_evidence(on_device, dice),
                _ => self.resolve("Automation".to_owned(), at, dice),
            },
            "inProgress" => match roll {
                0..=34 => self.comment(face, at, dice),
                35..=59 => self.more_evidence(on_device, dice),
                60..=89 => {
                    let analyst = self.assigned_to.clone().unwrap_or_else(|| "Automation".to_owned());
                    self.resolve(analyst, at, dice);
                }
                90..=94 => self.severity = if self.severity == "high" { "medium" } else { "high" },
                _ => self.incident += 1,
            },
            _ => match roll {
                0..=54 => self.comment(face, at, dice),
                55..=74 => {
                    self.take_up(face, dice);
                    self.resolved = None;
                }
                _ => self.classify(dice),
            },
        }
    }

    fn take_up(&mut self, face: &Face, dice: &mut Dice) {
        self.status = "inProgress";
        self.assigned_to = Some(analyst(face, dice).1);
    }

    fn comment(&mut self, face: &Face, at: Stamp, dice: &mut Dice) {
        if self.comments.len() >= MOST_COMMENTS {
            self.investigation = Some(dice.pick(INVESTIGATION));
            return;
        }
        let (author, _) = analyst(face, dice);
        let text = dice.pick(text::comments(face.culture)).to_string();
        self.comments.push(Comment { text, author, at: at.minus(Duration::from_micros(dice.between(1_000, 2_000_000) as u64)) });
    }

    fn more_evidence(&mut self, on_device: bool, dice: &mut Dice) {
        if self.evidence.len() >= MOST_EVIDENCE {
            self.investigation = Some(dice.pick(INVESTIGATION));
            return;
        }
        self.evidence.push(dice.pick(if on_device { AFTERTHOUGHTS_ON_DEVICE } else { AFTERTHOUGHTS_ELSEWHERE }));
    }

    fn resolve(&mut self, by: String, at: Stamp, dice: &mut Dice) {
        self.status = "resolved";
        self.assigned_to = Some(by);
        self.resolved = Some(at);
        self.investigation = Some(dice.pick(&INVESTIGATION[3..]));
        self.classify(dice);
    }

    fn classify(&mut self, dice: &mut Dice) {
        let (classification, determination) = dice.pick(&[
            ("truePositive", "malware"),
            ("truePositive", "phishing"),
            ("truePositive", "compromisedAccount"),
            ("truePositive", "multiStagedAttack"),
            ("falsePositive", "notMalicious"),
            ("falsePositive", "notEnoughDataToValidate"),
            ("informationalExpectedActivity", "securityTesting"),
            ("informationalExpectedActivity", "lineOfBusinessApplication"),
        ]);
        self.classification = Some(classification);
        self.determination = Some(determination);
    }
}

/// Name and address of somebody who looks after alerts: at the customer, or at the provider.
fn analyst(face: &Face, dice: &mut Dice) -> (String, String) {
    if dice.chance(0.4) {
        let person = face.someone(dice);
        return (person.display, person.upn);
    }
    let (name, address) = dice.pick(&[
        ("Çağla Işıldar", "cagla.isildar@bekci.example"),
        ("Jørn Bækgaard", "joern@bekci.example"),
        ("Rosalind Achterberg", "rosalind.achterberg@bekci.example"),
        ("İlkay Sütçü", "ilkay.sutcu@bekci.example"),
    ]);
    (name.to_owned(), address.to_owned())
}
