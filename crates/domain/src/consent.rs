//! Which permissions a tenant's sources need, and which of them an access token does not have; which roles let an account
//! use them; and whose consent it was.
//!
//! A customer who takes a permission back, or an app that asks for more than was once consented to, shows here before
//! anything is refused.

use serde::Serialize;
use uuid::{Uuid, uuid};

use crate::tenant::{Audience, Source};

/// The directory roles with which an account may read security alerts and incidents, by the id of their template, which
/// is the same in every directory; the least powerful first.
const READING_ROLES: [(Uuid, &str); 5] = [
    (uuid!("5d6b6bb7-de71-4623-b4af-96380a352509"), "Security Reader"),
    (uuid!("5f2222b1-57c3-48ba-8ad5-d4759f1fde6f"), "Security Operator"),
    (uuid!("194ae4cb-b126-40b2-bd5b-6091b380977d"), "Security Administrator"),
    (uuid!("f2ef992c-3afb-46b9-b7cf-a126ee74c451"), "Global Reader"),
    (uuid!("62e90394-69f5-4237-9190-012177145e10"), "Global Administrator"),
];

/// The least powerful of these directory roles, given by their ids, with which an account may read security alerts.
///
/// An account with none of them may still be allowed to, by a role of Defender itself that no token tells.
pub fn reading_role(roles: &[Uuid]) -> Option<&'static str> {
    READING_ROLES.into_iter().find(|(id, _)| roles.contains(id)).map(|(_, name)| name)
}

/// The names of the roles that [`reading_role`] knows, the least powerful first.
pub fn reading_roles() -> impl Iterator<Item = &'static str> {
    READING_ROLES.into_iter().map(|(_, name)| name)
}

/// The account that signed in, and as which a tenant is read from then on. An identity, and no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Its object id in the directory.
    pub oid: Option<String>,
    /// What its owner signs in as, to be found by people. It may be given to somebody else later; the object id may not.
    pub name: Option<String>,
}

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
    fn one_role_that_reads_is_enough_and_the_least_one_is_named() {
        let member = uuid!("b79fbf4d-3ef9-4689-8143-76b194e85509");
        let role = |name: &str| READING_ROLES.into_iter().find(|(_, other)| *other == name).unwrap().0;
        for (roles, found) in [
            (vec![], None),
            (vec![member], None),
            (vec![member, role("Global Reader")], Some("Global Reader")),
            (vec![role("Global Administrator"), role("Security Reader")], Some("Security Reader")),
        ] {
            assert_eq!(reading_role(&roles), found, "{roles:?}");
        }
    }

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
