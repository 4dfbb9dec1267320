//! What somebody has in his hands at three in the morning: `tocsin top` in a terminal, and a tail that goes on where it
//! stopped.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::harness::process::tocsin;
use e2e::harness::{Proxy, Target, Terminal, World, eventually};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::commands::{SOON, setup};

fn top(config: &Path, environment: &[(&str, &str)]) -> anyhow::Result<Terminal> {
    let mut command = tocsin(config, &["top", "--every", "1s"])?;
    command.envs(environment.iter().copied());
    Terminal::open(&command, 24, 100)
}

async fn gives_back(mut terminal: Terminal) -> anyhow::Result<()> {
    let ended = terminal.ended(SOON).await?;
    ensure!(ended.success(), "{ended}:\n{}", terminal.text());
    eventually("the terminal is given back", SOON, async || match terminal.is_given_back() {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}:\n{}", terminal.text())),
    })
    .await
}

#[tokio::test]
async fn top_shows_changes_as_they_come_and_gives_the_terminal_back_however_it_ends() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(3, 5)).await?;
    let tenants = world.cloud.tenants();
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;

    let mut terminal = top(&world.config, &[])?;
    let page = terminal.shows("1 daemon   3 active", SOON).await?;
    ensure!(terminal.is_alternate() && !terminal.is_given_back()?, "{page}");
    for words in ["TENANT", "LAG", "ALERTS/H", "q quit", &tenants[0].name, &tenants[2].name] {
        ensure!(page.contains(words), "{words:?} is missing:\n{page}");
    }
    world.run(&["tenant", "pause", &tenants[0].name]).await?.ok()?;
    let page = terminal.shows("2 active, 1 paused", SOON).await?;
    let rows: Vec<_> = page.lines().skip(2).take(3).collect();
    ensure!(rows[2].contains("paused") && rows[2].contains(&tenants[0].name), "who is left alone on purpose comes last: {rows:?}");
    // Up and down, and whom one has chosen is told in words.
    terminal.types("G")?;
    terminal.shows("paused by the operator", SOON).await?;
    terminal.types("s")?;
    terminal.shows("order: alerts", SOON).await?;
    terminal.resize(8, 44)?;
    eventually("it fits the smaller terminal", SOON, async || {
        let text = terminal.text();
        let lines: Vec<_> = text.lines().collect();
        if lines.len() == 8 && lines[7].contains("q quit") && !text.contains("LAST OK") { Ok(()) } else { Err(text) }
    })
    .await?;
    // A key is heard that comes together with a change of size, too: both are there when the program wakes.
    for (lines, order) in [(9, "token"), (8, "name"), (9, "lag"), (8, "alerts")] {
        terminal.signal(Signal::STOP)?;
        terminal.resize(lines, 44)?;
        terminal.types("s")?;
        terminal.signal(Signal::CONT)?;
        terminal.shows(&format!("order: {order}"), SOON).await?;
    }
    terminal.types("q")?;
    gives_back(terminal).await?;

    let mut interrupted = top(&world.config, &[])?;
    interrupted.shows("2 active", SOON).await?;
    interrupted.types("\u{3}")?;
    gives_back(interrupted).await?;
    let terminated = top(&world.config, &[])?;
    terminated.shows("2 active", SOON).await?;
    terminated.signal(Signal::TERM)?;
    gives_back(terminated).await?;
    daemon.terminate().await?;
    world.end().await
}

#[tokio::test]
async fn top_says_when_the_database_is_gone_and_goes_on_when_it_is_back() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(1, 0)).await?;
    let database = world.database.as_ref().context("a database")?;
    let door = Proxy::to(database.target()?).await?;
    let config = world.config_for("door", &database.url_through(door.address()))?;
    let mut terminal = top(&config, &[])?;
    terminal.shows("no daemon runs", SOON).await?;
    door.lead_to(Target::Tcp(([127, 0, 0, 1], 9).into()));
    door.cut();
    let page = terminal.shows("the database does not answer; what is shown is ", SOON).await?;
    ensure!(page.contains("1 active"), "what was known stays on the screen:\n{page}");
    door.lead_to(database.target()?);
    world.run(&["tenant", "pause", &world.cloud.tenants()[0].name]).await?.ok()?;
    let page = terminal.shows("1 paused", SOON).await?;
    ensure!(!page.contains("does not answer"), "{page}");
    terminal.types("q")?;
    gives_back(terminal).await?;
    world.end().await
}

