//! Every example in the help is typed, as it stands there, and does what the help says.
//!
//! The customers of the world are called as the examples call them. What an example cannot know (ids, folders that belong
//! to root) is put in its place; an example that is not in the table below fails the story.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::harness::process::{self, finish, tocsin_binary};
use e2e::harness::{Daemon, Finished, Receiver, Setup, Terminal, World, eventually, schemas};
use simulator::{Poison, Settings, SimTenant, Source, SourceMix};
use tokio::process::Command;

const SOON: Duration = Duration::from_secs(60);
/// Ids in the examples, in whose place real ones are put.
const NEW_DIRECTORY: &str = "6f1c2f6e-3f0e-4a52-9a51-0c2f8f1f6f10";
const KEY: &str = "1f0c6c8e2b7a4d59";
const RECORD: &str = "3fa9c1d2";
const OTHER_RECORD: &str = "77b0e4aa";
const CURSOR: &str = "68d3c40e5f1a2b07-48213";

/// What becomes of an example.
enum How {
    /// It ends with this code, with no terminal.
    Ends(i32),
    /// It asks, in a terminal, and ends well once it was answered.
    Asked(&'static str),
    /// It goes on until somebody stops it: answered this if it asks, it shows this, and these keys stop it with this code
    /// (-1: by the signal).
    GoesOn(Option<&'static str>, &'static str, &'static str, i32),
}
use How::{Asked, Ends, GoesOn};

const CTRL_C: &str = "\u{3}";

/// A command that makes what the example needs, if it needs something; the example; what becomes of it.
type Row = (&'static str, &'static str, How);

/// In a world with customers, whose daemon runs.
const DAEMON_RUNS: &[Row] = &[
    ("", "tocsin reconcile --tenant contoso", Ends(0)),
    ("", "tocsin reconcile --tenant contoso --source graph-alerts --since 7d --until 24h", Ends(0)),
    ("", "tocsin reconcile --tenant contoso --since 2026-11-20T08:00:00Z --timeout 30m --json", Ends(0)),
    ("", "tocsin healthcheck", Ends(0)),
    ("", "tocsin healthcheck --live --json", Ends(0)),
    ("", "tocsin doctor --tenant contoso", Ends(0)),
    ("", "tocsin doctor --bundle ticket.tar.gz", Ends(0)),
    ("", "tocsin doctor --bundle - > ticket.tar.gz", Ends(0)),
    ("", "tocsin top", GoesOn(None, "q quit", "q", 0)),
    ("", "tocsin top --every 10s", GoesOn(None, "q quit", CTRL_C, 0)),
    ("", "tocsin top --once", Ends(0)),
    ("", "tocsin top --once --json", Ends(0)),
    ("", "tocsin report --since 7d", Ends(0)),
    ("", "tocsin report --since 30d --tenant contoso --tenant fabrikam --out contoso.html", Ends(0)),
    ("", "tocsin report --since 2026-11-01 --until 2026-12-01 --out -", Ends(0)),
    ("", "tocsin report --since 24h --json --out -", Ends(0)),
    ("", "tocsin reload", Ends(0)),
    ("", "tocsin reload --config /etc/tocsin/tocsin.toml --json", Ends(0)),
    ("", "tocsin schema", Ends(0)),
    ("", "tocsin schema tenant list", Ends(0)),
    ("", "tocsin schema alerts-tail > alerts-tail.schema.json", Ends(0)),
    ("", "tocsin completions bash > /etc/bash_completion.d/tocsin", Ends(0)),
    ("", "tocsin completions zsh > ~/.zfunc/_tocsin", Ends(0)),
    ("", "tocsin man > tocsin.1", Ends(0)),
    ("", "tocsin man /usr/local/share/man/man1", Ends(0)),
    ("", "tocsin db migrate --dry-run", Ends(0)),
    ("", "tocsin db migrate", Ends(0)),
    ("", "tocsin db partitions", Ends(0)),
    ("", "tocsin db partitions --json", Ends(0)),
    ("", "tocsin db rebuild", Ends(0)),
    ("", "tocsin db rebuild --json", Ends(0)),
    ("", "tocsin audit list --tenant contoso", Ends(0)),
    ("", "tocsin audit list -n 500 --json", Ends(0)),
    ("", "tocsin audit verify", Ends(0)),
    ("tocsin audit heads > /mnt/elsewhere/tocsin-heads.txt", "tocsin audit verify --heads /mnt/elsewhere/tocsin-heads.txt", Ends(0)),
    ("", "tocsin audit verify --tenant contoso --json", Ends(0)),
    ("", "tocsin notify test", Ends(0)),
    ("", "tocsin notify test --json", Ends(0)),
    ("", "tocsin config show", Ends(0)),
    ("", "tocsin config show --origin", Ends(0)),
    ("", "tocsin config show --json", Ends(0)),
    ("", "tocsin alerts list --since 24h --severity high", Ends(0)),
    ("", "tocsin alerts list --tenant contoso -n 500 --json", Ends(0)),
    ("", "tocsin alerts tail --severity high", GoesOn(None, " high ", CTRL_C, 0)),
    ("", "tocsin alerts tail --tenant contoso --since 7d --no-follow --json", Ends(0)),
    ("", "tocsin alerts tail --json --state /var/lib/forwarder/tocsin.state", GoesOn(None, "\"cursor\":\"", CTRL_C, 0)),
    ("", "tocsin alerts tail --json --after 68d3c40e5f1a2b07-48213 --no-follow", Ends(0)),
    ("", "tocsin reader create contoso_soc --tenants contoso --password-file /root/contoso_soc.password", Ends(0)),
    ("", "tocsin reader create nordic --tenants \"contoso,Fabrikam A/S,6f1c2f6e-3f0e-4a52-9a51-0c2f8f1f6f10\"", Ends(0)),
    ("", "tocsin reader create grafana --all --password-file /etc/grafana/tocsin.password", Ends(0)),
    ("", "tocsin reader grant nordic --tenants fabrikam", Ends(0)),
    ("", "tocsin reader grant nordic --tenants fabrikam,contoso", Ends(0)),
    ("", "tocsin reader revoke nordic --tenants contoso", Ends(0)),
    ("", "tocsin reader revoke nordic --tenants fabrikam,contoso", Ends(0)),
    ("", "tocsin reader drop nordic", Asked("nordic")),
    ("tocsin reader create nordic --tenants contoso", "tocsin reader drop nordic --yes", Ends(0)),
    ("", "tocsin tenant set contoso --access-expires 2027-03-01", Ends(0)),
    ("", "tocsin tenant set contoso --access-expires never", Ends(0)),
    ("", "tocsin tenant verify contoso", Ends(0)),
    ("", "tocsin tenant verify contoso --timeout 3m --json", Ends(0)),
    ("", "tocsin tenant invite contoso --relink --no-wait --json", Ends(0)),
    ("", "tocsin tenant invite contoso --cancel", Ends(0)),
    // It waits for somebody to sign in.
    ("", "tocsin tenant connect contoso --relink --no-browser", GoesOn(None, "http://localhost:", CTRL_C, -1)),
    ("", "tocsin backfill start contoso --since 90d --wait", Ends(0)),
    ("", "tocsin backfill start contoso --source mde-alerts --since 2026-08-01T00:00:00Z --until 30d --replace", Ends(0)),
    ("", "tocsin backfill status", Ends(0)),
    ("", "tocsin backfill status contoso --watch", Ends(0)),
    ("", "tocsin key rotate", Ends(0)),
    ("", "tocsin key rotate --timeout 10m", Ends(0)),
    ("", "tocsin key retire 1f0c6c8e2b7a4d59", Asked("1f0c6c8e2b7a4d59")),
    ("", "tocsin key retire 1f0c6c8e2b7a4d59 --write-ring /run/tocsin/ring.new", Asked("1f0c6c8e2b7a4d59")),
    // The ring that was written is put in place by hand, and the command typed again.
    ("mv -f /run/tocsin/ring.new keys/ring", "tocsin key rotate --write-ring /run/tocsin/ring.new", Ends(75)),
    ("mv -f /run/tocsin/ring.new keys/ring", "tocsin key rotate --write-ring - > ring.new", Ends(75)),
    ("", "tocsin quarantine list", Ends(0)),
    ("", "tocsin quarantine list --tenant contoso --source graph-alerts --replayed -n 500", Ends(0)),
    ("", "tocsin quarantine show 3fa9c1d2", Ends(0)),
    ("", "tocsin quarantine show 3fa9c1d2 --tenant contoso --raw > record.json", Ends(0)),
    ("", "tocsin quarantine replay 3fa9c1d2 77b0e4aa", Ends(0)),
    // They are no better understood than before.
    ("", "tocsin quarantine replay --all --tenant contoso --source graph-alerts --wait", Ends(3)),
    ("", "tocsin tenant remove contoso", Asked("contoso")),
    ("", "tocsin tenant remove \"Contoso A/S\" --delete-alerts --yes", Ends(0)),
];

/// In the same world once its daemon has ended, so that nobody does what is asked for before it is called off.
const DAEMON_HAS_ENDED: &[Row] = &[
    (
        "tocsin backfill start contoso --source mde-alerts --since 60d --replace",
        "tocsin backfill cancel contoso --source mde-alerts",
        Ends(0),
    ),
    ("tocsin backfill start contoso --since 60d --replace", "tocsin backfill cancel contoso", Ends(0)),
];

/// Each in a world where nobody is a customer yet.
const NOBODY_IS_HERE: &[Row] = &[
    ("", "tocsin tenant import customers.csv", Ends(0)),
    ("", "tocsin tenant import --replace-token - < customers.csv", Ends(0)),
    ("", "tocsin tenant add \"Contoso A/S\" --tenant 6f1c2f6e-3f0e-4a52-9a51-0c2f8f1f6f10 --refresh-token-stdin < token", Ends(0)),
    (
        "",
        "tocsin tenant add contoso --tenant 6f1c2f6e-3f0e-4a52-9a51-0c2f8f1f6f10 --app own --source graph-alerts --source graph-incidents",
        Ends(0),
    ),
    // The rest waits for the customer, or for whoever signs in for him: as far as the link.
    ("", "tocsin tenant invite \"Contoso A/S\" --tenant contoso.com", GoesOn(Some("Contoso A/S"), "/consent/", CTRL_C, -1)),
    (
        "",
        "tocsin tenant invite contoso --tenant contoso.com --source graph-alerts --source mde-alerts --expires 2d --qr",
        GoesOn(Some("contoso"), "/consent/", CTRL_C, -1),
    ),
    ("", "tocsin tenant connect contoso --tenant contoso.com", GoesOn(Some("contoso"), "http://localhost:", CTRL_C, -1)),
    ("", "tocsin tenant connect contoso --tenant contoso.com --paste", GoesOn(Some("contoso"), "paste that address here", CTRL_C, -1)),
];

/// A world in which examples are typed.
struct Desk {
    world: World,
    /// Of its own for each story, since roles belong to the whole server.
    suffix: String,
    _receiver: Receiver,
}

impl Desk {
    async fn build(names: &[&str], history: usize) -> anyhow::Result<Self> {
        let cloud = Settings { tenants: names.len().max(1), history, history_days: 3, sources: SourceMix::Both, ..Settings::default() };
        let world = World::build(Setup { cloud, ..Setup::default() }).await?;
        let receiver = Receiver::start().await?;
        let (url, hook) = (world.cloud.base_url(), world.write_private("webhook.url", &receiver.url)?);
        let secret = world.write_private("webhook.secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
        let extra = format!(
            "[clouds.global]\nlogin_url = \"{url}\"\ngraph_url = \"{url}\"\ndefender_url = \"{url}\"\nportal_url = \"{url}/portal\"\nallow_plaintext = true\n\
             [apps.own]\nclient_id = \"{}\"\nclient_secret_file = {:?}\ngrant = \"client_credentials\"\n\
             [ladder]\nshort_every = \"0s\"\nlong_every = \"0s\"\ncompare = false\n\
             [budget]\ngraph_per_minute = 100000\ndefender_per_minute = 100000\ndefender_per_hour = 1000000\n\
             [notify]\nurl_file = {hook:?}\nsecret_file = {secret:?}\nallow_plaintext = true\n",
            world.cloud.client_id(),
            world.path("app.secret"),
        );
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let toml = world.toml(&extra).replace("[ops]\nlisten = \"127.0.0.1:0\"", &format!("[ops]\nlisten = \"{port}\""));
        world.write_private("tocsin.toml", &toml)?;
        for folder in [
            "bin",
            ".zfunc",
            "etc/tocsin",
            "etc/bash_completion.d",
            "etc/grafana",
            "usr/local/share/man",
            "var/lib/forwarder",
            "root",
            "mnt/elsewhere",
            "run/tocsin",
        ] {
            std::fs::create_dir_all(world.path(folder))?;
        }
        world.write_private("etc/tocsin/tocsin.toml", &toml)?;
        std::os::unix::fs::symlink(tocsin_binary()?, world.path("bin/tocsin"))?;
        // No example opens a browser on the machine that tests it.
        std::os::unix::fs::symlink("/bin/true", world.path("bin/xdg-open"))?;
        let tenants: Vec<_> =
            world.cloud.tenants().into_iter().zip(names).map(|(tenant, name)| SimTenant { name: (*name).to_owned(), ..tenant }).collect();
        let csv = world.write_private("customers.csv", &world.csv(&tenants))?;
        if names.len() > 1 {
            world.run(&["tenant", "import", &csv.display().to_string()]).await?.ok()?;
        }
        let first = world.cloud.tenants().into_iter().next().context("a tenant")?;
        world.cloud.add_domain(first.directory_id, "contoso.com")?;
        world.write_private("token", &first.refresh_token)?;
        let suffix = uuid::Uuid::new_v4().simple().to_string();
        Ok(Self { world, suffix: suffix[..8].to_owned(), _receiver: receiver })
    }

    fn shell(&self, typed: &str) -> Command {
        let folder = self.world.folder();
        let mut shell = Command::new("bash");
        shell.env_clear().env("HOME", folder).env("TOCSIN_CONFIG_FILE", &self.world.config);
        shell.env("PATH", format!("{}:/usr/bin:/bin", folder.join("bin").display()));
        shell.current_dir(folder).args(["-c", typed]).kill_on_drop(true).stdin(Stdio::null());
        shell
    }

    /// The example with what it cannot know: folders, directory, roles, and what `found` says.
    fn placed(&self, typed: &str, found: &[(String, String)]) -> String {
        let mut placed = typed.replace(" /", &format!(" {}/", self.world.folder().display()));
        for role in ["nordic", "grafana", "contoso_soc"] {
            placed = placed.replace(&format!(" {role} "), &format!(" {role}_{} ", self.suffix));
            placed = placed.strip_suffix(&format!(" {role}")).map(|head| format!("{head} {role}_{}", self.suffix)).unwrap_or(placed);
        }
        found.iter().fold(placed, |placed, (example, real)| placed.replace(example, real))
    }

    /// What stands for the ids in the examples now.
    async fn found(&self, typed: &str) -> anyhow::Result<Vec<(String, String)>> {
        if ![NEW_DIRECTORY, KEY, RECORD, CURSOR].iter().any(|id| typed.contains(id)) {
            return Ok(Vec::new());
        }
        let directory = self.world.cloud.tenants().last().context("a tenant")?.directory_id.to_string();
        let mut found = vec![(NEW_DIRECTORY.to_owned(), directory)];
        let keys = self.world.run(&["key", "status", "--json"]).await?.ok()?.json()?;
        let idle = keys.as_array().into_iter().flatten().find(|key| key["active"] == false && key["in_ring"] == true);
        found.extend(idle.and_then(|key| key["id"].as_str()).map(|id| (KEY.to_owned(), id.to_owned())));
        let records = self.world.run(&["quarantine", "list", "--json"]).await?.ok()?.json()?;
        let ids = records.as_array().into_iter().flatten().filter_map(|record| record["id"].as_str().map(str::to_owned));
        found.extend([RECORD.to_owned(), OTHER_RECORD.to_owned()].into_iter().zip(ids));
        let tail = self.world.run(&["alerts", "tail", "--json", "--no-follow", "-n", "1"]).await?.ok()?.stdout;
        let cursor = serde_json::from_str::<serde_json::Value>(&tail).ok().and_then(|line| Some(line["cursor"].as_str()?.to_owned()));
        found.extend(cursor.map(|cursor| (CURSOR.to_owned(), cursor)));
        Ok(found)
    }

    async fn types(&self, (first, typed, how): &Row) -> anyhow::Result<()> {
        let found = self.found(typed).await?;
        if !first.is_empty() {
            finish(self.shell(&self.placed(first, &found)), "").await?.ok().with_context(|| format!("before {typed}"))?;
        }
        let placed = self.placed(typed, &found);
        match how {
            Ends(code) => {
                let mut shell = self.shell(&placed);
                shell.stdout(Stdio::piped()).stderr(Stdio::piped());
                let output = tokio::time::timeout(SOON, shell.output()).await.with_context(|| format!("{typed} does not end"))??;
                let ended = Finished {
                    status: output.status,
                    stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                    stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
                };
                ensure!(ended.code() == *code, "exit {} instead of {code}: {ended:?}", ended.code());
                let words: Vec<&str> = typed.split_whitespace().skip(1).take_while(|word| *word != ">").collect();
                schemas::fits(&words, &ended.stdout)
            }
            Asked(answer) => {
                let mut terminal = Terminal::open(&self.shell(&placed), 24, 200)?;
                terminal.shows("to go on:", SOON).await?;
                terminal.types(&format!("{}\n", self.placed(&format!(" {answer}"), &found).trim()))?;
                let ended = terminal.ended(SOON).await?;
                ensure!(ended.success(), "{ended}: {}", terminal.text());
                Ok(())
            }
            GoesOn(answer, shows, keys, code) => {
                let mut terminal = Terminal::open(&self.shell(&placed), 60, 200)?;
                if let Some(answer) = answer {
                    terminal.shows("to go on:", SOON).await?;
                    terminal.types(&format!("{answer}\n"))?;
                }
                terminal.shows(shows, SOON).await?;
                terminal.types(keys)?;
                let ended = terminal.ended(SOON).await?;
                ensure!(ended.code().unwrap_or(-1) == *code, "{ended}: {}", terminal.text());
                Ok(())
            }
        }
    }

    async fn types_all(&self, rows: &[Row]) -> anyhow::Result<()> {
        for row in rows {
            self.types(row).await.with_context(|| format!("the example: {}", row.1))?;
        }
        Ok(())
    }
}

async fn serve(desk: &Desk) -> anyhow::Result<Daemon> {
    let daemon = desk.world.serve()?;
    desk.world.settled(SOON).await?;
    eventually("the first backfills are over and all is well", SOON, async || {
        let told = async |words: &[&str]| desk.world.run(words).await.map_err(|error| error.to_string());
        let rows = told(&["backfill", "status", "--json"]).await?.json().map_err(|error| error.to_string())?;
        let open = rows.as_array().into_iter().flatten().any(|row| matches!(row["state"].as_str(), Some("waiting" | "running")));
        let doctor = told(&["doctor"]).await?;
        if !open && doctor.code() == 0 { Ok(()) } else { Err(format!("{rows}\n{doctor:?}")) }
    })
    .await?;
    Ok(daemon)
}

#[tokio::test]
async fn examples_about_customers_who_are_here_do_what_they_say() -> anyhow::Result<()> {
    let desk = Desk::build(&["contoso", "fabrikam", "Contoso A/S", "Fabrikam A/S", "northwind"], 6).await?;
    let contoso = desk.world.cloud.tenants().into_iter().next().context("contoso")?.directory_id;
    let mut daemon = serve(&desk).await?;
    let quarantined = DAEMON_RUNS.iter().position(|(_, typed, _)| typed.starts_with("tocsin quarantine")).context("examples")?;
    desk.types_all(&DAEMON_RUNS[..quarantined]).await?;
    for id in ["da-one", "da-other"] {
        desk.world.cloud.publish_poison(contoso, Source::GraphAlerts, Poison::InvalidUtf8, id)?;
    }
    eventually("both are in quarantine", SOON, async || {
        let count = desk.world.count("select from dash.quarantine").await.map_err(|error| error.to_string())?;
        if count == 2 { Ok(()) } else { Err(count.to_string()) }
    })
    .await?;
    desk.types_all(&DAEMON_RUNS[quarantined..]).await?;
    daemon.terminate().await?;
    for role in ["grafana", "contoso_soc"] {
        desk.world.run(&["reader", "drop", &format!("{role}_{}", desk.suffix), "--yes"]).await?.ok()?;
    }
    // Contoso has gone meanwhile and comes back.
    desk.world.run(&["tenant", "import", &desk.world.path("customers.csv").display().to_string()]).await?.ok()?;
    desk.types_all(DAEMON_HAS_ENDED).await?;
    desk.world.end().await
}

#[tokio::test]
async fn examples_about_newcomers_do_what_they_say() -> anyhow::Result<()> {
    for row in NOBODY_IS_HERE {
        let desk = Desk::build(&["contoso"], 0).await?;
        desk.types(row).await.with_context(|| format!("the example: {}", row.1))?;
        desk.world.end().await?;
    }
    Ok(())
}

/// What the help of this command names under a heading: whole lines, put together again where they were broken.
fn section(help: &str, heading: &str, begins: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in help.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| line.is_empty() || line.starts_with(' ')) {
        match found.last_mut() {
            _ if begins(line) => found.push(line.trim().to_owned()),
            Some(last) if !line.trim().is_empty() => *last = format!("{last} {}", line.trim()),
            _ => {}
        }
    }
    found
}

#[tokio::test]
async fn no_example_of_the_help_is_left_out() -> anyhow::Result<()> {
    let (mut commands, mut found) = (vec![Vec::<String>::new()], BTreeSet::new());
    while let Some(words) = commands.pop() {
        let arguments: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let help = process::run(std::path::Path::new("/nonexistent"), &arguments).await?.ok()?.stdout;
        found.extend(section(&help, "Examples:", |line| line.trim_start().starts_with("tocsin ")));
        for below in section(&help, "Commands:", |line| line.starts_with("  ") && !line.starts_with("   ")) {
            let name = below.split_whitespace().next().unwrap_or_default().to_owned();
            if name != "help" {
                commands.push([words.clone(), vec![name]].concat());
            }
        }
    }
    let typed: BTreeSet<String> = [DAEMON_RUNS, DAEMON_HAS_ENDED, NOBODY_IS_HERE]
        .iter()
        .flat_map(|rows| rows.iter())
        .map(|(_, typed, _)| (*typed).to_owned())
        .collect();
    ensure!(found.len() > 80, "the help is read wrongly: {found:?}");
    let (untyped, gone): (Vec<_>, Vec<_>) = (found.difference(&typed).collect(), typed.difference(&found).collect());
    ensure!(untyped.is_empty() && gone.is_empty(), "in the help and not typed: {untyped:#?}; typed and not in the help: {gone:#?}");
    Ok(())
}
