//! One spelling for what two APIs spell differently: Graph's, in camelCase.
//!
//! Endpoint's API writes `InProgress` and `WindowsDefenderAv` where Graph writes `inProgress` and
//! `antivirus`. A word that neither list knows is kept, so that a product which appears tomorrow is
//! visible tomorrow.

use domain::Source;

/// Graph's word for Defender for Endpoint, as a product and as a detection source.
pub(super) const ENDPOINT: &str = "microsoftDefenderForEndpoint";

const SEVERITIES: &[&str] = &["unknown", "informational", "low", "medium", "high"];

const STATUSES: &[&str] = &["unknown", "new", "inProgress", "resolved"];

const INCIDENT_STATUSES: &[&str] = &["active", "inProgress", "resolved", "redirected", "awaitingAction"];

const CLASSIFICATIONS: &[&str] = &["truePositive", "falsePositive", "informationalExpectedActivity"];

const DETERMINATIONS: &[&str] = &[
    "apt",
    "malware",
    "securityPersonnel",
    "securityTesting",
    "unwantedSoftware",
    "other",
    "multiStagedAttack",
    "compromisedAccount",
    "phishing",
    "maliciousUserActivity",
    "notMalicious",
    "notEnoughDataToValidate",
    "confirmedActivity",
    "lineOfBusinessApplication",
];

/// How the APIs say that nobody has judged an alert yet. Graph writes one of these where Endpoint sends null,
/// and an alert that is read through both must not look as if it changed all the time.
const UNJUDGED: &[&str] = &["", "unknown", "unspecified", "notAvailable", "notSet"];

const SERVICE_SOURCES: &[&str] = &[
    "unknown",
    ENDPOINT,
    "microsoftDefenderForIdentity",
    "microsoftDefenderForCloudApps",
    "microsoftDefenderForOffice365",
    "microsoft365Defender",
    "azureAdIdentityProtection",
    "microsoftAppGovernance",
    "dataLossPrevention",
    "microsoftDefenderForCloud",
    "microsoftSentinel",
    "microsoftInsiderRiskManagement",
    "microsoftThreatIntelligence",
    "microsoftSecurityForAI",
];

const DETECTION_SOURCES: &[&str] = &[
    "unknown",
    ENDPOINT,
    "antivirus",
    "smartScreen",
    "customTi",
    "microsoftDefenderForOffice365",
    "automatedInvestigation",
    "microsoftThreatExperts",
    "customDetection",
    "microsoftDefenderForIdentity",
    "cloudAppSecurity",
    "microsoft365Defender",
    "azureAdIdentityProtection",
    "manual",
    "microsoftDataLossPrevention",
    "appGovernancePolicy",
    "appGovernanceDetection",
    "microsoftDefenderForCloud",
    "nrtAlerts",
    "scheduledAlerts",
    "builtInMl",
    "microsoftInsiderRiskManagement",
    "microsoftThreatIntelligence",
    "securityCopilot",
    "microsoftSentinel",
];

/// Endpoint's names for what Graph calls otherwise.
const ENDPOINT_DETECTION_SOURCES: &[(&str, &str)] = &[
    ("WindowsDefenderAv", "antivirus"),
    ("WindowsDefenderAtp", ENDPOINT),
    ("WindowsDefenderSmartScreen", "smartScreen"),
    ("CustomerTI", "customTi"),
    ("OfficeATP", "microsoftDefenderForOffice365"),
    ("Office365ATP", "microsoftDefenderForOffice365"),
    ("MTP", "microsoft365Defender"),
    ("ThreatExperts", "microsoftThreatExperts"),
    ("AzureATP", "microsoftDefenderForIdentity"),
    ("MCAS", "cloudAppSecurity"),
    ("MicrosoftCloudAppSecurity", "cloudAppSecurity"),
    ("AadIdentityProtection", "azureAdIdentityProtection"),
];

/// Endpoint's pages, and Graph's own page beside Graph's schema, contradict each other about these.
const OTHER_CLASSIFICATIONS: &[(&str, &str)] = &[("Informational, expected activity", "informationalExpectedActivity")];

