//! `alert-rules.md`, from `deploy/prometheus/rules.yaml`.

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{Page, sentence};

const RULES: &str = include_str!("../../../deploy/prometheus/rules.yaml");

#[test]
fn alert_rules() -> anyhow::Result<()> {
    let file: Value = serde_saphyr::from_str(RULES)?;
    let mut page = Page::new(
        "alert-rules.md",
        "Alert rules",
        "deploy/prometheus/rules.yaml",
        "What a Prometheus asks of the [metrics](metrics.md), when it says so, and what to do then. The file is \
         [deploy/prometheus/rules.yaml](../../deploy/prometheus/rules.yaml), for a Prometheus with or without the operator.",
    );
    let rules: Vec<&Value> =
        file["groups"].as_array().into_iter().flatten().flat_map(|group| group["rules"].as_array()).flatten().collect();
    ensure!(rules.len() >= 20, "only {} rules were found", rules.len());
    let mut rows = Vec::new();
    for rule in &rules {
        let name = text(rule, "/alert")?;
        rows.push(vec![
            format!("[{name}](#{})", name.to_lowercase()),
            text(rule, "/labels/severity")?.to_owned(),
            words(rule, "/annotations/summary")?,
        ]);
    }
    page.table(&["Rule", "Severity", "Says"], &rows);
    for rule in rules {
        let name = text(rule, "/alert")?;
        page.heading(2, name);
        page.paragraph(&format!("**{}** {}", words(rule, "/annotations/summary")?, words(rule, "/annotations/description")?));
        page.block("promql", text(rule, "/expr")?);
        let lasting = match text(rule, "/for")? {
            "0m" => "at once".to_owned(),
            time => format!("once that has been so for {time}"),
        };
        let runbook = text(rule, "/annotations/runbook_url")?.replace("docs/", "../");
        page.paragraph(&format!("Fires {lasting}, with severity `{}`. [What to do]({runbook}).", text(rule, "/labels/severity")?));
    }
    page.settle()
}

fn text<'a>(rule: &'a Value, path: &str) -> anyhow::Result<&'a str> {
    rule.pointer(path).and_then(Value::as_str).with_context(|| format!("{} has no {path}", rule["alert"]))
}

/// A sentence with the templates of Prometheus shown as what they are.
fn words(rule: &Value, path: &str) -> anyhow::Result<String> {
    Ok(sentence(&text(rule, path)?.replace("{{", "`{{").replace("}}", "}}`")))
}
