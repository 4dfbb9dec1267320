//! The answer of a sign-in, and the page on which its proof can be watched.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use domain::{LinkKind, TenantId};
use tenant_registry::{LinkRefused, Ticket};
use token_refresher::Answer;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{COOKIE, ConsentState, pages, redirect, too_many};

/// No answer of a sign-in service is longer; what is, is not looked at.
const LONGEST_QUERY: usize = 16 * 1024;

/// The fields of an answer. Each may stand there once: of two, a proxy and we could read different ones.
#[derive(Default)]
struct Fields {
    code: Option<Zeroizing<String>>,
    state: Option<Zeroizing<String>>,
    error: Option<String>,
    error_description: Option<String>,
    admin_consent: Option<String>,
    iss: Option<String>,
}

impl Fields {
    fn read(query: &str) -> Result<Self, &'static str> {
        if query.len() > LONGEST_QUERY {
            return Err("the answer is far too long");
        }
        let mut fields = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let repeated = match name.as_ref() {
                "code" => fields.code.replace(Zeroizing::new(value.into_owned())).is_some(),
                "state" => fields.state.replace(Zeroizing::new(value.into_owned())).is_some(),
                "error" => fields.error.replace(value.into_owned()).is_some(),
                "error_description" => fields.error_description.replace(value.into_owned()).is_some(),
                "iss" => fields.iss.replace(value.into_owned()).is_some(),
                "admin_consent" => fields.admin_consent.replace(value.into_owned()).is_some(),
                // `tenant`, `scope`, `session_state` and what else may come: none of it is trusted, so none is read.
                _ => false,
            };
            if repeated {
                return Err("a field of the answer stands there twice");
            }
        }
        Ok(fields)
    }

    /// What the answer says, for a link of this kind; an `Err` says why it is none. An error counts first: a refused
    /// admin consent says `admin_consent=True` as well.
    fn outcome(self, kind: LinkKind) -> Result<Answer, &'static str> {
        if let Some(error) = self.error {
            return Ok(Answer::Refused { error, description: self.error_description });
        }
        match (kind, self.code, self.admin_consent) {
            (LinkKind::Delegated, Some(code), None) if !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Answer::Code { code, issuer: self.iss })
            }
            (LinkKind::Delegated, Some(_), None) => Err("the code is empty or holds characters that no code has"),
            (LinkKind::Application, None, Some(word)) if word.eq_ignore_ascii_case("true") => Ok(Answer::Granted),
            (LinkKind::Delegated, ..) => Err("the answer holds no code, or more than a code"),
            (LinkKind::Application, ..) => Err("the answer does not say that an administrator consented"),
        }
    }
}

/// `GET` of the callback.
pub(super) async fn callback(State(state): State<ConsentState>, uri: Uri, headers: HeaderMap) -> Response {
    let inner = &state.inner;
    let fields = match Fields::read(uri.query().unwrap_or_default()) {
        Ok(fields) => fields,
        Err(reason) => return refuse(&state, None, reason).await,
    };
    let Some(ticket) = fields.state.as_deref().and_then(|state| Ticket::parse(state)) else {
        return refuse(&state, None, "the answer carries no state of ours").await;
    };
    let browser = browser_of(&headers);
    let accepted = match inner.registry.accept_answer(&ticket, browser.as_ref()).await {
        Ok(accepted) => accepted,
        // A page that is loaded again, in the browser that was compared first: what became of it can be watched.
        Err(LinkRefused::Answered) => return redirect("/consent/progress", None),
        Err(LinkRefused::Database(error)) => {
            tracing::warn!("the answer to a sign-in cannot be taken: the database refused: {error}");
            return (StatusCode::SERVICE_UNAVAILABLE, pages::later(&inner.settings)).into_response();
        }
        Err(refused) => return refuse(&state, Some(ticket.tenant()), &refused.to_string()).await,
    };
    // `accept_answer` has compared the browser with the one that began.
    let Some(browser) = browser else { return refuse(&state, Some(ticket.tenant()), "there is no cookie").await };
    let tenant = accepted.invited.tenant;
    match fields.outcome(accepted.invited.kind) {
        Ok(answer) => {
            let state = state.clone();
            // The proof goes on when the browser is closed; its checklist is in the database.
            tokio::spawn(async move {
                if let Err(refused) = state.inner.enrol.connect(accepted, browser, answer).await {
                    audit(&state, Some(tenant), &refused.words).await;
                }
            });
        }
        Err(reason) => {
            // The sign-in is used up, so whoever watches the checklist is told that nothing more will come.
            inner.enrol.unfit(&accepted, reason).await;
            return refuse(&state, Some(tenant), reason).await;
        }
    }
    // Away from the address with the code in it, so that it stays in no history and no log of a proxy is read twice.
    redirect("/consent/progress", None)
}

