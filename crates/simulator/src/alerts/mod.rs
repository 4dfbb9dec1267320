//! The generator of alerts. An alert is kept as a recipe (who, which detection, when, which updates since) and
//! its JSON is worked out from the recipe whenever it is needed: the same recipe gives the same bytes, so a
//! hundred thousand alerts cost little until somebody asks for them, and any old version can be shown again.

mod evidence;
mod evidence_cloud;
mod evidence_flat;
pub(crate) mod face;
pub(crate) mod products;
mod props;
pub(crate) mod state;
pub(crate) mod text;

use crate::dice::Dice;
use crate::json::Json;
use crate::stamp::Stamp;
use crate::vocabulary::{DETECTION_SOURCE, SERVICE_SOURCE, endpoint_word};
use face::{Device, Face, Person};
use products::{ENDPOINT, IdShape, TEMPLATES, Template};
use state::State;
use std::sync::Arc;
use std::time::Duration;

/// Purposes for which dice are thrown, so that no two draw from one sequence.
mod purpose {
    pub(super) const TEMPLATE: u64 = 10;
    pub(super) const ID: u64 = 11;
    pub(super) const BODY: u64 = 12;
    pub(super) const EVIDENCE: u64 = 13;
    pub(super) const UPDATE: u64 = 14;
}

/// The .NET epoch (year 1) in ticks before 1970, as it shows in the ids of older alerts.
const TICKS_OF_YEAR_ONE: i64 = 621_355_968_000_000_000;

/// Every so many alerts come as a pair whose ids differ in nothing but the case of their letters.
const PAIR_EVERY: u64 = 37;

/// One alert of our own making.
#[derive(Debug)]
pub(crate) struct Alert {
    pub(crate) number: u64,
    pub(crate) id: Arc<str>,
    /// The incident it was put into at first.
    pub(crate) incident: u32,
    pub(crate) created: Stamp,
    /// Last-update stamps of its states: the first is that of its appearance.
    pub(crate) stamps: Vec<Stamp>,
    /// Into which incident somebody put it, and with which of its states that shows.
    pub(crate) moves: Vec<(usize, u32)>,
}

impl Alert {
    /// Alert `number` of a tenant, as it first shows itself at `updated`.
    pub(crate) fn new(face: &Face, number: u64, incident: u32, created: Stamp, updated: Stamp) -> Alert {
        let id = match pair_of(number).map(|other| (other, swap_case(&id_of(face, other, created)))) {
            Some((other, swapped)) if swapped != id_of(face, other, created) => swapped,
            _ => id_of(face, number, created),
        };
        Alert { number, id: id.into(), incident, created, stamps: vec![updated], moves: Vec::new() }
    }

    pub(crate) fn template(&self, face: &Face) -> &'static Template {
        &TEMPLATES[template_of(face, self.number)]
    }

    /// Whether Defender for Endpoint has it as well.
    pub(crate) fn is_endpoint(&self, face: &Face) -> bool {
        self.template(face).service == ENDPOINT
    }

    /// How many states it has been in.
    pub(crate) fn versions(&self) -> usize {
        self.stamps.len()
    }
}

/// The first of a pair, when this number is the second.
fn pair_of(number: u64) -> Option<u64> {
    (number % PAIR_EVERY == PAIR_EVERY - 1).then(|| number - 1)
}

fn template_of(face: &Face, number: u64) -> usize {
    let number = pair_of(number).unwrap_or(number);
    products::draw(&mut face.dice(purpose::TEMPLATE, number))
}

fn id_of(face: &Face, number: u64, created: Stamp) -> String {
    let template = &TEMPLATES[template_of(face, number)];
    let mut dice = face.dice(purpose::ID, number);
    let prefix = template.prefix;
    match template.id {
        // The number keeps ids apart that were made in the same tick.
        IdShape::Ticks => format!(
            "{prefix}{}_{}",
            created.ticks() + TICKS_OF_YEAR_ONE,
            dice.between(-2_000_000_000, 2_000_000_000) / 1000 * 1000 + (number % 1000) as i64
        ),
        IdShape::GuidPart => format!("{prefix}{}_1", dice.uuid()),
        IdShape::Guid => format!("{prefix}{}", dice.uuid()),
        IdShape::UpperGuid => format!("{prefix}{}", dice.uuid().to_string().to_uppercase()),
        IdShape::LongHex => format!("{prefix}{}", dice.hex(64)),
    }
}

/// The id with the case of all letters behind the prefix turned round.
fn swap_case(id: &str) -> String {
    let turn = |letter: char| if letter.is_ascii_uppercase() { letter.to_ascii_lowercase() } else { letter.to_ascii_uppercase() };
    id.char_indices().map(|(at, letter)| if at < 2 { letter } else { turn(letter) }).collect()
}

