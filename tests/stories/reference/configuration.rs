//! `configuration.md`, from `config/default.toml` as it is built in, and from what the configuration says of itself.

use anyhow::{Context, ensure};
use daemon::reference;

use super::{Page, plain};

/// A section that is only shown in a comment: its words, and its lines.
type Shown = (String, String);

/// A section of the file: what is said of it, and its keys.
#[derive(Default)]
struct Section {
    name: String,
    words: Vec<String>,
    keys: Vec<(String, String, String)>,
}

#[test]
fn configuration() -> anyhow::Result<()> {
    let (sections, named) = read(reference::default_configuration())?;
    let mut page = Page::new(
        "configuration.md",
        "Configuration",
        "config/default.toml",
        "Built-in defaults, then the file named by `--config` or `TOCSIN_CONFIG_FILE`, then the environment. Unknown keys are refused by name. Durations are \
         written `30s`, `15m`, `90d`. Secrets are always given as the name of a file that nobody but its owner can read; a relative name is looked for among the \
         credentials of the service manager, then beside the configuration. `tocsin config show` prints what is in force and where each value comes from, and \
         `tocsin config check` reads everything and starts nothing.",
    );
    page.paragraph(
        "*Live*: a changed value takes effect at `tocsin reload`, which the service manager's reload does as well. Every other key waits for a restart, and is named \
         in the log until then. What the files hold that are named here is read anew at every use, or noticed when it changes.",
    );
    let mut told = Vec::new();
    for section in &sections {
        page.heading(2, &if section.name.is_empty() { "Outside of any section".to_owned() } else { format!("`[{}]`", section.name) });
        section.words.iter().for_each(|words| page.paragraph(&plain(words)));
        let mut rows = Vec::new();
        for (key, default, words) in &section.keys {
            let path = if section.name.is_empty() { key.clone() } else { format!("{}.{key}", section.name) };
            ensure!(!words.is_empty(), "{path} has no comment in config/default.toml");
            let bare = default.trim_matches('"');
            let live = if reference::is_live(&path) { ", *live*" } else { "" };
            let kind = reference::kind(&path, bare);
            let default = if bare.is_empty() { "empty".to_owned() } else { format!("`{bare}`") };
            rows.push(vec![
                format!("`{key}`"),
                default,
                format!("{kind}{live}"),
                plain(words),
                format!("`{}`", reference::variable(&path)),
            ]);
            told.push(path);
        }
        page.table(&["Key", "Default", "What may be written", "", "In the environment"], &rows);
    }
    let known = reference::keys();
    told.sort();
    ensure!(told == known, "the page has {told:?}, and the program knows {known:?}");

    for (name, keys) in reference::NAMED_SECTIONS {
        let (words, lines) =
            named.iter().find(|(_, lines)| lines.contains(&format!("[{name}."))).with_context(|| format!("no [{name}.…]"))?;
        for key in *keys {
            ensure!(lines.contains(&format!("{key} =")), "config/default.toml does not explain {name}.NAME.{key}");
        }
        page.heading(2, &format!("`[{name}.NAME]`"));
        page.paragraph(&plain(words));
        page.block("toml", lines);
        page.paragraph(&format!(
            "In the environment: `{}`. A name that stands only there is taken in small letters.",
            reference::variable(&format!("{name}.name.{}", keys[0]))
        ));
    }
    page.settle()
}

/// The sections with their keys, and the tables that are only shown in comments: words and lines.
fn read(text: &str) -> anyhow::Result<(Vec<Section>, Vec<Shown>)> {
    let (mut sections, mut named) = (vec![Section::default()], Vec::new());
    // Paragraphs of the comment above; those before the last are about the section.
    let mut comment: Vec<String> = vec![String::new()];
    for line in text.lines().chain([""]) {
        if let Some(words) = line.strip_prefix('#') {
            let words = words.strip_prefix(' ').unwrap_or(words);
            if words.is_empty() {
                comment.push(String::new());
            } else if let Some(last) = comment.last_mut() {
                last.push_str(words);
                last.push('\n');
            }
            continue;
        }
        let above = std::mem::replace(&mut comment, vec![String::new()]);
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push(Section { name: name.to_owned(), ..Section::default() });
        } else if let Some((key, value)) = line.split_once(" = ") {
            let section = sections.last_mut().context("no section")?;
            let (words, before) = above.split_last().context("no comment")?;
            section.words.extend_from_slice(before);
            section.keys.push((key.to_owned(), value.to_owned(), words.clone()));
        } else if let Some(at) = above.iter().position(|paragraph| paragraph.starts_with('[')) {
            // What explains within the lines was a comment of its own.
            let line = |line: &str| {
                if line.is_empty() || line.contains(" = ") || line.starts_with('[') { line.to_owned() } else { format!("# {line}") }
            };
            named.push((above[..at].join(" "), above[at..].join("\n").lines().map(line).collect::<Vec<_>>().join("\n")));
        }
    }
    sections.retain(|section| !section.keys.is_empty());
    Ok((sections, named))
}
