//! The members of an event, written as they come: no tree is built for what is only to become text.

use domain::Ticks;
use microsoft::evidence::{Facts, Kind, Thing};
use serde::Serialize;

use super::{Columns, VERSION, activity, said, severity, status};

const CATEGORY: u32 = 2;
const CLASS: u32 = 2004;

/// A Detection Finding.
#[derive(Serialize)]
pub(super) struct Event<'a> {
    activity_id: u32,
    activity_name: &'static str,
    category_uid: u32,
    category_name: &'static str,
    class_uid: u32,
    class_name: &'static str,
    type_uid: u32,
    type_name: String,
    time: i64,
    severity_id: u32,
    severity: &'a str,
    status_id: u32,
    status: &'a str,
    message: &'a str,
    metadata: Metadata<'a>,
    finding_info: Info<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    evidences: Vec<Artifact<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    observables: Vec<Observable<'a>>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    version: &'static str,
    uid: &'a str,
    tenant_uid: &'a str,
    logged_time: i64,
    product: Product<'a>,
}

#[derive(Serialize)]
struct Product<'a> {
    name: &'a str,
    vendor_name: &'static str,
}

#[derive(Serialize)]
struct Info<'a> {
    uid: &'a str,
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    desc: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seen_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    types: Option<[&'a str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_sources: Option<[&'a str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    analytic: Option<Analytic<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attacks: Vec<Attack<'a>>,
}

#[derive(Serialize)]
struct Analytic<'a> {
    uid: &'a str,
    type_id: u32,
    r#type: &'static str,
}

/// A type that Microsoft does not tell.
const UNKNOWN: (u32, &str) = (0, "Unknown");

/// A technique, or a technique within one: `T1564.001`.
#[derive(Serialize)]
struct Attack<'a> {
    technique: Uid<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_technique: Option<Uid<'a>>,
}

#[derive(Serialize)]
struct Uid<'a> {
    uid: &'a str,
}

/// A thing as an artifact of evidence: one of these objects, and what Microsoft says of it beside.
#[derive(Default, Serialize)]
struct Artifact<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Device<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_endpoint: Option<Endpoint<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<Url<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<Process<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Said<'a>>,
}

#[derive(Serialize)]
struct Device<'a> {
    hostname: &'a str,
    type_id: u32,
    r#type: &'static str,
}

#[derive(Serialize)]
struct User<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_addr: Option<&'a str>,
}

#[derive(Serialize)]
struct Endpoint<'a> {
    ip: &'a str,
}

#[derive(Serialize)]
struct File<'a> {
    name: &'a str,
    type_id: u32,
    r#type: &'static str,
    hashes: [Hash<'a>; 1],
}

#[derive(Serialize)]
struct Url<'a> {
    url_string: &'a str,
}

#[derive(Serialize)]
struct Process<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Hash<'a> {
    algorithm_id: u32,
    algorithm: &'static str,
    value: &'a str,
}

#[derive(Serialize)]
struct Said<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    roles: &'a [String],
}

/// The same thing, to be looked for by its value.
#[derive(Serialize)]
struct Observable<'a> {
    name: String,
    type_id: u32,
    r#type: &'static str,
    value: &'a str,
}

impl<'a> Event<'a> {
    pub(super) fn of(alert: &Columns<'a>, facts: &'a Facts) -> Self {
        let (activity_id, activity_name) = activity(alert);
        let (severity_id, severity) = severity(alert.severity);
        let (status_id, status) = status(alert.status);
        let product = facts.product.as_deref().or(said(alert.service_source)).unwrap_or("Microsoft Defender XDR");
        let title = said(alert.title).unwrap_or(alert.alert_id);
        Self {
            activity_id,
            activity_name,
            category_uid: CATEGORY,
            category_name: "Findings",
            class_uid: CLASS,
            class_name: "Detection Finding",
            type_uid: CLASS * 100 + activity_id,
            type_name: format!("Detection Finding: {activity_name}"),
            time: milliseconds(alert.updated.or(alert.created).unwrap_or(alert.stored)),
            severity_id,
            severity,
            status_id,
            status,
            message: title,
            metadata: Metadata {
                version: VERSION,
                uid: alert.alert_id,
                tenant_uid: alert.directory_id,
                logged_time: milliseconds(alert.stored),
                product: Product { name: product, vendor_name: "Microsoft" },
            },
            finding_info: Info::of(alert, facts, title),
            evidences: facts.things.iter().map(Artifact::of).collect(),
            observables: facts.things.iter().enumerate().map(Observable::of).collect(),
        }
    }
}

