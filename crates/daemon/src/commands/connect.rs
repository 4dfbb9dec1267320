//! `tocsin tenant connect`: the same consent as by a link, from this machine.
//!
//! By default the pages of the consent flow are served on a loopback port of this command; `--paste` needs no browser
//! here at all. Either way the answer belongs to one sign-in that this command began, is proved as any other, and is
//! written into the audit when it is refused.

use std::io::BufRead as _;
use std::sync::Arc;
use std::time::Duration;

use console::{ConsentSettings, ConsentState, consent_router, read_answer, serve};
use domain::{LinkKind, SystemClock};
use microsoft::{AlertsApi, Http, HttpSettings, SignIn};
use serde_json::json;
use tenant_registry::{Invitation, Registry, Ticket};
use token_refresher::{Answer, Enrol, EnrolDeps};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;
use zeroize::Zeroizing;

use super::tenant::failure;
use super::{Setting, invite};
use crate::cli::Connect;
use crate::failure::{Exit, Failure};

/// Long enough to find the right account and its second factor.
const LIFE: Duration = Duration::from_secs(30 * 60);
/// What Entra takes with any port, for apps that have it registered.
const LOOPBACK: &str = "http://localhost";

/// Connects one tenant.
pub(super) async fn run(setting: &Setting, registry: &Registry, options: Connect) -> Result<(), Failure> {
    let tenant = invite::tenant(setting, registry, &options.who).await?;
    let kind = invite::kind_of(setting, &tenant)?;
    let enrol = enrol(setting, registry)?;
    let invitation = registry.invite(tenant.id, kind, options.who.relink, LIFE).await.map_err(failure)?;
    let outcome = if options.device_code {
        device_code(setting, registry, &enrol, &invitation).await
    } else if options.paste {
        paste(setting, registry, &enrol, &invitation, kind).await
    } else {
        // The pages write their own refusals.
        return by_browser(setting, registry, enrol, &invitation, tenant.id, options.no_browser).await;
    };
    if let Err(refused) = &outcome
        && let Err(error) = registry.audit_refusal(Some(tenant.id), "consent.refused", &refused.message).await
    {
        setting.output.note(&format!("this refusal cannot be written into the audit: {error}"));
    }
    outcome
}

/// What it takes to connect, without a daemon.
fn enrol(setting: &Setting, registry: &Registry) -> Result<Enrol, Failure> {
    let http = Http::new(HttpSettings::default()).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let clock = Arc::new(SystemClock);
    let deps = EnrolDeps {
        sign_in: SignIn::new(http.clone(), clock.clone()),
        api: AlertsApi::new(http, clock.clone()),
        registry: registry.clone(),
        clouds: Arc::new(setting.config.clouds.clone()),
        apps: Arc::new(setting.config.apps.iter().map(|(name, app)| (name.clone(), app.app.clone())).collect()),
        credentials: Arc::new(setting.config.credentials()),
        clock,
    };
    Ok(Enrol::new(deps, None))
}

