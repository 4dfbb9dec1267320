//! What the pages of `docs/reference` are written from: the command line, and the keys of the configuration. Nothing else
//! of this crate is seen from outside.

use crate::config::{APP_KEYS, CLOUD_KEYS, Config, DEFAULTS};
use crate::reload;

/// Sections whose tables the operator names, with the keys of each.
pub const NAMED_SECTIONS: &[(&str, &[&str])] = &[("clouds", CLOUD_KEYS), ("apps", APP_KEYS)];

/// The command line, as it is typed.
#[must_use]
pub fn command_line() -> clap::Command {
    <crate::cli::Cli as clap::CommandFactory>::command()
}

/// `config/default.toml`, as it is built in.
#[must_use]
pub fn default_configuration() -> &'static str {
    DEFAULTS
}

/// Every key that has a default, by its dotted path.
///
/// # Panics
/// Never: the defaults are a configuration, which a test holds.
#[must_use]
pub fn keys() -> Vec<String> {
    let config = Config::load(None, []).expect("the defaults are a configuration");
    config.shown.into_iter().map(|(key, ..)| key).collect()
}

/// The variable of the environment that sets a key.
#[must_use]
pub fn variable(key: &str) -> String {
    format!("TOCSIN_{}", key.replace('.', "__").to_uppercase())
}

/// Whether a changed key takes effect while the daemon runs.
#[must_use]
pub fn is_live(key: &str) -> bool {
    reload::is_live(key)
}

/// What may be written for a key, in words. The configuration is asked: what it says of a value that is nothing of the kind
/// tells what it wants.
#[must_use]
pub fn kind(key: &str, default: &str) -> &'static str {
    let refused = |value: &str| Config::load(None, [(variable(key), value.to_owned())]).err().map(|error| error.0).unwrap_or_default();
    let said = refused("?");
    let words = [
        ("is no duration", "duration"),
        ("is no count", "whole number"),
        ("is no time of day", "time of day, UTC"),
        ("neither pretty nor json", "`pretty` or `json`"),
        ("boolean", "`true` or `false`"),
        ("is no address; write it like 127", "address and port"),
        ("is no URL", "URL"),
        ("write it like https://", "URL"),
    ];
    match words.iter().find(|(word, _)| said.contains(word)) {
        Some((_, "duration")) if default.is_empty() => "duration, or empty",
        Some((_, kind)) => kind,
        None if key.ends_with("_file") => "file",
        None if key.ends_with("_dir") => "folder",
        None => "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_says_what_it_wants() {
        for (key, default, expected) in [
            ("poll.interval", "30s", "duration"),
            ("retention.gaps", "", "duration, or empty"),
            ("poll.page_size", "1000", "whole number"),
            ("ladder.compare_at", "02:00", "time of day, UTC"),
            ("ladder.compare", "true", "`true` or `false`"),
            ("log.format", "pretty", "`pretty` or `json`"),
            ("ops.listen", "127.0.0.1:9464", "address and port"),
            ("console.listen", "127.0.0.1:8080", "address and port"),
            ("console.public_url", "http://localhost:8080", "URL"),
            ("database.url", "", "URL"),
            ("vault.key_file", "/etc/tocsin/keys/ring", "file"),
            ("state_dir", "/var/lib/tocsin", "folder"),
            ("console.operator", "x", "text"),
        ] {
            assert_eq!(kind(key, default), expected, "{key}");
        }
        assert_eq!(variable("poll.first_sync"), "TOCSIN_POLL__FIRST_SYNC");
        assert!(keys().len() > 30);
    }
}
