//! What the commands share that ask a daemon for work: whom it is about, waiting for the end, and saying why
//! nobody has begun.
//!
//! Commands never read Microsoft themselves. They write the request down, and the daemon that holds the tenant does
//! it, with its own token and budget; so it goes on whatever becomes of the command.

use std::time::Duration;

use domain::{Clock, Errand, Source, SystemClock, TenantId, TenantState, Ticks};
use sink::ReadError;
use sink::ask::AskError;
use sink::read::{RereadState, RunState, run_state};
use sqlx::PgPool;
use tenant_registry::{Registry, TenantSummary};
use tokio::time::Instant;

use crate::database::Database;
use crate::failure::{Exit, Failure};
use crate::moment::Moment;
use crate::output::printable;
use crate::progress::Board;

/// How often a command looks how far the work has come.
const LOOK: Duration = Duration::from_millis(300);
/// How long the database may be away while a command waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// The tenant of this name or id, unless it was removed.
pub(super) async fn tenant(pool: &PgPool, named: &str) -> Result<TenantSummary, Failure> {
    let found = Registry::without_keys(pool.clone()).find(named).await.map_err(super::tenant::failure)?;
    if found.state == TenantState::Removed {
        return Err(Failure::new(Exit::NotFound, format!("tenant {:?} was removed", found.name)));
    }
    Ok(found)
}

/// The id of the tenant of this name or id, if one was named.
pub(super) async fn tenant_id(pool: &PgPool, named: Option<&str>) -> Result<Option<TenantId>, Failure> {
    match named {
        Some(named) => Ok(Some(tenant(pool, named).await?.id)),
        None => Ok(None),
    }
}

/// What is read of a tenant, or the one source that was named.
pub(super) fn sources(tenant: &TenantSummary, only: Option<Source>) -> Vec<Source> {
    only.map_or_else(|| tenant.sources.clone(), |source| vec![source])
}

/// The stretch that was asked for. What is not over yet is left to the polling.
pub(super) fn stretch(since: Moment, until: Option<Moment>) -> (Ticks, Ticks) {
    let now = SystemClock.now();
    (since.before(now), until.map_or(now, |until| until.before(now)).min(now))
}

/// The exit code that fits.
pub(super) fn failure(error: AskError) -> Failure {
    let exit = match &error {
        AskError::NoSuchTenant(_) | AskError::NoSuchRecord(_) | AskError::NothingOpen(_) => Exit::NotFound,
        AskError::Open { .. } | AskError::Ambiguous { .. } => Exit::Conflict,
        AskError::NoStretch { .. } | AskError::NoPrefix(_) | AskError::NotRead { .. } => Exit::Usage,
        AskError::Database(error) if error.is_unreachable() => Exit::Temporary,
        AskError::Database(_) => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

/// The same for reading.
pub(super) fn unread(error: ReadError) -> Failure {
    failure(AskError::Database(error))
}

/// Work that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) tenant: TenantId,
    pub(super) source: Source,
    pub(super) errand: Errand,
    pub(super) run: i64,
}

/// How the waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All of it is over.
    Over,
    /// It took longer than somebody wanted to wait.
    TimedOut,
    /// Ctrl-C.
    Interrupted,
}

/// How far all of it has come.
pub(super) struct Waited {
    pub(super) end: End,
    /// In the order in which it was asked for; `None` for what is not on record any more: the tenant was removed.
    pub(super) states: Vec<Option<RunState>>,
}

impl Waited {
    /// Fails when it can come to nothing any more.
    pub(super) fn check(&self, what: &str) -> Result<(), Failure> {
        if self.states.iter().any(Option::is_none) {
            return Err(Failure::new(Exit::NotFound, format!("the tenant was removed, and {what} with it")));
        }
        if self.states.iter().flatten().any(|state| state.reread.state == RereadState::Cancelled) {
            return Err(Failure::new(Exit::Temporary, format!("{what} was called off; what it has stored stays")));
        }
        Ok(())
    }

    /// Whether some daemon has begun with any of it.
    pub(super) fn has_begun(&self) -> bool {
        self.states.iter().flatten().any(|state| state.reread.state != RereadState::Waiting)
    }
}

/// Waits until all of it is over.
///
/// # Errors
/// When the database stays away.
pub(super) async fn wait(pool: &PgPool, asked: &[Asked], limit: Option<Duration>, board: &mut Board) -> Result<Waited, Failure> {
    let start = Instant::now();
    let mut interrupted = Box::pin(tokio::signal::ctrl_c());
    let mut states: Vec<Option<RunState>> = asked.iter().map(|_| None).collect();
    let mut over = vec![false; asked.len()];
    let mut answered = start;
    loop {
        for (index, one) in asked.iter().enumerate().filter(|(index, _)| !over[*index]).collect::<Vec<_>>() {
            match run_state(pool, one.tenant, one.source, one.errand, one.run).await {
                Ok(state) => {
                    answered = Instant::now();
                    if let Some(state) = &state {
                        board.show(index, &state.reread);
                    }
                    over[index] = state.as_ref().is_none_or(RunState::is_over);
                    states[index] = state;
                }
                // A database that comes back finds the work going on.
                Err(error) if error.is_unreachable() && answered.elapsed() < PATIENCE => {}
                Err(error) => return Err(unread(error)),
            }
        }
        let end = if over.iter().all(|over| *over) {
            End::Over
        } else if limit.is_some_and(|limit| start.elapsed() >= limit) {
            End::TimedOut
        } else {
            let rest = limit.map_or(LOOK, |limit| limit.saturating_sub(start.elapsed()).min(LOOK));
            tokio::select! {
                _ = &mut interrupted => End::Interrupted,
                () = tokio::time::sleep(rest) => continue,
            }
        };
        return Ok(Waited { end, states });
    }
}

/// Why nobody begins with what was asked for this tenant, and what to do; `None` when nothing is known to be in the way.
pub(super) async fn hindrance(database: &Database, tenant: TenantId, source: Option<Source>) -> Result<Option<String>, Failure> {
    let registry = Registry::without_keys(database.pool.clone());
    let found = registry.find(&tenant.to_string()).await.map_err(super::tenant::failure)?;
    let (name, reason) = (printable(&found.name), found.reason.as_deref().map(printable));
    let attention = registry.attention(tenant).await.map_err(super::tenant::failure)?;
    if attention.daemons == 0 {
        return Ok(Some(format!("no daemon works on {}; start one with `tocsin serve`, and it will do it", database.described)));
    }
    let what_to_do = found.action.as_deref().map(|action| format!("; {}", printable(action))).unwrap_or_default();
    Ok(match (found.state, reason) {
        (TenantState::Paused, _) => Some(format!("{name} is paused; it begins after `tocsin tenant resume {tenant}`")),
        (TenantState::AwaitingConsent, _) => {
            Some(format!("{name} waits for its consent; it begins when its refresh token is imported with `tocsin tenant import`"))
        }
        (state, Some(reason)) => Some(format!("{name} is {state} and cannot be read: {reason}{what_to_do}")),
        (_, None) if !attention.looked_after => {
            Some(format!("no daemon has taken {name} up yet; the leases of one that died run out within 30 s"))
        }
        (_, None) => {
            let sql = "select source || ': ' || last_error from dash.feed_health
                       where directory_id = $1 and ($2::text is null or source = $2) and last_error is not null order by source limit 1";
            let error: Option<String> =
                sqlx::query_scalar(sql).bind(tenant.0).bind(source.map(Source::as_str)).fetch_optional(&database.pool).await?;
            error.map(|error| format!("{name} cannot be read now: {}", printable(&error)))
        }
    })
}
