//! Microsoft's alert APIs, in memory: answers the poller's questions as the scenario says they behave.

use std::sync::Arc;

use alert_poller::source::{AlertSource, FetchError, Manner, Page, Query};
use domain::{AccessToken, HeldTenant, Record, Source, Ticks, Trouble, Verdict};
use microsoft::ApiErrorKind;
use microsoft::query::{FacetField, WindowQuery};
use secrecy::ExposeSecret;

use crate::process::Process;
use crate::scenario::{CloudFault, Links, Ordering, Server};
use crate::tally::{Fault, Tally};
use crate::time::{Ms, SECOND, TICKS, span, ticks};
use crate::world::{Curse, Feed};

/// The APIs, as one process reaches them.
pub(crate) struct Cloud {
    pub(crate) process: Arc<Process>,
}

/// Where a page says that the next one is.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    Next(WindowQuery),
    Foreign,
    Expired,
}

/// What a page holds: versions by place, and its link.
#[derive(Debug)]
struct Answer {
    versions: Vec<usize>,
    link: Option<Link>,
}

impl AlertSource for Cloud {
    type Link = Link;

    fn manner(&self, source: Source) -> Option<Manner> {
        let scenario = &self.process.run.scenario;
        Some(Manner {
            max_page: scenario.page,
            max_skip: scenario.max_skip,
            can_order: microsoft::supports_order(source),
            facets: microsoft::facets(source),
        })
    }

    async fn fetch(&self, tenant: &HeldTenant, source: Source, token: &AccessToken, query: &Query<Link>) -> Result<Page<Link>, FetchError> {
        let process = &self.process;
        process.alive().await;
        let arrived = process.now();
        let slow = process.dice.chance(process.run.scenario.slowness);
        let (before, after) = if slow { (process.dice.range(0, 900), process.dice.range(0, 900)) } else { (0, 0) };
        self.asked(tenant, source, query, arrived);
        if let Some(fault) = self.fault(tenant, source, arrived) {
            return self.fail(fault).await;
        }
        if before > 0 {
            tokio::time::sleep(span(before)).await;
        } else if process.dice.chance(0.1) {
            tokio::task::yield_now().await;
        }
        let answer = self.answer(tenant, source, token, query, process.now());
        if after > 0 {
            tokio::time::sleep(span(after)).await;
        }
        process.alive().await;
        answer
    }
}

impl Cloud {
    fn asked(&self, tenant: &HeldTenant, source: Source, query: &Query<Link>, now: Ms) {
        let process = &self.process;
        let mut state = process.run.state();
        let state = &mut *state;
        let numbers = match query {
            Query::Window(window) => [window.from.0, window.before.map_or(0, |before| before.0), i64::from(window.skip)],
            Query::Next(_) => [1, 1, 1],
        };
        state.trace.event(now, "fetch", &numbers, || format!("process {} {} {source} {query:?}", process.serial, tenant.name));
        state.tally.add("fetches", 1);
        let window = if let Query::Window(window) = query { Some(window) } else { None };
        state.checker.fetching(process, tenant, source, window, now, &mut state.tally);
    }

    /// What stands in the way of an answer.
    fn fault(&self, tenant: &HeldTenant, source: Source, now: Ms) -> Option<CloudFault> {
        let process = &self.process;
        let scenario = &process.run.scenario;
        if scenario.cut_off.iter().any(|(replica, cut)| *replica == process.replica && cut.at(now).is_some()) {
            process.run.state().tally.fire(Fault::CutFromCloud);
            return Some(if process.dice.chance(0.5) { CloudFault::Hangs } else { CloudFault::Unavailable });
        }
        let number = scenario.tenants.iter().position(|known| known.id == tenant.id)?;
        let concerns = |audience: &Option<_>| audience.is_none_or(|audience| audience == source.audience());
        let faults = scenario.cloud.iter().filter(|(whom, audience, _)| *whom == number && concerns(audience));
        let fault = faults.filter_map(|(_, _, during)| during.at(now)).next()?;
        match fault {
            CloudFault::SomeFail(every) => {
                let every = i64::try_from(every).unwrap_or(2);
                (process.dice.range(0, every) == 0).then_some(fault)
            }
            _ => Some(fault),
        }
    }