impl<'a> Info<'a> {
    fn of(alert: &Columns<'a>, facts: &'a Facts, title: &'a str) -> Self {
        Self {
            uid: alert.alert_id,
            title,
            desc: facts.description.as_deref(),
            created_time: alert.created.map(milliseconds),
            modified_time: alert.updated.map(milliseconds),
            first_seen_time: facts.active.0.map(milliseconds),
            last_seen_time: facts.active.1.map(milliseconds),
            types: said(alert.category).map(|word| [word]),
            data_sources: said(alert.detection_source).map(|word| [word]),
            analytic: facts.detector.as_deref().map(|uid| Analytic { uid, type_id: UNKNOWN.0, r#type: UNKNOWN.1 }),
            attacks: facts.techniques.iter().map(|technique| Attack::of(technique)).collect(),
        }
    }
}

impl<'a> Attack<'a> {
    fn of(technique: &'a str) -> Self {
        match technique.split_once('.') {
            Some((whole, _)) => Self { technique: Uid { uid: whole }, sub_technique: Some(Uid { uid: technique }) },
            None => Self { technique: Uid { uid: technique }, sub_technique: None },
        }
    }
}

impl<'a> Artifact<'a> {
    fn of(thing: &'a Thing) -> Self {
        let value = thing.value.as_str();
        let data = Said { verdict: thing.verdict.as_deref(), roles: &thing.roles };
        let mut artifact = Self { data: (data.verdict.is_some() || !data.roles.is_empty()).then_some(data), ..Self::default() };
        match thing.kind {
            Kind::Device => artifact.device = Some(Device { hostname: value, type_id: UNKNOWN.0, r#type: UNKNOWN.1 }),
            Kind::User => artifact.user = Some(User { name: Some(value), email_addr: None }),
            Kind::Ip => artifact.src_endpoint = Some(Endpoint { ip: value }),
            Kind::FileHash => artifact.file = Some(File::of(value, thing.file_name.as_deref())),
            Kind::Url => artifact.url = Some(Url { url_string: value }),
            Kind::Mailbox => artifact.user = Some(User { name: None, email_addr: Some(value) }),
            Kind::Process => artifact.process = Some(Process { name: value }),
        }
        artifact
    }
}

impl<'a> File<'a> {
    fn of(hash: &'a str, name: Option<&'a str>) -> Self {
        let (algorithm_id, algorithm) = match hash.len() {
            32 => (1, "MD5"),
            40 => (2, "SHA-1"),
            64 => (3, "SHA-256"),
            _ => (0, "Unknown"),
        };
        let hashes = [Hash { algorithm_id, algorithm, value: hash }];
        Self { name: name.unwrap_or(hash), type_id: 1, r#type: "Regular File", hashes }
    }
}

impl<'a> Observable<'a> {
    fn of((at, thing): (usize, &'a Thing)) -> Self {
        let (place, type_id, r#type) = match thing.kind {
            Kind::Device => ("device.hostname", 1, "Hostname"),
            Kind::User => ("user.name", 4, "User Name"),
            Kind::Ip => ("src_endpoint.ip", 2, "IP Address"),
            Kind::FileHash => ("file.hashes[0].value", 8, "Hash"),
            Kind::Url => ("url.url_string", 6, "URL String"),
            Kind::Mailbox => ("user.email_addr", 5, "Email Address"),
            Kind::Process => ("process.name", 9, "Process Name"),
        };
        Self { name: format!("evidences[{at}].{place}"), type_id, r#type, value: &thing.value }
    }
}

fn milliseconds(at: Ticks) -> i64 {
    at.0.div_euclid(10_000)
}
