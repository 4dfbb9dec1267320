//! `tocsin key init` and `tocsin key status`.

use tenant_registry::{KeyRing, KeyRingError, Registry};

use super::Setting;
use crate::cli::Key;
use crate::failure::{Exit, Failure};

/// Works on the key ring.
pub(super) async fn run(setting: &Setting, command: Key) -> Result<(), Failure> {
    match command {
        Key::Init => init(setting),
        Key::Status => status(setting).await,
    }
}

fn init(setting: &Setting) -> Result<(), Failure> {
    let path = &setting.config.key_file;
    let ring = KeyRing::init(path).map_err(|error| {
        let exit = match &error {
            KeyRingError::Exists { .. } => Exit::Conflict,
            _ => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    })?;
    let id = ring.active_id();
    if setting.output.json {
        setting.output.document(&serde_json::json!({ "id": id.to_string(), "file": path }))
    } else {
        setting.output.line(&format!("key {id} made in {}; back it up, apart from the database: without it no token opens", path.display()))
    }
}

async fn status(setting: &Setting) -> Result<(), Failure> {
    let ring = KeyRing::load(&setting.config.key_file).map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    let database = setting.database("key status").await?;
    let keys = Registry::without_keys(database.pool.clone()).key_status(&ring).await.map_err(super::tenant::failure);
    database.close().await;
    let yes_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    setting.output.rows(&["KEY", "ACTIVE", "IN RING", "TENANTS"], &keys?, |key| {
        vec![key.id.clone(), yes_no(key.active), yes_no(key.in_ring), key.tenants.to_string()]
    })
}
