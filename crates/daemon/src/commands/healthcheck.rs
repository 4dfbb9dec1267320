//! `tocsin healthcheck`: the probe for machines without curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::Setting;
use crate::cli::Healthcheck;
use crate::failure::{Exit, Failure};

/// Asks the ops endpoint of the daemon that runs with this configuration.
pub(super) async fn run(setting: &Setting, options: &Healthcheck) -> Result<(), Failure> {
    let (path, state) = match options {
        Healthcheck { startup: true, .. } => ("startupz", "started"),
        Healthcheck { live: true, .. } => ("livez", "alive"),
        _ => ("readyz", "ready"),
    };
    let answer = ask(setting, path, "is the daemon running with this configuration?").await?;
    let healthy = answer.status().is_success();
    let body = answer.text().await.unwrap_or_default();
    if setting.output.json {
        setting.output.document(&serde_json::json!({ "healthy": healthy, "detail": body.trim_end() }))?;
    } else {
        setting.output.line(body.trim_end())?;
    }
    if healthy { Ok(()) } else { Err(Failure::new(Exit::ConditionTrue, format!("the daemon says it is not {state}"))) }
}

/// Asks the ops endpoint for this path; whoever finds nobody there is asked this.
pub(super) async fn ask(setting: &Setting, path: &str, hint: &str) -> Result<reqwest::Response, Failure> {
    let address = reachable(setting.config.ops_listen);
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot make an HTTP client: {error}")))?;
    let answer = client.get(format!("http://{address}/{path}")).send().await;
    answer.map_err(|_| Failure::new(Exit::Unavailable, format!("nobody answers on {address}; {hint}")))
}

/// A listener on every address is asked on loopback.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
