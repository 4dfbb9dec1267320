//! Graph `/v1.0/security/alerts_v2`, with its documented filters, limits and order, and the habits seen in the
//! field: `$top` silently lowered, `$skip` over 500 refused, newest first, a link to the next page or none.

use crate::answer::Answer;
use crate::facts::Field;
use crate::faults;
use crate::filter::{Kind, Property};
use crate::identity::tokens::BadAccess;
use crate::line::Cable;
use crate::odata::Options;
use crate::scenario::{Effect, Endpoint};
use crate::server::{App, Call, bearer};
use crate::settings::{NextLink, OrderBy, Source};
use crate::shelf::{Place, SortBy, Want};
use crate::vocabulary::{CLASSIFICATION, DETERMINATION, SERVICE_SOURCE, SEVERITY, STATUS};
use crate::world::{Tenant, TenantState};
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use std::sync::Arc;

const OPTIONS: &[&str] = &["$filter", "$top", "$skip", "$count", "$orderby", "$skiptoken"];

const PROPERTIES: &[Property] = &[
    Property { name: "createdDateTime", field: Field::Created, kind: Kind::Time },
    Property { name: "lastUpdateDateTime", field: Field::Updated, kind: Kind::Time },
    Property { name: "severity", field: Field::Severity, kind: Kind::Word(&SEVERITY) },
    Property { name: "status", field: Field::Status, kind: Kind::Word(&STATUS) },
    Property { name: "serviceSource", field: Field::ServiceSource, kind: Kind::Word(&SERVICE_SOURCE) },
    Property { name: "assignedTo", field: Field::AssignedTo, kind: Kind::Text },
    Property { name: "classification", field: Field::Classification, kind: Kind::Word(&CLASSIFICATION) },
    Property { name: "determination", field: Field::Determination, kind: Kind::Word(&DETERMINATION) },
];

pub(crate) async fn list(State(app): State<Arc<App>>, ConnectInfo(cable): ConnectInfo<Cable>, uri: Uri, headers: HeaderMap) -> Response {
    let all_members = asks_for_all_members(&headers);
    let settings = &app.world.settings;
    let listing = Listing {
        source: Source::GraphAlerts,
        path: "alerts_v2",
        options: OPTIONS,
        properties: PROPERTIES,
        usual: settings.default_page,
        most: settings.graph_max_top,
    };
    api(&app, Endpoint::Graph, cable, &uri, &headers, |call, tenant| {
        page(&app, call, tenant, &listing, |state, row| state.latest_body(&tenant.face, Source::GraphAlerts, row, all_members))
    })
    .await
}

pub(crate) async fn one(
    State(app): State<Arc<App>>,
    ConnectInfo(cable): ConnectInfo<Cable>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let all_members = asks_for_all_members(&headers);
    api(&app, Endpoint::Graph, cable, &uri, &headers, |call, tenant| {
        single(call, tenant, Source::GraphAlerts, &id, all_members, &format!("{}/v1.0/$metadata#security/alerts_v2/$entity", call.base_url))
    })
    .await
}

fn asks_for_all_members(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|wish| wish.trim() == "include-unknown-enum-members")
}

/// A request to one of the APIs: the token decides whose data it is about, and whether there is any.
pub(crate) async fn api(
    app: &App,
    endpoint: Endpoint,
    cable: Cable,
    uri: &Uri,
    headers: &HeaderMap,
    answer: impl FnOnce(&Call, &Tenant) -> Result<Answer, String>,
) -> Response {
    let (name, tenant, access) = app.identity.check(bearer(headers), app.world.clock.now());
    let mut call = app.call(endpoint, tenant, uri, headers);
    call.token = name;
    let resources = match endpoint {
        Endpoint::Defender => &app.world.settings.defender_resources,
        _ => &app.world.settings.graph_resources,
    };
    app.conclude(call, cable, |call| {
        let access = match access {
            Ok(access) => access,
            Err(BadAccess::Missing) => return Answer::unauthorized(call, "Access token is empty.", false),
            Err(BadAccess::Unknown) => {
                return Answer::unauthorized(call, "CompactToken validation failed: the token cannot be read.", false);
            }
            Err(BadAccess::Expired) => return Answer::unauthorized(call, "Lifetime validation failed, the token is expired.", false),
        };
        if !resources.contains(&access.audience) {
            return Answer::unauthorized(call, "Access token validation failure. Invalid audience.", false);
        }
        if !access.allows(endpoint) {
            return Answer::error(
                call,
                403,
                if endpoint == Endpoint::Defender { "Forbidden" } else { "accessDenied" },
                "The token carries none of the permissions this call needs.",
            );
        }
        match app.world.find(access.tenant) {
            None => Answer::unauthorized(call, "The tenant of the token is not known here.", false),
            Some(tenant) => answer(call, tenant).unwrap_or_else(|message| Answer::bad_request(call, &message)),
        }
    })
    .await
}

