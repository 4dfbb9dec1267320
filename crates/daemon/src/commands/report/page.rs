//! The page: everything escaped, nothing loaded, nothing executed.
//!
//! A title of an alert is written by an attacker. It is shown as text, in a direction of its own, with what would steer
//! the eye made visible, and folded up where it is long.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use panels::{Alarm, Holds, Kind, Unit};

use super::answer::{Answer, Cell};
use super::{Chapter, Shown, Told, chart, words};
use crate::output::escaped;

const STYLE: &str = include_str!("report.css");
/// Longer texts are folded up after so many characters.
const FOLD: usize = 120;

/// The whole page.
pub(super) fn page(told: &Told) -> Markup {
    // The one style there is, by its hash: no other gets in, whatever a text holds.
    let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    let policy = format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'");
    let whom = match &told.customers {
        Some(names) => names.iter().map(|name| escaped(name.as_bytes())).collect::<Vec<_>>().join(", "),
        None => format!("all customers ({})", told.customer_count),
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                meta name="referrer" content="no-referrer";
                meta name="color-scheme" content="light dark";
                title { "tocsin report, " (words::minute(told.from)) " to " (words::minute(told.to)) " UTC" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p class="brand" { "tocsin report" }
                    h1 { (words::minute(told.from)) " to " (words::minute(told.to)) span class="zone" { "UTC" } }
                    p { "About " bdi { (whom) } ". " (last_read(told)) " All times are UTC." }
                    nav aria-label="Chapters" { @for chapter in &told.chapters { a href={ "#" (chapter.uid) } { (chapter.title) } } }
                }
                main { @for chapter in &told.chapters { (section(chapter, told)) } }
                footer {
                    p { "Made on " (words::minute(told.made)) " UTC, from what was stored then: by the same questions as the dashboards for Grafana." }
                    p { "The board Service asks Prometheus and is not in here." }
                    @if !told.left_out.is_empty() {
                        p { "Left out, since it would count other customers too: " (told.left_out.join(", ")) "." }
                    }
                }
            }
        }
    }
}

fn last_read(told: &Told) -> String {
    match told.last_read.as_deref().and_then(domain::Ticks::parse) {
        Some(at) => format!("A source of theirs was last read {} before this was made.", words::span(told.made.since(at).as_secs_f64())),
        None if told.customer_count == 0 => "There are no customers yet: `tocsin tenant import` brings the first ones in.".into(),
        None => "No source of theirs has ever been read, so nothing can be known yet: `tocsin doctor` says why.".into(),
    }
}

fn section(chapter: &Chapter, told: &Told) -> Markup {
    html! {
        section aria-labelledby=(chapter.uid) {
            h2 id=(chapter.uid) { (chapter.title) }
            p class="lead" { (chapter.description) }
            div class="grid" { @for (number, shown) in chapter.panels.iter().enumerate() {
                (figure(shown, &format!("{}-{}", chapter.uid, number + 1), told))
            } }
        }
    }
}

fn figure(shown: &Shown, id: &str, told: &Told) -> Markup {
    html! {
        article class={ "panel w" (shown.panel.width) " " (class(shown.panel.kind)) } aria-labelledby=(id) {
            h3 id=(id) { (shown.title) }
            @if shown.answer.rows.is_empty() {
                p class="empty" { (shown.panel.empty) }
                p class="empty" { (last_read(told)) }
            } @else {
                @match shown.panel.kind {
                    Kind::Stat(alarm) => (stat(shown, alarm)),
                    Kind::Bars(_) | Kind::Lines(_) => (chart::over_time(shown, id)),
                    Kind::Ranking => (ranking(shown)),
                    Kind::Table => (table(shown)),
                }
            }
            p class="what" { (shown.description) }
        }
    }
}

fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Stat(_) => "stat",
        Kind::Bars(_) | Kind::Lines(_) => "series",
        Kind::Ranking => "ranking",
        Kind::Table => "table",
    }
}

