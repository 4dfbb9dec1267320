//! Getting access tokens from Microsoft's sign-in service, at the v2 endpoint of one tenant.
//!
//! The tenant's GUID is always in the path. A refresh token is bound to a user and not to a tenant, so
//! it would be redeemed wherever it is sent; therefore nothing is given out before the answer has said,
//! in a signed token, that it is for the tenant that was asked for.

mod claims;
mod codes;
mod error;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use domain::token::Bearer;
use domain::{AccessToken, Audience, ClientSecret, Clock, RefreshToken, TenantId, Ticks};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use secrecy::ExposeSecret;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::app::{App, Grant};
use crate::clouds::{self, Cloud};
use crate::http::{Http, read_secret_body};

pub use error::SignInError;

/// A token that says nothing readable about the length of its life is taken to end this soon: the
/// shortest life that an administrator can set.
const UNKNOWN_LIFE: Duration = Duration::from_secs(10 * 60);
/// Less would have us ask again in a loop.
pub(crate) const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// The longest that Microsoft documents.
pub(crate) const LONGEST_LIFE: Duration = Duration::from_secs(28 * 60 * 60);

/// The sign-in service, for all tenants.
#[derive(Clone)]
pub struct SignIn {
    http: Http,
    clock: Arc<dyn Clock>,
}

/// What a redemption gave. The tenant has been checked.
#[derive(Clone, Debug)]
pub struct Redeemed {
    /// For the audience that was asked for.
    pub access: AccessToken,
    /// The successor of the redeemed token. Without one the redeemed token stays in use.
    pub refresh: Option<RefreshToken>,
}

impl SignIn {
    /// Uses this client and clock.
    pub fn new(http: Http, clock: Arc<dyn Clock>) -> Self {
        Self { http, clock }
    }

    /// Redeems a refresh token at `tenant` for an access token to `audience`.
    ///
    /// Whoever calls this stores [`Redeemed::refresh`] before using [`Redeemed::access`].
    ///
    /// # Errors
    /// [`SignInError`], which carries its verdict. Nothing of the answer is given out then, in
    /// particular when it is for another tenant or does not say for which.
    pub async fn redeem(
        &self,
        cloud: &Cloud,
        app: &App,
        tenant: TenantId,
        audience: Audience,
        token: &RefreshToken,
        secret: Option<&ClientSecret>,
    ) -> Result<Redeemed, SignInError> {
        let scope = wire::delegated_scope(scope_of(cloud, audience)?);
        let mut fields = vec![
            ("client_id", app.client_id.as_str()),
            ("grant_type", Grant::RefreshToken.as_str()),
            ("refresh_token", token.expose_secret()),
            ("scope", &scope),
        ];
        if let Some(secret) = secret {
            fields.push(("client_secret", secret.expose_secret()));
        }
        self.call(cloud, tenant, &fields).await
    }

    /// Gets an access token to `audience` in `tenant` for the app itself.
    ///
    /// A token is given even where nothing was consented to; the API then answers 403.
    ///
    /// # Errors
    /// As [`SignIn::redeem`].
    pub async fn client_credentials(
        &self,
        cloud: &Cloud,
        app: &App,
        tenant: TenantId,
        audience: Audience,
        secret: &ClientSecret,
    ) -> Result<Redeemed, SignInError> {
        let scope = wire::app_scope(scope_of(cloud, audience)?).ok_or_else(|| error::no_resource(audience))?;
        let fields = [
            ("client_id", app.client_id.as_str()),
            ("grant_type", Grant::ClientCredentials.as_str()),
            ("client_secret", secret.expose_secret()),
            ("scope", &scope),
        ];
        let redeemed = self.call(cloud, tenant, &fields).await?;
        // This grant has no refresh token; one that came along would be nobody's.
        Ok(Redeemed { refresh: None, ..redeemed })
    }

    async fn call(&self, cloud: &Cloud, tenant: TenantId, fields: &[(&str, &str)]) -> Result<Redeemed, SignInError> {
        let url = clouds::under(&cloud.login_url, &format!("{tenant}/oauth2/v2.0/token"));
        let client_request_id = Uuid::new_v4().to_string();
        let asked_at = self.clock.now();
        let answer = self.http.post_form(&url, cloud.allow_plaintext, wire::form(fields), &client_request_id).await;
        let answer = answer.map_err(|failure| error::unanswered(&failure))?;
        let status = answer.status();
        let headers = answer.headers().clone();
        let body = read_secret_body(answer).await;
        tracing::debug!(status = status.as_u16(), client_request_id, "the sign-in service answered");
        let body = match body {
            Ok(body) => body,
            Err(failure) if status == StatusCode::OK => return Err(error::unanswered(&failure)),
            // What breaks off is simply shorter: the status says enough.
            Err(_) => Zeroizing::default(),
        };
        read_answer(tenant, status, &headers, &body, asked_at, self.clock.now())
    }
}

/// What an answer of the token endpoint comes to. Counted from before the call, since the answer may have been long
/// on its way.
pub(crate) fn read_answer(
    tenant: TenantId,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    asked_at: Ticks,
    now: Ticks,
) -> Result<Redeemed, SignInError> {
    if status != StatusCode::OK {
        return Err(error::refused(status.as_u16(), headers, body, now));
    }
    let tokens = wire::Tokens::read(body).ok_or_else(|| error::no_tokens(status.as_u16()))?;
    claims::check_tenant(tenant, tokens.id_token.as_deref(), &tokens.access_token)?;
    let bearer = Bearer::new(tokens.access_token.as_ref()).ok_or_else(|| error::no_tokens(status.as_u16()))?;
    let access = AccessToken { bearer, expires_at: expiry(asked_at, tokens.expires_in) };
    Ok(Redeemed { access, refresh: tokens.refresh_token.and_then(|token| RefreshToken::new(token.as_ref())) })
}

fn scope_of(cloud: &Cloud, audience: Audience) -> Result<&str, SignInError> {
    cloud.scope(audience).ok_or_else(|| error::no_scope(audience))
}

fn expiry(asked_at: Ticks, expires_in: Option<f64>) -> Ticks {
    let life = match expires_in {
        None => UNKNOWN_LIFE,
        // Clamped as a number, since a Duration can hold neither a negative nor an endless one.
        Some(seconds) => Duration::from_secs_f64(seconds.clamp(SHORTEST_LIFE.as_secs_f64(), LONGEST_LIFE.as_secs_f64())),
    };
    asked_at.plus(life)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_40_a_life_is_what_the_answer_says_within_reason() {
        let life = |expires_in| expiry(Ticks(0), expires_in).since(Ticks(0)).as_secs();
        assert_eq!(life(Some(3599.0)), 3599);
        assert_eq!(life(Some(5400.0)), 5400);
        for (absurd, seconds) in [(0.0, 60), (-1.0, 60), (f64::MIN, 60), (1e300, 100_800), (f64::INFINITY, 100_800)] {
            assert_eq!(life(Some(absurd)), seconds, "{absurd}");
        }
        assert_eq!(life(None), 600);
    }
}
