//! The first token of a tenant: from the answer of a sign-in to a connection that is proved.
//!
//! The console and the command line hold this handle and nothing else of the refresher: they bring the answer that a
//! browser came back with, and never see a token. The token is sealed as a candidate before anything else is done with
//! it, then redeemed for every audience that the tenant needs, and a first page of every source is read. Only when all
//! of that went well does it take its place (see `tenant_registry`'s candidates). Each step is a line of a checklist
//! that whoever waits can watch.

mod access;
mod checklist;
mod permissions;
mod proof;
mod role;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::ports::AppCredentials;
use domain::{AppName, Audience, Clock, CloudName, LinkKind, Trouble, Verdict};
use microsoft::{AlertsApi, App, Ask, Cloud, DeviceCode, Directory, Returned, Said, SignIn, Turns as _};
use tenant_registry::{Accepted, Invited, Registry, SignInBegun, Ticket};
use url::Url;
use zeroize::Zeroizing;

use crate::source::TokenSource;

pub use checklist::title;
pub use permissions::in_plain_words;

/// What connecting a tenant takes.
pub struct EnrolDeps {
    /// The sign-in service.
    pub sign_in: SignIn,
    /// The alert APIs, for the first page.
    pub api: AlertsApi,
    /// Where the token is sealed.
    pub registry: Registry,
    /// The configured clouds.
    pub clouds: Arc<BTreeMap<CloudName, Cloud>>,
    /// The configured app registrations.
    pub apps: Arc<BTreeMap<AppName, App>>,
    /// What our apps prove themselves with.
    pub credentials: Arc<dyn AppCredentials>,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
}

/// Connects tenants. Cheap to clone.
#[derive(Clone)]
pub struct Enrol {
    deps: Arc<EnrolDeps>,
    /// The rate of the login hosts, shared with the refresher of the same process.
    turns: Option<TokenSource>,
}

/// What a browser came back with. Prints as nothing.
pub enum Answer {
    /// A code that can be redeemed once.
    Code {
        /// The code.
        code: Zeroizing<String>,
        /// Who says that it gave it out (RFC 9207), if anybody does.
        issuer: Option<String>,
    },
    /// Somebody is about to enter this code on another device.
    Device(Box<DeviceCode>),
    /// An administrator consented to the permissions of the app itself.
    Granted {
        /// In which directory, as the browser tells it.
        directory: Option<String>,
    },
    /// The sign-in service, or the person in front of it, refused.
    Refused {
        /// The word of the standard, such as `access_denied`.
        error: String,
        /// What Microsoft writes beside it.
        description: Option<String>,
    },
}

impl Answer {
    /// What a browser came back with, for a link of this kind.
    ///
    /// # Errors
    /// As [`Returned::said`].
    pub fn of(returned: Returned, kind: LinkKind) -> Result<Self, &'static str> {
        Ok(match returned.said(kind)? {
            Said::Code { code, issuer } => Self::Code { code, issuer },
            Said::Granted { directory } => Self::Granted { directory },
            Said::Refused { error, description } => Self::Refused { error, description },
        })
    }
}

/// The connection was not made.
#[derive(Debug, thiserror::Error)]
#[error("{}", .words)]
pub struct NotConnected {
    /// What stood in the way and what to do about it: the last line of the checklist.
    pub words: String,
}

impl Enrol {
    /// Without `turns`, login hosts are asked as fast as the sign-in needs: a command does that for one tenant.
    pub fn new(deps: EnrolDeps, turns: Option<TokenSource>) -> Self {
        Self { deps: Arc::new(deps), turns }
    }

    /// Where a browser has to go for this sign-in.
    ///
    /// # Errors
    /// When the configuration no longer has the tenant's cloud or app, or a scope is missing.
    pub fn address(&self, invited: &Invited, begun: &SignInBegun, redirect_uri: &str) -> Result<Url, Trouble> {
        let (cloud, app) = self.of(invited)?;
        let state = begun.state.text();
        match invited.kind {
            LinkKind::Application => {
                self.deps.sign_in.admin_consent_url(cloud, app, invited.tenant, redirect_uri, &state).map_err(|error| error.trouble())
            }
            LinkKind::Delegated => {
                let (nonce, challenge) = (begun.browser.nonce(), challenge_of(&begun.browser.verifier()));
                let audiences = audiences_of(invited);
                let ask =
                    Ask { redirect_uri, state: &state, nonce: &nonce, code_challenge: &challenge, login_hint: None, audiences: &audiences };
                self.deps.sign_in.authorize_url(cloud, app, invited.tenant, &ask).map_err(|error| error.trouble())
            }
        }
    }

