//! `tocsin reader …`: database roles for customers and dashboards. All but the list work over the owner's login.

use std::collections::BTreeSet;
use std::fs::{File, remove_file};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use domain::TenantId;
use serde_json::json;
use sqlx::PgPool;
use tenant_registry::{Reader, ReaderError, Registry, Sight, Verifier, random_password};
use zeroize::Zeroizing;

use super::tenant::failure;
use super::{Setting, asking, confirm};
use crate::cli::{self, ReaderChange};
use crate::config::read_secret_file;
use crate::database::{Purpose, Reached};
use crate::failure::{Exit, Failure};

/// Works on readers.
pub(super) async fn run(setting: &Setting, command: cli::Reader) -> Result<(), Failure> {
    let name = match &command {
        cli::Reader::Create { .. } => "reader create",
        cli::Reader::List => "reader list",
        cli::Reader::Grant(_) => "reader grant",
        cli::Reader::Revoke(_) => "reader revoke",
        cli::Reader::Drop { .. } => "reader drop",
    };
    let reached = Reached::reach(&setting.config, Purpose::Command(name)).await?;
    let database = match command {
        cli::Reader::List => reached.open(false, 3).await?,
        _ => reached.open_as_owner().await?,
    };
    let registry = setting.registry(&database);
    let pool = &database.pool;
    let result = match command {
        cli::Reader::Create { name, sight, password_file } => create(setting, &registry, pool, &name, sight, password_file).await,
        cli::Reader::List => list(setting, &registry).await,
        cli::Reader::Grant(change) => grant(setting, &registry, pool, &change).await,
        cli::Reader::Revoke(change) => revoke(setting, &registry, pool, &change).await,
        cli::Reader::Drop { name, yes } => drop(setting, &registry, &name, yes).await,
    };
    database.close().await;
    result
}

async fn create(
    setting: &Setting,
    registry: &Registry,
    pool: &PgPool,
    name: &str,
    sight: cli::Sight,
    password_file: Option<PathBuf>,
) -> Result<(), Failure> {
    let sight = if sight.all { Sight::All } else { Sight::Of(ids(pool, &sight.tenants).await?.into_iter().collect()) };
    let password = password_file.as_deref().map(Password::at).transpose()?;
    let adopted = match registry.create_reader(name, &sight, password.as_ref().map(|password| &password.verifier)).await {
        Ok(adopted) => adopted,
        Err(error) => {
            if let Some(password) = &password {
                password.forget();
            }
            return Err(refused(setting, name, error));
        }
    };
    let written = password.as_ref().filter(|password| password.made).map(|password| &password.file);
    if setting.output.json {
        let sees = match &sight {
            Sight::All => json!("all"),
            Sight::Of(tenants) => json!(tenants),
        };
        return setting
            .output
            .document(&json!({ "reader": name, "sees": sees, "role_was_there": adopted, "password_written_to": written }));
    }
    let sees = match &sight {
        Sight::All => "every customer".to_owned(),
        Sight::Of(tenants) => format!("{} customer(s)", tenants.len()),
    };
    let adopted = if adopted { " (the role was there already)" } else { "" };
    setting.output.line(&format!("{name}{adopted} reads schema dash and sees {sees}"))?;
    match written {
        Some(file) => setting.output.line(&format!("its password is in {}", file.display())),
        None => Ok(()),
    }
}

async fn list(setting: &Setting, registry: &Registry) -> Result<(), Failure> {
    let readers = registry.readers().await.map_err(failure)?;
    if readers.is_empty() && !setting.output.json {
        setting.output.note("no readers; make one with `tocsin reader create`");
    }
    for leak in registry.reader_leaks().await.map_err(failure)? {
        setting.output.note(&format!("warning: {leak}, so readers may see more than their customers; see: tocsin doctor"));
    }
    setting.output.rows(&["READER", "SEES", "REMARKS"], &readers, |reader| vec![reader.name.clone(), sees(reader), remarks(reader)])
}

fn sees(reader: &Reader) -> String {
    if reader.sees_all { "every customer".to_owned() } else { reader.tenants.join(", ") }
}

fn remarks(reader: &Reader) -> String {
    if reader.gone {
        return format!("there is no such role any more; type: tocsin reader drop {}", reader.name);
    }
    let login = (!reader.login).then(|| "may not log in".to_owned());
    login.into_iter().chain(reader.excess.iter().cloned()).collect::<Vec<_>>().join("; ")
}

async fn grant(setting: &Setting, registry: &Registry, pool: &PgPool, change: &ReaderChange) -> Result<(), Failure> {
    let tenants: Vec<_> = ids(pool, &change.tenants).await?.into_iter().collect();
    let granted = registry.grant_reader(&change.name, &tenants).await.map_err(|error| refused(setting, &change.name, error))?;
    if setting.output.json {
        return setting.output.document(&json!({ "reader": change.name, "granted": granted }));
    }
    setting.output.line(&format!("{} sees {} customer(s) more", change.name, granted.len()))
}

