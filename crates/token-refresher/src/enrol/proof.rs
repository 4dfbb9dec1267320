//! The proof itself, step by step. How it comes by access tokens is told in [`super::access`].

use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::Duration;

use domain::consent::{Account, missing};
use domain::{AccessToken, AppCredential, Audience, Axis, LinkKind, Source, Ticks, Trouble, Verdict};
use microsoft::{App, Cloud, PageQuery, SignInError, WindowQuery};
use tenant_registry::{Accepted, AdminError, Invited, Ticket};
use tokio::time::sleep;
use uuid::Uuid;

use super::access::Patience;
use super::checklist::Checklist;
use super::role::{self, Role};
use super::{Answer, Enrol, NotConnected, in_plain_words};

/// How often a proof says that it goes on. Whoever is silent for four times as long is given up.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// A clock that is this far off would make us misread when tokens end.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// How far back the first page looks.
const FIRST_PAGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Who is connected, and with what.
pub(super) struct Case<'a> {
    pub(super) enrol: &'a Enrol,
    pub(super) accepted: &'a Accepted,
    pub(super) cloud: &'a Cloud,
    pub(super) app: &'a App,
    pub(super) credential: Option<AppCredential>,
    /// Who signed in.
    pub(super) account: OnceLock<Account>,
}

/// An access token and what it allows.
pub(super) struct Access {
    pub(super) audience: Audience,
    pub(super) token: AccessToken,
    pub(super) granted: Option<Vec<String>>,
    pub(super) roles: Option<Vec<Uuid>>,
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
        Answer::Granted { directory } => case.by_credential(&mut list, directory.as_deref()).await?,
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
