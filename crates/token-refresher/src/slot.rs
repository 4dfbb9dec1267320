//! What is remembered of one tenant: its access tokens, what stands in the way, and when it is due.
//!
//! All of it lives in memory only. Losing it costs one redemption per tenant, spread by the rate of
//! the login host; keeping it anywhere else would be one more place that holds tokens. The rules here
//! are pure: instants come in, answers go out.

use std::time::Duration;

use domain::retry::Backoff;
use domain::{AccessToken, Audience, Chance, Epoch, HeldTenant, TenantState, Ticks, Trouble, Verdict};
use secrecy::ExposeSecret;
use tokio::time::Instant;
use vecmap::VecMap;

use crate::config::Config;
use crate::unasked::Unasked;
use crate::unsaved::Unsaved;

/// What is remembered of one tenant.
#[derive(Debug)]
pub(crate) struct Memory {
    epoch: Epoch,
    credential_version: i64,
    polled: bool,
    audiences: Vec<Audience>,
    tokens: VecMap<Audience, Cached>,
    /// Trouble that waits for a person, per audience: the licence for one API may be missing while
    /// the other works.
    needs: VecMap<Audience, Need>,
    /// Answers that say "dead token", heard once.
    suspects: VecMap<Audience, Hold>,
    /// Passing trouble, for the tenant as a whole.
    pause: Option<Box<Hold>>,
    /// How passing trouble goes on, while it does.
    backoff: Option<Box<Backoff>>,
    /// When this tenant last met a fault of our own app.
    pub(crate) met_global_fault: Option<Instant>,
    /// What is redeemed although nobody asks.
    pub(crate) unasked: Unasked,
    /// The worker leaves the tenant alone until then; callers do not.
    snooze: Option<Instant>,
    /// A rotated refresh token that is not stored yet.
    pub(crate) unsaved: Option<Box<Unsaved>>,
    /// What was last logged per audience, so that a state is told once.
    told: VecMap<Audience, (&'static str, Option<String>)>,
}

/// An access token and the life ahead of it.
#[derive(Debug)]
struct Cached {
    token: AccessToken,
    life: Duration,
    refresh_at: Instant,
    drop_at: Instant,
    asked_at: Instant,
}

/// Something that stands in the way until an instant.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) trouble: Trouble,
    pub(crate) until: Instant,
}

#[derive(Debug)]
struct Need {
    hold: Hold,
    rounds: u32,
    /// It was a dead token, confirmed: hearing it again needs no second asking.
    dead: bool,
}

impl Memory {
    pub(crate) fn new(tenant: &HeldTenant) -> Self {
        Self {
            epoch: tenant.epoch,
            credential_version: tenant.credential_version,
            polled: false,
            audiences: Vec::new(),
            tokens: VecMap::new(),
            needs: VecMap::new(),
            suspects: VecMap::new(),
            pause: None,
            backoff: None,
            met_global_fault: None,
            unasked: Unasked::default(),
            snooze: None,
            unsaved: None,
            told: VecMap::new(),
        }
    }

    /// Takes over what the registry says of the tenant now. A new credential or a new lease forgets
    /// what stood in the way, so that it is tried at once; a new credential also forgets the tokens,
    /// since it may carry permissions that they lack.
    pub(crate) fn adopt(&mut self, tenant: &HeldTenant) {
        if self.credential_version != tenant.credential_version {
            self.tokens.clear();
        }
        if !self.is_of(tenant) {
            // The pollers try an active tenant at once. Nobody asks for a paused one.
            let untried = tenant.state == TenantState::Paused && self.credential_version != tenant.credential_version;
            (self.epoch, self.credential_version) = (tenant.epoch, tenant.credential_version);
            self.needs.clear();
            self.suspects.clear();
            self.pause = None;
            self.backoff = None;
            self.met_global_fault = None;
            self.snooze = None;
            self.unasked = Unasked::default();
            if untried {
                self.unasked.want(Instant::now());
            }
        }
        if let Some(unsaved) = &mut self.unsaved {
            unsaved.ours(tenant.epoch, Instant::now());
        }
        self.polled = tenant.is_polled();
        self.audiences = tenant.sources.iter().map(|source| source.audience()).collect();
        self.audiences.sort();
        self.audiences.dedup();
        // A source that is no longer read cannot leave its trouble behind for ever.
        self.needs.retain(|audience, _| self.audiences.contains(audience));
        self.suspects.retain(|audience, _| self.audiences.contains(audience));
    }

    /// Whether the lease and the credential still are those that this tenant came with.
    pub(crate) fn is_of(&self, tenant: &HeldTenant) -> bool {
        (self.epoch, self.credential_version) == (tenant.epoch, tenant.credential_version)
    }

