//! When a tenant is redeemed although nobody asks for its tokens: to keep the refresh token alive, or because somebody
//! wants to know at once whether it works. Pure.

use std::time::Duration;

use domain::{Chance, HeldTenant, TenantState, Ticks};
use tokio::time::Instant;

use crate::config::Config;
use crate::slot::Now;

/// Nobody knows how old a token is that was never redeemed. This spreads a large import.
const SPREAD: Duration = Duration::from_secs(60 * 60);

/// What is due unasked.
#[derive(Debug, Default)]
pub(crate) struct Unasked {
    /// The redemption that the next keep-alive counts from, and when that is.
    kept_since: Option<Ticks>,
    keep_alive_at: Option<Instant>,
    /// Somebody wants to know since then, and there has been no answer.
    wanted_at: Option<Instant>,
}

impl Unasked {
    /// Plans the redemption that keeps an idle refresh token alive. `keeps_token` says whether the
    /// tenant is reached with one at all.
    pub(crate) fn plan(&mut self, tenant: &HeldTenant, keeps_token: bool, at: Now, config: &Config, chance: &dyn Chance) {
        use TenantState::{Active, NeedsConsent, NeedsCustomer, Paused};
        if !keeps_token || !matches!(tenant.state, Active | NeedsConsent | NeedsCustomer | Paused) {
            self.keep_alive_at = None;
            return;
        }
        let known = self.kept_since.max(tenant.last_refresh_at);
        if self.keep_alive_at.is_some() && known == self.kept_since {
            return;
        }
        self.kept_since = known;
        self.keep_alive_at = Some(match known {
            Some(last) => {
                let due = last.plus(chance.between(config.keep_alive_after, config.keep_alive_after.mul_f64(1.1)));
                at.instant + due.since(at.wall)
            }
            None => at.instant + chance.between(Duration::ZERO, SPREAD),
        });
    }

    /// A refresh token was redeemed, so its keep-alive is planned anew.
    pub(crate) fn kept(&mut self, wall: Ticks) {
        self.kept_since = Some(wall);
        self.keep_alive_at = None;
    }

    /// One redemption is wanted, as soon as nothing stands in its way.
    pub(crate) fn want(&mut self, now: Instant) {
        self.wanted_at = Some(now);
    }

    /// There is an answer, be it that a person must act.
    pub(crate) fn answered(&mut self) {
        self.wanted_at = None;
    }

    /// When the next redemption is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.keep_alive_at.into_iter().chain(self.wanted_at).min()
    }
}
