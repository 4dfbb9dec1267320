//! Stories about good and bad configurations.

use microsoft::Grant;

use domain::Ticks;

use super::*;

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(file.path()), environment).map_err(|error| error.0.replace(&file.path().display().to_string(), "FILE"))
}

fn refusal(text: &str) -> String {
    load(text, &[]).unwrap_err()
}

const LAB: &str = r#"
state_dir = "/tmp/t"
[clouds.lab]
login_url = "http://127.0.0.1:18400"
graph_url = "http://127.0.0.1:18400"
defender_url = "http://127.0.0.1:18400"
portal_url = "http://127.0.0.1:18400/portal"
allow_plaintext = true
[apps.main]
client_id = "00000000-0000-0000-0000-000000000000"
client_secret_file = "/etc/tocsin/apps/main.secret"
[poll]
interval = "2s"
"#;

#[test]
fn the_defaults_alone_are_a_configuration_and_hold_the_figures_of_the_contract() {
    let config = Config::load(None, []).unwrap();
    assert_eq!(config.state_dir, Path::new("/var/lib/tocsin"));
    assert_eq!(config.poll.interval, Duration::from_secs(30));
    assert_eq!(config.poll.overlap, Duration::from_secs(900));
    assert_eq!(config.poll.first_sync, Duration::from_secs(30 * 86_400));
    assert_eq!((config.budget.graph_per_minute, config.budget.defender_per_hour), (150, 1500));
    assert_eq!((config.poller().app_graph_per_10s, config.poller().app_defender_per_minute), (130_000, 0));
    assert!(config.database.url.is_none());
    assert_eq!(config.clouds.len(), 5);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn the_defaults_of_the_poller_are_those_of_the_file() {
    let config = Config::load(None, []).unwrap();
    assert_eq!(config.poller(), alert_poller::Config::default());
}

#[test]
fn the_ladder_is_climbed_as_configured_and_each_rung_can_be_taken_out() {
    let day = Duration::from_secs(86_400);
    let config = load("[ladder]\nshort_every = \"0s\"\nlong_reach = \"14d\"\ncompare_at = \"23:59\"\n", &[]).unwrap();
    assert_eq!(config.ladder.short.every, Duration::ZERO);
    assert_eq!(config.ladder.long, alert_poller::Rung { reach: 14 * day, every: day });
    let compare = config.ladder.compare.unwrap();
    assert_eq!((compare.reach, compare.at), (day, day - Duration::from_secs(60)));
    assert_eq!(load("[ladder]\ncompare = false\n", &[]).unwrap().ladder.compare, None);
    // A rung that is switched off need not make sense.
    load("[ladder]\nshort_every = \"0s\"\nshort_reach = \"0s\"\ncompare = false\ncompare_reach = \"1000d\"\n", &[]).unwrap();
    assert!(load("", &[("TOCSIN_LADDER__COMPARE", "false")]).unwrap().ladder.compare.is_none());
}

#[test]
fn quiet_customers_are_asked_less_often_only_within_bounds() {
    let quiet = |interval: &str, quiet: &str| load(&format!("[poll]\ninterval = \"{interval}\"\nquiet_interval = \"{quiet}\"\n"), &[]);
    for (interval, longest) in [("30s", "0s"), ("30s", "30s"), ("30s", "1m"), ("1m", "1m")] {
        let config = quiet(interval, longest).unwrap();
        assert_eq!(config.poller().quiet_interval, config.poll.quiet_interval);
        assert!(config.warnings.is_empty(), "{longest}: {:?}", config.warnings);
    }
    // Whom the operator asks seldom anyway may be asked as seldom as that.
    let warnings = quiet("10m", "10m").unwrap().warnings.join("\n");
    assert!(warnings.contains("poll.interval = 10m is over a minute"), "{warnings}");
    let refused = quiet("30s", "20s").unwrap_err();
    assert!(
        refused.contains("poll.quiet_interval = 20s is shorter than poll.interval = 30s") && refused.contains("at least 30s"),
        "{refused}"
    );
    for (interval, longest, most) in [("30s", "61s", "at most 1m,"), ("2m", "3m", "at most 2m,")] {
        let refused = quiet(interval, longest).unwrap_err();
        assert!(refused.contains("is over a minute") && refused.contains(most), "{refused}");
    }
}

#[test]
fn what_is_kept_for_ever_and_what_is_not() {
    assert_eq!(load("", &[]).unwrap().retention, sink::Retention::default());
    let day = Duration::from_secs(86_400);
    let config = load("[retention]\nversions = \"400d\"\nevents = \"2y\"\n", &[]).unwrap();
    assert_eq!(config.retention.versions, Some(400 * day));
    assert!(config.retention.events.is_some_and(|kept| kept > 700 * day) && config.retention.gaps.is_none());
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let warned = load("", &[("TOCSIN_RETENTION__VERSIONS", "90d")]).unwrap().warnings.join("\n");
    assert!(warned.contains("retention.versions = 90d is shorter than poll.source_keeps = 180d"), "{warned}");
}

#[test]
fn what_is_of_no_use_in_the_ladder_is_a_warning() {
    let warned = |text: &str| load(text, &[]).unwrap().warnings.join("; ");
    assert!(warned("[ladder]\nshort_reach = \"10m\"\n").contains("ladder.short_reach = 10m is within poll.overlap = 15m"));
    assert!(warned("[poll]\nfirst_sync = \"365d\"\n").contains("longer than poll.source_keeps"));
}

#[test]
fn a_file_lays_over_the_defaults_and_the_environment_over_the_file() {
    let config = load(
        LAB,
        &[("TOCSIN_POLL__INTERVAL", "5s"), ("TOCSIN_STATE_DIR", "/elsewhere"), ("TOCSIN_PORT", "tcp://10.0.0.1:80"), ("HOME", "/root")],
    )
    .unwrap();
    assert_eq!(config.poll.interval, Duration::from_secs(5));
    assert_eq!(config.state_dir, Path::new("/elsewhere"));
    let lab = &config.clouds[&CloudName::new("lab")];
    assert!(lab.allow_plaintext);
    assert_eq!(config.apps[&AppName::new("main")].app.grant, Grant::RefreshToken);
    let origin =
        |key: &str| config.shown.iter().find(|(shown, ..)| shown == key).map(|(_, value, origin)| (value.clone(), origin.clone())).unwrap();
    assert_eq!(origin("poll.interval"), ("5s".into(), Origin::Environment("TOCSIN_POLL__INTERVAL".into())));
    assert_eq!(origin("poll.overlap"), ("15m".into(), Origin::Default));
}

#[test]
fn a_built_in_cloud_can_be_changed_in_one_key() {
    let config = load("[clouds.global]\nportal_url = \"https://portal.example\"\n", &[]).unwrap();
    let cloud = &config.clouds[&CloudName::new("global")];
    assert_eq!(cloud.portal_url.as_deref(), Some("https://portal.example"));
    assert_eq!(cloud.graph_url.host_str(), Some("graph.microsoft.com"));
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_known_one() {
    assert_eq!(refusal("[poll]\nintervall = \"5s\"\n"), "unknown key poll.intervall in FILE:2; did you mean poll.interval?");
    assert_eq!(
        refusal("[apps.main]\nclient_ident = \"x\"\n"),
        "unknown key apps.main.client_ident in FILE:2; did you mean apps.main.client_id?"
    );
    assert_eq!(refusal("[clouds.lab]\nlogin = \"x\"\n"), "unknown key clouds.lab.login in FILE:2; did you mean clouds.lab.login_url?");
    assert!(refusal("zzz = 1\n").starts_with("unknown key zzz in FILE:1; the keys that exist are listed by"));
    let error = load("", &[("TOCSIN_POLL__INTERVALL", "5s")]).unwrap_err();
    assert_eq!(error, "unknown key poll.intervall in environment variable TOCSIN_POLL__INTERVALL; did you mean poll.interval?");
}

#[test]
fn wrong_values_are_one_sentence_with_key_and_place() {
    for (text, parts) in [
        ("[poll]\ninterval = \"soon\"\n", vec!["poll.interval", "FILE", "soon", "30s"]),
        ("[poll]\npage_size = \"many\"\n", vec!["poll.page_size", "many"]),
        ("[poll]\npage_size = 0\n", vec!["poll.page_size = 0"]),
        ("[poll]\ninterval = \"10ms\"\n", vec!["poll.interval", "1s"]),
        ("[log]\nformat = \"xml\"\n", vec!["log.format", "xml", "neither pretty nor json"]),
        ("[log]\nlevel = \"daemon=loud\"\n", vec!["log.level", "daemon=loud", "info,alert_poller=trace"]),
        ("[poll]\npage_size = -5\n", vec!["poll.page_size", "FILE", "-5", "whole number"]),
        ("[clouds.global]\ngraph_url = \"graph.microsoft.com\"\n", vec!["clouds.global.graph_url", "https://graph.microsoft.com"]),
        ("[budget]\ntoken_per_second = 0\n", vec!["budget.token_per_second = 0"]),
        ("[ops]\nlisten = \"here\"\n", vec!["ops.listen = \"here\"", "127.0.0.1:9464"]),
        ("[database]\nurl = \"mysql://x/y\"\n", vec!["postgres://"]),
        ("[database]\nurl = \"postgres://x/y\"\nurl_file = \"/z\"\n", vec!["url_file", "keep one"]),
        ("[apps.main]\nclient_id = \"\"\n", vec!["apps.main.client_id", "Application (client) ID"]),
        ("[apps.main]\nclient_id = \"x\"\ngrant = \"password\"\n", vec!["apps.main.grant", "password"]),
        ("[apps.main]\nclient_id = \"x\"\ngrant = \"client_credentials\"\n", vec!["apps.main", "client_secret_file"]),
        ("[apps.main]\nclient_id = \"x\"\ncertificate_file = \"/c\"\n", vec!["apps.main.certificate_file", "private_key_file"]),
        ("[clouds.lab]\nlogin_url = \"https://x\"\n", vec!["clouds.lab", "graph_url is missing"]),
        ("[clouds.global]\ngraph_url = \"http://graph.microsoft.com\"\n", vec!["clouds.global", "http"]),
        ("[poll]\nsource_keeps = \"5m\"\n", vec!["poll.source_keeps = 5m", "poll.overlap = 15m", "180d"]),
        ("[ladder]\nshort_reach = \"0s\"\n", vec!["ladder.short_reach", "ladder.short_every = \"0s\""]),
        ("[ladder]\nlong_reach = \"200d\"\n", vec!["ladder.long_reach = 6months 17days", "poll.source_keeps"]),
        ("[ladder]\nshort_every = \"10ms\"\n", vec!["ladder.short_every", "1s", "0s"]),
        ("[ladder]\ncompare_reach = \"0s\"\n", vec!["ladder.compare_reach", "ladder.compare = false"]),
        ("[ladder]\ncompare_at = \"2am\"\n", vec!["ladder.compare_at", "FILE", "2am", "02:00", "UTC"]),
        ("[ladder]\ncompare_at = \"24:00\"\n", vec!["ladder.compare_at", "24:00"]),
        ("[ladder]\ncompare_at = \"+2:00\"\n", vec!["ladder.compare_at", "+2:00"]),
        ("[retention]\nversions = \"7d\"\n", vec!["retention.versions = 7days", "30d", "for ever"]),
        ("[retention]\nversions = \"99999999d\"\n", vec!["retention.versions = 99999999d", "36500d at most", "for ever"]),
        ("[retention]\nversions = \"400\"\n", vec!["retention.versions", "FILE", "400", "90d"]),
        ("[retention]\nversion = \"400d\"\n", vec!["retention.version", "did you mean retention.versions?"]),
        ("[ladder]\nshort_evry = \"1h\"\n", vec!["ladder.short_evry", "did you mean ladder.short_every?"]),
        ("[poll\n", vec!["FILE", "line 1"]),
    ] {
        let sentence = refusal(text);
        for part in parts {
            assert!(sentence.contains(part), "{text:?} gave: {sentence}");
        }
        assert!(!sentence.contains('\n'), "one sentence for {text:?}: {sentence}");
    }
}

#[test]
fn plaintext_is_for_loopback_only() {
    let remote = LAB.replace("http://127.0.0.1:18400\"\ngraph", "http://10.0.0.1:18400\"\ngraph");
    assert!(refusal(&remote).contains("clouds.lab"));
}

#[test]
fn key_ring_and_app_secret_in_one_folder_warn_or_refuse() {
    let text = LAB.replace("/etc/tocsin/apps/main.secret", "/etc/tocsin/keys/main.secret");
    assert!(load(&text, &[]).unwrap().warnings[0].contains("/etc/tocsin/keys"));
    assert!(load(&text, &[("TOCSIN_VAULT__REQUIRE_SEPARATION", "true")]).unwrap_err().contains("one leak takes both"));
    assert!(load(LAB, &[("TOCSIN_VAULT__REQUIRE_SEPARATION", "true")]).is_ok());
    for (credential, secret) in [
        ("certificate_file = \"/etc/tocsin/apps/x\"\nprivate_key_file = \"/etc/tocsin/keys/x\"", "apps.main.private_key_file"),
        ("federated_token_file = \"/etc/tocsin/keys/x\"", "apps.main.federated_token_file"),
    ] {
        let text = LAB.replace("client_secret_file = \"/etc/tocsin/apps/main.secret\"", credential);
        assert!(load(&text, &[]).unwrap().warnings[0].contains(secret), "{credential}");
    }
}

#[test]
fn credentials_of_a_service_count_by_their_own_source() {
    let folder = tempfile::tempdir().unwrap();
    let (ring, app) = (folder.path().join("ring"), folder.path().join("app"));
    std::fs::write(&ring, "").unwrap();
    std::fs::write(&app, "").unwrap();
    let text = LAB.replace("/etc/tocsin/apps/main.secret", &app.display().to_string());
    let (ring, folder) = (ring.display().to_string(), folder.path().display().to_string());
    let strict = [("TOCSIN_VAULT__REQUIRE_SEPARATION", "true"), ("TOCSIN_VAULT__KEY_FILE", ring.as_str())];
    assert!(load(&text, &strict).unwrap_err().contains("apps.main.client_secret_file both come from"));
    load(&text, &[&strict[..], &[("CREDENTIALS_DIRECTORY", &folder)]].concat()).unwrap();
}

#[test]
fn a_database_password_is_never_shown() {
    let config = load("[database]\nurl = \"postgres://u:hunter2@db.example/x\"\n", &[]).unwrap();
    assert!(!format!("{:?}", config.shown).contains("hunter2"));
    assert!(config.warnings[0].contains("url_file"));
}

#[test]
fn the_environment_names_an_app_whose_key_has_capitals() {
    let text = "[apps.Main]\nclient_id = \"x\"\n";
    let config = load(text, &[("TOCSIN_APPS__MAIN__CLIENT_ID", "y")]).unwrap();
    assert_eq!(config.apps.len(), 1);
    assert_eq!(config.apps[&AppName::new("Main")].app.client_id, "y");
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Some(Path::new("/nonexistent/tocsin.toml")), []).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/tocsin.toml"), "{error}");
}

#[test]
fn the_end_of_a_client_secret_is_a_date_that_the_operator_knows() {
    let config = load(&LAB.replace("[poll]", "client_secret_expires = \"2027-05-01\"\n[poll]"), &[]).unwrap();
    let clocks = config.app_clocks();
    assert_eq!(clocks.len(), 1);
    assert_eq!((clocks[0].app.as_str(), clocks[0].what), ("main", "client secret"));
    assert_eq!(Some(clocks[0].ends_at), Ticks::parse("2027-05-01T00:00:00Z"));
    assert_eq!(load(LAB, &[]).unwrap().app_clocks(), []);
    let refused = refusal(&LAB.replace("[poll]", "client_secret_expires = \"next year\"\n[poll]"));
    assert!(refused.contains("apps.main.client_secret_expires") && refused.contains("2027-05-01"), "{refused}");
}