/// The same for the finer word.
const OTHER_DETERMINATIONS: &[(&str, &str)] = &[
    ("CompromisedUser", "compromisedAccount"),
    ("Clean", "notMalicious"),
    ("InsufficientData", "notEnoughDataToValidate"),
    ("ConfirmedUserActivity", "confirmedActivity"),
];

pub(super) fn severity(source: Source, text: String) -> String {
    let text = if text.eq_ignore_ascii_case("unspecified") { "unknown".to_owned() } else { text };
    spell(source, SEVERITIES, text)
}

pub(super) fn status(source: Source, text: String) -> String {
    spell(source, STATUSES, text)
}

pub(super) fn incident_status(text: String) -> String {
    spell(Source::GraphIncidents, INCIDENT_STATUSES, text)
}

/// `None` while nobody has judged it.
pub(super) fn classification(source: Source, text: String) -> Option<String> {
    judgement(source, CLASSIFICATIONS, OTHER_CLASSIFICATIONS, text)
}

/// `None` while nobody has judged it.
pub(super) fn determination(source: Source, text: String) -> Option<String> {
    judgement(source, DETERMINATIONS, OTHER_DETERMINATIONS, text)
}

fn judgement(source: Source, known: &[&str], others: &[(&str, &str)], text: String) -> Option<String> {
    if UNJUDGED.iter().any(|word| word.eq_ignore_ascii_case(&text)) {
        return None;
    }
    let other = others.iter().find(|(name, _)| name.eq_ignore_ascii_case(&text));
    Some(other.map_or_else(|| spell(source, known, text), |(_, word)| (*word).to_owned()))
}

pub(super) fn service_source(text: String) -> String {
    spell(Source::GraphAlerts, SERVICE_SOURCES, text)
}

pub(super) fn detection_source(source: Source, text: String) -> String {
    if source == Source::MdeAlerts
        && let Some((_, word)) = ENDPOINT_DETECTION_SOURCES.iter().find(|(name, _)| name.eq_ignore_ascii_case(&text))
    {
        return (*word).to_owned();
    }
    spell(source, DETECTION_SOURCES, text)
}

