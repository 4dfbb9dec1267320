//! The long-lived task: holds this replica's share of the tenants and says who they are.
//!
//! About once a second it looks round: it announces itself, renews what it holds when that is due,
//! claims what nobody holds up to its fair share, gives back what is more, and publishes the tenants
//! it holds whenever something about them has changed. Between two looks it takes reports of the other
//! rooms and turns them into what the operator sees.
//!
//! What is given back goes as soon as no redemption is in flight for it, which the refresher knows ([`InFlight`]): first
//! the tenant is published no more, so that nothing new begins, and then the question is asked.
//!
//! Everything waits for the database in [`Beacon::during`], which goes on beating and watches the clock
//! meanwhile: when the database stays away until our trust in the leases ends, the published set
//! becomes empty, and everybody stops working for tenants that somebody else may hold by now.
//!
//! Stop this task last. It gives its leases back, and whoever claims them must not meet a refresh of
//! ours that is still in flight.

mod beacon;
mod clocks;
mod hint;
mod news;
mod rounds;
mod sharing;

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use domain::health::StageStatus;
use domain::ports::InFlight;
use domain::retry::Backoff;
use domain::{Chance, Clock, HeldTenant, ReplicaId, Report, TenantId, TenantSet};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::registry::Registry;
use beacon::{Beacon, Tenants};
use hint::Hint;
use news::{News, OpenTroubles};
use rounds::Rounds;
use sharing::LettingGo;

/// Many changes at once, such as an import, are looked at this often at most. Tenants that were withdrawn are given back
/// so much later.
const HINT_PAUSE: Duration = Duration::from_millis(100);
const BEAT: Duration = Duration::from_millis(500);
/// Reports taken from the channel at once.
const REPORTS: usize = 512;

/// The registry's long-lived task; see [`RegistryWorker::run`].
pub struct RegistryWorker {
    config: Config,
    rounds: Rounds,
    chance: Arc<dyn Chance>,
    beacon: Beacon,
    reports: mpsc::Receiver<Report>,
    reports_open: bool,
    /// Everything we hold, what is being let go of included.
    held: BTreeMap<TenantId, Arc<HeldTenant>>,
    letting_go: LettingGo,
    /// What is published of it.
    shown: Tenants,
    in_flight: Arc<dyn InFlight>,
    news: News,
    open: OpenTroubles,
    /// The change token of the last look round.
    token: Option<i64>,
    renewed_at: Option<Instant>,
    read_at: Option<Instant>,
    counted_at: Option<Instant>,
    clocks_at: Option<Instant>,
    looked_at: Instant,
    due: Instant,
    backoff: Backoff,
}