/// Everything the writers of one alert look at.
pub(crate) struct Scene<'a> {
    face: &'a Face,
    alert: &'a Alert,
    template: &'static Template,
    created: Stamp,
    device: Device,
    person: Person,
    person_number: usize,
    resolved: bool,
    all_members: bool,
}

impl<'a> Scene<'a> {
    fn of(face: &'a Face, alert: &'a Alert, state: &State, all_members: bool) -> Scene<'a> {
        let mut dice = face.dice(purpose::BODY, alert.number);
        let person_number = dice.below(40);
        Scene {
            face,
            alert,
            template: alert.template(face),
            created: alert.created,
            device: face.some_device(&mut dice),
            person: face.person(person_number),
            person_number,
            resolved: state.resolved.is_some(),
            all_members,
        }
    }

    fn dice(&self, part: u64) -> Dice {
        Dice::of(&[self.face.seed, self.face.index as u64, purpose::BODY, self.alert.number, part])
    }

    fn evidence_dice(&self, number: usize) -> Dice {
        Dice::of(&[self.face.seed, self.face.index as u64, purpose::EVIDENCE, self.alert.number, number as u64])
    }

    fn title(&self) -> String {
        match self.template.title {
            "" => self.dice(1).pick(text::own_rule_titles(self.face.culture)).to_string(),
            title => title.to_owned(),
        }
    }

    fn description(&self) -> String {
        let mut dice = self.dice(2);
        let mut description = self.template.description.to_owned();
        for _ in 0..1 + dice.below(3) {
            description.push_str(if dice.chance(0.3) { "\n\n" } else { " " });
            description.push_str(dice.pick(text::BACKGROUND));
        }
        description
    }

    fn recommended_actions(&self) -> String {
        let mut dice = self.dice(3);
        let from = dice.below(text::ACTIONS.len() - 1);
        let count = 1 + dice.below(3);
        text::ACTIONS.iter().cycle().skip(from).take(count).copied().collect::<Vec<_>>().join("\n\n")
    }

    /// First and last moment of what the alert is about.
    fn activity(&self) -> (Stamp, Stamp) {
        let mut dice = self.dice(4);
        let last = self.created.minus(Duration::from_micros(dice.between(800_000, 900_000_000) as u64));
        let first = last.minus(Duration::from_millis(dice.below(3_600_000) as u64));
        (first, last)
    }

    fn link(&self, what: &str, id: &str) -> String {
        format!("https://security.microsoft.com/{what}/{id}?tid={}", self.face.directory_id)
    }
}

/// The alert as Graph shows it after its first `versions` states; `all_members` is what the caller's `Prefer`
/// header asks for.
pub(crate) fn render_graph(face: &Face, alert: &Alert, versions: usize, all_members: bool) -> String {
    let state = State::after(face, alert, versions);
    let scene = Scene::of(face, alert, &state, all_members);
    let template = scene.template;
    let mut dice = scene.dice(5);
    let incident = state.incident.to_string();
    Json::render(8 * 1024, |json| {
        if face.index.is_multiple_of(4) {
            json.str("@odata.type", "#microsoft.graph.security.alert");
        }
        json.str("id", &alert.id);
        let provider_id = if template.id == IdShape::Ticks { &alert.id[..] } else { &alert.id[2..] };
        json.str("providerAlertId", provider_id);
        json.str("incidentId", &incident);
        json.str("status", state.status);
        json.str("severity", state.severity);
        let unset = if face.index.is_multiple_of(2) { Some("unknown") } else { None };
        json.maybe("classification", state.classification.or(unset));
        json.maybe("determination", state.determination.or(unset));
        json.str("serviceSource", SERVICE_SOURCE.seen(template.service, all_members));
        json.str("detectionSource", DETECTION_SOURCE.seen(template.detection, all_members));
        json.str("productName", template.product);
        if dice.chance(0.95) {
            json.uuid("detectorId", Dice::of(&[0xDE7, template_of(face, alert.number) as u64]).uuid());
        }
        json.uuid("tenantId", face.directory_id);
        json.str("title", &scene.title());
        json.str("description", &scene.description());
        json.str("recommendedActions", &scene.recommended_actions());
        json.str("category", template.category);
        json.maybe("assignedTo", state.assigned_to.as_deref());
        json.str("alertWebUrl", &scene.link("alerts", &alert.id));
        json.str("incidentWebUrl", &scene.link("incidents", &incident));
        json.maybe("actorDisplayName", dice.chance(0.05).then_some("Storm-0000"));
        json.maybe("threatDisplayName", template.threat.map(|(_, display)| display));
        json.maybe("threatFamilyName", template.threat.map(|(family, _)| family));
        json.strings("mitreTechniques", template.techniques);
        json.stamp("createdDateTime", alert.created);
        json.stamp("lastUpdateDateTime", state.updated);
        json.maybe_stamp("resolvedDateTime", state.resolved);
        let (first, last) = scene.activity();
        json.stamp("firstActivityDateTime", first);
        json.stamp("lastActivityDateTime", last);
        json.strings("systemTags", if dice.chance(0.1) { &["Defender Experts"][..] } else { &[] });
        json.null("alertPolicyId");
        json.maybe("investigationState", state.investigation);
        odd_members(json, &mut dice);
        json.array("comments", |json| {
            for comment in &state.comments {
                json.item(|json| {
                    json.str("comment", &comment.text);
                    json.str("createdByDisplayName", &comment.author);
                    json.stamp("createdDateTime", comment.at);
                });
            }
        });
        json.array("evidence", |json| {
            for (number, kind) in state.evidence.iter().enumerate() {
                evidence::write(json, *kind, &scene, number);
            }
        });
    })
}

