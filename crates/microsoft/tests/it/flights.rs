//! Many requests at one host at once, and some that never end.

use std::time::Duration;

use domain::Source;
use microsoft::{AlertsApi, HttpSettings};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::common::{RawServer, access_token, alerts, answer, impatient, lab, window};
use crate::tls::{Authority, H2Server, PhoneBook, STREAMS};

const HOST: &str = "graph.example.test";
const PATIENCE: Duration = Duration::from_secs(30);

/// A page read under this token: how many records it has, or what went wrong.
async fn fetch(api: AlertsApi, token: &'static str) -> Result<usize, String> {
    let cloud = lab(&format!("https://{HOST}"));
    let page = api.fetch(&cloud, Source::GraphAlerts, &access_token(token), &window()).await;
    page.map(|page| page.records.len()).map_err(|error| error.to_string())
}

async fn server() -> (H2Server, HttpSettings) {
    let (authority, names) = (Authority::new(), PhoneBook::default());
    let server = H2Server::answering(authority.issue(HOST, 2999), r#"{"value":[{"id":"1"}]}"#, Duration::ZERO).await;
    names.write(HOST, server.address);
    (server, authority.trusted(&names))
}

/// So many requests that are never answered, all of them at the host.
async fn hang(api: &AlertsApi, server: &mut H2Server, count: usize) -> JoinSet<Result<usize, String>> {
    let mut calls = JoinSet::new();
    for _ in 0..count {
        calls.spawn(fetch(api.clone(), "hangs"));
    }
    let all = timeout(PATIENCE, server.hanging.wait_for(|hanging| *hanging == count)).await.map(|all| all.is_ok());
    assert_eq!(all, Ok(true), "of {count} requests, {} have come to the host", *server.hanging.borrow());
    calls
}

#[tokio::test]
async fn i10_a_hundred_requests_that_hang_hold_up_nobody_else_at_the_same_host() {
    let (mut server, settings) = server().await;
    let api = alerts(settings);
    assert_eq!(fetch(api.clone(), "t").await, Ok(1), "it is connected");
    let hanging = hang(&api, &mut server, STREAMS * 2).await;
    let began = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..64 {
        calls.spawn(fetch(api.clone(), "t"));
    }
    let answered = timeout(PATIENCE, calls.join_all()).await.expect("they are answered while the others hang");
    assert!(answered.iter().all(|records| *records == Ok(1)), "{answered:?}");
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    // Four pools, of which each but the first is called by four at once before it is known that one connection does.
    assert!(server.connections() <= 13, "{} connections for 264 requests", server.connections());
    drop(hanging);
}

#[tokio::test]
async fn who_meets_the_limit_of_a_host_gives_up_in_his_own_time_and_goes_on_when_there_is_room() {
    let (mut server, settings) = server().await;
    let few = HttpSettings { in_flight_per_connection: 2, in_flight_per_host: 3, page_timeout: Duration::from_secs(4), ..settings };
    let api = alerts(few);
    assert_eq!(fetch(api.clone(), "t").await, Ok(1));
    let mut hanging = hang(&api, &mut server, 3).await;
    let waiting = tokio::spawn(fetch(api.clone(), "t"));
    hanging.abort_all();
    while hanging.join_next().await.is_some() {}
    assert_eq!(waiting.await.expect("no panic"), Ok(1), "those that hang have been given up");

    // Of four that hang, one waits for the others, and none takes longer than a call may.
    let began = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        calls.spawn(fetch(api.clone(), "hangs"));
    }
    server.hanging.wait_for(|hanging| *hanging == 6).await.unwrap();
    assert!(timeout(Duration::from_secs(1), server.hanging.wait_for(|hanging| *hanging > 6)).await.is_err(), "three are the limit");
    let ended = calls.join_all().await;
    assert!(ended.iter().all(|ended| ended.as_ref().is_err_and(|error| error.contains("did not answer in time"))), "{ended:?}");
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_request_is_in_flight_until_its_answer_is_read_to_the_end() {
    let pause = Duration::from_millis(100);
    let server = RawServer::trickling(answer("200 OK", "", r#"{"value":[{"id":"1"}]}"#), 40, pause).await;
    let api = alerts(HttpSettings { in_flight_per_host: 1, page_timeout: PATIENCE, ..impatient() });
    let cloud = lab(&server.url);
    let fetch = async || {
        api.fetch(&cloud, Source::GraphAlerts, &access_token("t"), &window()).await.expect("a page");
        (server.requests(), Instant::now())
    };
    let began = Instant::now();
    let (one, other) = tokio::join!(fetch(), fetch());
    let first = one.min(other);
    assert_eq!(first.0, 1, "the second was asked for when the first was there in whole");
    assert!(first.1 - began >= pause, "which took its time: {:?}", first.1 - began);
}
