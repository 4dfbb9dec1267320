//! One test per entry: the whole way from the answer as Microsoft writes it to the trouble that a person reads.
//!
//! Numbers, classes and persons are written here a second time, from Microsoft's own list: T passes, R sign in again,
//! C consent, P policy, G gone, F ours, B malformed. The head of `codes.rs` says why some that could be F are G.

use domain::{Ticks, Trouble, Verdict};
use reqwest::header::HeaderMap;

use super::*;
use crate::oauth::MaybeOurs;
use crate::oauth::error::refused;

/// The trouble that comes of an answer with these words.
fn trouble(error: &str, suberror: Option<&str>, codes: &[u32]) -> (Trouble, bool) {
    let answer = serde_json::json!({
        "error": error, "suberror": suberror, "error_codes": codes, "error_description": "words for people, jo@contoso.test",
        "trace_id": "3939d04c-d7ba-42bf-9cb7-1e5854cdce9e", "correlation_id": "a8125194-2dc8-4078-90ba-7b6592a7f231",
        "timestamp": "2026-01-09 02:02:12Z",
    });
    let error = refused(400, &HeaderMap::new(), answer.to_string().as_bytes(), Ticks(0));
    (error.trouble(), error.is_dead_token())
}

fn letter(class: Class) -> char {
    match class {
        Class::Transient { .. } | Class::Unsettled => 'T',
        Class::SignInAgain => 'R',
        Class::Consent => 'C',
        Class::Policy => 'P',
        Class::Gone | Class::AppGone => 'G',
        Class::Ours => 'F',
        Class::Malformed => 'B',
    }
}

/// That this answer has this class, names this person, and keeps the numbers that Microsoft's support asks for.
fn check(error: &str, suberror: Option<&str>, code: Option<u32>, class: char, who: &str) {
    let (trouble, dead) = trouble(error, suberror, code.as_slice());
    let fits = match trouble.verdict {
        Verdict::Retry | Verdict::RetryAfter(_) => class == 'T',
        Verdict::NeedsConsent => matches!(class, 'R' | 'C'),
        Verdict::NeedsCustomer => matches!(class, 'P' | 'G'),
        Verdict::Global => class == 'F',
        Verdict::OurBug => class == 'B',
    };
    assert!(fits, "{:?} is not of class {class}", trouble.verdict);
    assert!(trouble.action.starts_with(who), "{} begins not with {who}", trouble.action);
    let named = code.map_or_else(|| error.to_owned(), |code| format!("AADSTS{code}"));
    assert_eq!(trouble.code, Some(named));
    let trace = trouble.trace.expect("the numbers for support");
    assert_eq!(trace.id.as_deref(), Some("3939d04c-d7ba-42bf-9cb7-1e5854cdce9e"));
    assert_eq!(trace.at, Ticks::parse("2026-01-09T02:02:12Z"));
    assert_eq!(dead, matches!(class, 'R' | 'C') && may_mean_a_dead_token(error));
    let (_, meaning) = meaning(error, suberror, code.as_slice());
    assert_eq!(letter(meaning.class), class);
    check_sentences(meaning, code);
}

/// That the sentences can be shown as they are, and that what the customer causes offers a new link.
fn check_sentences(meaning: &Meaning, code: Option<u32>) {
    let Meaning { reason, action, .. } = meaning;
    for sentence in [reason, action] {
        assert!(!sentence.ends_with('.') && !sentence.contains("  ") && !sentence.contains('\n'), "{sentence}");
    }
    assert!(reason.starts_with(|first: char| first.is_lowercase()), "{reason}");
    assert_eq!(action.matches('{').count(), action.matches("{tenant}").count(), "{action}");
    // A link leads nowhere when the tenant itself is not where we look for it.
    let nowhere = code.is_some_and(|code| [90002, 90038, 900_382, 900_432, 90051, 1_000_104].contains(&code));
    if matches!(letter(meaning.class), 'R' | 'C' | 'P' | 'G') && !nowhere {
        assert!(action.contains("tocsin tenant invite {tenant}"), "{action}");
    }
}

macro_rules! entries {
    ($($name:ident: $code:literal, $error:literal, $class:literal, $who:literal;)+) => {
        $(#[test]
        fn $name() {
            check($error, None, Some($code), $class, $who);
        })+

        const EVERY: &[u32] = &[$($code),+];
    };
}

