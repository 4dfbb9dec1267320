//! Which tenant a name belongs to, who signs there, and in which national cloud it lives.
//!
//! The discovery document is public, so nothing secret is sent for it; but what it says about keys decides whom we
//! believe later, and what it says about the cloud decides where a customer's token is sent. Therefore keys count only
//! from the sign-in service's own origin, and the cloud is compared with the one of the configuration in words that
//! name the right one.

use domain::{CloudName, TenantId, Verdict};
use reqwest::StatusCode;
use url::Url;
use uuid::Uuid;

use super::code::request_id;
use super::error::{self, SignInError};
use super::{SignIn, keys};
use crate::clouds::{self, Cloud, built_in};
use crate::http::{self, read_page_body};
use crate::members::{members, text};

/// A tenant, as its discovery document describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// The tenant's id, whichever of its names was asked for.
    pub id: TenantId,
    /// Who issues its tokens, letter by letter.
    pub issuer: String,
    /// Where the keys are that its tokens are signed with. At the sign-in service's own origin.
    pub jwks_uri: Url,
    /// `tenant_region_scope`, such as `EU`, `NA` or `USGov`.
    pub region_scope: Option<String>,
    /// `tenant_region_sub_scope`: `GCC`, `DODCON` (GCC High) or `DOD`.
    pub region_sub_scope: Option<String>,
    /// `cloud_instance_name`, such as `microsoftonline.com`.
    pub cloud_instance: Option<String>,
    /// `msgraph_host`, such as `graph.microsoft.com`.
    pub graph_host: Option<String>,
}

impl SignIn {
    /// Looks a tenant up by its GUID or by one of its domains.
    ///
    /// # Errors
    /// [`SignInError`]: when the name cannot be one of a tenant, when there is no such tenant in this cloud, or when the
    /// answer cannot be believed.
    pub async fn discover(&self, cloud: &Cloud, directory: &str) -> Result<Directory, SignInError> {
        let directory = directory.trim();
        if !is_tenant_name(directory) {
            return Err(no_tenant_name());
        }
        let url = clouds::under(&cloud.login_url, &format!("{directory}/v2.0/.well-known/openid-configuration"));
        let client_request_id = request_id();
        let answer = self.http.get_public(&url, cloud.allow_plaintext, &client_request_id).await;
        let answer = answer.map_err(|failure| error::unanswered(&failure))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = read_page_body(answer, keys::LARGEST).await.map_err(|failure| error::unanswered(&failure))?;
        tracing::debug!(status = status.as_u16(), client_request_id, "the sign-in service described a tenant");
        if status != StatusCode::OK {
            return Err(error::refused(status.as_u16(), &headers, &body, self.clock.now()));
        }
        let found = read(&body, &cloud.login_url)?;
        match Uuid::try_parse(directory) {
            Ok(asked) if asked != found.id.0 => Err(not_understood("describes another tenant than the one that was asked for")),
            _ => Ok(found),
        }
    }
}

/// Whether this is a GUID or a domain. The words that stand for all tenants are neither, and nothing of it may change
/// the path that it is put into.
fn is_tenant_name(name: &str) -> bool {
    let is_label =
        |label: &str| !label.is_empty() && label.len() <= 63 && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let domain = name.len() <= 253 && name.contains('.') && name.split('.').all(is_label);
    domain || (name.len() == 36 && Uuid::try_parse(name).is_ok())
}

