//! Signing in by way of a browser (authorization code with PKCE), and what came of it.
//!
//! A sign-in always speaks version 2, whatever the app's endpoint is. The browser carries a code and nothing else: the
//! tokens come from the token endpoint, and the one that says who signed in is checked in every way all the same
//! ([`super::id_token`]), since the code may have been somebody else's.

use domain::consent::Account;
use domain::{AppCredential, Audience, TenantId};
use url::Url;
use uuid::Uuid;

use super::id_token::{self, Expected, Flaw};
use super::keys::Source;
use super::{Answer, Directory, Redeemed, SignIn, SignInError, error, scope_of, wire};
use crate::app::{App, Endpoint};
use crate::clouds::{self, Cloud};

/// What a person is asked to agree to.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Where the browser is sent back to.
    pub redirect_uri: &'a str,
    /// Comes back unchanged, and says which sign-in this was.
    pub state: &'a str,
    /// Comes back inside the signed token.
    pub nonce: &'a str,
    /// The SHA-256 of the verifier that [`Code::verifier`] will show, in base64url.
    pub code_challenge: &'a str,
    /// The account that is meant, if one is.
    pub login_hint: Option<&'a str>,
    /// The APIs that will be read.
    pub audiences: &'a [Audience],
}

/// What the browser brought back, with what only we know. Never printed.
#[derive(Clone, Copy)]
pub struct Code<'a> {
    /// The code, good for some minutes and for once.
    pub code: &'a str,
    /// As it was asked with.
    pub redirect_uri: &'a str,
    /// What the challenge was made of.
    pub verifier: &'a str,
    /// As it was asked with.
    pub nonce: &'a str,
}

/// Who signs in where.
#[derive(Clone, Copy, Debug)]
pub struct Desk<'a> {
    /// The cloud.
    pub cloud: &'a Cloud,
    /// Our app.
    pub app: &'a App,
    /// The tenant that must come of it.
    pub tenant: TenantId,
    /// The same tenant, as discovery described it.
    pub directory: &'a Directory,
}

/// Somebody signed in, and every check has passed.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// The tokens. Whoever takes them stores the refresh token before using the access token.
    pub redeemed: Redeemed,
    /// Whose account it was.
    pub user: Account,
}

impl SignIn {
    /// The address to which a browser is sent so that a person signs in and agrees.
    ///
    /// # Errors
    /// When the cloud has no API for one of the audiences.
    pub fn authorize_url(&self, cloud: &Cloud, app: &App, tenant: TenantId, ask: &Ask<'_>) -> Result<Url, SignInError> {
        let scopes = ask.audiences.iter().map(|audience| scope_of(cloud, *audience)).collect::<Result<Vec<_>, _>>()?;
        let mut url = clouds::under(&cloud.login_url, &format!("{tenant}/oauth2/v2.0/authorize"));
        url.query_pairs_mut()
            .append_pair("client_id", &app.client_id)
            .append_pair("response_type", "code")
            .append_pair("response_mode", "query")
            .append_pair("redirect_uri", ask.redirect_uri)
            .append_pair("scope", &wire::consent_scope(scopes))
            .append_pair("state", ask.state)
            .append_pair("nonce", ask.nonce)
            .append_pair("code_challenge", ask.code_challenge)
            .append_pair("code_challenge_method", "S256")
            // Whoever is signed in already may be the wrong one: a security provider's people have many accounts.
            .append_pair("prompt", "select_account");
        if let Some(hint) = ask.login_hint {
            url.query_pairs_mut().append_pair("login_hint", hint);
        }
        Ok(url)
    }

    /// Redeems the code that a browser brought back for tokens to one audience, and checks who signed in.
    ///
    /// # Errors
    /// [`SignInError`]. Nothing is given out then, and the code is used up.
    pub async fn redeem_code(
        &self,
        at: &Desk<'_>,
        audience: Audience,
        code: &Code<'_>,
        credential: Option<&AppCredential>,
    ) -> Result<SignedIn, SignInError> {
        let scope = wire::consent_scope([scope_of(at.cloud, audience)?]);
        let fields = [
            ("client_id", at.app.client_id.as_str()),
            ("grant_type", "authorization_code"),
            ("code", code.code),
            ("redirect_uri", code.redirect_uri),
            ("code_verifier", code.verifier),
            ("scope", &scope),
        ];
        let url = super::token_url(at.cloud, at.tenant, Endpoint::V2);
        let answer = self.ask(at.cloud, &url, &at.app.client_id, &fields, credential).await?;
        self.signed_in(at, &answer, Some(code.nonce)).await
    }

    /// Reads the answer to a sign-in. The tenant is compared first, then everything else about the token that says who
    /// signed in.
    pub(super) async fn signed_in(&self, at: &Desk<'_>, answer: &Answer, nonce: Option<&str>) -> Result<SignedIn, SignInError> {
        let redeemed = self.read(at.tenant, answer)?;
        let tokens = wire::Tokens::read(&answer.body).ok_or_else(|| error::no_tokens(answer.status.as_u16()))?;
        let id_token = tokens.id_token.as_deref().unwrap_or_default();
        let expected =
            Expected { tenant: at.tenant, issuer: &at.directory.issuer, client_id: &at.app.client_id, nonce, now: self.clock.now() };
        let source = Source { cloud: at.cloud, issuer: &at.directory.issuer, address: &at.directory.jwks_uri };
        let keys = self.keys.get(&self.http, &*self.clock, source).await?;
        let checked = match id_token::check(id_token, &keys, &expected) {
            // Their keys may have been changed since we looked; nobody who signs in should notice (fault 41).
            Err(Flaw::UnknownKey) => match self.keys.again(&self.http, &*self.clock, source, &keys).await? {
                Some(keys) => id_token::check(id_token, &keys, &expected),
                None => Err(Flaw::UnknownKey),
            },
            checked => checked,
        };
        Ok(SignedIn { redeemed, user: checked? })
    }
}

/// The id that a call is known by in their log and ours.
pub(super) fn request_id() -> String {
    Uuid::new_v4().to_string()
}
