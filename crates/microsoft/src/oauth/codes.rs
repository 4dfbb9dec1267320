//! What each sign-in error means, and who must do what. A table, to be read as one.
//!
//! The sentences are read by the people of a security provider at three in the morning: the reason says
//! what happened, the action begins with who must act ("you" are they), and neither needs a manual.
//!
//! Two numbers are filed under the tenant although the fault is on our side of the fence: a tenant that
//! lives in another national cloud, and an app that one tenant does not know. As faults of the app they
//! would raise an alarm for every customer, where one line of one customer is wrong.

use std::time::Duration;

/// Who is at fault, and so what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It passes. `least` is the shortest wait that helps.
    Transient { least: Option<Duration> },
    /// The refresh token is dead, or its user must do something.
    SignInAgain,
    /// A consent, an assignment or a product is missing.
    Consent,
    /// The customer's policy blocks us.
    Policy,
    /// The user, the app or the tenant is gone.
    Gone,
    /// Our app registration or its credential.
    Ours,
    /// We sent something wrong.
    Malformed,
}

/// What an error means.
#[derive(Debug)]
pub(super) struct Meaning {
    pub(super) class: Class,
    pub(super) reason: &'static str,
    pub(super) action: &'static str,
}

struct Row {
    codes: &'static [u32],
    meaning: Meaning,
}

const fn row(codes: &'static [u32], class: Class, reason: &'static str, action: &'static str) -> Row {
    Row { codes, meaning: Meaning { class, reason, action } }
}

const TRANSIENT: Class = Class::Transient { least: None };

const fn after_minutes(minutes: u64) -> Class {
    Class::Transient { least: Some(Duration::from_secs(minutes * 60)) }
}

/// "Credentials are wrong" says nothing that a second code does not say better.
const VAGUE: u32 = 70002;

const NOTHING: &str = "nothing; we try again by ourselves";
const NEW_TOKEN: &str = "you: sign in again with the account that reads this tenant and import the new refresh token (tocsin tenant import FILE --replace-token)";
const NEW_TOKEN_AFTER_MFA: &str = "you: sign in again with the account that reads this tenant, answer its second factor, and import the new refresh token \
                                   (tocsin tenant import FILE --replace-token)";
const EXCLUDE_US: &str = "the customer: an administrator excludes the account that reads alerts from this conditional access policy, or allows this host's address; \
                          or you: move this tenant to an app with its own permissions (grant = \"client_credentials\")";
const RESTORE_GUEST: &str = "the customer: an administrator invites the account again, or confirms that you no longer watch this tenant; then you: import a new refresh \
                             token, or remove the tenant (tocsin tenant remove)";
const NEW_SECRET: &str = "you: make a new client secret of this app registration and put its value (not its id) into client_secret_file";
const FIX_REGISTRATION: &str = "you: correct the app registration in your own tenant";
const ADMIN_CONSENT: &str = "the customer: an administrator opens the consent link of our app and accepts";
const REPORT: &str = "the makers of tocsin: report this with the log line; meanwhile the alerts wait at Microsoft";
const RIGHT_CLOUD: &str = "you: correct the cloud of this tenant in the import file and import it again";

