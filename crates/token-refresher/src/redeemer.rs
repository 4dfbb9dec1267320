//! What the refresher asks of a sign-in service: two calls, so that tests can script the answers.

use async_trait::async_trait;
use domain::{AppCredential, Audience, RefreshToken, TenantId, Trouble};
use microsoft::{App, Cloud, MaybeOurs, Redeemed, SignIn, SignInError};

/// Redeems credentials for access tokens. Implemented by [`microsoft::SignIn`].
#[async_trait]
pub trait Redeemer: Send + Sync + 'static {
    /// Redeems a refresh token at the tenant's own endpoint.
    ///
    /// # Errors
    /// [`Refused`], with its verdict.
    async fn redeem(
        &self,
        cloud: &Cloud,
        app: &App,
        tenant: TenantId,
        audience: Audience,
        token: &RefreshToken,
        credential: Option<&AppCredential>,
    ) -> Result<Redeemed, Refused>;

    /// Signs in as the app itself.
    ///
    /// # Errors
    /// [`Refused`], with its verdict.
    async fn client_credentials(
        &self,
        cloud: &Cloud,
        app: &App,
        tenant: TenantId,
        audience: Audience,
        credential: &AppCredential,
    ) -> Result<Redeemed, Refused>;
}

/// No access token came back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .trouble.reason)]
pub struct Refused {
    /// What it means.
    pub trouble: Trouble,
    /// Whether it says that the refresh token is dead, which is believed only when said twice.
    pub dead_token: bool,
    /// What would show that our own app is at fault, where one answer cannot tell.
    pub maybe_ours: Option<MaybeOurs>,
}

impl From<SignInError> for Refused {
    fn from(error: SignInError) -> Self {
        Self { trouble: error.trouble(), dead_token: error.is_dead_token(), maybe_ours: error.maybe_ours() }
    }
}

#[async_trait]
impl Redeemer for SignIn {
    async fn redeem(
        &self,
        cloud: &Cloud,
        app: &App,
        tenant: TenantId,
        audience: Audience,
        token: &RefreshToken,
        credential: Option<&AppCredential>,
    ) -> Result<Redeemed, Refused> {
        Ok(Self::redeem(self, cloud, app, tenant, audience, token, credential).await?)
    }

    async fn client_credentials(
        &self,
        cloud: &Cloud,
        app: &App,
        tenant: TenantId,
        audience: Audience,
        credential: &AppCredential,
    ) -> Result<Redeemed, Refused> {
        Ok(Self::client_credentials(self, cloud, app, tenant, audience, credential).await?)
    }
}
