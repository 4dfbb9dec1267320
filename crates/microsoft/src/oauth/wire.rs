//! What is sent to the token endpoint and what comes back, as bytes that are wiped.

use std::borrow::Cow;

use domain::{Ticks, Trace};
use serde_json::value::RawValue;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::members::{members, text};

/// A form body. `+`, `/` and `=` occur in secrets and mean something else in a form.
pub(super) fn form(fields: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    // Each byte takes at most three; reserving them all keeps the buffer from leaving copies behind.
    let size = fields.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
    let mut body = Zeroizing::new(Vec::with_capacity(size));
    for (name, value) in fields {
        if !body.is_empty() {
            body.push(b'&');
        }
        let pieces = form_urlencoded::byte_serialize(name.as_bytes()).chain(["="]).chain(form_urlencoded::byte_serialize(value.as_bytes()));
        pieces.for_each(|piece| body.extend_from_slice(piece.as_bytes()));
    }
    body
}

/// The scope of a user's token: as configured, with `openid`, which makes the answer say whose it is.
pub(super) fn delegated_scope(configured: &str) -> String {
    let mut words: Vec<_> = configured.split_whitespace().collect();
    if !words.contains(&"openid") {
        words.push("openid");
    }
    words.join(" ")
}

/// What a person is asked to agree to: the scopes of all audiences, and to be read for longer than an hour.
///
/// Entra refuses a second `/.default` in one request, and one beside named permissions (AADSTS70011). One is enough:
/// it stands for every permission of the app registration, whichever API it belongs to.
pub(super) fn consent_scope<'a>(configured: impl IntoIterator<Item = &'a str>) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in configured.into_iter().flat_map(str::split_whitespace).chain(["openid", "offline_access"]) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if let Some(whole) = words.iter().copied().find(|word| word.ends_with("/.default")) {
        words.retain(|word| *word == whole || matches!(*word, "openid" | "profile" | "email" | "offline_access"));
    }
    words.join(" ")
}

/// What version 1 of the endpoint calls a resource: the address of the API, without a permission.
pub(super) fn resource(configured: &str) -> Option<String> {
    app_scope(configured).and_then(|scope| scope.strip_suffix("/.default").map(str::to_owned))
}

/// The scope of the app's own token: `<resource>/.default` and nothing else. `None` when the
/// configured scope names no resource.
pub(super) fn app_scope(configured: &str) -> Option<String> {
    let mut words = configured.split_whitespace();
    if let Some(whole) = words.clone().find(|word| word.ends_with("/.default")) {
        return Some(whole.to_owned());
    }
    // A single permission, such as https://graph.microsoft.com/SecurityAlert.Read.All.
    let permission = words.find(|word| word.contains("://"))?;
    let (resource, _) = permission.rsplit_once('/')?;
    (!resource.ends_with('/')).then(|| format!("{resource}/.default"))
}

/// The answer to a redemption, borrowed from the body wherever JSON allows it.
pub(super) struct Tokens<'a> {
    pub(super) access_token: Cow<'a, str>,
    pub(super) refresh_token: Option<Cow<'a, str>>,
    pub(super) id_token: Option<Cow<'a, str>>,
    /// In seconds. Version 1 of the endpoint writes a text, version 2 a number.
    pub(super) expires_in: Option<f64>,
    /// In seconds since 1970, by their clock. Version 1 only.
    pub(super) expires_on: Option<f64>,
    /// What was granted, with the resource before each name.
    pub(super) scope: Option<Cow<'a, str>>,
}

impl<'a> Tokens<'a> {
    /// Reads the answer; `None` when it holds no access token that fits into a header.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let body = std::str::from_utf8(body).ok()?;
        let names = ["access_token", "refresh_token", "id_token", "expires_in", "expires_on", "scope"];
        let [access, refresh, id, expires_in, expires_on, scope] = members(body, names).ok()?;
        let access_token = text(access).filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()))?;
        Some(Self {
            access_token,
            refresh_token: text(refresh),
            id_token: text(id),
            expires_in: seconds(expires_in),
            expires_on: seconds(expires_on),
            scope: text(scope),
        })
    }
}

impl Tokens<'_> {
    /// How long the access token lives, in seconds. Version 1 says it in two ways, and not always in both.
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below what a float holds exactly")]
    pub(super) fn life(&self, asked_at: Ticks) -> Option<f64> {
        self.expires_in.or_else(|| self.expires_on.map(|end| end - asked_at.0.div_euclid(10_000_000) as f64))
    }
}

pub(super) fn seconds(member: Option<&RawValue>) -> Option<f64> {
    let written = text(member).unwrap_or_else(|| member.map_or("", RawValue::get).into());
    written.trim().parse().ok().filter(|seconds: &f64| !seconds.is_nan())
}

/// The answer that says why not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) error: String,
    pub(super) suberror: Option<String>,
    /// There may be several; the first is often the least telling.
    pub(super) codes: Vec<u32>,
    pub(super) trace_id: Option<String>,
    pub(super) correlation_id: Option<String>,
    /// As written; it is not RFC 3339.
    pub(super) timestamp: Option<String>,
}

