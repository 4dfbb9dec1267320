//! `tocsin key …`: making, listing, rotating and retiring the keys of the ring.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tenant_registry::{KeyChangeError, KeyRing, KeyRingError, Registry, RingTarget, Rotated, RotationStep};

use super::{Setting, confirm};
use crate::cli::Key;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Works on the key ring.
pub(super) async fn run(setting: &Setting, command: Key) -> Result<(), Failure> {
    match command {
        Key::Init => init(setting),
        Key::Status => status(setting).await,
        Key::Rotate { write_ring, timeout } => {
            let (target, output) = target(setting, write_ring)?;
            super::tenant::with_keys(setting, "key rotate", async |registry| rotate(setting, output, registry, &target, timeout).await)
                .await
        }
        Key::Retire { key, write_ring, yes } => {
            let (target, output) = target(setting, write_ring)?;
            super::tenant::with_keys(setting, "key retire", async |registry| {
                let question = format!("This takes key {key} out of the ring: backups of the database that need it open no more.");
                confirm(&key, yes, &question)?;
                retire(setting, output, registry, &key, &target).await
            })
            .await
        }
    }
}

/// Where the ring goes, and where the words go then: on standard output there is room for one of them only.
fn target(setting: &Setting, write_ring: Option<PathBuf>) -> Result<(RingTarget, Output), Failure> {
    match write_ring {
        None => Ok((RingTarget::InPlace, setting.output)),
        Some(file) if file.as_os_str() == "-" => Ok((RingTarget::StandardOutput, setting.output.aside("a key ring")?)),
        Some(file) => Ok((RingTarget::Elsewhere(file), setting.output)),
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
        setting.output.document(&json!({ "id": id.to_string(), "file": path }))
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
    setting.output.rows(&["KEY", "ACTIVE", "IN RING", "TENANTS", "DAEMONS"], &keys?, |key| {
        let active = if key.next { "next".to_owned() } else { yes_no(key.active) };
        vec![key.id.clone(), active, yes_no(key.in_ring), key.tenants.to_string(), key.daemons.to_string()]
    })
}

async fn rotate(setting: &Setting, output: Output, registry: &Registry, target: &RingTarget, timeout: Duration) -> Result<(), Failure> {
    let rotated = registry.rotate_key(target, timeout, |step| output.note(&told(&step))).await.map_err(failure)?;
    let ring = setting.config.key_file.display();
    match rotated {
        Rotated::Done { active, rewrapped, idle } => {
            if output.json {
                let idle: Vec<_> = idle.iter().map(ToString::to_string).collect();
                return output.document(&json!({ "active": active.to_string(), "rewrapped": rewrapped, "idle": idle }));
            }
            output.line(&format!("all tenants are sealed under key {active} now; {rewrapped} data keys were rewrapped by this run"))?;
            output.note(&format!("back up {ring} now, apart from the database"));
            for key in idle {
                output.note(&format!(
                    "key {key} seals nothing any more. Backups of the database from before need it: when the last of them is gone, type `tocsin key retire {key}`"
                ));
            }
            Ok(())
        }
        Rotated::PutInPlace { key, seals } => {
            let (written, and_remove) = match target {
                RingTarget::Elsewhere(file) => (file.display().to_string(), format!(", remove {}", file.display())),
                RingTarget::StandardOutput => ("standard output".to_owned(), String::new()),
                RingTarget::InPlace => (ring.to_string(), String::new()),
            };
            let words = if seals { "seals" } else { "opens and does not seal yet" };
            Err(Failure::new(
                Exit::Temporary,
                format!(
                    "the ring in which key {key} {words} was written to {written}: put it in the place of {ring} for every \
                     daemon{and_remove}, and type the same command again"
                ),
            ))
        }
    }
}

fn told(step: &RotationStep) -> String {
    match step {
        RotationStep::Added(key) => format!("key {key} is in the ring; it opens and does not seal yet"),
        RotationStep::Waiting(daemons) => format!("waiting for daemons that do not have the key yet: {}", daemons.join(", ")),
        RotationStep::Activated(key) => format!("key {key} seals now"),
        RotationStep::Rewrapped { done, of } => format!("rewrapped {done} of {of} data keys"),
    }
}

async fn retire(setting: &Setting, output: Output, registry: &Registry, key: &str, target: &RingTarget) -> Result<(), Failure> {
    let retired = registry.retire_key(key, target).await.map_err(failure)?;
    if output.json {
        return output.document(&json!({ "retired": retired.key.to_string(), "active": retired.active.to_string() }));
    }
    let written = match target {
        RingTarget::InPlace => {
            return output.line(&format!("key {} has left the ring; what was sealed under it opens no more", retired.key));
        }
        RingTarget::Elsewhere(file) => file.display().to_string(),
        RingTarget::StandardOutput => "standard output".to_owned(),
    };
    let ring = setting.config.key_file.display();
    output.line(&format!("the ring without key {} was written to {written}: put it in the place of {ring} for every daemon", retired.key))
}

fn failure(error: KeyChangeError) -> Failure {
    let exit = match error {
        KeyChangeError::Admin(error) => return super::tenant::failure(error),
        KeyChangeError::Waiting { .. } | KeyChangeError::Ring(KeyRingError::Busy(_)) => Exit::Temporary,
        KeyChangeError::Refused(_) | KeyChangeError::Ring(KeyRingError::Unfit(_)) => Exit::Conflict,
        KeyChangeError::Ring(KeyRingError::ReadOnly { .. }) => Exit::NoPermission,
        KeyChangeError::Ring(_) | KeyChangeError::NoKeys(_) | KeyChangeError::Unreadable { .. } => Exit::Config,
    };
    Failure::new(exit, error.to_string())
}
