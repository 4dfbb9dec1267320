//! Getting access tokens from Microsoft's sign-in service, at the endpoint of one tenant.
//!
//! The tenant's GUID is always in the path. A refresh token is bound to a user and not to a tenant, so
//! it would be redeemed wherever it is sent; therefore nothing is given out before the answer has said,
//! in a signed token, that it is for the tenant that was asked for.
//!
//! Here are the calls that repeat for years: redeeming a refresh token, and signing in as the app itself. What happens
//! once per customer stands in modules of its own: finding the tenant (`discovery`), a person who agrees in a browser
//! (`code`, `admin_consent`, and for both `returned`) or elsewhere (`device`).

mod admin_consent;
mod assertion;
mod claims;
mod code;
mod codes;
mod device;
mod discovery;
mod error;
mod id_token;
mod keys;
mod maybe_ours;
mod returned;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::token::Bearer;
use domain::{AccessToken, AppCredential, Audience, Clock, RefreshToken, TenantId, Ticks};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use secrecy::ExposeSecret;
use url::Url;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::app::{App, Endpoint, Grant};
use crate::clouds::{self, Cloud};
use crate::http::{Http, read_secret_body};

pub use code::{Ask, Code, Desk, SignedIn};
pub use device::{DeviceCode, DevicePoll};
pub use discovery::Directory;
pub use error::{SignInError, TOO_MANY_REQUESTS, known_answers};
pub use maybe_ours::MaybeOurs;
pub use returned::{Returned, Said};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use {discovery::read as read_discovery, id_token::Expected, id_token::check as check_id_token, keys::Keys};

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
    keys: Arc<keys::Shelf>,
    accepted: Arc<assertion::Accepted>,
    turns: Option<Arc<dyn Turns>>,
}

/// Keeps a login host from being asked too often. Whoever calls [`SignIn`] takes the turn of that call before; what one
/// call makes more of, such as a try with another certificate, takes its own.
#[async_trait]
pub trait Turns: Send + Sync + 'static {
    /// Returns when it is time to ask the login host of this cloud.
    async fn turn(&self, cloud: &Cloud);
}

/// What a redemption gave. The tenant has been checked.
#[derive(Clone, Debug)]
pub struct Redeemed {
    /// For the audience that was asked for.
    pub access: AccessToken,
    /// The successor of the redeemed token. Without one the redeemed token stays in use.
    pub refresh: Option<RefreshToken>,
    /// The names of the permissions that came with it, such as `SecurityAlert.Read.All`. A token is given even where
    /// there is none: then nothing stands here. `None` when neither token nor answer says.
    pub granted: Option<Vec<String>>,
    /// The ids of the directory roles of the account that signed in, where the tokens say; an app's own sign-in says
    /// nothing of use.
    pub roles: Option<Vec<Uuid>>,
}

/// An answer, not judged yet.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
    asked_at: Ticks,
}

impl SignIn {
    /// Uses this client and clock.
    pub fn new(http: Http, clock: Arc<dyn Clock>) -> Self {
        Self { http, clock, keys: Arc::default(), accepted: Arc::default(), turns: None }
    }

    /// Takes a turn before each call that is more than the caller asked for.
    #[must_use]
    pub fn taking_turns(self, turns: Arc<dyn Turns>) -> Self {
        Self { turns: Some(turns), ..self }
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
        credential: Option<&AppCredential>,
    ) -> Result<Redeemed, SignInError> {
        let configured = scope_of(cloud, audience)?;
        let wanted = match app.endpoint {
            Endpoint::V1 => Wanted::resource(configured, audience, "openid")?,
            Endpoint::V2 => Wanted::scope(wire::delegated_scope(configured)),
        };
        let mut fields = vec![
            ("client_id", app.client_id.as_str()),
            ("grant_type", Grant::RefreshToken.as_str()),
            ("refresh_token", token.expose_secret()),
        ];
        fields.extend(wanted.fields());
        let answer = self.ask(cloud, &token_url(cloud, tenant, app.endpoint), &app.client_id, &fields, credential).await?;
        self.read(tenant, &answer)
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
        credential: &AppCredential,
    ) -> Result<Redeemed, SignInError> {
        let configured = scope_of(cloud, audience)?;
        let wanted = match app.endpoint {
            Endpoint::V1 => Wanted::resource(configured, audience, "")?,
            Endpoint::V2 => Wanted::scope(wire::app_scope(configured).ok_or_else(|| error::no_resource(audience))?),
        };
        let mut fields = vec![("client_id", app.client_id.as_str()), ("grant_type", Grant::ClientCredentials.as_str())];
        fields.extend(wanted.fields());
        let answer = self.ask(cloud, &token_url(cloud, tenant, app.endpoint), &app.client_id, &fields, Some(credential)).await?;
        let redeemed = self.read(tenant, &answer)?;
        // This grant has no refresh token; one that came along would be nobody's.
        Ok(Redeemed { refresh: None, ..redeemed })
    }

