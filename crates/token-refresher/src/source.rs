//! The handle: what the poller asks for access tokens.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::ports::{AccessTokens, InFlight, NoToken};
use domain::{AccessToken, Audience, HeldTenant, TenantId};

use crate::core::{Core, passing};
use crate::settle::Wish;

/// Gives out access tokens, from memory where it can. Cheap to clone.
#[derive(Clone)]
pub struct TokenSource {
    pub(crate) core: Arc<Core>,
}

#[async_trait]
impl AccessTokens for TokenSource {
    async fn access_token(&self, tenant: &HeldTenant, audience: Audience) -> Result<AccessToken, NoToken> {
        let core = &self.core;
        // What the caller holds may be a minute old; the registry's word of now decides.
        let Some(tenant) = core.held(tenant.id) else {
            return Err(core.no_token(passing("another replica looks after this tenant"), Duration::from_secs(1)));
        };
        let slot = core.slot(&tenant);
        if let Some(answer) = core.without_network(&tenant, &slot, audience) {
            return answer;
        }
        // A task of its own, since a caller may go away in the middle, and with it a rotated token.
        let redemption = {
            let core = Arc::clone(core);
            self.core.under_way.spawn(async move { core.obtain(tenant.id, &slot, audience, Wish::Asked).await })
        };
        match redemption.await {
            Ok(answer) => answer,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(core.no_token(passing("the daemon is stopping"), Duration::from_secs(1))),
        }
    }

    async fn refused(&self, tenant: TenantId, audience: Audience, token: &AccessToken) {
        let Some(slot) = self.core.known_slot(tenant) else { return };
        if slot.memory().refuse(audience, token) {
            tracing::debug!(tenant.id = %tenant, %audience, "the API refused a cached access token, which is dropped");
        }
    }
}

impl InFlight for TokenSource {
    fn redeeming(&self, tenant: TenantId) -> bool {
        self.core.known_slot(tenant).is_some_and(|slot| slot.is_redeeming())
    }
}
