//! The detections of our pretend products: which service raises them, under which words, with which MITRE
//! techniques, and which evidence comes along. Every member of Graph's `serviceSource` occurs, also those that
//! are only named to callers who ask for unknown enum members.

use super::evidence::Kind::{self, *};
use crate::dice::Dice;

/// How the id of an alert of this product looks after its prefix.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum IdShape {
    /// `da637551227677560813_-961444813`: ticks since year 1 and a signed number.
    Ticks,
    /// `dab674980f-e329-47da-a1d4-0bc24d08f522_1`
    GuidPart,
    /// `aa1f4dd2c2-…`
    Guid,
    /// `caD70CFEE2-1F54-…`: upper case after a lower-case prefix.
    UpperGuid,
    /// 64 hexadecimal digits, as identity protection has it.
    LongHex,
}

/// One detection a product can raise.
pub(crate) struct Template {
    pub(crate) service: &'static str,
    pub(crate) product: &'static str,
    pub(crate) detection: &'static str,
    pub(crate) prefix: &'static str,
    pub(crate) id: IdShape,
    /// `""`: a rule in the customer's own language gives the title.
    pub(crate) title: &'static str,
    pub(crate) description: &'static str,
    pub(crate) category: &'static str,
    pub(crate) techniques: &'static [&'static str],
    pub(crate) severity: &'static str,
    /// Family and display name of a known threat.
    pub(crate) threat: Option<(&'static str, &'static str)>,
    pub(crate) evidence: &'static [Kind],
    /// How often it occurs, relative to the others.
    pub(crate) weight: usize,
}

pub(crate) const ENDPOINT: &str = "microsoftDefenderForEndpoint";

macro_rules! template {
    ($weight:literal, $service:expr, $product:literal, $detection:literal, $prefix:literal, $id:ident, $severity:literal, $category:literal, $techniques:expr, $title:literal, $description:literal, $threat:expr, $evidence:expr) => {
        Template {
            service: $service,
            product: $product,
            detection: $detection,
            prefix: $prefix,
            id: IdShape::$id,
            title: $title,
            description: $description,
            category: $category,
            techniques: $techniques,
            severity: $severity,
            threat: $threat,
            evidence: $evidence,
            weight: $weight,
        }
    };
}

