//! Every input that a fuzzer has found worth keeping, and every one that once broke something, in each run of the tests.

use std::path::Path;

/// Fewer and somebody has lost the folder; more and it is no longer a folder of what is worth keeping.
const COUNT: std::ops::Range<usize> = 40..200;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut count = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        let data = std::fs::read(&path).unwrap();
        let passed = std::panic::catch_unwind(|| run(&data));
        assert!(passed.is_ok(), "{} breaks a promise", path.display());
        count += 1;
    }
    assert!(COUNT.contains(&count), "{target} has {count} inputs");
}

#[test]
fn pages() {
    replay("split_page", super::split_page);
}

#[test]
fn records() {
    replay("record", super::record);
}

#[test]
fn token_answers() {
    replay("token_answer", super::token_answer);
}

#[test]
fn sign_ins() {
    replay("sign_in", super::sign_in);
}

#[test]
fn waits() {
    replay("retry_after", super::retry_after);
}

#[test]
fn links() {
    replay("next_link", super::next_link);
}

/// A target that notices nothing would pass every corpus.
#[test]
fn a_bug_is_noticed() {
    use domain::rehearsal::Rehearsal;

    Rehearsal::default().bug("foreign-link-followed").begin();
    let noticed = std::panic::catch_unwind(|| super::next_link(b"https://evil.test/x"));
    Rehearsal::end();
    assert!(noticed.is_err());
    super::next_link(b"https://evil.test/x");
}
