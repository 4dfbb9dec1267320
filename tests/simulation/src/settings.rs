//! How the product is set in a simulation: an hour has to hold what takes days otherwise.

use std::num::NonZeroU32;

use alert_poller::{Compare, Ladder, Rung};

use crate::check::OVERLAP;
use crate::identity::RATE;
use crate::scenario::Scenario;
use crate::time::{HOUR, MINUTE, Ms, SECOND, span};

/// Heartbeats and questions for requests: rare, since what idles is most of what an hour costs.
const BEAT: Ms = 15 * SECOND;

/// Small pages, so that borders and ties are met with few records; a short rung that finds what came late within the
/// hour; a long one, which alone looks by creation in a quiet feed, within the time to converge; few places, so that neighbours can be in each other's way.
pub(crate) fn poller(scenario: &Scenario) -> alert_poller::Config {
    alert_poller::Config {
        interval: span(scenario.interval),
        overlap: span(OVERLAP),
        first_sync: span(scenario.first_sync),
        ladder: Ladder {
            short: Rung { reach: span(2 * HOUR), every: span(12 * MINUTE) },
            long: Rung { reach: span(3 * HOUR), every: span(18 * MINUTE) },
            compare: scenario.compare.map(|compare| Compare { reach: span(compare.reach), at: span(compare.at) }),
        },
        page_size: scenario.page,
        // Pages a fiftieth of the usual size need more calls.
        graph_per_minute: 1500,
        defender_per_minute: 1000,
        defender_per_hour: 15_000,
        polls_at_once: 4,
        slow_polls_at_once: 3,
        rereads_at_once: 2,
        answer_timeout: span(20 * SECOND),
        page_memory: 4 << 20,
        beat: span(BEAT),
        ask_every: span(BEAT),
        ..alert_poller::Config::default()
    }
}

/// Patience that fits an hour.
pub(crate) fn sink() -> sink::Config {
    sink::Config { statement_timeout: span(2 * SECOND), acquire_timeout: span(SECOND), beat: span(BEAT), ..sink::Config::default() }
}

/// How often the login host is asked.
pub(crate) const TOKEN_PER_SECOND: NonZeroU32 = NonZeroU32::new(RATE).expect("it is not zero");

/// Slow probes that come round within the hour.
pub(crate) fn refresher() -> token_refresher::Config {
    token_refresher::Config {
        slow_probe: span(2 * MINUTE),
        slow_probe_cap: span(4 * MINUTE),
        our_bug_wait: span(MINUTE),
        beat: span(BEAT),
        ..token_refresher::Config::default()
    }
}
