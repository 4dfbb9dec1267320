//! Invitations: a link that a customer opens to connect his tenant, and the sign-ins begun from it.
//!
//! A link is good for one connection, until it expires; a new one ends the one before. From it any number of sign-ins
//! may be begun, since people close windows, but each is answered once, in time, and only in the browser that began it
//! (I17). What comes out of a sign-in is sealed as a *candidate* beside whatever the tenant has; it takes its place
//! only after it has been proved ([`crate::candidates`]), so a failed attempt never harms a live connection (I18).
//!
//! Every refusal is a row of the audit, under the tenant it names if that is one of ours. What the browser is told says
//! nothing about the reason.

mod flood;
mod ticket;

use std::time::Duration;

use domain::{AppName, CloudName, LinkKind, Source, TenantId, TenantState};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use crate::admin::AdminError;
use crate::audit;
use crate::registry::Registry;
use crate::store::links::{NewLink, NewSignIn, StoredLink};
use crate::store::tenants::StoredTenant;
use crate::store::{self, links, tenants};

pub(crate) use ticket::Purpose;
pub use ticket::Ticket;

/// Time between leaving for Microsoft and coming back.
const SIGN_IN_LIFE: Duration = Duration::from_secs(10 * 60);
/// Sign-ins of one link under way at once. People need two or three; more is somebody's machine.
const MOST_SIGN_INS: i64 = 20;

/// A fresh link.
#[derive(Debug)]
pub struct Invitation {
    /// Which one.
    pub link: Uuid,
    /// What goes into its address. It exists only here: the database has its hash.
    pub ticket: Ticket,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Whom a link invites, and to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invited {
    /// The tenant.
    pub tenant: TenantId,
    /// The link.
    pub link: Uuid,
    /// To what.
    pub kind: LinkKind,
    /// Whether a live connection may be replaced.
    pub replaces: bool,
    /// What the operator calls the tenant.
    pub name: String,
    /// Where it lives.
    pub cloud: CloudName,
    /// The app registration that asks.
    pub app: AppName,
    /// What will be read.
    pub sources: Vec<Source>,
    /// When the link ends.
    pub expires_at: Timestamp,
}

/// A sign-in on its way to Microsoft.
#[derive(Debug)]
pub struct SignInBegun {
    /// Comes back with the answer.
    pub state: Ticket,
    /// Goes into the cookie, and nowhere else.
    pub browser: Ticket,
}

/// An answer that belongs to a sign-in of ours.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Who is connected by it.
    pub invited: Invited,
    /// The sign-in that was answered.
    pub sign_in: Uuid,
    /// The address that the answer had to come to.
    pub redirect_uri: String,
}

/// One line of the checklist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its word, such as `refresh-works`.
    pub step: String,
    /// Passed, failed, or told as a warning that stops nothing.
    pub result: StepResult,
    /// What was found, and what to do about it.
    pub words: String,
    /// What the page shows in place of the words, when those are the operator's business.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<String>,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepResult {
    /// As it should be.
    Ok,
    /// Worth knowing; stops nothing.
    Warn,
    /// The connection is not made.
    Fail,
}

/// How far an invitation has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinkStatus {
    /// Which one.
    pub link: Uuid,
    /// To what it invites.
    pub kind: LinkKind,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Whether it has ended by time.
    pub expired: bool,
    /// When somebody first looked at it.
    pub opened_at: Option<Timestamp>,
    /// For how long a sign-in has been being proved.
    #[serde(skip)]
    pub proving_for: Option<Duration>,
    /// `linked`, `cancelled` or `superseded`, once it has ended.
    pub outcome: Option<String>,
    /// The checklist of the last sign-in.
    pub steps: Vec<Step>,
    /// Where the tenant stands.
    #[serde(skip)]
    pub tenant_state: TenantState,
}

