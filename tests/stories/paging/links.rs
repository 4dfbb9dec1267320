//! Links that lead nowhere, or elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::harness::eventually;
use simulator::{Effect, Endpoint, NextLink, OrderBy, Rule, Settings, Source, SourceMix};
use tokio::io::AsyncReadExt;

use super::{ORDERS, SOON, ago, customer, endpoint_alert, no_gap, publish, settled, source, world};

#[tokio::test]
async fn a_link_that_leads_back_to_its_own_page_is_no_trap() -> anyhow::Result<()> {
    for order_by in ORDERS {
        let told = format!("{order_by:?}");
        let world = world(source(order_by, NextLink::SkipToken), 100).await?;
        world.cloud.script(Rule::new(Effect::LoopingNextLink).endpoint(Endpoint::Graph));
        publish(&world, "a", 700, 3600, &[(100, 449)])?;
        let mut daemon = world.serve()?;
        settled(&world, &told).await?;
        publish(&world, "b", 10, 1, &[])?;
        settled(&world, &told).await?;
        // Being led in circles costs a few calls, not thousands.
        let calls = world.cloud.journal_totals().get(&(Endpoint::Graph, 200)).copied().unwrap_or(0);
        assert!(calls < 600, "{told}: {calls} calls");
        daemon.terminate().await?;
        world.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_link_to_another_host_is_never_followed_and_nothing_is_lost() -> anyhow::Result<()> {
    // Whoever listens here would get the bearer token.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let elsewhere = listener.local_addr()?;
    let visits = Arc::new(AtomicUsize::new(0));
    let seen = visits.clone();
    let watch = tokio::spawn(async move {
        while let Ok((mut visitor, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::Relaxed);
            let _ = visitor.read(&mut [0; 1024]).await;
        }
    });
    for (order_by, url) in [
        (OrderBy::Accepted, format!("http://{elsewhere}/v1.0/security/alerts_v2?$skiptoken=x")),
        (OrderBy::Ignored, format!("http://localhost:{}/v1.0/security/alerts_v2?$skiptoken=x", elsewhere.port())),
        (OrderBy::Refused, format!("http://127.0.0.1@{elsewhere}/v1.0/security/alerts_v2?$skiptoken=x")),
    ] {
        let told = format!("{order_by:?}, {url}");
        let cloud = Settings { sources: SourceMix::Both, ..source(order_by, NextLink::SkipToken) };
        let world = world(cloud, 100).await?;
        world.cloud.script(Rule::new(Effect::ForeignNextLink { url: url.clone() }));
        publish(&world, "a", 700, 3600, &[(100, 449)])?;
        for number in 0..250 {
            let record = endpoint_alert(&format!("e{number:05}"), ago(&world, 5000 - number), "at the endpoint");
            world.cloud.publish_raw(customer(&world), Source::MdeAlerts, record)?;
        }
        let mut daemon = world.serve()?;
        settled(&world, &told).await?;
        publish(&world, "b", 10, 1, &[])?;
        settled(&world, &told).await?;
        no_gap(&world).await?;
        daemon.terminate().await?;
        assert_eq!(visits.load(Ordering::Relaxed), 0, "{told}: somebody else was visited");
        world.end().await?;
    }
    // The listener does listen.
    drop(tokio::net::TcpStream::connect(elsewhere).await?);
    eventually("the listener sees a visitor", SOON, async || if visits.load(Ordering::Relaxed) == 1 { Ok(()) } else { Err("nobody") })
        .await?;
    watch.abort();
    Ok(())
}
