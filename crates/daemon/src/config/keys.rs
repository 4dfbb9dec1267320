//! The layers of the configuration and the keys that exist.
//!
//! `config/default.toml` names every key with a default; the sections `clouds` and `apps` hold tables
//! that the operator names, so their keys are listed here. A key that nobody knows is an error that
//! names it, says where it stands and offers the nearest known one: a typo must not be a silent default.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use config::{File, FileFormat, Value, ValueKind};

use super::ConfigError;
use super::raw::Raw;

pub(crate) const DEFAULTS: &str = include_str!("../../../../config/default.toml");
pub(crate) const CLOUD_KEYS: &[&str] =
    &["login_url", "graph_url", "defender_url", "portal_url", "graph_scope", "defender_scope", "allow_plaintext"];
pub(crate) const APP_KEYS: &[&str] = &[
    "client_id",
    "client_secret_file",
    "client_secret_expires",
    "certificate_file",
    "private_key_file",
    "federated_token_file",
    "grant",
    "endpoint",
];

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `config/default.toml`, built in.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable of this name.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => path.display().fmt(f),
            Self::Environment(name) => write!(f, "environment {name}"),
        }
    }
}

/// The layers, read and merged, with every key known.
pub(super) struct Layers {
    merged: config::Config,
    origins: BTreeMap<String, (String, Origin)>,
}

impl Layers {
    /// Reads defaults, file and environment, and refuses unknown keys.
    pub(super) fn read(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let defaults = File::from_str(DEFAULTS, FileFormat::Toml);
        let mut origins = BTreeMap::new();
        let default_keys = flatten(build(config::Config::builder().add_source(defaults.clone()))?);
        let known: BTreeSet<String> = default_keys.iter().map(|(key, _)| key.clone()).collect();
        note(&mut origins, &default_keys, |_| Origin::Default);
        let mut builder = config::Config::builder().add_source(defaults);

        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError(format!("cannot read the configuration file {}: {error}", path.display())))?;
            let source = File::from_str(&text, FileFormat::Toml);
            let keys = build(config::Config::builder().add_source(source.clone()))
                .map_err(|error| ConfigError(format!("{}: {error}", path.display())))?;
            let keys = flatten(keys);
            for (key, _) in &keys {
                if let Some(hint) = unknown(key, &known) {
                    let line = line_of(&text, key).map(|line| format!(":{line}")).unwrap_or_default();
                    return Err(ConfigError(format!("unknown key {key} in {}{line}; {hint}", path.display())));
                }
            }
            note(&mut origins, &keys, |_| Origin::File(path.to_owned()));
            builder = builder.add_source(source);
        }

        for (name, value) in environment {
            let Some(rest) = name.strip_prefix("TOCSIN_") else { continue };
            if rest == "CONFIG_FILE" {
                continue;
            }
            if rest != "STATE_DIR" && !rest.contains("__") {
                tracing::debug!(name, "this environment variable is not one of ours: ignored");
                continue;
            }
            let key = as_in_the_file(&rest.to_lowercase().replace("__", "."), &origins);
            if let Some(hint) = unknown(&key, &known) {
                return Err(ConfigError(format!("unknown key {key} in environment variable {name}; {hint}")));
            }
            builder = builder
                .set_override(&key, value.as_str())
                .map_err(|error| ConfigError(format!("environment variable {name} cannot be used: {error}")))?;
            origins.insert(key, (value, Origin::Environment(name)));
        }
        let merged = build(builder)?;
        Ok(Self { merged, origins })
    }

    /// Turns the merged layers into types.
    pub(super) fn deserialize(&self) -> Result<Raw, ConfigError> {
        self.merged.clone().try_deserialize().map_err(|error| {
            let (key, problem) = match &error {
                config::ConfigError::At { error, key: Some(key), .. } => (Some(key.clone()), error.to_string()),
                config::ConfigError::Type { key: Some(key), unexpected, expected, .. } => {
                    (Some(key.clone()), format!("found {unexpected}, expected {expected}"))
                }
                other => (None, other.to_string()),
            };
            match key {
                Some(key) => {
                    let origin = self.origins.get(&key).map(|(_, origin)| format!(" ({origin})")).unwrap_or_default();
                    ConfigError(format!("{key}{origin}: {problem}"))
                }
                None => ConfigError(problem),
            }
        })
    }

    /// Each key with its value and origin. Database URLs are shown without their password.
    pub(super) fn shown(&self) -> Vec<(String, String, Origin)> {
        self.origins.iter().map(|(key, (value, origin))| (key.clone(), without_password(key, value), origin.clone())).collect()
    }
}