impl Refusal {
    /// Reads the answer; `None` when it is no OAuth error.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let body = std::str::from_utf8(body).ok()?;
        let names = ["error", "suberror", "error_codes", "error_description", "trace_id", "correlation_id", "timestamp"];
        let [error, suberror, codes, description, trace_id, correlation_id, timestamp] = members(body, names).ok()?;
        let word = |member| text(member).and_then(|text| crate::error::harmless(&text));
        let mut codes = codes.map_or_else(Vec::new, numbers);
        if codes.is_empty() {
            // The description is for people and never decides; but some answers have the number only there.
            codes = text(description).map_or_else(Vec::new, |text| aadsts(&text));
        }
        Some(Self {
            error: word(error)?,
            suberror: word(suberror),
            codes,
            trace_id: word(trace_id),
            correlation_id: word(correlation_id),
            timestamp: text(timestamp).and_then(|text| crate::error::harmless(&text.replace(' ', "T"))),
        })
    }
}

impl Refusal {
    /// What the sign-in page said when it sent the browser back. It has `error` and a description and nothing else.
    pub(super) fn of_redirect(error: &str, description: Option<&str>) -> Self {
        let description = description.unwrap_or_default();
        let trace_id = description.split_once("Trace ID: ").and_then(|(_, rest)| rest.split_whitespace().next());
        Self {
            error: crate::error::harmless(error).unwrap_or_else(|| "unknown".to_owned()),
            codes: aadsts(description),
            trace_id: trace_id.and_then(crate::error::harmless),
            ..Self::default()
        }
    }

    /// What Microsoft's support asks for, if the answer says any of it.
    pub(super) fn trace(&self) -> Option<Box<Trace>> {
        let at = self.timestamp.as_deref().and_then(Ticks::parse);
        (self.trace_id.is_some() || at.is_some()).then(|| Box::new(Trace { id: self.trace_id.clone(), at }))
    }
}

/// Numbers of a list, written as numbers or as texts. What is neither is passed over.
fn numbers(member: &RawValue) -> Vec<u32> {
    let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(member.get()) else {
        return member.get().trim_matches('"').parse().into_iter().collect();
    };
    items.into_iter().filter_map(|item| item.get().trim_matches('"').parse().ok()).collect()
}

