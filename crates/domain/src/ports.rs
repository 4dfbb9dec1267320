//! What siblings ask of each other without naming each other.

use async_trait::async_trait;
use bytes::Bytes;

use crate::cursor::FeedState;
use crate::ids::{AlertId, AppName, TenantId};
use crate::messages::HeldTenant;
use crate::reread::{Errand, Reread};
use crate::stamp::Ticks;
use crate::tenant::{Audience, Source};
use crate::token::{AccessToken, AppCredential};
use crate::verdict::Trouble;

/// Gives out access tokens. Implemented by `token-refresher`, called by `alert-poller`.
#[async_trait]
pub trait AccessTokens: Send + Sync + 'static {
    /// A live token for the tenant, from the cache or freshly redeemed.
    ///
    /// # Errors
    /// [`NoToken`] when there is none to be had now; it says when to ask again.
    async fn access_token(&self, tenant: &HeldTenant, audience: Audience) -> Result<AccessToken, NoToken>;

    /// The API refused this token with 401: drop it from the cache, if it is still the cached one.
    async fn refused(&self, tenant: TenantId, audience: Audience, token: &AccessToken);
}

/// No access token can be had now. The trouble has been reported already by whoever says this.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no access token: {}", .trouble.reason)]
pub struct NoToken {
    /// Why.
    pub trouble: Trouble,
    /// There is no use in asking before this.
    pub retry_at: Ticks,
}

/// Knows for which tenants a refresh token is being redeemed. Implemented by `token-refresher`, asked by
/// `tenant-registry` before it gives a tenant to another replica.
pub trait InFlight: Send + Sync + 'static {
    /// Whether the sign-in service has been asked with this tenant's refresh token and what comes of it is not stored yet.
    ///
    /// Whoever takes a tenant out of the published [`TenantSet`](crate::TenantSet) and *then* hears "no" here can be sure
    /// that none is begun any more.
    fn redeeming(&self, tenant: TenantId) -> bool;
}

/// Reads how far feeds have come. Implemented by `sink`, called by `alert-poller`.
#[async_trait]
pub trait Cursors: Send + Sync + 'static {
    /// The stored state, or the start value for a feed never seen.
    ///
    /// # Errors
    /// When the database cannot be asked; the caller tries again later.
    async fn feed_state(&self, tenant: TenantId, source: Source) -> Result<FeedState, StoreUnavailable>;

    /// The latest re-read of each errand of a feed, finished ones included: they say when it was done last.
    ///
    /// # Errors
    /// The same.
    async fn rereads(&self, tenant: TenantId, source: Source) -> Result<Vec<Reread>, StoreUnavailable>;

    /// Open re-reads that an operator has asked for, whoever holds the tenant: there are few, and to name ten thousand held
    /// tenants with every question would cost more than to pass over what is not held.
    ///
    /// # Errors
    /// The same.
    async fn asked_for(&self) -> Result<Vec<(TenantId, Source, Errand, i64)>, StoreUnavailable>;

    /// Alerts or incidents that this source has shown, whose latest state, from whichever source, has a last-update stamp
    /// of `from` or later. The source has to show those again in `[from, to)` that are [`StoredId::due`].
    ///
    /// # Errors
    /// The same.
    async fn stored_between(&self, tenant: TenantId, source: Source, from: Ticks, to: Ticks) -> Result<Vec<StoredId>, StoreUnavailable>;

    /// Bodies in quarantine that an operator wants tried again, at most `limit`.
    ///
    /// # Errors
    /// The same.
    async fn to_replay(&self, tenant: TenantId, source: Source, limit: u32) -> Result<Vec<Bytes>, StoreUnavailable>;
}

/// The database cannot be asked now.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the database cannot be reached: {0}")]
pub struct StoreUnavailable(pub String);

/// Reads the credential of an app registration from where it lives. Implemented by the daemon, called by
/// `token-refresher` at every use, so that a rotated file is picked up without a restart.
pub trait AppCredentials: Send + Sync + 'static {
    /// The credential of this app; `None` for a public client, which has none.
    ///
    /// # Errors
    /// When it cannot be read.
    fn credential(&self, app: &AppName) -> Result<Option<AppCredential>, SecretUnreadable>;
}

/// An alert or incident that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredId {
    /// As the API gave it.
    pub id: AlertId,
    /// Its latest state came from the source in question, with a stamp in the stretch in question.
    pub due: bool,
}

/// The credential of an app registration cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SecretUnreadable {
    /// In words, naming the file.
    pub reason: String,
    /// The machine is short of something now, open files for example: nothing is wrong with the secret.
    pub passing: bool,
}
