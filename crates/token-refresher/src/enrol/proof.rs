//! The proof itself, step by step.

use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::Duration;

use domain::consent::{Account, missing};
use domain::{AccessToken, AppCredential, Audience, Axis, LinkKind, Source, Ticks, Trouble, Verdict};
use microsoft::{App, Cloud, Code, Desk, DeviceCode, DevicePoll, Directory, PageQuery, Redeemed, SignInError, SignedIn, WindowQuery};
use tenant_registry::{Accepted, AdminError, Invited, Ticket};
use tokio::time::sleep;
use uuid::Uuid;

use super::checklist::Checklist;
use super::role::{self, Role};
use super::{Answer, Enrol, NotConnected, audiences_of, in_plain_words};

/// Right after a consent, Microsoft's services take a while to hear of it; and what passes should cost nobody a second
/// sign-in.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_secs(5);
/// No person in front of a page waits longer than this for what passes.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// What a sign-in service that is asked too often wants between two questions, besides the usual (RFC 8628).
const SLOW_DOWN: Duration = Duration::from_secs(5);
/// How often a proof says that it goes on. Whoever is silent for four times as long is given up.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// A clock that is this far off would make us misread when tokens end.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// How far back the first page looks.
const FIRST_PAGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Who is connected, and with what.
struct Case<'a> {
    enrol: &'a Enrol,
    accepted: &'a Accepted,
    cloud: &'a Cloud,
    app: &'a App,
    credential: Option<AppCredential>,
    /// Who signed in.
    account: OnceLock<Account>,
}

/// An access token and what it allows.
struct Access {
    audience: Audience,
    token: AccessToken,
    granted: Option<Vec<String>>,
    roles: Option<Vec<Uuid>>,
}

/// Proves and connects. A token that was not proved is of no use to anybody and does not stay.
pub(super) async fn prove(enrol: &Enrol, accepted: &Accepted, browser: &Ticket, answer: Answer) -> Result<(), NotConnected> {
    let outcome = tokio::select! {
        outcome = try_prove(enrol, accepted, browser, answer) => outcome,
        never = goes_on(enrol, accepted) => match never {},
    };
    if outcome.is_err()
        && let Err(error) = enrol.deps.registry.end_proof(accepted).await
    {
        tracing::warn!(tenant.id = %accepted.invited.tenant, %error, "a token that was not proved stays sealed until the upkeep finds it");
    }
    outcome
}

/// Says every few seconds that the proof goes on; should this process die, it is noticed by that.
async fn goes_on(enrol: &Enrol, accepted: &Accepted) -> Infallible {
    loop {
        sleep(SIGN_OF_LIFE).await;
        if let Err(error) = enrol.deps.registry.still_proving(accepted).await {
            tracing::debug!(tenant.id = %accepted.invited.tenant, %error, "a proof could not say that it goes on");
        }
    }
}

async fn try_prove(enrol: &Enrol, accepted: &Accepted, browser: &Ticket, answer: Answer) -> Result<(), NotConnected> {
    let invited = &accepted.invited;
    let mut list = Checklist::new(&enrol.deps.registry, accepted);
    let case = match case(enrol, accepted) {
        Ok(case) => case,
        Err(trouble) => return Err(list.trouble("signed-in", &trouble).await),
    };
    let access = match answer {
        Answer::Code { code, issuer } => case.by_code(&mut list, browser, &code, issuer.as_deref()).await?,
        Answer::Device(device) => case.by_device(&mut list, &device).await?,
        Answer::Granted => case.by_credential(&mut list).await?,
        Answer::Refused { error, description } => {
            let refused = SignInError::of_redirect(&error, description.as_deref());
            return Err(list.trouble("signed-in", &refused.trouble()).await);
        }
    };
    case.permissions(&mut list, &access).await?;
    let server_date = case.first_pages(&mut list, &access).await?;
    case.clock(&mut list, server_date).await?;
    match case.promote().await {
        Ok(()) => {
            tracing::info!(tenant.id = %invited.tenant, kind = %invited.kind, "a tenant is connected");
            list.passed("connected", "alerts are read from now on").await;
            Ok(())
        }
        Err(error) => Err(list.failed("connected", error.to_string()).await),
    }
}

fn case<'a>(enrol: &'a Enrol, accepted: &'a Accepted) -> Result<Case<'a>, Trouble> {
    let (cloud, app) = enrol.of(&accepted.invited)?;
    let credential = enrol.deps.credentials.credential(&accepted.invited.app).map_err(|unreadable| Trouble {
        verdict: Verdict::Global,
        reason: unreadable.reason,
        action: "the operator of tocsin puts the credential of the app in its place".to_owned(),
        code: None,
        trace: None,
    })?;
    Ok(Case { enrol, accepted, cloud, app, credential, account: OnceLock::new() })
}

