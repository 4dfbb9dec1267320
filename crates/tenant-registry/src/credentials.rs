//! Refresh tokens on their way out to be redeemed, and rotated ones on their way in.
//!
//! A rotated token is committed before the access token that came with it is used (I30), under the
//! lease epoch and the version that it replaces: a replica that lost the tenant, or a token that was
//! imported meanwhile, makes the write void instead of wrong.

use std::time::Duration;

use domain::{Fence, RefreshToken, TenantId, Ticks};
use secrecy::ExposeSecret as _;
use subtle::ConstantTimeEq as _;

use crate::registry::{NoKeys, Registry};
use crate::store::secrets::{self, SealedToken};
use crate::store::{self, leases, tenants};
use crate::vault::{Place, VaultError};

/// No answer of the database is waited for longer: a network that swallows everything would otherwise keep a
/// rotated token from being offered again.
const PATIENCE: Duration = Duration::from_secs(10);
/// A refresh token that is not used dies after this.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// A refresh token in the clear, for the length of one call.
#[derive(Debug)]
pub struct Opened {
    /// To be redeemed.
    pub token: RefreshToken,
    /// To be named when its successor is committed.
    pub version: i64,
}

/// Why a stored token cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenTokenError {
    /// It was issued to another app registration, and works with that one only.
    #[error(
        "the stored refresh token belongs to app registration {stored}, but the configuration says {configured}: \
         restore the client_id, or import a refresh token of the new app"
    )]
    OtherApp {
        /// The client id that the token was imported for.
        stored: String,
        /// The client id of the tenant's app now.
        configured: String,
    },
    /// It does not open.
    #[error("the stored refresh token does not open: {0}")]
    Vault(#[from] VaultError),
    /// No key ring is loaded.
    #[error(transparent)]
    NoKeys(#[from] NoKeys),
    /// The database cannot be asked.
    #[error("the stored refresh token cannot be read: {0}")]
    Database(#[from] sqlx::Error),
}

/// Why news of a token was not written.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// Another replica holds the tenant now, or it was removed.
    #[error("the lease on this tenant is lost")]
    LeaseLost,
    /// Another version stands there: the token was imported anew, or rotated by somebody else.
    #[error("the stored refresh token was replaced meanwhile")]
    Moved,
    /// It cannot be sealed.
    #[error("the rotated refresh token cannot be sealed: {0}")]
    Vault(#[from] VaultError),
    /// No key ring is loaded.
    #[error(transparent)]
    NoKeys(#[from] NoKeys),
    /// The database refused, or the answer to COMMIT was lost: whether it was written is not known.
    /// Committing the same token again tells, and is harmless.
    #[error("the rotated refresh token cannot be stored: {0}")]
    Database(#[from] sqlx::Error),
}

impl Registry {
    /// The tenant's current refresh token; `None` when it has none.
    ///
    /// # Errors
    /// When it belongs to another app registration, does not open, or the database cannot be asked.
    pub async fn open_refresh_token(&self, tenant: TenantId, client_id: &str) -> Result<Option<Opened>, OpenTokenError> {
        let Some(stored) = in_time(self.sealed_token(tenant, client_id)).await? else { return Ok(None) };
        let key = self.vault()?.unwrap(tenant, &stored.wrapped).await?;
        let token = key.open(&Place::of_refresh_token(tenant, client_id, stored.version), &stored.sealed)?;
        Ok(Some(Opened { token, version: stored.version }))
    }

    /// The token before the current one, to fall back on while the current one has never worked. Its
    /// successor is committed with the version of the *current* one.
    ///
    /// # Errors
    /// As [`Registry::open_refresh_token`].
    pub async fn open_previous(&self, tenant: TenantId, client_id: &str) -> Result<Option<Opened>, OpenTokenError> {
        let Some(stored) = in_time(self.sealed_token(tenant, client_id)).await? else { return Ok(None) };
        let (Some(version), Some(sealed)) = (stored.previous_version, &stored.previous) else { return Ok(None) };
        let key = self.vault()?.unwrap(tenant, &stored.wrapped).await?;
        let token = key.open(&Place::of_refresh_token(tenant, client_id, version), sealed)?;
        Ok(Some(Opened { token, version }))
    }

    /// Makes a rotated token durable in place of version `version`, which is kept as the previous one.
    /// Returns the new version. Doing it twice with one token is the same as once.
    ///
    /// # Errors
    /// [`RotateError::LeaseLost`] or [`RotateError::Moved`] when the write would be wrong; nothing is
    /// written then.
    pub async fn commit_rotation(&self, fence: Fence, version: i64, client_id: &str, token: &RefreshToken) -> Result<i64, RotateError> {
        in_time(self.try_commit_rotation(fence, version, client_id, token)).await
    }

    async fn try_commit_rotation(&self, fence: Fence, version: i64, client_id: &str, token: &RefreshToken) -> Result<i64, RotateError> {
        let vault = self.vault()?;
        let next = version + 1;
        let place = Place::of_refresh_token(fence.tenant, client_id, next);
        let mut tx = store::begin(&self.pool).await?;
        if leases::hold(&mut tx, &[fence]).await?.is_empty() {
            return Err(RotateError::LeaseLost);
        }
        let Some(stored) = secrets::refresh_token(&mut *tx, fence.tenant).await? else { return Err(RotateError::Moved) };
        let key = vault.unwrap(fence.tenant, &stored.wrapped).await?;
        if stored.version == next && stored.client_id == client_id {
            // The answer to an earlier COMMIT may have been lost: then our token stands there already.
            let standing = key.open(&place, &stored.sealed)?;
            let same: bool = standing.expose_secret().as_bytes().ct_eq(token.expose_secret().as_bytes()).into();
            return if same { Ok(next) } else { Err(RotateError::Moved) };
        }
        let sealed = key.seal(&place, token)?;
        if !secrets::rotate(&mut tx, fence.tenant, version, client_id, &sealed).await? {
            return Err(RotateError::Moved);
        }
        tx.commit().await?;
        Ok(next)
    }

    /// Notes that the token of `version` was redeemed just now: it lives for another 90 days, and if it
    /// is the current one, the previous one is not needed any more.
    ///
    /// # Errors
    /// [`RotateError::LeaseLost`] when another replica holds the tenant, or the database refuses.
    pub async fn token_worked(&self, fence: Fence, version: i64, now: Ticks) -> Result<(), RotateError> {
        in_time(self.note_refresh(fence, Some(version), now)).await
    }

    /// Notes that the app's own credential opened the tenant just now; no refresh token is involved.
    ///
    /// # Errors
    /// As [`Registry::token_worked`].
    pub async fn app_credential_worked(&self, fence: Fence, now: Ticks) -> Result<(), RotateError> {
        in_time(self.note_refresh(fence, None, now)).await
    }

    async fn note_refresh(&self, fence: Fence, version: Option<i64>, now: Ticks) -> Result<(), RotateError> {
        let expires = version.and_then(|_| now.plus(TOKEN_LIFE).to_timestamp());
        let mut tx = store::begin(&self.pool).await?;
        if leases::hold(&mut tx, &[fence]).await?.is_empty() {
            return Err(RotateError::LeaseLost);
        }
        // Beyond what a timestamp can hold only a broken clock says, and that is not worth an error.
        if let Some(now) = now.to_timestamp() {
            tenants::note_refresh(&mut tx, fence.tenant, now, expires).await?;
        }
        if let Some(version) = version {
            secrets::drop_previous(&mut tx, fence.tenant, version).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn sealed_token(&self, tenant: TenantId, client_id: &str) -> Result<Option<SealedToken>, OpenTokenError> {
        self.vault()?;
        // A transaction for its time limits only.
        let mut tx = store::begin(&self.pool).await?;
        let stored = secrets::refresh_token(&mut *tx, tenant).await?;
        tx.commit().await?;
        match stored {
            Some(stored) if stored.client_id != client_id => {
                Err(OpenTokenError::OtherApp { stored: stored.client_id, configured: client_id.to_owned() })
            }
            stored => Ok(stored),
        }
    }
}

/// Waits for the database, but not for ever.
async fn in_time<T, E: From<sqlx::Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => {
            let words = format!("it did not answer within {} s", PATIENCE.as_secs());
            Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, words)).into())
        }
    }
}