/// Members whose spelling a careless reader loses: numbers a double cannot hold, escapes nobody would write.
fn odd_members(json: &mut Json, dice: &mut Dice) {
    if dice.chance(0.12) {
        json.object("additionalData", |json| {
            json.raw("score", "0.10");
            json.raw("events", "12345678901234567890");
            json.raw("scale", "1E+2");
        });
    }
    if dice.chance(0.12) {
        json.object("customDetails", |json| {
            json.raw("Afdeling", r#""[\"L\u00f8n \u0131\u015f\u0131k\",\"a\u0027b \/ c\"]""#);
            json.str("Şube", "[\"Diyarbakır\",\"Işıklar\"]");
        });
    }
}

/// The same alert as Defender for Endpoint shows it, with its evidence when the caller expands it.
pub(crate) fn render_endpoint(face: &Face, alert: &Alert, versions: usize, with_evidence: bool) -> String {
    let state = State::after(face, alert, versions);
    let scene = Scene::of(face, alert, &state, true);
    let template = scene.template;
    let mut dice = scene.dice(5);
    Json::render(6 * 1024, |json| {
        json.str("id", &alert.id);
        json.num("incidentId", state.incident);
        match state.investigation_id {
            Some(id) => json.num("investigationId", id),
            None => json.null("investigationId"),
        }
        json.maybe("assignedTo", state.assigned_to.as_deref());
        json.str("severity", &endpoint_word(state.severity));
        json.str("status", &endpoint_word(state.status));
        json.maybe("classification", state.classification.map(endpoint_word).as_deref());
        json.maybe("determination", state.determination.map(endpoint_word).as_deref());
        json.maybe("investigationState", state.investigation.map(endpoint_word).as_deref());
        json.str("detectionSource", products::endpoint_detection(template.detection));
        if dice.chance(0.95) {
            json.uuid("detectorId", Dice::of(&[0xDE7, template_of(face, alert.number) as u64]).uuid());
        }
        json.str("category", template.category);
        json.maybe("threatFamilyName", template.threat.map(|(family, _)| family));
        json.str("title", &scene.title());
        json.str("description", &scene.description());
        json.stamp("alertCreationTime", alert.created);
        let (first, last) = scene.activity();
        json.stamp("firstEventTime", first);
        json.stamp("lastEventTime", last);
        json.stamp("lastUpdateTime", state.updated);
        json.maybe_stamp("resolvedTime", state.resolved);
        json.str("machineId", &scene.device.id);
        json.str("computerDnsName", &scene.device.dns_name);
        json.str("rbacGroupName", scene.device.group);
        json.uuid("aadTenantId", face.directory_id);
        json.maybe("threatName", template.threat.map(|(_, display)| display));
        json.strings("mitreTechniques", template.techniques);
        json.object("relatedUser", |json| {
            json.str("userName", &scene.person.account);
            json.str("domainName", &face.nt_domain);
        });
        json.array("comments", |json| {
            for comment in &state.comments {
                json.item(|json| {
                    json.str("comment", &comment.text);
                    json.str("createdBy", &comment.author);
                    json.stamp("createdTime", comment.at);
                });
            }
        });
        json.array("evidence", |json| {
            for (number, kind) in state.evidence.iter().enumerate().filter(|_| with_evidence) {
                evidence_flat::write(json, *kind, &scene, number);
            }
        });
    })
}

#[cfg(test)]
mod tests;