/// Large figures. Trouble has a word besides its colour.
fn stat(shown: &Shown, alarm: Alarm) -> Markup {
    let Answer { columns, rows } = &shown.answer;
    html! {
        @for row in rows {
            dl { @for (name, cell) in columns.iter().zip(row) {
                @let value = cell.figure();
                div class=(level(alarm, value).0) {
                    dt { (name) @if let Some(word) = level(alarm, value).1 { " " span class="badge" { (word) } } }
                    dd { (value.map_or_else(|| "unknown".to_owned(), |value| words::figure(value, shown.panel.unit))) }
                }
            } }
        }
    }
}

fn level(alarm: Alarm, value: Option<f64>) -> (&'static str, Option<&'static str>) {
    match (alarm, value) {
        (Alarm::Warn(from), Some(value)) if value >= f64::from(from) => ("warn", Some("look")),
        (Alarm::Act(from), Some(value)) if value >= f64::from(from) => ("act", Some("act")),
        (Alarm::Warn(_) | Alarm::Act(_), Some(_)) => ("well", Some("well")),
        _ => ("", None),
    }
}

/// A bar for each row: a table, so that it reads as one.
fn ranking(shown: &Shown) -> Markup {
    let Answer { columns, rows } = &shown.answer;
    let highest = rows.iter().filter_map(|row| row[1].figure()).fold(0.0, f64::max);
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(shown.title) {
            table {
                thead { tr { th scope="col" { (columns[0]) } th scope="col" class="n" { (columns[1]) } td {} } }
                tbody { @for row in rows {
                    tr {
                        th scope="row" { (text(row[0].words().unwrap_or_default())) }
                        td class="n" { (row[1].figure().map(|value| words::figure(value, shown.panel.unit)).unwrap_or_default()) }
                        td class="b" { (chart::bar(row[1].figure().unwrap_or_default(), highest)) }
                    }
                } }
            }
        }
    }
}

fn table(shown: &Shown) -> Markup {
    // The id of a customer leads somewhere in Grafana only.
    let columns: Vec<_> = shown.panel.columns.iter().enumerate().filter(|(_, column)| column.holds != Holds::Customer).collect();
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(shown.title) {
            table {
                thead { tr { @for (_, column) in &columns {
                    th scope="col" class=[is_figure(column.holds).then_some("n")] { (column.name) @if column.holds == Holds::When { " (UTC)" } }
                } } }
                tbody { @for row in &shown.answer.rows {
                    tr { @for (at, column) in &columns {
                        td class=[is_figure(column.holds).then_some("n")] { (cell(&row[*at], column.holds, shown.panel.unit)) }
                    } }
                } }
            }
        }
    }
}

fn is_figure(holds: Holds) -> bool {
    matches!(holds, Holds::Figure | Holds::FigureIn(_))
}

fn cell(cell: &Cell, holds: Holds, unit: Unit) -> Markup {
    match (cell, holds) {
        (Cell::Nothing, _) => html! {},
        (Cell::Figure(value), Holds::FigureIn(own)) => html! { (words::figure(*value, own)) },
        (Cell::Figure(value), _) => html! { (words::figure(*value, unit)) },
        (Cell::Words(words), Holds::When) => html! { time datetime=(words) { (words::cell(words)) } },
        // Made by us out of a configured address; anything else than the web is only text.
        (Cell::Words(words), Holds::Address) if words.starts_with("https://") => {
            html! { a href=(words) rel="noopener noreferrer" { "open" span class="hidden" { " in the Defender portal" } } }
        }
        (Cell::Words(words), Holds::Words) if panels::SEVERITIES.contains(&words.as_str()) => {
            html! { span class={ "severity t-" (words) } { (words) } }
        }
        (Cell::Words(words), _) => text(words),
    }
}

/// Text of others.
fn text(of_others: &str) -> Markup {
    let shown = escaped(of_others.as_bytes());
    match shown.char_indices().nth(FOLD) {
        Some((cut, _)) => html! {
            details class="long" { summary { bdi { (&shown[..cut]) "…" } span class="more" { " " (shown.chars().count()) " characters" } } bdi { (shown) } }
        },
        None => html! { bdi { (shown) } },
    }
}
