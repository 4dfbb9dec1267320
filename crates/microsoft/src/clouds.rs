//! Where Microsoft is: the addresses and scopes of each national cloud.
//!
//! An address and its scope are two settings on purpose. GCC signs in worldwide and reads Defender in
//! a government data centre; Defender's tokens are asked for under a name (`securitycenter`) that its
//! own host no longer carries. Nothing here may be derived from anything else here.

use std::collections::BTreeMap;

use domain::{Audience, CloudName};
use url::{Host, Url};

/// A cloud: three addresses, a portal, and the scopes to ask for.
///
/// Whoever makes one by hand calls [`Cloud::check`] before using it; every request checks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    /// Sign-in, such as `https://login.microsoftonline.com`.
    pub login_url: Url,
    /// Microsoft Graph, without the version.
    pub graph_url: Url,
    /// Defender for Endpoint, without `/api`. Absent where that cloud has none.
    pub defender_url: Option<Url>,
    /// What people open in a browser. Never called by us.
    pub portal_url: Option<String>,
    /// Scope of tokens for Graph, as for delegated use.
    pub graph_scope: String,
    /// Scope of tokens for Defender, as for delegated use.
    pub defender_scope: Option<String>,
    /// Accept `http` for hosts of this machine: a laboratory, never a customer.
    pub allow_plaintext: bool,
}

/// What is wrong with a cloud, naming the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} {problem}")]
pub struct CloudError {
    /// The key in the configuration, such as `graph_url`.
    pub key: &'static str,
    /// What is wrong with its value and what would be right.
    pub problem: &'static str,
}

impl Cloud {
    /// Checks that secrets sent to these addresses go nowhere else.
    ///
    /// # Errors
    /// Names the first key that is wrong: addresses must be `https`, or `http` on a loopback host when
    /// `allow_plaintext` is set, and hold no user name, query or fragment; scopes must not be empty.
    pub fn check(&self) -> Result<(), CloudError> {
        check_address("login_url", &self.login_url, self.allow_plaintext)?;
        check_address("graph_url", &self.graph_url, self.allow_plaintext)?;
        if let Some(url) = &self.defender_url {
            check_address("defender_url", url, self.allow_plaintext)?;
        }
        if let Some(text) = &self.portal_url {
            let web = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "https" | "http") && url.has_host());
            if !web {
                return Err(CloudError { key: "portal_url", problem: "is no web address; write one like https://security.microsoft.com" });
            }
        }
        check_scope("graph_scope", &self.graph_scope)?;
        if let Some(scope) = &self.defender_scope {
            check_scope("defender_scope", scope)?;
        }
        Ok(())
    }

    /// The API that this audience's tokens are for, or `None` where the cloud has none.
    pub fn api_url(&self, audience: Audience) -> Option<&Url> {
        match audience {
            Audience::Graph => Some(&self.graph_url),
            Audience::Defender => self.defender_url.as_ref(),
        }
    }

    /// The scope to ask for, or `None` where the cloud has none.
    pub fn scope(&self, audience: Audience) -> Option<&str> {
        match audience {
            Audience::Graph => Some(&self.graph_scope),
            Audience::Defender => self.defender_scope.as_deref(),
        }
    }
}

