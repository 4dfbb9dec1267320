//! A pretend sign-in service: rotates refresh tokens, remembers which ones it accepts, and misbehaves
//! as the story says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use domain::token::Bearer;
use domain::{AccessToken, AppCredential, Audience, Clock, RefreshToken, TenantId, Trouble, Verdict};
use microsoft::{App, Cloud, MaybeOurs, Redeemed};
use secrecy::ExposeSecret;
use token_refresher::{Redeemer, Refused};
use tokio::time::sleep;

use crate::world::{Event, Journal};

/// What the service does instead of answering well.
#[derive(Clone, Debug)]
pub(crate) enum Quirk {
    /// Answers with this.
    Refuse(Refused),
    /// Does its work, but the answer never arrives.
    LoseAnswer,
    /// Answers after a while.
    Slow(Duration),
}

/// What a server does with a refresh token that was redeemed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rotation {
    /// As Entra does: the old one stays good.
    Lenient,
    /// The old one is void, and using it again revokes the whole family.
    Strict,
    /// No new one is given.
    None,
}

#[derive(Default)]
struct State {
    accepted: BTreeMap<TenantId, BTreeSet<String>>,
    used: BTreeSet<String>,
    quirks: VecDeque<Quirk>,
    standing: BTreeMap<Option<TenantId>, Quirk>,
    in_flight: BTreeMap<TenantId, usize>,
    issued: u64,
}

pub(crate) struct PretendSignIn {
    pub(crate) rotation: Rotation,
    pub(crate) life: Duration,
    clock: Arc<dyn Clock>,
    journal: Journal,
    state: Mutex<State>,
}

impl PretendSignIn {
    pub(crate) fn new(rotation: Rotation, life: Duration, clock: Arc<dyn Clock>, journal: Journal) -> Self {
        Self { rotation, life, clock, journal, state: Mutex::default() }
    }

    /// Lets a refresh token be good for a tenant.
    pub(crate) fn accept(&self, tenant: TenantId, token: &str) {
        self.state.lock().unwrap().accepted.entry(tenant).or_default().insert(token.to_owned());
    }

    /// Revokes all refresh tokens of a tenant.
    pub(crate) fn revoke(&self, tenant: TenantId) {
        self.state.lock().unwrap().accepted.remove(&tenant);
    }

    /// Misbehaves once, at the next call.
    pub(crate) fn once(&self, quirk: Quirk) {
        self.state.lock().unwrap().quirks.push_back(quirk);
    }

    /// Misbehaves towards one tenant (or all) until told otherwise.
    pub(crate) fn always(&self, tenant: Option<TenantId>, quirk: Option<Quirk>) {
        let standing = &mut self.state.lock().unwrap().standing;
        match quirk {
            Some(quirk) => standing.insert(tenant, quirk),
            None => standing.remove(&tenant),
        };
    }

    async fn answer(&self, tenant: TenantId, audience: Audience, token: Option<&RefreshToken>) -> Result<Redeemed, Refused> {
        let presented = token.map(|token| token.expose_secret().to_owned());
        self.journal.note(Event::Asked { tenant, audience, token: presented.clone() });
        let quirk = {
            let mut state = self.state.lock().unwrap();
            let in_flight = state.in_flight.entry(tenant).or_default();
            *in_flight += 1;
            assert_eq!(*in_flight, 1, "two redemptions of one tenant at once");
            let standing = state.standing.get(&Some(tenant)).or_else(|| state.standing.get(&None)).cloned();
            state.quirks.pop_front().or(standing)
        };
        // A call always takes some time, or nothing could ever overlap.
        sleep(if let Some(Quirk::Slow(time)) = quirk { time } else { Duration::from_millis(80) }).await;
        let mut state = self.state.lock().unwrap();
        *state.in_flight.get_mut(&tenant).unwrap() -= 1;
        if let Some(Quirk::Refuse(refused)) = &quirk {
            return Err(refused.clone());
        }
        let mut refresh = None;
        if let Some(presented) = presented {
            if !state.accepted.get(&tenant).is_some_and(|accepted| accepted.contains(&presented)) {
                if self.rotation == Rotation::Strict && state.used.contains(&presented) {
                    state.accepted.remove(&tenant);
                }
                return Err(dead());
            }
            if self.rotation != Rotation::None {
                state.issued += 1;
                let fresh = format!("refresh-{}", state.issued);
                if self.rotation == Rotation::Strict {
                    state.accepted.get_mut(&tenant).unwrap().remove(&presented);
                    state.used.insert(presented);
                }
                state.accepted.entry(tenant).or_default().insert(fresh.clone());
                refresh = RefreshToken::new(fresh);
            }
        }
        if matches!(quirk, Some(Quirk::LoseAnswer)) {
            return Err(passing());
        }
        state.issued += 1;
        let bearer = Bearer::new(format!("access-{audience}-{}", state.issued)).unwrap();
        Ok(Redeemed { access: AccessToken { bearer, expires_at: self.clock.now().plus(self.life) }, refresh, granted: None, roles: None })
    }
}

#[async_trait]
impl Redeemer for PretendSignIn {
    async fn redeem(
        &self,
        _: &Cloud,
        _: &App,
        tenant: TenantId,
        audience: Audience,
        token: &RefreshToken,
        credential: Option<&AppCredential>,
    ) -> Result<Redeemed, Refused> {
        assert!(credential.is_some(), "a confidential client proves itself");
        self.answer(tenant, audience, Some(token)).await
    }

    async fn client_credentials(
        &self,
        _: &Cloud,
        _: &App,
        tenant: TenantId,
        audience: Audience,
        _: &AppCredential,
    ) -> Result<Redeemed, Refused> {
        self.answer(tenant, audience, None).await
    }
}

pub(crate) fn refused(verdict: Verdict, code: &str, dead_token: bool) -> Refused {
    let trouble = Trouble {
        verdict,
        reason: format!("refused with {code}"),
        action: "somebody acts".to_owned(),
        code: Some(code.to_owned()),
        trace: None,
    };
    Refused { trouble, dead_token, maybe_ours: None }
}

/// A refusal that one tenant gets for reasons of its own, or all because of our app.
pub(crate) fn in_doubt(verdict: Verdict, code: &str, doubt: MaybeOurs) -> Refused {
    Refused { maybe_ours: Some(doubt), ..refused(verdict, code, false) }
}

pub(crate) fn dead() -> Refused {
    refused(Verdict::NeedsConsent, "AADSTS700082", true)
}

pub(crate) fn passing() -> Refused {
    refused(Verdict::Retry, "http-503", false)
}

pub(crate) fn expired_secret() -> Refused {
    refused(Verdict::Global, "AADSTS7000222", false)
}