impl RegistryWorker {
    /// Puts the task together; it does nothing before [`RegistryWorker::run`].
    ///
    /// `replica` is made anew at every start. `tenants` is where the held tenants are published,
    /// `reports` where the other rooms say what works and what does not, `status` the stage's own word;
    /// `in_flight` knows for whom a token is being redeemed.
    #[expect(clippy::too_many_arguments, reason = "one line of the wiring: each is another channel or port")]
    pub fn new(
        registry: Registry,
        config: Config,
        replica: ReplicaId,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
        in_flight: Arc<dyn InFlight>,
        tenants: watch::Sender<Arc<TenantSet>>,
        reports: mpsc::Receiver<Report>,
        status: watch::Sender<StageStatus>,
    ) -> Self {
        let now = Instant::now();
        Self {
            rounds: Rounds::new(registry, replica, config.clone()),
            config,
            chance,
            beacon: Beacon::new(clock, tenants, status, now),
            reports,
            reports_open: true,
            held: BTreeMap::new(),
            letting_go: LettingGo::default(),
            shown: Arc::default(),
            in_flight,
            news: News::default(),
            open: OpenTroubles::default(),
            token: None,
            renewed_at: None,
            read_at: None,
            counted_at: None,
            clocks_at: None,
            looked_at: now,
            due: now,
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(5)),
        }
    }

    /// Takes over whatever poll interval comes this way while it runs.
    #[must_use]
    pub fn following(mut self, poll_interval: watch::Receiver<Duration>) -> Self {
        self.rounds.follow(poll_interval);
        self
    }

    /// Works until `stop`, then writes what was reported and gives all leases back, within two seconds.
    ///
    /// # Errors
    /// When the configured times make no sense. Trouble with the database is no error: it is waited for.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), String> {
        if self.config.renew_every + self.config.trust_margin >= self.config.lease {
            return Err("a lease must last longer than the time between two renewals and the margin together".to_owned());
        }
        let hint = Hint::listen(self.rounds.pool());
        // A round is dropped wherever it stands: what is half-way in the database is rolled back.
        while stop.run_until_cancelled(self.round(&hint)).await.is_some() {}
        drop(hint);
        self.farewell().await;
        Ok(())
    }

    async fn round(&mut self, hint: &Hint) {
        let mut reports = Vec::new();
        tokio::select! {
            count = self.reports.recv_many(&mut reports, REPORTS), if self.reports_open => self.reports_open = count > 0,
            () = sleep_until(self.due) => {}
            () = hint.heard(), if self.backoff.failures() == 0 => self.due = self.due.min(self.looked_at + HINT_PAUSE),
            () = sleep(BEAT) => {}
        }
        for report in reports {
            self.news.take(report, &self.held, &self.open);
        }
        self.beacon.beat();
        if self.beacon.has_slept() {
            (self.renewed_at, self.due) = (None, Instant::now());
        }
        self.beacon.check_trust();

        let mut outcome = Ok(false);
        if Instant::now() >= self.due {
            outcome = self.look_round().await;
            let next = match &outcome {
                // Somebody waits for these.
                Ok(true) => HINT_PAUSE.min(self.config.tick),
                Ok(false) => self.chance.around(self.config.tick, 0.1),
                Err(_) => self.backoff.next_delay(None),
            };
            self.looked_at = Instant::now();
            self.due = self.looked_at + next;
        }
        if outcome.is_ok() && self.backoff.failures() == 0 && !self.news.is_empty() {
            outcome = self.record().await.map(|()| false);
        }
        if let Err(error) = outcome {
            self.database_failed(&error);
        }
    }

    /// One look round. Each step is a transaction of its own, and each can be repeated. Says whether tenants were withdrawn
    /// that wait to be given back.
    async fn look_round(&mut self) -> Result<bool, sqlx::Error> {
        let start = Instant::now();
        // Whatever a look that failed half-way had found out is found out anew.
        let mut changed = self.is_due(self.read_at, self.config.full_read_every) || self.backoff.failures() > 0;
        if self.is_due(self.renewed_at, self.config.renew_every) {
            let renewed = self.beacon.during(self.config.database_timeout, self.rounds.renew()).await?;
            self.renewed_at = Some(start);
            // Counted from before the statement was sent: the lease itself can only end later.
            self.beacon.trust_until(start + self.config.lease - self.config.trust_margin);
            changed |= renewed != self.held.len() as u64;
        }

        let view = self.beacon.during(self.config.database_timeout, self.rounds.look()).await?;
        changed |= self.token != Some(view.survey.token);
        let replicas = view.replicas();
        self.beacon.replicas(replicas);
        let share = sharing::fair_share(view.survey.tenants, replicas);
        if self.held.len() < share && (self.held.len() as i64) < view.survey.tenants {
            let room = share - self.held.len();
            changed |= self.beacon.during(self.config.database_timeout, self.rounds.claim(room)).await? > 0;
        }
        // Alone, there is nobody to give anything to.
        let excess = if view.live_others == 0 { 0 } else { self.held.len().saturating_sub(share) };
        self.letting_go.aim(self.held.keys().copied(), excess, start);
        let ripe = self.letting_go.ripe(start, self.config.let_go_within, |tenant| self.in_flight.redeeming(tenant));
        if !ripe.is_empty() {
            self.beacon.during(self.config.database_timeout, self.rounds.release(&ripe)).await?;
            tracing::info!(count = ripe.len(), "gave tenants back for other replicas to take");
            changed = true;
        }

        if changed || self.is_due(self.counted_at, self.config.count_every) {
            let read = self.beacon.during(self.config.database_timeout, self.rounds.read(changed)).await?;
            self.open = read.open;
            self.counted_at = Some(start);
            if let Some(held) = read.held {
                let known = mem::take(&mut self.held);
                // What did not change stays the same allocation, for whoever compares by pointer.
                self.held = held.into_iter().map(|tenant| (tenant.id, keep(known.get(&tenant.id), tenant))).collect();
                self.letting_go.keep_only(&self.held);
                self.read_at = Some(start);
                self.token = Some(view.survey.token);
            }
        }
        if self.is_due(self.clocks_at, self.config.clocks_every) {
            self.beacon.during(self.config.database_timeout, self.rounds.look_at_clocks()).await?.tell();
            self.clocks_at = Some(start);
        }
        // Where nothing was read, it is another set only by whom we let go of, or have taken back.
        if changed || !self.letting_go.is_empty() || self.shown.len() != self.held.len() {
            let shown = self.held.iter().filter(|(id, _)| !self.letting_go.contains(id)).map(|(id, tenant)| (*id, Arc::clone(tenant)));
            let shown: BTreeMap<_, _> = shown.collect();
            if *self.shown != shown {
                self.shown = Arc::new(shown);
            }
        }
        self.beacon.publish(&self.shown);
        let withdrawn = self.letting_go.withdrawn();
        self.beacon.well();
        if self.backoff.failures() > 0 {
            tracing::info!("the database can be reached again");
            self.backoff.reset();
        }
        Ok(withdrawn)
    }

    async fn record(&mut self) -> Result<(), sqlx::Error> {
        let written = self.beacon.during(self.config.database_timeout, self.rounds.write(&self.news)).await?;
        self.open.apply(&written, &self.news);
        self.news = News::default();
        if written.changes_states() {
            self.due = Instant::now();
        }
        Ok(())
    }

    fn is_due(&self, last: Option<Instant>, every: Duration) -> bool {
        last.is_none_or(|last| last.elapsed() >= every)
    }

    fn database_failed(&mut self, error: &sqlx::Error) {
        if self.backoff.failures() <= 1 {
            tracing::warn!(%error, "the database cannot be reached; trying again");
        }
        // A failed write of reports has not drawn a delay yet.
        if self.backoff.failures() == 0 {
            self.due = Instant::now() + self.backoff.next_delay(None);
        }
        self.beacon.faulty(format!("the database cannot be reached: {error}"));
    }

    /// Leaves nothing to wait for: whoever is left can take our tenants at once.
    async fn farewell(mut self) {
        self.beacon.publish(&Arc::default());
        self.reports.close();
        while let Ok(report) = self.reports.try_recv() {
            self.news.take(report, &self.held, &self.open);
        }
        if !self.news.is_empty() {
            match timeout(Duration::from_millis(700), self.rounds.write(&self.news)).await {
                Ok(Ok(written)) => self.open.apply(&written, &self.news),
                Ok(Err(error)) => tracing::warn!(%error, "the last reports could not be written"),
                Err(_) => tracing::warn!("the last reports could not be written in time"),
            }
        }
        match timeout(Duration::from_millis(1200), self.rounds.leave()).await {
            Ok(Ok(count)) => tracing::info!(count, "gave all tenants back"),
            Ok(Err(error)) => tracing::warn!(%error, "the leases could not be given back; they will expire"),
            Err(_) => tracing::warn!("the leases could not be given back in time; they will expire"),
        }
    }
}

fn keep(known: Option<&Arc<HeldTenant>>, read: HeldTenant) -> Arc<HeldTenant> {
    match known {
        Some(known) if **known == read => Arc::clone(known),
        _ => Arc::new(read),
    }
}
