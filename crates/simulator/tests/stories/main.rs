//! The simulator as its callers meet it: over HTTP, with a plain client that knows nothing of our code.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod consent;
mod defender;
mod faults;
mod graph;
mod incidents;
mod oddities;
mod program;
mod samples;
mod sign_in;
mod world;

use reqwest::{Response, StatusCode};
use serde_json::Value;
use simulator::{SimTenant, Simulator, Source};

const GRAPH: &str = "https://graph.microsoft.com/.default offline_access openid";
const DEFENDER: &str = "https://api.securitycenter.microsoft.com/.default offline_access openid";

/// A client that follows nothing by itself.
fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// Posts a form to the v2 token endpoint of a tenant, with our app's name and secret.
async fn post_token(simulator: &Simulator, tenant: &str, fields: &[(&str, &str)]) -> Response {
    let mut form = vec![("client_id", simulator.client_id()), ("client_secret", simulator.client_secret().to_owned())];
    form.extend(fields.iter().map(|(name, value)| (*name, (*value).to_owned())));
    client().post(format!("{}/{tenant}/oauth2/v2.0/token", simulator.base_url())).form(&form).send().await.unwrap()
}

/// Redeems a refresh token and expects the answer to have this status.
async fn redeem(simulator: &Simulator, tenant: &SimTenant, token: &str, scope: &str, status: StatusCode) -> Value {
    let fields = [("grant_type", "refresh_token"), ("refresh_token", token), ("scope", scope)];
    let answer = post_token(simulator, &tenant.directory_id.to_string(), &fields).await;
    assert_eq!(answer.status(), status);
    answer.json().await.unwrap()
}

/// A caller of one API on behalf of one tenant.
struct Caller {
    base: String,
    token: String,
}

impl Caller {
    async fn of(simulator: &Simulator, tenant: &SimTenant, source: Source) -> Caller {
        let scope = if source == Source::MdeAlerts { DEFENDER } else { GRAPH };
        let answer = redeem(simulator, tenant, &tenant.refresh_token, scope, StatusCode::OK).await;
        let path = match source {
            Source::GraphAlerts => "/v1.0/security/alerts_v2",
            Source::GraphIncidents => "/v1.0/security/incidents",
            Source::MdeAlerts => "/api/alerts",
        };
        Caller { base: format!("{}{path}", simulator.base_url()), token: answer["access_token"].as_str().unwrap().to_owned() }
    }

    /// Sends a request; the query is given as it should be before encoding.
    async fn send(&self, query: &[(&str, &str)]) -> reqwest::Result<Response> {
        let request = client().get(&self.base).query(query).bearer_auth(&self.token);
        request.header("prefer", "include-unknown-enum-members").send().await
    }

    async fn page(&self, query: &[(&str, &str)]) -> Value {
        let answer = self.send(query).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{query:?}");
        answer.json().await.unwrap()
    }

    /// Status and body of a request that is refused.
    async fn refused(&self, query: &[(&str, &str)]) -> (u16, Value) {
        let answer = self.send(query).await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn follow(&self, link: &str) -> Value {
        let answer = client().get(link).bearer_auth(&self.token).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    }
}

/// One member of each record of a page.
fn column(page: &Value, name: &str) -> Vec<String> {
    page["value"].as_array().unwrap().iter().map(|record| record[name].as_str().unwrap().to_owned()).collect()
}
