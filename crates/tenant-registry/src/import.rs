//! Reading tenants out of a CSV file, line by line.
//!
//! The header is `directory_id,name,cloud,app,sources,refresh_token`. A byte-order mark and CRLF are
//! accepted, cells may be quoted, blank lines are passed over. The file is cut into lines before the
//! CSV reader sees any of it, so that a quote that is never closed spoils its own line and not all
//! that follow; a cell with a line break in it is therefore an error, and none of ours needs one.
//!
//! Each line is one transaction. A refresh token goes from its cell straight into [`RefreshToken`],
//! and no message ever repeats a line.

use std::collections::BTreeMap;

use domain::{RefreshToken, TenantId};

use crate::admin::AdminError;
use crate::enrol::{Enrolled, Existing};
use crate::registry::Registry;
use crate::rules::{self, ImportRules, TenantDraft};

const COLUMNS: [&str; 6] = ["directory_id", "name", "cloud", "app", "sources", "refresh_token"];
const BOM: &[u8] = b"\xef\xbb\xbf";

/// What became of each line.
#[derive(Debug, Default)]
pub struct ImportReport {
    /// In the order of the file; the header and blank lines are left out.
    pub lines: Vec<LineOutcome>,
}

impl ImportReport {
    /// The lines that were refused.
    pub fn failures(&self) -> impl Iterator<Item = (&LineOutcome, &AdminError)> {
        self.lines.iter().filter_map(|line| line.result.as_ref().err().map(|error| (line, error)))
    }
}

/// What became of one line.
#[derive(Debug)]
pub struct LineOutcome {
    /// Counted from 1, the header included.
    pub line: usize,
    /// Whose line it is, when that could be read.
    pub tenant: Option<TenantId>,
    /// The tenant's name, when the line was accepted.
    pub name: Option<String>,
    /// What was done, or why nothing was.
    pub result: Result<Enrolled, AdminError>,
}

/// Why a file was not imported to its end.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is not a file of tenants; nothing was imported.
    #[error("{0}")]
    File(String),
    /// The database went away. The lines in the report are done; the others were not tried.
    #[error("the import stopped at line {line}: {source}; run it again, since lines that are done change nothing")]
    Stopped {
        /// The first line that was not done.
        line: usize,
        /// What became of the lines before.
        done: ImportReport,
        /// Why.
        source: AdminError,
    },
}

impl Registry {
    /// Imports a CSV file. One bad line does not stop the others, and importing a file again changes
    /// nothing.
    ///
    /// # Errors
    /// [`ImportError::File`] when the header is wrong, [`ImportError::Stopped`] when the database goes
    /// away half-way.
    pub async fn import_csv(&self, bytes: &[u8], rules: &ImportRules) -> Result<ImportReport, ImportError> {
        let mut report = ImportReport::default();
        let mut seen: BTreeMap<TenantId, usize> = BTreeMap::new();
        for (line, content) in lines(bytes).map_err(ImportError::File)? {
            let (tenant, parsed) = parse_line(content);
            let earlier = tenant.and_then(|tenant| match seen.get(&tenant) {
                Some(earlier) => Some(*earlier),
                None => seen.insert(tenant, line),
            });
            let wanted = match earlier {
                Some(earlier) => Err(format!("this directory_id is in line {earlier} already; that one counts")),
                None => parsed.and_then(|draft| draft.check(rules)),
            };
            let (name, result) = match wanted {
                Err(words) => (None, Err(AdminError::Invalid(words))),
                Ok(wanted) => {
                    let result = self.enrol(&wanted, rules.replace_token, Existing::Updated).await;
                    (result.is_ok().then_some(wanted.facts.name), result)
                }
            };
            match result {
                Err(source @ (AdminError::Database(_) | AdminError::Unaudited(_) | AdminError::NoKeys(_))) => {
                    return Err(ImportError::Stopped { line, done: report, source });
                }
                result => report.lines.push(LineOutcome { line, tenant, name, result }),
            }
        }
        Ok(report)
    }
}

