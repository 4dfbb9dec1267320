//! `[ladder]`, checked against `[poll]`.

use std::time::Duration;

use alert_poller::{Compare, Ladder, Rung};
use humantime::format_duration as words;

use super::ConfigError;
use super::raw;

/// Checks how far back and how often is read again.
pub(super) fn check(raw: &raw::Ladder, poll: &raw::Poll, warnings: &mut Vec<String>) -> Result<Ladder, ConfigError> {
    if poll.source_keeps <= poll.overlap {
        return Err(ConfigError(format!(
            "poll.source_keeps = {} is not longer than poll.overlap = {}, so that every pause of a feed would count as lost; Microsoft keeps alerts for 180d",
            words(poll.source_keeps),
            words(poll.overlap)
        )));
    }
    if poll.first_sync > poll.source_keeps {
        warnings.push(format!(
            "poll.first_sync = {} is longer than poll.source_keeps = {}, and nothing older is there to be read",
            words(poll.first_sync),
            words(poll.source_keeps)
        ));
    }
    let rung = |name: &str, reach: Duration, every: Duration| {
        if every > Duration::ZERO && every < Duration::from_secs(1) {
            return Err(ConfigError(format!("ladder.{name}_every is under one second; use at least 1s, or 0s to switch it off")));
        }
        Ok(Rung { reach, every })
    };
    let ladder = Ladder {
        short: rung("short", raw.short_reach, raw.short_every)?,
        long: rung("long", raw.long_reach, raw.long_every)?,
        compare: raw.compare.then_some(Compare { reach: raw.compare_reach, at: raw.compare_at }),
    };
    let reaches = [
        ("short", raw.short_reach, ladder.short.every > Duration::ZERO, "ladder.short_every = \"0s\""),
        ("long", raw.long_reach, ladder.long.every > Duration::ZERO, "ladder.long_every = \"0s\""),
        ("compare", raw.compare_reach, raw.compare, "ladder.compare = false"),
    ];
    for (name, reach, _, off) in reaches.into_iter().filter(|(_, _, on, _)| *on) {
        if reach.is_zero() {
            return Err(ConfigError(format!("ladder.{name}_reach = 0s would read nothing again; use a longer one, or {off}")));
        }
        if reach > poll.source_keeps {
            return Err(ConfigError(format!(
                "ladder.{name}_reach = {} is longer than poll.source_keeps = {}, and nothing older is there to be read",
                words(reach),
                words(poll.source_keeps)
            )));
        }
        if reach <= poll.overlap {
            warnings.push(format!(
                "ladder.{name}_reach = {} is within poll.overlap = {}, which every poll reads again anyway; if that is enough, set {off}",
                words(reach),
                words(poll.overlap)
            ));
        }
    }
    Ok(ladder)
}
