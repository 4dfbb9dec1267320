//! Making sure that it is our app that asks: by its secret, by a certificate that was registered, or by a token of an
//! identity provider that it trusts.

use super::errors::Refusal;
use super::{Form, Identity};
use crate::server::{App, Call};
use anyhow::Context as _;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

const BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How far clocks may be apart.
const LEEWAY: i64 = 300;
/// Longer lives of an assertion are refused.
const LONGEST: i64 = 3600;

/// What the app can prove itself with besides its secret.
#[derive(Debug, Default)]
pub(crate) struct Registered {
    /// Public keys by the certificate's thumbprint.
    certificates: Mutex<HashMap<String, Vec<u8>>>,
    /// Issuer and subject of tokens that stand for the app.
    federated: Mutex<Vec<(String, String)>>,
}

impl Registered {
    pub(crate) fn add_certificate(&self, pem: &str) -> anyhow::Result<String> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok().context("this is no PEM")?;
        let certificate = pem.parse_x509().ok().context("this is no certificate")?;
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, &pem.contents));
        let key = certificate.public_key().subject_public_key.data.to_vec();
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).insert(thumbprint.clone(), key);
        Ok(thumbprint)
    }

    pub(crate) fn forget_certificates(&self) {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn trust(&self, issuer: &str, subject: &str) {
        self.federated.lock().unwrap_or_else(PoisonError::into_inner).push((issuer.to_owned(), subject.to_owned()));
    }
}

impl Identity {
    /// Makes sure that it is our app that asks, and that it can prove it.
    pub(super) fn authenticate(&self, app: &App, call: &Call, path_tenant: &str, form: &Form) -> Result<(), Refusal> {
        self.named(form)?;
        match (form.get("client_secret"), form.get("client_assertion")) {
            (None, None) => Err(Refusal::of(7000218)),
            (Some(_), Some(_)) => Err(Refusal::of(90023).about("Two ways to authenticate the app.")),
            (Some(secret), None) if secret == self.client_secret => Ok(()),
            (Some(_), None) => Err(Refusal::of(7000215)),
            (None, Some(assertion)) => {
                if form.need("client_assertion_type")? != BEARER {
                    return Err(Refusal::of(50027).about("client_assertion_type"));
                }
                self.assertion(app, call, path_tenant, assertion)
            }
        }
    }

    /// Whether the form names our app.
    pub(super) fn named(&self, form: &Form) -> Result<(), Refusal> {
        let client_id = form.need("client_id")?;
        if client_id.parse() == Ok(self.client_id) { Ok(()) } else { Err(Refusal::of(700016).about(&format!("'{client_id}'"))) }
    }

    fn assertion(&self, app: &App, call: &Call, path_tenant: &str, assertion: &str) -> Result<(), Refusal> {
        let wrong = |what: &str| Refusal::of(50013).about(what);
        let (signed, signature) = assertion.rsplit_once('.').ok_or_else(|| wrong("It is no token."))?;
        let (header, claims) = signed.split_once('.').ok_or_else(|| wrong("It is no token."))?;
        let read = |part: &str| -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok() };
        let (Some(header), Some(claims)) = (read(header), read(claims)) else { return Err(wrong("It is no token.")) };
        let text = |name: &str| claims[name].as_str().unwrap_or_default();
        let now = call.at.unix_seconds();
        let times = ["nbf", "exp"].map(|name| claims[name].as_i64());
        let [Some(begin), Some(end)] = times else { return Err(wrong("It does not say when it is good.")) };
        if begin > now + LEEWAY || end <= now - LEEWAY || end - begin > LONGEST {
            return Err(Refusal::of(500133));
        }
        let Some(thumbprint) = header["x5t#S256"].as_str() else {
            // No certificate: a token of somebody we may have been told to trust. Who signed it is not looked at.
            let trusted = self.registered.federated.lock().unwrap_or_else(PoisonError::into_inner);
            let known = trusted.iter().any(|(issuer, subject)| (issuer.as_str(), subject.as_str()) == (text("iss"), text("sub")));
            let ours = text("aud") == "api://AzureADTokenExchange" || claims["aud"] == serde_json::json!(["api://AzureADTokenExchange"]);
            return if known && ours { Ok(()) } else { Err(Refusal::of(70021)) };
        };
        if header["alg"] != "PS256" {
            return Err(wrong("It is not signed with PS256."));
        }
        let certificates = self.registered.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = || Refusal::of(700027).about(&format!("The key with the thumbprint '{thumbprint}' was not found."));
        let key = certificates.get(thumbprint).ok_or_else(unknown)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        if UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key).verify(signed.as_bytes(), &signature).is_err() {
            return Err(Refusal::of(700027).about("The signature is wrong."));
        }
        let client_id = self.client_id.to_string();
        if text("iss") != client_id || text("sub") != client_id {
            return Err(Refusal::of(700030));
        }
        let here = [&app.base_url, &call.base_url]
            .into_iter()
            .flat_map(|base| ["oauth2/v2.0/token", "oauth2/token"].map(|path| format!("{base}/{path_tenant}/{path}")))
            .any(|address| address == text("aud"));
        match (here, text("jti").is_empty()) {
            (false, _) => Err(wrong("It is meant for another address.")),
            (true, true) => Err(wrong("It has no id.")),
            (true, false) => Ok(()),
        }
    }
}