/// A known word in Graph's spelling. One that nobody knows is kept as it is when Graph sent it, and
/// gets Graph's small first letter when Endpoint did.
fn spell(source: Source, known: &[&str], text: String) -> String {
    // ASCII only: these are programmers' words, and a dotless i is not an i.
    if let Some(word) = known.iter().find(|word| word.eq_ignore_ascii_case(&text)) {
        return (*word).to_owned();
    }
    if source != Source::MdeAlerts {
        return text;
    }
    let mut text = text;
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_words_come_out_in_graphs_spelling() {
        let mde = Source::MdeAlerts;
        for (text, word) in [
            ("UnSpecified", "unknown"),
            ("Informational", "informational"),
            ("Low", "low"),
            ("Medium", "medium"),
            ("High", "high"),
            ("Catastrophic", "catastrophic"),
        ] {
            assert_eq!(severity(mde, text.to_owned()), word);
        }
        for (text, word) in
            [("Unknown", "unknown"), ("New", "new"), ("InProgress", "inProgress"), ("Resolved", "resolved"), ("OnHold", "onHold")]
        {
            assert_eq!(status(mde, text.to_owned()), word);
        }
        for (text, word) in [
            ("WindowsDefenderAv", "antivirus"),
            ("WindowsDefenderAtp", "microsoftDefenderForEndpoint"),
            ("WindowsDefenderSmartScreen", "smartScreen"),
            ("SmartScreen", "smartScreen"),
            ("CustomTI", "customTi"),
            ("CustomerTI", "customTi"),
            ("OfficeATP", "microsoftDefenderForOffice365"),
            ("MTP", "microsoft365Defender"),
            ("AutomatedInvestigation", "automatedInvestigation"),
            ("CustomDetection", "customDetection"),
            ("ThreatExperts", "microsoftThreatExperts"),
            ("AzureATP", "microsoftDefenderForIdentity"),
            ("MCAS", "cloudAppSecurity"),
            ("Manual", "manual"),
            ("ThirdPartySensor", "thirdPartySensor"),
            ("İstanbul", "İstanbul"),
            ("", ""),
        ] {
            assert_eq!(detection_source(mde, text.to_owned()), word, "{text}");
        }
    }

    #[test]
    fn a_word_of_graph_that_nobody_knows_is_kept_and_a_known_one_is_spelled_one_way() {
        let graph = Source::GraphAlerts;
        assert_eq!(status(graph, "AwaitingAction".to_owned()), "AwaitingAction");
        assert_eq!(status(graph, "InProgress".to_owned()), "inProgress");
        assert_eq!(severity(graph, "high".to_owned()), "high");
        assert_eq!(service_source("microsoftDefenderForToasters".to_owned()), "microsoftDefenderForToasters");
        assert_eq!(detection_source(graph, "microsoftDefenderForIoT".to_owned()), "microsoftDefenderForIoT");
        assert_eq!(detection_source(graph, "MTP".to_owned()), "MTP");
    }

    #[test]
    fn a_judgement_is_one_word_whichever_api_tells_it() {
        // What Graph's schema says, and what Endpoint's pages say for the same.
        for (graph, endpoint) in [
            ("truePositive", &["TruePositive"][..]),
            ("falsePositive", &["FalsePositive"]),
            ("informationalExpectedActivity", &["InformationalExpectedActivity", "Informational, expected activity"]),
        ] {
            assert_eq!(classification(Source::GraphAlerts, graph.to_owned()).as_deref(), Some(graph));
            for text in endpoint {
                assert_eq!(classification(Source::MdeAlerts, (*text).to_owned()).as_deref(), Some(graph), "{text}");
            }
        }
        for (graph, endpoint) in [
            ("compromisedAccount", &["CompromisedUser", "CompromisedAccount"][..]),
            ("notMalicious", &["Clean", "NotMalicious"]),
            ("notEnoughDataToValidate", &["InsufficientData", "NotEnoughDataToValidate"]),
            ("confirmedActivity", &["ConfirmedUserActivity", "ConfirmedActivity"]),
            ("multiStagedAttack", &["MultiStagedAttack"]),
            ("maliciousUserActivity", &["MaliciousUserActivity"]),
            ("malware", &["Malware"]),
            ("phishing", &["Phishing"]),
            ("unwantedSoftware", &["UnwantedSoftware"]),
            ("other", &["Other"]),
            ("securityTesting", &["SecurityTesting"]),
            ("lineOfBusinessApplication", &["LineOfBusinessApplication"]),
            ("apt", &["Apt"]),
            ("securityPersonnel", &["SecurityPersonnel"]),
            // A word that nobody knows is the same word from both, too.
            ("ransomwareGang", &["RansomwareGang"]),
        ] {
            assert_eq!(determination(Source::GraphAlerts, graph.to_owned()).as_deref(), Some(graph));
            for text in endpoint {
                assert_eq!(determination(Source::MdeAlerts, (*text).to_owned()).as_deref(), Some(graph), "{text}");
            }
        }
        // The words of Graph's own page instead of its schema.
        for (text, word) in [
            ("compromisedUser", "compromisedAccount"),
            ("clean", "notMalicious"),
            ("insufficientData", "notEnoughDataToValidate"),
            ("confirmedUserActivity", "confirmedActivity"),
        ] {
            assert_eq!(determination(Source::GraphAlerts, text.to_owned()).as_deref(), Some(word));
        }
    }

    #[test]
    fn nothing_judged_is_nothing_in_any_spelling() {
        for source in [Source::GraphAlerts, Source::MdeAlerts] {
            for text in ["", "unknown", "Unknown", "NotAvailable", "notSet", "unspecified"] {
                assert_eq!(classification(source, text.to_owned()), None, "{text}");
                assert_eq!(determination(source, text.to_owned()), None, "{text}");
            }
        }
    }

    #[test]
    fn the_two_spellings_of_an_incidents_status_are_one() {
        for (text, word) in [
            ("Active", "active"),
            ("inProgress", "inProgress"),
            ("Redirected", "redirected"),
            ("awaitingAction", "awaitingAction"),
            ("Odd", "Odd"),
        ] {
            assert_eq!(incident_status(text.to_owned()), word);
        }
    }

    #[test]
    fn a_dotless_i_is_not_an_i() {
        assert_eq!(severity(Source::GraphAlerts, "hıgh".to_owned()), "hıgh");
    }
}
