//! Answers that one tenant gets for reasons of its own, and every tenant when our app is at fault.
//!
//! Nobody can tell from one of them. Whoever hears the answers of all tenants can; what settles it is said here, and what
//! it comes to then.

use domain::{Trouble, Verdict};

/// What would show that our own app is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MaybeOurs {
    /// The federated credential of our app is not known there. It takes minutes to become known after it was set up.
    IfItLasts,
    /// Our app is disabled or not known in this tenant. A customer may have done that; several do not on one day.
    IfSeveralSaySo,
}

impl MaybeOurs {
    /// The fault of our app that it turned out to be; `answer` is the one that settled it.
    pub fn settled(self, answer: Trouble) -> Trouble {
        let (reason, action) = match self {
            Self::IfItLasts => (
                "the federated credential of our app has been unknown there for too long to be a new one, whichever tenant we ask for",
                "you: compare issuer, subject and audience with the app registration, and see whether the federated credential was deleted there",
            ),
            Self::IfSeveralSaySo => (
                "several tenants, one after the other, say that our app is disabled or not known, and no tenant accepts it: this may be our own app",
                "you: see whether the app registration was disabled by Microsoft or deleted, and whether client_id is the right one; the customers \
                 need do nothing unless some of them are still refused when it is over",
            ),
        };
        Trouble { verdict: Verdict::Global, reason: reason.to_owned(), action: action.to_owned(), ..answer }
    }
}