/// Every number that follows `AADSTS` in a text.
fn aadsts(text: &str) -> Vec<u32> {
    text.split("AADSTS")
        .skip(1)
        .filter_map(|rest| rest[..rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len())].parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_survives_the_form() {
        let fields = [("client_secret", "a+b/c=d&e f~ı%"), ("scope", "https://x/.default openid")];
        let body = form(&fields);
        assert!(body.len() <= body.capacity());
        let read: Vec<_> = form_urlencoded::parse(&body).into_owned().collect();
        assert_eq!(read, fields.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(!body.contains(&b' ') && body.starts_with(b"client_secret=a%2Bb%2Fc%3Dd%26e+f"));
    }

    #[test]
    fn openid_is_asked_for_once() {
        assert_eq!(delegated_scope("https://x/.default offline_access"), "https://x/.default offline_access openid");
        assert_eq!(delegated_scope("openid  https://x/.default"), "openid https://x/.default");
        assert_eq!(delegated_scope("openidx"), "openidx openid");
    }

    #[test]
    fn an_app_asks_for_one_resource_whole() {
        for (configured, sent) in [
            ("https://graph.microsoft.com/.default offline_access", Some("https://graph.microsoft.com/.default")),
            ("offline_access openid https://graph.microsoft.com/.default", Some("https://graph.microsoft.com/.default")),
            ("https://graph.microsoft.com/SecurityAlert.Read.All offline_access", Some("https://graph.microsoft.com/.default")),
            ("api://1234/.default", Some("api://1234/.default")),
            ("offline_access", None),
            ("https://graph.microsoft.com", None),
        ] {
            assert_eq!(app_scope(configured).as_deref(), sent, "{configured}");
        }
    }

    #[test]
    fn consent_is_asked_for_in_one_request_that_entra_takes() {
        let (graph, defender) =
            ("https://graph.microsoft.com/.default offline_access", "https://api.securitycenter.microsoft.com/.default");
        for (configured, asked) in [
            (vec![graph], "https://graph.microsoft.com/.default offline_access openid"),
            (vec![graph, defender], "https://graph.microsoft.com/.default offline_access openid"),
            (vec!["https://g/A.Read", "https://d/B.Read offline_access"], "https://g/A.Read https://d/B.Read offline_access openid"),
            (vec!["https://g/A.Read", defender], "https://api.securitycenter.microsoft.com/.default openid offline_access"),
            (vec!["SecurityAlert.Read.All"], "SecurityAlert.Read.All openid offline_access"),
        ] {
            assert_eq!(consent_scope(configured.iter().copied()), asked);
        }
    }

    #[test]
    fn version_1_wants_the_resource_without_a_permission() {
        assert_eq!(resource("https://graph.microsoft.com/.default offline_access").as_deref(), Some("https://graph.microsoft.com"));
        assert_eq!(resource("https://d.test/Alert.Read").as_deref(), Some("https://d.test"));
        assert_eq!(resource("offline_access"), None);
    }

    #[test]
    fn fault_40_an_answer_is_read_in_either_versions_spelling() {
        let read = |body: &'static str| Tokens::read(body.as_bytes());
        let v2 = read(r#"{"access_token":"a.b.c","expires_in":3599,"refresh_token":"r","id_token":"x.y.z","scope":"s%20t"}"#).unwrap();
        assert_eq!((v2.expires_in, v2.refresh_token.as_deref(), v2.id_token.as_deref()), (Some(3599.0), Some("r"), Some("x.y.z")));
        assert!(matches!(v2.refresh_token, Some(Cow::Borrowed(_))), "a secret is not copied on its way");
        for (expires_in, seconds) in [
            (r#""3600""#, Some(3600.0)),
            ("3600.5", Some(3600.5)),
            (r#"" 60 ""#, Some(60.0)),
            ("-1", Some(-1.0)),
            (r#""NaN""#, None),
            (r#""soon""#, None),
            ("null", None),
            ("{}", None),
        ] {
            let body = format!(r#"{{"access_token":"a","expires_in":{expires_in}}}"#);
            assert_eq!(Tokens::read(body.as_bytes()).unwrap().expires_in, seconds, "{expires_in}");
        }
        let v1 =
            read(r#"{"access_token":"a","expires_in":"3599","expires_on":"1795266000","resource":"https://x","scope":"A.Read B.Read"}"#)
                .unwrap();
        assert_eq!((v1.expires_in, v1.expires_on, v1.scope.as_deref()), (Some(3599.0), Some(1_795_266_000.0), Some("A.Read B.Read")));
        assert_eq!(v1.life(Ticks(0)), Some(3599.0), "what is left is believed before the hour of their clock");
        let bare = read(r#"{"access_token":"a","expires_on":"1795266000"}"#).unwrap();
        assert_eq!(bare.life(Ticks(1_795_262_400 * 10_000_000)), Some(3600.0));
    }

    #[test]
    fn an_answer_without_a_usable_access_token_is_none() {
        for body in
            ["", "<html>", "{}", r#"{"access_token":""}"#, r#"{"access_token":1}"#, r#"{"access_token":"a\nb"}"#, r#"{"access_token":"a"#]
        {
            assert!(Tokens::read(body.as_bytes()).is_none(), "{body}");
        }
        let odd = Tokens::read(br#"{"access_token":"a","refresh_token":7,"id_token":null}"#).unwrap();
        assert!(odd.refresh_token.is_none() && odd.id_token.is_none());
    }

    #[test]
    fn a_refusal_keeps_every_code_and_the_numbers_for_support() {
        let refusal = Refusal::read(
            br#"{"error":"invalid_grant","error_description":"AADSTS70002: x. AADSTS70008: y.\r\nTrace ID: z","error_codes":[70002,70008],
                "timestamp":"2016-04-11 18:00:12Z","trace_id":"3939d04c-d7ba-42bf-9cb7-1e5854cdce9e","correlation_id":"a b","suberror":"bad_token"}"#,
        )
        .unwrap();
        assert_eq!(refusal.codes, [70002, 70008]);
        assert_eq!(refusal.timestamp.as_deref(), Some("2016-04-11T18:00:12Z"));
        assert_eq!(refusal.trace_id.as_deref(), Some("3939d04c-d7ba-42bf-9cb7-1e5854cdce9e"));
        assert_eq!((refusal.correlation_id, refusal.suberror.as_deref()), (None, Some("bad_token")));
    }

    #[test]
    fn codes_are_found_however_they_are_written() {
        for (members, codes) in [
            (r#""error_codes":["50196", 1.5, null, 70008]"#, vec![50196, 70008]),
            (r#""error_codes":50196"#, vec![50196]),
            (r#""error_codes":[],"error_description":"AADSTS700082: The refresh token has expired.""#, vec![700_082]),
            (r#""error_description":"AADSTS: none, AADSTS99999999999999: too long""#, vec![]),
            (r#""error_codes":{}"#, vec![]),
        ] {
            let body = format!(r#"{{"error":"invalid_grant",{members}}}"#);
            assert_eq!(Refusal::read(body.as_bytes()).unwrap().codes, codes, "{members}");
        }
    }

    #[test]
    fn what_is_no_oauth_error_is_none() {
        for body in [&b""[..], b"Too Many Requests", b"<html>", b"{}", br#"{"error":{"code":"x"}}"#, br#"{"error":"two words"}"#, b"\xff"] {
            assert_eq!(Refusal::read(body), None);
        }
    }
}
