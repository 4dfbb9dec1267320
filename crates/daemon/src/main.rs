//! The executable `tocsin`: everything is in the library, so that tests can reach it.

use std::process::ExitCode;

/// The static program brings its own, chosen by `./dev bench ingest_alone`: decision 0012.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    daemon::main()
}