const TABLE: &[Row] = &[
    // It passes.
    row(
        &[50196],
        after_minutes(5),
        "the sign-in service believes that we ask in a loop and makes us pause; the refresh token is still good",
        "nothing; we pause. You, if it comes back: see that no second program uses this refresh token",
    ),
    row(&[90055], after_minutes(10), "the sign-in service is throttling this tenant", NOTHING),
    row(
        &[70021],
        TRANSIENT,
        "the federated credential of our app is not known there yet",
        "nothing for ten minutes after it was set up; then you: compare issuer, subject and audience with the app registration",
    ),
    row(
        &[90033, 50033, 50087, 50088, 90006, 90012, 90024, 90090, 90091, 50166, 40010],
        TRANSIENT,
        "the sign-in service has a passing fault",
        NOTHING,
    ),
    row(
        &[50000, 90036, 90092, 40008, 90010],
        TRANSIENT,
        "the sign-in service has a fault of its own",
        "you, if it lasts: open a case at Microsoft with the trace id from the log",
    ),
    // The token is dead, or its user must act.
    row(&[70000], Class::SignInAgain, "the refresh token is not valid", NEW_TOKEN),
    row(&[70008], Class::SignInAgain, "the refresh token has expired or was revoked", NEW_TOKEN),
    row(
        &[700_082],
        Class::SignInAgain,
        "the refresh token has expired because it was not used for 90 days",
        "you: sign in again with the account that reads this tenant and import the new refresh token (tocsin tenant import FILE --replace-token); \
         if tocsin ran all the time, report it, for it should have kept the token alive",
    ),
    row(
        &[700_084],
        Class::SignInAgain,
        "the refresh token was made for a web page and lived for a day only",
        "you: register the redirect address of the app as type Web instead of single-page application, sign in again and import the new refresh token",
    ),
    row(
        &[70043],
        Class::SignInAgain,
        "a sign-in frequency policy of the customer ended the refresh token",
        "you: sign in again and import the new refresh token; if it happens again, the customer: exclude the account from that policy, or let the app \
         use its own permissions",
    ),
    row(&[50173], Class::SignInAgain, "the refresh token was revoked: an administrator or the user ended all sessions", NEW_TOKEN),
    row(&[50132, 50133], Class::SignInAgain, "the session has ended because the password changed or expired", NEW_TOKEN),
    row(&[50085, 50089], Class::SignInAgain, "the sign-in that the refresh token came from is no longer good", NEW_TOKEN),
    row(
        &[50055, 50144],
        Class::SignInAgain,
        "the password of the account that reads this tenant has expired",
        "the owner of the account: set a new password; then you: sign in again and import the new refresh token",
    ),
    row(&[50126, 50056], Class::SignInAgain, "the account that reads this tenant could not prove who it is", NEW_TOKEN),
    row(&[50076, 50074], Class::SignInAgain, "the customer now demands a second factor", NEW_TOKEN_AFTER_MFA),
    row(&[50078], Class::SignInAgain, "the second factor was answered too long ago", NEW_TOKEN_AFTER_MFA),
    row(
        &[50079, 50072],
        Class::SignInAgain,
        "the customer now demands a second factor, and the account has none",
        "the owner of the account: sign in once and set up the second factor; then you: import the new refresh token",
    ),
    row(&[50158], Class::SignInAgain, "the customer demands a check by another service at sign-in", NEW_TOKEN_AFTER_MFA),
    // A consent, an assignment or a product is missing.
    row(&[65001], Class::Consent, "nobody in this tenant has consented to our app, or not to all that it now asks for", ADMIN_CONSENT),
    row(&[65004], Class::Consent, "the consent to our app was declined", ADMIN_CONSENT),
    row(&[90094, 90095, 90008], Class::Consent, "an administrator of this tenant must consent to our app", ADMIN_CONSENT),
    row(
        &[50105],
        Class::Consent,
        "the account that reads this tenant is not assigned to our app",
        "the customer: an administrator assigns the account to our enterprise app, or switches off that assignment is required",
    ),
    row(
        &[650_052],
        Class::Consent,
        "this tenant has not subscribed to the service that is to be read",
        "the customer: get or renew the Defender licence; or you: take this source from the tenant",
    ),
    row(
        &[500_011, 650_054],
        Class::Consent,
        "the service that is to be read does not exist in this tenant",
        "the customer: an administrator opens the Defender portal once so that the service is set up; or you: take this source from the tenant",
    ),
    row(
        &[90099],
        Class::Consent,
        "our app is not approved for delegated administration in this tenant",
        "you: approve the app for this customer through Partner Center",
    ),
    // The customer's policy.
    row(
        &[50053],
        Class::Policy,
        "the account that reads this tenant is locked, or this host's address is blocked",
        "the customer: an administrator looks at the account's sign-in log and unlocks it, or allows this host's address",
    ),
    row(
        &[50097, 50155, 50187, 135_011],
        Class::Policy,
        "a policy of the customer demands a registered device, which a server is not",
        EXCLUDE_US,
    ),
    row(&[50131], Class::Policy, "a conditional access policy of the customer took us for suspicious", EXCLUDE_US),
    row(
        &[53000, 53001, 53002, 530_003],
        Class::Policy,
        "a conditional access policy of the customer demands a managed device, which a server is not",
        EXCLUDE_US,
    ),
    row(&[53003, 530_032], Class::Policy, "a conditional access policy of the customer blocks us", EXCLUDE_US),
    row(
        &[530_035],
        Class::Policy,
        "the security defaults of the customer block us",
        "the customer: an administrator replaces security defaults by conditional access, with an exception for the account that reads alerts",
    ),
    row(
        &[53011],
        Class::Policy,
        "the account that reads this tenant is marked as risky in its home tenant",
        "the administrator of the account's home tenant: clear the user's risk; then you: sign in again if need be",
    ),
    row(
        &[530_034],
        Class::Policy,
        "delegated administration is blocked because the account is marked as risky in your own tenant",
        "you: an administrator of your own tenant clears the user's risk",
    ),
    row(
        &[500_212, 500_213],
        Class::Policy,
        "a cross-tenant policy forbids this account in this tenant",
        "you and the customer: allow each other in the cross-tenant access settings, outbound in yours and inbound in theirs",
    ),
    // Gone.
    row(
        &[50057],
        Class::Gone,
        "the account that reads this tenant is disabled",
        "the customer: an administrator enables the account again, or confirms that you no longer watch this tenant",
    ),
    row(&[50034, 50014, 51004, 16000, 16003], Class::Gone, "the account that reads this tenant is no longer known there", RESTORE_GUEST),
    row(&[50020], Class::Gone, "the account that reads this tenant comes from elsewhere and is no guest there", RESTORE_GUEST),
    row(
        &[700_016, 700_011],
        Class::Gone,
        "our app is not known in this tenant: it was removed there, or the tenant's cloud or app is wrong here",
        "the customer: consent to our app again; or you: correct the cloud or the app of this tenant",
    ),
    row(
        &[7_000_112, 70001],
        Class::Gone,
        "our app is disabled in this tenant",
        "the customer: an administrator enables our enterprise app again; if all tenants say so, you: see whether Microsoft disabled the app registration",
    ),
    row(
        &[90002],
        Class::Gone,
        "this tenant does not exist in this cloud",
        "you: check directory_id and cloud of this tenant; if the customer has closed it, remove it (tocsin tenant remove)",
    ),
    row(&[90038, 900_382, 900_432, 90051, 1_000_104], Class::Gone, "this tenant lives in another national cloud", RIGHT_CLOUD),
    // Our app registration and its credential.
    row(&[VAGUE], Class::Ours, "the credential of our app is not accepted", NEW_SECRET),
    row(&[7_000_215], Class::Ours, "the client secret of our app is wrong", NEW_SECRET),
    row(&[7_000_222], Class::Ours, "the client secret of our app has expired", NEW_SECRET),
    row(
        &[7_000_218],
        Class::Ours,
        "our app is registered as one with a credential, and none was sent",
        "you: give this app a credential: client_secret_file, certificate_file with private_key_file, or federated_token_file",
    ),
    row(
        &[700_025],
        Class::Ours,
        "our app is registered as one without a credential, and one was sent",
        "you: remove the credential of this app (client_secret_file and its like), or register its redirect address as type Web",
    ),
    row(
        &[700_027, 50012, 50013, 500_133, 700_030],
        Class::Ours,
        "the certificate or the signature of our app is not accepted",
        "you: check this machine's clock first, then whether the certificate is the one of the app registration and has not expired",
    ),
    row(&[700_229], Class::Ours, "the federated credential of our app sends a token of the wrong kind", FIX_REGISTRATION),
    row(
        &[500_021, 500_022],
        Class::Ours,
        "a proxy between us and Microsoft restricts which tenants may be reached",
        "you: let this host's sign-in calls pass the proxy without a tenant restriction header",
    ),
    row(
        &[650_056, 650_057, 65005],
        Class::Ours,
        "our app registration does not ask for the permission that is needed",
        "you: add the permission to the app registration, then the customers: consent again",
    ),
    row(
        &[50194],
        Class::Ours,
        "our app is registered for its own tenant only",
        "you: set the app registration to accounts in any organizational directory",
    ),
    row(&[50011, 70004, 900_971], Class::Ours, "the redirect address does not match the app registration", FIX_REGISTRATION),
    // We sent something wrong.
    row(
        &[70011, 28002, 28003, 700_022, 700_023],
        Class::Malformed,
        "the scope that was asked for is not valid",
        "you: check graph_scope and defender_scope of this cloud in the configuration",
    ),
    row(
        &[9_002_313, 90014, 900_144, 90013, 90023, 90100, 90102, 900_561],
        Class::Malformed,
        "the sign-in service could not read our request; the stored refresh token may be cut short",
        "you: import the refresh token again (tocsin tenant import FILE --replace-token); if that does not help, report this with the log line",
    ),
    row(&[901_002], Class::Malformed, "the sign-in service does not take the parameter resource at this address", REPORT),
    row(&[54005], Class::Malformed, "the code of this sign-in was used already", "you: start the consent again"),
    row(
        &[501_481, 50147, 501_491],
        Class::Malformed,
        "the proof that belongs to the code of this sign-in is wrong",
        "you: start the consent again",
    ),
    row(&[50059, 50128, 90019], Class::Malformed, "the request did not say for which tenant it is", REPORT),
];

