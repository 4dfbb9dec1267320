//! How the effects of the script are carried out on one request.

use crate::answer::Answer;
use crate::bomb;
use crate::identity::errors::Refusal;
use crate::line::Cable;
use crate::poison;
use crate::scenario::{Effect, Endpoint, Outage, RetryAfter, Truncate};
use crate::server::Call;
use crate::settings::Source;
use crate::shelf::Shelf;
use crate::stamp::Stamp;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use std::io;
use std::time::Duration;

/// What becomes of a request before anybody looks at it.
#[derive(Debug)]
pub(crate) enum Fate {
    Normal,
    Answer(Box<Answer>),
    Reset,
    Hang,
}

/// Decides whether a request is answered, refused, torn off or left waiting.
pub(crate) fn fate(call: &Call) -> Fate {
    call.effects.find(|effect| fate_by(call, effect)).unwrap_or(Fate::Normal)
}

fn fate_by(call: &Call, effect: &Effect) -> Option<Fate> {
    let refusal = |refusal: Refusal| Fate::Answer(Box::new(refusal.answer(call.at, call.request_id, call.request_id)));
    // The page where people sign in tells its own errors, by sending the browser back.
    let at_token = call.endpoint == Endpoint::Token;
    let answer = match effect {
        Effect::Throttle { status, retry_after } => throttle(call, *status, retry_after),
        Effect::Outage(Outage::Reset) => return Some(Fate::Reset),
        Effect::Outage(Outage::InternalError) => {
            Answer::error(call, 500, if call.endpoint == Endpoint::Defender { "InternalServerError" } else { "generalException" }, "")
        }
        Effect::Outage(Outage::Unavailable) => Answer::error(call, 503, "serviceNotAvailable", "The service is temporarily unavailable."),
        Effect::Hang => return Some(Fate::Hang),
        Effect::Html { status } => Answer::text(
            *status,
            "text/html; charset=utf-8",
            "<!DOCTYPE html>\r\n<html><head><title>Proxy</title></head><body><h1>Bağlantı denetleniyor / Forbindelsen kontrolleres</h1></body></html>",
        ),
        Effect::Forbidden { code } => forbidden(call, code.as_deref()),
        Effect::ExpiredSkipToken { status } => Answer::error(call, *status, "BadRequest", "The skip token has expired."),
        Effect::Unauthorized { claims } => Answer::unauthorized(call, "Access token validation failure.", *claims),
        Effect::Revoke { code } => return Some(refusal(Refusal::of(*code))),
        Effect::SecretExpired => return Some(refusal(Refusal::of(7000222))),
        Effect::ConsentMissing if at_token => return Some(refusal(Refusal::of(65001))),
        Effect::SignInError { code, error, suberror, status } if at_token => {
            let usual = Refusal::of(*code);
            return Some(refusal(Refusal {
                status: status.unwrap_or(usual.status),
                error: error.clone().unwrap_or(usual.error),
                suberror: suberror.clone().or(usual.suberror),
                ..Refusal::of(*code)
            }));
        }
        _ => return None,
    };
    Some(Fate::Answer(Box::new(answer)))
}

fn forbidden(call: &Call, code: Option<&str>) -> Answer {
    let usual = if call.endpoint == Endpoint::Defender { "Forbidden" } else { "accessDenied" };
    Answer::error(call, 403, code.unwrap_or(usual), "The caller does not have the permission for this.")
}

fn throttle(call: &Call, status: u16, retry_after: &RetryAfter) -> Answer {
    let answer = match call.endpoint {
        // The token endpoint does not even speak JSON when it has had enough.
        Endpoint::Token | Endpoint::Authorize | Endpoint::Discovery => {
            Answer::text(status, "text/plain; charset=utf-8", "Too Many Requests")
        }
        _ => Answer::error(call, status, "TooManyRequests", "Please retry again later."),
    };
    let value = match retry_after {
        RetryAfter::Seconds(seconds) => seconds.to_string(),
        RetryAfter::Decimal(seconds) => seconds.to_string(),
        RetryAfter::HttpDate(seconds) => call.at.plus(Duration::from_secs(*seconds)).http_date(),
        RetryAfter::Absurd => "99999999999999999999".to_owned(),
        RetryAfter::Text(text) => text.clone(),
        RetryAfter::Missing => return answer,
    };
    answer.header("retry-after", &value)
}