entries! {
    // Passing
    aadsts_50196: 50196, "invalid_grant", 'T', "nothing";
    aadsts_90055: 90055, "temporarily_unavailable", 'T', "nothing";
    aadsts_90033: 90033, "temporarily_unavailable", 'T', "nothing";
    aadsts_50033: 50033, "temporarily_unavailable", 'T', "nothing";
    aadsts_50087: 50087, "temporarily_unavailable", 'T', "nothing";
    aadsts_50088: 50088, "temporarily_unavailable", 'T', "nothing";
    aadsts_90006: 90006, "temporarily_unavailable", 'T', "nothing";
    aadsts_90012: 90012, "temporarily_unavailable", 'T', "nothing";
    aadsts_90024: 90024, "temporarily_unavailable", 'T', "nothing";
    aadsts_90090: 90090, "temporarily_unavailable", 'T', "nothing";
    aadsts_90091: 90091, "temporarily_unavailable", 'T', "nothing";
    aadsts_50166: 50166, "temporarily_unavailable", 'T', "nothing";
    aadsts_40010: 40010, "temporarily_unavailable", 'T', "nothing";
    aadsts_70021: 70021, "invalid_client", 'T', "nothing";
    aadsts_700211: 700211, "invalid_client", 'T', "nothing";
    aadsts_700212: 700212, "invalid_client", 'T', "nothing";
    aadsts_700213: 700213, "invalid_client", 'T', "nothing";
    aadsts_50000: 50000, "server_error", 'T', "you";
    aadsts_90036: 90036, "server_error", 'T', "you";
    aadsts_90092: 90092, "server_error", 'T', "you";
    aadsts_40008: 40008, "server_error", 'T', "you";
    aadsts_90010: 90010, "server_error", 'T', "you";
    // Again
    aadsts_70000: 70000, "invalid_grant", 'R', "the owner";
    aadsts_70008: 70008, "invalid_grant", 'R', "the owner";
    aadsts_700082: 700082, "invalid_grant", 'R', "the owner";
    aadsts_700084: 700084, "invalid_grant", 'R', "you";
    aadsts_70043: 70043, "invalid_grant", 'R', "the owner";
    aadsts_50173: 50173, "invalid_grant", 'R', "the owner";
    aadsts_50132: 50132, "invalid_grant", 'R', "the owner";
    aadsts_50133: 50133, "invalid_grant", 'R', "the owner";
    aadsts_50085: 50085, "invalid_grant", 'R', "the owner";
    aadsts_50089: 50089, "invalid_grant", 'R', "the owner";
    aadsts_50055: 50055, "invalid_grant", 'R', "the owner";
    aadsts_50144: 50144, "invalid_grant", 'R', "the owner";
    aadsts_50126: 50126, "invalid_grant", 'R', "the owner";
    aadsts_50056: 50056, "invalid_grant", 'R', "the owner";
    aadsts_50076: 50076, "interaction_required", 'R', "the owner";
    aadsts_50074: 50074, "interaction_required", 'R', "the owner";
    aadsts_50078: 50078, "interaction_required", 'R', "the owner";
    aadsts_50079: 50079, "interaction_required", 'R', "the owner";
    aadsts_50072: 50072, "interaction_required", 'R', "the owner";
    aadsts_50158: 50158, "interaction_required", 'R', "the owner";
    // Consent
    aadsts_50105: 50105, "consent_required", 'C', "the customer's administrator";
    aadsts_65001: 65001, "invalid_grant", 'C', "the customer's administrator";
    aadsts_65004: 65004, "consent_required", 'C', "the customer's administrator";
    aadsts_90094: 90094, "consent_required", 'C', "the customer's administrator";
    aadsts_90095: 90095, "consent_required", 'C', "the customer's administrator";
    aadsts_90008: 90008, "consent_required", 'C', "the customer's administrator";
    aadsts_650052: 650052, "consent_required", 'C', "the customer's administrator";
    aadsts_500011: 500011, "invalid_resource", 'C', "the customer's administrator";
    aadsts_650054: 650054, "invalid_resource", 'C', "the customer's administrator";
    aadsts_90099: 90099, "consent_required", 'C', "you";
    // Policy
    aadsts_50053: 50053, "invalid_grant", 'P', "the customer's administrator";
    aadsts_50097: 50097, "interaction_required", 'P', "the customer's administrator";
    aadsts_50155: 50155, "interaction_required", 'P', "the customer's administrator";
    aadsts_50187: 50187, "interaction_required", 'P', "the customer's administrator";
    aadsts_135011: 135011, "interaction_required", 'P', "the customer's administrator";
    aadsts_50131: 50131, "interaction_required", 'P', "the customer's administrator";
    aadsts_53000: 53000, "interaction_required", 'P', "the customer's administrator";
    aadsts_53001: 53001, "interaction_required", 'P', "the customer's administrator";
    aadsts_53002: 53002, "interaction_required", 'P', "the customer's administrator";
    aadsts_530003: 530003, "interaction_required", 'P', "the customer's administrator";
    aadsts_53003: 53003, "interaction_required", 'P', "the customer's administrator";
    aadsts_530032: 530032, "interaction_required", 'P', "the customer's administrator";
    aadsts_530035: 530035, "interaction_required", 'P', "the customer's administrator";
    aadsts_53011: 53011, "interaction_required", 'P', "the administrator";
    aadsts_530034: 530034, "interaction_required", 'P', "the administrator";
    aadsts_500212: 500212, "interaction_required", 'P', "the customer's administrator";
    aadsts_500213: 500213, "interaction_required", 'P', "the customer's administrator";
    // Gone
    aadsts_50057: 50057, "invalid_grant", 'G', "the customer's administrator";
    aadsts_50034: 50034, "invalid_grant", 'G', "the customer's administrator";
    aadsts_50014: 50014, "invalid_grant", 'G', "the customer's administrator";
    aadsts_51004: 51004, "invalid_grant", 'G', "the customer's administrator";
    aadsts_16000: 16000, "interaction_required", 'G', "the customer's administrator";
    aadsts_16003: 16003, "interaction_required", 'G', "the customer's administrator";
    aadsts_50020: 50020, "invalid_grant", 'G', "the customer's administrator";
    aadsts_700016: 700016, "unauthorized_client", 'G', "the customer's administrator";
    aadsts_700011: 700011, "unauthorized_client", 'G', "the customer's administrator";
    aadsts_7000112: 7000112, "unauthorized_client", 'G', "the customer's administrator";
    aadsts_70001: 70001, "unauthorized_client", 'G', "the customer's administrator";
    aadsts_90002: 90002, "invalid_request", 'G', "you";
    aadsts_90038: 90038, "invalid_request", 'G', "you";
    aadsts_900382: 900382, "invalid_request", 'G', "you";
    aadsts_900432: 900432, "invalid_request", 'G', "you";
    aadsts_90051: 90051, "invalid_request", 'G', "you";
    aadsts_1000104: 1000104, "invalid_request", 'G', "you";
    // Ours
    aadsts_70002: 70002, "invalid_client", 'F', "you";
    aadsts_500021: 500021, "invalid_client", 'F', "you";
    aadsts_500022: 500022, "invalid_client", 'F', "you";
    aadsts_650056: 650056, "invalid_client", 'F', "you";
    aadsts_650057: 650057, "invalid_client", 'F', "you";
    aadsts_65005: 65005, "invalid_client", 'F', "you";
    aadsts_50194: 50194, "invalid_client", 'F', "you";
    aadsts_7000215: 7000215, "invalid_client", 'F', "you";
    aadsts_7000222: 7000222, "invalid_client", 'F', "you";
    aadsts_7000218: 7000218, "invalid_client", 'F', "you";
    aadsts_700025: 700025, "invalid_client", 'F', "you";
    aadsts_700024: 700024, "invalid_client", 'F', "you";
    aadsts_700027: 700027, "invalid_client", 'F', "you";
    aadsts_50012: 50012, "invalid_client", 'F', "you";
    aadsts_50013: 50013, "invalid_client", 'F', "you";
    aadsts_500133: 500133, "invalid_client", 'F', "you";
    aadsts_700030: 700030, "invalid_client", 'F', "you";
    aadsts_700229: 700229, "invalid_client", 'F', "you";
    aadsts_50011: 50011, "invalid_client", 'F', "you";
    aadsts_70004: 70004, "invalid_client", 'F', "you";
    aadsts_900971: 900971, "invalid_client", 'F', "you";
    // Malformed
    aadsts_70011: 70011, "invalid_scope", 'B', "you";
    aadsts_28002: 28002, "invalid_scope", 'B', "you";
    aadsts_28003: 28003, "invalid_scope", 'B', "you";
    aadsts_700022: 700022, "invalid_scope", 'B', "you";
    aadsts_700023: 700023, "invalid_scope", 'B', "you";
    aadsts_9002313: 9002313, "invalid_request", 'B', "you";
    aadsts_90014: 90014, "invalid_request", 'B', "you";
    aadsts_900144: 900144, "invalid_request", 'B', "you";
    aadsts_90013: 90013, "invalid_request", 'B', "you";
    aadsts_90023: 90023, "invalid_request", 'B', "you";
    aadsts_90100: 90100, "invalid_request", 'B', "you";
    aadsts_90102: 90102, "invalid_request", 'B', "you";
    aadsts_900561: 900561, "invalid_request", 'B', "you";
    aadsts_901002: 901002, "invalid_request", 'B', "the makers";
    aadsts_54005: 54005, "invalid_grant", 'B', "you";
    aadsts_501481: 501481, "invalid_grant", 'B', "you";
    aadsts_50147: 50147, "invalid_request", 'B', "you";
    aadsts_501491: 501491, "invalid_request", 'B', "you";
    aadsts_50059: 50059, "invalid_request", 'B', "the makers";
    aadsts_50128: 50128, "invalid_request", 'B', "the makers";
    aadsts_90019: 90019, "invalid_request", 'B', "the makers";
}

