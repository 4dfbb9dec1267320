//! One type per thing that has a name, so that two of them cannot be swapped by accident.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the text as it is: it is never trimmed and its case is never changed.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text, exactly as it came.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id! {
    /// A customer: the directory id (GUID) of its Entra tenant. There is no second id of our own.
    TenantId
}

uuid_id! {
    /// One running tocsin process. Made anew at every start, so that a restarted process never
    /// mistakes an old lease for its own.
    ReplicaId
}

text_id! {
    /// An alert as its API names it. Case-sensitive: two ids that differ only in case are two alerts.
    AlertId
}

text_id! {
    /// An incident as Graph names it: a number, spelled as text.
    IncidentId
}

text_id! {
    /// A key of `[apps]` in the configuration: the app registration that a tenant is reached with.
    AppName
}

text_id! {
    /// A key of `[clouds]`: the national (or laboratory) cloud that a tenant lives in.
    CloudName
}

/// The generation of a tenant's lease. It only ever grows, once per claim, so that a write that
/// carries an old one can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i64);