    /// The cached token, if it is good for a while yet. Remembers that somebody asked.
    pub(crate) fn live_token(&mut self, audience: Audience, at: Now) -> Option<AccessToken> {
        let cached = self.tokens.get_mut(&audience)?;
        cached.asked_at = at.instant;
        // Judged by both clocks: a machine that slept has not moved the one, a step back moves the other (I31).
        let margin = Duration::from_secs(60).min(cached.life / 10);
        (cached.token.expires_at > at.wall.plus(margin) && cached.drop_at > at.instant + margin).then(|| cached.token.clone())
    }

    /// What stands in the way of asking the sign-in service for this audience.
    pub(crate) fn hold(&self, audience: Audience, now: Instant) -> Option<Hold> {
        if let Some(unsaved) = self.unsaved.as_ref().filter(|unsaved| unsaved.offer_at().is_none_or(|at| at > now)) {
            return Some(unsaved.hold(now));
        }
        let need = self.needs.get(&audience).map(|need| &need.hold);
        let holds = [need, self.suspects.get(&audience), self.pause.as_deref()];
        let until = holds.iter().flatten().map(|hold| hold.until).max().filter(|until| *until > now)?;
        // What needs a person is the better answer, even when something passing holds for longer.
        holds
            .into_iter()
            .flatten()
            .find(|hold| need.is_some() || hold.until > now)
            .map(|hold| Hold { trouble: hold.trouble.clone(), until })
    }

    /// Whether an answer that says "dead token" is believed: it was heard before.
    pub(crate) fn is_suspect(&self, audience: Audience) -> bool {
        self.suspects.contains_key(&audience)
    }

    /// Whether the token is known to be dead, so that the asking is only a slow probe.
    pub(crate) fn is_dead(&self, audience: Audience) -> bool {
        self.needs.get(&audience).is_some_and(|need| need.dead)
    }

    /// Whether some audience waits for a person.
    pub(crate) fn needs_somebody(&self) -> bool {
        !self.needs.is_empty()
    }

    /// A first answer that says "dead token": asked again before it is believed.
    pub(crate) fn suspect(&mut self, audience: Audience, hold: Hold) {
        self.suspects.insert(audience, hold);
    }

    /// Trouble that waits for a person. Answers how long until the next probe.
    pub(crate) fn need(
        &mut self,
        audience: Audience,
        trouble: Trouble,
        dead: bool,
        now: Instant,
        config: &Config,
        chance: &dyn Chance,
    ) -> Duration {
        self.suspects.remove(&audience);
        self.unasked.answered();
        let rounds = self.needs.get(&audience).map_or(0, |need| need.rounds);
        let wait = match trouble.verdict {
            Verdict::OurBug => config.our_bug_wait,
            _ => config.slow_probe.saturating_mul(1 << rounds.min(16)).min(config.slow_probe_cap),
        };
        let wait = chance.around(wait, 0.1);
        self.needs.insert(audience, Need { hold: Hold { trouble, until: now + wait }, rounds: rounds.saturating_add(1), dead });
        wait
    }

    /// Passing trouble. Answers how long it holds.
    pub(crate) fn pause(&mut self, trouble: Trouble, now: Instant, config: &Config) -> Duration {
        let asked_for = if let Verdict::RetryAfter(wait) = trouble.verdict { Some(wait) } else { None };
        let backoff = self.backoff.get_or_insert_with(|| Box::new(Backoff::new(config.retry_first, config.retry_cap)));
        let wait = backoff.next_delay(asked_for);
        self.pause = Some(Box::new(Hold { trouble, until: now + wait }));
        wait
    }

    /// Holds for a moment, without counting it as a failure.
    pub(crate) fn pause_briefly(&mut self, hold: Hold) {
        self.pause = Some(Box::new(hold));
    }

    /// What stood in the way may be over: one redemption finds out, before the next slow probe would.
    pub(crate) fn look_again(&mut self, now: Instant) {
        for need in self.needs.values_mut() {
            need.hold.until = need.hold.until.min(now);
        }
        self.unasked.want(now);
    }

    /// A redemption worked. If that ended a need, the other audiences are worth a try as well.
    pub(crate) fn worked(&mut self, audience: Audience, at: Now) {
        self.suspects.remove(&audience);
        self.unasked.answered();
        self.pause = None;
        self.backoff = None;
        self.met_global_fault = None;
        self.snooze = None;
        if self.needs.remove(&audience).is_some() {
            for need in self.needs.values_mut() {
                need.hold.until = need.hold.until.min(at.instant);
            }
        }
    }

