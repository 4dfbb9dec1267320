//! The page where a person signs in and consents. The person is simulated too and agrees at once, unless the settings
//! say that somebody sits in front of a real browser: the browser is sent back with a code. PKCE is checked when the code is redeemed.

use super::consent::{Clicked, escape, page_of};
use super::errors::Refusal;
use super::{Form, Identity, tenant_of_path};
use crate::answer::Answer;
use crate::dice::Dice;
use crate::scenario::Effect;
use crate::server::{App, Call};
use crate::stamp::Stamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use url::Url;
use uuid::Uuid;

/// How long a code can be redeemed.
const CODE_LIFETIME: Duration = Duration::from_secs(600);

/// What somebody agreed to.
#[derive(Clone, Debug)]
pub(crate) struct Consent {
    pub(crate) tenant: Uuid,
    pub(crate) scope: String,
    pub(crate) resource: Option<String>,
    pub(crate) nonce: Option<String>,
    redirect_uri: String,
    /// Challenge and whether it is a hash of the verifier.
    challenge: Option<(String, bool)>,
    expires: Stamp,
    redeemed: bool,
}

/// The codes that are out.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    codes: Mutex<HashMap<String, Consent>>,
    count: AtomicU64,
}

impl Codes {
    fn hand_out(&self, seed: u64, marker: &str, consent: Consent) -> String {
        let code = format!("1.A{marker}{}", Dice::of(&[seed, 0xC0DE, self.count.fetch_add(1, Ordering::Relaxed)]).hex(96));
        self.codes.lock().unwrap_or_else(PoisonError::into_inner).insert(code.clone(), consent);
        code
    }

    /// Takes a code back, once, from the one who asked for it.
    pub(crate) fn redeem(&self, form: &Form, now: Stamp) -> Result<Consent, Refusal> {
        let code = form.need("code")?;
        let redirect_uri = form.need("redirect_uri")?;
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        let consent = codes.get_mut(code).ok_or_else(|| Refusal { codes: vec![70002, 70008], ..Refusal::of(70008) })?;
        if consent.redeemed {
            return Err(Refusal::of(54005));
        }
        if consent.expires <= now {
            return Err(Refusal::of(70008));
        }
        if consent.redirect_uri != redirect_uri {
            return Err(Refusal {
                text: "The reply address does not match the one the code was issued for.".to_owned(),
                ..Refusal::of(900971)
            });
        }
        if let Some((challenge, hashed)) = &consent.challenge {
            let verifier = form.get("code_verifier").unwrap_or_default();
            let shown = if *hashed { s256(verifier) } else { verifier.to_owned() };
            if shown != *challenge {
                return Err(Refusal::of(501481));
            }
        }
        consent.redeemed = true;
        Ok(consent.clone())
    }
}

/// The hash of a PKCE verifier as it travels.
fn s256(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes()))
}

impl Identity {
    /// Sends the browser back with a code, or with an error when the script says so. What cannot be sent back
    /// (an unknown app, a foreign redirect address) is shown as a page.
    pub(crate) fn authorize(&self, app: &App, call: &mut Call, path_tenant: &str, query: &str) -> Answer {
        let fields: HashMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let get = |name: &str| fields.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let tenant = match tenant_of_path(&app.world, path_tenant) {
            Ok(Some(tenant)) => tenant,
            // Somebody from the first company happens to sit in front of the screen.
            Ok(None) if !app.world.tenants.is_empty() => app.world.tenants[0].face.directory_id,
            Ok(None) => return page_of(call, &Refusal::of(90002)),
            Err(refusal) => return page_of(call, &refusal),
        };
        call.tenant = Some(tenant);
        if get("client_id").and_then(|id| id.parse().ok()) != Some(self.client_id) {
            return page_of(call, &Refusal::of(700016));
        }
        let Some(redirect) = get("redirect_uri").and_then(|uri| allowed(app, uri)) else {
            return page_of(
                call,
                &Refusal {
                    codes: vec![50011],
                    text: "The reply address does not match those of the app.".to_owned(),
                    ..Refusal::of(900971)
                },
            );
        };
        let state = get("state");
        let send = |fields: &[(&str, &str)]| send_back(&redirect, get("response_mode"), state, fields);
        let refuse = |error: &str, text: &str| send(&[("error", error), ("error_description", text)]);
        if let Some(refusal) = scripted(call) {
            return refuse(&refusal.error, &refusal.description(call.at, call.request_id, call.request_id));
        }
        if get("response_type") != Some("code") {
            return refuse("unsupported_response_type", "AADSTS70005: response_type 'code' is the only one supported.");
        }
        let challenge = match (get("code_challenge"), get("code_challenge_method")) {
            (None, _) => None,
            (Some(challenge), Some("S256")) => Some((challenge.to_owned(), true)),
            (Some(challenge), Some("plain") | None) => Some((challenge.to_owned(), false)),
            (Some(_), Some(_)) => return refuse("invalid_request", "AADSTS501491: Invalid method in CodeChallenge."),
        };
        match self.clicked(app, call, &fields) {
            Clicked::Yes => {}
            Clicked::No => return refuse("access_denied", "AADSTS65004: The user declined to consent to access the app."),
            Clicked::NotYet(page) => return page,
        }
        let consent = Consent {
            tenant,
            nonce: get("nonce").map(str::to_owned),
            scope: get("scope").unwrap_or_default().to_owned(),
            resource: get("resource").map(str::to_owned),
            redirect_uri: get("redirect_uri").unwrap_or_default().to_owned(),
            challenge,
            expires: call.at.plus(CODE_LIFETIME),
            redeemed: false,
        };
        let code = self.codes.hand_out(self.seed, self.mint.marker(), consent);
        send(&[("code", &code), ("session_state", &call.request_id.to_string())])
    }
}

/// What the script wants the page to answer.
pub(super) fn scripted(call: &Call) -> Option<Refusal> {
    call.effects.find(|effect| match effect {
        Effect::ConsentMissing => Some(Refusal::of(65001)),
        Effect::SignInError { code, error, .. } => {
            Some(Refusal { error: error.clone().unwrap_or_else(|| Refusal::of(*code).error), ..Refusal::of(*code) })
        }
        _ => None,
    })
}

pub(super) fn allowed(app: &App, uri: &str) -> Option<Url> {
    let parsed = Url::parse(uri).ok()?;
    let registered = &app.world.settings.redirect_uris;
    let fits = if registered.is_empty() {
        parsed.scheme() == "https" || matches!(parsed.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
    } else {
        registered.iter().any(|known| known == uri)
    };
    fits.then_some(parsed)
}

pub(super) fn send_back(redirect: &Url, mode: Option<&str>, state: Option<&str>, fields: &[(&str, &str)]) -> Answer {
    let pairs = fields.iter().copied().chain(state.map(|state| ("state", state)));
    match mode {
        Some("form_post") => {
            let inputs: String =
                pairs.map(|(name, value)| format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escape(value))).collect();
            let page = format!(
                "<html><body onload=\"document.forms[0].submit()\"><form method=\"post\" action=\"{}\">{inputs}</form></body></html>",
                escape(redirect.as_str())
            );
            Answer::text(200, "text/html; charset=utf-8", page)
        }
        Some("fragment") => {
            let mut to = redirect.clone();
            to.set_fragment(Some(&url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()));
            Answer::redirect(to.as_str())
        }
        _ => {
            let mut to = redirect.clone();
            to.query_pairs_mut().extend_pairs(pairs);
            Answer::redirect(to.as_str())
        }
    }
}
