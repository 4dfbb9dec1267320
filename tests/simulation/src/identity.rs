//! The sign-in service, in memory: families of refresh tokens with and without strict rotation, and access tokens
//! that end when they end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use domain::token::Bearer;
use domain::{AccessToken, AppCredential, Audience, Clock, RefreshToken, TenantId, Trouble, Verdict};
use microsoft::{App, Cloud, Redeemed};
use secrecy::ExposeSecret;
use token_refresher::{Redeemer, Refused};

use crate::check::Checker;
use crate::process::Process;
use crate::scenario::{Rotation, SignInFault};
use crate::tally::{Fault, Invariant, Tally};
use crate::time::{MINUTE, Ms, SECOND, span};

/// Which refresh token: how often the customer has consented, and how often it was rotated since.
pub(crate) type Serial = (i64, i64);

/// Redemptions per second that the refresher is set to.
pub(crate) const RATE: u32 = 4;

/// The text of a refresh token.
pub(crate) fn refresh_token(tenant: TenantId, serial: Serial) -> String {
    format!("rt/{}/{}/{}", tenant.0, serial.0, serial.1)
}

/// Which refresh token a text is.
pub(crate) fn serial_of(text: &str) -> Option<Serial> {
    let mut parts = text.rsplit('/');
    let rotation = parts.next()?.parse().ok()?;
    Some((parts.next()?.parse().ok()?, rotation))
}

#[derive(Debug)]
struct Family {
    rotation: Rotation,
    /// The newest refresh token.
    newest: Serial,
    revoked: bool,
    /// Somebody is redeeming until then.
    busy_until: Ms,
    /// Answers that said "dead", and when the second of them was given.
    dead_answers: u32,
    confirmed_dead: Option<Ms>,
}

#[derive(Debug)]
struct Grant {
    tenant: TenantId,
    audience: Audience,
    ends: Ms,
    /// The refresh token that came with it.
    came_with: Option<Serial>,
    refused: Option<(u64, Ms)>,
}

/// The sign-in service.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    families: BTreeMap<TenantId, Family>,
    grants: BTreeMap<String, Grant>,
    /// When each process asked, within the last second.
    asked: BTreeMap<u64, VecDeque<Ms>>,
}

impl Identity {
    /// A customer consents, or does so again: all earlier refresh tokens are dead.
    pub(crate) fn consent(&mut self, tenant: TenantId, rotation: Rotation) -> Serial {
        let generation = self.families.get(&tenant).map_or(0, |family| family.newest.0) + 1;
        let newest = (generation, 0);
        let family = Family { rotation, newest, revoked: false, busy_until: 0, dead_answers: 0, confirmed_dead: None };
        self.families.insert(tenant, family);
        newest
    }

    /// All refresh tokens of the tenant are dead from now on.
    pub(crate) fn revoke(&mut self, tenant: TenantId) {
        if let Some(family) = self.families.get_mut(&tenant) {
            family.revoked = true;
        }
    }

    /// Since when the refresher knows for sure that the tenant's refresh token is dead.
    pub(crate) fn confirmed_dead(&self, tenant: TenantId) -> Option<Ms> {
        self.families.get(&tenant).and_then(|family| family.confirmed_dead)
    }

    /// Whether an access token is good for this API now.
    #[expect(clippy::too_many_arguments, reason = "what a request says, and who keeps the books")]
    pub(crate) fn admit(
        &mut self,
        bearer: &str,
        whose: (TenantId, Audience),
        stored: Option<Serial>,
        process: u64,
        now: Ms,
        checker: &mut Checker,
        tally: &mut Tally,
    ) -> bool {
        let Some(grant) = self.grants.get_mut(bearer).filter(|grant| (grant.tenant, grant.audience) == whose) else {
            checker.broken(Invariant::I31, now, format!("an access token of somebody else is used: {bearer}"));
            return false;
        };
        // A rotated refresh token is durable before the access token that came with it is used.
        tally.checked(Invariant::I30, 1);
        if grant.came_with.is_some_and(|serial| stored.is_none_or(|stored| stored < serial)) {
            checker.broken(Invariant::I30, now, format!("{bearer} is used, {stored:?} is stored, {:?} came with it", grant.came_with));
        }
        if now < grant.ends {
            return true;
        }
        tally.fire(Fault::Unauthorized);
        tally.checked(Invariant::I31, 1);
        match grant.refused {
            Some((by, at)) if by == process && now > at + 10 * SECOND => {
                checker.broken(Invariant::I31, now, format!("{bearer} is used although it was refused at {at}"));
            }
            Some((by, _)) if by == process => {}
            _ => grant.refused = Some((process, now)),
        }
        false
    }

