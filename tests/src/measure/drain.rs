//! How fast pages can be had at all: read by a client that looks at nothing but the link to the next one. Whoever is measured
//! against the same simulator should be well below that.

use std::time::Duration;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use simulator::{SimTenant, Simulator};
use tokio::time::Instant;

use crate::harness::proc_stats;

/// Customers that are read at the same time.
const AT_ONCE: usize = 4;

/// Nothing takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// How the link to the next page begins; it stands before the records.
const LINK: &[u8] = b"\"@odata.nextLink\":";

/// In so many bytes it has begun, or there is none.
const HEAD: usize = 2000;

/// What it came to.
#[derive(Clone, Copy, Debug)]
pub struct Drained {
    /// From the first sign-in to the last page.
    pub wall: Duration,
    /// CPU seconds of client and simulator together.
    pub cpu: f64,
    /// Those of the simulator alone.
    pub simulator_cpu: f64,
    /// Records, by the simulator's books.
    pub records: usize,
    /// Bytes of all pages.
    pub bytes: usize,
}

/// Reads every page of every customer and throws it away.
///
/// # Errors
/// When the simulator does not answer well.
pub async fn drain(cloud: &Simulator) -> anyhow::Result<Drained> {
    let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?;
    cloud.clear_journal();
    let own = std::process::id();
    let (cpu, simulator_cpu, begun) = (proc_stats::cpu(own)?, proc_stats::threads_cpu("simulator")?, Instant::now());
    let all = stream::iter(cloud.tenants()).map(|tenant| of_one(&client, cloud, tenant));
    let sizes: Vec<usize> = all.buffer_unordered(AT_ONCE).try_collect().await?;
    let wall = begun.elapsed();
    Ok(Drained {
        wall,
        cpu: proc_stats::cpu(own)? - cpu,
        simulator_cpu: proc_stats::threads_cpu("simulator")? - simulator_cpu,
        records: cloud.journal().iter().map(|entry| entry.records).sum(),
        bytes: sizes.iter().sum(),
    })
}

/// All pages of one customer; gives their size.
async fn of_one(client: &reqwest::Client, cloud: &Simulator, tenant: SimTenant) -> anyhow::Result<usize> {
    let url = format!("{}/{}/oauth2/v2.0/token", cloud.base_url(), tenant.directory_id);
    let (id, scope) = (cloud.client_id(), "https://graph.microsoft.com/.default offline_access");
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", &id),
        ("client_secret", cloud.client_secret()),
        ("refresh_token", &tenant.refresh_token),
        ("scope", scope),
    ];
    let answer: serde_json::Value = client.post(url).form(&form).send().await?.error_for_status()?.json().await?;
    let token = answer["access_token"].as_str().context("no access token")?;
    let first = format!("{}/v1.0/security/alerts_v2?$top=1000&$orderby=lastUpdateDateTime%20asc", cloud.base_url());
    let (mut next, mut bytes) = (Some(first), 0);
    while let Some(url) = next {
        let question = client.get(url).bearer_auth(token).header("prefer", "include-unknown-enum-members");
        let page = question.send().await?.error_for_status()?.bytes().await?;
        bytes += page.len();
        next = next_link(&page)?;
    }
    Ok(bytes)
}

/// The link that stands at the head of a page.
fn next_link(page: &[u8]) -> anyhow::Result<Option<String>> {
    let head = &page[..page.len().min(HEAD)];
    let Some(at) = head.windows(LINK.len()).position(|window| window == LINK) else { return Ok(None) };
    let text = serde_json::Deserializer::from_slice(&page[at + LINK.len()..]).into_iter::<String>().next();
    text.transpose().context("the link of a page is no text")
}

#[cfg(test)]
mod tests {
    use super::next_link;

    #[test]
    fn a_link_is_found_before_the_records_and_nowhere_else() {
        let page = br#"{"@odata.context":"c","@odata.nextLink":"http://l/?a=1\u0026b","value":[{}]}"#;
        assert_eq!(next_link(page).unwrap().as_deref(), Some("http://l/?a=1&b"));
        assert_eq!(next_link(br#"{"@odata.context":"c","value":[]}"#).unwrap(), None);
        assert!(next_link(br#"{"@odata.nextLink":7,"value":[]}"#).is_err());
    }
}
