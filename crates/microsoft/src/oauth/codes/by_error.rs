//! What `error` and `suberror` mean by themselves: Microsoft's rule is to react to these, and the numbers only refine.
//!
//! So this is what decides when no number of an answer is known, and `suberror` also when the number says next to
//! nothing.

use super::words::{
    ADMIN_CONSENT, CHECK_SCOPE, CONSENT_AGAIN, EXCLUDE_US, NEW_LINK, NEW_LINK_AFTER_PASSWORD, NEW_SECRET, NOTHING, REPORT, SET_UP_SERVICE,
    START_AGAIN,
};
use super::{Class, Meaning, TRANSIENT};

struct Row {
    words: &'static [&'static str],
    meaning: Meaning,
}

const fn row(words: &'static [&'static str], class: Class, reason: &'static str, action: &'static str) -> Row {
    Row { words, meaning: Meaning { class, reason, action } }
}

const SUBERRORS: &[Row] = &[
    row(&["consent_required"], Class::Consent, "consent to our app is missing in this tenant", ADMIN_CONSENT),
    row(
        &["user_password_expired"],
        Class::SignInAgain,
        "the password of the account that reads this tenant has expired",
        NEW_LINK_AFTER_PASSWORD,
    ),
    row(&["basic_action", "additional_action"], Class::SignInAgain, "the sign-in service wants something of the user", NEW_LINK),
    row(&["message_only"], Class::SignInAgain, "the sign-in service has a message for the user, who must sign in to read it", NEW_LINK),
    row(&["bad_token", "token_expired"], Class::SignInAgain, "the refresh token has expired or was revoked", NEW_LINK),
    row(
        &["client_mismatch"],
        Class::SignInAgain,
        "the refresh token was given to another app than the one that this tenant is reached with",
        "you: check the app of this tenant and its client_id; then the owner of the account: sign in again through a new link, made with: tocsin tenant invite {tenant}",
    ),
    row(
        &["protection_policy_required"],
        Class::Policy,
        "an app protection policy of the customer demands a managed app, which a server is not",
        EXCLUDE_US,
    ),
    row(
        &["device_authentication_failed"],
        Class::Policy,
        "a policy of the customer demands a registered device, which a server is not",
        EXCLUDE_US,
    ),
];

const ERRORS: &[Row] = &[
    row(
        &["invalid_grant", "interaction_required", "login_required", "bad_token"],
        Class::SignInAgain,
        "the sign-in service no longer accepts the refresh token",
        NEW_LINK,
    ),
    row(&["consent_required"], Class::Consent, "consent to our app is missing in this tenant", ADMIN_CONSENT),
    row(&["access_denied"], Class::Consent, "access was denied", ADMIN_CONSENT),
    row(&["authorization_declined"], Class::Consent, "the sign-in with the device code was declined", START_AGAIN),
    row(&["invalid_resource"], Class::Consent, "the service that is to be read is not there in this tenant", SET_UP_SERVICE),
    row(&["invalid_client"], Class::Ours, "the credential of our app is not accepted", NEW_SECRET),
    row(&["unauthorized_client"], Class::Gone, "our app may not sign in to this tenant", CONSENT_AGAIN),
    row(&["invalid_scope"], Class::Malformed, "the scope that was asked for is not valid", CHECK_SCOPE),
    row(&["expired_token", "bad_verification_code"], Class::Malformed, "the device code of this sign-in is no longer good", START_AGAIN),
    row(
        &["invalid_request", "unsupported_grant_type", "unsupported_response_type"],
        Class::Malformed,
        "the sign-in service could not use our request",
        REPORT,
    ),
    row(
        &["temporarily_unavailable", "server_error", "slow_down", "authorization_pending"],
        TRANSIENT,
        "the sign-in service has a passing fault",
        NOTHING,
    ),
];

const UNKNOWN: &Meaning = &Meaning {
    class: TRANSIENT,
    reason: "the sign-in service refused for a reason that we do not know",
    action: "you, if it lasts: look up the code, and open a case at Microsoft with the trace id",
};

/// The meaning of `suberror`, if it is one that says something.
pub(in crate::oauth) fn of_suberror(suberror: &str) -> Option<&'static Meaning> {
    find(SUBERRORS, suberror)
}

/// The meaning of `error` and `suberror` when no code is known.
pub(in crate::oauth) fn of_error(error: &str, suberror: Option<&str>) -> &'static Meaning {
    suberror.and_then(of_suberror).or_else(|| find(ERRORS, error)).unwrap_or(UNKNOWN)
}

fn find(rows: &'static [Row], word: &str) -> Option<&'static Meaning> {
    rows.iter().find(|row| row.words.contains(&word)).map(|row| &row.meaning)
}

/// Whether this `error` may say that a refresh token is dead.
pub(in crate::oauth) fn may_mean_a_dead_token(error: &str) -> bool {
    matches!(error, "invalid_grant" | "interaction_required" | "consent_required" | "login_required" | "bad_token")
}

/// Every word that is known, whether it is a `suberror`, and one that nobody knows.
pub(in crate::oauth) fn every_word() -> impl Iterator<Item = (&'static str, bool, &'static Meaning)> {
    let of =
        |rows: &'static [Row], sub: bool| rows.iter().flat_map(move |row| row.words.iter().map(move |word| (*word, sub, &row.meaning)));
    of(SUBERRORS, true).chain(of(ERRORS, false)).chain([("never_heard_of", false, UNKNOWN)])
}
