//! What anybody may ask about a tenant: where its endpoints are, in which cloud it lives, and the keys of its tokens.

use super::errors::Refusal;
use super::{Identity, tenant_of_path};
use crate::answer::Answer;
use crate::json::Json;
use crate::scenario::Effect;
use crate::server::{App, Call};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// Where a tenant says that it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// `tenant_region_scope`.
    pub scope: String,
    /// `tenant_region_sub_scope`: `GCC`, `DODCON`, `DOD`.
    pub sub_scope: Option<String>,
    /// `cloud_instance_name`.
    pub instance: String,
    /// `msgraph_host`; the simulator's own address when absent.
    pub graph_host: Option<String>,
}

impl Default for Region {
    fn default() -> Region {
        Region { scope: "EU".to_owned(), sub_scope: None, instance: "microsoftonline.com".to_owned(), graph_host: None }
    }
}

/// Tenants that live elsewhere than the others.
#[derive(Debug, Default)]
pub(crate) struct Regions(Mutex<HashMap<Uuid, Region>>);

impl Regions {
    pub(crate) fn set(&self, tenant: Uuid, region: Region) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant, region);
    }

    fn of(&self, tenant: Option<Uuid>) -> Region {
        let regions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tenant.and_then(|tenant| regions.get(&tenant).cloned()).unwrap_or_default()
    }
}

impl Identity {
    /// The discovery document. A tenant that does not exist has none.
    pub(crate) fn discovery(&self, app: &App, call: &Call, path_tenant: &str) -> Answer {
        let known = match tenant_of_path(&app.world, path_tenant) {
            Ok(known) => known,
            Err(refusal) => {
                return Refusal { error: "invalid_tenant".to_owned(), ..refusal }.answer(call.at, call.request_id, call.request_id);
            }
        };
        let base = &call.base_url;
        let region = self.regions.of(known);
        // Whoever asks for all tenants at once is told a pattern.
        let id = known.map_or_else(|| "{tenantid}".to_owned(), |id| id.to_string());
        let place = known.map_or_else(|| path_tenant.to_owned(), |id| id.to_string());
        let body = Json::render(1600, |json| {
            json.str("token_endpoint", &format!("{base}/{place}/oauth2/v2.0/token"));
            json.strings("token_endpoint_auth_methods_supported", &["client_secret_post", "private_key_jwt", "client_secret_basic"]);
            json.str("jwks_uri", &format!("{base}/{place}/discovery/v2.0/keys"));
            json.strings("response_modes_supported", &["query", "fragment", "form_post"]);
            json.strings("subject_types_supported", &["pairwise"]);
            json.strings("id_token_signing_alg_values_supported", &["RS256"]);
            json.strings("response_types_supported", &["code"]);
            json.strings("scopes_supported", &["openid", "profile", "email", "offline_access"]);
            json.str("issuer", &format!("{base}/{id}/v2.0"));
            json.str("authorization_endpoint", &format!("{base}/{place}/oauth2/v2.0/authorize"));
            json.str("device_authorization_endpoint", &format!("{base}/{place}/oauth2/v2.0/devicecode"));
            json.str("tenant_region_scope", &region.scope);
            if let Some(sub_scope) = &region.sub_scope {
                json.str("tenant_region_sub_scope", sub_scope);
            }
            json.str("cloud_instance_name", &region.instance);
            json.str("msgraph_host", region.graph_host.as_deref().unwrap_or_else(|| base.trim_start_matches("http://")));
        });
        Answer::json(200, body)
    }

    /// The keys that a tenant's tokens are signed with, as far as the script lets them be seen.
    pub(crate) fn key_document(&self, call: &Call) -> Answer {
        if call.effects.find(|effect| matches!(effect, Effect::MissingKeys).then_some(())).is_some() {
            return Answer::json(200, r#"{"keys":[]}"#);
        }
        Answer::json(200, self.keys.document(&format!("{}/{{tenantid}}/v2.0", call.base_url)))
    }
}
