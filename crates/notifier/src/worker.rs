//! The long-lived task: compares, writes what is to be told, and sends what waits. Of many replicas one does it at a time.

use std::sync::Arc;
use std::time::Duration;

use domain::{Chance, Clock, Ticks, metric, rehearsal};
use futures_util::stream::{self, StreamExt as _};
use jiff::Timestamp;
use metrics::{counter, gauge};
use sqlx::PgPool;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::client::{Client, Endpoint};
use crate::message::{EVERYBODY, Message};
use crate::store::{self, Due};

/// Messages sent in one round, and at once: with five seconds each, a round ends well before the lease.
const ROUND: i64 = 16;
const AT_ONCE: usize = 4;
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// A receiver that says that it has gone is asked again after this long.
const GONE: Duration = Duration::from_secs(60 * 60);
/// The pauses between the tries of a message: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// How the webhook behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How often is compared what is with what was told.
    pub look_every: Duration,
    /// The same state of the same tenant is told once in this time.
    pub repeat_after: Duration,
    /// A sign of life once in this time; never when zero.
    pub alive_every: Duration,
    /// A message that nobody takes for so long is given up.
    pub give_up_after: Duration,
    /// An outage of the database is told, once it is over, if it lasted this long.
    pub outage_from: Duration,
    /// The pause after the first try, which doubles.
    pub first_pause: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            look_every: Duration::from_secs(5),
            repeat_after: Duration::from_secs(600),
            alive_every: Duration::from_secs(24 * 60 * 60),
            give_up_after: Duration::from_secs(3 * 24 * 60 * 60),
            outage_from: Duration::from_secs(60),
            first_pause: FIRST_PAUSE,
        }
    }
}

/// Reads where messages go and what signs them, anew at every use; or says in a sentence why it cannot.
pub type Endpoints = Arc<dyn Fn() -> Result<Endpoint, String> + Send + Sync>;

/// The long-lived task; see [`Notifier::run`].
pub struct Notifier {
    pool: PgPool,
    settings: Settings,
    client: Client,
    endpoints: Endpoints,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    me: Uuid,
    looked_at: Option<Instant>,
    pruned_at: Option<Instant>,
    /// The database does not answer since.
    away: Option<(Instant, Ticks)>,
    failing: bool,
}

impl Notifier {
    /// Puts it together; it does nothing before [`Notifier::run`].
    pub fn new(
        pool: PgPool,
        settings: Settings,
        client: Client,
        endpoints: Endpoints,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
    ) -> Self {
        let me = Uuid::new_v4();
        Self { pool, settings, client, endpoints, clock, chance, me, looked_at: None, pruned_at: None, away: None, failing: false }
    }

