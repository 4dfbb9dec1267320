//! What a usable tenant looks like: the checks that an import line and `tocsin tenant add` share.
//!
//! Blanks around an id, a cloud, an app, a source or a token are taken off, since they come from
//! copying and mean nothing. They are taken off a name too: a name with a trailing blank could not be
//! told from its twin on a screen, yet would be another one on the command line. Inside, a name is
//! taken as it is, case and all.
//!
//! A cell is repeated in an error only if it is short and plain, because a shifted column puts the
//! refresh token where the cloud should be, and errors end up in logs and tickets.

use std::collections::{BTreeMap, BTreeSet};

use domain::{AppName, CloudName, RefreshToken, Source, TenantId};
use uuid::Uuid;

use crate::store::tenants::Facts;

const LONGEST_NAME: usize = 200;
const LONGEST_TOKEN: usize = 64 * 1024;
const LONGEST_REPEATED: usize = 24;

/// What the configuration says that an import must fit.
#[derive(Clone, Debug, Default)]
pub struct ImportRules {
    /// The configured clouds, each with the base of its portal links (empty when it has no portal).
    pub clouds: BTreeMap<CloudName, String>,
    /// The configured app registrations.
    pub apps: BTreeMap<AppName, AppRule>,
    /// Whether another refresh token may take the place of one that is there.
    pub replace_token: bool,
}

/// What an import must know of an app registration.
#[derive(Clone, Debug)]
pub struct AppRule {
    /// Its client id; refresh tokens are bound to it.
    pub client_id: String,
    /// `grant = "refresh_token"`. Otherwise the app's own credential opens its tenants.
    pub uses_refresh_token: bool,
}

/// A tenant as somebody wrote it down, not yet checked.
#[derive(Debug)]
pub struct TenantDraft {
    /// A GUID.
    pub directory_id: String,
    /// Any text of one line.
    pub name: String,
    /// A key of `[clouds]`.
    pub cloud: String,
    /// A key of `[apps]`.
    pub app: String,
    /// Words of [`Source`], separated by `;`.
    pub sources: String,
    /// If there is one already.
    pub refresh_token: Option<RefreshToken>,
}

/// A tenant that fits the rules.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) id: TenantId,
    pub(crate) facts: Facts,
    pub(crate) app: AppRule,
    pub(crate) token: Option<RefreshToken>,
}

impl TenantDraft {
    /// Checks everything that can be checked without the database.
    pub(crate) fn check(self, rules: &ImportRules) -> Result<Wanted, String> {
        let id = directory_id(&self.directory_id)?;
        let name = name(&self.name, id)?;
        let cloud = CloudName::new(self.cloud.trim());
        let portal_url = rules
            .clouds
            .get(&cloud)
            .ok_or_else(|| unknown("cloud", "clouds", cloud.as_str(), rules.clouds.keys().map(CloudName::as_str)))?;
        let app_name = AppName::new(self.app.trim());
        let app =
            rules.apps.get(&app_name).ok_or_else(|| unknown("app", "apps", app_name.as_str(), rules.apps.keys().map(AppName::as_str)))?;
        let facts = Facts { name, cloud, app: app_name, sources: sources(&self.sources)?, portal_url: portal_url.clone() };
        Ok(Wanted { id, facts, app: app.clone(), token: self.refresh_token })
    }
}

/// Reads a directory id, as portals and scripts print it: 36 characters, in braces or not.
pub(crate) fn directory_id(cell: &str) -> Result<TenantId, String> {
    let text = cell.trim();
    let text = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    let parsed = Uuid::try_parse(text).ok().filter(|id| text.len() == 36 && !id.is_nil());
    parsed
        .map(TenantId)
        .ok_or_else(|| "the directory_id is not a directory id: expected a GUID such as 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0".to_owned())
}

fn name(cell: &str, id: TenantId) -> Result<String, String> {
    let name = cell.trim();
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    if name.chars().count() > LONGEST_NAME {
        return Err(format!("the name has more than {LONGEST_NAME} characters"));
    }
    if name.chars().any(char::is_control) {
        return Err("the name holds a control character".to_owned());
    }
    // On the command line a tenant goes by its id or its name: a name must not be another one's id.
    if Uuid::try_parse(name).is_ok_and(|other| other != id.0) {
        return Err("the name is the directory id of another tenant".to_owned());
    }
    Ok(name.to_owned())
}

fn sources(cell: &str) -> Result<Vec<Source>, String> {
    let known = || Source::ALL.iter().map(|source| source.as_str());
    let mut sources = BTreeSet::new();
    for word in cell.split(';').map(str::trim).filter(|word| !word.is_empty()) {
        sources.insert(word.parse::<Source>().map_err(|_| unknown_word("source", word, known()))?);
    }
    if sources.is_empty() {
        return Err(format!("no source is given: name at least one of {}, separated by \";\"", listed(known())));
    }
    Ok(sources.into_iter().collect())
}

