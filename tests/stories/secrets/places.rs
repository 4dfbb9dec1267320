//! The places that somebody else may read, and collecting what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use e2e::harness::canary::{Form, Scanner};
use e2e::harness::{Daemon, World, eventually};
use rustix::process::Signal;

use super::SOON;

/// A place that somebody else may read. One more is one more line here, and one call of [`Places::add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    DaemonLog,
    CommandOutput,
    Metrics,
    HttpBodies,
    ConsentPages,
    PostgresLog,
    WriteAheadLog,
    DataFiles,
    Dump,
    Environ,
    CommandLine,
    TemporaryFiles,
    Core,
    DoctorBundle,
    AuditLog,
}

impl Place {
    pub(super) const ALL: [Self; 15] = [
        Self::DaemonLog,
        Self::CommandOutput,
        Self::Metrics,
        Self::HttpBodies,
        Self::ConsentPages,
        Self::PostgresLog,
        Self::WriteAheadLog,
        Self::DataFiles,
        Self::Dump,
        Self::Environ,
        Self::CommandLine,
        Self::TemporaryFiles,
        Self::Core,
        Self::DoctorBundle,
        Self::AuditLog,
    ];

    /// The place that a file in the folder of a world is.
    fn of_file(path: &Path) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let within = |folder: &str| path.components().any(|part| part.as_os_str() == folder);
        match name.as_str() {
            _ if within("cores") => Self::Core,
            _ if within("pg_wal") => Self::WriteAheadLog,
            "server.log" => Self::PostgresLog,
            _ if within("data") => Self::DataFiles,
            log if log.starts_with("daemon-") => Self::DaemonLog,
            _ => Self::TemporaryFiles,
        }
    }
}

/// Everything that was collected, by place and name.
#[derive(Default)]
pub(super) struct Places(BTreeMap<(Place, String), Vec<u8>>);

impl Places {
    pub(super) fn add(&mut self, place: Place, name: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.0.insert((place, name.into()), content.into());
    }

    /// Every file below a folder, whoever owns it.
    pub(super) fn add_files(&mut self, folder: &Path, except: &[PathBuf]) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            // Postgres removes files while we look.
            let meta = match std::fs::symlink_metadata(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                meta => meta?,
            };
            if meta.is_dir() {
                self.add_files(&path, except)?;
            } else if meta.is_file() && !except.contains(&path) {
                match std::fs::read(&path) {
                    Ok(content) => self.add(Place::of_file(&path), path.display().to_string(), content),
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error).with_context(|| path.display().to_string()),
                }
            }
        }
        Ok(())
    }

    /// What others see of a process through `/proc`.
    pub(super) async fn add_process(&mut self, name: &str, pid: u32) -> anyhow::Result<()> {
        // Whoever starts a process hears that it began a moment before the kernel has laid out its arguments.
        let command = eventually("the arguments can be read", SOON, async || {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).map_err(|error| error.to_string())?;
            let ours = command.windows(6).any(|six| six == b"tocsin");
            if ours { Ok(command) } else { Err(String::from_utf8_lossy(&command).into_owned()) }
        })
        .await?;
        self.add(Place::CommandLine, name, command);
        let environ = match std::fs::read(format!("/proc/{pid}/environ")) {
            // The process keeps its memory to itself: then nobody but an almighty root reads this.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => error.to_string().into_bytes(),
            environ => {
                let environ = environ?;
                anyhow::ensure!(environ.windows(4).any(|four| four == b"PATH"), "the environment can be read");
                environ
            }
        };
        self.add(Place::Environ, name, environ);
        Ok(())
    }

    /// Ends a daemon as a crash would and collects what is left of its memory, which must be nothing.
    ///
    /// # Errors
    /// When the system says that a core was made.
    pub(super) async fn add_core(&mut self, daemon: &mut Daemon, folder: &Path) -> anyhow::Result<()> {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid()?))?;
        let limit = limits.lines().find(|line| line.starts_with("Max core file size")).context("no such limit")?;
        anyhow::ensure!(limit.split_whitespace().filter(|word| *word == "0").count() == 2, "{limit}");
        daemon.signal(Signal::ABORT)?;
        let status = daemon.ended(Duration::from_secs(20)).await?;
        anyhow::ensure!(status.signal() == Some(6) && !status.core_dumped(), "it ended with {status}");
        self.add(Place::Core, "limits", limits);
        self.add_files(folder, &[])
    }

    /// Whether there is something in a place.
    pub(super) fn has(&self, place: Place) -> bool {
        self.in_place(place).any(|(_, content)| !content.is_empty())
    }

    /// What is in a place.
    pub(super) fn in_place(&self, place: Place) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().filter(move |((of, _), _)| *of == place).map(|((_, name), content)| (name.as_str(), content.as_slice()))
    }

    /// Everything of a place whose name ends so, as text.
    pub(super) fn text(&self, place: Place, name: &str) -> anyhow::Result<String> {
        let (_, content) = self.in_place(place).find(|(of, _)| of.ends_with(name)).with_context(|| format!("no {name} in {place:?}"))?;
        Ok(String::from_utf8_lossy(content).into_owned())
    }

    pub(super) fn hits(&self, scanner: &Scanner) -> Vec<String> {
        let all = self.0.iter().flat_map(|((place, name), content)| {
            scanner.hits(content).into_iter().map(move |(secret, form)| format!("{secret} ({form:?}) in {place:?}, {name}"))
        });
        all.collect()
    }

    /// In which places and forms a secret is found after it was planted in every place in every form, in the middle of what
    /// is there: a search that finds nothing proves nothing unless it could have.
    pub(super) fn found_when_planted(&self, scanner: &Scanner, secret: &[u8]) -> BTreeSet<(Place, Form)> {
        let mut found = BTreeSet::new();
        for place in Place::ALL {
            let Some((_, content)) = self.in_place(place).max_by_key(|(_, content)| content.len()) else { continue };
            for form in Form::ALL {
                let middle = &content[content.len() / 3..(content.len() / 3 + 20_000).min(content.len())];
                let (before, after) = middle.split_at(middle.len() / 2);
                let spellings = form.spellings(secret);
                let all_found = spellings.iter().all(|spelling| !scanner.hits(&[before, spelling, after].concat()).is_empty());
                if all_found {
                    found.insert((place, form));
                }
            }
        }
        found
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

/// Whether this machine keeps a core of a process that allows it, in the folder that it runs in.
pub(super) fn machine_keeps_cores(folder: &Path) -> anyhow::Result<bool> {
    let status =
        Command::new("sh").args(["-c", "ulimit -c unlimited && kill -ABRT $$"]).current_dir(folder).stdin(Stdio::null()).status()?;
    for entry in std::fs::read_dir(folder)? {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(status.core_dumped())
}

/// `tocsin serve` in a folder where its core would land, if nothing kept it from making one.
pub(super) fn serve_where_cores_land(world: &World, folder: &Path, environment: &[(&str, &str)]) -> anyhow::Result<Daemon> {
    let inner = e2e::harness::process::tocsin(&world.config, &["serve"])?;
    let inner = inner.as_std();
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\""]).arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.envs(environment.iter().copied()).current_dir(folder).kill_on_drop(true).stdin(Stdio::null());
    Daemon::spawn(command, &world.next_log())
}
