//! One redemption, from the queue at the login host to a refresh token that is safely stored.
//!
//! The order is the promise: wait for the turn, see that the lease still is ours, open the token, ask,
//! **commit the rotated refresh token, and only then** let the access token out (I30). Waiting comes
//! first so that a token is in the clear for one call and not for a queue. A crash before the commit
//! leaves the old token in place, which Entra still accepts; a strict server does not, and then the
//! next attempt is answered with a dead token, which is confirmed and reported. What an absent database
//! does not take is held on (see [`crate::unsaved`]).

use std::time::Duration;

use domain::ports::SecretUnreadable;
use domain::retry::Backoff;
use domain::{AccessToken, AppCredential, AppName, Audience, Fence, HeldTenant, RefreshToken, Trouble, Verdict, rehearsal};
use microsoft::{App, Cloud, Grant, Redeemed};
use tokio::time::{Instant, sleep};

use crate::core::{Core, Mark, passing};
use crate::redeemer::Refused;
use crate::unsaved::{Fresh, Unsaved, why};
use crate::vault::{RotateError, VaultError};

/// Why a redemption gave no access token.
#[derive(Debug)]
pub(crate) enum Setback {
    /// The sign-in service refused.
    Refused(Refused),
    /// It did not come to asking, or what came back could not be kept.
    Ours(Trouble),
    /// Our right to act for the tenant is in doubt, so nobody was asked. The registry tells of it.
    InDoubt(&'static str),
    /// Our right to act for the tenant is gone, so what came back was thrown away.
    NotOurs(&'static str),
    /// What came back could not be stored yet. Nobody may use it, and nobody may lose it.
    Unsaved(Box<Unsaved>),
    /// While this one queued, somebody else found out that our own app is at fault.
    Shut(Trouble, Instant),
    /// The daemon is stopping.
    Stopping,
}

/// How much an answer about a dead token has been heard before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Belief {
    /// Not at all.
    Fresh,
    /// Once, a while ago: this time it is believed.
    Suspected,
    /// It is known; this is a slow probe.
    Known,
}

impl Core {
    /// Asks for one access token, whatever the tenant's grant is. The caller holds the tenant's gate.
    pub(crate) async fn attempt(
        &self,
        tenant: &HeldTenant,
        audience: Audience,
        belief: Belief,
        mark: &Mark<'_>,
    ) -> Result<AccessToken, Setback> {
        let missing = |what: &str, name: &str| {
            Setback::Ours(Trouble {
                verdict: Verdict::Global,
                reason: format!("the configuration has no {what} called {name}"),
                action: format!(
                    "the operator of tocsin adds [{what}s.{name}] to the configuration, or imports the tenants anew with one that exists"
                ),
                code: None,
                trace: None,
            })
        };
        let cloud = self.clouds.get(&tenant.cloud).ok_or_else(|| missing("cloud", tenant.cloud.as_str()))?;
        let app = self.apps.get(&tenant.app).ok_or_else(|| missing("app", tenant.app.as_str()))?;
        let credential = self.credentials.credential(&tenant.app).map_err(|unreadable| unread_credential(&tenant.app, &unreadable))?;
        match app.grant {
            Grant::ClientCredentials => {
                let credential = credential.ok_or_else(|| without_credential(&tenant.app))?;
                self.turn(tenant, cloud).await?;
                rehearsal::point("refresh.before-call").await.map_err(rehearsed)?;
                let redeemed =
                    self.redeemer.client_credentials(cloud, app, tenant.id, audience, &credential).await.map_err(Setback::Refused)?;
                rehearsal::point("refresh.answered").await.map_err(rehearsed)?;
                let fence = tenant.fence();
                noted(fence, self.vault.app_worked(fence, self.clock.now()).await)?;
                self.note_granted(tenant, audience, redeemed.granted.as_deref()).await;
                Ok(redeemed.access)
            }
            Grant::RefreshToken => {
                self.redeem_stored(Asking { tenant, cloud, app, audience, credential: credential.as_ref() }, belief, mark).await
            }
        }
    }