/// The answer to a page on which a broken record is.
pub(crate) fn broken(call: &Call, shelf: &Shelf, rows: &[usize]) -> Option<Answer> {
    let ids: Vec<&str> = rows.iter().filter_map(|row| shelf.rows[*row].id.as_deref()).collect();
    let hit = |effect: &Effect| matches!(effect, Effect::Broken { id } if ids.contains(&id.as_str())).then_some(());
    call.effects.find(hit).map(|()| Answer::error(call, 500, "generalException", "An internal server error occurred."))
}

/// Disturbs the rows of a page.
pub(crate) fn disturb_rows(call: &Call, source: Source, rows: &mut Vec<Bytes>) {
    for effect in &call.effects.felt {
        match effect {
            // Neither ascending nor descending, as soon as there are three.
            Effect::Reorder if rows.len() > 1 => {
                let middle = rows.len() / 2;
                rows.rotate_left(middle);
                rows.swap(0, middle);
            }
            Effect::DuplicateRecord => rows.extend(rows.first().cloned()),
            Effect::PoisonRecord { kind } => {
                let id = format!("da{}_1", call.request_id);
                rows.insert(rows.len() / 2, poison::record(*kind, source, &id, call.at).into());
            }
            _ => {}
        }
    }
}

/// Bends the link to the next page.
pub(crate) fn bend_link(call: &Call, link: Option<String>) -> Option<String> {
    let bent = call.effects.find(|effect| match effect {
        Effect::ForeignNextLink { url } => Some(url.clone()),
        Effect::LoopingNextLink => Some(format!("{}{}?{}", call.base_url, call.path, call.query)),
        _ => None,
    });
    bent.or(link)
}

/// Sends an answer the way the script wants it sent.
pub(crate) async fn deliver(call: &Call, answer: Answer, cable: Cable, now: Stamp) -> Response {
    match fate(call) {
        Fate::Hang => std::future::pending().await,
        Fate::Reset => {
            cable.cut();
            return Response::new(Body::from("cut"));
        }
        Fate::Normal | Fate::Answer(_) => {}
    }
    let mut response = Response::builder().status(answer.status).header("date", now.http_date());
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    if !matches!(call.endpoint, Endpoint::Token | Endpoint::Authorize | Endpoint::Discovery) {
        response = response.header("request-id", call.request_id.to_string()).header("client-request-id", &call.client_request_id);
    }
    if let Some(bytes) = call.effects.find(|effect| if let Effect::ResetAfter { bytes } = effect { Some(*bytes) } else { None }) {
        cable.cut_after(bytes);
    }
    let bomb = call.effects.find(|effect| if let Effect::GzipBomb { megabytes } = effect { Some(*megabytes) } else { None });
    if bomb.is_some() {
        response = response.header("content-encoding", "gzip");
    }
    let delivery = call.effects.find(|effect| match effect {
        Effect::Truncate(how) => Some(Delivery::Truncated(*how)),
        Effect::Trickle { bytes, every_ms } => Some(Delivery::Trickled { bytes: (*bytes).max(1), every: Duration::from_millis(*every_ms) }),
        _ => None,
    });
    let body = match delivery {
        None => Body::from(bomb.map_or(answer.body, |megabytes| bomb::inflating_to(megabytes).into())),
        Some(Delivery::Truncated(Truncate::CutJson)) => Body::from(answer.body.slice(..answer.body.len() / 2)),
        Some(Delivery::Truncated(Truncate::ShortBody)) => {
            response = response.header("content-length", answer.body.len());
            broken_off(answer.body)
        }
        Some(Delivery::Trickled { bytes, every }) => {
            response = response.header("content-length", answer.body.len());
            trickled(answer.body, bytes, every)
        }
    };
    // Header values come from our own texts or from the script; one that cannot be sent shows as a 500.
    response.body(body).unwrap_or_else(|error| {
        let mut broken = Response::new(Body::from(format!("the scripted answer cannot be sent: {error}")));
        *broken.status_mut() = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
        broken
    })
}

enum Delivery {
    Truncated(Truncate),
    Trickled { bytes: usize, every: Duration },
}

/// Half of the body, a breath, so that it gets out, and then nothing more.
fn broken_off(body: Bytes) -> Body {
    let half = body.slice(..body.len() / 2);
    Body::from_stream(stream::unfold(Some(half), |rest| async {
        match rest {
            Some(half) if !half.is_empty() => Some((Ok(half), Some(Bytes::new()))),
            Some(_) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Some((Err(io::Error::from(io::ErrorKind::BrokenPipe)), None))
            }
            None => None,
        }
    }))
}

fn trickled(body: Bytes, bytes: usize, every: Duration) -> Body {
    Body::from_stream(stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(every).await;
        let piece = rest.split_to(bytes.min(rest.len()));
        Some((Ok::<_, io::Error>(piece), rest))
    }))
}