async fn revoke(setting: &Setting, registry: &Registry, pool: &PgPool, change: &ReaderChange) -> Result<(), Failure> {
    let tenants: Vec<_> = ids(pool, &change.tenants).await?.into_iter().collect();
    let revoked = registry.revoke_reader(&change.name, &tenants).await.map_err(|error| refused(setting, &change.name, error))?;
    if setting.output.json {
        return setting.output.document(&json!({ "reader": change.name, "revoked": revoked }));
    }
    setting.output.line(&format!("{} sees {} customer(s) less", change.name, revoked.len()))
}

async fn drop(setting: &Setting, registry: &Registry, name: &str, yes: bool) -> Result<(), Failure> {
    confirm(name, yes, &format!("This takes every right from reader {name} and drops the role."))?;
    let dropped = registry.drop_reader(name).await.map_err(|error| match error {
        ReaderError::NotAllowed { statements } => {
            statements.iter().for_each(|statement| setting.output.note(&format!("{statement};")));
            let words = "goes on seeing every customer, since this login may not take that from it; nothing was changed";
            Failure::new(Exit::NoPermission, format!("{name} {words}: let an administrator of the server run the lines above"))
        }
        ReaderError::Admin(error) => failure(error),
    })?;
    if setting.output.json {
        return setting.output.document(&dropped);
    }
    match &dropped.role_stays {
        None => setting.output.line(&format!("{name} is gone")),
        Some(why) => setting.output.line(&format!("{name} sees nothing any more, but its role stays: {why}")),
    }
}

/// The tenants of these names or ids, none of them removed, each once. A name may itself have a comma in it.
async fn ids(pool: &PgPool, named: &[String]) -> Result<BTreeSet<TenantId>, Failure> {
    let mut ids = BTreeSet::new();
    for names in named {
        match asking::tenant(pool, names).await {
            Ok(tenant) => {
                ids.insert(tenant.id);
            }
            Err(_) if names.contains(',') => {
                for name in names.split(',') {
                    ids.insert(asking::tenant(pool, name.trim()).await?.id);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(ids)
}

/// The sentence and code that fit; what an administrator has to run is told line by line before.
fn refused(setting: &Setting, name: &str, error: ReaderError) -> Failure {
    match error {
        ReaderError::Admin(error) => failure(error),
        ReaderError::NotAllowed { statements } => {
            for statement in &statements {
                setting.output.note(&if statement.starts_with('\\') { statement.clone() } else { format!("{statement};") });
            }
            let words = "this login may not make or change roles; let an administrator of the server run the lines above";
            Failure::new(Exit::NoPermission, format!("{words}, then type the same without --password-file: tocsin reader create {name} …"))
        }
    }
}

/// A password in a file, and what the server is told of it.
struct Password {
    file: PathBuf,
    verifier: Verifier,
    /// By us, just now.
    made: bool,
}

impl Password {
    /// Reads the file, or makes it with a password of its own.
    fn at(file: &Path) -> Result<Self, Failure> {
        let unusable = |words: String| Failure::new(Exit::Failed, format!("the password in {}: {words}", file.display()));
        let (text, made) = match File::options().write(true).create_new(true).mode(0o600).open(file) {
            Ok(mut opened) => {
                let text = random_password().map_err(|error| unusable(error.to_string()))?;
                let line = Zeroizing::new(format!("{}\n", text.as_str()));
                opened.write_all(line.as_bytes()).and_then(|()| opened.sync_all()).map_err(|error| unusable(error.to_string()))?;
                (text, true)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let text = read_secret_file(file, "a reader's password").map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
                (text, false)
            }
            Err(error) => return Err(unusable(error.to_string())),
        };
        let verifier = Verifier::of(&text).map_err(|error| unusable(error.to_string()))?;
        Ok(Self { file: file.to_owned(), verifier, made })
    }

    /// Takes the file away again if it was made for nothing.
    fn forget(&self) {
        if self.made {
            // What stays is a password that opens nothing.
            let _ = remove_file(&self.file);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_password_is_made_once_kept_private_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let made = Password::at(&path).unwrap();
        assert!(made.made);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let written = std::fs::read_to_string(&path).unwrap();
        let again = Password::at(&path).unwrap();
        assert!(!again.made && std::fs::read_to_string(&path).unwrap() == written);
        again.forget();
        assert!(path.exists(), "what was there before is not ours to remove");
        made.forget();
        assert!(!path.exists());
        std::fs::write(&path, "short").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let failure = Password::at(&path).map(drop_it).unwrap_err();
        assert!(failure.message.contains("shorter than 16"), "{failure}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Password::at(&path).map(drop_it).unwrap_err().message.contains("chmod 600"));
    }

    fn drop_it(_: Password) {}
}
