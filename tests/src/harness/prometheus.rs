//! A real Prometheus that scrapes one daemon and evaluates alert rules, quickly.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The server; it ends with this.
pub struct Prometheus {
    client: reqwest::Client,
    address: String,
    _server: Child,
}

/// An alert, as the server shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alert {
    /// The name of its rule.
    pub rule: String,
    /// Whether it has lasted as long as its rule asks for.
    pub firing: bool,
    /// What it says in short.
    pub summary: String,
}

impl Prometheus {
    /// One that scrapes `target` every second by these rules, with its data under `folder`; `None` where this machine has none.
    ///
    /// # Errors
    /// When there is one and it does not start, as with rules that it does not understand.
    pub async fn start(folder: &Path, target: &str, rules: &str) -> anyhow::Result<Option<Self>> {
        std::fs::write(folder.join("rules.yaml"), rules)?;
        let config = folder.join("prometheus.yaml");
        std::fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yaml]\n\
                 scrape_configs:\n  - job_name: tocsin\n    static_configs: [{{targets: ['{target}']}}]\n"
            ),
        )?;
        let mut command = Command::new("prometheus");
        command.arg("--web.listen-address=127.0.0.1:0").stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()));
        let Ok(mut server) = command.spawn() else { return Ok(None) };
        let mut lines = BufReader::new(server.stderr.take().context("no stderr")?).lines();
        let (mut address, mut said) = (None, String::new());
        loop {
            let line = lines.next_line().await?.with_context(|| format!("prometheus ended before it was ready:\n{said}"))?;
            if line.contains("msg=\"Listening on\"") {
                address = line.split_once("address=").map(|(_, address)| address.trim().to_owned());
            }
            if line.contains("Server is ready") {
                break;
            }
            said.push_str(&line);
            said.push('\n');
        }
        // A pipe that nobody reads would block the server in the end.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        let address = address.context("prometheus does not say where it listens")?;
        Ok(Some(Self { client, address, _server: server }))
    }

    /// What is firing or about to, by rule.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn alerts(&self) -> anyhow::Result<Vec<Alert>> {
        let answer: Value = self.client.get(format!("http://{}/api/v1/alerts", self.address)).send().await?.json().await?;
        let alerts = answer["data"]["alerts"].as_array().with_context(|| format!("no alerts: {answer}"))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut alerts: Vec<_> = alerts
            .iter()
            .map(|alert| Alert {
                rule: text(&alert["labels"]["alertname"]),
                firing: alert["state"] == "firing",
                summary: text(&alert["annotations"]["summary"]),
            })
            .collect();
        alerts.sort();
        Ok(alerts)
    }

    /// The value of an expression that has exactly one; `None` where it has none.
    ///
    /// # Errors
    /// When the server does not answer or there are several.
    pub async fn value(&self, expression: &str) -> anyhow::Result<Option<f64>> {
        let question = self.client.get(format!("http://{}/api/v1/query", self.address)).query(&[("query", expression)]);
        let answer: Value = question.send().await?.json().await?;
        let found = answer["data"]["result"].as_array().with_context(|| format!("no result: {answer}"))?;
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one["value"][1].as_str().context("a value")?.parse()?)),
            _ => anyhow::bail!("{expression} has {} values", found.len()),
        }
    }
}
