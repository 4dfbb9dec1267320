//! `[retention]`: how long is kept what grows.

use std::time::Duration;

use humantime::format_duration as words;
use sink::Retention;

use super::ConfigError;
use super::raw;

/// Checks that nothing is forgotten while it is still needed.
pub(super) fn check(raw: &raw::Retention, poll: &raw::Poll, warnings: &mut Vec<String>) -> Result<Retention, ConfigError> {
    let long_enough = |key: &str, kept: Option<Duration>| match kept {
        Some(kept) if kept < Retention::SHORTEST => Err(ConfigError(format!(
            "retention.{key} = {} is too short; keep it for {} at least, or for ever with \"\"",
            words(kept),
            days(Retention::SHORTEST)
        ))),
        Some(kept) if kept > Retention::LONGEST => Err(ConfigError(format!(
            "retention.{key} = {} is too long; keep it for {} at most, or for ever with \"\"",
            days(kept),
            days(Retention::LONGEST)
        ))),
        kept => Ok(kept),
    };
    let retention = Retention {
        versions: long_enough("versions", raw.versions)?,
        events: long_enough("events", raw.events)?,
        quarantine: long_enough("quarantine", raw.quarantine)?,
        gaps: long_enough("gaps", raw.gaps)?,
        comparisons: long_enough("comparisons", raw.comparisons)?,
    };
    if let Some(kept) = retention.versions.filter(|kept| *kept < poll.source_keeps) {
        warnings.push(format!(
            "retention.versions = {} is shorter than poll.source_keeps = {}: alerts that Microsoft still shows lose their bodies here",
            days(kept),
            days(poll.source_keeps)
        ));
    }
    Ok(retention)
}

fn days(span: Duration) -> String {
    format!("{}d", span.as_secs() / 86_400)
}
