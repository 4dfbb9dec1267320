//! A refresh token, a client secret, an access token and a key are found nowhere but where they belong (I13, I14).
//!
//! Everything secret in this world carries a marker. After everything that can happen to a token has happened, at
//! the most talkative log level, every place that somebody else may read is searched for the marker in the forms in
//! which a secret gets written down by accident.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use e2e::harness::{Daemon, Setup, World, eventually, run_in};
use simulator::{Effect, Endpoint, OddToken, Outage, Rule, Settings, SimTenant, SourceMix};

const SOON: Duration = Duration::from_secs(60);
const MARKER: &str = "CANARY-9d41f7c0b2_e5";

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 without padding.
fn base64(bytes: &[u8], letters: &[u8; 64]) -> Vec<u8> {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1));
    let letter = |at: usize| letters[(0..6).fold(0, |sum, offset| sum << 1 | bit(at * 6 + offset))];
    (0..(bytes.len() * 8).div_ceil(6)).map(letter).collect()
}

/// Base64 back to bytes; padding and everything else that is no letter is passed over.
fn from_base64(text: &str) -> Vec<u8> {
    let values: Vec<u8> =
        text.bytes().filter_map(|byte| STANDARD.iter().position(|letter| *letter == byte)).filter_map(|at| u8::try_from(at).ok()).collect();
    values
        .chunks(4)
        .flat_map(|four| {
            let sum = (0..4).fold(0_u32, |sum, at| sum << 6 | u32::from(four.get(at).copied().unwrap_or(0)));
            sum.to_be_bytes()[1..four.len()].to_vec()
        })
        .collect()
}

const BLOCK: usize = 4096;
const NOTHING: &[u8] = &[0; 2 * BLOCK];

/// What is searched for: each form of each secret, with a word for it.
struct Scanner {
    needles: Vec<(String, Vec<u8>)>,
    /// Whether some needle begins with these two bytes: most places are passed by a single look.
    begins: Vec<bool>,
}

impl Scanner {
    /// All forms of these secrets.
    fn of(secrets: &[(&str, &[u8])]) -> Self {
        let mut needles = Vec::new();
        for (name, secret) in secrets {
            let mut add = |form: &str, needle: Vec<u8>| needles.push((format!("{name} ({form})"), needle));
            let hex = |upper: bool| {
                secret
                    .iter()
                    .flat_map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }.into_bytes())
                    .collect::<Vec<_>>()
            };
            add("raw", secret.to_vec());
            add("hex", hex(false));
            add("HEX", hex(true));
            add("list of numbers", secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ").into_bytes());
            add("URL", secret.iter().flat_map(|byte| format!("%{byte:02X}").into_bytes()).collect());
            add("UTF-16", secret.iter().flat_map(|byte| [*byte, 0]).collect());
            add("JSON escapes", secret.iter().flat_map(|byte| format!("\\u{byte:04x}").into_bytes()).collect());
            // In the middle of something longer, a secret begins at one of three places of a group.
            for shift in 0..3 {
                for (form, letters) in [("base64", STANDARD), ("base64url", URL_SAFE)] {
                    let encoded = base64(&[vec![0; shift], secret.to_vec()].concat(), letters);
                    let whole = (shift * 8).div_ceil(6)..(shift + secret.len()) * 8 / 6;
                    add(form, encoded[whole].to_vec());
                }
            }
        }
        let mut begins = vec![false; 1 << 16];
        for (_, needle) in &needles {
            begins[usize::from(needle[0]) << 8 | usize::from(needle[1])] = true;
        }
        Self { needles, begins }
    }

    /// Which secrets are in there, in which form.
    fn hits(&self, haystack: &[u8]) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for (number, block) in haystack.chunks(BLOCK).enumerate() {
            let start = number * BLOCK;
            // Data files are mostly nothing. A secret that begins in nothing ends in something, hence the look ahead.
            let ahead = &haystack[start..haystack.len().min(start + 2 * BLOCK)];
            if ahead.len() == 2 * BLOCK && ahead == NOTHING {
                continue;
            }
            for at in start..start + block.len() {
                let Some([first, second]) = haystack.get(at..at + 2) else { break };
                if !self.begins[usize::from(*first) << 8 | usize::from(*second)] {
                    continue;
                }
                for (name, _) in self.needles.iter().filter(|(_, needle)| haystack[at..].starts_with(needle)) {
                    if !found.contains(name) {
                        found.push(name.clone());
                    }
                }
            }
        }
        found
    }
}

