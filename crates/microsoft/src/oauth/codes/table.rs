//! The table: every AADSTS number that is known, with its class and its sentences. To be read as one.

use super::words::{
    ADMIN_CONSENT, CHECK_SCOPE, CONSENT_AGAIN, EXCLUDE_US, FIX_REGISTRATION, NEW_LINK, NEW_LINK_AFTER_MFA, NEW_LINK_AFTER_PASSWORD,
    NEW_SECRET, NOTHING, REPORT, RESTORE_GUEST, RIGHT_CLOUD, SET_UP_SERVICE, START_AGAIN,
};
use super::{Class, Meaning, TRANSIENT, after_minutes};

/// Some numbers that mean the same.
pub(super) struct Row {
    pub(super) codes: &'static [u32],
    pub(super) meaning: Meaning,
}

const fn row(codes: &'static [u32], class: Class, reason: &'static str, action: &'static str) -> Row {
    Row { codes, meaning: Meaning { class, reason, action } }
}

pub(super) const TABLE: &[Row] = &[
    // It passes.
    row(
        &[50196],
        after_minutes(5),
        "the sign-in service believes that we ask in a loop and makes us pause; the refresh token is still good",
        "nothing; we pause. You, if it comes back: see that no second program uses this refresh token",
    ),
    row(&[90055], after_minutes(10), "the sign-in service is throttling this tenant", NOTHING),
    row(
        &[70021, 700_211, 700_212, 700_213],
        Class::Unsettled,
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
    row(
        &[70000],
        Class::SignInAgain,
        "the refresh token is not valid: another sign-in has taken its place, or it came out of a backup and was replaced since",
        NEW_LINK,
    ),
    row(&[70008], Class::SignInAgain, "the refresh token has expired or was revoked", NEW_LINK),
    row(
        &[700_082],
        Class::SignInAgain,
        "the refresh token has expired because it was not used for 90 days",
        "the owner of the account that reads this tenant: sign in again through a new link; if tocsin ran all the time, you: report it, for it should have \
         kept the token alive. You make the link with: tocsin tenant invite {tenant}",
    ),
    row(
        &[700_084],
        Class::SignInAgain,
        "the refresh token was made for a web page and lived for a day only",
        "you: register the redirect address of the app as type Web instead of single-page application; then the owner of the account: sign in again through a \
         new link, made with: tocsin tenant invite {tenant}",
    ),
    row(
        &[70043],
        Class::SignInAgain,
        "a sign-in frequency policy of the customer ended the refresh token",
        "the owner of the account that reads this tenant: sign in again through a new link; if it happens again, the customer's administrator: exclude the \
         account from that policy, or let the app use its own permissions. You make the link with: tocsin tenant invite {tenant}",
    ),
    row(
        &[50173],
        Class::SignInAgain,
        "the refresh token was revoked: an administrator or the user ended all sessions, or an older copy of it was used, as after a restore",
        NEW_LINK,
    ),
    row(&[50132, 50133], Class::SignInAgain, "the session has ended because the password changed or expired", NEW_LINK),
    row(&[50085, 50089], Class::SignInAgain, "the sign-in that the refresh token came from is no longer good", NEW_LINK),
    row(&[50055, 50144], Class::SignInAgain, "the password of the account that reads this tenant has expired", NEW_LINK_AFTER_PASSWORD),
    row(&[50126, 50056], Class::SignInAgain, "the account that reads this tenant could not prove who it is", NEW_LINK),
    row(&[50076, 50074], Class::SignInAgain, "the customer now demands a second factor", NEW_LINK_AFTER_MFA),
    row(&[50078], Class::SignInAgain, "the second factor was answered too long ago", NEW_LINK_AFTER_MFA),
    row(
        &[50079, 50072],
        Class::SignInAgain,
        "the customer now demands a second factor, and the account has none",
        "the owner of the account: set up the second factor, then sign in again through a new link; you make it with: tocsin tenant invite {tenant}",
    ),
    row(&[50158], Class::SignInAgain, "the customer demands a check by another service at sign-in", NEW_LINK_AFTER_MFA),
    // A consent, an assignment or a product is missing.
    row(&[65001], Class::Consent, "nobody in this tenant has consented to our app, or not to all that it now asks for", ADMIN_CONSENT),
    row(&[65004], Class::Consent, "the consent to our app was declined", ADMIN_CONSENT),
    row(&[90094, 90095, 90008], Class::Consent, "an administrator of this tenant must consent to our app", ADMIN_CONSENT),
    row(
        &[50105],
        Class::Consent,
        "the account that reads this tenant is not assigned to our app",
        "the customer's administrator: assign the account to our enterprise app, or switch off that assignment is required; if a new sign-in is needed, you make \
         its link with: tocsin tenant invite {tenant}",
    ),
    row(
        &[650_052],
        Class::Consent,
        "this tenant has not subscribed to the service that is to be read",
        "the customer's administrator: get or renew the Defender licence, then consent through a new link; or you: take this source from the tenant. You make the \
         link with: tocsin tenant invite {tenant}",
    ),
    row(&[500_011, 650_054], Class::Consent, "the service that is to be read does not exist in this tenant", SET_UP_SERVICE),
    row(
        &[90099],
        Class::Consent,
        "our app is not approved for delegated administration in this tenant",
        "you, as the customer's partner: approve the app for this customer through Partner Center; then the link is made with: tocsin tenant invite {tenant}",
    ),
    // The customer's policy.
    row(
        &[50053],
        Class::Policy,
        "the account that reads this tenant is locked, or this host's address is blocked",
        "the customer's administrator: look at the account's sign-in log and unlock it, or allow this host's address; if a new sign-in is needed, you make its \
         link with: tocsin tenant invite {tenant}",
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
        "the customer's administrator: replace security defaults by conditional access, with an exception for the account that reads alerts; if a new sign-in is \
         needed, you make its link with: tocsin tenant invite {tenant}",
    ),
    row(
        &[53011],
        Class::Policy,
        "the account that reads this tenant is marked as risky in its home tenant",
        "the administrator of the account's home tenant: clear the user's risk; if a new sign-in is needed, you make its link with: tocsin tenant invite {tenant}",
    ),
    row(
        &[530_034],
        Class::Policy,
        "delegated administration is blocked because the account is marked as risky in your own tenant",
        "the administrator of your own tenant: clear the user's risk; if a new sign-in is needed, you make its link with: tocsin tenant invite {tenant}",
    ),
    row(
        &[500_212, 500_213],
        Class::Policy,
        "a cross-tenant policy forbids this account in this tenant",
        "the customer's administrator: allow us inbound in the cross-tenant access settings; you: allow the customer outbound in yours. If a new sign-in is \
         needed, you make its link with: tocsin tenant invite {tenant}",
    ),
    // Gone.
    row(
        &[50057],
        Class::Gone,
        "the account that reads this tenant is disabled",
        "the customer's administrator: enable the account again, or confirm that you no longer watch this tenant; if another account is to read it, you make its \
         link with: tocsin tenant invite {tenant}",
    ),
    row(&[50034, 50014, 51004, 16000, 16003], Class::Gone, "the account that reads this tenant is no longer known there", RESTORE_GUEST),
    row(&[50020], Class::Gone, "the account that reads this tenant comes from elsewhere and is no guest there", RESTORE_GUEST),
    row(
        &[700_016, 700_011],
        Class::AppGone,
        "our app is not known in this tenant: it was removed there, or the tenant's cloud or app is wrong here",
        CONSENT_AGAIN,
    ),
    row(
        &[7_000_112, 70001],
        Class::AppGone,
        "our app is disabled in this tenant",
        "the customer's administrator: enable our enterprise app again, or consent anew; if several tenants say so, you: see whether Microsoft disabled the \
         app registration. A new link is made with: tocsin tenant invite {tenant}",
    ),
    row(
        &[90002],
        Class::Gone,
        "this tenant does not exist in this cloud",
        "you: check directory_id and cloud of this tenant; if the customer has closed it, remove it with: tocsin tenant remove {tenant}",
    ),
    row(&[90038, 900_382, 900_432, 90051, 1_000_104], Class::Gone, "this tenant lives in another national cloud", RIGHT_CLOUD),
    // Our app registration and its credential.
    row(&[super::VAGUE], Class::Ours, "the credential of our app is not accepted", NEW_SECRET),
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
        &[700_024, 700_027, 50012, 50013, 500_133, 700_030],
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
    row(&[70011, 28002, 28003, 700_022, 700_023], Class::Malformed, "the scope that was asked for is not valid", CHECK_SCOPE),
    row(
        &[9_002_313, 90014, 900_144, 90013, 90023, 90100, 90102, 900_561],
        Class::Malformed,
        "the sign-in service could not read our request; the stored refresh token may be cut short",
        "you: have the account sign in again through a new link; if that does not help, report this with the log line. The link is made with: tocsin tenant invite {tenant}",
    ),
    row(&[901_002], Class::Malformed, "the sign-in service does not take the parameter resource at this address", REPORT),
    row(&[54005], Class::Malformed, "the code of this sign-in was used already", START_AGAIN),
    row(&[501_481, 50147, 501_491], Class::Malformed, "the proof that belongs to the code of this sign-in is wrong", START_AGAIN),
    row(&[50059, 50128, 90019], Class::Malformed, "the request did not say for which tenant it is", REPORT),
];
