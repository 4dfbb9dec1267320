//! Answers of the sign-in service, and the errors they become.

use reqwest::header::RETRY_AFTER;

use super::*;
use crate::oauth::codes::every_code;

const NOW: Ticks = Ticks(0);

fn answer(status: u16, body: &str) -> SignInError {
    refused(status, &HeaderMap::new(), body.as_bytes(), NOW)
}

fn answer_after(status: u16, retry_after: &str, body: &str) -> SignInError {
    let headers = HeaderMap::from_iter([(RETRY_AFTER, retry_after.parse().unwrap())]);
    refused(status, &headers, body.as_bytes(), NOW)
}

fn body(error: &str, codes: &[u32]) -> String {
    format!(r#"{{"error":"{error}","error_description":"AADSTS{codes:?}: text for people","error_codes":{codes:?},"trace_id":"t-1"}}"#)
}

#[test]
fn every_code_becomes_its_verdict_whatever_error_stands_beside_it() {
    for (code, meaning) in every_code() {
        for error in ["invalid_grant", "invalid_client", "a_word_of_tomorrow"] {
            let found = answer(400, &body(error, &[code]));
            let verdict = match meaning.class {
                Class::Transient { least: None } | Class::Unsettled => Verdict::Retry,
                Class::Transient { least: Some(least) } => Verdict::RetryAfter(least),
                Class::SignInAgain | Class::Consent => Verdict::NeedsConsent,
                Class::Policy | Class::Gone | Class::AppGone => Verdict::NeedsCustomer,
                Class::Ours => Verdict::Global,
                Class::Malformed => Verdict::OurBug,
            };
            let trouble = found.trouble();
            assert_eq!(trouble.verdict, verdict, "{code} {error}");
            assert_eq!(trouble.code, Some(format!("AADSTS{code}")));
            assert_eq!((trouble.reason.as_str(), trouble.action.as_str()), (meaning.reason, meaning.action));
            assert_eq!(found.is_dead_token(), verdict == Verdict::NeedsConsent && error == "invalid_grant", "{code} {error}");
            assert_eq!((found.trace_id(), found.codes(), found.status()), (Some("t-1"), &[code][..], Some(400)));
            assert_eq!(trouble.trace.unwrap().id.as_deref(), Some("t-1"));
        }
    }
}

#[test]
fn a_loop_that_they_believe_in_is_throttling_and_no_dead_token() {
    let error = answer(400, &body("invalid_grant", &[50196]));
    assert_eq!(error.trouble().verdict, Verdict::RetryAfter(Duration::from_secs(300)));
    assert!(!error.is_dead_token());
    let longer = answer_after(400, "600", &body("invalid_grant", &[50196]));
    assert_eq!(longer.trouble().verdict, Verdict::RetryAfter(Duration::from_secs(600)));
    let shorter = answer_after(400, "1", &body("invalid_grant", &[50196]));
    assert_eq!(shorter.trouble().verdict, Verdict::RetryAfter(Duration::from_secs(300)), "never sooner than helps");
}

#[test]
fn a_dead_token_is_said_by_error_and_code_together() {
    for (error, codes, dead) in [
        ("invalid_grant", &[70008][..], true),
        ("invalid_grant", &[70002, 70008], true),
        ("invalid_grant", &[], true),
        ("invalid_grant", &[424_242], true),
        ("interaction_required", &[50076], true),
        ("consent_required", &[65001], true),
        ("login_required", &[], true),
        ("invalid_grant", &[53003], false),
        ("invalid_grant", &[50057], false),
        ("invalid_grant", &[70021], false),
        ("invalid_client", &[7_000_222], false),
        ("invalid_resource", &[500_011], false),
        ("temporarily_unavailable", &[], false),
    ] {
        assert_eq!(answer(400, &body(error, codes)).is_dead_token(), dead, "{error} {codes:?}");
    }
}

#[test]
fn an_unknown_code_is_named_and_error_decides() {
    let trouble = answer(400, &body("invalid_client", &[424_242])).trouble();
    assert_eq!((trouble.verdict, trouble.code.as_deref()), (Verdict::Global, Some("AADSTS424242")));
    let trouble = answer(401, &body("invalid_client", &[])).trouble();
    assert_eq!((trouble.verdict, trouble.code.as_deref()), (Verdict::Global, Some("invalid_client")));
}

#[test]
fn fault_14_15_throttling_is_believed_in_any_dress() {
    for (retry_after, text, seconds) in [
        (Some("60"), "Too Many Requests", 60),
        (Some("2.128"), "", 3),
        (None, "Too Many Requests", 60),
        (Some("-1"), "", 60),
        (Some("999999"), "", 3600),
        (Some("5"), r#"{"error":"invalid_grant","error_codes":[70008]}"#, 5),
    ] {
        let error = match retry_after {
            Some(wait) => answer_after(429, wait, text),
            None => answer(429, text),
        };
        let Verdict::RetryAfter(wait) = error.trouble().verdict else { panic!("{error}") };
        assert_eq!(wait.as_secs_f64().ceil(), f64::from(seconds), "{retry_after:?}");
        assert!(!error.is_dead_token());
    }
    assert!(answer_after(429, "999999", "").to_string().contains("more than an hour"));
}

#[test]
fn fault_13_16_42_what_is_not_understood_is_tried_again_and_marks_nobody() {
    for (status, text) in [
        (400, ""),
        (400, "<html><body>Sign in to the wireless network</body></html>"),
        (400, r#"{"error":"invalid_grant","error_des"#),
        (400, r#"{"error":{"code":"invalid_grant"}}"#),
        (400, "\u{0}\u{0}"),
        (403, "<html>blocked by the proxy</html>"),
        (404, "not found"),
        (302, ""),
        (204, ""),
        (500, r#"{"error":"invalid_grant","error_codes":[70008]}"#),
        (502, "<html>"),
        (503, r#"{"error":"temporarily_unavailable"}"#),
        (408, ""),
    ] {
        let error = answer(status, text);
        assert_eq!(error.trouble().verdict, Verdict::Retry, "{status} {text}");
        assert!(!error.is_dead_token());
        assert_eq!(error.trouble().code, Some(format!("http-{status}")));
    }
    let trouble = answer_after(503, "7", "").trouble();
    assert_eq!(trouble.verdict, Verdict::RetryAfter(Duration::from_secs(7)));
}

#[test]
fn the_log_line_has_what_support_asks_for_and_no_description() {
    let error = answer(
        400,
        r#"{"error":"invalid_grant","error_description":"AADSTS700082: jo@contoso.test","error_codes":[700082],"suberror":"token_expired",
            "timestamp":"2026-01-09 02:02:12Z","trace_id":"tr-1","correlation_id":"co-1"}"#,
    );
    assert_eq!(
        error.to_string(),
        "the refresh token has expired because it was not used for 90 days (code AADSTS700082, error invalid_grant, suberror token_expired, \
         trace id tr-1, correlation id co-1, at 2026-01-09T02:02:12Z)"
    );
    assert!(!format!("{error:?}").contains("contoso"));
}

#[test]
fn a_refusal_that_came_through_the_browser_is_judged_by_its_numbers() {
    for (error, description, verdict, code) in [
        ("access_denied", Some("AADSTS65004: declined.\r\nTrace ID: 3939d04c-d7ba\r\nTimestamp: x"), Verdict::NeedsConsent, "AADSTS65004"),
        ("consent_required", Some("AADSTS90094: an administrator"), Verdict::NeedsConsent, "AADSTS90094"),
        ("access_denied", None, Verdict::NeedsConsent, "access_denied"),
        ("temporarily_unavailable", None, Verdict::Retry, "temporarily_unavailable"),
        ("<script>", Some("<script>"), Verdict::Retry, "unknown"),
    ] {
        let error = SignInError::of_redirect(error, description);
        let trouble = error.trouble();
        assert_eq!((trouble.verdict, trouble.code.as_deref()), (verdict, Some(code)));
        assert!(!error.is_dead_token() && !error.to_string().contains("script"));
        assert!(!error.outside().contains(code));
    }
    assert_eq!(SignInError::of_redirect("x", Some("AADSTS65004: y Trace ID: 3939d04c-d7ba z")).trace_id(), Some("3939d04c-d7ba"));
}
