//! Failing on purpose: each named point lets a commit fail without a trace, and each planted bug shows.

use domain::ports::Cursors;
use domain::rehearsal::{Action, Rehearsal};
use domain::{Errand, Refusal, Source};
use sink::CursorStore;
use sqlx::PgPool;

use crate::world::{EVENING, GRAPH, MORNING, NOON, Sink, Tail, alert, claim, counts, fingerprint, number, tenant, ticks, titles};

const POINTS: [&str; 9] = [
    "commit.begin",
    "commit.fence",
    "commit.looked-up",
    "commit.versions",
    "commit.latest",
    "cursor.before",
    "cursor.after",
    "commit.before",
    "commit.after",
];

fn cursor(text: &'static str) -> Tail {
    Tail { cursor: Some(text), ..Tail::default() }
}

#[sqlx::test(migrations = "../../migrations")]
async fn an_error_at_any_point_is_tried_again_and_leaves_no_trace(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    counts(sink.store(fence, GRAPH, vec![alert("a", MORNING, "t")]).await);
    for (at, point) in POINTS.into_iter().enumerate() {
        Rehearsal::default().at(point, Action::Error, Some(1)).begin();
        let page = vec![alert("a", NOON, point), alert(point, NOON, "t")];
        let found = sink.store_with(fence, GRAPH, page, cursor(NOON)).await.unwrap();
        let passed = Rehearsal::end();
        // An error after the commit is an answer that got lost: everything is there when it is tried again.
        let expected = if point == "commit.after" { (0, 0, 2) } else { (1, 1, 0) };
        assert_eq!((found.new, found.updated, found.duplicate), expected, "{point}");
        assert_eq!(passed[point], 2, "{point}");
        assert_eq!(passed["commit.after"], if point == "commit.after" { 2 } else { 1 });
        assert_eq!(number(&pool, "select count(*) from dash.alert_version where alert_id = 'a'").await, 2 + i64::try_from(at).unwrap());
    }
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_ends_at_any_point_before_the_commit_is_not_stored_at_all(pool: PgPool) {
    let fence = tenant(&pool, 1).await;
    let before = fingerprint(&pool).await;
    for point in POINTS {
        let sink = Sink::start(&pool);
        Rehearsal::default().at(point, Action::Error, None).begin();
        let answer = sink.send(fence, GRAPH, vec![alert("a", NOON, "t")], cursor(NOON)).await;
        sink.stop().await;
        assert!(Rehearsal::end()[point] > 0);
        assert_eq!(answer.await.unwrap(), Err(Refusal::Stopping), "{point}");
        assert_eq!(fingerprint(&pool).await == before, point != "commit.after", "{point}");
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_cursor_that_cannot_be_read_is_told(pool: PgPool) {
    let (fence, cursors) = (tenant(&pool, 1).await, CursorStore::new(pool.clone()));
    Rehearsal::default().at("cursor.read", Action::Error, Some(1)).begin();
    assert!(cursors.feed_state(fence.tenant, GRAPH).await.is_err());
    assert!(cursors.feed_state(fence.tenant, GRAPH).await.is_ok());
    Rehearsal::end();
}

/// What is wrong after a short story that has a body out of order, an update, and a claim of the lease.
async fn symptoms(pool: &PgPool) -> Vec<&'static str> {
    let (fence, sink, cursors) = (tenant(pool, 1).await, Sink::start(pool), CursorStore::new(pool.clone()));
    let mut symptoms = Vec::new();
    counts(sink.store(fence, GRAPH, vec![alert("a", NOON, "noon")]).await);
    counts(sink.store(fence, GRAPH, vec![alert("a", MORNING, "morning")]).await);
    if titles(pool).await != [("a".into(), "noon".into())] {
        symptoms.push("an older body stands");
    }
    counts(sink.store(fence, GRAPH, vec![alert("a", EVENING, "evening")]).await);
    if number(pool, "select count(*) from dash.alert_version").await != 3 {
        symptoms.push("a version is not there");
    }
    claim(pool, fence).await.unwrap();
    let outcome = sink.store_with(fence, GRAPH, vec![alert("b", NOON, "t")], cursor(EVENING)).await;
    if outcome != Err(Refusal::LeaseLost) {
        symptoms.push("stored without the right to");
    }
    if cursors.feed_state(fence.tenant, GRAPH).await.unwrap().watermark == Some(ticks(EVENING)) && outcome.is_err() {
        symptoms.push("a cursor passes what is not stored");
    }
    sink.stop().await;
    symptoms
}

macro_rules! planted {
    ($($name:ident: $bug:expr => $symptoms:expr;)*) => {
        $(#[sqlx::test(migrations = "../../migrations")]
        async fn $name(pool: PgPool) {
            let bug: Option<&str> = $bug;
            let rehearsal = Rehearsal::default();
            match bug {
                Some(bug) => rehearsal.bug(bug),
                None => rehearsal,
            }
            .begin();
            let found = symptoms(&pool).await;
            Rehearsal::end();
            let expected: &[&str] = &$symptoms;
            assert_eq!(found, expected);
        })*
    };
}

planted! {
    without_a_planted_bug_nothing_is_wrong: None => [];
    an_older_body_that_overwrites_a_newer_one_shows: Some("older-overwrites-newer") => ["an older body stands"];
    a_body_that_is_taken_for_known_by_its_id_shows: Some("dedupe-by-id-only") => ["a version is not there"];
    a_fence_that_is_gone_shows: Some("fence-removed") => ["stored without the right to"];
    a_cursor_that_is_committed_first_shows: Some("cursor-before-commit") => ["a cursor passes what is not stored"];
}

#[test]
fn these_are_the_points_and_errands_that_this_room_knows() {
    let ours: Vec<&str> =
        domain::rehearsal::POINTS.iter().copied().filter(|point| point.starts_with("commit.") || point.starts_with("cursor.")).collect();
    assert_eq!(ours, [&POINTS[..], &["cursor.read"]].concat());
    assert_eq!((Errand::ALL.len(), Source::ALL.len()), (6, 3));
}
