//! What tunes the refresher. The daemon maps its TOML onto this; the defaults are the contract's.

use std::time::Duration;

/// How fast, how early and how often tokens are redeemed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Redemptions that the worker has in flight at once, ahead of expiry or to keep tokens alive: enough to reach
    /// the rate while each answer takes three seconds. What callers ask for is bounded by the callers and by the rate.
    pub concurrency: usize,
    /// A stored refresh token is redeemed when it was not for this long: 90 days of silence kill it.
    pub keep_alive_after: Duration,
    /// Time between the two answers that together make a token dead.
    pub confirm_dead_after: Duration,
    /// First wait before a tenant whose trouble needs a person is tried again. Doubles.
    pub slow_probe: Duration,
    /// The longest such wait.
    pub slow_probe_cap: Duration,
    /// Wait after an answer that says we sent something wrong.
    pub our_bug_wait: Duration,
    /// Wait between two probes of a faulty app registration.
    pub global_probe: Duration,
    /// First wait after passing trouble. Doubles.
    pub retry_first: Duration,
    /// The longest such wait, unless the other side asks for more.
    pub retry_cap: Duration,
    /// How often a rotated refresh token is offered to an absent database before the caller is sent home. The
    /// token is held and offered on.
    pub commit_attempts: u32,
    /// The longest wait between two offers of a token that is held.
    pub offer_cap: Duration,
    /// A token that is held is given up so long after the database has said that the tenant is not ours: another
    /// replica looks after it, or it was removed.
    pub give_up_after: Duration,
    /// A lease that may be believed for less than this is not enough to begin a redemption: its answer
    /// could arrive after another replica has begun its own. More than a sign-in takes but for the slowest, less than
    /// a lease has left just before it is renewed.
    pub lease_margin: Duration,
    /// How often the worker says that it is there.
    pub beat: Duration,
    /// How long redemptions in flight may take to end once the daemon stops.
    pub drain: Duration,
}

impl Default for Config {
    fn default() -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        Self {
            concurrency: 64,
            keep_alive_after: 7 * 24 * 60 * MINUTE,
            confirm_dead_after: Duration::from_secs(10),
            slow_probe: 60 * MINUTE,
            slow_probe_cap: 24 * 60 * MINUTE,
            our_bug_wait: 10 * MINUTE,
            global_probe: Duration::from_secs(30),
            retry_first: Duration::from_secs(1),
            retry_cap: 5 * MINUTE,
            commit_attempts: 8,
            offer_cap: Duration::from_secs(2),
            give_up_after: 10 * MINUTE,
            lease_margin: Duration::from_secs(10),
            beat: Duration::from_secs(1),
            drain: Duration::from_secs(7),
        }
    }
}
