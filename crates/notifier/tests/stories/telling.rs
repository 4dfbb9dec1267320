//! What is told, how often, and by whom.

use std::time::Duration;

use notifier::Settings;
use sqlx::PgPool;

use crate::receiver::Receiver;
use crate::world::{blind, counts, hasty, heal, run, start, tenants};

const TOLD: &str = "tocsin.notification where delivered_at is not null";

fn told(receiver: &Receiver) -> Vec<String> {
    receiver.about().into_iter().map(|(kind, name)| format!("{kind} {name}").trim().to_owned()).collect()
}

#[sqlx::test(migrations = "../../migrations")]
async fn who_is_well_when_first_seen_is_not_told_of_and_every_change_after_that_is(pool: PgPool) {
    tenants(&pool, &["Contoso", "Fabrikam"]).await;
    let receiver = Receiver::start().await;
    let notifier = start(&pool, &receiver.url, hasty());
    counts(&pool, "tocsin.notified where condition = 'well'", 2).await;
    for (sql, kind) in [
        ("update tocsin.tenant set state = 'paused' where name = 'Contoso'", "tenant.changed Contoso"),
        ("update tocsin.tenant set state = 'active' where name = 'Contoso'", "tenant.changed Contoso"),
        (
            "insert into tocsin.trouble (tenant, origin, verdict, reason, action) select tenant, 'graph-alerts', 'retry', 'no answer', 'nothing' from tocsin.tenant where name = 'Fabrikam'",
            "tenant.blind Fabrikam",
        ),
        ("delete from tocsin.trouble", "tenant.recovered Fabrikam"),
        ("update tocsin.tenant set state = 'removed' where name = 'Contoso'", "tenant.changed Contoso"),
    ] {
        let before = receiver.calls().len();
        run(&pool, sql).await;
        receiver.has(before + 1).await;
        assert_eq!(told(&receiver)[before..], [kind], "{sql}");
    }
    notifier.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn passing_trouble_is_told_once_it_has_lasted_although_nothing_is_written_then(pool: PgPool) {
    tenants(&pool, &["Contoso"]).await;
    let receiver = Receiver::start().await;
    let notifier = start(&pool, &receiver.url, hasty());
    counts(&pool, "tocsin.notified where condition = 'well'", 1).await;
    run(
        &pool,
        "insert into tocsin.trouble (tenant, origin, verdict, reason, action, shown_from)
         select tenant, 'graph-alerts', 'retry', 'no answer', 'nothing', now() + interval '1 second' from tocsin.tenant",
    )
    .await;
    assert_eq!(receiver.calls().len(), 0);
    receiver.has(1).await;
    assert_eq!(told(&receiver), ["tenant.blind Contoso"]);
    notifier.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_state_that_flaps_is_no_storm_and_the_last_state_is_told(pool: PgPool) {
    tenants(&pool, &["Contoso"]).await;
    let receiver = Receiver::start().await;
    let notifier = start(&pool, &receiver.url, Settings { repeat_after: Duration::from_secs(3), ..hasty() });
    counts(&pool, "tocsin.notified where condition = 'well'", 1).await;
    blind(&pool, 1).await;
    receiver.has(1).await;
    heal(&pool).await;
    receiver.has(2).await;
    for _ in 0..10 {
        blind(&pool, 1).await;
        heal(&pool).await;
    }
    blind(&pool, 1).await;
    let amid = told(&receiver);
    assert_eq!(amid, ["tenant.blind Contoso", "tenant.recovered Contoso"], "one of each in three seconds");
    receiver.has(3).await;
    counts(&pool, "tocsin.notified where condition = 'needs-consent'", 1).await;
    assert_eq!(told(&receiver).last().unwrap(), "tenant.blind Contoso", "as it is now");
    notifier.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_fault_of_our_app_is_one_message_and_gaps_are_told_opened_healed_and_lost(pool: PgPool) {
    tenants(&pool, &["Contoso", "Fabrikam", "Woodgrove"]).await;
    let receiver = Receiver::start().await;
    let notifier = start(&pool, &receiver.url, hasty());
    counts(&pool, "tocsin.notified where condition = 'well'", 3).await;
    let gap = |kind: &str| {
        format!(
            "insert into tocsin.gap (tenant, source, from_ticks, to_ticks, kind, reason)
             select tenant, 'graph-alerts', 17900000000000000, 17900000600000000 + length('{kind}'), '{kind}', 'too many with one stamp'
             from tocsin.tenant where name = 'Contoso'"
        )
    };
    for (sql, kind) in [
        ("insert into tocsin.app_fault (app, cloud, reason, action) values ('main', 'lab', 'its secret has expired', 'you: make a new one')".to_owned(), "app.refused"),
        ("delete from tocsin.app_fault".to_owned(), "app.accepted"),
        (gap("ties"), "gap.opened Contoso"),
        ("update tocsin.gap set healed_at = now()".to_owned(), "gap.healed Contoso"),
        (gap("expired"), "gap.lost Contoso"),
    ] {
        let before = receiver.calls().len();
        run(&pool, &sql).await;
        receiver.has(before + 1).await;
        assert_eq!(told(&receiver)[before..], [kind], "{sql}");
    }
    counts(&pool, TOLD, 5).await;
    notifier.stop().await;
    let refused = receiver.calls()[0].json();
    let text = refused["data"]["text"].as_str().unwrap();
    assert_eq!(
        text,
        "Our app registration main in lab is refused, for all of its customers: its secret has expired. What to do: you: make a new one."
    );
}

#[sqlx::test(migrations = "../../migrations")]
async fn one_of_two_tells_a_sign_of_life_comes_once_and_whoever_stops_leaves_it_to_the_other(pool: PgPool) {
    tenants(&pool, &["Contoso", "Fabrikam"]).await;
    blind(&pool, 2).await;
    let receiver = Receiver::start().await;
    let settings = Settings { alive_every: Duration::from_secs(24 * 60 * 60), ..hasty() };
    let first = start(&pool, &receiver.url, settings);
    counts(&pool, TOLD, 2).await;
    let second = start(&pool, &receiver.url, settings);
    blind(&pool, 1).await;
    counts(&pool, TOLD, 3).await;
    first.stop().await;
    heal(&pool).await;
    counts(&pool, TOLD, 5).await;
    second.stop().await;
    let mut all = told(&receiver);
    all.sort();
    assert_eq!(
        all,
        ["tenant.blind Contoso", "tenant.blind Fabrikam", "tenant.recovered Contoso", "tenant.recovered Fabrikam", "tocsin.alive"]
    );
    let alive = receiver.calls().iter().map(super::receiver::Call::json).find(|json| json["type"] == "tocsin.alive").unwrap();
    assert_eq!(alive["data"]["text"], "tocsin is alive: 1 customers are seen, 1 are not, 0 are not to be read.");
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_outbox_is_bounded_and_the_newest_is_kept(pool: PgPool) {
    tenants(&pool, &["Contoso"]).await;
    // Nobody listens there.
    let notifier = start(&pool, "http://127.0.0.1:9/x", hasty());
    counts(&pool, "tocsin.notified where condition = 'well'", 1).await;
    for _ in 0..15 {
        blind(&pool, 1).await;
        counts(&pool, "tocsin.notified where condition = 'needs-consent'", 1).await;
        heal(&pool).await;
        counts(&pool, "tocsin.notified where condition = 'well'", 1).await;
    }
    counts(&pool, "tocsin.notification", 30).await;
    counts(&pool, "tocsin.notification where given_up_at is null", 10).await;
    let newest: String =
        sqlx::query_scalar("select condition from tocsin.notification where given_up_at is null order by number desc limit 1")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(newest, "well");
    notifier.stop().await;
}
