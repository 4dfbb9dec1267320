//! Signing in with a short code on another device.
//!
//! A poor basis for a token that has to last: a policy against device codes that is added later ends it, and whoever is
//! talked into typing somebody else's code gives his tokens away. So it is offered only where it is asked for by name.

use std::time::Duration;

use domain::{AppCredential, Audience, DeviceSecret, TenantId, Ticks, Verdict};
use reqwest::StatusCode;
use secrecy::ExposeSecret;
use url::Url;

use super::code::{Desk, SignedIn};
use super::{SignIn, SignInError, error, scope_of, wire};
use crate::app::{App, Endpoint};
use crate::clouds::{self, Cloud};
use crate::http::same_origin;
use crate::members::{members, text};

/// How long to wait between two questions when the answer does not say.
const USUAL_INTERVAL: Duration = Duration::from_secs(5);
/// How long a code is good when the answer does not say.
const USUAL_LIFE: Duration = Duration::from_secs(15 * 60);
const LONGEST_LIFE: Duration = Duration::from_secs(60 * 60);

/// A code that waits for a person.
#[derive(Clone, Debug)]
pub struct DeviceCode {
    /// What we redeem.
    pub device_code: DeviceSecret,
    /// What the person types.
    pub user_code: String,
    /// Where the person types it.
    pub verification_uri: Url,
    /// Until when it is good, by our clock.
    pub expires_at: Ticks,
    /// How long to wait between two questions.
    pub interval: Duration,
}

/// What came of a question.
#[derive(Clone, Debug)]
pub enum DevicePoll {
    /// Nobody has typed it yet.
    Pending,
    /// The same, and we ask too often: wait five seconds longer from now on.
    SlowDown,
    /// Somebody has.
    SignedIn(Box<SignedIn>),
}

impl SignIn {
    /// Begins a sign-in with a short code.
    ///
    /// # Errors
    /// [`SignInError`].
    pub async fn begin_device_code(
        &self,
        cloud: &Cloud,
        app: &App,
        tenant: TenantId,
        audience: Audience,
    ) -> Result<DeviceCode, SignInError> {
        let scope = wire::consent_scope([scope_of(cloud, audience)?]);
        let url = clouds::under(&cloud.login_url, &format!("{tenant}/oauth2/v2.0/devicecode"));
        let fields = [("client_id", app.client_id.as_str()), ("scope", &scope)];
        let answer = self.ask(cloud, &url, &app.client_id, &fields, None).await?;
        if answer.status != StatusCode::OK {
            return Err(error::refused(answer.status.as_u16(), &answer.headers, &answer.body, self.clock.now()));
        }
        read(&answer.body, &cloud.login_url, answer.asked_at).ok_or_else(|| {
            let reason = "the sign-in service answered with something that is no device code";
            let action = "you, if it lasts: check that login_url of this cloud leads to Microsoft's sign-in service";
            SignInError::new(Verdict::Retry, "bad-answer", reason, action)
        })
    }

    /// Asks whether somebody has typed the code, and checks who it was.
    ///
    /// # Errors
    /// [`SignInError`]; with the codes `device-declined` and `device-expired` where that is what happened.
    pub async fn poll_device_code(
        &self,
        at: &Desk<'_>,
        audience: Audience,
        device: &DeviceCode,
        credential: Option<&AppCredential>,
    ) -> Result<DevicePoll, SignInError> {
        if self.clock.now() >= device.expires_at {
            return Err(expired());
        }
        let scope = wire::consent_scope([scope_of(at.cloud, audience)?]);
        let fields = [
            ("client_id", at.app.client_id.as_str()),
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", device.device_code.expose_secret()),
            ("scope", &scope),
        ];
        let url = super::token_url(at.cloud, at.tenant, Endpoint::V2);
        let answer = self.ask(at.cloud, &url, &at.app.client_id, &fields, credential).await?;
        if answer.status.is_client_error()
            && let Some(refusal) = wire::Refusal::read(&answer.body)
        {
            match refusal.error.as_str() {
                "authorization_pending" => return Ok(DevicePoll::Pending),
                "slow_down" => return Ok(DevicePoll::SlowDown),
                "authorization_declined" => return Err(declined()),
                "expired_token" | "code_expired" => return Err(expired()),
                "bad_verification_code" => return Err(unknown()),
                _ => {}
            }
        }
        // No browser carried anything, so there is no nonce.
        Ok(DevicePoll::SignedIn(Box::new(self.signed_in(at, &answer, None).await?)))
    }
}