    async fn fail(&self, fault: CloudFault) -> Result<Page<Link>, FetchError> {
        let process = &self.process;
        let fired = match fault {
            CloudFault::Hangs => Fault::AnswerHangs,
            CloudFault::Unavailable => Fault::Unavailable,
            CloudFault::Truncated => Fault::AnswerTruncated,
            CloudFault::Throttled(_) => Fault::Throttled,
            CloudFault::Unauthorized => Fault::Unauthorized,
            CloudFault::SomeFail(_) => Fault::PageFails,
        };
        let now = process.now();
        {
            let mut state = process.run.state();
            state.tally.fire(fired);
            state.trace.event(now, "fault", &[], || format!("process {} {fault:?}", process.serial));
        }
        tokio::task::yield_now().await;
        match fault {
            CloudFault::Hangs => std::future::pending().await,
            CloudFault::Unavailable | CloudFault::SomeFail(_) => Err(error(ApiErrorKind::Unavailable)),
            CloudFault::Truncated => Err(error(ApiErrorKind::BadAnswer)),
            CloudFault::Throttled(wait) => Err(error(ApiErrorKind::Throttled(span(wait)))),
            CloudFault::Unauthorized => Err(error(ApiErrorKind::Unauthorized)),
        }
    }

    /// What the source says at this moment.
    fn answer(
        &self,
        tenant: &HeldTenant,
        source: Source,
        token: &AccessToken,
        query: &Query<Link>,
        now: Ms,
    ) -> Result<Page<Link>, FetchError> {
        let process = &self.process;
        let scenario = &process.run.scenario;
        let mut state = process.run.state();
        let state = &mut *state;
        let whose = (tenant.id, source.audience());
        let stored = state.vault.current(tenant.id);
        let welcome =
            state.identity.admit(token.bearer.expose_secret(), whose, stored, process.serial, now, &mut state.checker, &mut state.tally);
        if !welcome {
            return Err(error(ApiErrorKind::Unauthorized));
        }
        let Some(server) = scenario.server(tenant.id, source) else { return Err(error(ApiErrorKind::Refused)) };
        let Some(feed) = state.world.feed(tenant.id, source, now) else { return Err(error(ApiErrorKind::Refused)) };
        let window = match query {
            Query::Window(window) if window.skip > scenario.max_skip => return Err(error(ApiErrorKind::Refused)),
            Query::Window(window) | Query::Next(Link::Next(window)) => window,
            Query::Next(Link::Foreign) => return Err(error(ApiErrorKind::ForeignNextLink)),
            Query::Next(Link::Expired) => return Err(error(ApiErrorKind::SkipExpired)),
        };
        let answer = look_up(feed, &server, scenario.page, window, &mut state.tally).map_err(error)?;
        let records: Vec<Record> = answer.versions.iter().map(|at| feed.versions[*at].record.clone()).collect();
        state.tally.add("records_served", records.len() as u64);
        let bytes = records.iter().map(Record::len).sum::<usize>() + 2;
        let server_date = (!process.dice.chance(0.05)).then(|| Ticks(ticks(now - now.rem_euclid(SECOND)).0 / TICKS * TICKS));
        Ok(Page { records, next: answer.link, server_date, bytes })
    }
}

/// Answers a question about a window.
fn look_up(feed: &Feed, server: &Server, page: u32, window: &WindowQuery, tally: &mut Tally) -> Result<Answer, ApiErrorKind> {
    let ordered = window.ordered && microsoft::supports_order(feed.source);
    if ordered && server.ordering == Ordering::Refused {
        return Err(ApiErrorKind::OrderRefused);
    }
    let mut found: Vec<(Ticks, u32, usize)> = feed
        .visible()
        .filter_map(|(at, version)| {
            let stamp = version.on(window.axis).filter(|stamp| *stamp >= window.from)?;
            let inside = window.before.is_none_or(|before| stamp < before) && fits(&version.words, window);
            inside.then_some((stamp, version.place, at))
        })
        .collect();
    match server.ordering {
        Ordering::Accepted if ordered => found.sort_unstable(),
        Ordering::Shuffled => found.sort_unstable_by_key(|(_, place, at)| (*place, *at)),
        Ordering::Created => found.sort_unstable_by_key(|(_, place, at)| (feed.versions[*at].created, *place, *at)),
        Ordering::Accepted | Ordering::NewestFirst | Ordering::Refused => {
            found.sort_unstable_by_key(|(stamp, place, at)| (std::cmp::Reverse(*stamp), *place, *at));
        }
    }
    let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let most = size(window.top.min(page)).min(server.clamp.unwrap_or(usize::MAX)).max(1);
    let versions: Vec<usize> = found.iter().skip(size(window.skip)).take(most).map(|(_, _, at)| *at).collect();
    for version in &versions {
        match feed.versions[*version].curse {
            Some(Curse::Fails) => return Err(ApiErrorKind::Unavailable),
            Some(Curse::TooLarge) => return Err(ApiErrorKind::TooLarge),
            None => {}
        }
    }
    let more = found.len() > size(window.skip) + versions.len();
    let on = || Link::Next(WindowQuery { skip: window.skip + u32::try_from(versions.len()).unwrap_or(0), ..*window });
    let link = match server.links {
        Links::Present if more => Some((on(), Fault::LinkPresent)),
        Links::Always => Some((on(), Fault::LinkPresent)),
        Links::Looping if !versions.is_empty() => Some((Link::Next(*window), Fault::LinkLoops)),
        Links::Foreign if more => Some((Link::Foreign, Fault::LinkForeign)),
        Links::Expired if more => Some((Link::Expired, Fault::LinkExpired)),
        _ => None,
    };
    let link = link.map(|(link, fault)| {
        tally.fire(fault);
        link
    });
    Ok(Answer { versions, link })
}

