//! What Grafana would stumble over, looked for in the files alone.

use std::collections::BTreeSet;

use panels::{Source, boards, grafana};

use super::{files, list, text};

#[test]
fn the_files_are_what_the_table_of_panels_says() -> anyhow::Result<()> {
    let files = files()?;
    let mut named: Vec<_> = boards::ALL.iter().map(|board| format!("{}.json", board.uid.trim_start_matches("tocsin-"))).collect();
    named.sort();
    assert_eq!(files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), named);
    for board in &boards::ALL {
        let there = files.iter().find(|(_, file)| file["uid"] == board.uid);
        assert_eq!(
            there.map(|(_, file)| file),
            Some(&grafana::dashboard(board)),
            "cargo run -p e2e --bin dashboards writes {} anew",
            board.uid
        );
    }
    Ok(())
}

#[test]
fn nothing_is_left_for_grafana_to_guess() -> anyhow::Result<()> {
    for (name, file) in files()? {
        let uid = text(&file["uid"]);
        assert!((8..=40).contains(&uid.len()) && uid.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}: {uid}");
        assert!(file["id"].is_null() && file["__inputs"].is_null(), "{name}");
        let whole = file.to_string();
        assert!(!whole.contains("${DS_"), "{name} asks for a data source at import");
        let panels = list(&file["panels"]);
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
        assert!(ids.len() == panels.len() && !ids.contains(&None), "{name}: ids");
        for panel in panels {
            let title = text(&panel["title"]);
            let defaults = &panel["fieldConfig"]["defaults"];
            for (what, words) in [
                ("title", &panel["title"]),
                ("description", &panel["description"]),
                ("unit", &defaults["unit"]),
                ("noValue", &defaults["noValue"]),
            ] {
                assert!(!text(words).is_empty(), "{name}: {title} has no {what}");
            }
            for holder in std::iter::once(panel).chain(list(&panel["targets"])) {
                assert_eq!(text(&holder["datasource"]["uid"]), "${datasource}", "{name}: {title}");
            }
        }
        apart(&name, panels);
    }
    Ok(())
}

/// Inside 24 columns, and no two panels on one place.
fn apart(name: &str, panels: &[serde_json::Value]) {
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |what: &str| panel["gridPos"][what].as_u64().unwrap_or(u64::MAX);
        assert!(at("w") > 0 && at("h") > 0 && at("x").saturating_add(at("w")) <= 24, "{name}: {}", panel["gridPos"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{name}: {} overlaps", text(&panel["title"]));
            }
        }
    }
}

#[test]
fn variables_are_declared_and_used_and_macros_are_known() -> anyhow::Result<()> {
    for (name, file) in files()? {
        let declared: BTreeSet<&str> = list(&file["templating"]["list"]).iter().map(|variable| text(&variable["name"])).collect();
        let whole = file.to_string();
        let mut used: BTreeSet<&str> = whole.split("${").skip(1).filter_map(|rest| rest.split(['}', ':', '.']).next()).collect();
        // Grafana's own.
        used.retain(|variable| !variable.starts_with("__"));
        assert_eq!(declared, used, "{name}");
        for target in list(&file["panels"]).iter().flat_map(|panel| list(&panel["targets"])) {
            let Some(sql) = target["rawSql"].as_str() else { continue };
            panels::template::bound(sql, 3600)?;
            assert!(!sql.contains("tocsin."), "{name} reads what is private: {sql}");
            for call in sql.split("$__").skip(1).filter_map(|rest| rest.split_once(')')) {
                assert!(call.0.matches('(').count() <= 1, "{name}: Grafana cuts ${}", call.0);
            }
            // Directly before a comma Grafana gives it a name that nobody wrote.
            assert!(!sql.contains("$__timeGroup("), "{name}: {sql}");
        }
    }
    Ok(())
}

/// What `domain/src/metric.rs` says of a metric, and the suffixes of a histogram.
#[test]
fn the_service_board_asks_for_metrics_that_there_are() -> anyhow::Result<()> {
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/domain/src/metric.rs"))?;
    let known: BTreeSet<&str> = source.split('"').filter(|word| word.starts_with("tocsin_")).collect();
    assert!(known.len() > 15, "{known:?}");
    let mut asked = 0;
    for board in boards::ALL.iter().filter(|board| board.source == Source::Prometheus) {
        for panel in board.panels {
            for word in panel.query.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).filter(|word| word.starts_with("tocsin_")) {
                assert!(known.contains(word) || known.contains(word.trim_end_matches("_bucket")), "{}: {word}", panel.title);
                asked += 1;
            }
        }
    }
    assert!(asked > 15, "{asked}");
    Ok(())
}