/// Why a link or an answer is not taken. For the log and the audit: a browser is told none of it.
#[derive(Debug, thiserror::Error)]
pub enum LinkRefused {
    /// It names no link of ours, or its secret is wrong.
    #[error("there is no such link")]
    UnknownLink,
    /// The link has ended.
    #[error("the link has ended: {0}")]
    Ended(&'static str),
    /// Too many sign-ins of this link are under way.
    #[error("too many sign-ins of this link are under way")]
    TooMany,
    /// The state names no sign-in of ours, or its secret is wrong.
    #[error("the state belongs to no sign-in")]
    UnknownState,
    /// There is no cookie, or it is of another sign-in or browser.
    #[error("the answer came from another browser than the one that began the sign-in")]
    OtherBrowser,
    /// The sign-in has been answered.
    #[error("the sign-in has been answered already")]
    Answered,
    /// More than ten minutes have passed.
    #[error("the answer came too late")]
    TooLate,
    /// What cannot be audited does not happen.
    #[error(transparent)]
    Unaudited(#[from] crate::audit::Unaudited),
    /// The operating system gives no random bytes.
    #[error(transparent)]
    Vault(#[from] crate::vault::VaultError),
    /// The database refused.
    #[error("the database refused: {0}")]
    Database(#[from] sqlx::Error),
}

impl Registry {
    /// Makes a link for a tenant that is there. An open link of the same tenant ends.
    ///
    /// # Errors
    /// [`AdminError::Conflict`] when the tenant is connected and `replaces` is not set, or is being removed.
    pub async fn invite(&self, tenant: TenantId, kind: LinkKind, replaces: bool, life: Duration) -> Result<Invitation, AdminError> {
        let (mut tx, stored) = self.lock(tenant).await?;
        let state = tenants::state_shown(&mut tx, tenant).await?;
        if let Some(refusal) = not_to_be_invited(&stored, state, replaces) {
            return Err(AdminError::Conflict(refusal));
        }
        links::end_open(&mut tx, tenant, "superseded").await?;
        let link = Uuid::new_v4();
        let ticket = Ticket::random(tenant, link)?;
        let new = NewLink { link, kind, replaces, secret_hash: &ticket.hash(Purpose::Link), life };
        let expires_at = links::insert(&mut tx, tenant, &new).await?;
        let details = json!({ "link": link, "kind": kind, "replaces": replaces, "expires_at": expires_at });
        audit::append(&mut tx, tenant, self.actor(), "link.made", &details).await?;
        tx.commit().await?;
        Ok(Invitation { link, ticket, expires_at })
    }

    /// Ends the open link of a tenant; `false` when there was none.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn cancel_link(&self, tenant: TenantId) -> Result<bool, AdminError> {
        let (mut tx, _) = self.lock(tenant).await?;
        let ended = links::end_open(&mut tx, tenant, "cancelled").await?;
        if ended {
            audit::append(&mut tx, tenant, self.actor(), "link.cancelled", &json!({})).await?;
        }
        tx.commit().await?;
        Ok(ended)
    }

    /// Looks at a link without using it: mail scanners do that, too.
    ///
    /// # Errors
    /// [`LinkRefused`].
    pub async fn look_at_link(&self, ticket: &Ticket) -> Result<Invited, LinkRefused> {
        let stored = links::find(&self.pool, ticket.tenant(), ticket.id()).await?;
        let invited = judged(stored, ticket)?;
        links::note_opened(&self.pool, invited.tenant, invited.link).await?;
        Ok(invited)
    }

    /// Begins a sign-in from a link. The answer has to come to `redirect_uri`.
    ///
    /// # Errors
    /// [`LinkRefused`].
    pub async fn begin_sign_in(&self, ticket: &Ticket, redirect_uri: &str) -> Result<(Invited, SignInBegun), LinkRefused> {
        let mut tx = store::begin(&self.pool).await?;
        let invited = judged(links::find(&mut *tx, ticket.tenant(), ticket.id()).await?, ticket)?;
        let sign_in = Uuid::new_v4();
        let (state, browser) = (Ticket::random(invited.tenant, sign_in)?, Ticket::random(invited.tenant, sign_in)?);
        let new = NewSignIn {
            sign_in,
            link: invited.link,
            state_hash: &state.hash(Purpose::State),
            browser_hash: &browser.hash(Purpose::Browser),
            redirect_uri,
            life: SIGN_IN_LIFE,
        };
        if !links::begin_sign_in(&mut tx, invited.tenant, &new, MOST_SIGN_INS).await? {
            return Err(LinkRefused::TooMany);
        }
        audit::append(&mut tx, invited.tenant, self.actor(), "sign-in.begun", &json!({ "link": invited.link, "sign_in": sign_in })).await?;
        tx.commit().await?;
        Ok((invited, SignInBegun { state, browser }))
    }

    /// Takes the answer to a sign-in: once, in time, in the browser that began it. Afterwards the sign-in is used up,
    /// whatever becomes of the answer.
    ///
    /// # Errors
    /// [`LinkRefused`]. A wrong browser uses nothing up, or a stranger could spoil sign-ins.
    pub async fn accept_answer(&self, state: &Ticket, browser: Option<&Ticket>) -> Result<Accepted, LinkRefused> {
        let mut tx = store::begin(&self.pool).await?;
        let tenant = state.tenant();
        let sign_in = links::lock_sign_in(&mut tx, tenant, state.id()).await?.ok_or(LinkRefused::UnknownState)?;
        if !same(&sign_in.state_hash, &state.hash(Purpose::State)) {
            return Err(LinkRefused::UnknownState);
        }
        if !browser.is_some_and(|browser| same(&sign_in.browser_hash, &browser.hash(Purpose::Browser))) {
            return Err(LinkRefused::OtherBrowser);
        }
        if sign_in.used {
            return Err(LinkRefused::Answered);
        }
        if sign_in.expired {
            return Err(LinkRefused::TooLate);
        }
        let link = links::find(&mut *tx, tenant, sign_in.link).await?.ok_or(LinkRefused::UnknownLink)?;
        let invited = still_open(link)?;
        links::use_sign_in(&mut tx, tenant, state.id(), sign_in.link).await?;
        audit::append(&mut tx, tenant, self.actor(), "sign-in.answered", &json!({ "link": sign_in.link, "sign_in": state.id() })).await?;
        tx.commit().await?;
        Ok(Accepted { invited, sign_in: state.id(), redirect_uri: sign_in.redirect_uri })
    }

    /// Writes a refusal into the audit: of the tenant that it names, if that is one of ours, else of the installation.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn audit_refusal(&self, named: Option<TenantId>, action: &str, reason: &str) -> Result<(), LinkRefused> {
        let mut tx = store::begin(&self.pool).await?;
        let known = match named {
            Some(tenant) => tenants::by_id(&mut *tx, tenant.0).await?.map(|found| found.id),
            None => None,
        };
        let chain = known.unwrap_or(audit::INSTALLATION);
        audit::append(&mut tx, chain, self.actor(), action, &json!({ "reason": reason })).await?;
        Ok(tx.commit().await?)
    }

    /// The link that the browser with this key signs in from.
    ///
    /// # Errors
    /// [`LinkRefused::OtherBrowser`] when it has begun no sign-in.
    pub async fn link_of_browser(&self, browser: &Ticket) -> Result<(TenantId, Uuid), LinkRefused> {
        let found = links::of_browser(&self.pool, browser.tenant(), browser.id(), &browser.hash(Purpose::Browser)).await?;
        found.map(|link| (browser.tenant(), link)).ok_or(LinkRefused::OtherBrowser)
    }

    /// How far an invitation has come.
    ///
    /// # Errors
    /// When the database refuses, or there is no such link.
    pub async fn link_status(&self, tenant: TenantId, link: Uuid) -> Result<LinkStatus, AdminError> {
        let found = links::status(&self.pool, tenant, link).await?;
        found.ok_or_else(|| AdminError::NotFound { asked: link.to_string(), hint: None })
    }

    /// How far the newest invitation of a tenant has come, if it ever had one.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn newest_link(&self, tenant: TenantId) -> Result<Option<LinkStatus>, AdminError> {
        Ok(links::newest(&self.pool, tenant).await?)
    }

    /// Shows how far the proof of a sign-in has come, unless a later one is shown, or one that connected. `done` says
    /// that it has ended without a connection.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn show_steps(&self, accepted: &Accepted, steps: &[Step], done: bool) -> Result<(), sqlx::Error> {
        links::put_steps(&self.pool, accepted, steps, done).await
    }
}