/// A variable's name has no case: the name of an app or cloud is spelled as the file spells it.
fn as_in_the_file(key: &str, origins: &BTreeMap<String, (String, Origin)>) -> String {
    let mut segments = key.split('.');
    let (Some(section), Some(name), Some(leaf), None) = (segments.next(), segments.next(), segments.next(), segments.next()) else {
        return key.to_owned();
    };
    let spelled = origins.keys().find_map(|known| {
        let (known_section, rest) = known.split_once('.')?;
        let (known_name, _) = rest.split_once('.')?;
        (known_section == section && known_name.to_lowercase() == name).then_some(known_name)
    });
    format!("{section}.{}.{leaf}", spelled.unwrap_or(name))
}

fn without_password(key: &str, value: &str) -> String {
    if key != "database.url" {
        return value.to_owned();
    }
    match url::Url::parse(value) {
        Ok(mut url) if url.password().is_some() => {
            // The scheme has a host, so a password can be set.
            let _ = url.set_password(Some("hidden"));
            url.to_string()
        }
        _ => value.to_owned(),
    }
}

fn build(builder: config::ConfigBuilder<config::builder::DefaultState>) -> Result<config::Config, ConfigError> {
    builder.build().map_err(|error| {
        // A syntax error comes with a drawing of the line: where, the line itself, a marker, and what is wrong.
        let text = error.to_string();
        let (drawing, words): (Vec<_>, Vec<_>) =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).partition(|line| line.contains('|'));
        let quoted = drawing.iter().filter_map(|line| line.split_once('|')).map(|(_, line)| line.trim()).find(|line| !line.is_empty());
        let told = words.join(": ");
        ConfigError(match quoted {
            Some(line) => format!("{told}, in the line: {line}"),
            None => told,
        })
    })
}

fn note(origins: &mut BTreeMap<String, (String, Origin)>, keys: &[(String, Value)], origin: impl Fn(&str) -> Origin) {
    for (key, value) in keys {
        origins.insert(key.clone(), (value.to_string(), origin(key)));
    }
}

/// Every leaf with its dotted path.
fn flatten(config: config::Config) -> Vec<(String, Value)> {
    fn walk(prefix: &str, value: Value, into: &mut Vec<(String, Value)>) {
        match value.kind {
            ValueKind::Table(table) => {
                for (key, value) in table {
                    let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                    walk(&path, value, into);
                }
            }
            _ => into.push((prefix.to_owned(), value)),
        }
    }
    let mut keys = Vec::new();
    walk("", config.cache, &mut keys);
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    keys
}

/// `None` for a known key; otherwise what to do about it.
fn unknown(key: &str, known: &BTreeSet<String>) -> Option<String> {
    if known.contains(key) {
        return None;
    }
    let (section, rest) = key.split_once('.').unwrap_or((key, ""));
    let named = |keys: &[&str]| -> Option<String> {
        let Some((name, leaf)) = rest.rsplit_once('.') else {
            return Some(format!("write a section [{section}.NAME] with the keys {}", keys.join(", ")));
        };
        if keys.contains(&leaf) {
            return None;
        }
        Some(suggest(leaf, keys.iter().copied(), |near| format!("{section}.{name}.{near}")))
    };
    match section {
        "clouds" => named(CLOUD_KEYS),
        "apps" => named(APP_KEYS),
        _ => Some(suggest(key, known.iter().map(String::as_str), str::to_owned)),
    }
}

fn suggest<'a>(found: &str, known: impl Iterator<Item = &'a str> + Clone, spell: impl Fn(&str) -> String) -> String {
    let near = known.clone().map(|candidate| (strsim::jaro_winkler(found, candidate), candidate)).max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((score, candidate)) if score > 0.8 => format!("did you mean {}?", spell(candidate)),
        _ => format!(
            "the keys that exist are listed by `tocsin config show` and explained in config/default.toml; the nearest is {}",
            near.map_or("none", |(_, candidate)| candidate)
        ),
    }
}

/// The line on which the last part of a dotted key is set, for a message.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let leaf = key.rsplit('.').next()?;
    text.lines()
        .position(|line| {
            let line = line.trim_start();
            line.strip_prefix(leaf).is_some_and(|rest| rest.trim_start().starts_with('=')) || (line.starts_with('[') && line.contains(leaf))
        })
        .map(|at| at + 1)
}
