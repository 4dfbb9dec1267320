//! Somebody in front of a browser, without the browser: one cookie jar, redirects followed by hand, nothing more.
//!
//! A browser keeps `__Host-` cookies to itself; here they are a map that a story can look into and spoil.

use std::collections::BTreeMap;

use anyhow::Context;
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Url};

/// The visitor.
#[derive(Clone, Debug)]
pub struct Visitor {
    client: Client,
    /// By origin and name.
    pub cookies: BTreeMap<(String, String), String>,
}

/// What the visitor got to see.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The status.
    pub status: u16,
    /// The address it came from.
    pub at: Url,
    /// The headers, as text.
    pub headers: BTreeMap<String, String>,
    /// The page.
    pub body: String,
    /// Where a redirect leads.
    pub to: Option<Url>,
}

impl Visitor {
    /// A fresh one, with no cookies.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { client: Client::builder().redirect(Policy::none()).no_proxy().build()?, cookies: BTreeMap::new() })
    }

    /// Opens an address.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn open(&mut self, address: &str) -> anyhow::Result<Seen> {
        self.ask(Method::GET, address, &[]).await
    }

    /// Presses the button of the page at an address.
    ///
    /// # Errors
    /// As [`Visitor::open`].
    pub async fn press(&mut self, address: &str) -> anyhow::Result<Seen> {
        self.ask(Method::POST, address, &[]).await
    }

    /// Asks with these headers besides.
    ///
    /// # Errors
    /// As [`Visitor::open`].
    pub async fn ask(&mut self, method: Method, address: &str, headers: &[(&str, &str)]) -> anyhow::Result<Seen> {
        let at = Url::parse(address).with_context(|| format!("{address} is no address"))?;
        let origin = at.origin().ascii_serialization();
        let mut request = self.client.request(method, at.clone());
        let cookies: Vec<_> =
            self.cookies.iter().filter(|((owner, _), _)| *owner == origin).map(|((_, name), value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request = request.header(COOKIE, cookies.join("; "));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await?;
        for line in answer.headers().get_all(SET_COOKIE) {
            let pair = line.to_str()?.split(';').next().unwrap_or_default().to_owned();
            let (name, value) = pair.split_once('=').context("a cookie without a value")?;
            self.cookies.insert((origin.clone(), name.to_owned()), value.to_owned());
        }
        let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok()).and_then(|to| at.join(to).ok());
        let headers =
            answer.headers().iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        let (status, headers) = (answer.status().as_u16(), headers.collect());
        Ok(Seen { status, at, headers, body: answer.text().await?, to })
    }

    /// Goes where a redirect leads.
    ///
    /// # Errors
    /// When it is none, or nobody answers there.
    pub async fn follow(&mut self, seen: &Seen) -> anyhow::Result<Seen> {
        let to = seen.to.as_ref().with_context(|| format!("{} at {} leads nowhere: {:.300}", seen.status, seen.at, seen.body))?;
        self.open(to.as_str()).await
    }
}
