//! Whether the account that signed in has a role that reads security data, as far as its token says.
//!
//! A listed role is enough, and none is not the end: Defender has roles of its own (unified RBAC) that no token tells,
//! so that only a page can prove them. What the token says explains a page that is refused.

use domain::consent::{reading_role, reading_roles};
use domain::{LinkKind, Source, Trouble, Verdict};
use uuid::Uuid;

/// What the tokens say of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing, or it does not matter: nobody signed in who could have a role, or no source asks for one.
    Unsaid,
    /// It has this one.
    Held(&'static str),
    /// It has none of those that are known to be enough.
    Missing,
}

impl Role {
    /// Reads the roles of each token; a token that does not say leaves it to the others.
    pub(super) fn of<'a>(kind: LinkKind, sources: &[Source], roles: impl Iterator<Item = Option<&'a [Uuid]>>) -> Self {
        // Who may read what in Defender for Endpoint is settled there and not in the directory.
        if kind != LinkKind::Delegated || !sources.iter().copied().any(asks_for_role) {
            return Self::Unsaid;
        }
        let said: Vec<_> = roles.flatten().collect();
        match said.iter().find_map(|roles| reading_role(roles)) {
            Some(role) => Self::Held(role),
            None if said.is_empty() => Self::Unsaid,
            None => Self::Missing,
        }
    }

    /// What to say of a refused page, where it is most likely this that it was refused for.
    pub(super) fn explains(self, source: Source, refused: &Trouble) -> Option<String> {
        // Neither a licence nor another sign-in is what is missing.
        let plainly = refused.verdict == Verdict::NeedsConsent && refused.code.as_deref() == Some("http-403");
        (self == Self::Missing && asks_for_role(source) && plainly).then(|| {
            format!(
                "{}. Most likely it is the role: the account that signed in has none of the directory roles {}; the customer's \
                 administrator: give that account the role Security Reader in Microsoft Entra, or activate it there if the account \
                 is only eligible, then sign in again",
                refused.reason,
                listed()
            )
        })
    }
}

/// What the account should know that reads although no role says why.
pub(super) fn reads_without() -> String {
    format!(
        "the account reads, but has none of the directory roles {}: probably by a role of Defender itself, which may show it a part \
         only. If it shall see everything, the customer's administrator: give it the role Security Reader in Microsoft Entra",
        listed()
    )
}

fn asks_for_role(source: Source) -> bool {
    matches!(source, Source::GraphAlerts | Source::GraphIncidents)
}

fn listed() -> String {
    let names: Vec<_> = reading_roles().collect();
    names.split_last().map_or_else(String::new, |(last, others)| format!("{} or {last}", others.join(", ")))
}

#[cfg(test)]
mod tests {
    use uuid::uuid;

    use super::*;

    const READER: Uuid = uuid!("5d6b6bb7-de71-4623-b4af-96380a352509");
    const ORDINARY: Uuid = uuid!("b79fbf4d-3ef9-4689-8143-76b194e85509");

    #[test]
    fn one_token_that_names_a_role_is_enough_and_silence_says_nothing() {
        use LinkKind::{Application, Delegated};
        let (graph, both, defender) =
            (&[Source::GraphIncidents][..], &[Source::GraphAlerts, Source::MdeAlerts][..], &[Source::MdeAlerts][..]);
        let (reader, ordinary): (Option<&[Uuid]>, Option<&[Uuid]>) = (Some(&[ORDINARY, READER]), Some(&[ORDINARY]));
        for (kind, sources, roles, expected) in [
            (Delegated, graph, &[reader][..], Role::Held("Security Reader")),
            (Delegated, both, &[ordinary, reader], Role::Held("Security Reader")),
            (Delegated, both, &[None, reader], Role::Held("Security Reader")),
            (Delegated, graph, &[ordinary], Role::Missing),
            (Delegated, graph, &[Some(&[])], Role::Missing),
            (Delegated, both, &[None, ordinary], Role::Missing),
            (Delegated, graph, &[None], Role::Unsaid),
            (Delegated, graph, &[], Role::Unsaid),
            (Delegated, defender, &[ordinary], Role::Unsaid),
            (Application, graph, &[ordinary], Role::Unsaid),
        ] {
            assert_eq!(Role::of(kind, sources, roles.iter().copied()), expected, "{kind:?} {sources:?} {roles:?}");
        }
    }

    #[test]
    fn only_a_plain_refusal_is_put_down_to_a_role_that_is_missing() {
        let refused = |code: &str| Trouble {
            verdict: Verdict::NeedsConsent,
            reason: "Graph says no".to_owned(),
            action: String::new(),
            code: Some(code.to_owned()),
            trace: None,
        };
        let words = Role::Missing.explains(Source::GraphAlerts, &refused("http-403")).unwrap();
        assert!(words.starts_with("Graph says no. Most likely it is the role"), "{words}");
        assert!(words.contains("Security Reader, Security Operator, ") && words.contains("or Global Administrator;"), "{words}");
        for (role, source, code) in [
            (Role::Missing, Source::GraphAlerts, "http-500"),
            (Role::Missing, Source::GraphAlerts, "DisabledFeature"),
            (Role::Missing, Source::GraphAlerts, "insufficient_claims"),
            (Role::Missing, Source::MdeAlerts, "http-403"),
            (Role::Held("Security Reader"), Source::GraphAlerts, "http-403"),
            (Role::Unsaid, Source::GraphAlerts, "http-403"),
        ] {
            assert_eq!(role.explains(source, &refused(code)), None, "{role:?} {source} {code}");
        }
        let licence = Trouble { verdict: Verdict::NeedsCustomer, ..refused("http-403") };
        assert_eq!(Role::Missing.explains(Source::GraphAlerts, &licence), None, "a licence that is missing");
    }
}
