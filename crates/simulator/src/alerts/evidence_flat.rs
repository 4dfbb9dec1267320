//! Evidence as Defender for Endpoint shows it: one flat object for all kinds, every key always there and null
//! where it does not apply. The facts are those Graph shows for the same alert.

use super::Scene;
use super::evidence::Kind;
use super::props::{self, FileFacts, ProcessFacts};
use crate::json::Json;
use crate::stamp::Stamp;
use std::time::Duration;

#[derive(Default)]
struct Flat {
    sha1: Option<String>,
    sha256: Option<String>,
    file_name: Option<String>,
    file_path: Option<String>,
    process: Option<ProcessFacts>,
    ip: Option<String>,
    url: Option<String>,
    registry: Option<(&'static str, String, Option<String>)>,
    user: Option<super::face::Person>,
    detection: Option<&'static str>,
}

/// Writes one piece of evidence, or nothing where this API knows no such kind.
pub(super) fn write(json: &mut Json, kind: Kind, scene: &Scene<'_>, number: usize) {
    let mut dice = scene.evidence_dice(number);
    let mut flat = Flat::default();
    let entity = match kind {
        Kind::User => {
            let other = scene.face.someone(&mut dice);
            flat.user = Some(if number <= 1 { scene.face.person(scene.person_number) } else { other });
            "User"
        }
        Kind::File => {
            let file = FileFacts::document(scene.face, &mut dice);
            flat.take_file(&file);
            flat.detection = Some("Detected");
            "File"
        }
        Kind::Process => {
            let process = ProcessFacts::draw(scene.face, scene.created, &mut dice);
            flat.take_file(&process.image);
            flat.process = Some(process);
            flat.detection = Some("Detected");
            "Process"
        }
        Kind::Ip => {
            flat.ip = Some(props::outside_address(&mut dice));
            "Ip"
        }
        Kind::Url => {
            flat.url = Some(props::web_address(&mut dice));
            "Url"
        }
        Kind::RegistryKey => {
            let (hive, key, _, _) = props::registry(&mut dice);
            flat.registry = Some((hive, key, None));
            "RegistryKey"
        }
        Kind::RegistryValue => {
            let (hive, key, _, value) = props::registry(&mut dice);
            flat.registry = Some((hive, key, Some(value)));
            "RegistryValue"
        }
        _ => return,
    };
    let created = scene.created.plus(Duration::from_micros(850_000)).on_grid();
    json.item(|json| flat.write(json, entity, created, scene));
}

impl Flat {
    fn take_file(&mut self, file: &FileFacts) {
        self.sha1 = Some(file.sha1.clone());
        self.sha256 = Some(file.sha256.clone());
        self.file_name = Some(file.name.clone());
        self.file_path = Some(file.path.to_owned());
    }

    fn write(&self, json: &mut Json, entity: &str, created: Stamp, scene: &Scene<'_>) {
        let process = self.process.as_ref();
        let user = self.user.as_ref();
        let maybe_number = |json: &mut Json, name: &str, value: Option<i64>| match value {
            Some(value) => json.num(name, value),
            None => json.null(name),
        };
        json.str("entityType", entity);
        json.stamp("evidenceCreationTime", created);
        json.maybe("sha1", self.sha1.as_deref());
        json.maybe("sha256", self.sha256.as_deref());
        json.maybe("fileName", self.file_name.as_deref());
        json.maybe("filePath", self.file_path.as_deref());
        maybe_number(json, "processId", process.map(|p| p.id));
        json.maybe("processCommandLine", process.map(|p| p.command_line.as_str()));
        json.maybe_stamp("processCreationTime", process.map(|p| p.started));
        maybe_number(json, "parentProcessId", process.map(|p| p.parent_id));
        json.maybe_stamp("parentProcessCreationTime", process.map(|p| p.parent_started));
        json.maybe("parentProcessFileName", process.map(|p| p.parent.name.as_str()));
        json.maybe("parentProcessFilePath", process.map(|p| p.parent.path));
        json.maybe("ipAddress", self.ip.as_deref());
        json.maybe("url", self.url.as_deref());
        json.maybe("registryKey", self.registry.as_ref().map(|(_, key, _)| key.as_str()));
        json.maybe("registryHive", self.registry.as_ref().map(|(hive, _, _)| *hive));
        json.maybe("registryValueType", self.registry.as_ref().and_then(|(_, _, value)| value.as_ref().map(|_| "String")));
        json.maybe("registryValue", self.registry.as_ref().and_then(|(_, _, value)| value.as_deref()));
        json.maybe("accountName", user.map(|u| u.account.as_str()));
        json.maybe("domainName", user.map(|_| scene.face.nt_domain.as_str()));
        json.maybe("userSid", user.map(|u| u.sid.as_str()));
        json.maybe("aadUserId", user.map(|u| u.object_id.to_string()).as_deref());
        json.maybe("userPrincipalName", user.map(|u| u.upn.as_str()));
        json.maybe("detectionStatus", self.detection);
    }
}
