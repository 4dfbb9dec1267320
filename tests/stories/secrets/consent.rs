//! A customer connects by a link, with a marked code, and everything that his browser and the operator are shown is kept.
//!
//! The link, the state and the key in the cookie are secrets as well: each is where it has to be, which is left out
//! here (the command that made the link, the address at Microsoft, the header that sets the cookie), and nowhere else.

use anyhow::Context;
use e2e::harness::{Daemon, Proxy, Seen, Target, Visitor, World, eventually, run_in};
use simulator::SimTenant;

use super::places::{Place, Places};
use super::{MARKER, SOON, add_output};

/// The address under which the pages are reached: known before the daemon listens.
pub(super) struct Door(Proxy);

impl Door {
    pub(super) async fn open() -> anyhow::Result<Self> {
        Ok(Self(Proxy::to(Target::Tcp(([127, 0, 0, 1], 9).into())).await?))
    }

    pub(super) fn config(&self) -> String {
        format!("[console]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://{}\"\noperator = \"Night Watch\"\n", self.0.address())
    }
}

/// What a page came to, without the headers in which a ticket has to stand.
fn add_page(places: &mut Places, name: &str, seen: &Seen) {
    let headers = seen.headers.iter().filter(|(header, _)| !matches!(header.as_str(), "location" | "set-cookie"));
    let headers: String = headers.map(|(header, value)| format!("{header}: {value}\n")).collect();
    places.add(Place::ConsentPages, name, format!("{}\n{headers}\n{}", seen.status, seen.body));
}

/// Connects a customer who is not here yet; answers the tickets that were used, with a word for each.
pub(super) async fn connect(
    world: &World,
    daemon: &Daemon,
    door: &Door,
    newcomer: &SimTenant,
    environment: &[(&str, &str)],
    places: &mut Places,
) -> anyhow::Result<Vec<(&'static str, String)>> {
    door.0.lead_to(Target::Tcp(daemon.console_address().await?.parse()?));
    let id = newcomer.directory_id.to_string();
    let mut words = vec!["tenant", "invite", &newcomer.name, "--tenant", &id, "--cloud", "lab", "--no-wait", "--json"];
    words.extend(newcomer.sources.iter().flat_map(|source| ["--source", source.name()]));
    let invited = run_in(&world.config, &words, "", environment).await?.ok()?;
    places.add(Place::CommandOutput, "tenant invite", invited.stderr.clone());
    let link = invited.json()?["url"].as_str().context("no link")?.to_owned();

    let mut visitor = Visitor::new()?;
    let landing = visitor.open(&link).await?;
    let left = visitor.press(&link).await?;
    let back = visitor.follow(&left).await?;
    let answer = back.to.clone().with_context(|| format!("no answer: {} {}", back.status, back.body))?;
    anyhow::ensure!(answer.as_str().contains(MARKER), "the code carries the marker");
    let state = answer.query_pairs().find(|(name, _)| name == "state").context("no state")?.1.into_owned();
    let cookie = visitor.cookies.values().next().context("no cookie")?.clone();
    // Somebody else's browser, an answer without a sign-in, and one that says no: each is refused, with the state in hand.
    let declined = format!(
        "{}?error=access_denied&error_description=AADSTS65004&state={state}x",
        answer.as_str().split('?').next().unwrap_or_default()
    );
    let refused = [("another browser", answer.to_string()), ("another state", declined)];
    for (name, address) in &refused {
        add_page(places, name, &Visitor::new()?.open(address).await?);
    }
    let callback = visitor.follow(&back).await?;
    let end = eventually("he is connected", SOON, async || {
        let page = visitor.clone().follow(&callback).await.map_err(|error| error.to_string())?;
        if page.body.contains("Connected. Thank you") { Ok(page) } else { Err(page.body) }
    })
    .await?;
    let again = visitor.open(answer.as_str()).await?;
    let used = Visitor::new()?.open(&link).await?;
    let mistyped = visitor.open(&format!("{link}x")).await?;
    for (name, seen) in [
        ("the landing page", &landing),
        ("leaving for the sign-in", &left),
        ("the callback", &callback),
        ("the end", &end),
        ("the callback again", &again),
        ("a used link", &used),
        ("a mistyped link", &mistyped),
    ] {
        add_page(places, name, seen);
    }
    for words in [&["tenant", "verify", &id, "--json"][..], &["tenant", "verify", &id], &["tenant", "show", &id, "--json"]] {
        let checklist = run_in(&world.config, words, "", environment).await?.ok()?;
        places.add(Place::ConsentPages, words.join(" "), checklist.stdout.clone());
        add_output(places, &words.join(" "), &checklist);
    }
    let ticket = link.rsplit('/').next().unwrap_or_default().to_owned();
    Ok(vec![("the link", ticket), ("the state", state), ("the browser's key", cookie)])
}