#[tokio::test]
async fn top_prints_once_where_there_is_no_terminal_and_colours_only_where_they_are_wanted() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(2, 0)).await?;
    let tenants = world.cloud.tenants();
    let empty = World::build(setup(1, 0)).await?;
    let nobody = empty.run(&["top"]).await?.ok()?;
    ensure!(nobody.stdout.is_empty() && nobody.stderr.contains("tocsin tenant import"), "{nobody:?}");
    empty.end().await?;
    sqlx::query(
        "insert into tocsin.trouble (tenant, origin, verdict, reason, action, error_code, shown_from)
         values ($1, 'sign-in', 'needs-consent', 'the refresh token is dead', 'you: invite {tenant} again', 'AADSTS50173', now())",
    )
    .bind(tenants[1].directory_id)
    .execute(&world.pool().await?)
    .await?;
    for arguments in [&["top"][..], &["top", "--once"]] {
        let printed = world.run(arguments).await?.ok()?.stdout;
        let lines: Vec<_> = printed.lines().collect();
        ensure!(lines.len() == 3 && lines[0].contains("TENANT") && lines[0].contains("REASON"), "{printed}");
        let blind = lines.iter().find(|line| line.contains(&tenants[1].name)).context("a line")?;
        ensure!(blind.contains("needs-consent") && blind.contains("the refresh token is dead"), "{printed}");
        ensure!(lines.iter().all(|line| line.trim_end() == *line && !line.contains('\u{1b}')), "{printed:?}");
    }
    // Nor is any other table padded to its widest cell.
    for arguments in [&["tenant", "show", tenants[1].name.as_str()][..], &["tenant", "list"], &["audit", "list"]] {
        let printed = world.run(arguments).await?.ok()?.stdout;
        ensure!(printed.lines().all(|line| line.trim_end() == line), "{printed:?}");
    }
    let document = world.run(&["top", "--json"]).await?.ok()?.json()?;
    ensure!(document["tenants"].as_array().is_some_and(|rows| rows.len() == 2) && document["daemons"] == 0, "{document}");
    let refused = world.run(&["top", "--every", "0s"]).await?;
    ensure!(refused.code() == 2 && refused.stderr.contains("write 1s or more"), "{refused:?}");

    let red = |terminal: &Terminal| ["[31", ";31", "[91", ";91", "8;5"].iter().any(|colour| terminal.drawn().contains(colour));
    for (environment, wanted) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let mut terminal = top(&world.config, environment)?;
        terminal.shows("1 needs-consent", SOON).await?;
        terminal.shows("q quit", SOON).await?;
        ensure!(red(&terminal) == wanted, "{environment:?}: {:?}", terminal.drawn());
        terminal.types("q")?;
        gives_back(terminal).await?;
    }
    world.end().await
}

/// A tail with these options, and its lines.
struct Following {
    child: tokio::process::Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Following {
    fn start(world: &World, options: &[&str]) -> anyhow::Result<Self> {
        let arguments = [&["alerts", "tail", "--json"], options].concat();
        let mut child = tocsin(&world.config, &arguments)?.stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("stdout")?).lines();
        Ok(Self { child, lines })
    }

    /// The next line: which alert, and its cursor.
    async fn next(&mut self) -> anyhow::Result<(String, Option<String>)> {
        let line = tokio::time::timeout(SOON, self.lines.next_line()).await.context("no more lines")??.context("the tail has ended")?;
        e2e::harness::schemas::fits(&["alerts", "tail", "--json"], &line)?;
        let row: serde_json::Value = serde_json::from_str(&line)?;
        Ok((row["alert_id"].as_str().context("an id")?.to_owned(), row["cursor"].as_str().map(str::to_owned)))
    }

    /// Lines until all of these have come.
    async fn until(&mut self, wanted: &BTreeSet<String>) -> anyhow::Result<Vec<(String, Option<String>)>> {
        let mut seen = Vec::new();
        while !wanted.iter().all(|id| seen.iter().any(|(seen, _)| seen == id)) {
            seen.push(self.next().await.with_context(|| format!("{seen:?} of {wanted:?}"))?);
        }
        Ok(seen)
    }
}