    /// Works until `stop`. Trouble with the database is waited for; the registry's worker tells of it.
    ///
    /// # Errors
    /// Never.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), String> {
        // A round is dropped wherever it stands: what was sent and not noted is sent again, with its id.
        while stop.run_until_cancelled(self.round()).await.is_some() {}
        gauge!(metric::NOTIFY_FAILING_SINCE).set(0);
        // Whoever is left can tell at once; if this fails, in half a minute.
        let _ = tokio::time::timeout(Duration::from_millis(500), store::let_go(&self.pool, self.me)).await;
        Ok(())
    }

    async fn round(&mut self) {
        let pause = self.settings.look_every.min(Duration::from_secs(1));
        match self.work().await {
            Ok(true) => {}
            Ok(false) => sleep(pause).await,
            Err(error) => {
                if self.away.is_none() {
                    tracing::debug!(%error, "nothing can be told while the database is away");
                    self.away = Some((Instant::now(), self.clock.now()));
                }
                self.looked_at = None;
                sleep(pause).await;
            }
        }
    }

    /// One round; whether there is more to do at once.
    async fn work(&mut self) -> Result<bool, sqlx::Error> {
        let mine = store::hold(&self.pool, self.me).await?;
        let outage = self.away.take().filter(|(at, _)| at.elapsed() >= self.settings.outage_from);
        if !mine {
            gauge!(metric::NOTIFY_FAILING_SINCE).set(0);
            return Ok(false);
        }
        if outage.is_some() || self.looked_at.is_none_or(|at| at.elapsed() >= self.settings.look_every) {
            self.looked_at = Some(Instant::now());
            self.tell(outage.map(|(_, since)| since)).await?;
        }
        let more = self.send_due().await?;
        gauge!(metric::NOTIFY_FAILING_SINCE).set(store::failing_since(&self.pool).await?);
        if self.pruned_at.is_none_or(|at| at.elapsed() >= PRUNE_EVERY) {
            store::prune(&self.pool).await?;
            self.pruned_at = Some(Instant::now());
        }
        Ok(more)
    }

    /// Writes what is to be told, in the transaction that notes it as told.
    async fn tell(&self, away_since: Option<Ticks>) -> Result<(), sqlx::Error> {
        let Some(mut tx) = store::begin(&self.pool, self.me).await? else { return Ok(()) };
        let life = store::life(&mut tx, self.settings.alive_every).await?;
        let now = life.now.to_jiff();
        if let Some(since) = away_since {
            let since = since.to_timestamp().unwrap_or(Timestamp::UNIX_EPOCH);
            let text = format!("The database answers again. It was away from {since:.0}; what Microsoft kept meanwhile is being read.");
            let message = Message::plain("database.recovered", "well", since, now, text);
            store::put(&mut tx, EVERYBODY, "database", "well", &message).await?;
        }
        if life.due {
            let text =
                format!("tocsin is alive: {} customers are seen, {} are not, {} are not to be read.", life.seen, life.blind, life.others);
            let message = Message::plain("tocsin.alive", "alive", now, now, text);
            store::put(&mut tx, EVERYBODY, "alive", "alive", &message).await?;
            store::note_life(&mut tx).await?;
        }
        for change in store::changes(&mut tx, self.settings.repeat_after).await? {
            if let Some(message) = Message::of(&change) {
                store::put(&mut tx, change.tenant, &change.subject, &change.condition, &message).await?;
            }
            store::note(&mut tx, &change).await?;
        }
        tx.commit().await
    }

    /// Sends what is due; whether any of it was taken, so that more may be due.
    async fn send_due(&mut self) -> Result<bool, sqlx::Error> {
        let due = store::due(&self.pool, ROUND).await?;
        if due.is_empty() {
            return Ok(false);
        }
        let endpoint = (self.endpoints)();
        let sends: Vec<_> = due.into_iter().map(|due| self.send(due, endpoint.as_ref())).collect();
        let sent: Vec<_> = stream::iter(sends).buffer_unordered(AT_ONCE).collect().await;
        let mut taken = false;
        for outcome in sent {
            match outcome? {
                None => {
                    taken = true;
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("the webhook's receiver takes messages again");
                    }
                }
                Some(reason) if !std::mem::replace(&mut self.failing, true) => {
                    tracing::error!(
                        reason,
                        action = "you: see what comes back with: tocsin notify test",
                        "a message of the webhook was not taken; it is tried again"
                    );
                }
                Some(_) => {}
            }
        }
        Ok(taken)
    }

    /// Sends one message and notes what became of it: why it was not taken, or nothing.
    async fn send(&self, due: Due, endpoint: Result<&Endpoint, &String>) -> Result<Option<String>, sqlx::Error> {
        let (reason, pause) = match endpoint {
            Err(unusable) => (unusable.clone(), None),
            Ok(endpoint) => match self.client.send(endpoint, due.webhook_id, &due.payload, self.clock.as_ref()).await {
                Ok(answer) if answer.is_taken() => {
                    rehearsal::point("notify.sent").await.map_err(|rehearsed| sqlx::Error::Io(std::io::Error::other(rehearsed)))?;
                    store::delivered(&self.pool, &due).await?;
                    counter!(metric::NOTIFICATIONS, "outcome" => "delivered").increment(1);
                    return Ok(None);
                }
                Ok(answer) if answer.is_gone() => (answer.to_string(), Some(GONE)),
                Ok(answer) => (answer.to_string(), answer.retry_after),
                Err(lost) => (lost.to_string(), None),
            },
        };
        let doublings = u32::try_from(due.tries).unwrap_or(0).min(16);
        let grown = self.chance.around(self.settings.first_pause.saturating_mul(1 << doublings).min(LONGEST_PAUSE), 0.2);
        let pause = grown.max(pause.unwrap_or_default());
        let over = store::failed(&self.pool, &due, &reason, pause, self.settings.give_up_after).await?;
        counter!(metric::NOTIFICATIONS, "outcome" => "failed").increment(1);
        if over {
            counter!(metric::NOTIFICATIONS, "outcome" => "given-up").increment(1);
            tracing::error!(webhook.id = %due.webhook_id, tries = due.tries + 1, reason, "a message of the webhook is given up: nobody has taken it for too long");
        }
        Ok(Some(reason))
    }
}
