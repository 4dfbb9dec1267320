//! The stand-alone program: what it prints, writes and refuses.

use crate::client;
use simulator::{Settings, Simulator};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_simulator");

#[tokio::test]
async fn it_writes_the_configuration_prints_its_address_and_ends_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("lab");
    let mut child = Command::new(PROGRAM)
        .args(["--tenants", "4", "--history", "5", "--rate", "50", "--marker", "MARK", "--write-config"])
        .arg(&config)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim();
    assert!(address.starts_with("http://127.0.0.1:"), "{line}");

    let csv = std::fs::read_to_string(config.join("tenants.csv")).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "directory_id,name,cloud,app,sources,refresh_token");
    assert_eq!(lines.len(), 5);
    assert!(lines[2].contains(",Işık Lojistik A.Ş.,lab,main,graph-alerts;mde-alerts,1.AMARK"), "{}", lines[2]);
    assert!(lines[3].contains(",\"Finch, Harbour & Co. LLP\",lab,main,graph-alerts,"), "{}", lines[3]);
    let secret = std::fs::read_to_string(config.join("app.secret")).unwrap();
    assert!(secret.contains("MARK") && secret.trim() == secret);
    let toml = std::fs::read_to_string(config.join("cloud.toml")).unwrap();
    assert!(toml.contains(&format!("login_url = \"{address}\"")) && toml.contains("[apps.main]"), "{toml}");
    for file in ["tenants.csv", "app.secret", "cloud.toml"] {
        assert_eq!(std::fs::metadata(config.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }

    // Things happen by themselves.
    let count = async || {
        client().get(format!("{address}/sim/ledger")).send().await.unwrap().json::<serde_json::Value>().await.unwrap()["versions"]
            .as_u64()
            .unwrap()
    };
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while count().await < 4 * 5 + 10 {
        assert!(tokio::time::Instant::now() < deadline, "nothing happens");
    }

    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert!(child.wait().unwrap().success());
}

#[test]
fn it_ends_by_itself_when_the_time_is_up() {
    let output = Command::new(PROGRAM).args(["--tenants", "1", "--history", "0", "--seconds", "0"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1, "one line, the address");
}

#[test]
fn it_listens_on_loopback_only() {
    let output = Command::new(PROGRAM).args(["--listen", "0.0.0.0:0"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("loopback only"));
    assert!(Simulator::start(Settings { listen: "192.0.2.1:0".parse().unwrap(), ..Settings::default() }).is_err());
}
