//! Connecting a tenant by a link.

mod browser;
mod ended;
mod flow;
mod refused;
mod role;

use std::time::Duration;

use anyhow::Context;
use e2e::harness::{Daemon, Proxy, Seen, Setup, Target, Visitor, World, eventually};
use serde_json::Value;
use simulator::{Rotation, Settings, SimTenant, SourceMix};

const SOON: Duration = Duration::from_secs(60);

/// A world whose pages are reached through a door, as through the proxy of an operator.
struct Desk {
    world: World,
    daemon: Daemon,
    door: Proxy,
}

impl Desk {
    /// A daemon, and no tenant yet. `apps` is added to the configuration.
    async fn open(cloud: Settings, extra: &str) -> anyhow::Result<Self> {
        let door = Proxy::to(Target::Tcp(([127, 0, 0, 1], 9).into())).await?;
        let port = door.address().port();
        let config = format!(
            "{extra}\n[console]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://127.0.0.1:{port}\"\noperator = \"Night & Watch\"\n"
        );
        let world = World::build(Setup { cloud, config, ..Setup::default() }).await?;
        let daemon = world.serve()?;
        door.lead_to(Target::Tcp(daemon.console_address().await?.parse()?));
        Ok(Self { world, daemon, door })
    }

    async fn with(tenants: usize, sources: SourceMix, extra: &str) -> anyhow::Result<Self> {
        let cloud = Settings { tenants, sources, history: 5, rotation: Rotation::Strict, ..Settings::default() };
        Self::open(cloud, extra).await
    }

    fn base(&self) -> String {
        format!("http://{}", self.door.address())
    }

    fn tenant(&self, at: usize) -> anyhow::Result<SimTenant> {
        self.world.cloud.tenants().into_iter().nth(at).context("no such tenant")
    }

    /// Makes a link for a customer of the cloud; answers its document.
    async fn invite(&self, tenant: &SimTenant, more: &[&str]) -> anyhow::Result<Value> {
        let id = tenant.directory_id.to_string();
        let mut words = vec!["tenant", "invite", tenant.name.as_str(), "--tenant", &id, "--cloud", "lab", "--no-wait", "--json"];
        for source in &tenant.sources {
            words.extend(["--source", source.name()]);
        }
        words.extend(more);
        self.world.run(&words).await?.ok()?.json()
    }

    /// Makes a link for a customer who is here already.
    async fn invite_known(&self, tenant: &SimTenant, more: &[&str]) -> anyhow::Result<Value> {
        let id = tenant.directory_id.to_string();
        let words: Vec<&str> = ["tenant", "invite", &id, "--no-wait", "--json"].into_iter().chain(more.iter().copied()).collect();
        self.world.run(&words).await?.ok()?.json()
    }

    /// Starts the daemon anew, with the configuration as it is now.
    async fn restart(&mut self) -> anyhow::Result<()> {
        self.daemon.terminate().await?;
        self.revive().await
    }

    /// Starts a daemon in the place of one that has ended.
    async fn revive(&mut self) -> anyhow::Result<()> {
        self.daemon = self.world.serve()?;
        self.door.lead_to(Target::Tcp(self.daemon.console_address().await?.parse()?));
        Ok(())
    }

    /// Leaves for the sign-in service; answers the redirect to it.
    async fn leave(&self, visitor: &mut Visitor, link: &str) -> anyhow::Result<Seen> {
        let page = visitor.open(link).await?;
        anyhow::ensure!(page.status == 200, "{} {}", page.status, page.body);
        let left = visitor.press(link).await?;
        anyhow::ensure!(left.status == 303, "{} {}", left.status, left.body);
        Ok(left)
    }

    /// Goes all the way to the answer, which is not delivered yet; gives its address.
    async fn answered(&self, visitor: &mut Visitor, link: &str) -> anyhow::Result<String> {
        let left = self.leave(visitor, link).await?;
        let back = visitor.follow(&left).await?;
        Ok(back.to.with_context(|| format!("no answer: {} {}", back.status, back.body))?.to_string())
    }

    async fn state(&self, tenant: &SimTenant) -> anyhow::Result<String> {
        let shown = self.world.run(&["tenant", "show", &tenant.directory_id.to_string(), "--json"]).await?.ok()?.json()?;
        Ok(shown["state"].as_str().unwrap_or_default().to_owned())
    }

    /// The newest entry of this customer's audit log under this action.
    async fn audited(&self, tenant: &SimTenant, action: &str) -> anyhow::Result<Value> {
        let id = tenant.directory_id.to_string();
        let entries = self.world.run(&["audit", "list", "--tenant", &id, "--json"]).await?.ok()?.json()?;
        let found = entries.as_array().and_then(|entries| entries.iter().rfind(|entry| entry["action"] == action));
        found.cloned().with_context(|| format!("no {action} in {entries}"))
    }

    async fn becomes(&self, tenant: &SimTenant, wanted: &str) -> anyhow::Result<()> {
        eventually(&format!("the tenant is {wanted}"), SOON, async || match self.state(tenant).await {
            Ok(state) if state == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await
    }

    async fn end(mut self) -> anyhow::Result<()> {
        self.daemon.terminate().await?;
        self.world.end().await
    }
}

fn url_of(invitation: &Value) -> anyhow::Result<String> {
    Ok(invitation["url"].as_str().context("no url")?.to_owned())
}