/// Whether these hashes are equal; takes the same time either way.
fn same(stored: &[u8], given: &[u8; 32]) -> bool {
    stored.ct_eq(given.as_slice()).into()
}

fn judged(stored: Option<StoredLink>, ticket: &Ticket) -> Result<Invited, LinkRefused> {
    let stored = stored.filter(|stored| same(&stored.secret_hash, &ticket.hash(Purpose::Link))).ok_or(LinkRefused::UnknownLink)?;
    still_open(stored)
}

fn still_open(stored: StoredLink) -> Result<Invited, LinkRefused> {
    match (stored.ended.as_deref(), stored.tenant_state) {
        (Some("linked"), _) => Err(LinkRefused::Ended("it has been used")),
        (Some("superseded"), _) => Err(LinkRefused::Ended("a newer link took its place")),
        (Some(_), _) => Err(LinkRefused::Ended("it was called back")),
        (None, _) if stored.expired => Err(LinkRefused::Ended("it has expired")),
        (None, TenantState::Removed | TenantState::Offboarding) => Err(LinkRefused::Ended("the tenant was removed")),
        (None, _) => Ok(stored.invited),
    }
}

/// Whether a tenant has a connection that works, as far as is known.
pub(crate) fn is_live(state: TenantState) -> bool {
    matches!(state, TenantState::Active | TenantState::Paused)
}

fn not_to_be_invited(stored: &StoredTenant, state: TenantState, replaces: bool) -> Option<String> {
    let name = &stored.facts.name;
    match state {
        TenantState::Removed | TenantState::Offboarding => Some(format!("tenant {name:?} was removed: add it again to invite it")),
        state if is_live(state) && !replaces => {
            Some(format!("tenant {name:?} is connected ({state}): type --relink to replace its connection once the new one is proved"))
        }
        _ => None,
    }
}
