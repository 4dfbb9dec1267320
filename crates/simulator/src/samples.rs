//! `--samples DIR`: records found in JSON files, served as alerts exactly as their bytes stand in the file. A
//! record is each item of the `value` array of an object, each item of a top-level array, or the whole body.

use crate::settings::{SampleStamps, Source};
use crate::world::World;
use anyhow::Context as _;
use bytes::Bytes;
use serde_json::value::RawValue;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// What was found in the folder.
#[derive(Clone, Debug, Default)]
pub struct SampleReport {
    /// Files of which at least the body was served.
    pub files: usize,
    /// Records served.
    pub records: usize,
    /// Files that are no JSON, with the reason.
    pub skipped: Vec<String>,
}

/// Publishes everything the folder holds, spread over the tenants.
pub(crate) fn publish(world: &World, folder: &Path) -> anyhow::Result<SampleReport> {
    let mut report = SampleReport::default();
    if world.tenants.is_empty() {
        return Ok(report);
    }
    let mut spread = Spread::default();
    for file in json_files(folder)? {
        let bytes = std::fs::read(&file).with_context(|| format!("cannot read the sample file {}", file.display()))?;
        match records(&bytes) {
            Ok(found) => {
                report.files += 1;
                let source = source_of(&file);
                for record in found {
                    report.records += 1;
                    spread.publish(world, source, Bytes::from(record));
                }
            }
            Err(error) => report.skipped.push(format!("{}: {error}", file.display())),
        }
    }
    Ok(report)
}

/// All `*.json` below the folder, in the order of their paths.
fn json_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read the sample folder {}", folder.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("cannot read the sample folder {}", folder.display()))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "json") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn source_of(file: &Path) -> Source {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name.starts_with("mde-") { Source::MdeAlerts } else { Source::GraphAlerts }
}

/// The records of one file, each as its bytes stand there.
fn records(bytes: &[u8]) -> Result<Vec<Vec<u8>>, serde_json::Error> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let whole: &RawValue = serde_json::from_slice(bytes)?;
    let own = |items: Vec<&RawValue>| items.into_iter().map(|item| item.get().as_bytes().to_vec()).collect();
    if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(whole.get()) {
        return Ok(own(items));
    }
    let members = serde_json::from_str::<HashMap<String, &RawValue>>(whole.get()).unwrap_or_default();
    let items = members.get("value").and_then(|value| serde_json::from_str::<Vec<&RawValue>>(value.get()).ok());
    Ok(items.map_or_else(|| own(vec![whole]), own))
}

/// Who gets the next record.
#[derive(Default)]
struct Spread {
    next: usize,
    given: HashSet<(usize, Source, String)>,
}

impl Spread {
    /// Gives the record to the next tenant watched through that API that has no record with its id yet; where all
    /// have one, the record becomes a new version of it.
    fn publish(&mut self, world: &World, source: Source, record: Bytes) {
        let watched: Vec<usize> = (0..world.tenants.len()).filter(|index| world.tenants[*index].sources.contains(&source)).collect();
        let candidates = if watched.is_empty() { (0..world.tenants.len()).collect() } else { watched };
        let id = crate::facts::probe(&record, world.started).id;
        let turn = (0..candidates.len()).map(|step| candidates[(self.next + step) % candidates.len()]);
        let is_free = |index: &usize| id.as_ref().is_none_or(|id| !self.given.contains(&(*index, source, id.clone())));
        let chosen = turn.clone().find(is_free).or_else(|| turn.clone().next());
        self.next += 1;
        let Some(chosen) = chosen else { return };
        let stands_at = (world.settings.sample_stamps == SampleStamps::Start).then_some(world.started);
        world.publish_raw(&world.tenants[chosen], source, record, stands_at);
        if let Some(id) = id {
            self.given.insert((chosen, source, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_cut_out_exactly_as_they_stand() {
        let texts = |body: &[u8]| records(body).unwrap().into_iter().map(|r| String::from_utf8(r).unwrap()).collect::<Vec<_>>();
        assert_eq!(
            texts(b"{\"@odata.context\":\"x\",\"value\": [ {\"a\" : 1.50,\n \"b\":\"\\u0041\\ud800\"} , 7 ]}"),
            ["{\"a\" : 1.50,\n \"b\":\"\\u0041\\ud800\"}", "7"]
        );
        assert_eq!(texts(b"\xEF\xBB\xBF[ {\"id\":1} ]"), ["{\"id\":1}"]);
        assert_eq!(texts(b"\n{\"algorithm\":\"md5\",\"value\":\"x\"}\n"), ["{\"algorithm\":\"md5\",\"value\":\"x\"}"]);
        assert_eq!(texts(b"{\"value\":[]}"), [] as [&str; 0]);
        assert_eq!(texts(b"\"text\""), ["\"text\""]);
        for broken in [&b"{\"a\":1,}"[..], b"", b"{} {}", b"\xFF", b"<html>"] {
            assert!(records(broken).is_err());
        }
    }
}
