//! The closed lists of words of the API: which there are, and which of them Graph hides behind
//! `unknownFutureValue` from callers who did not ask for unknown members.

/// One list of words.
#[derive(Debug)]
pub(crate) struct Words {
    /// Members every caller sees, `unknownFutureValue` included.
    early: &'static [&'static str],
    /// Members added after `unknownFutureValue`: only named with `Prefer: include-unknown-enum-members`.
    late: &'static [&'static str],
}

/// What stands in for a member the caller did not ask for.
pub(crate) const FUTURE: &str = "unknownFutureValue";

impl Words {
    pub(crate) fn contains(&self, word: &str) -> bool {
        self.early.contains(&word) || self.late.contains(&word)
    }

    /// The word as a caller sees it who does, or does not, ask for unknown members.
    pub(crate) fn seen<'a>(&self, word: &'a str, all_members: bool) -> &'a str {
        if !all_members && self.late.contains(&word) { FUTURE } else { word }
    }

    /// All words that name something.
    #[cfg(test)]
    pub(crate) fn known(&self) -> impl Iterator<Item = &'static str> {
        self.early.iter().chain(self.late).copied().filter(|word| *word != FUTURE)
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident: $($early:literal)* $(| $($late:literal)*)?) => {
        $(#[$doc])*
        pub(crate) static $name: Words = Words { early: &[$($early, )*FUTURE], late: &[$($($late),*)?] };
    };
}

words!(STATUS: "unknown" "new" "inProgress" "resolved");
words!(SEVERITY: "unknown" "informational" "low" "medium" "high");
words!(CLASSIFICATION: "unknown" "falsePositive" "truePositive" "informationalExpectedActivity");
words!(DETERMINATION: "unknown" "apt" "malware" "securityPersonnel" "securityTesting" "unwantedSoftware" "other" "multiStagedAttack"
    "compromisedAccount" "phishing" "maliciousUserActivity" "notMalicious" "notEnoughDataToValidate" "confirmedActivity" "lineOfBusinessApplication");
words!(SERVICE_SOURCE: "unknown" "microsoftDefenderForEndpoint" "microsoftDefenderForIdentity" "microsoftDefenderForCloudApps"
    "microsoftDefenderForOffice365" "microsoft365Defender" "azureAdIdentityProtection" "microsoftAppGovernance" "dataLossPrevention"
    | "microsoftDefenderForCloud" "microsoftSentinel" "microsoftInsiderRiskManagement" "microsoftThreatIntelligence" "microsoftSecurityForAI");
words!(DETECTION_SOURCE: "unknown" "microsoftDefenderForEndpoint" "antivirus" "smartScreen" "customTi" "microsoftDefenderForOffice365"
    "automatedInvestigation" "microsoftThreatExperts" "customDetection" "microsoftDefenderForIdentity" "cloudAppSecurity" "microsoft365Defender"
    "azureAdIdentityProtection" "manual" "microsoftDataLossPrevention" "appGovernancePolicy" "appGovernanceDetection"
    | "microsoftDefenderForCloud" "microsoftDefenderForIoT" "microsoftDefenderForServers" "microsoftDefenderForStorage" "microsoftDefenderForContainers"
    "nrtAlerts" "scheduledAlerts" "builtInMl" "microsoftInsiderRiskManagement" "microsoftThreatIntelligence" "microsoftDefenderForAIServices" "microsoftSentinel");
words!(REMEDIATION: "none" "remediated" "prevented" "blocked" "notFound"
    | "active" "pendingApproval" "declined" "unremediated" "running" "partiallyRemediated");
words!(INCIDENT_STATUS: "active" "resolved" "inProgress" "redirected" | "awaitingAction");

words!(
    /// Severity as Defender for Endpoint spells it.
    ENDPOINT_SEVERITY: "UnSpecified" "Informational" "Low" "Medium" "High");
words!(
    /// Status as Defender for Endpoint spells it.
    ENDPOINT_STATUS: "Unknown" "New" "InProgress" "Resolved");

/// A word of Graph as Defender for Endpoint spells it: `inProgress` becomes `InProgress`.
pub(crate) fn endpoint_word(word: &str) -> String {
    match word {
        "lineOfBusinessApplication" => "LineOfBusinessApplication".to_owned(),
        "notMalicious" => "Clean".to_owned(),
        "compromisedAccount" => "CompromisedUser".to_owned(),
        "notEnoughDataToValidate" => "InsufficientData".to_owned(),
        "confirmedActivity" => "ConfirmedUserActivity".to_owned(),
        _ => {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
        }
    }
}