pub(crate) fn read(body: &[u8], login_url: &Url) -> Result<Directory, SignInError> {
    let unreadable = || not_understood("is no discovery document");
    let body = std::str::from_utf8(body).map_err(|_| unreadable())?;
    let names = ["issuer", "jwks_uri", "tenant_region_scope", "tenant_region_sub_scope", "cloud_instance_name", "msgraph_host"];
    let [issuer, jwks_uri, region, sub_region, instance, graph] = members(body, names).map_err(|_| unreadable())?;
    let word = |member| text(member).and_then(|text| crate::error::harmless(&text));
    let issuer = text(issuer).ok_or_else(unreadable)?.into_owned();
    let id = tenant_of_issuer(&issuer).ok_or_else(|| not_understood("does not say which tenant it describes"))?;
    let jwks_uri = text(jwks_uri).and_then(|text| Url::parse(&text).ok()).ok_or_else(unreadable)?;
    if !http::same_origin(&jwks_uri, login_url) {
        return Err(keys::elsewhere());
    }
    let (region_scope, region_sub_scope) = (word(region), word(sub_region));
    Ok(Directory { id, issuer, jwks_uri, region_scope, region_sub_scope, cloud_instance: word(instance), graph_host: word(graph) })
}

/// The tenant in the path of an issuer such as `https://login.microsoftonline.com/GUID/v2.0`.
fn tenant_of_issuer(issuer: &str) -> Option<TenantId> {
    let issuer = Url::parse(issuer).ok()?;
    let mut ids = issuer.path_segments()?.filter(|segment| segment.len() == 36).filter_map(|segment| Uuid::try_parse(segment).ok());
    let id = ids.next()?;
    ids.next().is_none().then_some(TenantId(id))
}

fn no_tenant_name() -> SignInError {
    let reason = "the name of the tenant is neither a directory id (GUID) nor a domain";
    let action = "you: write the customer's directory id, or one of its domains such as contoso.onmicrosoft.com";
    SignInError::new(Verdict::OurBug, "bad-directory", reason, action)
}

fn not_understood(what: &str) -> SignInError {
    let action =
        "you, if it lasts: check that login_url of this cloud leads to Microsoft's sign-in service and no proxy answers in its place";
    SignInError::new(Verdict::Retry, "bad-answer", format!("the sign-in service's answer {what}"), action)
}

impl Directory {
    /// Whether this tenant lives in the cloud of the configuration that it was given.
    ///
    /// # Errors
    /// One sentence that says where it lives and what to write.
    pub fn fits(&self, name: &CloudName, cloud: &Cloud) -> Result<(), String> {
        let right = self.home();
        if let (Some(ours), Some(right)) = (built_in_name(name, cloud), right)
            && ours != right
        {
            return Err(format!(
                "this tenant lives in the cloud {right} and not in {name} ({}); give it the cloud {right}, and an app that is registered there",
                self.evidence()
            ));
        }
        // A cloud of the operator's own may be anywhere; what it must not do is send tokens for one Graph to another.
        match &self.graph_host {
            Some(host) if !is_at(&cloud.graph_url, host) => {
                let is = built_in_at(host).map(|right| format!(", which is that of the cloud {right}")).unwrap_or_default();
                Err(format!(
                    "this tenant is read at {host}{is}, and graph_url of the cloud {name} leads to {}; give the tenant the cloud that it lives in",
                    cloud.graph_url.host_str().unwrap_or("nowhere")
                ))
            }
            _ => Ok(()),
        }
    }

    /// The built-in cloud that this tenant lives in, as far as it says so.
    fn home(&self) -> Option<&'static str> {
        match self.region_sub_scope.as_deref().map(str::to_ascii_uppercase).as_deref() {
            Some("GCC") => return Some("gcc"),
            Some("DODCON") => return Some("gcc-high"),
            Some("DOD") => return Some("dod"),
            _ => {}
        }
        let instance = self.cloud_instance.as_deref().unwrap_or_default();
        let government = self.region_scope.as_deref().is_some_and(|scope| scope.to_ascii_uppercase().starts_with("USG"));
        if instance.ends_with("microsoftonline.us") || government {
            return Some(if self.graph_host.as_deref() == Some("dod-graph.microsoft.us") { "dod" } else { "gcc-high" });
        }
        if instance.ends_with(".cn") {
            return Some("china");
        }
        instance.ends_with("microsoftonline.com").then_some("global")
    }

    fn evidence(&self) -> String {
        let said = [
            ("tenant_region_scope", &self.region_scope),
            ("tenant_region_sub_scope", &self.region_sub_scope),
            ("cloud_instance_name", &self.cloud_instance),
        ];
        let said = said.into_iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("{name} {value}")));
        format!("its directory says {}", said.collect::<Vec<_>>().join(", "))
    }
}