    /// Puts a token into the cache, to be refreshed at 50 to 75 % of its life.
    pub(crate) fn cache(&mut self, audience: Audience, token: AccessToken, asked: bool, at: Now, chance: &dyn Chance) {
        let life = token.expires_at.since(at.wall);
        let asked_before = self.tokens.get(&audience).map(|cached| cached.asked_at);
        // A token that nobody asked for, from a keep-alive, is not kept.
        let asked_at = if asked { Some(at.instant) } else { asked_before };
        let Some(asked_at) = asked_at else { return };
        if life.is_zero() {
            self.tokens.remove(&audience);
            return;
        }
        let refresh_in = chance.between(life.mul_f64(0.5), life.mul_f64(0.75)).max(Duration::from_secs(1));
        if self.tokens.is_empty() {
            // Most tenants are asked about one API.
            self.tokens.reserve_exact(1);
        }
        self.tokens.insert(audience, Cached { token, life, refresh_at: at.instant + refresh_in, drop_at: at.instant + life, asked_at });
    }

    /// Drops this very token; a newer one stays.
    pub(crate) fn refuse(&mut self, audience: Audience, token: &AccessToken) -> bool {
        let same = |cached: &Cached| cached.token.bearer.expose_secret() == token.bearer.expose_secret();
        let refused = self.tokens.get(&audience).is_some_and(same);
        if refused {
            self.tokens.remove(&audience);
        }
        refused
    }

    /// Whether a token that is held is to be offered now.
    pub(crate) fn is_offer_due(&self, now: Instant) -> bool {
        self.unsaved.as_deref().and_then(Unsaved::offer_at).is_some_and(|at| at <= now)
    }

    /// Drops what has ended.
    pub(crate) fn tidy(&mut self, now: Instant) {
        self.tokens.retain(|_, cached| cached.drop_at > now);
    }

    /// Keeps the worker away until then.
    pub(crate) fn snooze_until(&mut self, until: Instant) {
        self.snooze = Some(until);
    }

    /// Whether this state is news for the log.
    pub(crate) fn tell(&mut self, audience: Audience, trouble: &Trouble) -> bool {
        let state = (trouble.verdict.as_str(), trouble.code.clone());
        self.told.insert(audience, state.clone()) != Some(state)
    }

    /// Whether trouble of this audience was told, so that its end is worth a line.
    pub(crate) fn tell_end(&mut self, audience: Audience) -> bool {
        self.told.remove(&audience).is_some()
    }

    /// When the worker has something to do for this tenant.
    pub(crate) fn due(&self) -> Option<Instant> {
        let work = match &self.unsaved {
            // Nothing is redeemed before it is stored.
            Some(unsaved) => unsaved.offer_at(),
            None => self.work().map(|(due, _)| due).min().map(|due| self.snooze.map_or(due, |snooze| due.max(snooze))),
        };
        let ends = self.tokens.values().map(|cached| cached.drop_at).min();
        work.into_iter().chain(ends).min()
    }

    /// Which audiences are to be redeemed now.
    pub(crate) fn due_audiences(&self, now: Instant) -> Vec<Audience> {
        if self.unsaved.is_some() || self.snooze.is_some_and(|snooze| snooze > now) {
            return Vec::new();
        }
        let mut due: Vec<_> = self.work().filter(|(due, _)| *due <= now).map(|(_, audience)| audience).collect();
        due.sort();
        due.dedup();
        due
    }

    /// Every reason to redeem without being asked, each not before what stands in its way.
    fn work(&self) -> impl Iterator<Item = (Instant, Audience)> {
        let ahead = self.tokens.iter().filter(|_| self.polled);
        let ahead = ahead.filter(|(_, cached)| cached.refresh_at < cached.asked_at + cached.life * 2);
        let ahead = ahead.map(|(audience, cached)| (cached.refresh_at, *audience));
        // A suspicion is followed up even when nobody asks again, so that a death is never silent.
        let confirm = self.suspects.iter().map(|(audience, hold)| (hold.until, *audience));
        let unasked = self.unasked.due().zip(self.audiences.first().copied());
        ahead.chain(confirm).chain(unasked).map(|(due, audience)| (self.not_before(audience).map_or(due, |until| due.max(until)), audience))
    }

    fn not_before(&self, audience: Audience) -> Option<Instant> {
        let need = self.needs.get(&audience).map(|need| need.hold.until);
        let suspect = self.suspects.get(&audience).map(|hold| hold.until);
        let pause = self.pause.as_ref().map(|hold| hold.until);
        need.max(suspect).max(pause)
    }
}

/// The two clocks, read together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For delays.
    pub(crate) instant: Instant,
    /// For comparing with stamps.
    pub(crate) wall: Ticks,
}
