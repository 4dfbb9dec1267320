//! Signs in once and prints what a page of alerts is made of, without a database or a daemon.
//!
//! ```text
//! cargo run -p microsoft --example list_alerts -- TENANT_ID CLIENT_ID graph-alerts < refresh-token
//! ```
//!
//! The refresh token is read from standard input, where no process list shows it. Its successor is thrown
//! away, which Microsoft permits: the old one stays good.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use domain::{Axis, Clock, CloudName, Record, RefreshToken, Source, SystemClock, TenantId};
use microsoft::{AlertsApi, App, Grant, Http, HttpSettings, PageQuery, SignIn, WindowQuery, built_in};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "printing is what this example is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [tenant, client_id, source] = arguments.as_slice() else {
        return Err("usage: list_alerts TENANT_ID CLIENT_ID SOURCE < refresh-token".into());
    };
    let tenant = TenantId(tenant.parse()?);
    let source: Source = source.parse()?;
    let app = App::new(client_id.clone(), Grant::RefreshToken);
    let mut token = String::new();
    std::io::stdin().read_to_string(&mut token)?;
    let token = RefreshToken::new(token.trim()).ok_or("standard input holds no refresh token")?;

    let clouds = built_in();
    let cloud = &clouds[&CloudName::new("global")];
    let (http, clock) = (Http::new(HttpSettings::default())?, Arc::new(SystemClock));
    let signed_in = SignIn::new(http.clone(), clock.clone()).redeem(cloud, &app, tenant, source.audience(), &token, None).await?;
    let from = clock.now().minus(Duration::from_secs(7 * 86_400));
    let window = WindowQuery { from, before: None, top: 20, skip: 0, ordered: true, axis: Axis::Update, facets: [None; 3] };
    let page = AlertsApi::new(http, clock).fetch(cloud, source, &signed_in.access, &PageQuery::Window(window)).await?;
    println!(
        "{} records in {} bytes, {}",
        page.records.len(),
        page.bytes,
        if page.next.is_some() { "and more" } else { "no link to more" }
    );
    for record in page.records {
        match record {
            Record::Alert(alert) => {
                let column = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
                println!(
                    "{}  {:13}  {:10}  {}",
                    column(alert.last_update_text),
                    column(alert.facts.severity),
                    column(alert.facts.status),
                    alert.id
                );
            }
            Record::Incident(incident) => {
                println!("{}  {}", incident.status.as_deref().unwrap_or("-"), incident.id);
            }
            Record::Poison(poison) => println!("not understood: {} ({} bytes)", poison.reason, poison.raw.len()),
        }
    }
    Ok(())
}
