//! How a message is sent, and what is done about each way in which a receiver can fail.

use std::time::Duration;

use domain::SystemClock;
use notifier::{Client, Egress, Endpoint, Guard, Resolver, Secrets, Settings, standing};
use sqlx::PgPool;
use tokio::time::Instant;

use crate::receiver::{Receiver, Reply};
use crate::world::{HERE, SECRET, blind, counts, hasty, heal, run, start, tenants};

const WAITING: &str = "tocsin.notification where delivered_at is null and given_up_at is null";

#[sqlx::test(migrations = "../../migrations")]
async fn a_message_is_signed_says_everything_and_tells_no_secret(pool: PgPool) {
    tenants(&pool, &["Contoso"]).await;
    blind(&pool, 1).await;
    let receiver = Receiver::start().await;
    let notifier = start(&pool, &receiver.url, hasty());
    let call = receiver.has(1).await.remove(0);
    let expected = Secrets::parse(SECRET).unwrap().sign(&call.id, call.timestamp, &call.body);
    assert_eq!(call.signature, expected);
    assert!(call.id.starts_with("msg_"));
    let json = call.json();
    assert_eq!(json["type"], "tenant.blind");
    let data = &json["data"];
    assert_eq!(data["tenant"]["directory_id"], "00000000-0000-0000-0000-000000000001");
    assert_eq!(data["tenant"]["name"], "Contoso");
    assert_eq!((data["state"].as_str(), data["error_code"].as_str()), (Some("needs-consent"), Some("AADSTS50173")));
    assert_eq!(data["action"], "the customer: sign in again, with: tocsin tenant invite Contoso");
    assert_eq!(data["link"], "https://portal.example/?tid=00000000-0000-0000-0000-000000000001");
    let text = data["text"].as_str().unwrap();
    assert!(text.contains("Contoso cannot be seen: the refresh token was revoked.") && text.contains("sign in again"), "{text}");
    counts(&pool, WAITING, 0).await;
    notifier.stop().await;
    let all: Vec<String> = sqlx::query_scalar("select n::text from tocsin.notification n").fetch_all(&pool).await.unwrap();
    assert!(!all.concat().contains("in-the-address") && !all.concat().contains(&SECRET[6..]), "{all:?}");
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_is_not_taken_comes_again_with_its_id_and_the_order_of_a_tenant_is_kept(pool: PgPool) {
    tenants(&pool, &["Contoso", "Fabrikam"]).await;
    let receiver = Receiver::start().await;
    for reply in [Reply::Status(500), Reply::RetryAfter(429, 1), Reply::Redirect(format!("{}&followed", receiver.url)), Reply::Status(404)]
    {
        receiver.will("Contoso", reply);
    }
    blind(&pool, 1).await;
    let notifier = start(&pool, &receiver.url, hasty());
    receiver.has(1).await;
    // Meanwhile he is well again, and another one is blind.
    heal(&pool).await;
    blind(&pool, 2).await;
    counts(&pool, "tocsin.notification where delivered_at is not null", 3).await;
    notifier.stop().await;
    let about = receiver.about();
    let of = |name: &str| about.iter().filter(|(_, of)| of == name).map(|(kind, _)| kind.as_str()).collect::<Vec<_>>();
    assert_eq!(
        of("Contoso"),
        [&["tenant.blind"; 5][..], &["tenant.recovered"]].concat(),
        "tried until it was taken, and only then the next"
    );
    assert_eq!(of("Fabrikam"), ["tenant.blind"], "he waits for nobody");
    let ids: std::collections::BTreeSet<_> =
        receiver.calls().iter().filter(|call| call.about().1 == "Contoso").map(|call| call.id.clone()).collect();
    assert_eq!(ids.len(), 2, "one id per message");
    let tried: i32 = sqlx::query_scalar("select max(tries) from tocsin.notification").fetch_one(&pool).await.unwrap();
    assert_eq!(tried, 5);
    let standing = standing(&pool).await.unwrap();
    assert!(standing.waiting == 0 && standing.failing_seconds.is_none() && standing.success_seconds.is_some(), "{standing:?}");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_receiver_that_hangs_costs_five_seconds_and_one_that_floods_is_not_read_to_its_end(pool: PgPool) {
    tenants(&pool, &["Contoso"]).await;
    let receiver = Receiver::start().await;
    receiver.will("Contoso", Reply::Hang);
    receiver.will("Contoso", Reply::Flood);
    blind(&pool, 1).await;
    let begun = Instant::now();
    let notifier = start(&pool, &receiver.url, hasty());
    receiver.has(2).await;
    assert!((4..10).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    counts(&pool, WAITING, 0).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    notifier.stop().await;
    assert_eq!(receiver.calls().len(), 2);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_receiver_that_has_gone_is_left_alone_for_an_hour_and_what_nobody_takes_is_given_up_in_the_end(pool: PgPool) {
    tenants(&pool, &["Contoso", "Fabrikam"]).await;
    let receiver = Receiver::start().await;
    receiver.will("Contoso", Reply::Status(410));
    blind(&pool, 1).await;
    let notifier = start(&pool, &receiver.url, Settings { give_up_after: Duration::from_secs(60), ..hasty() });
    counts(&pool, "tocsin.notification where next_try_at > now() + interval '50 minutes'", 1).await;
    let failing = standing(&pool).await.unwrap();
    assert!(failing.waiting == 1 && failing.failing_seconds.is_some(), "{failing:?}");
    let reason: String = sqlx::query_scalar("select last_error from tocsin.notification").fetch_one(&pool).await.unwrap();
    assert!(reason.contains("wants nothing more (410)"), "{reason}");
    // The hour is over, and the message is older than a message may get.
    receiver.will("Contoso", Reply::Status(500));
    run(&pool, "update tocsin.notification set next_try_at = now(), created_at = now() - interval '1 hour'").await;
    counts(&pool, "tocsin.notification where given_up_at is not null", 1).await;
    heal(&pool).await;
    counts(&pool, "tocsin.notification where delivered_at is not null", 1).await;
    notifier.stop().await;
    assert_eq!(receiver.about().last().unwrap().0, "tenant.recovered");
}

#[tokio::test]
async fn what_is_private_or_in_the_clear_is_called_only_where_the_operator_says_so() {
    let receiver = Receiver::start().await;
    let refused = |url: &str, egress| Endpoint::parse(url, SECRET, egress).unwrap_err().to_string();
    let none = Egress::default();
    assert!(refused(&receiver.url, none).contains("does not begin with https://"));
    assert!(refused("http://hooks.example/x", HERE).contains("does not begin with https://"), "in the clear only to this machine");
    assert!(refused("https://10.0.0.1/x", none).contains("10.0.0.1 is a private address"));
    assert!(refused("https://[::1]/x", none).contains("private"));
    assert!(refused("https://169.254.169.254/x", Egress { allow_private: true, ..none }).contains("nothing is ever sent"));
    assert!(refused("https://user:secret@hooks.example/x", none).contains("holds a user"));
    assert!(refused("file:///etc/passwd", none).contains("address"));
    assert!(!refused("https://user:s3cret@hooks.example/x", none).contains("s3cret"));

    // A name that leads to this machine, although it is https: refused before anything is connected to.
    let port = receiver.url.rsplit_once(':').unwrap().1.split_once('/').unwrap().0.to_owned();
    let endpoint = Endpoint::parse(&format!("https://hooks.example:{port}/x"), SECRET, none).unwrap();
    let rebound = Resolver::asking(Guard::default(), |_| Box::pin(async { Ok(vec!["127.0.0.1:0".parse().unwrap()]) }));
    let client = Client::resolving(none, rebound).unwrap();
    let error = notifier::test(&client, &endpoint, &SystemClock).await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1 is a private address; set notify.allow_private = true"), "{error}");
    assert!(!error.contains("hooks.example"), "the address may be a secret: {error}");
    assert_eq!(receiver.calls().len(), 0);
}
