//! What the token endpoint says when it refuses: `error`, an AADSTS number and a text with trace id, correlation
//! id and time, in exactly the shape that clients have to live with.

use crate::answer::Answer;
use crate::json::Json;
use crate::stamp::Stamp;
use uuid::Uuid;

/// A refusal of the token endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) error: String,
    pub(crate) suberror: Option<String>,
    /// Several are possible; the text names all of them.
    pub(crate) codes: Vec<u32>,
    pub(crate) text: String,
}

/// Number, status, `error`, `suberror` and text of the refusals we know by heart.
const KNOWN: &[(u32, u16, &str, &str, &str)] = &[
    (16000, 400, "interaction_required", "", "User account is not present in the tenant and cannot be used here."),
    (50013, 401, "invalid_client", "", "Assertion failed validation."),
    (
        50020,
        400,
        "invalid_grant",
        "",
        "User account from identity provider does not exist in this tenant and cannot access the application in it.",
    ),
    (50027, 400, "invalid_request", "", "Invalid assertion type or token format."),
    (50034, 400, "invalid_grant", "", "The user account does not exist in this directory."),
    (50053, 400, "invalid_grant", "", "The account is locked because of too many attempts."),
    (50055, 400, "invalid_grant", "user_password_expired", "The password is expired."),
    (50057, 400, "invalid_grant", "", "The user account is disabled."),
    (50059, 400, "invalid_request", "", "No tenant-identifying information was found in the request."),
    (50074, 400, "interaction_required", "basic_action", "Strong authentication is required."),
    (
        50076,
        400,
        "interaction_required",
        "basic_action",
        "Due to a configuration change made by your administrator, multi-factor authentication is required.",
    ),
    (50079, 400, "interaction_required", "basic_action", "The user must enroll in multi-factor authentication."),
    (50105, 400, "invalid_grant", "", "The signed in user is not assigned to a role for the application."),
    (50132, 400, "invalid_grant", "", "The session is not valid due to password expiration or recent password change."),
    (50173, 400, "invalid_grant", "bad_token", "The provided grant has expired due to it being revoked, a fresh auth token is needed."),
    (50194, 400, "invalid_request", "", "The application is not configured as a multi-tenant application."),
    (50196, 400, "invalid_grant", "", "The server terminated an operation because it encountered a client request loop."),
    (51004, 400, "invalid_grant", "", "The user account does not exist in the directory."),
    (53000, 400, "interaction_required", "message_only", "The device is not in the required compliant state."),
    (53003, 400, "invalid_grant", "message_only", "Access has been blocked by Conditional Access policies."),
    (54005, 400, "invalid_grant", "", "The authorization code was already redeemed."),
    (
        65001,
        400,
        "invalid_grant",
        "consent_required",
        "The user or administrator has not consented to use the application. Send an interactive authorization request for this user and resource.",
    ),
    (65004, 400, "access_denied", "", "The user declined to consent to access the app."),
    (70000, 400, "invalid_grant", "bad_token", "The provided value for the input parameter 'refresh_token' is not valid."),
    (70003, 400, "unsupported_grant_type", "", "The app requested an unsupported grant type."),
    (
        70008,
        400,
        "invalid_grant",
        "",
        "The provided authorization code or refresh token is expired. Send a new interactive authorization request for this user and resource.",
    ),
    (70011, 400, "invalid_scope", "", "The provided value for the input parameter 'scope' is not valid."),
    (70016, 400, "authorization_pending", "", "OAuth 2.0 device flow error. Authorization is pending. Continue polling."),
    (70018, 400, "bad_verification_code", "", "Invalid verification code."),
    (70020, 400, "expired_token", "", "The provided value for the device code has expired."),
    (70021, 400, "invalid_request", "", "No matching federated identity record found for presented assertion."),
    (
        70043,
        400,
        "invalid_grant",
        "bad_token",
        "The refresh token has expired or is invalid due to sign-in frequency checks by Conditional Access.",
    ),
    (
        90002,
        400,
        "invalid_request",
        "",
        "Tenant was not found. Check that you have the correct tenant ID and are signing into the correct cloud.",
    ),
    (90014, 400, "invalid_request", "", "A required field is missing."),
    (90023, 400, "invalid_request", "", "The request is malformed."),
    (90033, 503, "temporarily_unavailable", "", "A transient error has occurred. Please try again."),
    (90055, 400, "temporarily_unavailable", "", "The tenant is currently blocked from sending further requests."),
    (90094, 400, "consent_required", "", "Administrator consent is required."),
    (500011, 400, "invalid_resource", "", "The resource principal was not found in the tenant."),
    (500133, 401, "invalid_client", "", "Assertion is not within its valid time range."),
    (501481, 400, "invalid_grant", "", "The code verifier does not match the code challenge supplied in the authorization request."),
    (650052, 400, "invalid_client", "", "The app needs access to a service that your organization has not subscribed to or enabled."),
    (700005, 400, "invalid_grant", "", "The provided authorization code is intended to be used against another tenant."),
    (700016, 400, "unauthorized_client", "", "Application was not found in the directory."),
    (700023, 400, "invalid_scope", "", "The client credential request must name one resource."),
    (700027, 401, "invalid_client", "", "Client assertion failed signature validation."),
    (700030, 401, "invalid_client", "", "The client assertion names another app."),
    (700082, 400, "invalid_grant", "token_expired", "The refresh token has expired due to inactivity. It was inactive for 90.00:00:00."),
    (900144, 400, "invalid_request", "", "The request body must contain a parameter that is missing."),
    (900971, 400, "invalid_request", "", "No reply address provided."),
    (901002, 400, "invalid_request", "", "The 'resource' request parameter is not supported."),
    (7000112, 400, "unauthorized_client", "", "The application is disabled."),
    (
        7000215,
        401,
        "invalid_client",
        "",
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID.",
    ),
    (7000218, 401, "invalid_client", "", "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."),
    (7000222, 401, "invalid_client", "", "The provided client secret keys for the app are expired. Create new keys for your app."),
    (
        9001023,
        400,
        "invalid_request",
        "",
        "The grant type is not supported over the /common or /consumers endpoints. Use a tenant-specific endpoint.",
    ),
];