/// The code that decides, with its meaning; `None` when none is known.
///
/// Passing trouble among several codes wins, since waiting costs least; a vague one loses.
pub(super) fn deciding(codes: &[u32]) -> Option<(u32, &'static Meaning)> {
    let known: Vec<_> = codes.iter().filter_map(|code| Some((*code, of_code(*code)?))).collect();
    let passing = known.iter().find(|(_, meaning)| matches!(meaning.class, Class::Transient { .. }));
    let telling = known.iter().find(|(code, _)| *code != VAGUE);
    // The vague code decides only when it stands alone: beside one that we do not know, `error` does.
    let alone = known.first().filter(|_| codes.len() == 1);
    passing.or(telling).or(alone).copied()
}

fn of_code(code: u32) -> Option<&'static Meaning> {
    TABLE.iter().find(|row| row.codes.contains(&code)).map(|row| &row.meaning)
}

/// Whether this `error` may say that a refresh token is dead.
pub(super) fn may_mean_a_dead_token(error: &str) -> bool {
    matches!(error, "invalid_grant" | "interaction_required" | "consent_required" | "login_required" | "bad_token")
}

/// The meaning of `error` and `suberror` when no code is known.
pub(super) fn of_error(error: &str, suberror: Option<&str>) -> &'static Meaning {
    const AGAIN: &Meaning =
        &Meaning { class: Class::SignInAgain, reason: "the sign-in service no longer accepts the refresh token", action: NEW_TOKEN };
    const CONSENT: &Meaning =
        &Meaning { class: Class::Consent, reason: "consent to our app is missing in this tenant", action: ADMIN_CONSENT };
    const POLICY: &Meaning = &Meaning { class: Class::Policy, reason: "a policy of the customer blocks us", action: EXCLUDE_US };
    const DENIED: &Meaning = &Meaning { class: Class::Consent, reason: "access was denied", action: ADMIN_CONSENT };
    const NO_RESOURCE: &Meaning = &Meaning {
        class: Class::Consent,
        reason: "the service that is to be read is not there in this tenant",
        action: "the customer: an administrator sets the service up; or you: take this source from the tenant",
    };
    const CLIENT: &Meaning = &Meaning { class: Class::Ours, reason: "the credential of our app is not accepted", action: NEW_SECRET };
    const NOT_HERE: &Meaning = &Meaning {
        class: Class::Gone,
        reason: "our app may not sign in to this tenant",
        action: "the customer: consent to our app again; or you: correct the app or the cloud of this tenant",
    };
    const REQUEST: &Meaning = &Meaning { class: Class::Malformed, reason: "the sign-in service could not use our request", action: REPORT };
    const SCOPE: &Meaning = &Meaning {
        class: Class::Malformed,
        reason: "the scope that was asked for is not valid",
        action: "you: check graph_scope and defender_scope of this cloud in the configuration",
    };
    const PASSING: &Meaning = &Meaning { class: TRANSIENT, reason: "the sign-in service has a passing fault", action: NOTHING };
    const UNKNOWN: &Meaning = &Meaning {
        class: TRANSIENT,
        reason: "the sign-in service refused for a reason that we do not know",
        action: "you, if it lasts: look up the code, and open a case at Microsoft with the trace id from the log",
    };
    match suberror {
        Some("consent_required") => return CONSENT,
        Some("protection_policy_required" | "device_authentication_failed") => return POLICY,
        _ => {}
    }
    match error {
        "invalid_grant" | "interaction_required" | "login_required" | "bad_token" => AGAIN,
        "consent_required" => CONSENT,
        "access_denied" => DENIED,
        "invalid_resource" => NO_RESOURCE,
        "invalid_client" => CLIENT,
        "unauthorized_client" => NOT_HERE,
        "invalid_scope" => SCOPE,
        "invalid_request" | "unsupported_grant_type" | "unsupported_response_type" => REQUEST,
        "temporarily_unavailable" | "server_error" | "slow_down" => PASSING,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
pub(super) fn every_code() -> impl Iterator<Item = (u32, &'static Meaning)> {
    TABLE.iter().flat_map(|row| row.codes.iter().map(|code| (*code, &row.meaning)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number of the reference and its class there, written a second time: T passes, R sign in
    /// again, C consent, P policy, G gone, F ours, B malformed. The head of this file says why some that
    /// are F there are G here.
    const EXPECTED: &[(char, &[u32])] = &[
        ('T', &[50196, 90055, 90033, 50033, 50087, 50088, 90006, 90012, 90024, 90090, 90091, 50166, 40010, 70021]),
        ('T', &[50000, 90036, 90092, 40008, 90010]),
        ('R', &[70000, 70008, 700082, 700084, 70043, 50173, 50132, 50133, 50085, 50089, 50055, 50144, 50126, 50056]),
        ('R', &[50076, 50074, 50078, 50079, 50072, 50158]),
        ('C', &[50105, 65001, 65004, 90094, 90095, 90008, 650052, 500011, 650054, 90099]),
        ('P', &[50053, 50097, 50155, 50187, 135011, 50131, 53000, 53001, 53002, 530003, 53003, 530032, 530035, 53011, 530034]),
        ('P', &[500212, 500213]),
        ('G', &[50057, 50034, 50014, 51004, 16000, 16003, 50020, 700016, 700011, 7000112, 70001, 90002]),
        ('G', &[90038, 900382, 900432, 90051, 1000104]),
        ('F', &[70002, 500021, 500022, 650056, 650057, 65005, 50194, 7000215, 7000222, 7000218, 700025]),
        ('F', &[700027, 50012, 50013, 500133, 700030, 700229, 50011, 70004, 900971]),
        ('B', &[70011, 28002, 28003, 700022, 700023, 9002313, 90014, 900144, 90013, 90023, 90100, 90102, 900561, 901002]),
        ('B', &[54005, 501481, 50147, 501491, 50059, 50128, 90019]),
    ];

    fn letter(class: Class) -> char {
        match class {
            Class::Transient { .. } => 'T',
            Class::SignInAgain => 'R',
            Class::Consent => 'C',
            Class::Policy => 'P',
            Class::Gone => 'G',
            Class::Ours => 'F',
            Class::Malformed => 'B',
        }
    }

    #[test]
    fn every_code_of_the_reference_has_its_class_and_no_code_has_two() {
        let mut table: Vec<_> = every_code().map(|(code, meaning)| (code, letter(meaning.class))).collect();
        let mut expected: Vec<_> = EXPECTED.iter().flat_map(|(class, codes)| codes.iter().map(|code| (*code, *class))).collect();
        table.sort_unstable();
        expected.sort_unstable();
        assert_eq!(table, expected);
        table.dedup_by_key(|(code, _)| *code);
        assert_eq!(table.len(), expected.len());
    }

    #[test]
    fn every_sentence_says_who_must_do_what() {
        let all = ["invalid_grant", "consent_required", "access_denied", "invalid_resource", "invalid_client", "unauthorized_client"];
        let more = ["invalid_scope", "invalid_request", "temporarily_unavailable", "never_heard_of"];
        let by_error = all.into_iter().chain(more).map(|error| of_error(error, None));
        for meaning in every_code().map(|(_, meaning)| meaning).chain(by_error) {
            let Meaning { reason, action, .. } = meaning;
            let who = ["you", "the customer", "the owner", "the administrator", "the makers", "nothing"];
            assert!(who.iter().any(|who| action.starts_with(who)), "{action}");
            for sentence in [reason, action] {
                assert!(!sentence.ends_with('.') && !sentence.contains("  ") && !sentence.contains('\n'), "{sentence}");
            }
            assert!(reason.starts_with(|first: char| first.is_lowercase()), "{reason}");
        }
    }

    #[test]
    fn of_several_codes_the_telling_one_decides() {
        let class = |codes: &[u32]| deciding(codes).map(|(code, meaning)| (code, letter(meaning.class)));
        assert_eq!(class(&[70002, 70008]), Some((70008, 'R')));
        assert_eq!(class(&[70002, 7000215]), Some((7000215, 'F')));
        assert_eq!(class(&[70002]), Some((70002, 'F')));
        assert_eq!(class(&[70002, 424242]), None, "a vague code beside an unknown one leaves it to `error`");
        assert_eq!(class(&[424242, 53003]), Some((53003, 'P')));
        assert_eq!(class(&[70008, 50196]), Some((50196, 'T')), "waiting costs least");
        assert_eq!(class(&[50076, 53003]), Some((50076, 'R')));
        assert_eq!(class(&[]), None);
        assert_eq!(class(&[424242]), None);
    }

    #[test]
    fn an_unknown_code_leaves_it_to_error_and_suberror() {
        for (error, suberror, class) in [
            ("invalid_grant", None, 'R'),
            ("invalid_grant", Some("bad_token"), 'R'),
            ("invalid_grant", Some("token_expired"), 'R'),
            ("invalid_grant", Some("consent_required"), 'C'),
            ("invalid_grant", Some("protection_policy_required"), 'P'),
            ("invalid_grant", Some("device_authentication_failed"), 'P'),
            ("interaction_required", Some("basic_action"), 'R'),
            ("interaction_required", Some("message_only"), 'R'),
            ("interaction_required", Some("additional_action"), 'R'),
            ("interaction_required", Some("user_password_expired"), 'R'),
            ("login_required", None, 'R'),
            ("bad_token", None, 'R'),
            ("consent_required", None, 'C'),
            ("access_denied", None, 'C'),
            ("invalid_resource", None, 'C'),
            ("invalid_client", None, 'F'),
            ("unauthorized_client", None, 'G'),
            ("invalid_request", None, 'B'),
            ("unsupported_grant_type", None, 'B'),
            ("invalid_scope", None, 'B'),
            ("temporarily_unavailable", None, 'T'),
            ("server_error", None, 'T'),
            ("a_word_of_tomorrow", None, 'T'),
        ] {
            assert_eq!(letter(of_error(error, suberror).class), class, "{error} {suberror:?}");
        }
    }
}