#[tokio::test]
async fn a_tail_that_was_killed_goes_on_where_it_stopped_and_misses_nothing_not_even_a_late_commit() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(1, 10)).await?;
    let tenant = world.cloud.tenants().remove(0).directory_id;
    let mut daemon = world.serve()?;
    world.settled(SOON).await?;
    let state = world.path("tail.state").display().to_string();
    let publish = async |count: usize| -> anyhow::Result<BTreeSet<String>> {
        let ids = world.cloud.publish_new(tenant, count)?.into_iter().collect();
        world.settled(Duration::from_secs(60)).await?;
        Ok(ids)
    };

    let mut first = Following::start(&world, &["--state", &state, "-n", "3"])?;
    let mut listed = Vec::new();
    for _ in 0..3 {
        listed.push(first.next().await?.1.is_some());
    }
    assert_eq!(listed, [false, false, true], "only the end of what was there before is a place to go on from");
    // Somebody writes now and commits later than all that follow.
    let pool = world.pool().await?;
    let mut late = pool.begin().await?;
    sqlx::query(
        "insert into tocsin.alert (tenant, alert_id, source, source_rank, hash, version_created_at)
         select tenant, 'late', source, source_rank, hash, version_created_at from tocsin.alert limit 1",
    )
    .execute(&mut *late)
    .await?;
    let stored: i64 = sqlx::query_scalar("select count(*) from dash.alert").fetch_one(&pool).await?;
    let while_it_runs: BTreeSet<String> = world.cloud.publish_new(tenant, 5)?.into_iter().collect();
    let seen = first.until(&while_it_runs).await?;
    assert_eq!(seen.len(), 5, "each once, and the slow transaction delays nobody: {seen:?}");
    first.child.kill().await?;
    late.commit().await?;
    ensure!(world.count("select from dash.alert").await? >= stored + 6, "all are stored");

    let while_it_was_away: BTreeSet<String> = world.cloud.publish_new(tenant, 4)?.into_iter().chain(["late".to_owned()]).collect();
    eventually("they are stored", SOON, async || {
        let count = world.count("select from dash.alert").await.map_err(|error| error.to_string())?;
        if count == 20 { Ok(()) } else { Err(count.to_string()) }
    })
    .await?;
    let mut second = Following::start(&world, &["--state", &state])?;
    second.until(&while_it_was_away).await?;
    second.child.kill().await?;
    sqlx::query("delete from tocsin.alert where alert_id = 'late'").execute(&pool).await?;

    // What is up to date prints nothing, once what came last came again.
    let caught_up = ["alerts", "tail", "--json", "--no-follow", "--state", &state];
    world.run(&caught_up).await?.ok()?;
    eventually("there is nothing new", SOON, async || {
        let printed = world.run(&caught_up).await.and_then(|run| run.ok()).map_err(|error| error.to_string())?.stdout;
        if printed.is_empty() { Ok(()) } else { Err(printed) }
    })
    .await?;

    // By the cursor of any line.
    let published = publish(6).await?;
    let lines = Following::start(&world, &["--state", &state])?.until(&published).await?;
    for (at, (_, cursor)) in lines.iter().enumerate() {
        let after =
            world.run(&["alerts", "tail", "--json", "--no-follow", "--after", cursor.as_deref().context("a cursor")?]).await?.ok()?.stdout;
        for (id, _) in &lines[at + 1..] {
            ensure!(after.contains(&format!("\"alert_id\":\"{id}\"")), "after line {at}, {id} is missing: {after}");
        }
    }
    daemon.terminate().await?;

    for (options, code, words) in [
        (&["--after", "yesterday"][..], 2, "no cursor"),
        (&["--after", "1-1"], 5, "another database server"),
        (&["--after", "1-1", "--since", "1h"], 2, "cannot be used with"),
        (&["--state", "/nonexistent/state"], 1, "/nonexistent/state"),
    ] {
        let refused = world.run(&[&["alerts", "tail", "--json", "--no-follow"], options].concat()).await?;
        ensure!(refused.code() == code && refused.stderr.contains(words), "{options:?}: {refused:?}");
    }
    world.end().await
}

#[tokio::test]
async fn a_daemon_that_answers_can_be_asked_to_end_at_once() -> anyhow::Result<()> {
    let world = World::with_tenants(setup(1, 0)).await?;
    for _ in 0..5 {
        let mut daemon = world.serve()?;
        daemon.ops_address().await?;
        daemon.terminate().await?;
    }
    world.end().await
}