    /// Takes a request: it is counted, whatever becomes of it.
    fn arrived(&mut self, process: u64, now: Ms, checker: &mut Checker, tally: &mut Tally) {
        let asked = self.asked.entry(process).or_default();
        while asked.front().is_some_and(|at| *at <= now - SECOND) {
            asked.pop_front();
        }
        asked.push_back(now);
        tally.checked(Invariant::I12, 1);
        // The refresher counts when it lets a redemption go; the vault may hold it up for a moment after that.
        if asked.len() > usize::try_from(RATE + 1).unwrap_or(1) {
            checker.broken(Invariant::I12, now, format!("process {process} redeems {} times in a second", asked.len()));
        }
    }
}

/// The sign-in service, as one process reaches it.
pub(crate) struct SignIn {
    pub(crate) process: Arc<Process>,
}

#[async_trait]
impl Redeemer for SignIn {
    async fn redeem(
        &self,
        _: &Cloud,
        _: &App,
        tenant: TenantId,
        audience: Audience,
        token: &RefreshToken,
        _: Option<&AppCredential>,
    ) -> Result<Redeemed, Refused> {
        let process = &self.process;
        process.alive().await;
        let asked_at = Clock::now(&process.time);
        let now = process.now();
        let latency = if process.dice.chance(0.5) { process.dice.range(20, 1500) } else { 0 };
        let outcome = self.decide(tenant, audience, token, now, latency);
        let wait = if outcome == Err(Wrong::Lost) { 30 * SECOND } else { latency };
        if wait > 0 {
            tokio::time::sleep(span(wait)).await;
        }
        process.alive().await;
        let given = outcome.map_err(Wrong::refused)?;
        // As the product's own reader of answers counts: from before the call, and within reason.
        let life = given.expires_in.clamp(60, 28 * 3600);
        let bearer = Bearer::new(given.bearer).expect("it is not empty");
        let access = AccessToken { bearer, expires_at: asked_at.plus(span(life * SECOND)) };
        let refresh = given.refresh.and_then(|serial| RefreshToken::new(refresh_token(tenant, serial)));
        Ok(Redeemed { access, refresh, granted: None, roles: None })
    }

    async fn client_credentials(&self, _: &Cloud, _: &App, _: TenantId, _: Audience, _: &AppCredential) -> Result<Redeemed, Refused> {
        Err(Wrong::App.refused())
    }
}

/// What an answer holds.
#[derive(Debug, PartialEq, Eq)]
struct Given {
    bearer: String,
    expires_in: i64,
    refresh: Option<Serial>,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Dead,
    Interaction,
    App,
    Unavailable,
    /// The answer never arrives, whatever it was.
    Lost,
}

impl Wrong {
    fn refused(self) -> Refused {
        let (verdict, code) = match self {
            Self::Dead => (Verdict::NeedsConsent, "invalid_grant"),
            Self::Interaction => (Verdict::NeedsConsent, "interaction_required"),
            Self::App => (Verdict::Global, "invalid_client"),
            Self::Unavailable => (Verdict::RetryAfter(span(2 * SECOND)), "temporarily_unavailable"),
            Self::Lost => (Verdict::Retry, "timeout"),
        };
        let trouble = Trouble {
            verdict,
            reason: format!("simulated: {code}"),
            action: "nothing".to_owned(),
            code: Some(code.to_owned()),
            trace: None,
        };
        Refused { trouble, dead_token: self == Self::Dead, maybe_ours: None }
    }
}