    async fn redeem_stored(&self, asking: Asking<'_>, belief: Belief, mark: &Mark<'_>) -> Result<AccessToken, Setback> {
        let Asking { tenant, app, .. } = asking;
        // Asked before the queue as well, so that it holds nobody who has no business there.
        self.still_ours(tenant)?;
        self.turn(tenant, asking.cloud).await?;
        self.still_ours(tenant)?;
        let opened = self.vault.open(tenant.id, &app.client_id).await.map_err(unopened)?.ok_or_else(nothing_stored)?;
        rehearsal::point("refresh.before-call").await.map_err(rehearsed)?;
        // The database may have taken its time. From here on the tenant is not given to another replica.
        mark.set();
        self.still_ours(tenant)?;
        let refused = match self.redeem(asking, &opened.token).await {
            Ok(redeemed) => {
                rehearsal::point("refresh.answered").await.map_err(rehearsed)?;
                return self.keep(asking, opened.version, redeemed).await;
            }
            Err(refused) => refused,
        };
        // Nothing came back that would have to be stored.
        mark.clear();
        // A token that never worked may be the wrong one altogether: a half-restored backup, or a
        // server that lost its last write. The one before it gets one chance, after the second "no".
        if refused.dead_token
            && belief == Belief::Suspected
            && let Ok(Some(previous)) = self.vault.open_previous(tenant.id, &app.client_id).await
        {
            self.turn(tenant, asking.cloud).await?;
            mark.set();
            self.still_ours(tenant)?;
            if let Ok(redeemed) = self.redeem(asking, &previous).await {
                tracing::warn!(tenant.id = %tenant.id, "the stored refresh token was dead, but the one before it works and takes its place");
                // It becomes the current one even when the server rotated nothing.
                let redeemed = Redeemed { refresh: Some(redeemed.refresh.unwrap_or(previous)), ..redeemed };
                return self.keep(asking, opened.version, redeemed).await;
            }
        }
        Err(Setback::Refused(refused))
    }

    async fn redeem(&self, asking: Asking<'_>, token: &RefreshToken) -> Result<Redeemed, Refused> {
        let Asking { tenant, cloud, app, audience, credential } = asking;
        self.redeemer.redeem(cloud, app, tenant.id, audience, token, credential).await
    }

    /// Stores what came back. `version` is the one that was redeemed, or that stands in the vault.
    async fn keep(&self, asking: Asking<'_>, version: i64, redeemed: Redeemed) -> Result<AccessToken, Setback> {
        let Asking { tenant, app, audience, .. } = asking;
        let (fence, came_at, access) = (tenant.fence(), self.clock.now(), redeemed.access);
        if let Some(refresh) = redeemed.refresh {
            let client_id = app.client_id.clone();
            self.commit(Fresh { fence, version, client_id, refresh, audience, access: access.clone(), came_at }).await?;
        }
        // The redeemed version has worked. Where it was replaced a moment ago, the vault keeps it as
        // the previous one until its successor has worked as well.
        noted(fence, self.vault.worked(fence, version, came_at).await)?;
        self.note_granted(tenant, audience, redeemed.granted.as_deref()).await;
        Ok(access)
    }

    /// What a token allows, where it says so, for the clock of the consent.
    async fn note_granted(&self, tenant: &HeldTenant, audience: Audience, granted: Option<&[String]>) {
        if let Some(granted) = granted {
            self.vault.granted(tenant.fence(), &tenant.sources, audience, granted).await;
        }
    }

    /// Makes the rotated token durable. While the database is away it is offered again and again,
    /// since on a strict server it is the only one that still works.
    async fn commit(&self, fresh: Fresh) -> Result<(), Setback> {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        loop {
            match self.offer(&fresh).await {
                Ok(()) => return Ok(()),
                Err(RotateError::Moved) => return Err(Setback::NotOurs("the refresh token was replaced meanwhile")),
                // It may be ours again in a moment: after an outage of the database every lease is a new one.
                Err(error @ RotateError::LeaseLost) => {
                    return Err(Setback::Unsaved(Box::new(Unsaved::without_lease(fresh, unstored(&error), &self.config))));
                }
                // Its outcome is unknown, which is a normal case: the same commit again is harmless.
                Err(error @ (RotateError::Database(_) | RotateError::Unsealable(_))) => {
                    let delay = backoff.next_delay(None);
                    let lasts = matches!(error, RotateError::Unsealable(_)) || backoff.failures() >= self.config.commit_attempts;
                    if lasts || self.stopping.run_until_cancelled(sleep(delay)).await.is_none() {
                        return Err(Setback::Unsaved(Box::new(Unsaved::new(fresh, why(error), Instant::now(), &self.config))));
                    }
                }
            }
        }
    }

    /// Waits for this login host, or for the stop.
    async fn turn(&self, tenant: &HeldTenant, cloud: &Cloud) -> Result<(), Setback> {
        // Every configured cloud got its lane at the start, from the same map.
        let Some(lane) = self.lanes.of(cloud) else { return Ok(()) };
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => return Err(Setback::Stopping),
            turn = lane.turn() => turn.map_err(|until| Setback::Ours(throttled(until - Instant::now())))?,
        }
        // The queue may be a thousand tenants long: they do not all have to meet the same fault.
        match self.breaker(tenant, |breaker| breaker.shut_to(tenant.id, Instant::now())) {
            Some((trouble, until)) => Err(Setback::Shut(trouble, until)),
            None => Ok(()),
        }
    }

