//! Which permissions a tenant's sources need, and which of them an access token does not have.
//!
//! A customer who takes a permission back, or an app that asks for more than was once consented to, shows here before
//! anything is refused.

use crate::tenant::{Audience, Source};

impl Source {
    /// The permission to read this source, the least one first; any of them is enough.
    pub fn permissions(self) -> &'static [&'static str] {
        match self {
            Self::GraphAlerts => &["SecurityAlert.Read.All", "SecurityAlert.ReadWrite.All"],
            Self::GraphIncidents => &["SecurityIncident.Read.All", "SecurityIncident.ReadWrite.All"],
            // A user's token has the names without "All".
            Self::MdeAlerts => &["Alert.Read.All", "Alert.ReadWrite.All", "Alert.Read", "Alert.ReadWrite"],
        }
    }
}

/// The permissions that these sources need of this audience and that were not granted, each by its least name.
///
/// `granted` is as the token says: names, or addresses that end in one. Where it says that there is none, everything is
/// missing; a token that cannot be read is not asked about.
pub fn missing(sources: &[Source], audience: Audience, granted: &[String]) -> Vec<&'static str> {
    let names: Vec<&str> = granted.iter().map(|scope| scope.rsplit('/').next().unwrap_or(scope)).collect();
    let has = |wanted: &str| names.iter().any(|name| name.eq_ignore_ascii_case(wanted));
    let mut lacking: Vec<_> = sources
        .iter()
        .filter(|source| source.audience() == audience && !source.permissions().iter().any(|wanted| has(wanted)))
        .filter_map(|source| source.permissions().first().copied())
        .collect();
    lacking.sort_unstable();
    lacking.dedup();
    lacking
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_and_not_granted_is_missing() {
        use Source::{GraphAlerts, GraphIncidents, MdeAlerts};
        let alerts = "SecurityAlert.Read.All";
        for (sources, audience, granted, lacking) in [
            (&[GraphAlerts][..], Audience::Graph, &["SecurityAlert.Read.All"][..], &[][..]),
            (&[GraphAlerts], Audience::Graph, &["User.Read"], &[alerts]),
            (&[GraphAlerts], Audience::Graph, &[], &[alerts]),
            (&[GraphAlerts, GraphIncidents], Audience::Defender, &[], &[]),
            (&[GraphAlerts], Audience::Graph, &["securityalert.read.all", "openid"], &[]),
            (&[GraphAlerts], Audience::Graph, &["https://graph.microsoft.com/SecurityAlert.ReadWrite.All"], &[]),
            (&[GraphAlerts, GraphIncidents], Audience::Graph, &["SecurityIncident.Read.All"], &[alerts]),
            (&[GraphAlerts, GraphIncidents], Audience::Graph, &["email"], &[alerts, "SecurityIncident.Read.All"]),
            (&[GraphAlerts, MdeAlerts], Audience::Defender, &["Alert.Read"], &[]),
            (&[GraphAlerts, MdeAlerts], Audience::Defender, &["Machine.Read.All"], &["Alert.Read.All"]),
            (&[GraphAlerts], Audience::Defender, &["Machine.Read.All"], &[]),
            (&[GraphAlerts], Audience::Graph, &["SecurityAlert.Read"], &[alerts]),
        ] {
            let granted: Vec<String> = granted.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(missing(sources, audience, &granted), lacking, "{sources:?} {audience} {granted:?}");
        }
    }
}
