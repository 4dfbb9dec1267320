//! What a process costs, from `/proc`, and what it says of itself, from `/metrics`.

use std::collections::BTreeMap;

use anyhow::Context;

use super::Daemon;

/// What a process holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory, bytes.
    pub rss: u64,
    /// The most resident memory it ever had, bytes.
    pub peak_rss: u64,
    /// Open file descriptors.
    pub fds: usize,
    /// Threads.
    pub threads: u64,
}

impl Usage {
    /// Looks at a living process.
    ///
    /// # Errors
    /// When there is no such process, or it belongs to somebody else.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("no process {pid}"))?;
        let number = |key: &str| -> anyhow::Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key} of process {pid}"))?;
            Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
        };
        let (rss, peak_rss, threads) = (number("VmRSS:")? * 1024, number("VmHWM:")? * 1024, number("Threads:")?);
        Ok(Self { rss, peak_rss, fds: descriptors(pid)?, threads })
    }
}

/// How many descriptors a process has open.
///
/// # Errors
/// When there is no such process; and where only root may look into a process that keeps its memory to itself, since the
/// kernel is older than 6.2 and does not give the number otherwise.
pub fn descriptors(pid: u32) -> anyhow::Result<usize> {
    let folder = format!("/proc/{pid}/fd");
    let told = std::fs::metadata(&folder).with_context(|| format!("no process {pid}"))?.len();
    if told > 0 {
        return Ok(usize::try_from(told)?);
    }
    let listed = std::fs::read_dir(&folder).with_context(|| format!("the descriptors of process {pid} can be counted by root only"))?;
    Ok(listed.count())
}

/// CPU seconds that a process has used so far, in user and kernel mode.
///
/// # Errors
/// When there is no such process.
pub fn cpu(pid: u32) -> anyhow::Result<f64> {
    Ok(seconds(Times::of(pid)?.own))
}

/// CPU seconds that a process and its children have used so far, those that have ended included.
///
/// # Errors
/// When there is no such process.
pub fn family_cpu(pid: u32) -> anyhow::Result<f64> {
    loop {
        let before = Times::of(pid)?;
        let entries = std::fs::read_dir("/proc").context("no /proc")?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let children: u64 = pids.filter_map(|child| Times::of(child).ok()).filter(|times| times.parent == pid).map(|times| times.own).sum();
        let above = Times::of(pid)?;
        // A child that ended in between was seen twice or not at all.
        if above.ended == before.ended {
            return Ok(seconds(above.own + above.ended + children));
        }
    }
}

/// CPU seconds of a process that has ended, with those of all children that it has waited for. It must not have been
/// waited for itself, or nothing is left to look at.
///
/// # Errors
/// When there is no such process any more.
pub fn final_cpu(pid: u32) -> anyhow::Result<f64> {
    Times::of(pid).map(|times| seconds(times.own + times.ended))
}

/// CPU seconds of the threads of this name in our own process, so far: the simulator's, which lives in here.
///
/// # Errors
/// When the threads cannot be listed.
pub fn threads_cpu(name: &str) -> anyhow::Result<f64> {
    let entries = std::fs::read_dir("/proc/self/task").context("no /proc/self/task")?;
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    // Who ends while we look is none of those that are asked for: they live as long as their simulator.
    let named = ids.filter(|id| std::fs::read_to_string(format!("/proc/self/task/{id}/comm")).is_ok_and(|text| text.trim_end() == name));
    Ok(seconds(named.filter_map(|id| Times::at(&format!("/proc/self/task/{id}/stat")).ok()).map(|times| times.own).sum()))
}

/// How often the threads of a process have gone to sleep of their own will so far: each time, something has to wake them.
///
/// # Errors
/// When there is no such process.
pub fn sleeps(pid: u32) -> anyhow::Result<u64> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("no process {pid}"))?;
    let of = |status: String| status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok());
    // A thread that ends while we look counts no more.
    Ok(threads.filter_map(|thread| of(std::fs::read_to_string(thread.ok()?.path().join("status")).ok()?)).sum())
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Clock ticks of a process, from `/proc/PID/stat`.
struct Times {
    parent: u32,
    own: u64,
    /// Of children that have ended.
    ended: u64,
}