/// Everything that can happen.
pub(crate) const TEMPLATES: &[Template] = &[
    template!(
        10,
        ENDPOINT,
        "Microsoft Defender for Endpoint",
        "microsoftDefenderForEndpoint",
        "da",
        GuidPart,
        "medium",
        "Execution",
        &["T1059.001", "T1027"],
        "Encoded PowerShell command line started by an office program",
        "An office program started PowerShell with an encoded command. Documents with active content are a common way to run the first stage of an attack.",
        None,
        &[Device, Process, User, File]
    ),
    template!(
        8,
        ENDPOINT,
        "Microsoft Defender for Endpoint",
        "antivirus",
        "da",
        Ticks,
        "informational",
        "Malware",
        &["T1204.002"],
        "'Vidar' malware was prevented",
        "A file known to steal saved passwords and wallet files was stopped before it could run. Check whether other files arrived the same way.",
        Some(("Vidar", "Trojan:Win64/Vidar.ZZ!MTB")),
        &[Device, File, User]
    ),
    template!(
        7,
        ENDPOINT,
        "Microsoft Defender for Endpoint",
        "microsoftDefenderForEndpoint",
        "da",
        Ticks,
        "high",
        "CredentialAccess",
        &["T1003.001", "T1055"],
        "Memory of the sign-in service was read",
        "A process opened the memory of the local security authority in a way that yields password hashes. Accounts that were signed in on this device should be considered known to the attacker.",
        None,
        &[Device, Process, Process, User, RegistryKey]
    ),
    template!(
        5,
        ENDPOINT,
        "Microsoft Defender for Endpoint",
        "smartScreen",
        "da",
        GuidPart,
        "low",
        "InitialAccess",
        &["T1566.002"],
        "A user went on to a page reported as phishing",
        "A warning page was shown and passed over. What was entered on the page may be known to others now.",
        None,
        &[Device, User, Url, Ip]
    ),
    template!(
        4,
        ENDPOINT,
        "Microsoft Defender for Endpoint",
        "customTi",
        "da",
        GuidPart,
        "medium",
        "CommandAndControl",
        &["T1071.001", "T1573"],
        "Connection to an address on the organisation's watch list",
        "A device connected to an address that was put on the watch list by the security team.",
        None,
        &[Device, NetworkConnection, Ip, Process, Url]
    ),
    template!(
        4,
        ENDPOINT,
        "Microsoft Defender for Endpoint",
        "customDetection",
        "ed",
        Guid,
        "medium",
        "Exfiltration",
        &["T1567.002"],
        "",
        "A rule written by the organisation matched. The rows that matched are given as evidence.",
        None,
        &[Device, User, File, Url]
    ),
    template!(
        4,
        ENDPOINT,
        "Microsoft Defender for Endpoint",
        "microsoftDefenderForEndpoint",
        "da",
        Ticks,
        "high",
        "Ransomware",
        &["T1486", "T1490", "T1047"],
        "Many files renamed and shadow copies removed",
        "A process renamed a large number of documents within seconds and deleted the copies that would allow their recovery.",
        Some(("BlackBasta", "Ransom:Win32/BlackBasta.A")),
        &[Device, Process, Process, Malware, File, File, User, RegistryValue]
    ),
    template!(
        3,
        ENDPOINT,
        "Microsoft Defender for Endpoint",
        "automatedInvestigation",
        "da",
        GuidPart,
        "low",
        "SuspiciousActivity",
        &["T1053.005"],
        "Scheduled task made from a script in a temporary folder",
        "A task that starts with the system was made by a script outside of the usual folders.",
        None,
        &[Device, Process, RegistryValue, User]
    ),
    template!(
        6,
        "microsoftDefenderForIdentity",
        "Microsoft Defender for Identity",
        "microsoftDefenderForIdentity",
        "aa",
        Guid,
        "medium",
        "LateralMovement",
        &["T1550.002", "T1021"],
        "Suspected reuse of a stolen ticket",
        "A Kerberos ticket issued to one computer was presented by another. Names of both are given as evidence.",
        None,
        &[User, Device, HostLogonSession, SecurityGroup, ActiveDirectoryDomain]
    ),
    template!(
        4,
        "microsoftDefenderForIdentity",
        "Microsoft Defender for Identity",
        "microsoftDefenderForIdentity",
        "ri",
        Guid,
        "low",
        "Discovery",
        &["T1087.002", "T1069"],
        "Account enumeration over directory queries",
        "One computer asked for an unusual number of accounts and groups.",
        None,
        &[Device, User, SecurityGroup, Dns]
    ),
    template!(
        6,
        "microsoftDefenderForCloudApps",
        "Microsoft Defender for Cloud Apps",
        "cloudAppSecurity",
        "ca",
        UpperGuid,
        "medium",
        "Collection",
        &["T1530", "T1213.002"],
        "Mass download by a single user",
        "Somebody downloaded far more documents within an hour than anybody in the same group does in a week.",
        None,
        &[User, CloudApplication, Ip, CloudLogonSession]
    ),
    template!(
        8,
        "microsoftDefenderForOffice365",
        "Microsoft Defender for Office 365",
        "microsoftDefenderForOffice365",
        "fa",
        Guid,
        "informational",
        "InitialAccess",
        &["T1566.001"],
        "Messages with a malicious file removed after delivery",
        "Messages were delivered before their attachment was known to be malicious. They have been taken back from the mailboxes.",
        None,
        &[AnalyzedMessage, MailCluster, Mailbox, FileHash, Url]
    ),
    template!(
        4,
        "microsoftDefenderForOffice365",
        "Microsoft Defender for Office 365",
        "microsoftDefenderForOffice365",
        "fa",
        Guid,
        "low",
        "InitialAccess",
        &["T1566"],
        "A user reported a message as phishing",
        "A message was reported with the report button. Others may have received it as well.",
        None,
        &[SubmissionMail, AnalyzedMessage, User]
    ),
    template!(
        2,
        "microsoftDefenderForOffice365",
        "Microsoft Defender for Office 365",
        "microsoftDefenderForOffice365",
        "fa",
        Guid,
        "medium",
        "Persistence",
        &["T1114.003", "T1137.005"],
        "Inbox rule forwards mail to an outside address",
        "A rule that sends every message with certain words to an address outside of the organisation was made.",
        None,
        &[MailboxConfiguration, Mailbox, User, Ip]
    ),
    template!(
        2,
        "microsoftDefenderForOffice365",
        "Microsoft Defender for Office 365",
        "microsoftDefenderForOffice365",
        "fa",
        Guid,
        "medium",
        "InitialAccess",
        &["T1566.003"],
        "Chat message from outside with a harmful link",
        "A message sent to several people from another organisation carried a link that leads to a sign-in page of the attacker.",
        None,
        &[TeamsMessage, User, Url]
    ),
    template!(
        4,
        "microsoft365Defender",
        "Microsoft Defender XDR",
        "microsoft365Defender",
        "ra",
        Ticks,
        "high",
        "InitialAccess",
        &["T1557", "T1539"],
        "Session cookie used from a second place",
        "The same session was used from two places at once, as happens when the sign-in went through somebody else's server.",
        None,
        &[User, CloudLogonSession, Ip, Ip, Url, Mailbox]
    ),
    template!(
        2,
        "microsoft365Defender",
        "Microsoft Defender XDR",
        "microsoftThreatExperts",
        "ta",
        Ticks,
        "high",
        "LateralMovement",
        &["T1021.002", "T1569.002"],
        "Hands-on-keyboard activity on several devices",
        "Somebody works by hand on more than one device, with tools that administrators rarely use in this order.",
        None,
        &[Device, Device, Process, User, NetworkConnection, File]
    ),
    template!(
        3,
        "microsoft365Defender",
        "Microsoft Defender XDR",
        "customDetection",
        "ea",
        Guid,
        "medium",
        "Execution",
        &["T1059"],
        "",
        "A hunting rule of the organisation matched.",
        None,
        &[Device, User, Process]
    ),
    template!(
        7,
        "azureAdIdentityProtection",
        "Microsoft Entra ID Protection",
        "azureAdIdentityProtection",
        "ad",
        LongHex,
        "medium",
        "CredentialAccess",
        &["T1078.004"],
        "Sign-in from two distant places within minutes",
        "The same account signed in from two places so far apart that no journey fits in between.",
        None,
        &[User, Ip, CloudLogonRequest]
    ),
    template!(
        3,
        "azureAdIdentityProtection",
        "Microsoft Entra ID Protection",
        "azureAdIdentityProtection",
        "ad",
        LongHex,
        "high",
        "CredentialAccess",
        &["T1589.001"],
        "Password found in a published list",
        "User name and password of the account were found in a list that is traded between criminals.",
        None,
        &[User]
    ),
    template!(
        2,
        "microsoftAppGovernance",
        "App governance",
        "appGovernanceDetection",
        "ma",
        Guid,
        "medium",
        "Persistence",
        &["T1098.003", "T1528"],
        "App with new high permissions and unusual traffic",
        "An app was granted far-reaching permissions and began to read mailboxes it had never read.",
        None,
        &[OauthApplication, ServicePrincipal, User]
    ),
    template!(
        4,
        "dataLossPrevention",
        "Microsoft Data Loss Prevention",
        "microsoftDataLossPrevention",
        "dl",
        Guid,
        "low",
        "Exfiltration",
        &["T1048"],
        "Policy match: personal numbers in an outgoing document",
        "A document with identity numbers was sent to a recipient outside of the organisation.",
        None,
        &[User, File, Mailbox]
    ),
    template!(
        4,
        "microsoftDefenderForCloud",
        "Microsoft Defender for Cloud",
        "microsoftDefenderForContainers",
        "dc",
        GuidPart,
        "medium",
        "Execution",
        &["T1610", "T1611"],
        "Container started with more rights than its neighbours",
        "A container with access to the node was started from an image that had not been seen in this cluster.",
        None,
        &[AzureResource, KubernetesPod, ContainerImage]
    ),
    template!(
        3,
        "microsoftDefenderForCloud",
        "Microsoft Defender for Cloud",
        "microsoftDefenderForStorage",
        "dc",
        GuidPart,
        "low",
        "Collection",
        &["T1530"],
        "Anonymous access to a storage container",
        "Files were read without any sign-in from an address that belongs to an anonymising network.",
        None,
        &[AzureResource, Blob, SasToken, Ip]
    ),
    template!(
        2,
        "microsoftDefenderForCloud",
        "Microsoft Defender for Cloud",
        "microsoftDefenderForServers",
        "dc",
        GuidPart,
        "high",
        "Impact",
        &["T1496"],
        "Mining program running on a virtual machine",
        "The load and the connections of a machine fit a program that mines currency.",
        None,
        &[AzureResource, AmazonResource, GoogleCloudResource, Process, Ip]
    ),
    template!(
        2,
        "microsoftDefenderForCloud",
        "Microsoft Defender for Cloud",
        "microsoftDefenderForIoT",
        "dc",
        GuidPart,
        "medium",
        "CommandAndControl",
        &["T0885"],
        "Controller spoke to an address outside of the plant",
        "A device of the production network opened a connection that is not part of its learned behaviour.",
        None,
        &[IoTDevice, NetworkConnection]
    ),
    template!(
        5,
        "microsoftSentinel",
        "Microsoft Sentinel",
        "scheduledAlerts",
        "sn",
        Guid,
        "medium",
        "PrivilegeEscalation",
        &["T1078", "T1098"],
        "",
        "A scheduled rule of the workspace matched.",
        None,
        &[User, Ip, AzureResource, GitHubRepo]
    ),
    template!(
        2,
        "microsoftInsiderRiskManagement",
        "Microsoft Purview Insider Risk Management",
        "microsoftInsiderRiskManagement",
        "ir",
        Guid,
        "medium",
        "Exfiltration",
        &["T1052.001"],
        "Files copied to a removable drive shortly before leaving",
        "Somebody who is about to leave the organisation copied an unusual number of documents.",
        None,
        &[User, Device, File, File]
    ),
    template!(
        2,
        "microsoftThreatIntelligence",
        "Microsoft Threat Intelligence",
        "microsoftThreatIntelligence",
        "ti",
        Guid,
        "low",
        "Reconnaissance",
        &["T1595.002"],
        "Address of the organisation named in a list of targets",
        "An address of the organisation was found in a list kept by a group that scans for weak gateways.",
        None,
        &[Ip, Dns, Url, Future]
    ),
    template!(
        2,
        "microsoftSecurityForAI",
        "Microsoft Defender for AI",
        "microsoftDefenderForAIServices",
        "ai",
        Guid,
        "medium",
        "Execution",
        &["AML.T0051"],
        "Attempt to make an assistant ignore its instructions",
        "A message to an assistant carried hidden instructions that ask for data of other users.",
        None,
        &[AiAgent, User, CloudApplication, Ip]
    ),
];

