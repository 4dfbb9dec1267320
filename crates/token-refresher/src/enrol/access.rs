//! How a proof comes by access tokens: a code that a browser brought, a code on another device, the app's own credential.
//!
//! Before each request it is seen whether the connection is still wanted, and what passes is waited for as long as a person
//! in front of a page would.

use std::time::Duration;

use domain::consent::missing;
use domain::{Audience, Verdict};
use microsoft::{Code, Desk, DeviceCode, DevicePoll, Directory, Redeemed, SignedIn};
use tenant_registry::Ticket;
use tokio::time::sleep;
use uuid::Uuid;

use super::checklist::Checklist;
use super::proof::{Access, Case};
use super::{NotConnected, audiences_of};

/// Right after a consent, Microsoft's services take a while to hear of it; and what passes should cost nobody a second
/// sign-in.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_secs(5);
/// No person in front of a page waits longer than this for what passes.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// What a sign-in service that is asked too often wants between two questions, besides the usual (RFC 8628).
const SLOW_DOWN: Duration = Duration::from_secs(5);

impl Case<'_> {
    /// Redeems the code of a browser that came back.
    pub(super) async fn by_code(
        &self,
        list: &mut Checklist<'_>,
        browser: &Ticket,
        code: &str,
        issuer: Option<&str>,
    ) -> Result<Vec<Access>, NotConnected> {
        let (first, directory) = self.directory(list).await?;
        // An answer that names another sign-in service was meant for that one (RFC 9207).
        if issuer.is_some_and(|issuer| issuer != directory.issuer) {
            let words = "the answer came from another sign-in service than the one asked; next: begin again from the link";
            return Err(list.failed("signed-in", words).await);
        }
        let (verifier, nonce) = (browser.verifier(), browser.nonce());
        self.enrol.turn(self.cloud).await;
        self.wanted(list, "signed-in").await?;
        let code = Code { code, redirect_uri: &self.accepted.redirect_uri, verifier: &verifier, nonce: &nonce };
        let signed_in = self.enrol.deps.sign_in.redeem_code(&self.desk(&directory), first, &code, self.credential.as_ref()).await;
        match signed_in {
            Ok(signed_in) => self.arrived(list, signed_in).await,
            Err(error) => Err(list.trouble("signed-in", &error.trouble()).await),
        }
    }

    /// Waits until somebody has entered the code on another device.
    pub(super) async fn by_device(&self, list: &mut Checklist<'_>, device: &DeviceCode) -> Result<Vec<Access>, NotConnected> {
        let (first, directory) = self.directory(list).await?;
        let mut pause = device.interval;
        loop {
            sleep(pause).await;
            self.enrol.turn(self.cloud).await;
            self.wanted(list, "signed-in").await?;
            match self.enrol.deps.sign_in.poll_device_code(&self.desk(&directory), first, device, self.credential.as_ref()).await {
                Ok(DevicePoll::Pending) => {}
                Ok(DevicePoll::SlowDown) => pause += SLOW_DOWN,
                Ok(DevicePoll::SignedIn(signed_in)) => return self.arrived(list, *signed_in).await,
                Err(error) => return Err(list.trouble("signed-in", &error.trouble()).await),
            }
        }
    }

    /// Before each request: a link that was called back, or a tenant that was removed, is asked nothing more.
    pub(super) async fn wanted(&self, list: &mut Checklist<'_>, step: &str) -> Result<(), NotConnected> {
        match self.enrol.deps.registry.still_wanted(self.accepted).await {
            Ok(()) => Ok(()),
            Err(error) => Err(list.failed(step, error.to_string()).await),
        }
    }

    /// The first audience to sign in for, and what the cloud says of the directory.
    async fn directory(&self, list: &mut Checklist<'_>) -> Result<(Audience, Directory), NotConnected> {
        let Some(first) = audiences_of(&self.accepted.invited).first().copied() else {
            return Err(list.failed("signed-in", "no source is configured for this tenant").await);
        };
        let mut patience = Patience::default();
        loop {
            self.enrol.turn(self.cloud).await;
            match self.enrol.deps.sign_in.discover(self.cloud, &self.accepted.invited.tenant.to_string()).await {
                Ok(directory) => return Ok((first, directory)),
                Err(error) if patience.is_left(&error.trouble().verdict).await => {}
                Err(error) => return Err(list.trouble("signed-in", &error.trouble()).await),
            }
        }
    }

    fn desk<'a>(&'a self, directory: &'a Directory) -> Desk<'a> {
        Desk { cloud: self.cloud, app: self.app, tenant: self.accepted.invited.tenant, directory }
    }

    /// Seals what a sign-in brought, and redeems that for every audience.
    async fn arrived(&self, list: &mut Checklist<'_>, signed_in: SignedIn) -> Result<Vec<Access>, NotConnected> {
        let deps = &self.enrol.deps;
        list.passed("signed-in", "the account signed in to the right directory, and consented").await;
        self.account.set(signed_in.user).ok();
        let Some(token) = signed_in.redeemed.refresh else {
            let words = "no refresh token came back; you: let the app ask for the scope offline_access";
            return Err(list.failed("token-opens", words).await);
        };
        if let Err(error) = deps.registry.seal_candidate(self.accepted, &self.app.client_id, &token).await {
            return Err(list.failed("token-opens", format!("the token cannot be sealed: {error}")).await);
        }
        drop(token);
        let mut access = Vec::new();
        for audience in audiences_of(&self.accepted.invited) {
            access.push(self.redeem_candidate(list, audience).await?);
        }
        list.passed("token-opens", "the refresh token is sealed for this tenant, and opens again").await;
        list.passed("refresh-works", format!("it was redeemed for {}", named(&access))).await;
        Ok(access)
    }

    /// One redemption of the candidate; its successor is sealed before the access token is used (I30).
    async fn redeem_candidate(&self, list: &mut Checklist<'_>, audience: Audience) -> Result<Access, NotConnected> {
        let (deps, tenant) = (&self.enrol.deps, self.accepted.invited.tenant);
        let mut patience = Patience::default();
        let Redeemed { access, refresh, granted, roles } = loop {
            self.enrol.turn(self.cloud).await;
            // It opens only while the link is open.
            let opened = match deps.registry.open_candidate(self.accepted, &self.app.client_id).await {
                Ok(opened) => opened,
                Err(error) => return Err(list.failed("token-opens", format!("the token does not open again: {error}")).await),
            };
            let redeemed = deps.sign_in.redeem(self.cloud, self.app, tenant, audience, &opened.token, self.credential.as_ref()).await;
            drop(opened);
            match redeemed {
                Ok(redeemed) => break redeemed,
                Err(error) if patience.is_left(&error.trouble().verdict).await => {}
                Err(error) => return Err(list.trouble("refresh-works", &error.trouble()).await),
            }
        };
        if let Some(next) = refresh
            && let Err(error) = deps.registry.seal_candidate(self.accepted, &self.app.client_id, &next).await
        {
            return Err(list.failed("token-opens", format!("the rotated token cannot be sealed: {error}")).await);
        }
        Ok(Access { audience, token: access, granted, roles })
    }

    /// The app's own credential opens the tenant.
    pub(super) async fn by_credential(&self, list: &mut Checklist<'_>, directory: Option<&str>) -> Result<Vec<Access>, NotConnected> {
        let (deps, tenant) = (&self.enrol.deps, self.accepted.invited.tenant);
        // What a browser says proves nothing; that it says something else is a mistake which costs hours otherwise.
        if directory.is_some_and(|directory| Uuid::try_parse(directory) != Ok(tenant.0)) {
            let words =
                format!("an administrator of another directory consented; next: open the link again, as an administrator of {tenant}");
            return Err(list.up_to_the_customer("signed-in", words).await);
        }
        list.passed("signed-in", "an administrator came back from Microsoft's consent page").await;
        let Some(credential) = &self.credential else {
            return Err(list.failed("refresh-works", "the app has no credential; you: give it one in the configuration").await);
        };
        let mut access = Vec::new();
        for audience in audiences_of(&self.accepted.invited) {
            let mut patience = Patience::default();
            let redeemed = loop {
                self.enrol.turn(self.cloud).await;
                self.wanted(list, "refresh-works").await?;
                match deps.sign_in.client_credentials(self.cloud, self.app, tenant, audience, credential).await {
                    // Right after the consent a token may not have heard of it yet.
                    Ok(redeemed) if self.lacks(audience, &redeemed) && patience.is_left(&Verdict::Retry).await => {}
                    Ok(redeemed) => break redeemed,
                    Err(error) if patience.is_left(&error.trouble().verdict).await => {}
                    Err(error) => return Err(list.trouble("refresh-works", &error.trouble()).await),
                }
            };
            let Redeemed { access: token, granted, roles, .. } = redeemed;
            access.push(Access { audience, token, granted, roles });
        }
        list.passed("refresh-works", format!("the app signed in for {}", named(&access))).await;
        Ok(access)
    }

    /// Whether a token says that it does not allow all that is to be read.
    fn lacks(&self, audience: Audience, redeemed: &Redeemed) -> bool {
        redeemed.granted.as_deref().is_some_and(|granted| !missing(&self.accepted.invited.sources, audience, granted).is_empty())
    }
}

/// How often somebody who waits in front of a page is asked for, before he is told.
#[derive(Default)]
pub(super) struct Patience {
    attempts: u32,
}

impl Patience {
    /// Waits and says `true` if this may pass and is worth another attempt.
    pub(super) async fn is_left(&mut self, verdict: &Verdict) -> bool {
        let pause = match verdict {
            Verdict::Retry => PAUSE,
            Verdict::RetryAfter(wait) if *wait <= LONGEST_PAUSE => PAUSE.max(*wait),
            _ => return false,
        };
        self.attempts += 1;
        if self.attempts >= ATTEMPTS {
            return false;
        }
        sleep(pause).await;
        true
    }
}

fn named(access: &[Access]) -> String {
    access.iter().map(|access| access.audience.as_str()).collect::<Vec<_>>().join(" and ")
}
