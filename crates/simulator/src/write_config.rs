//! Writes down what a consumer needs to know about a running simulator: who the tenants are, the app's secret,
//! and where everything listens, in the forms that `tocsin` reads.

use crate::simulator::Simulator;
use anyhow::Context as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The name of the app in the configuration.
const APP: &str = "main";
/// The name of the cloud in the configuration.
const CLOUD: &str = "lab";

/// Writes `tenants.csv`, `app.secret` and `cloud.toml` into the folder, which is made where it is missing.
/// Fails when one of them cannot be written.
pub fn write_config(simulator: &Simulator, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let folder = folder.canonicalize().with_context(|| format!("cannot find the folder {}", folder.display()))?;
    private(&folder.join("tenants.csv"), &tenants_csv(simulator))?;
    private(&folder.join("app.secret"), simulator.client_secret())?;
    private(&folder.join("cloud.toml"), &cloud_toml(simulator, &folder.join("app.secret")))
}

/// The import file, with the header of the contract.
pub fn tenants_csv(simulator: &Simulator) -> String {
    let mut csv = "directory_id,name,cloud,app,sources,refresh_token\n".to_owned();
    for tenant in simulator.tenants() {
        let sources: Vec<_> = tenant.sources.iter().map(|source| source.name()).collect();
        let fields = [&tenant.directory_id.to_string(), &tenant.name, CLOUD, APP, &sources.join(";"), &tenant.refresh_token];
        csv.push_str(&fields.map(field).join(","));
        csv.push('\n');
    }
    csv
}

/// One field of a CSV line, quoted where it must be.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// The tables `[clouds.lab]` and `[apps.main]`.
pub fn cloud_toml(simulator: &Simulator, secret_file: &Path) -> String {
    let base = simulator.base_url();
    format!(
        r#"# Written by the simulator: where it listens and who asks.

[clouds.{CLOUD}]
login_url = "{base}"
graph_url = "{base}"
defender_url = "{base}"
portal_url = "{base}/portal"
graph_scope = "https://graph.microsoft.com/.default offline_access"
defender_scope = "https://api.securitycenter.microsoft.com/.default offline_access"
allow_plaintext = true

[apps.{APP}]
client_id = "{}"
client_secret_file = {}
grant = "refresh_token"
"#,
        simulator.client_id(),
        // A JSON text is a TOML text as well.
        serde_json::Value::from(secret_file.to_string_lossy().as_ref()),
    )
}

/// Writes a file that only its owner can read, also where one with other rights stood before.
fn private(path: &Path, text: &str) -> anyhow::Result<()> {
    let what = || format!("cannot write {}", path.display());
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(what),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(what)?;
    file.write_all(text.as_bytes()).with_context(what)
}
