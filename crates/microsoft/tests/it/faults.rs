//! Which faults of the catalogue (`invariants.md`, section 4) this crate has to bear, and the tests that hold it to that.
//!
//! A test that stages a fault has its number in its name (`fault_05_…`, `fault_14_15_…`). What a fault means for
//! cursor, database and tenant is held elsewhere; here it is that each becomes the right error with the right verdict,
//! or no error at all.

use std::collections::BTreeSet;
use std::path::Path;

/// Number, fault, where it is staged: files of this crate, without the ending.
const FAULTS: &[(u8, &str, &[&str])] = &[
    (1, "connect refused", &["tests/it/alerts", "tests/it/sign_in"]),
    (2, "connect timeout", &["tests/it/network"]),
    (3, "DNS failure", &["tests/it/network"]),
    (4, "DNS answer changes", &["tests/it/network"]),
    (5, "TLS expired", &["tests/it/network"]),
    (6, "TLS wrong name", &["tests/it/network"]),
    (7, "TLS unknown CA", &["tests/it/network"]),
    (8, "reset mid-headers", &["tests/it/network"]),
    (9, "reset mid-body", &["tests/it/network"]),
    (10, "trickle", &["tests/it/alerts", "tests/it/sign_in"]),
    (11, "body shorter than Content-Length", &["tests/it/alerts", "tests/it/sign_in"]),
    (12, "gzip bomb", &["tests/it/alerts", "tests/it/answers"]),
    (13, "200 with HTML", &["tests/it/alerts", "tests/it/sign_in", "src/oauth/error/tests"]),
    (14, "429 with seconds", &["tests/it/answers", "tests/it/sign_in", "src/oauth/error/tests", "src/alerts/refusal/tests"]),
    (15, "429 with a date, negative, absurd or missing Retry-After", &["tests/it/answers", "src/throttle", "src/oauth/error/tests"]),
    (16, "503 bursts", &["tests/it/answers", "src/oauth/error/tests", "src/alerts/refusal/tests"]),
    (17, "500 on page N only", &["tests/it/answers"]),
    (18, "skip token expired", &["tests/it/answers", "src/alerts/refusal/tests"]),
    (19, "nextLink to other host", &["tests/it/links", "src/query"]),
    (20, "nextLink loop", &["tests/it/answers"]),
    (26, "id case change", &["src/extract/tests"]),
    (27, "missing fields, nulls, new enum values", &["src/extract/tests"]),
    (28, "duplicate keys", &["src/extract/tests"]),
    (29, "NUL, lone surrogate, invalid UTF-8", &["src/extract/tests", "tests/it/alerts"]),
    (30, "depth 10,000", &["src/extract/tests"]),
    (31, "one alert 20 MB", &["src/extract/tests"]),
    (32, "alert id 10 KB", &["src/extract/tests"]),
    (33, "invalid_grant", &["tests/it/sign_in"]),
    (34, "interaction_required, consent_required", &["tests/it/answers"]),
    (35, "invalid_client", &["tests/it/answers"]),
    (36, "new refresh token absent in answer", &["tests/it/answers"]),
    (37, "answer lost after rotation", &["tests/it/answers"]),
    (38, "token for another tenant", &["tests/it/sign_in", "src/oauth/claims"]),
    (39, "scope reduced", &["tests/it/answers"]),
    (40, "expires_in 0, negative, text, huge", &["tests/it/answers", "src/oauth", "src/oauth/wire"]),
    (41, "signing keys rotated or missing", &["tests/it/onboarding"]),
    (42, "temporarily_unavailable", &["tests/it/answers", "src/oauth/error/tests"]),
    (43, "claims challenge", &["src/alerts/refusal/tests"]),
    (72, "egress blocked by a proxy", &["tests/it/network"]),
];

/// The numbers in the names of a file's tests.
fn staged(text: &str) -> BTreeSet<u8> {
    let names = text.match_indices("fn fault_").map(|(at, word)| &text[at + word.len()..]);
    names.flat_map(|name| name.split('_').map_while(|part| (part.len() == 2).then(|| part.parse().ok()).flatten())).collect()
}

#[test]
fn every_fault_has_its_test_and_every_such_test_its_line_in_the_table() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![crate_folder.join("src"), crate_folder.join("tests/it")];
    let mut found = BTreeSet::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let name = path.strip_prefix(crate_folder).unwrap().with_extension("").display().to_string();
        if name == "tests/it/faults" {
            continue;
        }
        found.extend(staged(&std::fs::read_to_string(&path).unwrap()).into_iter().map(|number| (number, name.clone())));
    }
    let promised: BTreeSet<_> =
        FAULTS.iter().flat_map(|(number, _, files)| files.iter().map(|file| (*number, (*file).to_owned()))).collect();
    assert_eq!(found, promised);
    assert_eq!(staged("fn fault_14_15_a_429_is()"), [14, 15].into());
}
