//! The answer of a sign-in, and the page on which its proof can be watched.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use domain::{LinkKind, TenantId, metric};
use tenant_registry::{LinkRefused, Ticket};
use token_refresher::{Answer, Returned};
use uuid::Uuid;

use super::{COOKIE, ConsentState, pages, redirect, too_many};

/// How often what was not written is summed up.
const SUM_UP_AFTER: Duration = Duration::from_secs(10);

/// `GET` of the callback.
pub(super) async fn callback(State(state): State<ConsentState>, uri: Uri, headers: HeaderMap) -> Response {
    let inner = &state.inner;
    let returned = match Returned::read(uri.query().unwrap_or_default()) {
        Ok(returned) => returned,
        Err(reason) => return refuse(&state, None, reason).await,
    };
    let Some(ticket) = state_of(&returned) else {
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
        Err(refused) => return refuse(&state, Some(&ticket), &refused.to_string()).await,
    };
    // `accept_answer` has compared the browser with the one that began.
    let Some(browser) = browser else { return refuse(&state, Some(&ticket), "there is no cookie").await };
    let tenant = accepted.invited.tenant;
    match Answer::of(returned, accepted.invited.kind) {
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
            return refuse(&state, Some(&ticket), reason).await;
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
        Err(reason) => refuse(&state, Some(&browser), &reason).await,
    }
}

/// Reads the query that a sign-in ended with, where no browser of ours could follow it: its state, and what it says.
///
/// # Errors
/// Why it is no answer to a sign-in of this kind.
pub fn read_answer(query: &str, kind: LinkKind) -> Result<(Ticket, Answer), &'static str> {
    let returned = Returned::read(query)?;
    let state = state_of(&returned).ok_or("it carries no state of ours")?;
    Ok((state, Answer::of(returned, kind)?))
}

fn state_of(returned: &Returned) -> Option<Ticket> {
    Ticket::parse(returned.state.as_deref()?)
}

/// The link or sign-in that a request names, in its path, its state or its cookie; believed in nothing.
pub(super) fn named(uri: &Uri, headers: &HeaderMap) -> Option<Uuid> {
    let of_path = uri.path().rsplit('/').next().and_then(Ticket::parse);
    let of_state = || Returned::read(uri.query()?).ok().as_ref().and_then(state_of);
    Some(of_path.or_else(of_state).or_else(|| browser_of(headers))?.id())
}

fn browser_of(headers: &HeaderMap) -> Option<Ticket> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut ours = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='));
    let first = ours.next()?;
    // A browser sends one of this name; two would be somebody's attempt.
    if ours.next().is_some() { None } else { Ticket::parse(first) }
}

/// The same page whatever is wrong, with a reference under which log and audit have the reason.
pub(super) async fn refuse(state: &ConsentState, named: Option<&Ticket>, reason: &str) -> Response {
    // Each is a row of the audit, which only grows: a flood of them is turned away, and its number written.
    if !state.inner.rate.admits_refusal(&state.inner.registry, named.map(Ticket::id)).await {
        leave_unwritten(state);
        return too_many();
    }
    let reference = audit(state, named.map(Ticket::tenant), reason).await;
    (StatusCode::BAD_REQUEST, pages::refused(&state.inner.settings, &reference)).into_response()
}

fn leave_unwritten(state: &ConsentState) {
    count("unwritten");
    if !state.inner.rate.count_unwritten(state.inner.clock.now()) {
        return;
    }
    tracing::warn!("the consent pages refuse more than can be written one by one: from now on their number is");
    let state = state.clone();
    tokio::spawn(async move {
        tokio::time::sleep(SUM_UP_AFTER).await;
        let Some(sum) = state.inner.rate.sum_up() else { return };
        tracing::warn!(count = sum.count, "refusals of the consent pages not written between {} and {}", sum.from, sum.until);
        if let Err(error) = state.inner.registry.audit_unwritten(sum.count, sum.from, sum.until).await {
            tracing::error!(count = sum.count, "how much a consent page refused cannot be written into the audit: {error}");
        }
    });
}

/// What became of one more refusal.
pub(super) fn count(outcome: &'static str) {
    metrics::counter!(metric::CONSENT_REFUSED, "outcome" => outcome).increment(1);
}

async fn audit(state: &ConsentState, named: Option<TenantId>, reason: &str) -> String {
    let reference = Uuid::new_v4().simple().to_string()[..12].to_owned();
    let told = format!("{reason} (reference {reference})");
    count("written");
    tracing::warn!(reference, "a consent page refused: {reason}");
    if let Err(error) = state.inner.registry.audit_refusal(named, "consent.refused", &told).await {
        tracing::error!(reference, "a refusal of a consent page cannot be written into the audit: {error}");
    }
    reference
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_link_its_state_or_its_cookie() {
        let ticket = |letter: &str| letter.repeat(85) + "A";
        let id = |letter: &str| Ticket::parse(&ticket(letter)).map(|ticket| ticket.id());
        let mut headers = HeaderMap::new();
        let named = |address: &str, headers: &HeaderMap| named(&address.parse().unwrap(), headers);
        assert_eq!(named("/consent/progress", &headers), None);
        headers.insert(header::COOKIE, format!("{COOKIE}={}", ticket("E")).parse().unwrap());
        assert_eq!(named("/consent/progress", &headers), id("E"));
        assert_eq!(named(&format!("/consent/callback?code=a&state={}", ticket("I")), &headers), id("I"));
        assert_eq!(named(&format!("/?code=a&state={}", ticket("I")), &headers), id("I"));
        assert_eq!(named(&format!("/consent/{}", ticket("M")), &headers), id("M"));
        assert!(id("E").is_some() && id("E") != id("I") && id("I") != id("M"));
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
