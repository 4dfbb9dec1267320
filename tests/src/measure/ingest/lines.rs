//! The figures of some runs as JSON, one object each: medians, the range of what is compared, and ratios within a run.

use serde_json::{Value, json};

use super::{Disk, Pass, Passes, Run};
use crate::measure::figures::{Figures, line, with};
use crate::measure::peers::{Outcome, Peer};

/// One of the three passes, by name.
type Which = (&'static str, fn(&Passes) -> &Pass);

const PASSES: [Which; 3] = [("first", |passes| &passes.first), ("again", |passes| &passes.again), ("changed", |passes| &passes.changed)];

/// All lines, in the order in which they are read: the limits, the daemon, each competitor with the ratios to it, and how near
/// the daemon comes to the limit of Postgres.
pub fn lines(runs: &[Run]) -> Vec<Value> {
    let mut lines = vec![simulator(runs)];
    lines.extend([0, 1].map(|place| copies(runs, place)));
    let goals = [
        "goal: 7.5 CPU s, 20,000 alerts/s",
        "read again, nothing new; goal: 2 CPU s, 70,000 alerts/s, 0 written",
        "read again, a tenth changed, and of each customer 5 late, 3 with the newest stamp, one changed by 100 ns; goal: 50,000 alerts/s",
    ];
    for ((name, of), against) in PASSES.into_iter().zip(goals) {
        let passes: Vec<&Pass> = runs.iter().map(|run| of(&run.tocsin)).collect();
        lines.push(of_passes(&format!("ingest_{name}"), against, &passes));
    }
    for (name, of) in PASSES {
        let passes: Vec<&Pass> = runs.iter().map(|run| of(&run.without_links)).collect();
        let against = "the same with pages that do not link to the next one, which the simulator renders in the first pass";
        lines.push(of_passes(&format!("ingest_without_links_{name}"), against, &passes));
    }
    lines.push(disk(runs));
    for peer in Peer::ALL {
        lines.extend(of_peer(runs, peer));
    }
    lines.extend([0, 1].map(|place| share_of_copy(runs, place)));
    lines
}

fn simulator(runs: &[Run]) -> Value {
    let rate = |run: &Run| run.drained.records as f64 / run.drained.wall.as_secs_f64();
    let fastest = |run: &Run| {
        let peers =
            run.peers.iter().filter_map(|(_, outcome)| if let Outcome::Measured(passes) = outcome { Some(&**passes) } else { None });
        peers.chain([&run.tocsin]).flat_map(|passes| PASSES.map(|(_, which)| which(passes).rate())).fold(0.0, f64::max)
    };
    let against = "all pages read and thrown away, 4 customers at a time, before anybody else; client and simulator share the cores";
    with(
        line("ingest_simulator", &Figures::of(runs, rate), "alerts/s", against),
        &[
            ("mb_per_s", json!(Figures::of(runs, |run| run.drained.bytes as f64 / 1e6 / run.drained.wall.as_secs_f64()).median())),
            ("bytes_per_alert", json!(Figures::of(runs, |run| run.drained.bytes as f64 / run.drained.records as f64).median())),
            ("times_the_fastest_pass", json!(Figures::of(runs, |run| rate(run) / fastest(run)).median())),
            ("cpu_s", json!(Figures::of(runs, |run| run.drained.cpu).median())),
            ("simulator_cpu_s", json!(Figures::of(runs, |run| run.drained.simulator_cpu).median())),
            ("wall_s", json!(Figures::of(runs, |run| run.drained.wall.as_secs_f64()).median())),
            ("read", json!(Figures::of(runs, |run| run.drained.records as f64).median())),
        ],
    )
}

fn copies(runs: &[Run], place: usize) -> Value {
    let connections = place + 1;
    let against = format!("binary COPY of the same rows into a table like tocsin.alert_version, {connections} at a time");
    let figure = |figure: &dyn Fn(&crate::measure::peers::copy::Copied) -> f64| Figures::of(runs, |run| figure(&run.copies[place]));
    with(
        line(&format!("ingest_copy_{connections}"), &figure(&|copied| copied.rate()), "rows/s", &against),
        &[
            ("mb_per_s", json!(figure(&|copied| copied.bytes as f64 / 1e6 / copied.wall.as_secs_f64()).median())),
            ("wall_s", json!(figure(&|copied| copied.wall.as_secs_f64()).median())),
            ("program_cpu_s", json!(figure(&|copied| copied.program_cpu).median())),
            ("postgres_cpu_s", json!(figure(&|copied| copied.postgres_cpu).median())),
            ("postgres_cpu_per_100000", json!(figure(&|copied| copied.postgres_cpu / copied.rows as f64 * 100_000.0).median())),
            ("written", json!(figure(&|copied| copied.rows as f64).median())),
        ],
    )
}

/// One line with the medians of all that was counted, and the range of what is compared.
pub(in crate::measure) fn of_passes(name: &str, against: &str, passes: &[&Pass]) -> Value {
    let figure = |figure: &dyn Fn(&Pass) -> f64| Figures::of(passes, |pass| figure(pass));
    let rate = figure(&Pass::rate);
    with(
        line(name, &figure(&Pass::cpu_per_100_000), "CPU s per 100,000 alerts", against),
        &[
            ("alerts_per_s", json!(rate.median())),
            ("alerts_per_s_range", json!(rate.range())),
            ("wall_s", json!(figure(&|pass| pass.wall.as_secs_f64()).median())),
            ("program_cpu_s", json!(figure(&|pass| pass.program_cpu).median())),
            ("postgres_cpu_s", json!(figure(&|pass| pass.postgres_cpu).median())),
            ("simulator_cpu_s", json!(figure(&|pass| pass.simulator_cpu).median())),
            ("derived_later_cpu_s", json!(figure(&Pass::derived_cpu).median())),
            ("derived_later_postgres_cpu_s", json!(figure(&|pass| pass.derived_postgres_cpu).median())),
            ("peak_rss_mb", json!(figure(&|pass| pass.peak_rss as f64 / 1e6).median())),
            ("alerts", json!(figure(&|pass| pass.alerts).median())),
            ("read", json!(figure(&|pass| pass.read).median())),
            ("written", json!(figure(&|pass| pass.written).median())),
            ("written_beyond", json!(passes.iter().map(|pass| pass.beyond).sum::<f64>())),
            ("lost", json!(passes.iter().map(|pass| pass.lost).sum::<usize>())),
            ("doubled", json!(passes.iter().map(|pass| pass.doubled).sum::<usize>())),
        ],
    )
}

fn disk(runs: &[Run]) -> Value {
    let figure = |figure: &dyn Fn(&Disk) -> f64| Figures::of(runs, |run| figure(&run.disk));
    let against = "room of one version with its share of the latest states, all indices included, after the three passes; goal: 4,400";
    with(
        line("ingest_disk", &figure(&|disk| disk.version + disk.share_of_latest), "bytes", against),
        &[
            ("version", json!(figure(&|disk| disk.version).median())),
            ("share_of_latest_state", json!(figure(&|disk| disk.share_of_latest).median())),
            ("derived_from_an_alert", json!(figure(&|disk| disk.derived).median())),
        ],
    )
}

/// What a competitor came to, and what it costs beside the daemon in the same run; or why there is nothing to say.
fn of_peer(runs: &[Run], peer: Peer) -> Vec<Value> {
    let name = format!("ingest_{}", peer.name());
    let mut measured: Vec<(&Passes, &Passes)> = Vec::new();
    let mut lines = Vec::new();
    for run in runs {
        for (_, outcome) in run.peers.iter().filter(|(which, _)| *which == peer) {
            match outcome {
                Outcome::Measured(passes) => measured.push((&run.tocsin, passes)),
                Outcome::Skipped(why) => lines.push(json!({ "bench": name, "skipped": why })),
                Outcome::Failed(why) => lines.push(json!({ "bench": name, "failed": why })),
            }
        }
    }
    // One reason is enough where it was the same each time.
    lines.dedup();
    if measured.is_empty() {
        return lines;
    }
    for (which, of) in PASSES {
        let passes: Vec<&Pass> = measured.iter().map(|(_, passes)| of(passes)).collect();
        lines.push(of_passes(
            &format!("{name}_{which}"),
            "the same job, everything read in each pass, so that late alerts are seen; its start is part of it",
            &passes,
        ));
    }
    let goals = match peer {
        Peer::Script => ["; goal: 3.5", "", ""],
        Peer::Dlt => ["; goal: 11", "", ""],
    };
    for ((which, of), goal) in PASSES.into_iter().zip(goals) {
        let times = |ours: f64, theirs: f64| theirs / ours;
        let figures = Figures::of(&measured, |(ours, theirs)| times(of(ours).cpu_per_100_000(), of(theirs).cpu_per_100_000()));
        let whole = |pass: &Pass| (pass.cpu() + pass.derived_cpu()) / pass.alerts;
        let with_derived = Figures::of(&measured, |(ours, theirs)| times(whole(of(ours)), whole(of(theirs))));
        let against = format!("alerts per CPU second of tocsin over those of {}, program and Postgres, pass {which}{goal}", peer.name());
        lines.push(with(
            line(&format!("ingest_{which}_over_{}", peer.name()), &figures, "times", &against),
            &[("with_what_is_derived_later", json!(with_derived.median()))],
        ));
    }
    lines
}

fn share_of_copy(runs: &[Run], place: usize) -> Value {
    let connections = place + 1;
    let figures = Figures::of(runs, |run| run.tocsin.first.written / run.tocsin.first.wall.as_secs_f64() / run.copies[place].rate());
    let goal = if connections == 1 { "; goal: 0.8" } else { "" };
    let against =
        format!("rows/s of the first pass, two writers, pages and simulator included, over those of COPY, {connections} at a time{goal}");
    with(line(&format!("ingest_share_of_copy_{connections}"), &figures, "share", &against), &[])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::measure::drain::Drained;
    use crate::measure::peers::copy::Copied;

    fn pass(cpu: f64) -> Pass {
        Pass { wall: Duration::from_secs(2), program_cpu: cpu, postgres_cpu: cpu, alerts: 1000.0, written: 1000.0, ..Pass::default() }
    }

    fn run(ours: f64, script: Outcome) -> Run {
        let all = |cpu| Passes { first: pass(cpu), again: pass(cpu), changed: pass(cpu) };
        let (wall, cpu) = (Duration::from_secs(1), 0.1);
        let script = match script {
            Outcome::Measured(_) => Outcome::Measured(Box::new(all(ours * 4.0))),
            other => other,
        };
        Run {
            drained: Drained { wall, cpu, simulator_cpu: cpu, records: 5000, bytes: 5_000_000 },
            tocsin: all(ours),
            without_links: all(ours),
            disk: Disk { version: 3000.0, share_of_latest: 500.0, derived: 2000.0 },
            copies: [1, 2].map(|connections| Copied { connections, wall, program_cpu: cpu, postgres_cpu: cpu, rows: 1000, bytes: 9 }),
            peers: vec![(Peer::Script, script), (Peer::Dlt, Outcome::Skipped("no network".to_owned()))],
        }
    }

    fn called<'a>(lines: &'a [Value], name: &str) -> &'a Value {
        lines.iter().find(|line| line["bench"] == name).expect(name)
    }

    #[test]
    fn a_ratio_is_taken_within_each_run() {
        let lines = lines(&[1.0, 3.0, 2.0].map(|ours| run(ours, Outcome::Measured(Box::default()))));
        let first = called(&lines, "ingest_first");
        assert_eq!((&first["value"], &first["range"], &first["runs"]), (&json!(400.0), &json!([200.0, 600.0]), &json!(3)));
        assert_eq!(called(&lines, "ingest_first_over_script")["range"], json!([4.0, 4.0]));
        assert_eq!(called(&lines, "ingest_disk")["value"], json!(3500.0));
        assert_eq!(called(&lines, "ingest_share_of_copy_2")["value"], json!(0.5));
        assert_eq!(called(&lines, "ingest_simulator")["times_the_fastest_pass"], json!(10.0));
    }

    #[test]
    fn who_was_skipped_has_a_reason_and_no_figures() {
        let lines = lines(&[1, 2].map(|_| run(1.0, Outcome::Failed("exit 1".to_owned()))));
        let of =
            |part: &str| lines.iter().filter(|line| line["bench"].as_str().is_some_and(|name| name.contains(part))).collect::<Vec<_>>();
        assert_eq!(of("dlt"), [&json!({ "bench": "ingest_dlt", "skipped": "no network" })]);
        assert_eq!(of("script"), [&json!({ "bench": "ingest_script", "failed": "exit 1" })]);
    }
}