macro_rules! words {
    ($($name:ident: $error:literal, $suberror:expr, $class:literal, $who:literal;)+) => {
        $(#[test]
        fn $name() {
            check($error, $suberror, None, $class, $who);
        })+

        const EVERY_WORD: &[(&str, Option<&str>)] = &[$(($error, $suberror)),+];
    };
}

words! {
    suberror_consent_required: "invalid_grant", Some("consent_required"), 'C', "the customer's administrator";
    suberror_user_password_expired: "interaction_required", Some("user_password_expired"), 'R', "the owner";
    suberror_basic_action: "interaction_required", Some("basic_action"), 'R', "the owner";
    suberror_additional_action: "interaction_required", Some("additional_action"), 'R', "the owner";
    suberror_message_only: "interaction_required", Some("message_only"), 'R', "the owner";
    suberror_bad_token: "invalid_grant", Some("bad_token"), 'R', "the owner";
    suberror_token_expired: "invalid_grant", Some("token_expired"), 'R', "the owner";
    suberror_client_mismatch: "invalid_grant", Some("client_mismatch"), 'R', "you";
    suberror_protection_policy_required: "invalid_grant", Some("protection_policy_required"), 'P', "the customer's administrator";
    suberror_device_authentication_failed: "invalid_grant", Some("device_authentication_failed"), 'P', "the customer's administrator";
    suberror_of_tomorrow: "invalid_grant", Some("a_word_of_tomorrow"), 'R', "the owner";
    error_invalid_grant: "invalid_grant", None, 'R', "the owner";
    error_interaction_required: "interaction_required", None, 'R', "the owner";
    error_login_required: "login_required", None, 'R', "the owner";
    error_bad_token: "bad_token", None, 'R', "the owner";
    error_consent_required: "consent_required", None, 'C', "the customer's administrator";
    error_access_denied: "access_denied", None, 'C', "the customer's administrator";
    error_authorization_declined: "authorization_declined", None, 'C', "you";
    error_invalid_resource: "invalid_resource", None, 'C', "the customer's administrator";
    error_invalid_client: "invalid_client", None, 'F', "you";
    error_unauthorized_client: "unauthorized_client", None, 'G', "the customer's administrator";
    error_invalid_scope: "invalid_scope", None, 'B', "you";
    error_expired_token: "expired_token", None, 'B', "you";
    error_bad_verification_code: "bad_verification_code", None, 'B', "you";
    error_invalid_request: "invalid_request", None, 'B', "the makers";
    error_unsupported_grant_type: "unsupported_grant_type", None, 'B', "the makers";
    error_unsupported_response_type: "unsupported_response_type", None, 'B', "the makers";
    error_temporarily_unavailable: "temporarily_unavailable", None, 'T', "nothing";
    error_server_error: "server_error", None, 'T', "nothing";
    error_slow_down: "slow_down", None, 'T', "nothing";
    error_authorization_pending: "authorization_pending", None, 'T', "nothing";
    error_of_tomorrow: "never_heard_of", None, 'T', "you";
}

