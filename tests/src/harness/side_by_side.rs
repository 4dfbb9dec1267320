//! Many small worlds at once: most of a story is waiting, and can be shared.

use std::future::Future;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

/// Runs named cases side by side, so many at once; what each came to, in the order in which they ended.
///
/// # Errors
/// When a case fails: after all have ended, with the name and the words of every one that did.
#[expect(clippy::print_stderr, reason = "how long each case takes is worth knowing where many share the time")]
pub async fn side_by_side<T, F>(at_once: usize, cases: impl IntoIterator<Item = (String, F)>) -> anyhow::Result<Vec<T>>
where
    T: 'static,
    F: Future<Output = anyhow::Result<T>> + 'static,
{
    let places = Arc::new(Semaphore::new(at_once));
    let mut done = Vec::new();
    let mut failures = Vec::new();
    let all = async {
        let mut running = JoinSet::new();
        for (name, case) in cases {
            let places = places.clone();
            running.spawn_local(async move {
                let _place = places.acquire().await?;
                let begun = Instant::now();
                let outcome = case.await;
                // Shown when something fails, and by `--nocapture`.
                eprintln!("{:>6.1} s  {name}", begun.elapsed().as_secs_f64());
                outcome.with_context(|| name)
            });
        }
        while let Some(ended) = running.join_next().await {
            match ended {
                Ok(Ok(value)) => done.push(value),
                Ok(Err(error)) => failures.push(format!("{error:#}")),
                Err(panic) => failures.push(format!("a case panicked: {panic}")),
            }
        }
    };
    LocalSet::new().run_until(all).await;
    anyhow::ensure!(failures.is_empty(), "{} case(s) failed:\n{}", failures.len(), failures.join("\n\n"));
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_case_runs_and_every_failure_is_named() {
        let gate = Arc::new(tokio::sync::Barrier::new(2));
        let meet = |name: &str, fails: bool| {
            let gate = gate.clone();
            (name.to_owned(), async move {
                gate.wait().await;
                anyhow::ensure!(!fails, "planted");
                Ok(1)
            })
        };
        assert_eq!(side_by_side(2, [meet("one", false), meet("two", false)]).await.unwrap(), [1, 1]);
        let error = side_by_side(2, [meet("one", false), meet("two", true)]).await.unwrap_err().to_string();
        assert!(error.contains("1 case(s)") && error.contains("two: planted") && !error.contains("one"), "{error}");
    }
}