/// Whether a record is in the part of a division that is asked for.
fn fits(words: &[Option<&'static str>; 3], window: &WindowQuery) -> bool {
    window.facets.iter().flatten().all(|facet| {
        let place = match facet.field {
            FacetField::Severity => 0,
            FacetField::Status => 1,
            FacetField::ServiceSource => 2,
        };
        words[place] == facet.value
    })
}

/// An error as the product's own reader of answers would make it.
fn error(kind: ApiErrorKind) -> FetchError {
    let verdict = match &kind {
        ApiErrorKind::Throttled(wait) => Verdict::RetryAfter(*wait),
        ApiErrorKind::Forbidden => Verdict::NeedsConsent,
        ApiErrorKind::Unavailable | ApiErrorKind::BadAnswer | ApiErrorKind::Unauthorized | ApiErrorKind::SkipExpired => Verdict::Retry,
        _ => Verdict::OurBug,
    };
    let reason = format!("simulated: {kind:?}");
    FetchError { kind, trouble: Trouble { verdict, reason, action: "nothing".to_owned(), code: Some("simulated".to_owned()), trace: None } }
}

#[cfg(test)]
mod tests {
    use domain::Axis;

    use super::*;
    use crate::dice::Dice;
    use crate::time::{HOUR, MINUTE};
    use crate::world::{Recipe, make};

    /// A question about the whole time line.
    fn everything(top: u32) -> WindowQuery {
        WindowQuery { from: Ticks(i64::MIN), before: None, top, skip: 0, ordered: true, axis: Axis::Update, facets: [None; 3] }
    }

    fn feed() -> Feed {
        let recipe = Recipe { tenant: 0, source: Source::GraphAlerts, page: 8, history: HOUR, alerts: 30, until: HOUR, cursed: false };
        let mut feed = make(recipe, &Dice::of(7, 0), &mut Tally::default());
        feed.come_to(HOUR - MINUTE);
        feed
    }

    fn ask(feed: &Feed, server: Server, window: &WindowQuery) -> Answer {
        look_up(feed, &server, 1000, window, &mut Tally::default()).expect("an answer")
    }

    const OBEYS: Server = Server { ordering: Ordering::Accepted, links: Links::Absent, clamp: None };

    #[test]
    fn pages_hold_everything_once_and_in_the_order_asked_for() {
        let feed = feed();
        let all = ask(&feed, OBEYS, &everything(1000)).versions;
        assert_eq!(all.len(), feed.visible().filter(|(_, version)| version.stamp.is_some()).count());
        assert!(all.is_sorted_by_key(|at| feed.versions[*at].stamp));
        let mut paged = Vec::new();
        while paged.len() < all.len() {
            let skip = u32::try_from(paged.len()).unwrap();
            paged.extend(ask(&feed, OBEYS, &WindowQuery { skip, ..everything(4) }).versions);
        }
        assert_eq!(paged, all);
        let newest = ask(&feed, Server { ordering: Ordering::NewestFirst, ..OBEYS }, &everything(1000)).versions;
        assert!(newest.is_sorted_by_key(|at| std::cmp::Reverse(feed.versions[*at].stamp)));
        let created = ask(&feed, Server { ordering: Ordering::Created, ..OBEYS }, &everything(1000)).versions;
        assert!(created.is_sorted_by_key(|at| feed.versions[*at].created) && created != all);
    }

    #[test]
    fn a_clamp_says_nothing_and_a_link_leads_on() {
        let feed = feed();
        let clamped = ask(&feed, Server { clamp: Some(3), ..OBEYS }, &everything(1000));
        assert_eq!((clamped.versions.len(), clamped.link.is_none()), (3, true));
        let linked = ask(&feed, Server { links: Links::Present, ..OBEYS }, &everything(5));
        let Some(Link::Next(next)) = linked.link else { panic!("a link is expected") };
        assert_eq!(next.skip, 5);
    }

    #[test]
    fn the_parts_of_a_division_are_the_whole() {
        let feed = feed();
        let whole = ask(&feed, OBEYS, &everything(1000)).versions.len();
        for (field, words) in microsoft::facets(Source::GraphAlerts) {
            let values = words.iter().map(|word| Some(*word)).chain([None]);
            let parts = values.map(|value| {
                let facets = [Some(microsoft::query::Facet { field: *field, value }), None, None];
                ask(&feed, OBEYS, &WindowQuery { facets, ..everything(1000) }).versions.len()
            });
            assert_eq!(parts.sum::<usize>(), whole);
        }
    }
}
