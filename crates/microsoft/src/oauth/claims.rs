//! For which tenant an answer is, and what it allows: the claims that are read out of tokens.
//!
//! Signatures are not checked here. The tokens come from the sign-in service itself over TLS, and nobody in
//! between could have written them; what this guards against is a right answer to another tenant. Where a browser
//! carried something, the signature is checked as well ([`super::id_token`]).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::TenantId;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::error::{self, SignInError};
use crate::members::{members, text};

/// Passes when at least one of the tokens says for which tenant it is, and each that does says this one.
pub(super) fn check_tenant(expected: TenantId, id_token: Option<&str>, access_token: &str) -> Result<(), SignInError> {
    let said = [id_token.and_then(tenant_of), tenant_of(access_token)];
    if said.iter().flatten().any(|tenant| *tenant != Said::Tenant(expected)) {
        return Err(error::other_tenant());
    }
    if said.iter().all(Option::is_none) {
        return Err(error::unknown_tenant());
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Said {
    Tenant(TenantId),
    /// There is a `tid`, and it is the id of no tenant.
    Nonsense,
}

/// The `tid` of a token, or `None` when it cannot be read: many access tokens are opaque, or encrypted.
fn tenant_of(token: &str) -> Option<Said> {
    let payload = payload(token)?;
    let [tid] = members(std::str::from_utf8(&payload).ok()?, ["tid"]).ok()?;
    let tid = text(Some(tid?)).unwrap_or_default();
    Some(Uuid::try_parse(&tid).map_or(Said::Nonsense, |tid| Said::Tenant(TenantId(tid))))
}

/// The middle part of a token, if it has three.
fn payload(token: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut parts = token.split('.');
    let payload = parts.nth(1)?;
    parts.next()?;
    Some(Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?))
}

/// The names of the permissions that came with a token, such as `SecurityAlert.Read.All`: the `scp` and `roles` of the
/// access token where it can be read, else the `scope` of the answer.
///
/// A token without any is a success to the sign-in service; the API then answers 403. That is something else than a token
/// that cannot be read, beside an answer that names no permission: then nobody knows.
pub(super) fn granted(access_token: &str, scope: Option<&str>) -> Option<Vec<String>> {
    if let Some(permissions) = permissions_of(access_token) {
        return Some(names(permissions));
    }
    let scope = scope.unwrap_or_default();
    // One of Microsoft's own samples shows the whole text percent-encoded.
    let scope = if scope.contains('%') { percent_decoded(scope) } else { scope.to_owned() };
    Some(names(scope.split_whitespace().map(str::to_owned).collect())).filter(|names| !names.is_empty())
}

/// What names a permission, each once.
fn names(words: Vec<String>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for word in words {
        // Before the last stroke stands the resource.
        let name = word.rsplit('/').next().and_then(crate::error::harmless);
        let Some(name) = name.filter(|name| !matches!(name.as_str(), "openid" | "profile" | "email" | "offline_access" | ".default"))
        else {
            continue;
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The ids of the directory roles of the account that signed in, if one of its tokens says (`wids`). An account without
/// any role has a list as well: it holds the id that stands for an ordinary user.
pub(super) fn directory_roles(access_token: &str, id_token: Option<&str>) -> Option<Vec<Uuid>> {
    [Some(access_token), id_token].into_iter().flatten().find_map(roles_of)
}

fn roles_of(token: &str) -> Option<Vec<Uuid>> {
    let payload = payload(token)?;
    let [wids] = members(std::str::from_utf8(&payload).ok()?, ["wids"]).ok()?;
    let words: Vec<Cow<'_, str>> = serde_json::from_str(wids?.get()).ok()?;
    Some(words.iter().filter_map(|word| Uuid::try_parse(word).ok()).collect())
}

/// The `scp` and `roles` of a token, or `None` when it cannot be read. One that has neither allows nothing.
fn permissions_of(token: &str) -> Option<Vec<String>> {
    let payload = payload(token)?;
    let [scp, roles] = members(std::str::from_utf8(&payload).ok()?, ["scp", "roles"]).ok()?;
    let scp = text(scp).unwrap_or_default();
    let roles = match roles {
        None => Vec::new(),
        Some(roles) => serde_json::from_str::<Vec<Cow<'_, str>>>(roles.get()).ok()?,
    };
    Some(scp.split_whitespace().map(str::to_owned).chain(roles.into_iter().map(Cow::into_owned)).collect())
}

fn percent_decoded(text: &str) -> String {
    url::form_urlencoded::parse(format!("scope={text}").as_bytes()).map(|(_, value)| value.into_owned()).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: TenantId = TenantId(Uuid::from_u128(0x0a0a));

    fn jwt(payload: &str) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(payload))
    }

    fn for_tenant(tenant: impl std::fmt::Display) -> String {
        jwt(&format!(r#"{{"aud":"x","tid":"{tenant}"}}"#))
    }

    fn code(id_token: Option<&str>, access_token: &str) -> Option<String> {
        check_tenant(OURS, id_token, access_token).err().map(|error| error.trouble().code.unwrap())
    }

    #[test]
    fn one_readable_token_of_the_right_tenant_is_enough() {
        let right = for_tenant(OURS);
        assert_eq!(code(Some(&right), "opaque"), None);
        assert_eq!(code(None, &right), None);
        assert_eq!(code(Some(&right), &right), None);
        assert_eq!(code(Some("garbage"), &right), None);
        let upper = for_tenant(OURS).replace("e30", "E30");
        assert_eq!(code(Some(&for_tenant(OURS.to_string().to_uppercase())), &upper), None, "a GUID has no case");
    }

    #[test]
    fn fault_38_any_token_of_another_tenant_spoils_the_answer() {
        let (right, wrong) = (for_tenant(OURS), for_tenant(Uuid::from_u128(7)));
        for (id, access) in [(Some(&right), &wrong), (Some(&wrong), &right), (None, &wrong), (Some(&wrong), &"opaque".to_owned())] {
            assert_eq!(code(id.map(String::as_str), access).as_deref(), Some("tid-mismatch"));
        }
        assert_eq!(code(Some(&right), &for_tenant("contoso")).as_deref(), Some("tid-mismatch"));
        assert_eq!(code(Some(&right), &jwt(r#"{"tid":5}"#)).as_deref(), Some("tid-mismatch"));
    }

    #[test]
    fn an_answer_that_does_not_say_for_whom_it_is_gives_nothing() {
        for access in
            ["", "opaque", "a.b", "a.b.c", "a.!!!.c", &jwt("{}"), &jwt("[]"), &jwt("no"), &format!("e30.{}", "e30"), "eyJ.eyJ.AAA.BBB.CCC"]
        {
            assert_eq!(code(None, access).as_deref(), Some("tid-unreadable"), "{access}");
        }
    }

    #[test]
    fn permissions_are_those_of_the_token_and_only_else_those_of_the_answer() {
        let scope = "https://graph.microsoft.com/SecurityAlert.Read.All openid offline_access https://graph.microsoft.com/.default";
        for (token, scope, names) in [
            (
                jwt(r#"{"scp":"SecurityAlert.Read.All  SecurityIncident.Read.All"}"#),
                Some("other"),
                Some(vec!["SecurityAlert.Read.All", "SecurityIncident.Read.All"]),
            ),
            (jwt(r#"{"roles":["Alert.Read.All","Alert.Read.All"]}"#), None, Some(vec!["Alert.Read.All"])),
            (jwt(r#"{"roles":[]}"#), Some(scope), Some(vec![])),
            (jwt(r#"{"scp":""}"#), Some(scope), Some(vec![])),
            (jwt("{}"), Some(scope), Some(vec![])),
            (jwt(r#"{"roles":"Alert.Read.All"}"#), None, None),
            ("opaque".to_owned(), Some(scope), Some(vec!["SecurityAlert.Read.All"])),
            ("opaque".to_owned(), Some("https%3A%2F%2Fgraph.microsoft.com%2Fmail.read%20openid"), Some(vec!["mail.read"])),
            ("opaque".to_owned(), Some("<b> SecurityAlert.Read.All"), Some(vec!["SecurityAlert.Read.All"])),
            ("opaque".to_owned(), Some("openid https://graph.microsoft.com/.default"), None),
            ("opaque".to_owned(), None, None),
        ] {
            let names = names.map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(granted(&token, scope), names, "{token} {scope:?}");
        }
    }

    #[test]
    fn roles_are_those_of_the_first_token_that_says() {
        let (one, other) = (Uuid::from_u128(0xA1), Uuid::from_u128(0xA2));
        let wids = |list: &str| jwt(&format!(r#"{{"tid":"x","wids":{list}}}"#));
        let (with_one, with_other) = (wids(&format!(r#"["{one}"]"#)), wids(&format!(r#"["{other}","no id"]"#)));
        for (access, id, roles) in [
            (with_one.as_str(), None, Some(vec![one])),
            (&with_one, Some(&with_other), Some(vec![one])),
            ("opaque", Some(&with_other), Some(vec![other])),
            (&jwt("{}"), Some(&with_other), Some(vec![other])),
            (&wids("[]"), None, Some(vec![])),
            (&wids("null"), None, None),
            (&wids("5"), None, None),
            (&wids(&format!(r#""{one}""#)), None, None),
            (&jwt("{}"), None, None),
            ("opaque", None, None),
        ] {
            assert_eq!(directory_roles(access, id.map(String::as_str)), roles, "{access} {id:?}");
        }
    }
}
