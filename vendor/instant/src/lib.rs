//! std's clock types under the name that `backoff` 0.4 imports, so that the unmaintained crate `instant` is not built.

pub use std::time::{Duration, Instant, SystemTime, SystemTimeError, UNIX_EPOCH};