impl Case<'_> {
    /// Redeems the code of a browser that came back.
    async fn by_code(
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
    async fn by_device(&self, list: &mut Checklist<'_>, device: &DeviceCode) -> Result<Vec<Access>, NotConnected> {
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
    async fn wanted(&self, list: &mut Checklist<'_>, step: &str) -> Result<(), NotConnected> {
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
    async fn by_credential(&self, list: &mut Checklist<'_>) -> Result<Vec<Access>, NotConnected> {
        let (deps, tenant) = (&self.enrol.deps, self.accepted.invited.tenant);
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

    async fn permissions(&self, list: &mut Checklist<'_>, access: &[Access]) -> Result<(), NotConnected> {
        let invited = &self.accepted.invited;
        for access in access {
            // A token that cannot be read is left to the page.
            let Some(granted) = &access.granted else { continue };
            if let Some(lacking) = missing(&invited.sources, access.audience, granted).first() {
                let words = format!(
                    "{lacking} was not granted; you: add it to the app registration, then the customer: an administrator consents again from the link"
                );
                return Err(list.up_to_the_customer("permissions", words).await);
            }
        }
        let plain: Vec<_> = invited.sources.iter().map(|source| in_plain_words(*source)).collect();
        list.passed("permissions", format!("allowed to {}", plain.join(", to "))).await;
        if invited.kind == LinkKind::Delegated && invited.sources.contains(&Source::MdeAlerts) {
            let words = "Defender for Endpoint shows a signed-in account only the devices of its own device groups; alerts of other devices do not \
                         come through mde-alerts. Give the account all device groups, or use an app with its own permissions";
            list.warned("device-groups", words).await;
        }
        Ok(())
    }

    /// Reads one record of each source; answers the other side's clock. Whether the account's roles are enough is
    /// settled by that, too.
    async fn first_pages(&self, list: &mut Checklist<'_>, access: &[Access]) -> Result<Option<Ticks>, NotConnected> {
        let Invited { kind, sources, .. } = &self.accepted.invited;
        let role = Role::of(*kind, sources, access.iter().map(|access| access.roles.as_deref()));
        if let Role::Held(name) = role {
            list.passed("role", format!("it has the directory role {name}")).await;
        }
        let mut server_date = None;
        for source in sources {
            let Some(access) = access.iter().find(|access| access.audience == source.audience()) else { continue };
            let date = self.first_page(list, &role, *source, &access.token).await?;
            server_date = date.or(server_date);
        }
        list.passed("first-page", "every source answered with a page").await;
        if role == Role::Missing {
            list.warned("role", role::reads_without()).await;
        }
        Ok(server_date)
    }

    async fn first_page(
        &self,
        list: &mut Checklist<'_>,
        role: &Role,
        source: Source,
        token: &AccessToken,
    ) -> Result<Option<Ticks>, NotConnected> {
        let deps = &self.enrol.deps;
        let from = deps.clock.now().minus(FIRST_PAGE);
        let window = WindowQuery { from, before: None, top: 1, skip: 0, ordered: false, axis: Axis::Update, facets: [None; 3] };
        let mut patience = Patience::default();
        loop {
            self.wanted(list, "first-page").await?;
            let trouble = match deps.api.fetch(self.cloud, source, token, &PageQuery::Window(window)).await {
                Ok(page) => return Ok(page.server_date),
                Err(error) => error.trouble(),
            };
            // Right after a consent, a refusal may only mean that this service has not heard of it yet.
            let may_pass = match trouble.verdict {
                Verdict::NeedsConsent | Verdict::NeedsCustomer => Verdict::Retry,
                other => other,
            };
            if !patience.is_left(&may_pass).await {
                return Err(match role.explains(source, &trouble) {
                    Some(words) => list.up_to_the_customer("first-page", words).await,
                    None => list.trouble("first-page", &trouble).await,
                });
            }
        }
    }

    async fn clock(&self, list: &mut Checklist<'_>, server_date: Option<Ticks>) -> Result<(), NotConnected> {
        let now = self.enrol.deps.clock.now();
        match server_date {
            None => list.warned("clock", "the source does not say what time it is").await,
            Some(theirs) => {
                let apart = now.since(theirs).max(theirs.since(now));
                if apart > CLOCK_TOLERANCE {
                    let words = format!(
                        "our clock is {} s away from Microsoft's; you: set the clock of this host (NTP), then open the link again",
                        apart.as_secs()
                    );
                    return Err(list.failed("clock", words).await);
                }
                list.passed("clock", "our clock and Microsoft's agree").await;
            }
        }
        Ok(())
    }

    async fn promote(&self) -> Result<(), AdminError> {
        let (deps, invited) = (&self.enrol.deps, &self.accepted.invited);
        match invited.kind {
            LinkKind::Application => deps.registry.promote_application(self.accepted).await?,
            LinkKind::Delegated => {
                deps.registry.promote_candidate(self.accepted, &self.app.client_id, self.account.get(), deps.clock.now()).await?
            }
        };
        Ok(())
    }
}

/// How often somebody who waits in front of a page is asked for, before he is told.
#[derive(Default)]
struct Patience {
    attempts: u32,
}

impl Patience {
    /// Waits and says `true` if this may pass and is worth another attempt.
    async fn is_left(&mut self, verdict: &Verdict) -> bool {
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
