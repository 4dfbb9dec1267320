//! Gives out numbered tokens.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use domain::ports::{AccessTokens, NoToken};
use domain::token::Bearer;
use domain::{AccessToken, Audience, HeldTenant, TenantId, Ticks, Trouble, Verdict};

use super::lock;

/// The expiry of a test token says which one it is, so that nothing needs to open a secret.
pub(super) fn number(token: &AccessToken) -> usize {
    usize::try_from(token.expires_at.0).unwrap_or(0)
}

pub(crate) struct Tokens {
    pub(crate) current: AtomicUsize,
    pub(crate) asked: AtomicUsize,
    pub(crate) refused: AtomicUsize,
    /// While set, there is no token until then.
    pub(crate) none_until: Mutex<Option<Ticks>>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { current: AtomicUsize::new(1), asked: AtomicUsize::default(), refused: AtomicUsize::default(), none_until: Mutex::default() }
    }
}

#[async_trait]
impl AccessTokens for Tokens {
    async fn access_token(&self, _: &HeldTenant, _: Audience) -> Result<AccessToken, NoToken> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(retry_at) = *lock(&self.none_until) {
            let trouble = Trouble {
                verdict: Verdict::NeedsConsent,
                reason: "dead".to_owned(),
                action: "consent again".to_owned(),
                code: None,
                trace: None,
            };
            return Err(NoToken { trouble, retry_at });
        }
        let number = self.current.load(Ordering::SeqCst);
        let bearer = Bearer::new("a-token").expect("it is not empty");
        Ok(AccessToken { bearer, expires_at: Ticks(i64::try_from(number).unwrap_or(0)) })
    }

    async fn refused(&self, _: TenantId, _: Audience, token: &AccessToken) {
        self.refused.fetch_add(1, Ordering::SeqCst);
        let number = number(token);
        let _ = self.current.compare_exchange(number, number + 1, Ordering::SeqCst, Ordering::SeqCst);
    }
}
