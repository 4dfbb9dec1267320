//! Which process a replica is, and whether such a process is gone for certain.
//!
//! A crashed daemon leaves its leases behind, and nobody else may take them before they expire: it
//! might only be slow. On one machine there is a better answer than waiting, because the operating
//! system knows whether a process still exists. A restarted daemon therefore takes over from its
//! crashed predecessor at once. "Gone" is said only when it is certain: same machine, same boot, same
//! process namespace, and no process of that number and start time.

use std::fmt;
use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// Names one process among all machines and boots, in words that a person can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessMark(String);

impl ProcessMark {
    /// The mark of the running process.
    pub fn of_this_process() -> Self {
        Self(Surroundings::read().mark(std::process::id(), start_of(std::process::id())))
    }

    /// As stored.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProcessMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a process number means something within.
struct Surroundings {
    host: String,
    boot: Option<String>,
    pid_namespace: Option<String>,
}

impl Surroundings {
    fn read() -> Self {
        let line = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        Self {
            host: line("/proc/sys/kernel/hostname").unwrap_or_else(|| "this machine".to_owned()),
            boot: line("/proc/sys/kernel/random/boot_id"),
            pid_namespace: fs::read_link("/proc/self/ns/pid").ok().map(|link| link.to_string_lossy().into_owned()),
        }
    }

    fn mark(&self, pid: u32, start: Option<u64>) -> String {
        match (start, &self.boot, &self.pid_namespace) {
            (Some(start), Some(boot), Some(namespace)) => format!("{} pid {pid} start {start} boot {boot} {namespace}", self.host),
            // Not enough is known to ever say that this process is gone.
            _ => format!("{} pid {pid}", self.host),
        }
    }
}

/// When the process started, in the kernel's ticks since boot; `None` when there is no such process or
/// it is dead and only waits to be collected.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything, blanks included.
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    // Field 22 of the line is the start time; the state is field 3.
    fields.nth(18)?.parse().ok()
}

/// Whether the process that `mark` names is gone for certain.
pub(crate) fn is_gone(mark: &str) -> bool {
    let Some(pid) = pid_in(mark) else { return false };
    let here = Surroundings::read();
    let Some(start) = mark.split(" start ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|word| word.parse().ok()) else {
        return false;
    };
    // Another machine, boot or namespace: its process numbers say nothing to us.
    if here.mark(pid, Some(start)) != mark {
        return false;
    }
    let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    match test_kill_process(process) {
        Err(Errno::SRCH) => true,
        // There is one of that number: another one, a dead one, or itself. When it cannot be read, it counts as itself.
        _ => fs::metadata(format!("/proc/{pid}/stat")).is_ok() && start_of(pid) != Some(start),
    }
}

fn pid_in(mark: &str) -> Option<u32> {
    mark.split(" pid ").nth(1)?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_is_not_gone_and_an_ended_one_is() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let mark = Surroundings::read().mark(child.id(), start_of(child.id()));
        assert!(!is_gone(&mark), "{mark}");
        assert!(!is_gone(ProcessMark::of_this_process().as_str()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_gone(&mark), "{mark}");
    }

    #[test]
    fn a_reused_process_number_is_another_process() {
        let here = Surroundings::read();
        let start = start_of(std::process::id()).unwrap();
        assert!(is_gone(&here.mark(std::process::id(), Some(start + 1))));
        assert!(!is_gone(&here.mark(std::process::id(), Some(start))));
    }

    #[test]
    fn nothing_is_said_of_processes_elsewhere() {
        let here = Surroundings::read();
        let elsewhere = [
            Surroundings { host: "another".to_owned(), ..Surroundings::read() },
            Surroundings { boot: Some("another".to_owned()), ..Surroundings::read() },
            Surroundings { pid_namespace: Some("pid:[1]".to_owned()), ..Surroundings::read() },
            Surroundings { boot: None, ..Surroundings::read() },
        ];
        for surroundings in elsewhere {
            assert!(!is_gone(&surroundings.mark(u32::MAX / 4, Some(1))));
        }
        assert!(is_gone(&here.mark(u32::MAX / 4, Some(1))), "no process has such a number");
        for nonsense in ["", "host", "host pid x", "host pid 1", "host pid 0 start 0"] {
            assert!(!is_gone(nonsense), "{nonsense}");
        }
    }
}
