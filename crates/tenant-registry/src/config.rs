//! How the worker behaves. The defaults are what architecture and contract promise.

use std::time::Duration;

use crate::process::ProcessMark;

/// Settings of the [`RegistryWorker`](crate::RegistryWorker).
#[derive(Clone, Debug)]
pub struct Config {
    /// How often the worker looks round: announces itself, claims what is free, notices changes.
    pub tick: Duration,
    /// How long a lease lasts by the clock of the database.
    pub lease: Duration,
    /// How often leases are renewed.
    pub renew_every: Duration,
    /// Our own trust in a lease ends this much before the lease does.
    pub trust_margin: Duration,
    /// How often all tenants that are held are read even though nothing seems to have changed. Every look round asks whether
    /// anything did that anybody goes by; what this finds besides is when a token was last refreshed.
    pub full_read_every: Duration,
    /// How often what is open is read, and counted for the metrics.
    pub count_every: Duration,
    /// A tenant that goes to another replica is published no more, and released as soon as no redemption is in flight
    /// for it, so that two replicas never redeem one token at once. A redemption that does not end is waited for no
    /// longer than this: twice as long as a sign-in can take.
    pub let_go_within: Duration,
    /// How often the clocks that run out are looked at.
    pub clocks_every: Duration,
    /// A replica not seen for this long no longer counts when tenants are shared out.
    pub replica_gone_after: Duration,
    /// The poll interval: passing trouble is shown once it has lasted three of them, or a minute.
    pub poll_interval: Duration,
    /// No statement is waited for longer than this.
    pub database_timeout: Duration,
    /// Which process this is, for `tocsin.replica` and for taking over from a crashed one at once.
    pub process: ProcessMark,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tick: Duration::from_secs(1),
            lease: Duration::from_secs(30),
            renew_every: Duration::from_secs(10),
            trust_margin: Duration::from_secs(3),
            full_read_every: Duration::from_secs(300),
            count_every: Duration::from_secs(10),
            let_go_within: Duration::from_secs(60),
            clocks_every: Duration::from_secs(60),
            replica_gone_after: Duration::from_secs(10),
            poll_interval: Duration::from_secs(30),
            database_timeout: Duration::from_secs(10),
            process: ProcessMark::of_this_process(),
        }
    }
}

/// How long passing trouble must have lasted before it is shown, where feeds are polled so often.
pub(crate) fn shown_after(poll_interval: Duration) -> Duration {
    (poll_interval * 3).max(Duration::from_secs(60))
}