/// One of Graph's lists.
pub(crate) struct Listing {
    pub(crate) source: Source,
    /// The last part of its address.
    pub(crate) path: &'static str,
    pub(crate) options: &'static [&'static str],
    pub(crate) properties: &'static [Property],
    /// Rows on a page when the caller does not say.
    pub(crate) usual: usize,
    /// Rows on a page at most.
    pub(crate) most: usize,
}

/// A page of one of Graph's lists.
pub(crate) fn page(
    app: &App,
    call: &Call,
    tenant: &Tenant,
    listing: &Listing,
    body: impl Fn(&TenantState, usize) -> Bytes,
) -> Result<Answer, String> {
    let settings = &app.world.settings;
    let options = Options::read(&call.query, listing.options)?;
    let filter = options.filter(listing.properties)?;
    let order_by = call.effects.find(|effect| if let Effect::OrderBy(order) = effect { Some(*order) } else { None });
    let (sort, ascending) = order(options.get("$orderby"), order_by.unwrap_or(settings.order_by))?;
    let asked_skip = options.number("$skip")?.unwrap_or(0);
    if asked_skip > settings.graph_max_skip {
        return Err(format!("The value of $skip must not be greater than {}.", settings.graph_max_skip));
    }
    let token = options.get("$skiptoken").map(|token| Token::read(token).ok_or("The skip token is not valid.")).transpose()?;
    let (after, counted) = match token {
        None => (None, 0),
        Some(Token::After(place)) => (Some(place), 0),
        Some(Token::Rows(rows)) => (None, rows),
    };
    let top = page_size(call, options.number("$top")?, listing.usual, listing.most);
    let skip = asked_skip + counted;
    let want = Want { filter: filter.as_ref(), sort, ascending, after, skip, top };
    let want_count = options.flag("$count")?;

    let mut state = tenant.lock();
    if skip > 0 && call.effects.find(|effect| matches!(effect, Effect::Shift).then_some(())).is_some() {
        state.shift(&tenant.face, listing.source, &want, call.at);
    }
    let shelf = state.shelf(listing.source);
    let total = want_count.then(|| shelf.count(filter.as_ref()));
    let found = shelf.find(&want);
    if let Some(broken) = faults::broken(call, shelf, &found.rows) {
        return Ok(broken);
    }
    let mut rows: Vec<Bytes> = found.rows.iter().map(|row| body(&state, *row)).collect();
    if !call.effects.damage_delivery() {
        state.mark_served(listing.source, &found.rows, call.at);
    }
    drop(state);

    let next_link_kind = call.effects.find(|effect| if let Effect::NextLink(kind) = effect { Some(*kind) } else { None });
    let link = found.more_after.and_then(|place| match next_link_kind.unwrap_or(settings.next_link) {
        NextLink::Absent => None,
        NextLink::SkipToken => Some(next_link(call, "$skiptoken", &Token::After(place).text())),
        NextLink::CountingSkipToken => Some(next_link(call, "$skiptoken", &Token::Rows(skip + top).text())),
        NextLink::Skip => Some(next_link(call, "$skip", &(skip + top).to_string())),
    });
    let link = faults::bend_link(call, link);
    faults::disturb_rows(call, listing.source, &mut rows);
    Ok(envelope(&format!("{}/v1.0/$metadata#security/{}", call.base_url, listing.path), total, link.as_deref(), &rows))
}

