//! What a fuzzer calls: one function for each place where bytes of another machine are read, with what must hold
//! whatever they are.
//!
//! Each function takes any bytes and panics when a promise is broken. `fuzz/` runs them for as long as one likes; the
//! tests of this crate replay what it has found worth keeping (`fuzz/corpus`).

#[cfg(test)]
mod replay;

use bytes::Bytes;
use domain::{AlertFacts, AlertRecord, IncidentRecord, Record, Source, TenantId, Ticks, Verdict};
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use crate::query::NextLink;
use crate::split::{Next, split};
use crate::{extract, oauth, throttle};

/// The noon at which every answer of a fuzzer arrives.
const NOW: Ticks = Ticks(17_953_056_000_000_000);

/// A page of any source.
///
/// # Panics
/// When a record is no part of the page, or they are out of order, or one is judged wrongly ([`record`]), or a page
/// that another reader finds sound is refused or holds other records.
pub fn split_page(data: &[u8]) {
    let page = Bytes::copy_from_slice(data);
    let found = split(&page, [], |raw, _| raw);
    if let Some(found) = &found {
        let mut at = page.as_ptr() as usize;
        let end = at + page.len();
        for record in &found.records {
            let start = record.as_ptr() as usize;
            assert!(start >= at && !record.is_empty(), "records come in order, none overlaps another, none is empty");
            at = start + record.len();
            assert!(at <= end, "a record is a slice of the page");
            for source in Source::ALL {
                judged(*source, record);
            }
        }
        for source in Source::ALL {
            together_as_alone(*source, &page, &found.records);
        }
        if let Next::Link(link) = &found.next {
            assert!(!link.is_empty() && !link.contains('\0'));
            next_link(link.as_bytes());
        }
    }
    held_against_another_reader(data, found.as_ref().map(|found| found.records.as_slice()));
}

/// What is read of a page is what is read of each of its slices.
fn together_as_alone(source: Source, page: &Bytes, slices: &[Bytes]) {
    let together = extract::page(source, page).expect("it was a page just now").records;
    assert_eq!(together.len(), slices.len());
    for (one, slice) in together.iter().zip(slices) {
        assert!(is_same(one, &extract::record(source, slice.clone())), "{one:?} was read otherwise alone");
    }
}

fn is_same(one: &Record, other: &Record) -> bool {
    match (one, other) {
        (Record::Alert(one), Record::Alert(other)) => {
            let stamps = |it: &AlertRecord| (it.last_update_text.clone(), it.last_update, it.created);
            one.id == other.id && one.raw == other.raw && stamps(one) == stamps(other) && one.facts == other.facts
        }
        (Record::Incident(one), Record::Incident(other)) => {
            let words = |it: &IncidentRecord| [&it.title, &it.severity, &it.status].map(Clone::clone);
            let rest = |it: &IncidentRecord| (it.last_update, it.created, it.redirect.clone());
            one.id == other.id && one.raw == other.raw && words(one) == words(other) && rest(one) == rest(other)
        }
        (Record::Poison(one), Record::Poison(other)) => one.raw == other.raw && one.reason == other.reason,
        _ => false,
    }
}

/// serde_json's own tree, where it can read the page at all, knows which records there are.
fn held_against_another_reader(page: &[u8], records: Option<&[Bytes]>) {
    let body = page.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(page);
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else { return };
    let Some(Value::Array(theirs)) = members.get("value") else { return };
    match records {
        Some(records) => {
            // Two lists are read as one here; the tree keeps the last.
            let last = records.len().checked_sub(theirs.len()).map(|first| &records[first..]);
            let ours: Option<Vec<Value>> = last.and_then(|last| last.iter().map(|record| serde_json::from_slice(record).ok()).collect());
            assert_eq!(ours.as_ref(), Some(theirs), "the records are those that were sent");
        }
        None => {
            let text = String::from_utf8_lossy(body);
            let once = text.matches("value").count() == 1 && !text.contains("\\u");
            assert!(!once, "a sound page is not refused");
        }
    }
}

/// One record, as each of the sources.
///
/// # Panics
/// When it is called an alert or an incident without an id or without being sound JSON, when a column holds what
/// Postgres cannot, when its bytes are changed, or when a sound alert is called poison.
pub fn record(data: &[u8]) {
    let raw = Bytes::copy_from_slice(data);
    for source in Source::ALL {
        judged(*source, &raw);
    }
}