    /// Asks a cloud who a directory is: a GUID, or a domain that somebody has verified there.
    ///
    /// # Errors
    /// When there is no such directory, it belongs to another cloud, or the cloud cannot be asked.
    pub async fn resolve(&self, cloud: &CloudName, directory: &str) -> Result<Directory, Trouble> {
        let known = self.deps.clouds.get(cloud).ok_or_else(|| unknown("cloud", cloud.as_str()))?;
        let found = self.deps.sign_in.discover(known, directory).await.map_err(|error| error.trouble())?;
        found.fits(cloud, known).map_err(|reason| Trouble {
            verdict: Verdict::OurBug,
            reason,
            action: "you: name the right cloud with --cloud".to_owned(),
            code: Some("wrong-cloud".to_owned()),
            trace: None,
        })?;
        Ok(found)
    }

    /// Begins a sign-in by a code that is entered on another device.
    ///
    /// # Errors
    /// When the sign-in service refuses, or the configuration no longer has the tenant's cloud or app.
    pub async fn begin_device_code(&self, invited: &Invited) -> Result<DeviceCode, Trouble> {
        let (cloud, app) = self.of(invited)?;
        let audience = audiences_of(invited).first().copied().unwrap_or(Audience::Graph);
        self.turn(cloud).await;
        let begun = self.deps.sign_in.begin_device_code(cloud, app, invited.tenant, audience).await;
        begun.map_err(|error| error.trouble())
    }

    /// Makes the connection out of an answer that [`Registry::accept_answer`] has taken, and proves it. Runs to its end
    /// even if the caller goes away, since a token that arrived may be the only one there is.
    ///
    /// # Errors
    /// [`NotConnected`]; what the tenant had before is untouched then.
    pub async fn connect(&self, accepted: Accepted, browser: Ticket, answer: Answer) -> Result<(), NotConnected> {
        let enrol = self.clone();
        let work = async move { proof::prove(&enrol, &accepted, &browser, answer).await };
        let running = match &self.turns {
            Some(tokens) => tokens.core.under_way.spawn(work),
            None => tokio::spawn(work),
        };
        match running.await {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(NotConnected { words: "the daemon is stopping: begin again from the link".to_owned() }),
        }
    }

    /// Shows on the checklist that an answer came back that is none.
    pub async fn unfit(&self, accepted: &Accepted, reason: &str) {
        let mut checklist = checklist::Checklist::new(&self.deps.registry, accepted);
        checklist.failed("signed-in", format!("{reason}; next: begin again from the link")).await;
        if let Err(error) = self.deps.registry.end_proof(accepted).await {
            tracing::debug!(tenant.id = %accepted.invited.tenant, %error, "a proof that was none ends with the upkeep");
        }
    }

    fn of(&self, invited: &Invited) -> Result<(&Cloud, &App), Trouble> {
        let cloud = self.deps.clouds.get(&invited.cloud).ok_or_else(|| unknown("cloud", invited.cloud.as_str()))?;
        let app = self.deps.apps.get(&invited.app).ok_or_else(|| unknown("app", invited.app.as_str()))?;
        Ok((cloud, app))
    }

    /// Waits for the turn at a login host. Where that is throttling everybody, a person who waits still asks.
    async fn turn(&self, cloud: &Cloud) {
        if let Some(tokens) = &self.turns {
            tokens.core.lanes.turn(cloud).await;
        }
    }
}

/// Whom access tokens are needed for, each once.
fn audiences_of(invited: &Invited) -> Vec<Audience> {
    let mut audiences: Vec<_> = invited.sources.iter().map(|source| source.audience()).collect();
    audiences.sort();
    audiences.dedup();
    audiences
}

/// The challenge that goes with a verifier (RFC 7636, S256).
fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes()))
}

/// Every step of a proof, in the order in which it is done.
pub fn steps_of(kind: LinkKind) -> &'static [&'static str] {
    match kind {
        LinkKind::Delegated => &["signed-in", "token-opens", "refresh-works", "permissions", "first-page", "clock", "connected"],
        LinkKind::Application => &["signed-in", "refresh-works", "permissions", "first-page", "clock", "connected"],
    }
}

fn unknown(what: &str, name: &str) -> Trouble {
    Trouble {
        verdict: Verdict::Global,
        reason: format!("the configuration has no {what} called {name}"),
        action: format!("the operator of tocsin adds [{what}s.{name}] to the configuration"),
        code: None,
        trace: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_the_one_of_the_standard() {
        // RFC 7636, appendix B.
        assert_eq!(challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
