//! What the refresher asks of the place where refresh tokens are sealed.
//!
//! The trait is as narrow as the promise: open, replace under a fence, and note that it worked. There
//! is no call to delete, because no answer of a sign-in service is reason enough to.

use async_trait::async_trait;
use domain::{Audience, Fence, RefreshToken, Source, TenantId, Ticks};
use tenant_registry::{OpenTokenError, Registry};

/// Opens and replaces sealed refresh tokens. Implemented by [`tenant_registry::Registry`].
#[async_trait]
pub trait TokenVault: Send + Sync + 'static {
    /// The tenant's refresh token, if it has one for this app.
    ///
    /// # Errors
    /// [`VaultError`].
    async fn open(&self, tenant: TenantId, client_id: &str) -> Result<Option<OpenedToken>, VaultError>;

    /// The token before the current one, kept until the current one has worked once.
    ///
    /// # Errors
    /// [`VaultError`].
    async fn open_previous(&self, tenant: TenantId, client_id: &str) -> Result<Option<RefreshToken>, VaultError>;

    /// Makes `token` the current one, durably, if the lease still is ours and the current one still is
    /// `version`. Answers the new version. What was current is kept as the previous one. Doing it twice
    /// with one token is the same as doing it once.
    ///
    /// # Errors
    /// [`RotateError`]; after [`RotateError::Database`] the token may or may not be stored, and the same
    /// call made again tells.
    async fn commit_rotation(&self, fence: Fence, version: i64, client_id: &str, token: &RefreshToken) -> Result<i64, RotateError>;

    /// Notes that the token of this version was redeemed at this time: it lives for another 90 days,
    /// and if it still is the current one, the one before it can go.
    ///
    /// # Errors
    /// [`RotateError`].
    async fn worked(&self, fence: Fence, version: i64, now: Ticks) -> Result<(), RotateError>;

    /// Notes that the tenant was reached at this time with the app's own credential.
    ///
    /// # Errors
    /// [`RotateError`].
    async fn app_worked(&self, fence: Fence, now: Ticks) -> Result<(), RotateError>;

    /// Notes the permissions that an access token for these sources has. Nothing waits for it: what cannot be noted
    /// now is noted with the next token, so a place that keeps no such notes does nothing.
    async fn granted(&self, _fence: Fence, _sources: &[Source], _audience: Audience, _granted: &[String]) {}
}

/// A refresh token in the clear, for the length of one call.
#[derive(Clone, Debug)]
pub struct OpenedToken {
    /// The token.
    pub token: RefreshToken,
    /// Which one it is; grows with every rotation and import.
    pub version: i64,
}

/// A sealed token cannot be had now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The database cannot be asked; passes by itself.
    #[error("the database cannot be reached: {0}")]
    Database(String),
    /// The token is there and does not open: it belongs to another app or key ring, or was tampered with.
    #[error("{0}")]
    Unreadable(String),
}

/// A token was not replaced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    /// Another replica holds the tenant now.
    #[error("the lease on this tenant is lost")]
    LeaseLost,
    /// Somebody else has replaced the token since it was opened.
    #[error("the stored refresh token was replaced by somebody else")]
    Moved,
    /// It cannot be sealed: the key ring does not open the tenant's data key.
    #[error("{0}")]
    Unsealable(String),
    /// The database cannot be asked; the outcome is unknown.
    #[error("the database cannot be reached: {0}")]
    Database(String),
}

#[async_trait]
impl TokenVault for Registry {
    async fn open(&self, tenant: TenantId, client_id: &str) -> Result<Option<OpenedToken>, VaultError> {
        let opened = self.open_refresh_token(tenant, client_id).await?;
        Ok(opened.map(|opened| OpenedToken { token: opened.token, version: opened.version }))
    }

    async fn open_previous(&self, tenant: TenantId, client_id: &str) -> Result<Option<RefreshToken>, VaultError> {
        Ok(Self::open_previous(self, tenant, client_id).await?.map(|opened| opened.token))
    }

    async fn commit_rotation(&self, fence: Fence, version: i64, client_id: &str, token: &RefreshToken) -> Result<i64, RotateError> {
        Ok(Self::commit_rotation(self, fence, version, client_id, token).await?)
    }

    async fn worked(&self, fence: Fence, version: i64, now: Ticks) -> Result<(), RotateError> {
        Ok(self.token_worked(fence, version, now).await?)
    }

    async fn app_worked(&self, fence: Fence, now: Ticks) -> Result<(), RotateError> {
        Ok(self.app_credential_worked(fence, now).await?)
    }

    async fn granted(&self, fence: Fence, sources: &[Source], audience: Audience, granted: &[String]) {
        if let Err(error) = self.note_granted(fence, sources, audience, granted).await {
            tracing::debug!(tenant.id = %fence.tenant, %audience, %error, "the permissions of a token could not be noted");
        }
    }
}

impl From<OpenTokenError> for VaultError {
    fn from(error: OpenTokenError) -> Self {
        match error {
            OpenTokenError::Database(error) => Self::Database(error.to_string()),
            other => Self::Unreadable(other.to_string()),
        }
    }
}

impl From<tenant_registry::RotateError> for RotateError {
    fn from(error: tenant_registry::RotateError) -> Self {
        use tenant_registry::RotateError as Theirs;
        match error {
            Theirs::LeaseLost => Self::LeaseLost,
            Theirs::Moved => Self::Moved,
            Theirs::Database(error) => Self::Database(error.to_string()),
            other => Self::Unsealable(other.to_string()),
        }
    }
}