/// `GET /consent/progress`: what has been proved so far. Only the browser that signed in gets to see it.
pub(super) async fn progress(State(state): State<ConsentState>, headers: HeaderMap) -> Response {
    let inner = &state.inner;
    let Some(browser) = browser_of(&headers) else { return refuse(&state, None, "there is no cookie").await };
    let found = match inner.registry.link_of_browser(&browser).await {
        Ok((tenant, link)) => inner.registry.link_status(tenant, link).await.map_err(|error| error.to_string()),
        Err(refused) => Err(refused.to_string()),
    };
    match found {
        Ok(status) => pages::progress(&inner.settings, &status).into_response(),
        Err(reason) => refuse(&state, Some(browser.tenant()), &reason).await,
    }
}

/// Reads the query that a sign-in ended with, where no browser of ours could follow it: its state, and what it says.
///
/// # Errors
/// Why it is no answer to a sign-in of this kind.
pub fn read_answer(query: &str, kind: LinkKind) -> Result<(Ticket, Answer), &'static str> {
    let fields = Fields::read(query)?;
    let state = fields.state.as_deref().and_then(|state| Ticket::parse(state)).ok_or("it carries no state of ours")?;
    Ok((state, fields.outcome(kind)?))
}

fn browser_of(headers: &HeaderMap) -> Option<Ticket> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut ours = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='));
    let first = ours.next()?;
    // A browser sends one of this name; two would be somebody's attempt.
    if ours.next().is_some() { None } else { Ticket::parse(first) }
}

/// The same page whatever is wrong, with a reference under which log and audit have the reason.
pub(super) async fn refuse(state: &ConsentState, named: Option<TenantId>, reason: &str) -> Response {
    // Each is a row of the audit, which only grows: a flood of them is turned away unwritten.
    if !state.inner.rate.admits_refusal() {
        return too_many();
    }
    let reference = audit(state, named, reason).await;
    (StatusCode::BAD_REQUEST, pages::refused(&state.inner.settings, &reference)).into_response()
}

async fn audit(state: &ConsentState, named: Option<TenantId>, reason: &str) -> String {
    let reference = Uuid::new_v4().simple().to_string()[..12].to_owned();
    let told = format!("{reason} (reference {reference})");
    tracing::warn!(reference, "a consent page refused: {reason}");
    if let Err(error) = state.inner.registry.audit_refusal(named, "consent.refused", &told).await {
        tracing::error!(reference, "a refusal of a consent page cannot be written into the audit: {error}");
    }
    reference
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(query: &str, kind: LinkKind) -> Result<&'static str, String> {
        match Fields::read(query).map_err(str::to_owned)?.outcome(kind) {
            Ok(Answer::Code { .. }) => Ok("code"),
            Ok(Answer::Granted) => Ok("granted"),
            Ok(Answer::Refused { .. }) => Ok("refused"),
            Ok(Answer::Device(_)) => Ok("device"),
            Err(reason) => Err(reason.to_owned()),
        }
    }

    #[test]
    fn an_answer_is_taken_only_in_the_form_that_its_link_asked_for() {
        use LinkKind::{Application, Delegated};
        assert_eq!(outcome("code=0.AX&state=s&session_state=x", Delegated), Ok("code"));
        assert_eq!(outcome("admin_consent=True&tenant=whoever&state=s", Application), Ok("granted"));
        for query in ["error=access_denied&code=a", "error=&code=a", "error=permission_denied&admin_consent=True"] {
            assert_eq!(outcome(query, Delegated), Ok("refused"), "{query}");
            assert_eq!(outcome(query, Application), Ok("refused"), "{query}");
        }
        for (query, kind) in [
            ("", Delegated),
            ("state=s", Delegated),
            ("code=&state=s", Delegated),
            ("code=a%20b&state=s", Delegated),
            ("code=a%00b&state=s", Delegated),
            ("code=a&code=b&state=s", Delegated),
            ("state=s&state=t&code=a", Delegated),
            ("code=a&admin_consent=True", Delegated),
            ("admin_consent=True", Delegated),
            ("code=a", Application),
            ("admin_consent=False", Application),
            ("admin_consent=", Application),
            ("admin_consent=True&admin_consent=True", Application),
            ("code=a&admin_consent=True", Application),
        ] {
            assert!(outcome(query, kind).is_err(), "{query} {kind}");
        }
        assert!(outcome(&format!("code={}", "a".repeat(20_000)), Delegated).is_err());
    }

    #[test]
    fn a_browser_has_one_cookie_of_ours() {
        let one = |cookie: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, cookie.parse().unwrap());
            browser_of(&headers).is_some()
        };
        let text = "A".repeat(86);
        assert!(one(&format!("a=b; {COOKIE}={text}; c=d")));
        for wrong in [
            format!("{COOKIE}={text}; {COOKIE}={text}"),
            format!("{COOKIE}={}", &text[1..]),
            format!("tocsin-sign-in={text}"),
            format!("x{COOKIE}={text}"),
            format!("{COOKIE}x={text}"),
            String::new(),
        ] {
            assert!(!one(&wrong), "{wrong}");
        }
    }
}