fn judged(source: Source, raw: &Bytes) {
    let tree: Option<Value> = serde_json::from_slice(raw).ok();
    let (kept, id) = match extract::record(source, raw.clone()) {
        Record::Alert(alert) => {
            assert_ne!(source, Source::GraphIncidents);
            columns(&alert.facts);
            column(alert.last_update_text.as_deref(), extract::MAX_STAMP * 3);
            assert!(alert.last_update.is_none() || alert.last_update_text.is_some());
            (alert.raw.into_bytes(), alert.id.as_str().to_owned())
        }
        Record::Incident(incident) => {
            assert_eq!(source, Source::GraphIncidents);
            column(incident.title.as_deref(), extract::MAX_TITLE);
            column(incident.severity.as_deref(), extract::MAX_WORD);
            column(incident.status.as_deref(), extract::MAX_WORD);
            column(incident.redirect.as_ref().map(domain::IncidentId::as_str), extract::MAX_ID);
            assert!(incident.redirect.as_ref().is_none_or(|redirect| !redirect.as_str().is_empty()));
            (incident.raw.into_bytes(), incident.id.as_str().to_owned())
        }
        Record::Poison(poison) => {
            assert_eq!(&poison.raw, raw);
            assert!(!poison.reason.is_empty() && poison.reason.is_ascii());
            assert!(!tree.is_some_and(|tree| is_sound(&tree, raw)), "a sound record is called poison: {}", poison.reason);
            return;
        }
    };
    assert_eq!(&kept, raw, "no byte is changed");
    assert!(!id.is_empty() && id.len() <= extract::MAX_ID && !id.contains('\0'));
    let text = std::str::from_utf8(raw).expect("a record is text");
    serde_json::from_str::<&serde_json::value::RawValue>(text).expect("a record is sound JSON");
    // A lone surrogate or an enormous number is no obstacle to Postgres, but it is to a tree.
    if let Some(tree) = tree {
        match &tree["id"] {
            Value::String(theirs) => assert_eq!(*theirs, id),
            Value::Number(theirs) => assert!(source == Source::GraphIncidents && (theirs.is_f64() || theirs.to_string() == id)),
            other => panic!("{other} is no id"),
        }
        assert!(depth(&tree) <= extract::MAX_DEPTH);
    }
}

/// Whether there is nothing that could be held against it as an alert or an incident.
fn is_sound(tree: &Value, raw: &[u8]) -> bool {
    let id = tree.get("id").and_then(Value::as_str).unwrap_or_default();
    tree.is_object()
        && !id.is_empty()
        && id.len() <= extract::MAX_ID
        && !id.contains('\0')
        && depth(tree) <= extract::MAX_DEPTH
        && raw.len() <= extract::MAX_RECORD
}

