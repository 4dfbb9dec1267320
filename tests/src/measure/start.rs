//! How long a daemon takes from the start of its process to its first answer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use simulator::{Settings, SourceMix};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Spans, world_on};
use crate::harness::{Setup, eventually};

/// Nobody waits longer for an answer.
const LIMIT: Duration = Duration::from_secs(30);

/// Starts a daemon so many times, one after the other, on a server that runs already.
///
/// # Errors
/// When one does not answer within half a minute.
pub async fn starts(times: usize, server: &str) -> anyhow::Result<Spans> {
    let cloud = Settings { tenants: 3, history: 5, sources: SourceMix::GraphOnly, ..Settings::default() };
    let world = world_on(Some(server), Setup { cloud, ..Setup::default() }).await?;
    // Asked where nothing has been said yet, so the port has to be known.
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    std::fs::write(&world.config, world.toml("").replacen("127.0.0.1:0", &address.to_string(), 1))?;
    let mut spans = Vec::new();
    for _ in 0..times {
        let begun = Instant::now();
        let mut daemon = world.serve()?;
        let answered = tokio::time::timeout(LIMIT, first_answer(address)).await;
        answered.with_context(|| format!("nobody answers on {address}:\n{}", daemon.last_words()))??;
        spans.push(begun.elapsed());
        // The next one starts when this one has really gone, as after a roll-out.
        eventually("it is ready", LIMIT, async || match daemon.ops("/readyz").await {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await?;
        daemon.terminate().await?;
    }
    world.end().await?;
    Ok(Spans::new(spans))
}

/// Knocks until somebody listens, asks, and waits for the answer.
async fn first_answer(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = loop {
        match TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 200 "), "it answers: {answer}");
    Ok(())
}
