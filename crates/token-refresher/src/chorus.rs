//! When what single tenants are told is about our own app: it lasts, or several of them are told the same.
//!
//! An app that one customer removed and an app that Microsoft disabled give the same answer (see [`MaybeOurs`]). As long
//! as it is heard from one or two tenants, it is their affair. A success of anybody ends the song: whoever had joined in
//! before was told something about itself, and is not counted again until it has been accepted. So three customers who
//! are really gone raise one false alarm at most, and not one after every success of the others. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::TenantId;
use microsoft::MaybeOurs;
use tokio::time::Instant;

/// A federated credential that is new is known everywhere after this time.
const LASTS: Duration = Duration::from_secs(10 * 60);

/// So many tenants do not remove an app together.
const SEVERAL: usize = 3;

/// What the tenants of one app are told, as far as it may be about the app.
#[derive(Debug, Default)]
pub(crate) struct Chorus {
    heard: BTreeMap<MaybeOurs, Heard>,
    /// Told so at a time when others were accepted.
    their_own: BTreeSet<TenantId>,
}

#[derive(Debug)]
struct Heard {
    since: Instant,
    from: BTreeSet<TenantId>,
}

impl Chorus {
    /// A tenant was told this. Says whether it is about our app.
    pub(crate) fn is_ours(&mut self, tenant: TenantId, doubt: MaybeOurs, now: Instant) -> bool {
        if self.their_own.contains(&tenant) {
            return false;
        }
        let heard = self.heard.entry(doubt).or_insert_with(|| Heard { since: now, from: BTreeSet::new() });
        heard.from.insert(tenant);
        match doubt {
            MaybeOurs::IfItLasts => now - heard.since >= LASTS,
            MaybeOurs::IfSeveralSaySo => heard.from.len() >= SEVERAL,
        }
    }

    /// The app was accepted for a tenant.
    pub(crate) fn worked(&mut self, tenant: TenantId) {
        self.their_own.extend(std::mem::take(&mut self.heard).into_values().flat_map(|heard| heard.from));
        self.their_own.remove(&tenant);
    }

    /// Everybody who was told so and has not been accepted since, once the app is accepted again.
    pub(crate) fn refused(&self) -> Vec<TenantId> {
        self.their_own.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn tenant(number: u128) -> TenantId {
        TenantId(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn a_credential_that_is_unknown_for_ten_minutes_and_nowhere_accepted_is_ours() {
        let start = Instant::now();
        let mut chorus = Chorus::default();
        let mut told = |number, minutes| chorus.is_ours(tenant(number), MaybeOurs::IfItLasts, start + MINUTE * minutes);
        assert!(!told(1, 0) && !told(2, 9) && !told(3, 9));
        assert!(told(2, 10), "whoever says it");
        chorus.worked(tenant(1));
        let mut told = |number, minutes| chorus.is_ours(tenant(number), MaybeOurs::IfItLasts, start + MINUTE * minutes);
        assert!(!told(1, 11) && !told(1, 20), "counted anew");
        assert!(!told(2, 40), "others were accepted: its own affair");
        assert!(told(1, 21));
    }

    #[test]
    fn what_three_tenants_say_and_nobody_contradicts_is_ours_and_one_or_two_are_not() {
        let now = Instant::now();
        let mut chorus = Chorus::default();
        let told = |chorus: &mut Chorus, number| chorus.is_ours(tenant(number), MaybeOurs::IfSeveralSaySo, now);
        assert!(!told(&mut chorus, 1) && !told(&mut chorus, 2) && !told(&mut chorus, 2) && !told(&mut chorus, 1), "however often");
        assert!(told(&mut chorus, 3));
        assert!(told(&mut chorus, 1));
        chorus.worked(tenant(4));
        assert_eq!(chorus.refused(), [1, 2, 3].map(tenant));
        assert!(!told(&mut chorus, 1) && !told(&mut chorus, 2) && !told(&mut chorus, 3), "they really are gone");
        chorus.worked(tenant(1));
        assert!(!told(&mut chorus, 1) && !told(&mut chorus, 4) && told(&mut chorus, 5), "who was accepted counts again");
    }
}
