//! What takes more than one rule of the pretend Microsoft, one step after the other.

use std::time::Duration;

use simulator::{Effect, Endpoint, NextLink, Rule, Stamp};

use super::cloud;
use super::host::Replicas;
use crate::harness::eventually;
use crate::soak::dice::Dice;
use crate::soak::lab::{CROWDED, HEALTHY, Lab, REDEMPTIONS_PER_SECOND, STRICT};
use crate::soak::load;

/// Strict rotation: the answer that holds the only good token is lost on its way. It must show, and a new token heals it.
pub async fn lost_rotation(lab: &Lab, _: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    let tenant = &lab.tenants[STRICT];
    let id = tenant.directory_id;
    // A kill may have cost the sign-in before; then there would be nothing to lose.
    let sql = "select state from dash.tenant_health where directory_id = $1";
    if sqlx::query_scalar::<_, String>(sql).bind(id).fetch_one(&lab.pool()).await? == "needs-consent" {
        lab.consent_again(tenant).await?;
    }
    cloud::recovered(lab, &[tenant]).await?;
    lab.cloud.script(Rule::new(Effect::ResetAfter { bytes: 0 }).tenant(id).endpoint(Endpoint::Token).times(1));
    lab.cloud.script(Rule::new(Effect::Unauthorized { claims: false }).tenant(id).endpoint(Endpoint::Graph).times(1));
    eventually("an answer is lost", Duration::from_secs(90), async || match lab.cloud.felt(Some(id), "reset_after") {
        0 => Err(()),
        _ => Ok(()),
    })
    .await?;
    lab.book.fired(37, 1);
    let told = eventually("the lost sign-in shows", Duration::from_secs(60), async || {
        let state = sqlx::query_scalar::<_, String>("select state from dash.tenant_health where directory_id = $1")
            .bind(id)
            .fetch_one(&lab.pool())
            .await;
        if state.as_deref().is_ok_and(|state| state == "needs-consent") { Ok(()) } else { Err(format!("{state:?}")) }
    })
    .await;
    lab.book.check(30, told.err().map(|error| format!("{error:#}")));
    lab.consent_again(tenant).await?;
    cloud::recovered(lab, &[tenant]).await
}

/// Fault 35. A replica that hears of it asks for no customer's token for a while: this is done alone, and awaited.
pub async fn secret_expired(lab: &Lab, replicas: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    const REFUSED: &str = "the app registration is refused";
    const ACCEPTED: &str = "the app registration is accepted again";
    for recipe in cloud::RECIPES.iter().filter(|recipe| recipe.fault == 35) {
        cloud::suffer(lab, recipe, 0, &lab.tenants[CROWDED]).await?;
    }
    eventually("the app is accepted everywhere", Duration::from_secs(120), async || {
        let logs = replicas.iter().filter_map(|replica| replica.daemon.as_ref()?.log().ok());
        let refused = logs.filter(|log| log.rfind(REFUSED) > log.rfind(ACCEPTED)).count();
        if refused == 0 { Ok(()) } else { Err(refused) }
    })
    .await
}

/// Runs of equal stamps make links necessary; then each way in which a link can lead astray.
pub async fn links(lab: &Lab, _: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    let id = lab.tenants[CROWDED].directory_id;
    let on_graph = |effect| Rule::new(effect).tenant(id).endpoint(Endpoint::Graph);
    let ways: [(u8, &str, Rule); 4] = [
        (18, "expired_skip_token", on_graph(Effect::ExpiredSkipToken { status: 410 }).times(2)),
        (
            19,
            "foreign_next_link",
            on_graph(Effect::ForeignNextLink { url: "https://graph.attacker.example/v1.0/security/alerts_v2?$skiptoken=x".into() })
                .times(2),
        ),
        (20, "looping_next_link", on_graph(Effect::LoopingNextLink).times(3)),
        (24, "shift", on_graph(Effect::Shift).times(1)),
    ];
    for (fault, name, rule) in ways {
        let before = lab.cloud.felt(Some(id), name);
        lab.cloud.script(on_graph(Effect::Clamp { top: 15 }));
        lab.cloud.script(on_graph(Effect::NextLink(NextLink::CountingSkipToken)).query("$skiptoken="));
        let tied = lab.cloud.publish_tied(id, lab.cloud.now().on_grid(), 40)?;
        lab.cloud.script(rule);
        let felt = eventually(&format!("fault {fault} is felt"), Duration::from_secs(60), async || {
            match lab.cloud.felt(Some(id), name) - before {
                0 => Err(()),
                times => Ok(times),
            }
        })
        .await;
        lab.cloud.clear_script_of(id);
        match felt {
            Ok(times) => lab.book.fired(fault, times),
            Err(error) => lab.book.failed(fault, format!("{error:#}")),
        }
        for alert in tied.iter().take(3) {
            load::is_stored(lab, id, alert, Duration::from_secs(90)).await?;
        }
    }
    Ok(())
}

/// Fault 25.
pub async fn goes_back(lab: &Lab, _: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    super::records::goes_back(lab, &lab.tenants[CROWDED]).await
}

/// I12: everybody needs a new token in the same second.
pub async fn expiry(lab: &Lab, _: &mut Replicas, _: &mut Dice) -> anyhow::Result<()> {
    let from: u64 = lab.cloud.journal_totals().values().sum();
    for tenant in &lab.tenants {
        lab.cloud.script(Rule::new(Effect::Unauthorized { claims: false }).tenant(tenant.directory_id).endpoint(Endpoint::Graph).times(1));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    cloud::recovered(lab, &lab.tenants.iter().take(HEALTHY).collect::<Vec<_>>()).await?;
    let mut at: Vec<i64> = lab
        .cloud
        .journal_from(from)
        .iter()
        .filter(|entry| entry.endpoint == Endpoint::Token)
        .filter_map(|entry| Some(Stamp::parse(&entry.at)?.ticks()))
        .collect();
    at.sort_unstable();
    let peak = at.iter().map(|begin| at.iter().filter(|tick| (*begin..begin + 10_000_000).contains(*tick)).count()).max().unwrap_or(0);
    // Each of two replicas may save up a second's worth.
    let most = usize::try_from(4 * REDEMPTIONS_PER_SECOND)?;
    lab.book.check(12, (peak > most).then(|| format!("{peak} redemptions in one second")));
    Ok(())
}