    /// Sees that the lease is ours and will be for a while. The fence would refuse the write anyway;
    /// this keeps two replicas from redeeming one token at the same time (I11).
    fn still_ours(&self, tenant: &HeldTenant) -> Result<(), Setback> {
        let set = self.tenants.borrow();
        match set.tenants.get(&tenant.id) {
            Some(held) if held.epoch == tenant.epoch => {}
            _ => return Err(Setback::InDoubt("the lease on this tenant was lost")),
        }
        if set.trusted_until < Instant::now() + self.config.lease_margin + self.slept(&set) {
            return Err(Setback::InDoubt("the lease on this tenant has not been confirmed by the database"));
        }
        Ok(())
    }
}

/// What one redemption is about.
#[derive(Clone, Copy)]
struct Asking<'a> {
    tenant: &'a HeldTenant,
    cloud: &'a Cloud,
    app: &'a App,
    audience: Audience,
    /// None for a public client.
    credential: Option<&'a AppCredential>,
}

fn unopened(error: VaultError) -> Setback {
    match error {
        VaultError::Database(_) => Setback::Ours(passing(error.to_string())),
        VaultError::Unreadable(reason) => Setback::Ours(key_ring_trouble(reason)),
    }
}

/// What the vault says of a note that a redemption worked. Without the note nothing is lost: the next
/// redemption writes it. Without the lease the access token is not ours to use.
pub(crate) fn noted(fence: Fence, outcome: Result<(), RotateError>) -> Result<(), Setback> {
    match outcome {
        Err(RotateError::LeaseLost) => Err(Setback::NotOurs("the lease on this tenant was lost")),
        Err(error) => {
            tracing::debug!(tenant.id = %fence.tenant, %error, "the time of a token refresh could not be noted");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

pub(crate) fn key_ring_trouble(reason: String) -> Trouble {
    Trouble {
        verdict: Verdict::OurBug,
        reason,
        action: "the operator of tocsin compares `tocsin key status` with the key ring file, or makes a new link with: tocsin tenant invite {tenant}".to_owned(),
        code: None,
        trace: None,
    }
}

/// A rotated token that the database has not taken.
pub(crate) fn unstored(error: &RotateError) -> Trouble {
    let mut trouble = passing(format!("a new refresh token could not be stored, so its access token was not used: {error}"));
    trouble.action = "the operator of tocsin sees to the database; the token is held and stored as soon as it answers".to_owned();
    trouble
}

/// Nobody asks this host for now.
fn throttled(wait: Duration) -> Trouble {
    Trouble {
        verdict: Verdict::RetryAfter(wait),
        reason: "the sign-in service is throttling us for all tenants, so nobody asks it for a moment".to_owned(),
        action: "nothing; we wait as long as we are asked to. You, if it lasts: lower token_per_second under [budget]".to_owned(),
        code: None,
        trace: None,
    }
}

fn rehearsed(rehearsed: rehearsal::Rehearsed) -> Setback {
    Setback::Ours(passing(rehearsed.to_string()))
}

fn nothing_stored() -> Setback {
    Setback::Ours(Trouble {
        verdict: Verdict::NeedsConsent,
        reason: "no refresh token is stored for this tenant and its app".to_owned(),
        action:
            "the customer's administrator: open the consent link of our app and accept; you make it with: tocsin tenant invite {tenant}"
                .to_owned(),
        code: None,
        trace: None,
    })
}

fn unread_credential(app: &AppName, unreadable: &SecretUnreadable) -> Setback {
    let (verdict, action) = if unreadable.passing {
        (Verdict::Retry, "nothing, unless it lasts: then the operator of tocsin looks at the limits of the process")
    } else {
        (
            Verdict::Global,
            "the operator of tocsin puts the app's credential into that file, readable by tocsin alone (tocsin config check tells what is wrong)",
        )
    };
    let reason = format!("the credential of app {app} cannot be read: {unreadable}");
    Setback::Ours(Trouble { verdict, reason, action: action.to_owned(), code: None, trace: None })
}

fn without_credential(app: &AppName) -> Setback {
    Setback::Ours(Trouble {
        verdict: Verdict::Global,
        reason: format!("app {app} signs in as itself, but has no credential"),
        action: format!(
            "the operator of tocsin sets certificate_file and private_key_file, federated_token_file or client_secret_file under [apps.{app}]"
        ),
        code: None,
        trace: None,
    })
}
