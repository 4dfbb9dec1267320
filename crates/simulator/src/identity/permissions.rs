//! What a token allows: its permissions, and the directory roles of whoever signed in.

use crate::scenario::OddToken;

/// What `wids` can hold: templates of directory roles.
const SECURITY_READER: &str = "5d6b6bb7-de71-4623-b4af-96380a352509";
const ORDINARY_USER: &str = "b79fbf4d-3ef9-4689-8143-76b194e85509";
const NO_USER: &str = "0997a1d0-0d1d-4acb-b408-d5ca73121e90";

/// The permissions of a token, for Defender for Endpoint or for Graph.
pub(super) fn of(for_defender: bool, by_user: bool, odd: Option<OddToken>) -> &'static [&'static str] {
    match (odd, for_defender, by_user) {
        (Some(OddToken::NoPermissions), ..) => &[],
        // What is left is for something that nobody here asks for.
        (Some(OddToken::FewerPermissions), true, _) => &["Machine.Read"],
        (Some(OddToken::FewerPermissions), false, _) => &["SecurityIncident.Read.All"],
        (_, true, true) => &["Alert.Read"],
        (_, true, false) => &["Alert.Read.All"],
        (_, false, _) => &["SecurityAlert.Read.All", "SecurityIncident.Read.All"],
    }
}

/// The directory roles of the account; none at all where the token does not say.
pub(super) fn roles(by_user: bool, odd: Option<OddToken>) -> &'static [&'static str] {
    match odd {
        _ if !by_user => &[NO_USER],
        Some(OddToken::NoRole) => &[ORDINARY_USER],
        Some(OddToken::RolesUnsaid) => &[],
        _ => &[SECURITY_READER, ORDINARY_USER],
    }
}

/// The member `scope` of an answer.
pub(super) fn scope_text(resource: &str, permissions: &[&str], asked: &str) -> String {
    let mut words: Vec<String> = permissions.iter().map(|permission| format!("{resource}/{permission}")).collect();
    words.extend(asked.split(' ').filter(|word| matches!(*word, "openid" | "profile" | "email")).map(str::to_owned));
    words.join(" ")
}
