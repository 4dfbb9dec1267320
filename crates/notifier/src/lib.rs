#![doc = include_str!("../README.md")]

mod client;
mod guard;
mod message;
mod sign;
mod store;
mod worker;

use std::time::Duration;

use domain::Clock;
use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

pub use client::{Answer, BadEndpoint, Client, Egress, Endpoint, NoAnswer};
pub use guard::{Forbidden, Guard, Resolver};
pub use sign::{BadSecret, Secrets};
pub use store::{Standing, standing};
pub use worker::{Endpoints, Notifier, Settings};

/// Sends one message that says that nothing has happened; what came back, and how long that took.
///
/// # Errors
/// [`NoAnswer`] when nothing came back.
pub async fn test(client: &Client, endpoint: &Endpoint, clock: &dyn Clock) -> Result<(Answer, Duration), NoAnswer> {
    let begun = Instant::now();
    let now = clock.now().to_timestamp().unwrap_or(Timestamp::UNIX_EPOCH);
    let answer = client.send(endpoint, Uuid::new_v4(), &message::Message::test(now).to_json(), clock).await?;
    Ok((answer, begun.elapsed()))
}
