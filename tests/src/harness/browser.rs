//! A real browser, steered through its driver by the W3C WebDriver protocol: the half a dozen calls that a story needs.
//!
//! The clients for that protocol bring a second TLS stack along, for a server on loopback that speaks plain HTTP.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{eventually, skipped};

const PATIENCE: Duration = Duration::from_secs(30);
/// The name under which the protocol hands out elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with its driver; both end with it.
pub struct Browser {
    client: reqwest::Client,
    session: String,
    _driver: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// A fresh one, without a window; `None`, and the reader of the results is told, where this machine has none.
    ///
    /// # Errors
    /// When there is one and it does not start.
    pub async fn start() -> anyhow::Result<Option<Self>> {
        let spawned = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn();
        let Ok(mut driver) = spawned else {
            skipped("what a real browser makes of it, since chromedriver is not installed");
            return Ok(None);
        };
        let mut lines = BufReader::new(driver.stdout.take().context("no stdout")?).lines();
        let port = loop {
            let line = lines.next_line().await?.context("chromedriver ended before it listened")?;
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        // A pipe that nobody reads would block the driver in the end.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let profile = tempfile::tempdir()?;
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?;
        let own = format!("--user-data-dir={}", profile.path().display());
        let options =
            json!({ "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server", own] });
        let logs = json!({ "browser": "ALL" });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logs } } });
        let driver_address = format!("http://127.0.0.1:{port}/session");
        let answer: Value = client.post(&driver_address).json(&wanted).send().await?.json().await?;
        let id = answer["value"]["sessionId"].as_str().with_context(|| format!("no session: {answer}"))?;
        Ok(Some(Self { session: format!("{driver_address}/{id}"), client, _driver: driver, _profile: profile }))
    }

    /// Opens an address.
    ///
    /// # Errors
    /// When the driver refuses.
    pub async fn open(&self, address: &str) -> anyhow::Result<()> {
        self.post("url", &json!({ "url": address })).await.map(drop)
    }

    /// Waits until the page has a heading with these words.
    ///
    /// # Errors
    /// When it has none in time; with what the page is instead.
    pub async fn heading(&self, words: &str) -> anyhow::Result<()> {
        self.find("xpath", &format!("//h1[contains(normalize-space(.), \"{words}\")]")).await.map(drop)
    }

    /// Clicks what this selector finds, once it is there.
    ///
    /// # Errors
    /// When it is not there in time.
    pub async fn click(&self, css: &str) -> anyhow::Result<()> {
        let element = self.find("css selector", css).await?;
        self.post(&format!("element/{element}/click"), &json!({})).await.map(drop)
    }

    /// Types into what this selector finds.
    ///
    /// # Errors
    /// When it is not there in time.
    pub async fn write(&self, css: &str, text: &str) -> anyhow::Result<()> {
        let element = self.find("css selector", css).await?;
        self.post(&format!("element/{element}/value"), &json!({ "text": text })).await.map(drop)
    }

    /// Shows the page as a screen of this width does, to somebody who prefers dark or light.
    ///
    /// # Errors
    /// When the driver refuses.
    pub async fn look_as(&self, width: u32, scheme: &str) -> anyhow::Result<()> {
        let screen = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        for (command, parameters) in [("Emulation.setDeviceMetricsOverride", screen), ("Emulation.setEmulatedMedia", media)] {
            self.post("goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).await?;
        }
        Ok(())
    }

    /// Runs a function's body in the page, which ends by calling its last argument, and gives what it was called with.
    ///
    /// # Errors
    /// When it throws or does not end.
    pub async fn ask(&self, body: &str) -> anyhow::Result<Value> {
        self.post("execute/async", &json!({ "script": body, "args": [] })).await
    }

    /// What has been written to the console since it was last asked.
    ///
    /// # Errors
    /// When the driver refuses.
    pub async fn console(&self) -> anyhow::Result<Vec<String>> {
        let said = self.post("se/log", &json!({ "type": "browser" })).await?;
        Ok(said.as_array().context("no log")?.iter().map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// Keeps a picture of the page in the folder that `TOCSIN_TEST_PICTURES` names, if it names one.
    ///
    /// # Errors
    /// When the picture cannot be taken or written.
    pub async fn picture(&self, name: &str) -> anyhow::Result<()> {
        use base64::Engine as _;
        let Some(folder) = std::env::var_os("TOCSIN_TEST_PICTURES") else { return Ok(()) };
        let taken = self.get("screenshot").await?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(taken.as_str().context("no picture")?)?;
        Ok(std::fs::write(Path::new(&folder).join(format!("{name}.png")), bytes)?)
    }

    /// Closes it.
    ///
    /// # Errors
    /// When the driver refuses.
    pub async fn end(self) -> anyhow::Result<()> {
        self.client.delete(&self.session).send().await?.error_for_status()?;
        Ok(())
    }

    async fn find(&self, using: &str, value: &str) -> anyhow::Result<String> {
        let wanted = json!({ "using": using, "value": value });
        let found = eventually(&format!("the page has {value}"), PATIENCE, async || {
            let found = self.post("element", &wanted).await.map_err(|error| error.to_string())?;
            found[ELEMENT].as_str().map(str::to_owned).ok_or_else(|| found.to_string())
        })
        .await;
        match found {
            Ok(found) => Ok(found),
            Err(error) => anyhow::bail!("{error:#}, at {}: {}", self.get("url").await?, self.get("source").await?),
        }
    }

    async fn get(&self, what: &str) -> anyhow::Result<Value> {
        let answer: Value = self.client.get(format!("{}/{what}", self.session)).send().await?.json().await?;
        Ok(answer["value"].clone())
    }

    async fn post(&self, what: &str, body: &Value) -> anyhow::Result<Value> {
        let answer: Value = self.client.post(format!("{}/{what}", self.session)).json(body).send().await?.json().await?;
        let value = &answer["value"];
        match value["error"].as_str() {
            Some(error) => anyhow::bail!("{error}: {}", value["message"].as_str().unwrap_or_default().lines().next().unwrap_or_default()),
            None => Ok(value.clone()),
        }
    }
}