/// Draws a detection by weight; returns its place in [`TEMPLATES`].
pub(crate) fn draw(dice: &mut Dice) -> usize {
    let total: usize = TEMPLATES.iter().map(|template| template.weight).sum();
    let mut ticket = dice.below(total);
    for (place, template) in TEMPLATES.iter().enumerate() {
        if ticket < template.weight {
            return place;
        }
        ticket -= template.weight;
    }
    0
}

/// The same detection source as Defender for Endpoint spells it in its own API.
pub(crate) fn endpoint_detection(detection: &str) -> &'static str {
    match detection {
        "antivirus" => "WindowsDefenderAv",
        "smartScreen" => "WindowsDefenderSmartScreen",
        "customTi" => "CustomerTI",
        "customDetection" => "CustomDetection",
        "automatedInvestigation" => "AutomatedInvestigation",
        _ => "WindowsDefenderAtp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_service_source_of_graph_occurs() {
        let named: BTreeSet<_> = TEMPLATES.iter().map(|t| t.service).collect();
        let words: BTreeSet<_> = crate::vocabulary::SERVICE_SOURCE.known().filter(|w| *w != "unknown").collect();
        assert_eq!(named, words);
    }

    #[test]
    fn every_detection_source_named_is_one_of_graph() {
        for template in TEMPLATES {
            assert!(crate::vocabulary::DETECTION_SOURCE.contains(template.detection), "{}", template.detection);
        }
    }

    #[test]
    fn the_whole_evidence_cabinet_is_used() {
        let used: BTreeSet<_> = TEMPLATES.iter().flat_map(|t| t.evidence).map(|k| format!("{k:?}")).collect();
        assert!(used.len() >= 30, "{} kinds: {used:?}", used.len());
    }
}