fn check_address(key: &'static str, url: &Url, allow_plaintext: bool) -> Result<(), CloudError> {
    let wrong = |problem| Err(CloudError { key, problem });
    if !url.has_host() {
        return wrong("names no host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("must not hold a user name or password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("must not hold a query or fragment");
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if !allow_plaintext => wrong("must begin with https:// (a laboratory on this machine may set allow_plaintext = true)"),
        "http" if !is_loopback(url) => wrong("may begin with http:// only for a host of this machine: 127.0.0.0/8, ::1 or localhost"),
        "http" => Ok(()),
        _ => wrong("must begin with https://"),
    }
}

fn check_scope(key: &'static str, scope: &str) -> Result<(), CloudError> {
    if scope.trim().is_empty() {
        return Err(CloudError { key, problem: "is empty; write one like https://graph.microsoft.com/.default offline_access" });
    }
    Ok(())
}

/// Whether the address is on this machine, by its spelling: nothing is resolved.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// `base` with `path` put after whatever path it has.
pub(crate) fn under(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// The clouds that need no configuration: `global`, `gcc`, `gcc-high`, `dod`, `china`.
pub fn built_in() -> BTreeMap<CloudName, Cloud> {
    struct Row {
        name: &'static str,
        login: &'static str,
        graph: &'static str,
        /// Address, and the name its tokens are asked for under.
        defender: Option<(&'static str, &'static str)>,
        portal: Option<&'static str>,
    }
    const ROWS: [Row; 5] = [
        Row {
            name: "global",
            login: "login.microsoftonline.com",
            graph: "graph.microsoft.com",
            defender: Some(("api.security.microsoft.com", "api.securitycenter.microsoft.com")),
            portal: Some("security.microsoft.com"),
        },
        Row {
            name: "gcc",
            login: "login.microsoftonline.com",
            graph: "graph.microsoft.com",
            defender: Some(("api-gcc.securitycenter.microsoft.us", "api-gcc.securitycenter.microsoft.us")),
            portal: Some("security.microsoft.com"),
        },
        Row {
            name: "gcc-high",
            login: "login.microsoftonline.us",
            graph: "graph.microsoft.us",
            defender: Some(("api-gov.securitycenter.microsoft.us", "api-gov.securitycenter.microsoft.us")),
            portal: Some("security.microsoft.us"),
        },
        Row {
            name: "dod",
            login: "login.microsoftonline.us",
            graph: "dod-graph.microsoft.us",
            defender: Some(("api-gov.securitycenter.microsoft.us", "api-gov.securitycenter.microsoft.us")),
            portal: Some("security.apps.mil"),
        },
        Row {
            name: "china",
            login: "login.partner.microsoftonline.cn",
            graph: "microsoftgraph.chinacloudapi.cn",
            defender: None,
            portal: None,
        },
    ];
    let address = |host: &str| Url::parse(&format!("https://{host}")).expect("the host names above are valid");
    let scope = |host: &str| format!("https://{host}/.default offline_access");
    ROWS.into_iter()
        .map(|row| {
            let cloud = Cloud {
                login_url: address(row.login),
                graph_url: address(row.graph),
                defender_url: row.defender.map(|(host, _)| address(host)),
                portal_url: row.portal.map(|host| format!("https://{host}")),
                graph_scope: scope(row.graph),
                defender_scope: row.defender.map(|(_, name)| scope(name)),
                allow_plaintext: false,
            };
            (CloudName::new(row.name), cloud)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab(graph_url: &str, allow_plaintext: bool) -> Cloud {
        let global = built_in().remove(&CloudName::new("global")).unwrap();
        Cloud { graph_url: Url::parse(graph_url).unwrap(), allow_plaintext, ..global }
    }

    #[test]
    fn every_built_in_cloud_passes_its_own_check() {
        let clouds = built_in();
        let names: Vec<_> = clouds.keys().map(CloudName::as_str).collect();
        assert_eq!(names, ["china", "dod", "gcc", "gcc-high", "global"]);
        for (name, cloud) in &clouds {
            assert_eq!(cloud.check(), Ok(()), "{name}");
            assert_eq!(cloud.defender_url.is_some(), cloud.defender_scope.is_some(), "{name}");
        }
    }

    #[test]
    fn gcc_signs_in_worldwide_and_reads_defender_in_the_government_cloud() {
        let gcc = built_in().remove(&CloudName::new("gcc")).unwrap();
        assert_eq!(gcc.login_url.host_str(), Some("login.microsoftonline.com"));
        assert_eq!(gcc.defender_url.unwrap().host_str(), Some("api-gcc.securitycenter.microsoft.us"));
    }

    #[test]
    fn plaintext_is_for_this_machine_and_only_when_asked_for() {
        for url in ["http://127.0.0.1:18400", "http://127.9.8.7", "http://[::1]:1", "http://LOCALHOST/graph/", "https://localhost"] {
            assert_eq!(lab(url, true).check(), Ok(()), "{url}");
        }
        for url in ["http://127.0.0.1:18400", "http://localhost"] {
            assert!(lab(url, false).check().unwrap_err().to_string().starts_with("graph_url must begin with https://"), "{url}");
        }
        for url in [
            "http://graph.microsoft.com",
            "http://localhost.example",
            "http://localhost./",
            "http://10.0.0.1",
            "http://0.0.0.0",
            "http://[::ffff:127.0.0.1]",
            "http://127.0.0.1.example",
        ] {
            assert!(lab(url, true).check().unwrap_err().to_string().contains("host of this machine"), "{url}");
        }
    }

    #[test]
    fn an_address_holds_nothing_but_an_address() {
        for url in [
            "https://user@graph.microsoft.com",
            "https://:secret@graph.microsoft.com",
            "https://graph.microsoft.com?x=1",
            "https://graph.microsoft.com/#a",
            "ftp://graph.microsoft.com",
            "data:text/plain,hello",
        ] {
            let error = lab(url, true).check().unwrap_err();
            assert_eq!(error.key, "graph_url", "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let mut cloud = lab("https://graph.microsoft.com", false);
        cloud.graph_scope = "  ".to_owned();
        assert_eq!(cloud.check().unwrap_err().key, "graph_scope");
        let mut cloud = lab("https://graph.microsoft.com", false);
        cloud.portal_url = Some("javascript:alert(1)".to_owned());
        assert_eq!(cloud.check().unwrap_err().key, "portal_url");
    }

    #[test]
    fn a_path_of_the_base_is_kept() {
        for (base, url) in [
            ("https://a", "https://a/v1.0/x"),
            ("https://a/", "https://a/v1.0/x"),
            ("https://a/gate/way", "https://a/gate/way/v1.0/x"),
            ("https://a/gate/way/", "https://a/gate/way/v1.0/x"),
        ] {
            assert_eq!(under(&Url::parse(base).unwrap(), "v1.0/x").as_str(), url);
        }
    }
}
