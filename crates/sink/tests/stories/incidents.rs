//! Incidents: the latest state of each, and where merged ones lead.

use bytestring::ByteString;
use domain::{ContentHash, IncidentId, IncidentRecord, Record, Ticks};
use sqlx::PgPool;

use crate::world::{EVENING, GRAPH, INCIDENTS, MORNING, NOON, Sink, alert, counts, fingerprint, number, tenant};

fn incident(id: &str, last_update: Option<&str>, redirect: Option<&str>, title: &str) -> Record {
    let raw =
        serde_json::json!({"id": id, "lastUpdateDateTime": last_update, "redirectIncidentId": redirect, "displayName": title}).to_string();
    Record::Incident(IncidentRecord {
        id: IncidentId::new(id),
        hash: ContentHash::of(raw.as_bytes()),
        raw: ByteString::from(raw),
        last_update: last_update.and_then(Ticks::parse),
        created: Ticks::parse(MORNING),
        title: Some(title.to_owned()),
        severity: Some("high".into()),
        status: Some(if redirect.is_some() { "redirected" } else { "active" }.into()),
        redirect: redirect.map(IncidentId::new),
    })
}

async fn titles(pool: &PgPool) -> Vec<(String, String)> {
    sqlx::query_as("select incident_id, title from dash.incident order by incident_id").fetch_all(pool).await.unwrap()
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_latest_state_stands_and_an_older_one_never_overwrites_it(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let store = |records| sink.store(fence, INCIDENTS, records);
    assert_eq!(counts(store(vec![incident("7", Some(NOON), None, "noon")]).await), (1, 0, 0, 0));
    let before = fingerprint(&pool).await;
    assert_eq!(
        counts(store(vec![incident("7", Some(MORNING), None, "morning"), incident("7", None, None, "no stamp")]).await),
        (0, 0, 2, 0)
    );
    assert_eq!(counts(store(vec![incident("7", Some(NOON), None, "noon")]).await), (0, 0, 1, 0));
    assert_eq!(fingerprint(&pool).await, before, "an older body and the same body write nothing");
    let page =
        || vec![incident("7", Some(EVENING), None, "first"), incident("7", Some(EVENING), None, "second"), incident("8", None, None, "x")];
    assert_eq!(counts(store(page()).await), (1, 1, 1, 0));
    assert_eq!(titles(&pool).await, [("7".into(), "second".into()), ("8".into(), "x".into())], "of equal stamps the last word stays");
    let before = fingerprint(&pool).await;
    assert_eq!(counts(store(page()).await), (0, 0, 3, 0));
    assert_eq!(fingerprint(&pool).await, before);
    let row: (Option<String>, String, String) =
        sqlx::query_as("select severity, portal_url, raw::text from dash.incident where incident_id = '7'").fetch_one(&pool).await.unwrap();
    assert_eq!(
        (row.0.as_deref(), row.1.as_str()),
        (Some("high"), "https://portal.example/incidents/7?tid=00000000-0000-0000-0000-000000000001")
    );
    assert!(row.2.contains("second"), "the body is that of the state that stands");
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_postgres_cannot_hold_of_an_incident_goes_to_quarantine(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let page = vec![
        incident("with\0nul", Some(NOON), None, "t"),
        incident("5", Some(NOON), Some("with\0nul"), "t"),
        incident("6", Some("9999-12-31T23:59:59Z"), None, "a\0title"),
    ];
    assert_eq!(counts(sink.store(fence, INCIDENTS, page).await), (1, 0, 0, 2));
    assert_eq!(titles(&pool).await, [("6".into(), "a\u{FFFD}title".into())]);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_alerts_link_follows_merges(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let other = tenant(&pool, 2).await;
    let link = || async {
        let ids: Vec<Option<String>> =
            sqlx::query_scalar("select incident_id from dash.alert order by directory_id").fetch_all(&pool).await.unwrap();
        ids.into_iter().map(Option::unwrap).collect::<Vec<_>>().join(" ")
    };
    let mut of_seven = alert("a", NOON, "t");
    if let Record::Alert(alert) = &mut of_seven {
        alert.facts.incident_id = Some("7".into());
    }
    counts(sink.store(fence, GRAPH, vec![of_seven.clone()]).await);
    counts(sink.store(other, GRAPH, vec![of_seven]).await);
    assert_eq!(link().await, "7 7");
    let store = |records| sink.store(fence, INCIDENTS, records);
    counts(store(vec![incident("7", Some(MORNING), Some("8"), "merged")]).await);
    assert_eq!(link().await, "8 7", "another tenant's incidents have nothing to do with it");
    counts(store(vec![incident("8", Some(MORNING), Some("9"), "merged"), incident("9", Some(MORNING), None, "the end")]).await);
    assert_eq!(link().await, "9 7", "a later merge of the end moves all that led to it");
    counts(store(vec![incident("9", Some(NOON), Some("7"), "a circle")]).await);
    assert_eq!(link().await, "7 7", "a circle ends somewhere");
    counts(store(vec![incident("8", Some(NOON), None, "no longer merged"), incident("9", Some(EVENING), None, "nor this")]).await);
    assert_eq!(link().await, "8 7");
    counts(store(vec![incident("7", Some(NOON), None, "nor this")]).await);
    assert_eq!(link().await, "7 7");
    assert_eq!(number(&pool, "select count(*) from tocsin.incident_redirect").await, 0);
    sink.stop().await;
}
