//! Waiting for a condition, bounded, in a plain thread.
//!
//! The keeper is a thread without a runtime. Counting steps instead of reading a clock keeps it free
//! of both tokio's clock (which a test may have paused while a real server starts) and of the ambient one.

use std::thread;
use std::time::Duration;

const STEP: Duration = Duration::from_millis(5);

/// Asks `condition` until it holds or about `bound` has passed; says whether it came to hold.
pub(crate) fn until(bound: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let steps = bound.as_millis() / STEP.as_millis();
    for _ in 0..steps {
        if condition() {
            return true;
        }
        thread::sleep(STEP);
    }
    condition()
}
