//! The report, opened in a real browser. Needs chromium with its driver, and for the look at its accessibility the package
//! axe-core; without them these stories end at once.

use anyhow::{Context, ensure};
use e2e::harness::{Browser, World, skipped};
use serde_json::Value;

use super::{empty, filled};

async fn written(world: &World, name: &str, options: &[&str]) -> anyhow::Result<(String, String)> {
    let path = world.path(name);
    let out = path.display().to_string();
    world.run(&[&["report", "--out", &out], options].concat()).await?.ok()?;
    Ok((std::fs::read_to_string(&path)?, format!("file://{out}")))
}

#[tokio::test]
async fn a_report_is_shown_in_both_themes_and_on_a_telephone_and_executes_nothing() -> anyhow::Result<()> {
    let world = filled().await?;
    let (html, address) = written(world, "whole.html", &["--since", "7d"]).await?;
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;document.title"), "titles are text");
    assert!(!html.contains('\u{202e}') && html.contains("\\u{202e}"), "what turns writing round is made visible");
    assert!(html.contains(&"A very long title. ".repeat(15)), "a long title is there");
    let Some(browser) = Browser::start().await? else { return Ok(()) };
    for (width, scheme) in [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")] {
        browser.look_as(width, scheme).await?;
        browser.open(&address).await?;
        browser.heading("UTC").await?;
        let page = browser
            .ask(
                "arguments[arguments.length - 1]({ title: document.title, loaded: performance.getEntriesByType('resource').length,
                    dark: getComputedStyle(document.body).backgroundColor, wide: document.documentElement.scrollWidth,
                    pictures: document.querySelectorAll('svg[role=img]').length, panels: document.querySelectorAll('article').length })",
            )
            .await?;
        ensure!(page["title"].as_str().is_some_and(|title| title.starts_with("tocsin report")), "{page}");
        ensure!(page["loaded"] == 0, "something was loaded: {page}");
        ensure!(page["wide"].as_u64() <= Some(width.into()), "{width} px: the page is wider: {page}");
        ensure!(page["pictures"].as_u64() >= Some(5) && page["panels"].as_u64() >= Some(45), "{page}");
        let is_dark = page["dark"].as_str() == Some("rgb(15, 19, 24)");
        ensure!(is_dark == (scheme == "dark"), "{scheme}: {page}");
        accessible(&browser).await.with_context(|| format!("{width} px, {scheme}"))?;
        browser.picture(&format!("report-{width}-{scheme}")).await?;
        let said = browser.console().await?;
        ensure!(said.is_empty(), "the console says: {said:?}");
    }
    browser.end().await
}

/// Nothing that axe calls a violation.
async fn accessible(browser: &Browser) -> anyhow::Result<()> {
    let Ok(axe) = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/browser/node_modules/axe-core/axe.min.js")) else {
        skipped("what axe says of the report, since it is not installed in tests/browser");
        return Ok(());
    };
    let found = browser
        .ask(&format!(
            "const done = arguments[arguments.length - 1]; {axe};
            axe.run(document, {{ resultTypes: ['violations'] }}).then(found => done({{ passes: found.passes.length, violations:
                found.violations.map(v => [v.id, v.help, v.nodes.slice(0, 3).map(n => n.html.slice(0, 200) + ' ' + n.failureSummary)]) }}), error => done(String(error)))"
        ))
        .await?;
    ensure!(found["passes"].as_u64() > Some(10), "axe did not look: {found}");
    ensure!(found["violations"].as_array().is_some_and(Vec::is_empty), "{found:#}");
    Ok(())
}

#[tokio::test]
async fn a_report_about_one_customer_counts_no_other() -> anyhow::Result<()> {
    let world = filled().await?;
    let (html, _) = written(world, "one.html", &["--since", "30d", "--tenant", "O'Brien & Söhne \"Ltd\""]).await?;
    assert!(html.contains("About <bdi>O'Brien &amp; Söhne &quot;Ltd&quot;</bdi>"), "whom it is about");
    assert!(!html.contains("Customer 004"), "somebody else");
    assert!(
        html.contains("Left out, since it would count other customers too: Stored within")
            || html.contains("Left out, since it would count other customers too: Alerts per hour")
    );
    let figures = world.run(&["report", "--since", "30d", "--tenant", "Customer 005", "--json", "--out", "-"]).await?.ok()?.json()?;
    let panels: Vec<&Value> =
        figures["chapters"].as_array().context("no chapters")?.iter().flat_map(|chapter| super::list(&chapter["panels"])).collect();
    assert!(panels.iter().all(|panel| panel["title"] != "Alerts per hour" && panel["title"] != "Lateness"));
    let by_customer = panels.iter().find(|panel| panel["title"] == "Alerts by customer").context("no such panel")?;
    assert_eq!(by_customer["rows"].as_array().map(Vec::len), Some(1));
    assert_eq!(by_customer["rows"][0][0], "Customer 005");
    Ok(())
}

#[tokio::test]
async fn where_nothing_has_happened_the_report_says_what_to_do() -> anyhow::Result<()> {
    let world = empty().await?;
    let (html, _) = written(&world, "empty.html", &[]).await?;
    assert!(html.contains("There are no customers yet: `tocsin tenant import` brings the first ones in."));
    assert!(!html.contains("<svg"), "nothing is drawn of nothing");
    let refused = world.run(&["report", "--since", "7d", "--until", "8d", "--out", "-"]).await?;
    assert_eq!((refused.code(), refused.stdout.as_str()), (2, ""));
    let unknown = world.run(&["report", "--tenant", "nobody", "--out", "-"]).await?;
    assert_eq!(unknown.code(), 4, "{}", unknown.stderr);
    Ok(())
}