/// Takes a token out of a cell; `None` when the cell is empty.
pub(crate) fn refresh_token(cell: &str) -> Result<Option<RefreshToken>, String> {
    let text = cell.trim();
    if text.len() > LONGEST_TOKEN {
        return Err("the refresh_token is far too long".to_owned());
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the refresh_token holds a blank or another character that no token has".to_owned());
    }
    Ok(RefreshToken::new(text))
}

fn unknown<'a>(what: &str, section: &str, found: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    format!("{}: correct it, or add [{section}.NAME] to the configuration", unknown_word(what, found, known))
}

fn unknown_word<'a>(what: &str, found: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    if found.is_empty() {
        return format!("the {what} is empty; known are {}", listed(known));
    }
    let shown = if is_harmless(found) { format!("{what} \"{found}\" is not known") } else { format!("the {what} is not a known one") };
    match nearest(found, known.clone()) {
        Some(near) => format!("{shown}; did you mean \"{near}\"? Known are {}", listed(known)),
        None => format!("{shown}; known are {}", listed(known)),
    }
}

/// Whether a cell may be repeated in an error: no token is this short and plain.
fn is_harmless(cell: &str) -> bool {
    cell.len() <= LONGEST_REPEATED && cell.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_ ".contains(&byte))
}

/// The known word that looks most like `found`, if one looks like it at all.
pub(crate) fn nearest<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_lowercase();
    known
        .map(|word| (strsim::jaro_winkler(&found, &word.to_lowercase()), word))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.collect();
    if words.is_empty() { "none yet".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";

    fn rules() -> ImportRules {
        let app = AppRule { client_id: "c".to_owned(), uses_refresh_token: true };
        ImportRules {
            clouds: [("global", "https://portal"), ("gcc-high", "")].map(|(name, portal)| (CloudName::new(name), portal.to_owned())).into(),
            apps: [(AppName::new("main"), app)].into(),
            replace_token: false,
        }
    }

    fn draft(cells: [&str; 5]) -> TenantDraft {
        let [directory_id, name, cloud, app, sources] = cells.map(str::to_owned);
        TenantDraft { directory_id, name, cloud, app, sources, refresh_token: None }
    }

    #[test]
    fn blanks_around_cells_mean_nothing_and_inside_a_name_they_stay() {
        let wanted = draft([&format!(" {{{}}} ", ID.to_uppercase()), " Contoso  Ltd ", "global ", " main", " mde-alerts ; graph-alerts;"])
            .check(&rules())
            .unwrap();
        assert_eq!(wanted.id.to_string(), ID);
        assert_eq!(wanted.facts.name, "Contoso  Ltd");
        assert_eq!(wanted.facts.sources, [Source::GraphAlerts, Source::MdeAlerts]);
        assert_eq!(wanted.facts.portal_url, "https://portal");
    }

    #[test]
    fn each_bad_cell_is_named_with_what_would_be_right() {
        let cases = [
            (["", "n", "global", "main", "graph-alerts"], "expected a GUID"),
            (["00000000-0000-0000-0000-000000000000", "n", "global", "main", "graph-alerts"], "expected a GUID"),
            (["0f1e2d3c4b5a69788796a5b4c3d2e1f0", "n", "global", "main", "graph-alerts"], "expected a GUID"),
            ([ID, "  ", "global", "main", "graph-alerts"], "name is empty"),
            ([ID, "a\tb", "global", "main", "graph-alerts"], "control character"),
            ([ID, "1f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "global", "main", "graph-alerts"], "another tenant"),
            (
                [ID, "n", "globl", "main", "graph-alerts"],
                "cloud \"globl\" is not known; did you mean \"global\"? Known are gcc-high, global",
            ),
            ([ID, "n", "mars", "main", "graph-alerts"], "add [clouds.NAME] to the configuration"),
            ([ID, "n", "", "main", "graph-alerts"], "the cloud is empty"),
            ([ID, "n", "global", "mian", "graph-alerts"], "did you mean \"main\"?"),
            (
                [ID, "n", "global", "main", "graph-alert"],
                "did you mean \"graph-alerts\"? Known are graph-alerts, mde-alerts, graph-incidents",
            ),
            ([ID, "n", "global", "main", " ; "], "no source is given"),
        ];
        for (cells, expected) in cases {
            let words = draft(cells).check(&rules()).unwrap_err();
            assert!(words.contains(expected), "{cells:?}: {words}");
        }
    }

    #[test]
    fn a_token_in_the_wrong_column_is_never_repeated() {
        let token = "0.AXsecretsecretsecretsecretsecret";
        for column in 0..5 {
            let mut cells = [ID, "n", "global", "main", "graph-alerts"];
            cells[column] = token;
            if let Err(words) = draft(cells).check(&rules()) {
                assert!(!words.contains("secret"), "{words}");
            }
        }
        assert!(refresh_token("0.AX secret").unwrap_err().contains("blank"));
        assert!(refresh_token("  ").unwrap().is_none());
    }
}