#[test]
fn every_entry_has_its_test_and_no_code_stands_twice() {
    let mut table: Vec<_> = every_code().map(|(code, _)| code).collect();
    let mut tested = EVERY.to_vec();
    table.sort_unstable();
    tested.sort_unstable();
    assert_eq!(table, tested);
    table.dedup();
    assert_eq!(table.len(), tested.len());
    for (word, sub, _) in by_error::every_word() {
        let found =
            EVERY_WORD.iter().any(|(error, suberror)| if sub { *suberror == Some(word) } else { suberror.is_none() && *error == word });
        assert!(found, "{word} has no test");
    }
}

#[test]
fn of_several_codes_the_telling_one_decides() {
    let class = |codes: &[u32]| deciding(codes).map(|(code, meaning)| (code, letter(meaning.class)));
    assert_eq!(class(&[70002, 70008]), Some((70008, 'R')));
    assert_eq!(class(&[70002, 7_000_215]), Some((7_000_215, 'F')));
    assert_eq!(class(&[70002]), Some((70002, 'F')));
    assert_eq!(class(&[70002, 424_242]), None, "a vague code beside an unknown one leaves it to `error`");
    assert_eq!(class(&[424_242, 53003]), Some((53003, 'P')));
    assert_eq!(class(&[70008, 50196]), Some((50196, 'T')), "waiting costs least");
    assert_eq!(class(&[50076, 53003]), Some((50076, 'R')));
    assert_eq!(class(&[]), None);
    assert_eq!(class(&[424_242]), None);
}