#[test]
fn the_scanner_finds_what_was_planted_in_every_form_and_nothing_else() {
    let secret = MARKER.as_bytes();
    let scanner = Scanner::of(&[("marker", secret)]);
    assert!(scanner.hits(b"nothing of the kind, though CANARY and 9d41f7c0b2 are near").is_empty());
    assert!(scanner.hits(&[0; 100_000]).is_empty());
    for place in [0, 1, 4095, 4096, 8190, 50_000, 99_900] {
        let mut page = vec![0; 100_000];
        page[place..place + secret.len()].copy_from_slice(secret);
        assert_eq!(scanner.hits(&page), ["marker (raw)"], "at {place}");
    }
    let zeros = Scanner::of(&[("zeros first", &[0, 0, 0, 7, 8])]);
    let mut page = vec![0; 50_000];
    page[40_959..40_961].copy_from_slice(&[7, 8]);
    assert_eq!(zeros.hits(&page), ["zeros first (raw)"]);
    let around = |planted: &[u8]| [b"before ", planted, b" after"].concat();
    let encoded = |before: &str| base64(format!("{before}{MARKER}{{\"more\":1}}").as_bytes(), STANDARD);
    let planted: Vec<(&str, Vec<u8>)> = vec![
        ("raw", secret.to_vec()),
        ("inside of a token", format!("1.A{MARKER}xyz").into_bytes()),
        ("hex", secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()),
        ("bytea", secret.iter().map(|byte| format!("{byte:02X}")).collect::<String>().into_bytes()),
        ("a debug print of bytes", format!("{secret:?}").into_bytes()),
        ("UTF-16", MARKER.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("base64 at the start", encoded("")),
        ("base64 one on", encoded("a")),
        ("base64 two on", encoded("ab")),
        ("base64 far on", encoded("client:")),
        ("base64url", base64(format!("ab>?{MARKER}").as_bytes(), URL_SAFE)),
    ];
    for (told, planted) in planted {
        assert!(!scanner.hits(&around(&planted)).is_empty(), "not found: {told}");
        assert!(scanner.hits(&around(&planted[..planted.len() / 2])).is_empty(), "half of it is not it: {told}");
    }
    assert_eq!(from_base64("AAEC/v8="), [0, 1, 2, 0xfe, 0xff]);
    assert_eq!(base64(&[0, 1, 2, 0xfe, 0xff], STANDARD), b"AAEC/v8");
}

/// Everything that was searched: name and bytes.
#[derive(Default)]
struct Places(BTreeMap<String, Vec<u8>>);

impl Places {
    fn add(&mut self, name: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.0.insert(name.into(), content.into());
    }

    /// Every file below a folder, whoever owns it.
    fn add_files(&mut self, folder: &Path, except: &[PathBuf]) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let meta = std::fs::symlink_metadata(&path)?;
            if meta.is_dir() {
                self.add_files(&path, except)?;
            } else if meta.is_file() && !except.contains(&path) {
                // Postgres removes files while we look.
                match std::fs::read(&path) {
                    Ok(content) => self.add(path.display().to_string(), content),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error).with_context(|| path.display().to_string()),
                }
            }
        }
        Ok(())
    }

    /// What anybody on this machine sees of a process, and what its owner sees.
    fn add_process(&mut self, daemon: &Daemon) -> anyhow::Result<()> {
        let pid = daemon.pid()?;
        let environ = std::fs::read(format!("/proc/{pid}/environ"))?;
        anyhow::ensure!(environ.windows(4).any(|four| four == b"PATH"), "the environment can be read");
        self.add("environ", environ);
        self.add("cmdline", std::fs::read(format!("/proc/{pid}/cmdline"))?);
        Ok(())
    }

    fn hits(&self, scanner: &Scanner) -> Vec<String> {
        self.0.iter().flat_map(|(name, content)| scanner.hits(content).into_iter().map(move |hit| format!("{hit} in {name}"))).collect()
    }

    fn bytes(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

/// The whole database, or one schema, as `pg_dump` writes it.
async fn dump(world: &World, options: &[&str]) -> anyhow::Result<Vec<u8>> {
    let programs = local_postgres::find_programs(None)?;
    let running = local_postgres::attach(&world.path("state/postgres"))?.context("no embedded server runs")?;
    let output = tokio::process::Command::new(programs.bindir().join("pg_dump"))
        .arg(running.url)
        .args(options)
        .stdin(Stdio::null())
        .output()
        .await?;
    anyhow::ensure!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

/// Polls and commands with everything that goes wrong in between, while the daemon logs all it can.
async fn live_through_everything(world: &World, tenants: &[SimTenant]) -> anyhow::Result<()> {
    let rotated = |tenant: &SimTenant| {
        let journal = world.cloud.journal();
        journal
            .iter()
            .filter(|entry| entry.endpoint == Endpoint::Token && entry.tenant == Some(tenant.directory_id) && entry.status == 200)
            .count()
    };
    let rotations = async |more: usize| {
        let before: Vec<_> = tenants.iter().map(rotated).collect();
        eventually("tokens are rotated", SOON, async || {
            if tenants.iter().zip(&before).all(|(tenant, before)| rotated(tenant) >= before + more) { Ok(()) } else { Err("not yet") }
        })
        .await
    };
    rotations(2).await?;
    // What an API and a sign-in service can say, each of it at least once.
    let at = |endpoint, effect| Rule::new(effect).endpoint(endpoint);
    for rule in [
        at(Endpoint::Graph, Effect::Unauthorized { claims: false }).times(3),
        at(Endpoint::Graph, Effect::Forbidden { code: None }).times(2),
        at(Endpoint::Graph, Effect::Outage(Outage::InternalError)).times(2),
        at(Endpoint::Graph, Effect::Outage(Outage::Reset)).times(2),
        at(Endpoint::Graph, Effect::Html { status: 200 }).times(2),
        at(Endpoint::Graph, Effect::ForeignNextLink { url: "http://127.0.0.1:1/elsewhere".to_owned() }).times(4),
        at(Endpoint::Token, Effect::Html { status: 200 }).times(2),
        at(Endpoint::Token, Effect::Outage(Outage::Reset)).times(2),
        at(Endpoint::Token, Effect::OddToken(OddToken::Opaque)).times(4),
    ] {
        world.cloud.script(rule);
    }
    rotations(3).await?;
    world.cloud.clear_script();
    let (dead, foreign) = (&tenants[0], &tenants[1]);
    world.cloud.script(Rule::new(Effect::OddToken(OddToken::WrongTenant)).tenant(foreign.directory_id));
    world.cloud.revoke(dead.directory_id, 50173)?;
    for tenant in [dead, foreign] {
        world.healthy_when(tenant.directory_id, "the trouble is told", SOON, |health| health.state == "needs-consent").await?;
    }
    world.cloud.clear_script();
    world.run(&["tenant", "resume", &foreign.name]).await?.ok()?;
    // A fresh consent, first refused and then asked for.
    let fresh = SimTenant { refresh_token: world.cloud.issue_refresh_token(dead.directory_id)?, ..dead.clone() };
    let csv = world.csv(&[fresh]);
    anyhow::ensure!(run_in(&world.config, &["tenant", "import", "-"], &csv, &[("RUST_LOG", "trace")]).await?.code() == 1);
    run_in(&world.config, &["tenant", "import", "--replace-token", "-"], &csv, &[]).await?.ok()?;
    world.healthy_when(dead.directory_id, "it is well again", SOON, |health| health.state == "active").await?;
    rotations(1).await
}

#[tokio::test]
async fn no_secret_is_found_outside_of_its_place_whatever_happens() -> anyhow::Result<()> {
    let cloud = Settings {
        tenants: 3,
        history: 20,
        sources: SourceMix::Both,
        marker: Some(MARKER.to_owned()),
        access_lifetime: (Duration::from_secs(3), Duration::from_secs(4)),
        ..Settings::default()
    };
    let world = World::build(Setup { cloud, embedded: true, ..Setup::default() }).await?;
    let tenants = world.cloud.tenants();
    anyhow::ensure!(
        tenants.iter().all(|tenant| tenant.refresh_token.contains(MARKER)) && world.cloud.client_secret().contains(MARKER),
        "the secrets carry the marker"
    );
    let mut places = Places::default();
    let trace = [("RUST_LOG", "trace,hyper=trace,hyper_util=trace,reqwest=trace,rustls=trace,sqlx=trace,h2=trace")];

    let csv = world.write_private("tenants.csv", &world.csv(&tenants[1..]))?;
    let imported = run_in(&world.config, &["tenant", "import", &csv.display().to_string()], "", &trace).await?.ok()?;
    places.add("import", format!("{}{}", imported.stdout, imported.stderr));
    let one = &tenants[0];
    let added = run_in(
        &world.config,
        &[
            "tenant",
            "add",
            &one.name,
            "--tenant",
            &one.directory_id.to_string(),
            "--cloud",
            "lab",
            "--source",
            "graph-alerts",
            "--source",
            "mde-alerts",
            "--refresh-token-stdin",
        ],
        &one.refresh_token,
        &trace,
    )
    .await?
    .ok()?;
    places.add("add", format!("{}{}", added.stdout, added.stderr));
    // A token in the wrong column is not repeated either.
    let shifted = format!(
        "directory_id,name,cloud,app,sources,refresh_token\n{0},Name,{1},main,graph-alerts,\n{0},{1},lab,main,graph-alerts\n{1}\n",
        uuid::Uuid::from_u128(7),
        one.refresh_token
    );
    let refused = run_in(&world.config, &["tenant", "import", "-"], &shifted, &trace).await?;
    places.add("refused import", format!("{}{}", refused.stdout, refused.stderr));

    let mut daemon = world.serve_with(&trace)?;
    daemon.ops_address().await?;
    let pool = world.pool().await?;
    // Postgres itself writes down every statement with what was bound to it.
    for setting in [
        "log_statement = 'all'",
        "log_parameter_max_length = -1",
        "log_parameter_max_length_on_error = -1",
        "log_min_duration_statement = 0",
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("alter system set {setting}"))).execute(&pool).await?;
    }
    sqlx::raw_sql("select pg_reload_conf()").execute(&pool).await?;
    // Statements of before the reload are not in the log; a second life writes all of them.
    daemon.terminate().await?;
    let mut daemon = world.serve_with(&trace)?;
    daemon.ops_address().await?;
    live_through_everything(&world, &tenants).await?;

    for path in ["/metrics", "/readyz", "/livez", "/startupz", "/nowhere"] {
        let (status, body) = daemon.ops(path).await?;
        places.add(path, format!("{status} {body}"));
    }
    places.add_process(&daemon)?;
    for arguments in [
        &["tenant", "list", "--json"][..],
        &["tenant", "list"],
        &["tenant", "show", &one.name, "--json"],
        &["tenant", "show", &one.name],
        &["config", "show", "--json"],
        &["config", "show"],
        &["config", "check"],
        &["key", "status", "--json"],
        &["alerts", "list", "--json"],
        &["alerts", "tail", "--no-follow", "--json"],
        &["db", "status"],
        &["tenant", "pause", &one.name],
        &["tenant", "resume", &one.name],
    ] {
        let ended = run_in(&world.config, arguments, "", &trace).await?;
        places.add(format!("tocsin {}", arguments.join(" ")), format!("{}{}", ended.stdout, ended.stderr));
    }
    for (name, options) in [
        ("pg_dump", &[][..]),
        ("pg_dump of the private schema", &["--schema", "tocsin", "--inserts"]),
        ("pg_dump of the read side", &["--schema", "dash"]),
    ] {
        places.add(name, dump(&world, options).await?);
    }
    world.settled(SOON).await?;
    // The folder with the data files, the write-ahead log and the server's log, while it runs and after it ended.
    let except = [world.path("app.secret"), csv, world.path("keys/ring")];
    places.add_files(world.folder(), &except)?;
    daemon.terminate().await?;
    places.add_files(world.folder(), &except)?;

    let ring = std::fs::read_to_string(world.path("keys/ring"))?;
    let key = from_base64(ring.split_whitespace().last().context("a key")?);
    assert_eq!(key.len(), 32);
    let secrets = [("the marker", MARKER.as_bytes()), ("the ring key", &key)];
    let scanner = Scanner::of(&secrets);

    // The search looks where it should: the places are there, they are full, and what is planted in them is found.
    let log = |name: &str| {
        places
            .0
            .iter()
            .find(|(path, _)| path.ends_with(name))
            .map(|(_, content)| String::from_utf8_lossy(content).into_owned())
            .with_context(|| format!("no {name}"))
    };
    let told = log("daemon-1.log")?;
    assert!(told.contains("\"DEBUG\"") && told.lines().count() > 50, "the daemon told all it could: {} lines", told.lines().count());
    let server = log("server.log")?;
    assert!(
        server.contains("update tocsin.tenant_secret") || server.contains("tocsin.tenant_secret"),
        "Postgres wrote the statements down"
    );
    assert!(server.contains("parameters: $1"), "with what was bound to them");
    assert!(places.0.keys().any(|name| name.contains("pg_wal/0")) && places.0.contains_key("pg_dump"), "{:?}", places.0.keys());
    let dumped = String::from_utf8_lossy(&places.0["pg_dump"]).into_owned();
    assert!(dumped.contains("COPY tocsin.tenant_secret") && dumped.contains(&tenants[0].name));
    assert!(places.bytes() > 10_000_000, "{} bytes", places.bytes());
    for (file, secret) in [("app.secret", "the marker (raw)"), ("tenants.csv", "the marker (raw)"), ("keys/ring", "the ring key (base64")] {
        let hits = scanner.hits(&std::fs::read(world.path(file))?);
        assert!(hits.iter().any(|hit| hit.starts_with(secret)), "the scanner finds it where it belongs, in {file}: {hits:?}");
    }
    let mut planted = Places::default();
    planted.add("a log", format!("{}{MARKER}", log("daemon-1.log")?));
    planted.add(
        "a dump",
        [places.0["pg_dump"].as_slice(), format!("\\\\x{}", key.iter().map(|byte| format!("{byte:02x}")).collect::<String>()).as_bytes()]
            .concat(),
    );
    assert_eq!(planted.hits(&scanner).len(), 2, "the scanner finds it where it does not");

    let hits = places.hits(&scanner);
    assert!(hits.is_empty(), "{}", hits.join("\n"));
    world.end().await
}
