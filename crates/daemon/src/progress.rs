//! How far work has come that a daemon does: bars on a terminal, plain lines elsewhere.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sink::read::{RereadRow, RereadState};

use crate::output::{self, printable};

/// Where progress is shown when standard error is no terminal.
#[derive(Clone, Copy)]
pub(crate) enum Elsewhere {
    /// As JSON objects, one a line, on standard output.
    Objects,
    /// Nowhere.
    Silent,
    /// As lines, by this function.
    Lines(fn(&str)),
}

/// The progress of several feeds.
pub(crate) struct Board {
    bars: Option<MultiProgress>,
    elsewhere: Elsewhere,
    feeds: Vec<Feed>,
}

struct Feed {
    label: String,
    bar: Option<ProgressBar>,
    told: Option<(RereadState, u64)>,
}

impl Board {
    /// A board for feeds of these names.
    pub(crate) fn new(labels: impl IntoIterator<Item = String>, elsewhere: Elsewhere) -> Self {
        let bars = std::io::stderr().is_terminal().then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        let labels: Vec<String> = labels.into_iter().map(|label| printable(&label)).collect();
        let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let feeds = labels.into_iter().map(|label| {
            let bar = bars.as_ref().map(|bars| {
                let bar = bars.add(ProgressBar::new(1000));
                // The template is a literal; with a mistake in it there is a plainer bar.
                if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:24}] {wide_msg}") {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_prefix(format!("{label:width$}"));
                bar
            });
            Feed { label, bar, told: None }
        });
        Self { feeds: feeds.collect(), bars, elsewhere }
    }

    /// A board for scripts, of so many feeds.
    pub(crate) fn objects(feeds: usize) -> Self {
        let feeds = (0..feeds).map(|_| Feed { label: String::new(), bar: None, told: None });
        Self { bars: None, elsewhere: Elsewhere::Objects, feeds: feeds.collect() }
    }

    /// Shows how a feed stands.
    pub(crate) fn show(&mut self, index: usize, row: &RereadRow) {
        let Some(feed) = self.feeds.get_mut(index) else { return };
        if let Some(bar) = &feed.bar {
            bar.set_position(share(row.done, 1000));
            bar.set_message(words(row));
            if row.state.is_over() && !bar.is_finished() {
                bar.abandon();
            }
            return;
        }
        let now = (row.state, share(row.done, 10));
        if feed.told != Some(now) {
            feed.told = Some(now);
            match self.elsewhere {
                Elsewhere::Silent => {}
                Elsewhere::Lines(line) => line(&format!("{}: {}", feed.label, words(row))),
                Elsewhere::Objects => output::datum(&serde_json::to_string(row).unwrap_or_default()),
            }
        }
    }

    /// Takes the bars off the screen, or leaves them as they stand.
    pub(crate) fn end(self, leave: bool) {
        for bar in self.feeds.into_iter().filter_map(|feed| feed.bar) {
            if leave { bar.abandon() } else { bar.finish_and_clear() }
        }
        if let Some(bars) = self.bars.filter(|_| !leave) {
            // A screen that cannot be tidied is no reason to fail.
            let _ = bars.clear();
        }
    }
}

/// A share of one as one of `parts`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped, and a part of a thousand at the finest")]
fn share(done: f64, parts: u32) -> u64 {
    (done.clamp(0.0, 1.0) * f64::from(parts)).floor() as u64
}

/// How a re-read stands, in words.
pub(crate) fn words(row: &RereadRow) -> String {
    let found = {
        let counted = |count: i64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
        format!("{}, {} not stored before, {} changed", counted(row.records, "record", "records"), row.new_alerts, row.updated_alerts)
    };
    match row.state {
        RereadState::Waiting => "waits for a daemon to begin".to_owned(),
        RereadState::Running => format!("{} % done: {found}", share(row.done, 100)),
        RereadState::Finished => format!("finished: {found}"),
        RereadState::Cancelled => format!("cancelled at {} %: {found}", share(row.done, 100)),
    }
}

#[cfg(test)]
mod tests {
    use domain::{TenantId, Ticks};

    use super::*;

    fn row(state: RereadState, done: f64, records: i64) -> RereadRow {
        RereadRow {
            directory_id: TenantId(uuid::Uuid::nil()),
            tenant: "Contoso".to_owned(),
            source: "graph-alerts".to_owned(),
            errand: "backfill".to_owned(),
            run: 1,
            state,
            from_at: Ticks(0),
            to_at: Ticks(10),
            done,
            records,
            new_alerts: 3,
            updated_alerts: 0,
            late: 0,
            asked_at: None,
            started_at: None,
            moved_at: None,
            finished_at: None,
        }
    }

    #[test]
    fn each_state_is_a_sentence_and_a_share_is_never_rounded_up() {
        assert_eq!(words(&row(RereadState::Waiting, 0.0, 0)), "waits for a daemon to begin");
        assert_eq!(words(&row(RereadState::Running, 0.999, 1)), "99 % done: 1 record, 3 not stored before, 0 changed");
        assert_eq!(words(&row(RereadState::Finished, 1.0, 20)), "finished: 20 records, 3 not stored before, 0 changed");
        assert_eq!(words(&row(RereadState::Cancelled, 0.5, 20)), "cancelled at 50 %: 20 records, 3 not stored before, 0 changed");
        assert_eq!((share(f64::NAN, 100), share(7.0, 100), share(-1.0, 100)), (0, 100, 0));
    }

    #[test]
    fn elsewhere_a_line_is_told_for_each_tenth_and_each_state() {
        thread_local!(static TOLD: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) });
        let mut board = Board {
            bars: None,
            elsewhere: Elsewhere::Lines(|line| TOLD.with_borrow_mut(|told| told.push(line.to_owned()))),
            feeds: Vec::new(),
        };
        board.feeds.push(Feed { label: "graph-alerts".to_owned(), bar: None, told: None });
        for done in [0.0, 0.01, 0.05, 0.1, 0.15, 0.5] {
            board.show(0, &row(RereadState::Running, done, 1));
        }
        board.show(0, &row(RereadState::Finished, 1.0, 1));
        board.show(0, &row(RereadState::Finished, 1.0, 1));
        let told = TOLD.with_borrow(Clone::clone);
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told[3].starts_with("graph-alerts: finished"), "{told:?}");
    }
}