#[test]
fn an_unknown_code_falls_back_to_the_class_of_its_error_and_keeps_its_name_and_trace() {
    for (error, suberror, class) in [
        ("invalid_grant", None, 'R'),
        ("invalid_grant", Some("consent_required"), 'C'),
        ("invalid_grant", Some("protection_policy_required"), 'P'),
        ("invalid_client", None, 'F'),
        ("unauthorized_client", None, 'G'),
        ("invalid_request", None, 'B'),
        ("temporarily_unavailable", None, 'T'),
        ("a_word_of_tomorrow", None, 'T'),
    ] {
        let (code, meaning) = meaning(error, suberror, &[424_242]);
        assert_eq!((code, letter(meaning.class)), (Some(424_242), class), "{error} {suberror:?}");
        let (trouble, _) = trouble(error, suberror, &[424_242]);
        assert_eq!(trouble.code.as_deref(), Some("AADSTS424242"));
        let trace = trouble.trace.unwrap();
        assert!(trace.id.is_some() && trace.at.is_some());
    }
}

#[test]
fn a_suberror_says_more_than_a_number_that_says_next_to_nothing() {
    for (code, suberror, class) in [
        (70000, "device_authentication_failed", 'P'),
        (70000, "consent_required", 'C'),
        (70002, "token_expired", 'R'),
        (70000, "a_word_of_tomorrow", 'R'),
        (700_082, "consent_required", 'R'),
        (50196, "bad_token", 'T'),
    ] {
        let (named, meaning) = meaning("invalid_grant", Some(suberror), &[code]);
        assert_eq!((named, letter(meaning.class)), (Some(code), class), "{code} {suberror}");
    }
}

#[test]
fn what_may_be_our_own_app_says_what_would_settle_it() {
    let of = |code: u32| {
        let answer = serde_json::json!({ "error": "unauthorized_client", "error_codes": [code] });
        refused(400, &HeaderMap::new(), answer.to_string().as_bytes(), Ticks(0))
    };
    for (codes, doubt) in [
        (&[70021, 700_211, 700_212, 700_213][..], Some(MaybeOurs::IfItLasts)),
        (&[7_000_112, 70001, 700_016], Some(MaybeOurs::IfSeveralSaySo)),
        (&[90033, 90002, 7_000_222, 65001, 50057], None),
    ] {
        for code in codes {
            assert_eq!(of(*code).maybe_ours(), doubt, "{code}");
        }
    }
    for (code, doubt) in [(70021, MaybeOurs::IfItLasts), (700_016, MaybeOurs::IfSeveralSaySo)] {
        let settled = doubt.settled(of(code).trouble());
        assert_eq!((settled.verdict, settled.code), (Verdict::Global, Some(format!("AADSTS{code}"))));
        assert!(settled.action.starts_with("you: "), "{}", settled.action);
    }
}
