//! `tocsin alerts tail`: what is stored, as it is stored, and going on where it stopped.
//!
//! At least once: what was printed is remembered after it was written to standard output, and whoever begins again
//! with that memory is shown everything that came later, and perhaps again what came last. What a reader took out of
//! the pipe and then lost is beyond this; a reader who wants that too keeps the cursor of the last line it has dealt with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use sink::read::{AlertFilter, AlertRow, Place, Tail, TailError, alerts_list};
use sqlx::PgPool;
use tokio::signal::unix::{SignalKind, signal};

use super::Setting;
use super::alerts::{resolve, short};
use super::asking::unread;
use crate::cli;
use crate::failure::{Exit, Failure};
use crate::files;
use crate::output::printable;

/// How often a tail looks.
const LOOK: Duration = Duration::from_secs(1);
/// How many changes are held at once.
const PIECE: u32 = 1000;

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    row: &'a AlertRow,
    /// Where to go on for whoever has this line; nothing in the middle of a list of what was stored before.
    cursor: Option<String>,
}

/// Where a tail writes down how far it has come.
struct Memory(Option<PathBuf>);

impl Memory {
    fn recall(&self) -> Result<Option<Place>, Failure> {
        let Some(file) = &self.0 else { return Ok(None) };
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(file, &error)),
        };
        text.trim()
            .parse()
            .map(Some)
            .map_err(|_| unusable(file, &"it holds no cursor; remove it to begin anew, with --since for what was missed"))
    }

    fn keep(&self, place: Place) -> Result<(), Failure> {
        match &self.0 {
            Some(file) => files::replace(file, format!("{place}\n").as_bytes()).map_err(|error| unusable(file, &error)),
            None => Ok(()),
        }
    }
}

fn unusable(file: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, format!("cannot use the state file {}: {why}", file.display()))
}

/// Prints what is stored, until it is interrupted.
pub(super) async fn run(setting: &Setting, pool: &PgPool, options: cli::Tail) -> Result<(), Failure> {
    let filter = resolve(pool, options.filter).await?;
    let memory = Memory(options.state);
    let from = match options.after {
        Some(place) => Some(place),
        None => memory.recall()?,
    };
    let mut listed = Vec::new();
    let mut tail = match from {
        Some(place) => Tail::after(pool, place).await.map_err(failure)?,
        None => {
            // Begun before the list is read: what is stored meanwhile comes in one of them at least.
            let tail = Tail::from_now(pool).await.map_err(failure)?;
            listed = list(setting, pool, &filter, &tail).await?;
            memory.keep(tail.place())?;
            tail
        }
    };
    if options.no_follow && from.is_none() {
        return Ok(());
    }
    let following = AlertFilter { limit: PIECE, ..filter };
    let unheard = |error: std::io::Error| Failure::new(Exit::Failed, format!("cannot listen for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unheard)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(unheard)?;
    loop {
        let news = tail.look(pool, &following).await.map_err(failure)?;
        let more = news.len() >= PIECE as usize;
        for tailed in &news {
            if !listed.contains(&key(&tailed.row)) {
                print(setting, &tailed.row, Some(tailed.place))?;
            }
        }
        listed.clear();
        if !news.is_empty() {
            memory.keep(tail.place())?;
        }
        if more {
            continue;
        }
        if options.no_follow {
            return memory.keep(tail.place());
        }
        tokio::select! {
            _ = interrupt.recv() => return memory.keep(tail.place()),
            _ = terminate.recv() => return memory.keep(tail.place()),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

type Key = (domain::TenantId, domain::AlertId, domain::Ticks);

fn key(row: &AlertRow) -> Key {
    (row.directory_id, row.alert_id.clone(), row.last_stored_at)
}

/// What was stored before. Only the last line of it is a place to go on from.
async fn list(setting: &Setting, pool: &PgPool, filter: &AlertFilter, tail: &Tail) -> Result<Vec<Key>, Failure> {
    let mut rows = alerts_list(pool, filter).await.map_err(unread)?;
    rows.reverse();
    for (at, row) in rows.iter().enumerate() {
        print(setting, row, (at + 1 == rows.len()).then(|| tail.place()))?;
    }
    Ok(rows.iter().map(key).collect())
}

/// One line: an object, or words.
fn print(setting: &Setting, row: &AlertRow, place: Option<Place>) -> Result<(), Failure> {
    if setting.output.json {
        return setting.output.event(&Line { row, cursor: place.map(|place| place.to_string()) });
    }
    let text = |value: &Option<String>| printable(value.as_deref().unwrap_or("-"));
    setting.output.line(&format!(
        "{} {} {:13} {:10} {}{}",
        short(row.last_stored_at),
        printable(&row.tenant),
        text(&row.severity),
        text(&row.status),
        text(&row.title),
        if row.version_count > 1 { format!("  (version {})", row.version_count) } else { String::new() }
    ))
}

fn failure(error: TailError) -> Failure {
    match error {
        TailError::Read(error) => unread(error),
        TailError::Elsewhere | TailError::Ahead => Failure::new(Exit::Conflict, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_recalled_and_what_is_no_cursor_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory(Some(folder.path().join("tail")));
        assert_eq!(memory.recall().unwrap(), None, "nothing yet");
        let place: Place = "1f-4711".parse().unwrap();
        memory.keep(place).unwrap();
        assert_eq!(memory.recall().unwrap(), Some(place));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        std::fs::write(folder.path().join("tail"), "").unwrap();
        assert!(memory.recall().unwrap_err().message.contains("remove it to begin anew"));
        let lost = Memory(Some(folder.path().join("no/such/folder")));
        assert!(lost.keep(place).unwrap_err().message.contains("no/such/folder"));
    }
}