fn read(body: &[u8], login_url: &Url, asked_at: Ticks) -> Option<DeviceCode> {
    let body = std::str::from_utf8(body).ok()?;
    let [device, user, uri, life, interval] =
        members(body, ["device_code", "user_code", "verification_uri", "expires_in", "interval"]).ok()?;
    let uri = Url::parse(&text(uri)?).ok()?;
    // A person is sent there to type something: to a web page of the open net over TLS, or in a laboratory back home.
    if uri.scheme() != "https" && !same_origin(&uri, login_url) {
        return None;
    }
    let span = |member, usual: Duration, longest: Duration| {
        wire::seconds(member).map_or(usual, |seconds| Duration::from_secs_f64(seconds.clamp(1.0, longest.as_secs_f64())))
    };
    Some(DeviceCode {
        device_code: DeviceSecret::new(text(device)?)?,
        user_code: text(user).and_then(|code| crate::error::harmless(&code))?,
        verification_uri: uri,
        expires_at: asked_at.plus(span(life, USUAL_LIFE, LONGEST_LIFE)),
        interval: span(interval, USUAL_INTERVAL, Duration::from_secs(60)),
    })
}

fn declined() -> SignInError {
    let reason = "the person who was shown the code declined";
    SignInError::new(Verdict::NeedsConsent, "device-declined", reason, "the customer: an administrator agrees to our app; you: begin again")
}

fn expired() -> SignInError {
    let reason = "nobody typed the code in time";
    SignInError::new(Verdict::NeedsConsent, "device-expired", reason, "you: begin again and have the code typed within its life")
}

fn unknown() -> SignInError {
    let reason = "the sign-in service does not know this device code";
    SignInError::new(Verdict::NeedsConsent, "device-unknown", reason, "you: begin again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(uri: &str, rest: &str) -> Option<DeviceCode> {
        let body = format!(r#"{{"device_code":"secret","user_code":"ABCD-1234","verification_uri":"{uri}"{rest}}}"#);
        read(body.as_bytes(), &Url::parse("http://127.0.0.1:8080").unwrap(), Ticks(0))
    }

    #[test]
    fn a_code_is_read_within_reason() {
        let read = code("https://microsoft.com/devicelogin", r#","expires_in":900,"interval":5,"message":"x""#).unwrap();
        assert_eq!((read.user_code.as_str(), read.interval.as_secs(), read.expires_at.since(Ticks(0)).as_secs()), ("ABCD-1234", 5, 900));
        assert!(!format!("{read:?}").contains("secret"));
        let odd = code("http://127.0.0.1:8080/devicelogin", r#","expires_in":1e300,"interval":"0""#).unwrap();
        assert_eq!((odd.interval.as_secs(), odd.expires_at.since(Ticks(0)).as_secs()), (1, 3600));
        let silent = code("https://microsoft.com/devicelogin", "").unwrap();
        assert_eq!((silent.interval, silent.expires_at.since(Ticks(0))), (USUAL_INTERVAL, USUAL_LIFE));
    }

    #[test]
    fn nobody_is_sent_to_an_address_that_is_none() {
        for uri in ["http://microsoft.com/devicelogin", "javascript:alert(1)", "file:///etc/passwd", "", "http://127.0.0.1:8081/"] {
            assert!(code(uri, "").is_none(), "{uri}");
        }
        let terminal = r#"{"device_code":"s","user_code":"\u001b[2J","verification_uri":"https://x.test"}"#;
        assert!(read(terminal.as_bytes(), &Url::parse("https://x.test").unwrap(), Ticks(0)).is_none());
    }
}
