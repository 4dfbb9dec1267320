//! Starting, stopping and dying: signals, the order in which stages end, and the deadline.
//!
//! A stage is a long-lived task with a name and a stop token of its own. Stages are stopped in the
//! order in which work flows through them, so that what was received is still stored. If one ends
//! without having been asked, the process ends with exit code 1 and says which: a silently dead poller
//! is the worst failure of an alert product.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::failure::{Exit, Failure};
use crate::service_manager;

/// All stages together have this long to end after the first signal; three more seconds are for the
/// database, and ten are promised.
pub(crate) const DEADLINE: Duration = Duration::from_secs(7);

/// A running stage.
struct Stage {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<Result<(), String>>,
}

/// The running stages, in steps: the stages of a step are stopped together, the steps one after the other.
#[derive(Default)]
pub(crate) struct Stages(Vec<Vec<Stage>>);

impl Stages {
    /// Starts a stage that is stopped after all that were added before.
    pub(crate) fn add<F, E>(&mut self, name: &'static str, start: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        self.0.push(Vec::new());
        self.beside(name, start);
    }

    /// Starts a stage that is stopped together with the one added last.
    pub(crate) fn beside<F, E>(&mut self, name: &'static str, start: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let stop = CancellationToken::new();
        let work = start(stop.clone());
        let task = tokio::spawn(async move { work.await.map_err(|error| error.to_string()) });
        let stage = Stage { name, stop, task };
        match self.0.last_mut() {
            Some(step) => step.push(stage),
            None => self.0.push(vec![stage]),
        }
    }

    /// Waits until one ends, which none should; says which and why.
    pub(crate) async fn first_death(&mut self) -> String {
        let ends = self.0.iter_mut().flatten().map(|stage| {
            let name = stage.name;
            Box::pin(async move {
                match (&mut stage.task).await {
                    Ok(Ok(())) => format!("the {name} ended by itself"),
                    Ok(Err(error)) => format!("the {name} died: {error}"),
                    Err(_) => format!("the {name} panicked"),
                }
            })
        });
        futures_util::future::select_all(ends).await.0
    }

    /// Stops them step by step and waits for each.
    async fn stop(self) {
        for step in self.0 {
            for stage in &step {
                stage.stop.cancel();
            }
            for stage in step {
                if !stage.task.is_finished() && stage.task.await.is_err() {
                    tracing::error!(stage = stage.name, "this stage panicked while stopping");
                }
            }
        }
    }
}

/// Why the daemon ends.
#[derive(Debug)]
pub(crate) enum End {
    /// Somebody asked: SIGTERM or Ctrl-C.
    Asked(&'static str),
    /// Something died.
    Died(String),
}

/// Runs until a signal comes or something dies, then stops the stages in order.
///
/// A second signal, or the deadline, ends the process at once: dropping work is safe, since the cursor
/// stands at what was committed.
///
/// # Errors
/// Exit 1 when a stage or the embedded server died.
pub(crate) async fn run_until_end(mut stages: Stages, mut signals: Signals, died: impl Future<Output = String>) -> Result<(), Failure> {
    let end = tokio::select! {
        name = signals.next() => End::Asked(name),
        death = stages.first_death() => End::Died(death),
        death = died => End::Died(death),
    };
    match &end {
        End::Asked(name) => tracing::info!(signal = name, "stopping; once more ends at once"),
        End::Died(death) => tracing::error!("{death}; stopping"),
    }
    service_manager::stopping();
    tokio::select! {
        () = stages.stop() => {}
        () = tokio::time::sleep(DEADLINE) => tracing::warn!("some stage did not stop in time; ending without it, which loses nothing"),
        name = signals.next() => {
            tracing::warn!(signal = name, "ending at once");
        }
    }
    match end {
        End::Asked(_) => Ok(()),
        End::Died(death) => Err(Failure::new(Exit::Failed, death)),
    }
}

/// SIGTERM and SIGINT.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// SIGHUP, heard from now on: without this it would end the process.
///
/// # Errors
/// Exit 1 when the system refuses.
pub(crate) fn hangups() -> Result<Signal, Failure> {
    listen(SignalKind::hangup())
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::new(Exit::Failed, format!("cannot listen for signals: {error}")))
}

impl Signals {
    /// Heard from now on: before this, and before anybody is told that the daemon runs, they end the process as it stands.
    ///
    /// # Errors
    /// Exit 1 when the system refuses.
    pub(crate) fn listen() -> Result<Self, Failure> {
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for one, and names it.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stage_that_dies_is_named() {
        let mut stages = Stages::default();
        stages.add("sink", |stop| async move {
            stop.cancelled().await;
            Ok::<(), String>(())
        });
        stages.add("poller", |_| async { Err::<(), _>("no permits".to_owned()) });
        assert_eq!(stages.first_death().await, "the poller died: no permits");
    }

    #[tokio::test]
    async fn a_stage_that_panics_is_named() {
        let mut stages = Stages::default();
        stages.add("registry", |stop| async move {
            assert!(stop.is_cancelled(), "planted");
            Ok::<(), String>(())
        });
        assert_eq!(stages.first_death().await, "the registry panicked");
    }

    #[tokio::test]
    async fn stages_stop_in_the_order_they_were_added() {
        let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut stages = Stages::default();
        for name in ["poller", "sink", "registry"] {
            let sender = sender.clone();
            stages.add(name, move |stop| async move {
                stop.cancelled().await;
                sender.send(name).map_err(|error| error.to_string())
            });
        }
        stages.stop().await;
        drop(sender);
        let mut seen = Vec::new();
        while let Some(name) = order.recv().await {
            seen.push(name);
        }
        assert_eq!(seen, ["poller", "sink", "registry"]);
    }
}
