//! Whoever receives the webhook: takes every message and keeps it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::eventually;

/// A message, as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// Header `webhook-id`.
    pub id: String,
    /// The body.
    pub body: Value,
}

impl Received {
    /// Its type, and the tenant's name or nothing.
    pub fn about(&self) -> (&str, &str) {
        (self.body["type"].as_str().unwrap_or_default(), self.body["data"]["tenant"]["name"].as_str().unwrap_or_default())
    }
}

/// The receiver, on loopback.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Its address.
    pub url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// Starts one.
    ///
    /// # Errors
    /// When nothing can be listened on.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let receiver = Self { url: format!("http://{}/hook", listener.local_addr()?), received: Arc::default() };
        let kept = Arc::clone(&receiver.received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(message) = take(stream).await {
                    kept.lock().expect("nobody panics with it").push(message);
                }
            }
        });
        Ok(receiver)
    }

    /// What has come, in its order.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("nobody panics with it").clone()
    }

    /// Waits for a message of this type about this tenant.
    ///
    /// # Errors
    /// When it does not come within `limit`, with what came instead.
    pub async fn message(&self, kind: &str, tenant: &str, limit: Duration) -> anyhow::Result<Received> {
        eventually(&format!("a message {kind} about {tenant:?}"), limit, async || {
            let received = self.received();
            let found = received.iter().rev().find(|message| message.about() == (kind, tenant)).cloned();
            found.ok_or_else(|| received.iter().map(|message| message.body.to_string()).collect::<Vec<_>>())
        })
        .await
    }
}

async fn take(stream: TcpStream) -> anyhow::Result<Received> {
    let mut stream = BufReader::new(stream);
    let (mut id, mut length, mut line) = (String::new(), 0, String::new());
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        match line.trim().split_once(": ") {
            Some(("webhook-id", value)) => id = value.to_owned(),
            Some(("content-length", value)) => length = value.parse()?,
            Some(_) => {}
            None if line.trim().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let body = serde_json::from_slice(&body).context("the body is JSON")?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
    Ok(Received { id, body })
}
