//! An administrator's agreement to what our app may do by itself: where he is asked for it. What his browser brings back
//! is read as that of any sign-in ([`super::Returned`]).

use domain::{Audience, TenantId};
use url::Url;

use super::{SignIn, SignInError, error, scope_of, wire};
use crate::app::App;
use crate::clouds::{self, Cloud};

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