/// How many rows a page holds: what was asked for, lowered without a word where it is too much.
pub(crate) fn page_size(call: &Call, asked: Option<usize>, usual: usize, most: usize) -> usize {
    let ignored = call.effects.find(|effect| matches!(effect, Effect::IgnoreTop).then_some(())).is_some();
    let clamp = call.effects.find(|effect| if let Effect::Clamp { top } = effect { Some(*top) } else { None });
    let top = if ignored { usual } else { asked.unwrap_or(usual) };
    top.min(most).min(clamp.unwrap_or(usize::MAX))
}

/// By what to sort, and whether upwards.
fn order(asked: Option<&str>, switch: OrderBy) -> Result<(SortBy, bool), String> {
    const NEWEST_FIRST: (SortBy, bool) = (SortBy::Updated, false);
    let Some(asked) = asked else { return Ok(NEWEST_FIRST) };
    match switch {
        OrderBy::Refused => Err("The query specified in the URI is not valid. The query option '$orderby' is not allowed.".to_owned()),
        OrderBy::Ignored => Ok(NEWEST_FIRST),
        OrderBy::Accepted => {
            let mut words = asked.split_whitespace();
            let sort = match words.next() {
                Some("lastUpdateDateTime") => SortBy::Updated,
                Some("createdDateTime") => SortBy::Created,
                _ => return Err(format!("The expression '{asked}' is not supported for $orderby.")),
            };
            match (words.next(), words.next()) {
                (None | Some("asc"), None) => Ok((sort, true)),
                (Some("desc"), None) => Ok((sort, false)),
                _ => Err(format!("The expression '{asked}' is not supported for $orderby.")),
            }
        }
    }
}

/// What a skip token remembers.
#[derive(serde::Serialize, serde::Deserialize)]
enum Token {
    After(Place),
    Rows(usize),
}

impl Token {
    fn text(&self) -> String {
        // A struct of two numbers always has a JSON text.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("a skip token can be written"))
    }

    fn read(text: &str) -> Option<Token> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }
}

/// The same request for the rows after these.
pub(crate) fn next_link(call: &Call, option: &str, value: &str) -> String {
    let kept = url::form_urlencoded::parse(call.query.as_bytes()).filter(|(name, _)| !matches!(name.as_ref(), "$skip" | "$skiptoken"));
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).append_pair(option, value).finish();
    format!("{}{}?{query}", call.base_url, call.path)
}

/// The page around the records, each as its bytes are.
pub(crate) fn envelope(context: &str, total: Option<usize>, next_link: Option<&str>, rows: &[Bytes]) -> Answer {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut body = Vec::with_capacity(rows.iter().map(|row| row.len() + 1).sum::<usize>() + 1024);
    body.extend_from_slice(format!("{{\"@odata.context\":{}", quoted(context)).as_bytes());
    if let Some(total) = total {
        body.extend_from_slice(format!(",\"@odata.count\":{total}").as_bytes());
    }
    if let Some(link) = next_link {
        body.extend_from_slice(format!(",\"@odata.nextLink\":{}", quoted(link)).as_bytes());
    }
    body.extend_from_slice(b",\"value\":[");
    for (number, row) in rows.iter().enumerate() {
        if number > 0 {
            body.push(b',');
        }
        body.extend_from_slice(row);
    }
    body.extend_from_slice(b"]}");
    Answer { records: rows.len(), ..Answer::json(200, body) }
}

/// One record by its id, which is compared letter by letter.
pub(crate) fn single(call: &Call, tenant: &Tenant, source: Source, id: &str, everything: bool, context: &str) -> Result<Answer, String> {
    let state = tenant.lock();
    let Some(row) = state.shelf(source).position(id) else {
        return Ok(Answer::not_found(call, &format!("{} {id}", if source == Source::GraphIncidents { "Incident" } else { "Alert" })));
    };
    let body = state.latest_body(&tenant.face, source, row, everything);
    let Some(members) = body.strip_prefix(b"{") else { return Ok(Answer::json(200, body)) };
    let mut whole = format!("{{\"@odata.context\":{},", serde_json::Value::from(context)).into_bytes();
    whole.extend_from_slice(members);
    Ok(Answer { records: 1, ..Answer::json(200, whole) })
}
