//! An administrator's agreement to what our app may do by itself, and reading what the browser brings back from there.
//!
//! Whatever comes back came through a browser. The refusal carries `admin_consent=True` as well, so the error is looked
//! for first; and the `tenant` beside it is nobody's proof of anything, so it is not even read: which tenant it was
//! follows from the state, and that it worked follows from a token.

use std::collections::BTreeMap;

use domain::{Audience, TenantId, Verdict};
use url::Url;

use super::{SignIn, SignInError, error, scope_of, wire};
use crate::app::App;
use crate::clouds::{self, Cloud};

/// Longer than any state of ours.
const LONGEST_STATE: usize = 512;

impl SignIn {
    /// The address to which an administrator's browser is sent to agree to the app's own permissions.
    ///
    /// One `<resource>/.default` stands for every permission of the app registration, whichever API it belongs to.
    ///
    /// # Errors
    /// When the cloud's `graph_scope` names no resource.
    pub fn admin_consent_url(
        &self,
        cloud: &Cloud,
        app: &App,
        tenant: TenantId,
        redirect_uri: &str,
        state: &str,
    ) -> Result<Url, SignInError> {
        let scope = wire::app_scope(scope_of(cloud, Audience::Graph)?).ok_or_else(|| error::no_resource(Audience::Graph))?;
        let mut url = clouds::under(&cloud.login_url, &format!("{tenant}/v2.0/adminconsent"));
        url.query_pairs_mut()
            .append_pair("client_id", &app.client_id)
            .append_pair("scope", &scope)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("state", state);
        Ok(url)
    }
}

/// What an administrator's browser brought back.
#[derive(Clone, Debug)]
pub struct AdminConsentAnswer {
    /// Which sign-in it is about. Compare it before anything else.
    pub state: String,
    /// Whether he agreed, as the browser tells it. Proven only by a token.
    pub outcome: Result<(), SignInError>,
}

impl AdminConsentAnswer {
    /// Reads the query of the redirect.
    ///
    /// # Errors
    /// When it cannot be one: a parameter twice, no state, or neither agreement nor error.
    pub fn read(query: &str) -> Result<Self, SignInError> {
        let mut found = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let known = ["state", "error", "error_description", "admin_consent"].into_iter().find(|known| *known == name);
            if let Some(known) = known
                && found.insert(known, value).is_some()
            {
                return Err(not_understood("holds a parameter twice"));
            }
        }
        let state = found.get("state").filter(|state| !state.is_empty() && state.len() <= LONGEST_STATE);
        let state = state.ok_or_else(|| not_understood("has no state"))?.clone().into_owned();
        let outcome = match (found.get("error"), found.get("admin_consent").map(AsRef::as_ref)) {
            (Some(error), _) => Err(SignInError::of_redirect(error, found.get("error_description").map(AsRef::as_ref))),
            (None, Some("True" | "true")) => Ok(()),
            _ => return Err(not_understood("says neither yes nor no")),
        };
        Ok(Self { state, outcome })
    }
}

fn not_understood(what: &str) -> SignInError {
    let reason = format!("what the browser brought back from the consent page {what}");
    SignInError::new(Verdict::NeedsConsent, "callback-unreadable", reason, "you: make a new link and have it opened again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agreement_is_read_without_its_tenant() {
        let answer =
            AdminConsentAnswer::read("admin_consent=True&tenant=9188040d-6c67-4c5b-b112-36a304b66dad&state=a%2Bb&scope=x").unwrap();
        assert_eq!((answer.state.as_str(), answer.outcome.is_ok()), ("a+b", true));
        assert!(!format!("{answer:?}").contains("9188040d"));
    }

    #[test]
    fn a_refusal_that_also_says_true_is_a_refusal() {
        let query = "error=access_denied&error_description=AADSTS65004%3A+declined&admin_consent=True&tenant=x&state=s";
        let error = AdminConsentAnswer::read(query).unwrap().outcome.unwrap_err();
        assert_eq!((error.trouble().verdict, error.trouble().code.as_deref()), (Verdict::NeedsConsent, Some("AADSTS65004")));
        let query = "admin_consent=True&state=s&error=permission_denied&error_description=x";
        assert!(AdminConsentAnswer::read(query).unwrap().outcome.is_err());
        assert!(AdminConsentAnswer::read("admin_consent=True&state=s&error=").unwrap().outcome.is_err(), "an empty error is one");
    }

    #[test]
    fn what_is_neither_is_refused_whole() {
        let long = format!("admin_consent=True&state={}", "x".repeat(600));
        for query in [
            "",
            "admin_consent=True",
            "admin_consent=True&state=",
            "state=s",
            "state=s&admin_consent=False",
            "state=s&admin_consent=1",
            "state=s&tenant=x",
            "state=s&state=t&admin_consent=True",
            "state=s&admin_consent=True&admin_consent=True",
            "state=s&error=x&error=y",
            "STATE=s&admin_consent=True",
            "state=s;admin_consent=True",
            &long,
        ] {
            let error = AdminConsentAnswer::read(query).unwrap_err();
            assert_eq!(error.trouble().code.as_deref(), Some("callback-unreadable"), "{query}");
            assert!(!error.to_string().contains("state=s"));
        }
    }
}