/// The lines after the header that hold anything, with their numbers.
fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = (usize, &[u8])>, String> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err("the file is UTF-16: save it as UTF-8".to_owned());
    }
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    let mut lines = bytes
        .split(|byte| *byte == b'\n')
        .enumerate()
        .map(|(index, line)| (index + 1, line.strip_suffix(b"\r").unwrap_or(line)))
        .filter(|(_, line)| !line.trim_ascii().is_empty());
    let expected = COLUMNS.join(",");
    let (number, header) = lines.next().ok_or_else(|| format!("the file is empty: its first line must be {expected}"))?;
    check_header(header).map_err(|words| format!("line {number} {words}: it must be {expected}"))?;
    Ok(lines)
}

/// Never repeats what it found: a file without a header begins with a tenant and its token.
fn check_header(line: &[u8]) -> Result<(), String> {
    let cells = std::str::from_utf8(line).map_err(|_| "is not UTF-8".to_owned()).and_then(split)?;
    if cells.iter().eq(COLUMNS) {
        return Ok(());
    }
    if line.split(|byte| *byte == b';').map(|cell| cell.trim_ascii()).eq(COLUMNS.map(str::as_bytes)) {
        return Err("separates its columns by ';' and must use ','".to_owned());
    }
    if cells.first().is_some_and(|cell| rules::directory_id(cell).is_ok()) {
        return Err("holds a tenant where the header belongs".to_owned());
    }
    match COLUMNS.iter().find(|column| !cells.iter().any(|cell| cell == **column)) {
        Some(missing) => Err(format!("is not the header of a tenant file, column {missing} is missing")),
        None => Err("does not have exactly the right columns in the right order".to_owned()),
    }
}

/// Reads one line. The tenant is told even when the rest is of no use, so that a second line of the
/// same tenant is noticed.
fn parse_line(line: &[u8]) -> (Option<TenantId>, Result<TenantDraft, String>) {
    let cells = match std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned()).and_then(split) {
        Ok(cells) => cells,
        Err(words) => return (None, Err(words)),
    };
    let tenant = cells.first().and_then(|cell| rules::directory_id(cell).ok());
    let [directory_id, name, cloud, app, sources, token] = match <[String; 6]>::try_from(cells) {
        Ok(cells) => cells,
        Err(cells) if cells.len() == 1 && line.contains(&b';') => {
            return (None, Err("its columns are separated by ';' and must be separated by ','".to_owned()));
        }
        Err(cells) => {
            return (tenant, Err(format!("it has {} columns instead of {}", cells.len(), COLUMNS.len())));
        }
    };
    let draft = |refresh_token: Option<RefreshToken>| TenantDraft { directory_id, name, cloud, app, sources, refresh_token };
    (tenant, rules::refresh_token(&token).map(draft))
}

/// Cuts one line into its cells.
fn split(line: &str) -> Result<Vec<String>, String> {
    check_quotes(line)?;
    let mut record = csv::StringRecord::new();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.as_bytes());
    match reader.read_record(&mut record) {
        Ok(_) => Ok(record.iter().map(str::to_owned).collect()),
        // The reader's own words may hold the line.
        Err(_) => Err("it is not CSV".to_owned()),
    }
}

/// The CSV reader is lenient about quotes; here a stray one is an error, because what it makes of the
/// line is hardly what was meant.
fn check_quotes(line: &str) -> Result<(), String> {
    let mut rest = line;
    loop {
        rest = match rest.strip_prefix('"') {
            Some(quoted) => {
                let end = closing_quote(quoted).ok_or("it has a quote that is never closed")?;
                &quoted[end + 1..]
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return Err("it has a quote inside of a cell that is not quoted".to_owned());
                }
                &rest[end..]
            }
        };
        if rest.is_empty() {
            return Ok(());
        }
        rest = rest.strip_prefix(',').ok_or("it has text after a closing quote")?;
    }
}

/// Where the quoted cell ends; a doubled quote stands for one.
fn closing_quote(quoted: &str) -> Option<usize> {
    let mut quotes = quoted.match_indices('"').map(|(at, _)| at);
    while let Some(at) = quotes.next() {
        if !quoted[at + 1..].starts_with('"') {
            return Some(at);
        }
        quotes.next();
    }
    None
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
