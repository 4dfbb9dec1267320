//! Evidence as Graph shows it: one object per kind, each with its own members, some nested in each other. A
//! kind no schema knows is among them, because new ones appear without notice.

use super::Scene;
use super::evidence_cloud;
use super::props::{self, FileFacts, ProcessFacts};
use crate::dice::Dice;
use crate::json::Json;
use crate::vocabulary::REMEDIATION;
use std::time::Duration;

/// A kind of evidence.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[rustfmt::skip]
pub(crate) enum Kind {
    ActiveDirectoryDomain, AiAgent, AmazonResource, AnalyzedMessage, AzureResource, Blob, CloudApplication, CloudLogonRequest,
    CloudLogonSession, ContainerImage, Device, Dns, File, FileHash, GitHubRepo, GoogleCloudResource, HostLogonSession, IoTDevice, Ip,
    KubernetesPod, Mailbox, MailboxConfiguration, MailCluster, Malware, NetworkConnection, OauthApplication, Process, RegistryKey,
    RegistryValue, SasToken, SecurityGroup, ServicePrincipal, SubmissionMail, TeamsMessage, Url, User,
    /// Not in any published schema.
    Future,
}

impl Kind {
    /// The name in `@odata.type`, without the namespace.
    const fn type_name(self) -> &'static str {
        match self {
            Kind::ActiveDirectoryDomain => "activeDirectoryDomainEvidence",
            Kind::AiAgent => "aiAgentEvidence",
            Kind::AmazonResource => "amazonResourceEvidence",
            Kind::AnalyzedMessage => "analyzedMessageEvidence",
            Kind::AzureResource => "azureResourceEvidence",
            Kind::Blob => "blobEvidence",
            Kind::CloudApplication => "cloudApplicationEvidence",
            Kind::CloudLogonRequest => "cloudLogonRequestEvidence",
            Kind::CloudLogonSession => "cloudLogonSessionEvidence",
            Kind::ContainerImage => "containerImageEvidence",
            Kind::Device => "deviceEvidence",
            Kind::Dns => "dnsEvidence",
            Kind::File => "fileEvidence",
            Kind::FileHash => "fileHashEvidence",
            Kind::GitHubRepo => "gitHubRepoEvidence",
            Kind::GoogleCloudResource => "googleCloudResourceEvidence",
            Kind::HostLogonSession => "hostLogonSessionEvidence",
            Kind::IoTDevice => "ioTDeviceEvidence",
            Kind::Ip => "ipEvidence",
            Kind::KubernetesPod => "kubernetesPodEvidence",
            Kind::Mailbox => "mailboxEvidence",
            Kind::MailboxConfiguration => "mailboxConfigurationEvidence",
            Kind::MailCluster => "mailClusterEvidence",
            Kind::Malware => "malwareEvidence",
            Kind::NetworkConnection => "networkConnectionEvidence",
            Kind::OauthApplication => "oauthApplicationEvidence",
            Kind::Process => "processEvidence",
            Kind::RegistryKey => "registryKeyEvidence",
            Kind::RegistryValue => "registryValueEvidence",
            Kind::SasToken => "sasTokenEvidence",
            Kind::SecurityGroup => "securityGroupEvidence",
            Kind::ServicePrincipal => "servicePrincipalEvidence",
            Kind::SubmissionMail => "submissionMailEvidence",
            Kind::TeamsMessage => "teamsMessageEvidence",
            Kind::Url => "urlEvidence",
            Kind::User => "userEvidence",
            Kind::Future => "browserExtensionEvidence",
        }
    }
}

/// Writes one piece of evidence as the next item of the array.
pub(super) fn write(json: &mut Json, kind: Kind, scene: &Scene<'_>, number: usize) {
    let mut dice = scene.evidence_dice(number);
    json.item(|json| {
        base(json, kind, scene, number);
        members(json, kind, scene, number, &mut dice);
    });
}

/// What all kinds have in common.
fn base(json: &mut Json, kind: Kind, scene: &Scene<'_>, number: usize) {
    let mut dice = scene.dice(7_000 + number as u64);
    json.str("@odata.type", &format!("#microsoft.graph.security.{}", kind.type_name()));
    json.stamp("createdDateTime", scene.created.plus(Duration::from_micros(dice.between(700_000, 900_000) as u64)));
    json.str("verdict", dice.pick(&["unknown", "suspicious", "malicious", "noThreatsFound"]));
    let status = if scene.resolved {
        dice.pick(&["remediated", "prevented", "partiallyRemediated"])
    } else {
        dice.pick(&["none", "none", "active", "notFound"])
    };
    json.str("remediationStatus", REMEDIATION.seen(status, scene.all_members));
    json.maybe("remediationStatusDetails", dice.chance(0.1).then_some("Entity was already remediated"));
    let roles: &[&str] =
        if number == 0 { &["compromised"] } else { dice.pick(&[&[][..], &["suspicious"][..], &["contextual", "source"][..]]) };
    json.strings("roles", roles);
    let detailed: &[&str] = if number == 0 && kind == Kind::Device { &["PrimaryDevice"] } else { &[] };
    json.strings("detailedRoles", detailed);
    let tags: &[&str] = if dice.chance(0.1) { &["VIP", "İzlenen varlık"] } else { &[] };
    json.strings("tags", tags);
}

