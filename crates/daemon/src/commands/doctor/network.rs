//! What answers: the ops endpoint of the daemon, and the hosts of the clouds in use.

use std::net::SocketAddr;
use std::time::Duration;

use domain::{Clock as _, CloudName, SystemClock, Ticks};
use futures_util::future::join_all;
use microsoft::Cloud;
use reqwest::Client;
use serde::Deserialize;
use url::Url;

use super::facts::{DaemonFacts, HostFacts, Reached, Unreached};
use super::names::Names;
use crate::commands::healthcheck::reachable;

/// A host that takes longer is of no use to a poller either.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Ready {
    ok: bool,
    stages: Vec<Stage>,
}

#[derive(Deserialize)]
struct Stage {
    stage: String,
    alive: bool,
    ready: bool,
}

/// Asks the ops endpoint. What a stage says in words stays with it: that is for `tocsin healthcheck`.
pub(super) async fn daemon(listen: SocketAddr) -> DaemonFacts {
    let base = format!("http://{}", reachable(listen));
    let asked = async {
        let client = client().no_proxy().build().ok()?;
        let ready: Ready = client.get(format!("{base}/readyz?format=json")).send().await.ok()?.json().await.ok()?;
        let metrics = client.get(format!("{base}/metrics")).send().await.ok()?.text().await.ok()?;
        let stages = ready.stages.into_iter().map(|stage| (stage.stage, stage.alive, stage.ready)).collect();
        Some(DaemonFacts::Answers { ready: ready.ok, stages, metrics })
    };
    asked.await.unwrap_or(DaemonFacts::Silent)
}

/// Asks every host of these clouds once, all at the same time. No secret is sent.
pub(super) async fn hosts<'a>(clouds: impl Iterator<Item = (&'a CloudName, &'a Cloud)>, names: &Names) -> Vec<HostFacts> {
    let built_in = microsoft::built_in();
    let mut asked: Vec<(Url, HostFacts)> = Vec::new();
    for (name, cloud) in clouds {
        let addresses = [("login", Some(&cloud.login_url)), ("graph", Some(&cloud.graph_url)), ("defender", cloud.defender_url.as_ref())];
        for (what, url) in addresses.into_iter().filter_map(|(what, url)| Some((what, url?))) {
            // Clouds share hosts; each is asked once.
            if asked.iter().any(|(known, _)| known.origin() == url.origin()) {
                continue;
            }
            let public_cloud = built_in.contains_key(name).then(|| name.to_string());
            let reached = Err(Unreached { kind: "other", private_reason: String::new() });
            asked.push((url.clone(), HostFacts { cloud: names.alias("cloud", name.as_str()), public_cloud, what, reached }));
        }
    }
    join_all(asked.into_iter().map(|(url, facts)| async move { HostFacts { reached: reach(url).await, ..facts } })).await
}

async fn reach(url: Url) -> Result<Reached, Unreached> {
    let loopback =
        url.host_str().is_some_and(|host| host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()));
    let client = if loopback { client().no_proxy() } else { client() };
    let failed = |error: reqwest::Error| {
        let kind = if error.is_timeout() {
            "timeout"
        } else if error.is_connect() {
            "no connection"
        } else {
            "no answer"
        };
        Unreached { kind, private_reason: innermost(&error) }
    };
    let client = client.build().map_err(failed)?;
    let before = SystemClock.now();
    let answer = client.get(url).send().await.map_err(failed)?;
    let middle = before.plus(SystemClock.now().since(before) / 2);
    let date = answer.headers().get(reqwest::header::DATE).and_then(|date| date.to_str().ok()).and_then(microsoft::http_date);
    Ok(Reached { status: answer.status().as_u16(), skew_seconds: date.map(|date| skew(date, middle)) })
}

/// How far a host's clock is before ours. Its date is cut to the second, so half of one is added.
fn skew(date: Ticks, ours: Ticks) -> f64 {
    (date.0 - ours.0) as f64 / 1e7 + 0.5
}

fn client() -> reqwest::ClientBuilder {
    Client::builder()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("tocsin/", env!("CARGO_PKG_VERSION")))
}

/// The cause at the bottom says more than the layers above it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_in_the_middle_of_the_second() {
        let at = |text: &str| Ticks::parse(text).unwrap();
        assert!(skew(at("2026-11-21T12:00:00Z"), at("2026-11-21T12:00:00.5Z")).abs() < 1e-6);
        assert!((skew(at("2026-11-21T12:10:00Z"), at("2026-11-21T12:00:00.5Z")) - 600.0).abs() < 1e-6);
    }

    #[tokio::test]
    async fn a_host_that_is_not_there_is_a_fact() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let unreached = reach(Url::parse(&format!("http://{address}/")).unwrap()).await.unwrap_err();
        assert_eq!(unreached.kind, "no connection");
        assert!(matches!(daemon(address).await, DaemonFacts::Silent));
    }
}
