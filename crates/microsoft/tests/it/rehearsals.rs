//! What can be made to fail here, and the bugs that can be planted: only in rehearsals, which no release knows.

use domain::rehearsal::{Action, Rehearsal};
use domain::{Source, Verdict};
use microsoft::{ApiErrorKind, HttpSettings, PageQuery};

use crate::common::{RawServer, access_token, alerts, answer, lab, window};

#[tokio::test]
async fn a_page_can_fail_before_and_after_it_is_taken_apart_and_that_passes() {
    let server = RawServer::answering(answer("200 OK", "", r#"{"value":[{"id":"1"}]}"#)).await;
    let (cloud, token) = (lab(&server.url), access_token("t"));
    let api = alerts(HttpSettings::default());
    for name in ["split.before", "split.after"] {
        Rehearsal::default().at(name, Action::Error, Some(2)).begin();
        let mut ends = Vec::new();
        for _ in 0..3 {
            ends.push(api.fetch(&cloud, Source::GraphAlerts, &token, &window()).await);
        }
        assert_eq!(Rehearsal::end()[name], 3);
        let [Ok(_), Err(error), Ok(_)] = ends.as_slice() else { panic!("{name}: {ends:?}") };
        assert_eq!((error.kind(), error.trouble().verdict), (ApiErrorKind::Unavailable, Verdict::Retry));
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn a_token_follows_a_foreign_link_only_where_that_bug_is_planted() {
    let elsewhere = RawServer::answering(answer("200 OK", "", r#"{"value":[{"id":"2"}]}"#)).await;
    let body = format!(r#"{{"value":[{{"id":"1"}}],"@odata.nextLink":"{}/x"}}"#, elsewhere.url);
    let ours = RawServer::answering(answer("200 OK", "", body)).await;
    let (cloud, token) = (lab(&ours.url), access_token("t"));
    let api = alerts(HttpSettings::default());

    let page = api.fetch(&cloud, Source::GraphAlerts, &token, &window()).await.unwrap();
    assert!(page.next.is_none() && page.foreign_next);

    Rehearsal::default().bug("foreign-link-followed").begin();
    let page = api.fetch(&cloud, Source::GraphAlerts, &token, &window()).await.unwrap();
    let next = PageQuery::Next(page.next.expect("the bug accepts the link"));
    api.fetch(&cloud, Source::GraphAlerts, &token, &next).await.unwrap();
    assert_eq!(elsewhere.requests(), 1);

    // The same link without the bug: the second check holds by itself.
    Rehearsal::end();
    let error = api.fetch(&cloud, Source::GraphAlerts, &token, &next).await.unwrap_err();
    assert_eq!((error.kind(), elsewhere.requests()), (ApiErrorKind::ForeignNextLink, 1));
}