fn depth(tree: &Value) -> usize {
    match tree {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn columns(facts: &AlertFacts) {
    column(facts.title.as_deref(), extract::MAX_TITLE);
    let words = [
        &facts.incident_id,
        &facts.severity,
        &facts.status,
        &facts.service_source,
        &facts.detection_source,
        &facts.category,
        &facts.assigned_to,
        &facts.classification,
        &facts.determination,
    ];
    words.into_iter().for_each(|word| column(word.as_deref(), extract::MAX_WORD));
    for never_empty in [&facts.incident_id, &facts.assigned_to, &facts.classification, &facts.determination] {
        assert_ne!(never_empty.as_deref(), Some(""));
    }
}

fn column(text: Option<&str>, limit: usize) {
    assert!(text.is_none_or(|text| text.len() <= limit && !text.contains('\0')));
}

/// An answer of the token endpoint: the first byte chooses the status, the rest is the body.
///
/// # Panics
/// When tokens are given out for two tenants, a life or a wait is out of bounds, or words of the answer get into an
/// error that a person reads.
pub fn token_answer(data: &[u8]) {
    const STATUSES: [u16; 8] = [200, 400, 401, 403, 429, 500, 503, 302];
    const OURS: TenantId = TenantId(Uuid::from_u128(0xb3c1_b5fc_828c_45fa_a1e1_10d7_4f6d_6e9c));
    const OTHER: TenantId = TenantId(Uuid::from_u128(0xbad));
    let Some((first, body)) = data.split_first() else { return };
    // Letters choose as figures do: a corpus that can be read.
    let status = StatusCode::from_u16(STATUSES[usize::from(*first) % STATUSES.len()]).expect("a status");
    let read = |tenant| oauth::read_answer(tenant, status, &HeaderMap::new(), body, NOW, NOW);
    let (ours, other) = (read(OURS), read(OTHER));
    assert!(ours.is_err() || other.is_err(), "one answer is for one tenant");
    for answer in [ours, other] {
        match answer {
            Ok(redeemed) => {
                assert_eq!(status, StatusCode::OK);
                let life = redeemed.access.expires_at.since(NOW);
                assert!(life >= oauth::SHORTEST_LIFE && life <= oauth::LONGEST_LIFE);
            }
            Err(error) => {
                let trouble = error.trouble();
                assert!(!trouble.reason.is_empty() && !trouble.action.is_empty());
                assert!(!error.is_dead_token() || trouble.verdict == Verdict::NeedsConsent);
                if let Verdict::RetryAfter(wait) = trouble.verdict {
                    assert!(wait >= throttle::SHORTEST && wait <= throttle::LONGEST);
                }
                let said = error.to_string();
                assert!(said.len() < 2000 && !said.contains(char::is_control), "{said}");
            }
        }
    }
}

/// What a sign-in by way of a browser reads: on the first line a set of keys, on the second a token, then a discovery
/// document.
///
/// # Panics
/// When a token is believed that nobody has signed, or when keys are taken from another host than the sign-in service's.
pub fn sign_in(data: &[u8]) {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let keys = oauth::Keys::read(line()).unwrap_or_default();
    let token = String::from_utf8_lossy(line());
    let tenant = TenantId(Uuid::from_u128(0xb3c1_b5fc_828c_45fa_a1e1_10d7_4f6d_6e9c));
    let expected =
        oauth::Expected { tenant, issuer: "https://login.test/{tenantid}/v2.0", client_id: "client", nonce: Some("nonce"), now: NOW };
    if let Err(flaw) = oauth::check_id_token(&token, &keys, &expected) {
        let error = oauth::SignInError::from(flaw);
        assert!(error.trouble().verdict.needs_a_person() && !error.is_dead_token());
    } else {
        panic!("a token is believed that nobody has signed");
    }
    let login = Url::parse("https://login.microsoftonline.com").expect("an address");
    match oauth::read_discovery(line(), &login) {
        Ok(found) => {
            assert!(found.jwks_uri.as_str().starts_with("https://login.microsoftonline.com/"), "{}", found.jwks_uri);
            assert!(found.issuer.to_ascii_lowercase().contains(&found.id.to_string()));
        }
        Err(error) => {
            let said = error.to_string();
            assert!(said.len() < 2000 && !said.contains(char::is_control), "{said}");
        }
    }
}

/// `Retry-After`, and on a second line `Date`.
///
/// # Panics
/// When a wait is shorter than a second or longer than an hour, or is not what plain seconds say.
pub fn retry_after(data: &[u8]) {
    let mut lines = data.splitn(2, |byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in [RETRY_AFTER, DATE] {
        if let Some(value) = lines.next().and_then(|line| HeaderValue::from_bytes(line).ok()) {
            headers.insert(name, value);
        }
    }
    for now in [NOW, Ticks(0), Ticks(i64::MIN), Ticks(i64::MAX)] {
        let Some(wait) = throttle::retry_after(&headers, now) else { continue };
        assert!(wait.span >= throttle::SHORTEST && wait.span <= throttle::LONGEST);
        assert!(!wait.shortened || wait.span == throttle::LONGEST);
        assert_eq!(wait.words().contains("more than an hour"), wait.shortened);
        let text = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).unwrap_or_default().trim();
        if let Ok(seconds) = text.parse::<u64>()
            && text.bytes().all(|byte| byte.is_ascii_digit())
        {
            assert_eq!(wait.span.as_secs(), seconds.clamp(1, 3600));
        }
    }
    let _ = throttle::server_date(&headers);
}

/// The text of a link to a next page, found on a page of each of these addresses.
///
/// # Panics
/// When a link is accepted that leaves the origin. That is decided by the letters of the address, not by the reader
/// that has accepted it.
pub fn next_link(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for base in ["https://graph.microsoft.com/", "http://127.0.0.1:18400/", "https://api.example.test:8443/"] {
        let base = Url::parse(base).expect("an address");
        let asked = base.join("v1.0/security/alerts_v2?$top=1").expect("an address");
        let Some(link) = NextLink::accept(text, &asked, &base) else { continue };
        let called = link.url().as_str();
        assert!(called.starts_with(base.as_str()), "{text:?} leads away: {called:?}");
        assert!(called.bytes().all(|byte| byte.is_ascii_graphic()) && !called.contains('#'), "{called:?}");
        assert_eq!(Url::parse(called).as_ref(), Ok(link.url()), "read again it is the same address");
        assert_eq!(NextLink::accept(called, &asked, &base).as_ref(), Some(&link), "and it is accepted again");
    }
}