impl Refusal {
    /// The refusal with this number; one we do not know by heart is an `invalid_grant`.
    pub(crate) fn of(code: u32) -> Refusal {
        let known = KNOWN.iter().find(|known| known.0 == code).copied();
        let (_, status, error, suberror, text) = known.unwrap_or((code, 400, "invalid_grant", "", "The request was refused."));
        Refusal {
            status,
            error: error.to_owned(),
            suberror: Some(suberror.to_owned()).filter(|word| !word.is_empty()),
            codes: vec![code],
            text: text.to_owned(),
        }
    }

    /// The same with something about this very request in its text.
    pub(crate) fn about(mut self, detail: &str) -> Refusal {
        self.text = format!("{} {detail}", self.text);
        self
    }

    /// One line such as `AADSTS50173: …` with everything a support engineer would ask for.
    pub(crate) fn description(&self, now: Stamp, trace: Uuid, correlation: Uuid) -> String {
        let codes: String =
            self.codes.iter().map(|code| format!("AADSTS{code}: ")).collect::<Vec<_>>().join("Error validating credentials. ");
        format!("{codes}{}\r\nTrace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {}", self.text, now.sign_in_text())
    }

    pub(crate) fn answer(&self, now: Stamp, trace: Uuid, correlation: Uuid) -> Answer {
        let body = Json::render(700, |json| {
            json.str("error", &self.error);
            json.str("error_description", &self.description(now, trace, correlation));
            json.raw("error_codes", &format!("{:?}", self.codes));
            json.str("timestamp", &now.sign_in_text());
            json.uuid("trace_id", trace);
            json.uuid("correlation_id", correlation);
            if let Some(code) = self.codes.first().filter(|code| **code % 2 == 0) {
                json.str("error_uri", &format!("https://login.microsoftonline.com/error?code={code}"));
            }
            if let Some(suberror) = &self.suberror {
                json.str("suberror", suberror);
            }
        });
        Answer::json(self.status, body).header("cache-control", "no-store, no-cache").header("x-ms-request-id", &trace.to_string())
    }
}