/// An address as a nested piece of evidence.
pub(super) fn ip(json: &mut Json, name: &str, address: &str) {
    json.object(name, |json| {
        json.str("@odata.type", "#microsoft.graph.security.ipEvidence");
        json.str("ipAddress", address);
        json.null("countryLetterCode");
    });
}

fn members(json: &mut Json, kind: Kind, scene: &Scene<'_>, number: usize, dice: &mut Dice) {
    let face = scene.face;
    match kind {
        Kind::Device => {
            let other = face.some_device(dice);
            let device = if number == 0 { &scene.device } else { &other };
            props::write_device(
                json,
                face,
                device,
                &scene.person,
                scene.created.minus(Duration::from_secs(3600 * 24 * (20 + dice.below(400)) as u64)),
                dice,
            );
        }
        Kind::File => {
            let file = FileFacts::document(face, dice);
            json.str("detectionStatus", dice.pick(&["detected", "blocked", "prevented"]));
            json.str("mdeDeviceId", &scene.device.id);
            json.object("fileDetails", |json| file.write(json));
        }
        Kind::Process => {
            let process = ProcessFacts::draw(face, scene.created, dice);
            json.num("processId", process.id);
            json.num("parentProcessId", process.parent_id);
            json.str("processCommandLine", &process.command_line);
            json.stamp("processCreationDateTime", process.started);
            json.stamp("parentProcessCreationDateTime", process.parent_started);
            json.str("detectionStatus", "detected");
            json.str("mdeDeviceId", &scene.device.id);
            json.object("imageFile", |json| process.image.write(json));
            json.object("parentProcessImageFile", |json| process.parent.write(json));
            json.object("userAccount", |json| props::write_account(json, face, &scene.person));
        }
        Kind::User => {
            let other = face.someone(dice);
            let person = if number <= 1 { &scene.person } else { &other };
            json.null("stream");
            json.object("userAccount", |json| props::write_account(json, face, person));
        }
        Kind::Ip => {
            json.str("ipAddress", &props::outside_address(dice));
            let (code, country, city, latitude, longitude) = dice.pick(&[
                ("TR", "Türkiye", "Diyarbakır", 37.91, 40.24),
                ("DK", "Danmark", "Rønne", 55.1, 14.7),
                ("NL", "Netherlands", "Amsterdam", 52.37, 4.9),
                ("BR", "Brasil", "São Paulo", -23.55, -46.63),
            ]);
            json.str("countryLetterCode", code);
            json.object("location", |json| {
                json.str("city", city);
                json.str("countryName", country);
                json.num("latitude", latitude);
                json.num("longitude", longitude);
                json.null("state");
            });
            json.null("stream");
        }
        Kind::Url => json.str("url", &props::web_address(dice)),
        Kind::RegistryKey => {
            let (hive, key, _, _) = props::registry(dice);
            json.str("registryKey", &key);
            json.str("registryHive", hive);
        }
        Kind::RegistryValue => {
            let (hive, key, name, value) = props::registry(dice);
            json.str("mdeDeviceId", &scene.device.id);
            json.str("registryKey", &key);
            json.str("registryHive", hive);
            json.str("registryValue", &value);
            json.str("registryValueName", name);
            json.str("registryValueType", "String");
        }
        Kind::FileHash => {
            json.str("algorithm", "sha256");
            json.str("value", &dice.hex(64));
        }
        Kind::Malware => {
            json.str("name", scene.template.threat.map_or("Tiggre", |(family, _)| family));
            json.str("category", "Ransomware");
            let file = FileFacts::document(face, dice);
            json.array("files", |json| {
                json.item(|json| {
                    json.str("@odata.type", "#microsoft.graph.security.fileEvidence");
                    json.object("fileDetails", |json| file.write(json));
                })
            });
            json.array("processes", |_| ());
        }
        Kind::NetworkConnection => {
            ip(json, "sourceAddress", &scene.device.address);
            ip(json, "destinationAddress", &props::outside_address(dice));
            json.num("sourcePort", dice.between(1024, 65_535));
            json.num("destinationPort", dice.pick(&[443, 8443, 445, 3389]));
            json.str("protocol", "tcp");
        }
        Kind::Dns => {
            json.str("domainName", &format!("{}.{}", dice.hex(8), face.domain));
            ip(json, "dnsServerIp", "10.0.0.53");
            ip(json, "hostIpAddress", &scene.device.address);
            json.array("ipAddresses", |_| ());
        }
        _ => evidence_cloud::members(json, kind, scene, dice),
    }
}
