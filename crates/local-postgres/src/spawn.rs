//! Starting programs that must not outlive us, and waiting for them.
//!
//! On Linux each child asks the kernel for a signal when its parent dies (`PR_SET_PDEATHSIG`). "Parent"
//! means the thread that started it, not the process: whoever starts a child here must wait for it in
//! the same thread. The keeper does, which is what makes this independent of how the async runtime
//! comes and goes with its threads. Elsewhere there is no such signal; there a server that outlives us
//! is stopped by the next start.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::account::Account;

/// The variables a child sees of ours, if they are set. Everything else stays with us: Postgres would
/// obey a `PGPORT`, and has no business with whatever secrets our environment may hold.
const PASSED_ON: &[&str] = &["PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"];

/// A command for a program of Postgres: run as `account`, in its own process group, which dies with us by `signal`.
pub(crate) fn command(program: &Path, account: &Account, signal: Signal) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // Messages in English, and on macOS Postgres insists on some locale being set.
    command.env("LC_ALL", "C");
    // The folder we were started in may be closed to the server's user.
    command.current_dir("/");
    // Ctrl-C in a terminal goes to a whole group. The server must not get it: we stop it, after our last write.
    command.process_group(0);
    account.apply(&mut command);
    die_with_us(&mut command, signal);
    command
}

#[cfg(target_os = "linux")]
fn die_with_us(command: &mut Command, signal: Signal) {
    use rustix::process::{getpid, getppid, set_parent_process_death_signal};

    let us = getpid();
    let prepare = move || {
        set_parent_process_death_signal(Some(signal))?;
        // We may have died before the kernel knew that the child cares.
        if getppid() == Some(us) { Ok(()) } else { Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error())) }
    };
    // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe things
    // are allowed, as other threads may have held locks at the fork. It makes two system calls through
    // rustix, allocates nothing, locks nothing, and touches no memory but its own two captured words.
    // The standard library runs it after setuid, which matters: a change of user clears the signal.
    #[expect(unsafe_code, reason = "the only way to run code in the child; see SAFETY")]
    unsafe {
        command.pre_exec(prepare);
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_us(_command: &mut Command, _signal: Signal) {}

/// Runs a short-lived program to its end, with `input` on its standard input.
pub(crate) fn run<I: AsRef<OsStr>>(
    program: &Path,
    account: &Account,
    arguments: impl IntoIterator<Item = I>,
    input: &str,
) -> io::Result<Output> {
    // Killed and not asked: what it was making is thrown away.
    let mut command = command(program, account, Signal::KILL);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ended without reading is found out by its exit status.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}

/// A server that runs: it can be signalled from any thread without ever hitting a stranger.
///
/// A process id may be given to somebody else as soon as its process has been waited for. So the keeper
/// looks for the end without taking it, and takes it under the same mutex that signals are sent under.
#[derive(Debug)]
pub(crate) struct Running {
    pid: Pid,
    child: Mutex<Option<Child>>,
}

impl Running {
    pub(crate) fn new(child: Child) -> Self {
        Self { pid: Pid::from_child(&child), child: Mutex::new(Some(child)) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal, unless the process has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if child.is_some() {
            // The one failure that is left, no permission, shows as a server that does not stop.
            let _ = rustix::process::kill_process(self.pid, signal);
        }
    }

    /// Whether the process has ended. Does not take its exit status.
    pub(crate) fn has_ended(&self) -> bool {
        let looked = rustix::process::waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG);
        !matches!(looked, Ok(None) | Err(rustix::io::Errno::INTR))
    }

    /// Waits for the end, in the thread that started the process.
    pub(crate) fn wait(&self) -> io::Result<ExitStatus> {
        let look = || rustix::process::waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        while matches!(look(), Err(rustix::io::Errno::INTR)) {}
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        match child.take() {
            Some(mut child) => child.wait(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
