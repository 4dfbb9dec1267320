//! What this process keeps from the machine it runs on: its memory (I13).
//!
//! Refresh tokens and keys are in it for moments, and a core file would keep such a moment for ever. So no command of
//! `tocsin` leaves one, whatever limits and patterns the machine has; and no other process of the same user can attach to
//! it or read its memory or its environment through `/proc`. A debugger needs root for it.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Begins before anything secret is read; lasts as long as the process. What it starts, such as the embedded Postgres,
/// inherits that there are no core files.
///
/// # Errors
/// When a filter of system calls forbids it.
pub(crate) fn begin() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // Where cores are piped to a collector nobody asks for the limit, but for this.
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}