/// Which built-in cloud this one is: by its name, or by its addresses when an operator has called it otherwise.
fn built_in_name(name: &CloudName, cloud: &Cloud) -> Option<&'static str> {
    const NAMES: [&str; 5] = ["global", "gcc", "gcc-high", "dod", "china"];
    let clouds = built_in();
    let same = |known: &Cloud| {
        (&known.login_url, &known.graph_url, &known.defender_url) == (&cloud.login_url, &cloud.graph_url, &cloud.defender_url)
    };
    NAMES
        .into_iter()
        .find(|known| *known == name.as_str())
        .or_else(|| NAMES.into_iter().find(|known| clouds.get(&CloudName::new(*known)).is_some_and(same)))
}

/// The built-in cloud whose Graph is at this host; worldwide where two share it.
fn built_in_at(host: &str) -> Option<&'static str> {
    match host {
        "graph.microsoft.com" => Some("global"),
        "graph.microsoft.us" => Some("gcc-high"),
        "dod-graph.microsoft.us" => Some("dod"),
        "microsoftgraph.chinacloudapi.cn" => Some("china"),
        _ => None,
    }
}

/// Whether an address is at this host, which may carry a port.
fn is_at(url: &Url, host: &str) -> bool {
    let own = url.host_str().unwrap_or_default();
    own.eq_ignore_ascii_case(host) || url.port().is_some_and(|port| format!("{own}:{port}").eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "b3c1b5fc-828c-45fa-a1e1-10d74f6d6e9c";

    fn login() -> Url {
        Url::parse("https://login.microsoftonline.com").unwrap()
    }

    fn document(issuer: &str, jwks_uri: &str) -> String {
        format!(r#"{{"issuer":"{issuer}","jwks_uri":"{jwks_uri}","tenant_region_scope":"EU","msgraph_host":"graph.microsoft.com"}}"#)
    }

    #[test]
    fn a_tenant_is_named_by_a_guid_or_a_domain_and_by_nothing_that_changes_the_path() {
        for name in [GUID, &GUID.to_uppercase(), "contoso.onmicrosoft.com", "xn--bcher-kva.example", "a.b"] {
            assert!(is_tenant_name(name), "{name}");
        }
        let long = "a.".repeat(200) + "b";
        let label = "a".repeat(64) + ".test";
        for name in [
            "",
            "common",
            "organizations",
            "consumers",
            "contoso",
            ".",
            "..",
            "a..b",
            "../x.test",
            "x.test/../common",
            "x.test?y",
            "x.test#",
            "x test.y",
            "x.test%2f",
            "user@x.test",
            "x.test:443",
            "bücher.example",
            "b3c1b5fc828c45faa1e110d74f6d6e9c",
            "{b3c1b5fc-828c-45fa-a1e1-10d74f6d6e9c}",
            &long,
            &label,
            "x.test\n",
            "x.test\\y",
        ] {
            assert!(!is_tenant_name(name), "{name:?}");
        }
    }

    #[test]
    fn the_tenant_is_the_one_of_the_issuer_and_its_keys_lie_at_home() {
        let issuer = format!("https://login.microsoftonline.com/{GUID}/v2.0");
        let keys = format!("https://login.microsoftonline.com/{GUID}/discovery/v2.0/keys");
        let found = read(document(&issuer, &keys).as_bytes(), &login()).unwrap();
        assert_eq!(
            (found.id.to_string().as_str(), found.issuer.as_str(), found.region_scope.as_deref()),
            (GUID, issuer.as_str(), Some("EU"))
        );
        for (issuer, keys, code) in [
            ("https://login.microsoftonline.com/{tenantid}/v2.0", keys.as_str(), "bad-answer"),
            ("https://login.microsoftonline.com/v2.0", &keys, "bad-answer"),
            (&format!("https://login.test/{GUID}/{GUID}"), &keys, "bad-answer"),
            ("no address", &keys, "bad-answer"),
            (&issuer, "no address", "bad-answer"),
            (&issuer, "https://login.microsoftonline.com.attacker.test/keys", "foreign-keys"),
            (&issuer, "https://keys.attacker.test/", "foreign-keys"),
            (&issuer, "http://login.microsoftonline.com/keys", "foreign-keys"),
            (&issuer, "https://login.microsoftonline.com:8443/keys", "foreign-keys"),
            (&issuer, "https://user@login.microsoftonline.com/keys", "foreign-keys"),
        ] {
            let error = read(document(issuer, keys).as_bytes(), &login()).unwrap_err();
            assert_eq!(error.trouble().code.as_deref(), Some(code), "{issuer} {keys}");
        }
        for body in ["", "[]", "{}", "<html>", r#"{"issuer":5}"#] {
            assert_eq!(read(body.as_bytes(), &login()).unwrap_err().trouble().code.as_deref(), Some("bad-answer"), "{body}");
        }
    }

    fn living(region: &str, sub_region: &str, instance: &str, graph: &str) -> Directory {
        let word = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Directory {
            id: TenantId(Uuid::nil()),
            issuer: String::new(),
            jwks_uri: login(),
            region_scope: word(region),
            region_sub_scope: word(sub_region),
            cloud_instance: word(instance),
            graph_host: word(graph),
        }
    }

    #[test]
    fn a_tenant_is_only_taken_in_the_cloud_that_it_lives_in() {
        let clouds = built_in();
        let tenants = [
            (living("EU", "", "microsoftonline.com", "graph.microsoft.com"), "global"),
            (living("NA", "GCC", "microsoftonline.com", "graph.microsoft.com"), "gcc"),
            (living("USGov", "DODCON", "microsoftonline.us", "graph.microsoft.us"), "gcc-high"),
            (living("USGov", "", "microsoftonline.us", "graph.microsoft.us"), "gcc-high"),
            (living("USGov", "DOD", "microsoftonline.us", "dod-graph.microsoft.us"), "dod"),
            (living("", "", "microsoftonline.us", "dod-graph.microsoft.us"), "dod"),
            (living("AS", "", "partner.microsoftonline.cn", "microsoftgraph.chinacloudapi.cn"), "china"),
        ];
        for (tenant, home) in &tenants {
            for (name, cloud) in &clouds {
                match tenant.fits(name, cloud) {
                    Ok(()) => assert_eq!(name.as_str(), *home),
                    Err(sentence) => {
                        assert_ne!(name.as_str(), *home, "{sentence}");
                        assert!(sentence.contains(&format!("the cloud {home}")) && sentence.contains(name.as_str()), "{sentence}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_cloud_of_ones_own_is_compared_by_its_addresses() {
        let mut clouds = built_in();
        let global = clouds.remove(&CloudName::new("global")).unwrap();
        let renamed = CloudName::new("worldwide");
        assert!(
            living("NA", "GCC", "microsoftonline.com", "graph.microsoft.com")
                .fits(&renamed, &global)
                .unwrap_err()
                .contains("the cloud gcc")
        );
        assert_eq!(living("EU", "", "microsoftonline.com", "graph.microsoft.com").fits(&renamed, &global), Ok(()));
        let lab = Cloud { graph_url: Url::parse("http://127.0.0.1:18400").unwrap(), ..global };
        let name = CloudName::new("lab");
        assert_eq!(living("EU", "", "microsoftonline.com", "127.0.0.1:18400").fits(&name, &lab), Ok(()));
        assert!(living("", "", "", "graph.microsoft.us").fits(&name, &lab).unwrap_err().contains("the cloud gcc-high"));
        assert_eq!(living("", "", "", "").fits(&name, &lab), Ok(()), "a directory that says nothing is compared with nothing");
    }
}