impl SignIn {
    fn decide(&self, tenant: TenantId, audience: Audience, token: &RefreshToken, now: Ms, latency: Ms) -> Result<Given, Wrong> {
        let process = &self.process;
        let scenario = &process.run.scenario;
        let number = scenario.tenants.iter().position(|known| known.id == tenant);
        let fault = scenario.sign_in.iter().filter(|(whom, _)| Some(*whom) == number).find_map(|(_, during)| during.at(now));
        let mut state = process.run.state();
        let state = &mut *state;
        state.trace.event(now, "redeem", &[latency], || format!("process {} {} {audience}", process.serial, tenant.0));
        state.tally.add("redemptions", 1);
        if scenario.cut_off.iter().any(|(replica, cut)| *replica == process.replica && cut.at(now).is_some()) {
            state.tally.fire(Fault::CutFromCloud);
            return Err(Wrong::Lost);
        }
        state.identity.arrived(process.serial, now, &mut state.checker, &mut state.tally);
        let serial = serial_of(token.expose_secret());
        let Some(family) = state.identity.families.get_mut(&tenant) else { return Err(Wrong::Dead) };
        state.tally.checked(Invariant::I11, 1);
        if now < family.busy_until {
            let until = family.busy_until;
            state.checker.broken(Invariant::I11, now, format!("two redemptions at once for {}: one lasts until {until}", tenant.0));
        }
        family.busy_until = now + latency;
        match fault {
            Some(SignInFault::App) => {
                state.tally.fire(Fault::AppRefused);
                return Err(Wrong::App);
            }
            Some(SignInFault::Unavailable) => {
                state.tally.fire(Fault::SignInUnavailable);
                return Err(Wrong::Unavailable);
            }
            Some(SignInFault::Interaction) => {
                state.tally.fire(Fault::InteractionRequired);
                return Err(Wrong::Interaction);
            }
            _ => {}
        }
        let Some(serial) = serial.filter(|serial| serial.0 == family.newest.0 && !family.revoked) else {
            family.dead_answers += 1;
            if family.dead_answers >= 2 {
                family.confirmed_dead.get_or_insert(now);
            }
            return Err(Wrong::Dead);
        };
        if family.rotation.strict && serial != family.newest {
            state.tally.add("families_revoked_for_reuse", 1);
            family.revoked = true;
            family.dead_answers += 1;
            return Err(Wrong::Dead);
        }
        let refresh = if process.dice.chance(family.rotation.share) {
            family.newest = (serial.0, family.newest.1 + 1);
            Some(family.newest)
        } else {
            state.tally.fire(Fault::RefreshAbsent);
            None
        };
        let life = process.dice.range(4 * MINUTE, 12 * MINUTE);
        let expires_in = match fault {
            Some(SignInFault::OddLife(said)) => {
                state.tally.fire(Fault::OddExpiresIn);
                said
            }
            _ => life / SECOND,
        };
        let bearer = format!("at/{}", state.identity.grants.len());
        let grant = Grant { tenant, audience, ends: now + life, came_with: refresh, refused: None };
        state.identity.grants.insert(bearer.clone(), grant);
        if fault == Some(SignInFault::AnswerLost) && process.dice.chance(0.5) {
            state.tally.fire(Fault::RefreshAnswerLost);
            return Err(Wrong::Lost);
        }
        Ok(Given { bearer, expires_in, refresh })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_refresh_token_says_which_one_it_is() {
        let tenant = TenantId(Uuid::from_u128(5));
        assert_eq!(serial_of(&refresh_token(tenant, (3, 14))), Some((3, 14)));
        assert_eq!(serial_of("something"), None);
    }

    #[test]
    fn consenting_again_begins_a_new_family() {
        let tenant = TenantId(Uuid::from_u128(5));
        let mut identity = Identity::default();
        let rotation = Rotation { strict: true, share: 1.0 };
        assert_eq!(identity.consent(tenant, rotation), (1, 0));
        identity.revoke(tenant);
        assert_eq!(identity.consent(tenant, rotation), (2, 0));
        assert!(!identity.families[&tenant].revoked);
    }
}