async fn by_browser(
    setting: &Setting,
    registry: &Registry,
    enrol: Enrol,
    invitation: &Invitation,
    tenant: domain::TenantId,
    no_browser: bool,
) -> Result<(), Failure> {
    let unusable = |error: std::io::Error| Failure::new(Exit::Failed, format!("cannot listen on localhost: {error}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(unusable)?;
    let port = listener.local_addr().map_err(unusable)?.port();
    let public_url = Url::parse(&format!("{LOOPBACK}:{port}")).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let settings = ConsentSettings { public_url: public_url.clone(), callback_path: "/".to_owned(), ..setting.config.consent_pages() };
    let state = ConsentState::new(registry.clone(), enrol, settings, Arc::new(SystemClock));
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, consent_router(state), stop.clone()));

    let address = format!("{public_url}consent/{}", *invitation.ticket.text());
    setting.output.note("open this address in a browser of this machine, and sign in with an account of the customer's directory:");
    show_address(setting, &address)?;
    if !no_browser
        && std::io::IsTerminal::is_terminal(&std::io::stdout())
        && let Err(error) = open::that_detached(&address)
    {
        setting.output.note(&format!("no browser could be opened ({error}); open the address by hand"));
    }
    let outcome = invite::wait(setting, registry, tenant, invitation, Some(LIFE)).await;
    if outcome.is_ok() {
        // The browser gets to see the end of the checklist.
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    stop.cancel();
    // It ends by itself; a command that is done need not report how.
    let _ = serving.await;
    outcome
}

/// Where somebody has to sign in; the first event of this command for scripts.
fn show_address(setting: &Setting, address: &str) -> Result<(), Failure> {
    if setting.output.json { setting.output.event(&json!({ "event": "link", "url": address })) } else { setting.output.line(address) }
}

async fn paste(setting: &Setting, registry: &Registry, enrol: &Enrol, invitation: &Invitation, kind: LinkKind) -> Result<(), Failure> {
    let refused = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, error.to_string());
    let (invited, begun) = registry.begin_sign_in(&invitation.ticket, LOOPBACK).await.map_err(|error| refused(&error))?;
    let address = enrol.address(&invited, &begun, LOOPBACK);
    let address = address.map_err(|trouble| Failure::new(Exit::Config, format!("{}; next: {}", trouble.reason, trouble.action)))?;
    setting.output.note("open this address in any browser and sign in with an account of the customer's directory:");
    show_address(setting, address.as_str())?;
    setting.output.note(
        "the browser ends at a page that it cannot show, with an address that begins with http://localhost; paste that address here:",
    );
    let mut pasted = Zeroizing::new(String::new());
    std::io::stdin().lock().read_line(&mut pasted).map_err(|error| refused(&format!("cannot read standard input: {error}")))?;
    let query = pasted.trim().split_once('?').map(|(_, query)| query.split('#').next().unwrap_or(query)).unwrap_or_default();
    let (state, answer) = read_answer(query, kind).map_err(|reason| {
        Failure::new(Exit::Usage, format!("that is not the address at which a sign-in ends: {reason}; begin again and paste all of it"))
    })?;
    finish(setting, registry, enrol, invitation, &state, begun.browser, answer).await
}

/// Many customers forbid this way of signing in, since it is the easiest to be tricked into; a policy that is made later ends
/// what was signed in before it.
async fn device_code(setting: &Setting, registry: &Registry, enrol: &Enrol, invitation: &Invitation) -> Result<(), Failure> {
    let refused = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, error.to_string());
    setting.output.note(
        "warning: Microsoft recommends that organisations block sign-in by device code, and a policy that does so later ends this connection; \
         prefer a link (`tocsin tenant invite`) or --paste",
    );
    let (invited, begun) = registry.begin_sign_in(&invitation.ticket, LOOPBACK).await.map_err(|error| refused(&error))?;
    let device = enrol.begin_device_code(&invited).await;
    let device = device.map_err(|trouble| Failure::new(Exit::Failed, format!("{}; next: {}", trouble.reason, trouble.action)))?;
    if setting.output.json {
        let (address, code) = (&device.verification_uri, &device.user_code);
        setting.output.event(&json!({ "event": "code", "url": address, "user_code": code }))?;
    } else {
        setting.output.line(&format!("{}  {}", device.verification_uri, device.user_code))?;
    }
    setting.output.note("open this address on any device, enter the code, and sign in with an account of the customer's directory");
    let answer = Answer::Device(Box::new(device));
    finish(setting, registry, enrol, invitation, &begun.state, begun.browser, answer).await
}

/// Takes the answer to the one sign-in that this command began, proves it, and shows the checklist.
async fn finish(
    setting: &Setting,
    registry: &Registry,
    enrol: &Enrol,
    invitation: &Invitation,
    state: &Ticket,
    browser: Ticket,
    answer: Answer,
) -> Result<(), Failure> {
    let accepted = registry.accept_answer(state, Some(&browser)).await.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let tenant = accepted.invited.tenant;
    let connected = enrol.connect(accepted, browser, answer).await;
    let status = registry.link_status(tenant, invitation.link).await.map_err(failure)?;
    for line in invite::told(&status) {
        setting.output.note(&line);
    }
    connected.map_err(|error| Failure::new(Exit::Failed, error.words))?;
    if setting.output.json { setting.output.event(&invite::connected(tenant, &status)) } else { Ok(()) }
}
