//! What a tenant can be, where its alerts come from, and whom an access token is for.

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every one, in the order of definition.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word used in the configuration, the database and on the command line.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::tenant::UnknownWord;

            fn from_str(text: &str) -> Result<Self, $crate::tenant::UnknownWord> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text).ok_or_else(|| {
                    $crate::tenant::UnknownWord::new(text, Self::ALL.iter().map(|word| word.as_str()))
                })
            }
        }
    };
}

pub(crate) use words;

/// A word that is none of those known.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{found}\" is none of {known}")]
pub struct UnknownWord {
    found: String,
    known: String,
}

impl UnknownWord {
    /// Names what was found and what would have been known.
    pub(crate) fn new(found: &str, known: impl Iterator<Item = &'static str>) -> Self {
        Self { found: found.to_owned(), known: known.collect::<Vec<_>>().join(", ") }
    }
}

words! {
    /// Where a tenant stands, as `dash.tenant_health` shows it.
    ///
    /// `NeedsConsent` and `NeedsCustomer` are not written down: they follow from an active tenant's
    /// open troubles, so that they end by themselves when the trouble does.
    TenantState {
        /// Known, but no credential has arrived yet.
        AwaitingConsent = "awaiting-consent",
        /// Being polled.
        Active = "active",
        /// The token is dead, a user must act, or consent is missing.
        NeedsConsent = "needs-consent",
        /// The customer's policy blocks us, or the user, app or tenant is gone.
        NeedsCustomer = "needs-customer",
        /// Held by the operator; not polled, but its token is kept alive.
        Paused = "paused",
        /// Being removed.
        Offboarding = "offboarding",
        /// Gone; a tombstone remains.
        Removed = "removed",
    }
}

words! {
    /// An API that alerts come from.
    Source {
        /// Microsoft Graph `/v1.0/security/alerts_v2`: every Defender product.
        GraphAlerts = "graph-alerts",
        /// Defender for Endpoint `/api/alerts`: endpoint alerts only.
        MdeAlerts = "mde-alerts",
        /// Microsoft Graph `/v1.0/security/incidents`.
        GraphIncidents = "graph-incidents",
    }
}

words! {
    /// Whom an access token is for. One refresh token serves both, one after the other.
    Audience {
        /// Microsoft Graph.
        Graph = "graph",
        /// Defender for Endpoint.
        Defender = "defender",
    }
}

words! {
    /// What a customer is asked to consent to.
    LinkKind {
        /// A user signs in, and we read as that user, with a refresh token.
        Delegated = "delegated",
        /// An administrator grants our app permissions of its own.
        Application = "application",
    }
}

impl Source {
    /// Whom a token must be for to read this source.
    pub fn audience(self) -> Audience {
        match self {
            Self::GraphAlerts | Self::GraphIncidents => Audience::Graph,
            Self::MdeAlerts => Audience::Defender,
        }
    }

    /// Which source's words win when two deliver the same alert with the same stamp: the higher.
    pub fn rank(self) -> i16 {
        match self {
            Self::GraphAlerts => 2,
            Self::MdeAlerts => 1,
            Self::GraphIncidents => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_an_unknown_one_lists_the_known() {
        for source in Source::ALL {
            assert_eq!(source.as_str().parse::<Source>().as_ref(), Ok(source));
        }
        for state in TenantState::ALL {
            assert_eq!(state.as_str().parse::<TenantState>().as_ref(), Ok(state));
        }
        let error = "graph-alert".parse::<Source>().unwrap_err();
        assert_eq!(error.to_string(), "\"graph-alert\" is none of graph-alerts, mde-alerts, graph-incidents");
    }

    #[test]
    fn graph_speaks_louder_than_endpoint() {
        assert!(Source::GraphAlerts.rank() > Source::MdeAlerts.rank());
    }
}
