//! The page where an administrator agrees to what the app may do by itself, and the button that people click when a
//! real browser is in front of it.

use super::authorize::{allowed, scripted, send_back};
use super::errors::Refusal;
use super::{Identity, tenant_of_path};
use crate::answer::Answer;
use crate::server::{App, Call};
use std::collections::HashMap;
use std::sync::PoisonError;

/// The field in which a button of the page says what was clicked.
const ANSWER: &str = "sim_answer";

impl Identity {
    /// Sends the administrator's browser back, agreed or not. What comes back of a refusal says `admin_consent=True` as
    /// well, as the real one does.
    pub(crate) fn admin_consent(&self, app: &App, call: &mut Call, path_tenant: &str, query: &str, is_v2: bool) -> Answer {
        let fields: HashMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let get = |name: &str| fields.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let tenant = match tenant_of_path(&app.world, path_tenant) {
            Ok(Some(tenant)) => tenant,
            Ok(None) => return page_of(call, &Refusal::of(90002)),
            Err(refusal) => return page_of(call, &refusal),
        };
        call.tenant = Some(tenant);
        if get("client_id").and_then(|id| id.parse().ok()) != Some(self.client_id) {
            return page_of(call, &Refusal::of(700016));
        }
        let Some(redirect) = get("redirect_uri").and_then(|uri| allowed(app, uri)) else {
            return page_of(call, &Refusal { codes: vec![50011], ..Refusal::of(900971) });
        };
        if is_v2 && get("scope").is_none() {
            return page_of(call, &Refusal::of(900144).about("Missing: 'scope'."));
        }
        let state = get("state");
        let id = tenant.to_string();
        let refuse = |error: &str, text: &str| {
            let mut fields = vec![("error", error), ("error_description", text), ("tenant", &id)];
            fields.extend(is_v2.then_some(("admin_consent", "True")));
            send_back(&redirect, Some("query"), state, &fields)
        };
        if let Some(refusal) = scripted(call) {
            return refuse(&refusal.error, &refusal.description(call.at, call.request_id, call.request_id));
        }
        match self.clicked(app, call, &fields) {
            Clicked::Yes => {}
            Clicked::No => return refuse("access_denied", "AADSTS65004: The administrator declined to consent to access the app."),
            Clicked::NotYet(page) => return page,
        }
        self.consented.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant);
        let scope = get("scope").unwrap_or_default();
        let mut fields = vec![("admin_consent", "True"), ("tenant", id.as_str())];
        fields.extend(is_v2.then_some(("scope", scope)));
        send_back(&redirect, Some("query"), state, &fields)
    }

    /// What the person in front of the screen has clicked. Without `interactive` that person agrees at once.
    pub(super) fn clicked(&self, app: &App, call: &Call, fields: &HashMap<String, String>) -> Clicked {
        if !app.world.settings.interactive {
            return Clicked::Yes;
        }
        match fields.get(ANSWER).map(String::as_str) {
            Some("accept") => Clicked::Yes,
            Some(_) => Clicked::No,
            None => Clicked::NotYet(question(call, fields)),
        }
    }
}

/// What was clicked.
pub(super) enum Clicked {
    Yes,
    No,
    /// Nothing yet: this is the page with the buttons.
    NotYet(Answer),
}

/// A page that asks, and comes back to the same address with the answer.
fn question(call: &Call, fields: &HashMap<String, String>) -> Answer {
    let mut names: Vec<_> = fields.keys().collect();
    names.sort();
    let hidden: String = names
        .iter()
        .map(|name| format!("<input type=\"hidden\" name=\"{}\" value=\"{}\">", escape(name), escape(&fields[name.as_str()])))
        .collect();
    let asked = escape(fields.get("scope").map_or("", String::as_str));
    let account = escape(fields.get("login_hint").map_or("mssp-reader@bekci.example", String::as_str));
    let page = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Permissions requested</title></head><body>\
         <h1>Permissions requested</h1><p>Signed in as <b>{account}</b></p><p id=\"scopes\">{asked}</p>\
         <form method=\"get\" action=\"{}\">{hidden}\
         <button id=\"accept\" name=\"{ANSWER}\" value=\"accept\">Accept</button> \
         <button id=\"decline\" name=\"{ANSWER}\" value=\"decline\">Cancel</button></form></body></html>",
        escape(&call.path)
    );
    Answer::text(200, "text/html; charset=utf-8", page)
}

/// What cannot be sent back to the app (an unknown app, a foreign redirect address) is shown as a page.
pub(super) fn page_of(call: &Call, refusal: &Refusal) -> Answer {
    let text = escape(&refusal.description(call.at, call.request_id, call.request_id));
    Answer::text(400, "text/html; charset=utf-8", format!("<html><body><h1>Sign in</h1><p>{text}</p></body></html>"))
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
}