    /// Posts a form, with whatever our app proves itself with.
    async fn ask(
        &self,
        cloud: &Cloud,
        url: &Url,
        client_id: &str,
        fields: &[(&str, &str)],
        credential: Option<&AppCredential>,
    ) -> Result<Answer, SignInError> {
        let with = |proof: &[(&'static str, &str)]| wire::form(&[fields, proof].concat());
        match credential {
            None => self.post(cloud, url, with(&[])).await,
            Some(AppCredential::Secret(secret)) => self.post(cloud, url, with(&[("client_secret", secret.expose_secret())])).await,
            Some(AppCredential::Federated(token)) => {
                self.post(cloud, url, with(&[("client_assertion_type", assertion::KIND), ("client_assertion", token.expose_secret())]))
                    .await
            }
            Some(AppCredential::Certificates(certificates)) => {
                let mut signers = assertion::usable(certificates, self.clock.now())?;
                self.accepted.order(client_id, &mut signers);
                let mut turn = 0;
                loop {
                    let signer = &signers[turn];
                    let now = self.clock.now();
                    let proof = signer.sign(&assertion::Statement { audience: url.as_str(), client_id, now, id: Uuid::new_v4() })?;
                    let form = with(&[("client_assertion_type", assertion::KIND), ("client_assertion", proof.expose_secret())]);
                    let answer = self.post(cloud, url, form).await?;
                    let is_unknown = answer.is_about_the_certificate();
                    if turn > 0 && !is_unknown {
                        self.accepted.note(client_id, signer);
                    }
                    if !is_unknown || turn + 1 == signers.len() {
                        return Ok(answer);
                    }
                    tracing::warn!(
                        certificate = signer.thumbprint,
                        "the sign-in service does not know this certificate of our app; the next one is tried"
                    );
                    turn += 1;
                    if let Some(turns) = &self.turns {
                        turns.turn(cloud).await;
                    }
                }
            }
        }
    }

    async fn post(&self, cloud: &Cloud, url: &Url, form: Zeroizing<Vec<u8>>) -> Result<Answer, SignInError> {
        let client_request_id = code::request_id();
        let asked_at = self.clock.now();
        let answer = self.http.post_form(url, cloud.allow_plaintext, form, &client_request_id).await;
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
        Ok(Answer { status, headers, body, asked_at })
    }

    fn read(&self, tenant: TenantId, answer: &Answer) -> Result<Redeemed, SignInError> {
        read_answer(tenant, answer.status, &answer.headers, &answer.body, answer.asked_at, self.clock.now())
    }
}

impl Answer {
    fn is_about_the_certificate(&self) -> bool {
        self.status.is_client_error()
            && wire::Refusal::read(&self.body).is_some_and(|refusal| assertion::is_about_the_certificate(&refusal.codes))
    }
}

/// What is asked for, in the words of either version of the endpoint.
struct Wanted {
    resource: String,
    scope: String,
}

impl Wanted {
    fn scope(scope: String) -> Self {
        Self { resource: String::new(), scope }
    }

    /// `openid` is all that version 1 takes as a scope: it makes the answer say whose it is.
    fn resource(configured: &str, audience: Audience, scope: &str) -> Result<Self, SignInError> {
        let resource = wire::resource(configured).ok_or_else(|| error::no_resource(audience))?;
        Ok(Self { resource, scope: scope.to_owned() })
    }

    fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [("resource", self.resource.as_str()), ("scope", self.scope.as_str())].into_iter().filter(|(_, value)| !value.is_empty())
    }
}

/// Where tokens of a tenant are asked for.
fn token_url(cloud: &Cloud, tenant: TenantId, endpoint: Endpoint) -> Url {
    let version = match endpoint {
        Endpoint::V1 => "oauth2/token",
        Endpoint::V2 => "oauth2/v2.0/token",
    };
    clouds::under(&cloud.login_url, &format!("{tenant}/{version}"))
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
    let granted = claims::granted(&tokens.access_token, tokens.scope.as_deref());
    let roles = claims::directory_roles(&tokens.access_token, tokens.id_token.as_deref());
    let access = AccessToken { bearer, expires_at: expiry(asked_at, tokens.life(asked_at)) };
    Ok(Redeemed { access, refresh: tokens.refresh_token.and_then(|token| RefreshToken::new(token.as_ref())), granted, roles })
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
