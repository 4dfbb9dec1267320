//! `[poll]`.

use std::time::Duration;

use humantime::format_duration as words;

use super::raw;
use super::{ConfigError, PollConfig};

/// Who is blind is to know it within this (I24), also at whom nothing happens.
const PROMISE: Duration = Duration::from_secs(60);

/// Checks how often is asked, and for how much.
pub(super) fn check(raw: &raw::Poll, warnings: &mut Vec<String>) -> Result<PollConfig, ConfigError> {
    let raw::Poll { interval, quiet_interval, overlap, first_sync, source_keeps, page_size } = *raw;
    if interval < Duration::from_secs(1) {
        return Err(ConfigError("poll.interval is under one second; use at least 1s".into()));
    }
    if !(1..=10_000).contains(&page_size) {
        return Err(ConfigError(format!("poll.page_size = {page_size} is outside 1 to 10000")));
    }
    if !quiet_interval.is_zero() && quiet_interval < interval {
        return Err(ConfigError(format!(
            "poll.quiet_interval = {} is shorter than poll.interval = {}, and who is quiet is asked less often, not more; use at least {1}, or 0s to ask everybody alike",
            words(quiet_interval),
            words(interval)
        )));
    }
    if quiet_interval > interval && quiet_interval > PROMISE {
        return Err(ConfigError(format!(
            "poll.quiet_interval = {} is over a minute, and that a quiet customer cannot be read any more is to be known within one; use at most {}, or 0s to ask everybody alike",
            words(quiet_interval),
            words(PROMISE.max(interval))
        )));
    }
    if interval > PROMISE {
        warnings.push(format!(
            "poll.interval = {} is over a minute: that a customer cannot be read any more is noticed so much later, and not within a minute",
            words(interval)
        ));
    }
    Ok(PollConfig { interval, quiet_interval, overlap, first_sync, source_keeps, page_size })
}