impl Times {
    fn of(pid: u32) -> anyhow::Result<Self> {
        Self::at(&format!("/proc/{pid}/stat")).with_context(|| format!("no process {pid}"))
    }

    fn at(path: &str) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        // The name stands in parentheses and may hold anything; what follows the last one is numbers, from the state on.
        let (_, rest) = text.rsplit_once(')').with_context(|| format!("no name in {text}"))?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |place: usize| -> anyhow::Result<u64> { Ok(fields.get(place).context("too few numbers")?.parse()?) };
        Ok(Self { parent: u32::try_from(number(1)?)?, own: number(11)? + number(12)?, ended: number(13)? + number(14)? })
    }
}

/// One answer of `/metrics`, in the text format of Prometheus.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Vec<Sample>);

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Asks a daemon.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn of(daemon: &Daemon) -> anyhow::Result<Self> {
        let (status, text) = daemon.ops("/metrics").await?;
        anyhow::ensure!(status == 200, "/metrics answers {status}: {text}");
        Ok(Self::read(&text))
    }

    /// Reads the text. What is no sample is passed over.
    pub fn read(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// The sum of a metric over all samples that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.with(name, labels).map(|sample| sample.value).sum()
    }

    /// A quantile (0 to 1) of a histogram over all samples that have these labels, or that of a summary if it is
    /// one: the upper edge of the bucket it falls into, in the metric's own unit. `None` when it counted nothing.
    pub fn quantile(&self, name: &str, labels: &[(&str, &str)], quantile: f64) -> Option<f64> {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in self.with(&format!("{name}_bucket"), labels) {
            let edge = sample.labels.get("le").and_then(|edge| edge.parse().ok())?;
            match buckets.iter_mut().find(|(known, _)| *known == edge) {
                Some((_, count)) => *count += sample.value,
                None => buckets.push((edge, sample.value)),
            }
        }
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        if let Some((_, all)) = buckets.last().copied() {
            return if all > 0.0 { buckets.into_iter().find(|(_, count)| *count >= quantile * all).map(|(edge, _)| edge) } else { None };
        }
        let of_summary = |sample: &&Sample| sample.labels.get("quantile").and_then(|text| text.parse::<f64>().ok()) == Some(quantile);
        self.with(name, labels).filter(of_summary).map(|sample| sample.value).max_by(f64::total_cmp)
    }

    /// What has been counted since an earlier answer of the same daemon. Gauges make no sense in it.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |sample: &Sample| earlier.0.iter().find(|known| known.name == sample.name && known.labels == sample.labels);
        let less = |sample: &Sample| Sample { value: sample.value - before(sample).map_or(0.0, |known| known.value), ..sample.clone() };
        Self(self.0.iter().map(less).collect())
    }

    /// The edges of a histogram's buckets, each with the share (0 to 1) of all that does not exceed it.
    pub fn shares(&self, name: &str) -> Vec<(f64, f64)> {
        let edge = |sample: &Sample| sample.labels.get("le").and_then(|edge| edge.parse().ok());
        let bucket = format!("{name}_bucket");
        let mut shares: Vec<(f64, f64)> = self.with(&bucket, &[]).filter_map(|sample| Some((edge(sample)?, sample.value))).collect();
        shares.sort_by(|one, other| one.0.total_cmp(&other.0));
        let all = shares.last().map_or(0.0, |(_, all)| *all);
        shares.into_iter().map(|(edge, count)| (edge, count / all)).collect()
    }

    fn with<'a>(&'a self, name: &'a str, labels: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = &'a Sample> {
        let fits = |sample: &&Sample| labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|found| found == value));
        self.0.iter().filter(move |sample| sample.name == name).filter(fits)
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (head, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let (name, labels) = match head.split_once('{') {
        Some((name, labels)) => (name, labels.trim_end().strip_suffix('}')?),
        None => (head, ""),
    };
    // Our label values are words from short lists: none holds a comma or a quote.
    let labels = labels.split(',').filter_map(|label| {
        let (key, value) = label.split_once('=')?;
        Some((key.trim().to_owned(), value.trim_matches('"').to_owned()))
    });
    Some(Sample { name: name.to_owned(), labels: labels.collect(), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE polls counter\npolls{source=\"a\",outcome=\"ok\"} 3\npolls{source=\"b\",outcome=\"ok\"} 4\n\
        polls{source=\"b\",outcome=\"failed\"} 1\npolls_more 9\nup 1\n\n\
        late_bucket{le=\"0.5\"} 90\nlate_bucket{le=\"2\"} 99\nlate_bucket{le=\"+Inf\"} 100\nlate_sum 60\nlate_count 100\n\
        told{quantile=\"0.5\"} 0.25\ntold{quantile=\"0.99\"} 1.5\n";

    #[test]
    fn samples_are_summed_by_name_and_labels() {
        let metrics = Metrics::read(TEXT);
        assert_eq!(metrics.sum("polls", &[]), 8.0);
        assert_eq!(metrics.sum("polls", &[("outcome", "ok")]), 7.0);
        assert_eq!(metrics.sum("polls", &[("outcome", "ok"), ("source", "b")]), 4.0);
        assert_eq!(metrics.sum("up", &[]), 1.0);
        assert_eq!(metrics.sum("nothing", &[]), 0.0);
    }

    #[test]
    fn a_quantile_is_an_upper_edge() {
        let metrics = Metrics::read(TEXT);
        assert_eq!(metrics.quantile("late", &[], 0.5), Some(0.5));
        assert_eq!(metrics.quantile("late", &[], 0.95), Some(2.0));
        assert_eq!(metrics.quantile("late", &[], 0.999), Some(f64::INFINITY));
        assert_eq!(metrics.quantile("told", &[], 0.99), Some(1.5));
        assert_eq!(metrics.quantile("nothing", &[], 0.5), None);
    }

    #[test]
    fn what_was_counted_since_is_the_difference() {
        let before = Metrics::read("late_bucket{le=\"0.5\"} 80\nlate_bucket{le=\"2\"} 80\nlate_bucket{le=\"+Inf\"} 80\n");
        let since = Metrics::read(TEXT).since(&before);
        assert_eq!(since.shares("late"), [(0.5, 0.5), (2.0, 0.95), (f64::INFINITY, 1.0)]);
        assert_eq!(since.sum("up", &[]), 1.0);
        assert!(since.shares("nothing").is_empty());
    }

    #[test]
    fn this_very_process_costs_something() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss > 1 << 20 && usage.peak_rss >= usage.rss && usage.fds > 2 && usage.threads > 0, "{usage:?}");
        assert!(sleeps(std::process::id()).unwrap() > 0);
        assert!(Usage::of(u32::MAX / 4).is_err() && sleeps(u32::MAX / 4).is_err());
    }

    #[test]
    fn children_that_have_ended_are_counted_with_their_parent() {
        use std::process::{Command, Stdio};
        // The inner shell burns some ticks and ends; the outer one waits for it, says so, and stays.
        let burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let script = format!("sh -c '{burn}'; echo done; read _");
        let mut shell =
            Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("there is a shell");
        let mut said = [0; 4];
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut said).unwrap();
        let (own, family) = (cpu(shell.id()).unwrap(), family_cpu(shell.id()).unwrap());
        assert!(family >= own + 0.03, "{own} of {family}");
        assert_eq!(final_cpu(shell.id()).unwrap(), family);
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert!(final_cpu(shell.id()).is_err());
    }

    #[test]
    fn threads_are_found_by_name() {
        let burn = || (0..20_000_000_u64).fold(0, |sum: u64, next| std::hint::black_box(sum ^ next));
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let (say, hear) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("burns".to_owned()).spawn(move || {
            say.send(burn()).unwrap();
            let _ = wait.recv();
        });
        hear.recv().unwrap();
        assert!(threads_cpu("burns").unwrap() > 0.0);
        assert_eq!(threads_cpu("no such thread").unwrap(), 0.0);
        drop(done);
        thread.unwrap().join().unwrap();
    }
}
