//! Reading again: first contact, moves, what is counted, what heals, comparisons and replays.

use bytes::Bytes;
use domain::ports::Cursors;
use domain::{
    Axis, Committed, Comparison, CursorMove, Errand, Fence, Gap, GapKind, Poison, Purpose, Record, Refusal, Reread, RereadMove, Ticks,
};
use sink::CursorStore;
use sqlx::PgPool;

use crate::world::{
    EVENING, GRAPH, INCIDENTS, MDE, MORNING, NOON, Sink, Tail, alert, claim, counts, fingerprint, number, tenant, ticks, with_body,
};

/// A re-read that goes from `from` to `to`, of which nothing has been read.
fn stretch(errand: Errand, run: i64, from: i64, to: i64) -> Reread {
    let (from, to) = (Ticks(from), Ticks(to));
    Reread { errand, run, axis: Axis::Update, from, to, left: to, polled_before: to, finished_at: None }
}

fn turn(now: Reread) -> Tail {
    let purpose = Some(Purpose::Reread { errand: now.errand, polled_before: now.polled_before });
    Tail { turn: Some(CursorMove::Reread(RereadMove { now, before: None, whole: None, comparison: None })), purpose, ..Tail::default() }
}

pub(crate) fn read_for(errand: Errand, polled_before: Ticks) -> Tail {
    Tail { purpose: Some(Purpose::Reread { errand, polled_before }), ..Tail::default() }
}

fn ended(reread: Reread) -> Reread {
    Reread { finished_at: Some(Ticks(0)), ..reread }
}

async fn on_record(pool: &PgPool, fence: Fence) -> Vec<Reread> {
    let mut all = CursorStore::new(pool.clone()).rereads(fence.tenant, GRAPH).await.unwrap();
    // When it ended is the database's business, and that it did is what counts.
    all.iter_mut().for_each(|one| one.finished_at = one.finished_at.map(|_| Ticks(0)));
    all
}

#[sqlx::test(migrations = "../../migrations")]
async fn first_contact_sets_the_watermark_and_the_backfill_or_neither(pool: PgPool) {
    let (fence, sink, cursors) = (tenant(&pool, 1).await, Sink::start(&pool), CursorStore::new(pool.clone()));
    let begin = |live_from, history_from| {
        let turn = CursorMove::Begin { live_from: Ticks(live_from), history_from: Ticks(history_from) };
        Tail { turn: Some(turn), ..Tail::default() }
    };
    let stale = Fence { epoch: domain::Epoch(0), ..fence };
    assert_eq!(sink.store_with(stale, GRAPH, vec![], begin(900, 100)).await, Err(Refusal::LeaseLost));
    assert_eq!((cursors.feed_state(fence.tenant, GRAPH).await.unwrap().watermark, on_record(&pool, fence).await), (None, vec![]));

    assert_eq!(sink.store_with(fence, GRAPH, vec![], begin(900, 100)).await, Ok(Committed::default()));
    let backfill = stretch(Errand::Backfill, 1, 100, 900);
    assert_eq!(cursors.feed_state(fence.tenant, GRAPH).await.unwrap().watermark, Some(Ticks(900)));
    assert_eq!(on_record(&pool, fence).await, [backfill]);
    assert_eq!(number(&pool, "select count(*) from tocsin.reread where asked_at is null and started_at is null").await, 1);
    assert_eq!(
        number(&pool, "select count(distinct xmin::text) from (select xmin from tocsin.feed union all select xmin from tocsin.reread) x")
            .await,
        1
    );

    let before = fingerprint(&pool).await;
    assert_eq!(sink.store_with(fence, GRAPH, vec![], begin(5000, 50)).await, Ok(Committed::default()));
    assert_eq!(fingerprint(&pool).await, before, "a feed that has a watermark has had its first contact");

    // A feed without history, and one whose row is there because its polls have failed so far.
    assert_eq!(sink.store_with(fence, MDE, vec![], begin(900, 900)).await, Ok(Committed::default()));
    sqlx::query("insert into tocsin.feed (tenant, source, last_error) values ($1, 'graph-incidents', 'x')")
        .bind(fence.tenant.0)
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(sink.store_with(fence, INCIDENTS, vec![], begin(900, 100)).await, Ok(Committed::default()));
    let backfills: Vec<String> = sqlx::query_scalar("select source from tocsin.reread order by source").fetch_all(&pool).await.unwrap();
    assert_eq!(backfills, ["graph-alerts", "graph-incidents"]);
    assert_eq!(number(&pool, "select count(*) from tocsin.feed where watermark_ticks = 900").await, 3);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_re_read_goes_on_until_its_end_and_a_later_run_begins_anew(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let send = |now: Reread, records| sink.store_with(fence, GRAPH, records, turn(now));
    let first = stretch(Errand::Short, 1, 100, 900);
    assert_eq!(send(first.clone(), vec![]).await, Ok(Committed::default()));
    let halfway = Reread { left: Ticks(500), axis: Axis::Creation, to: Ticks(950), ..first.clone() };
    assert_eq!(send(halfway.clone(), vec![alert("a", NOON, "t")]).await.unwrap().new, 1);
    assert_eq!(on_record(&pool, fence).await, std::slice::from_ref(&halfway), "all of it is as the move says");
    let newer = claim(&pool, fence).await.unwrap();
    assert_eq!(send(first.clone(), vec![]).await, Err(Refusal::LeaseLost));
    assert_eq!(on_record(&pool, fence).await, std::slice::from_ref(&halfway));

    let send = |now: Reread, records| sink.store_with(newer, GRAPH, records, turn(now));
    let end = ended(Reread { left: Ticks(100), ..halfway });
    assert!(!send(end.clone(), vec![]).await.unwrap().void, "on another replica it goes on");
    assert_eq!(on_record(&pool, fence).await, std::slice::from_ref(&end));
    assert!(send(first, vec![]).await.unwrap().void, "what has ended does not move");
    let row = "select records * 100 + new_alerts * 10 + cardinality(missing_ids) from tocsin.reread";
    assert_eq!(number(&pool, row).await, 111);
    let second = stretch(Errand::Short, 2, 200, 1000);
    assert!(!send(second.clone(), vec![]).await.unwrap().void);
    assert_eq!(on_record(&pool, fence).await, [second]);
    assert_eq!(number(&pool, row).await, 0);
    assert_eq!(number(&pool, "select count(*) from tocsin.reread where finished_at is null and started_at is not null").await, 1);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_a_cancelled_re_read_brings_is_stored_and_counted_nowhere(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let backfill = stretch(Errand::Backfill, 1, 100, 900);
    counts(sink.store_with(fence, GRAPH, vec![], turn(backfill.clone())).await);
    sink::ask::cancel(&pool, fence.tenant, GRAPH, Errand::Backfill).await.unwrap();
    let row = "select t::text from tocsin.reread t";
    let before: String = sqlx::query_scalar(row).fetch_one(&pool).await.unwrap();

    let slice = sink.store_with(fence, GRAPH, vec![alert("a", NOON, "t")], read_for(Errand::Backfill, Ticks(900))).await;
    assert_eq!(slice.map(|it| (it.new, it.void)), Ok((1, true)), "told with the first slice");
    let gaps = vec![Gap { from: Ticks(1), to: Ticks(2), kind: GapKind::Ties, reason: "x".into() }];
    let last = Tail { gaps, ..turn(Reread { left: Ticks(500), ..backfill }) };
    let last = sink.store_with(fence, GRAPH, vec![alert("b", NOON, "t")], last).await;
    assert_eq!(last.map(|it| (it.new, it.void)), Ok((1, true)));
    assert_eq!(number(&pool, "select count(*) from dash.alert").await, 2);
    assert_eq!(number(&pool, "select count(*) from dash.gap").await, 1, "what could not be read is known all the same");
    let after: String = sqlx::query_scalar(row).fetch_one(&pool).await.unwrap();
    assert_eq!(after, before);

    // What belongs to the run before does not count in the one that is asked for.
    sink::ask::backfill(&pool, fence.tenant, GRAPH, Ticks(100), Ticks(900), false).await.unwrap();
    let slice = sink.store_with(fence, GRAPH, vec![alert("c", NOON, "t")], read_for(Errand::Backfill, Ticks(900))).await;
    assert_eq!(slice.map(|it| (it.new, it.void)), Ok((1, true)));
    assert_eq!(number(&pool, "select records from tocsin.reread where run = 2").await, 0);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_polling_had_missed_is_counted_in_the_row_of_the_errand(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    counts(sink.store(fence, GRAPH, vec![alert("known", NOON, "t"), alert("grown", MORNING, "t")]).await);
    let before = ticks(NOON);
    let rung = Reread { polled_before: before, ..stretch(Errand::Long, 1, 100, 900) };
    counts(sink.store_with(fence, GRAPH, vec![], turn(rung.clone())).await);
    let page = vec![
        alert("known", NOON, "t"),
        alert("missed", MORNING, "t"),
        alert("not yet polled", NOON, "t"),
        with_body("no stamp", "{}", None, None, "t"),
        alert("grown", "2026-11-21T09:00:00Z", "u"),
        alert("grown", EVENING, "v"),
    ];
    let found = sink.store_with(fence, GRAPH, page, read_for(Errand::Long, before)).await.unwrap();
    assert_eq!((found.new, found.updated, found.duplicate, found.late, found.void), (3, 2, 1, 3, false));
    let again = sink.store_with(fence, GRAPH, vec![alert("missed", MORNING, "t"), alert("grown", EVENING, "w")], turn(rung)).await.unwrap();
    assert_eq!((again.updated, again.duplicate, again.late), (1, 1, 0));
    let row: (i64, i64, i64, i64, Vec<String>, Vec<String>) =
        sqlx::query_as("select records, new_alerts, updated_alerts, late, missing_ids, changed_ids from tocsin.reread")
            .fetch_one(&pool)
            .await
            .unwrap();
    let ids = |all: &[&str]| all.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    assert_eq!(row, (8, 3, 3, 3, ids(&["missed", "no stamp", "not yet polled"]), ids(&["grown"])));

    let many = (0..150).map(|at| alert(&format!("{at:03}"), NOON, "t")).collect();
    counts(sink.store_with(fence, GRAPH, many, read_for(Errand::Long, before)).await);
    assert_eq!(number(&pool, "select cardinality(missing_ids)::bigint from tocsin.reread").await, 100);
    assert_eq!(number(&pool, "select new_alerts from tocsin.reread").await, 153);
    sink.stop().await;
}

fn gap(from: i64, to: i64, kind: GapKind) -> Gap {
    Gap { from: Ticks(from), to: Ticks(to), kind, reason: "x".into() }
}

/// Which gaps are open, by their start.
async fn open(pool: &PgPool) -> Vec<i64> {
    sqlx::query_scalar("select from_ticks from tocsin.gap where healed_at is null order by from_ticks").fetch_all(pool).await.unwrap()
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_stretch_that_was_read_whole_heals_its_gaps_and_one_noticed_again_is_open_again(pool: PgPool) {
    let (fence, other, sink) = (tenant(&pool, 1).await, tenant(&pool, 2).await, Sink::start(&pool));
    let gaps = || {
        vec![
            gap(100, 100, GapKind::Ties),
            gap(199, 199, GapKind::TooLarge),
            gap(99, 150, GapKind::Failing),
            gap(150, 200, GapKind::Failing),
            gap(120, 130, GapKind::Expired),
            gap(140, 140, GapKind::Failing),
        ]
    };
    for (fence, source) in [(fence, GRAPH), (fence, MDE), (other, GRAPH)] {
        counts(sink.store_with(fence, source, vec![], Tail { gaps: gaps(), ..Tail::default() }).await);
    }
    let whole = |now: Reread, gaps| {
        let purpose = Some(Purpose::Reread { errand: now.errand, polled_before: now.polled_before });
        let turn = CursorMove::Reread(RereadMove { now, before: None, whole: Some((Ticks(100), Ticks(200))), comparison: None });
        Tail { turn: Some(turn), purpose, gaps, ..Tail::default() }
    };
    let by_creation = Reread { axis: Axis::Creation, ..stretch(Errand::Long, 1, 0, 900) };
    counts(sink.store_with(fence, GRAPH, vec![], whole(by_creation, vec![])).await);
    assert_eq!(
        number(&pool, "select count(*) from dash.gap where healed_at is not null").await,
        0,
        "read by the other stamp it is not read"
    );

    let by_update = stretch(Errand::Long, 2, 0, 900);
    counts(sink.store_with(fence, GRAPH, vec![], whole(by_update.clone(), vec![gap(140, 140, GapKind::Failing)])).await);
    let healed: Vec<i64> = sqlx::query_scalar("select from_ticks from tocsin.gap where healed_at is not null order by from_ticks")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(
        healed,
        [100, 199],
        "not what reaches over the border, what nobody has any more, what was noticed just now, or anybody else's"
    );

    let noticed = Tail { gaps: vec![gap(100, 100, GapKind::TooLarge)], ..turn(by_update.clone()) };
    counts(sink.store_with(fence, GRAPH, vec![], noticed).await);
    let row: (String, bool) =
        sqlx::query_as("select kind, healed_at is null from tocsin.gap where from_ticks = 100 and source = 'graph-alerts' and tenant = $1")
            .bind(fence.tenant.0)
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(row, ("too-large".into(), true));
    sink::ask::cancel(&pool, fence.tenant, GRAPH, Errand::Long).await.unwrap();
    let before = open(&pool).await;
    let void = sink.store_with(fence, GRAPH, vec![], whole(by_update, vec![])).await.unwrap();
    assert!(void.void);
    assert_eq!(open(&pool).await, before, "a void move heals nothing");
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_comparison_leaves_what_it_found_with_what_the_store_has_counted(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    counts(sink.store(fence, GRAPH, vec![alert("changed", MORNING, "t")]).await);
    for (errand, asked_by) in [(Errand::Nightly, "nightly"), (Errand::Reconcile, "operator")] {
        let run = stretch(errand, 4, 100, 900);
        counts(sink.store_with(fence, GRAPH, vec![], turn(run.clone())).await);
        let page = vec![alert(&format!("missing {asked_by}"), NOON, "t"), alert("changed", NOON, asked_by)];
        let comparison = Comparison { at_source: 7, stored: 6, only_stored: vec!["gone\0".into()], only_stored_count: 1 };
        let last = RereadMove { now: ended(run), before: None, whole: None, comparison: Some(comparison) };
        let tail = || Tail { turn: Some(CursorMove::Reread(last.clone())), ..read_for(errand, Ticks(900)) };
        assert!(!sink.store_with(fence, GRAPH, page, tail()).await.unwrap().void);
        assert!(sink.store_with(fence, GRAPH, vec![], tail()).await.unwrap().void, "said twice it is one comparison");
        let row: (i64, Vec<i64>, Vec<String>, Vec<String>, Vec<String>, bool) = sqlx::query_as(
            "select run, array[at_source, stored, missing, changed, only_stored], missing_ids, changed_ids, only_stored_ids,
                    started_at <= finished_at and from_ticks = 100 and to_ticks = 900
             from tocsin.reconciliation where asked_by = $1",
        )
        .bind(asked_by)
        .fetch_one(&pool)
        .await
        .unwrap();
        let one = |id: &str| vec![id.to_owned()];
        assert_eq!(row, (4, vec![7, 6, 1, 1, 1], one(&format!("missing {asked_by}")), one("changed"), one("gone\u{FFFD}"), true));
    }
    assert_eq!(number(&pool, "select count(*) from dash.reconciliation").await, 2);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_version_that_somebody_deleted_is_found_missing_by_the_long_rung_and_by_comparisons(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let page = || vec![alert("a", NOON, "t"), alert("b", NOON, "t")];
    assert_eq!(counts(sink.store(fence, GRAPH, page()).await), (2, 0, 0, 0));
    sqlx::query("delete from tocsin.alert_version where alert_id = 'a'").execute(&pool).await.unwrap();

    // Whoever only polls takes the word of the state that stands: both were stored by one transaction.
    assert_eq!(counts(sink.store(fence, GRAPH, page()).await), (0, 0, 2, 0));
    for errand in [Errand::Long, Errand::Nightly, Errand::Reconcile] {
        counts(sink.store_with(fence, GRAPH, vec![], turn(stretch(errand, 1, 100, 900))).await);
        assert_eq!(counts(sink.store_with(fence, GRAPH, page(), read_for(errand, Ticks(900))).await), (0, 1, 1, 0), "{errand}");
        assert_eq!(number(&pool, "select count(*) from dash.alert where raw is not null").await, 2);
        let found = "select count(*) from tocsin.reread where errand = $1 and changed_ids = '{a}'";
        assert_eq!(sqlx::query_scalar::<_, i64>(found).bind(errand.as_str()).fetch_one(&pool).await.unwrap(), 1);
        assert_eq!(counts(sink.store_with(fence, GRAPH, page(), read_for(errand, Ticks(900))).await), (0, 0, 2, 0), "it is there");
        sqlx::query("delete from tocsin.alert_version where alert_id = 'a'").execute(&pool).await.unwrap();
    }
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_state_that_somebody_deleted_is_back_as_soon_as_the_alert_is_read(pool: PgPool) {
    let (fence, sink) = (tenant(&pool, 1).await, Sink::start(&pool));
    let page = || vec![alert("a", NOON, "t"), alert("b", NOON, "t")];
    assert_eq!(counts(sink.store(fence, GRAPH, page()).await), (2, 0, 0, 0));
    sqlx::query("delete from tocsin.alert where alert_id = 'a'").execute(&pool).await.unwrap();
    assert_eq!(counts(sink.store(fence, GRAPH, page()).await), (1, 0, 2, 0));
    assert_eq!(number(&pool, "select count(*) from dash.alert where raw is not null").await, 2);
    assert_eq!(number(&pool, "select count(*) from tocsin.alert_version").await, 2, "its version was there, and is one");
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_is_understood_in_a_replay_leaves_quarantine(pool: PgPool) {
    let (fence, sink, cursors) = (tenant(&pool, 1).await, Sink::start(&pool), CursorStore::new(pool.clone()));
    let bodies = ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"];
    let poison = |at: usize| Record::Poison(Poison::new("not understood", Bytes::from_static(bodies[at].as_bytes())));
    assert_eq!(counts(sink.store(fence, GRAPH, vec![poison(0), poison(1), poison(2)]).await), (0, 0, 0, 3));
    counts(sink.store(fence, MDE, vec![poison(0)]).await);
    let asked = sink::ask::replay(&pool, &sink::ask::ReplayOf::All { tenant: None, source: Some(GRAPH) }).await.unwrap();
    assert_eq!(asked.iter().map(|one| (one.tenant, one.source, one.run, one.records)).collect::<Vec<_>>(), [(fence.tenant, GRAPH, 1, 3)]);
    assert_eq!(cursors.asked_for().await.unwrap(), [(fence.tenant, GRAPH, Errand::Replay, 1)]);
    let mut due: Vec<Bytes> = cursors.to_replay(fence.tenant, GRAPH, 100).await.unwrap();
    due.sort();
    assert_eq!(due, bodies);
    assert_eq!(cursors.to_replay(fence.tenant, GRAPH, 2).await.unwrap().len(), 2);
    assert_eq!(cursors.to_replay(fence.tenant, MDE, 100).await.unwrap().len(), 0);

    let replay = Reread { polled_before: Ticks(0), ..cursors.rereads(fence.tenant, GRAPH).await.unwrap().remove(0) };
    counts(sink.store_with(fence, GRAPH, vec![], turn(replay.clone())).await);
    let page = vec![with_body("a", bodies[0], Some(NOON), None, "t"), poison(1), with_body("b", bodies[2], Some(NOON), None, "t")];
    assert_eq!(counts(sink.store_with(fence, GRAPH, page, turn(ended(replay))).await), (2, 0, 0, 0));
    assert_eq!(cursors.to_replay(fence.tenant, GRAPH, 100).await.unwrap().len(), 0, "what was tried in vain is not tried again by itself");
    assert_eq!(number(&pool, "select quarantined from dash.feed_health where source = 'graph-alerts'").await, 1);
    assert_eq!(number(&pool, "select quarantined from dash.feed_health where source = 'mde-alerts'").await, 1);
    let left: Vec<(String, Vec<u8>)> =
        sqlx::query_as("select source, raw_bytes from dash.quarantine order by source").fetch_all(&pool).await.unwrap();
    assert_eq!(left, [("graph-alerts".into(), bodies[1].into()), ("mde-alerts".into(), bodies[0].into())]);
    let result = sink::read::replay_result(&pool, fence.tenant, GRAPH, 1).await.unwrap().unwrap();
    assert_eq!((result.state.is_over(), result.understood, result.refused, result.waiting), (true, 2, 1, 0));

    assert_eq!(counts(sink.store(fence, GRAPH, vec![poison(0), poison(1)]).await), (0, 0, 0, 1), "not understood again, it is back");
    assert_eq!(number(&pool, "select quarantined from dash.feed_health where source = 'graph-alerts'").await, 2);
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_is_stored_of_a_stretch_is_told_to_the_tick(pool: PgPool) {
    let (fence, other, sink, cursors) =
        (tenant(&pool, 1).await, tenant(&pool, 2).await, Sink::start(&pool), CursorStore::new(pool.clone()));
    let stamps = ["2026-11-21T12:00:00.0000001Z", "2026-11-21T12:00:00.0000002Z", "2026-11-21T12:00:00.0000003Z", "9999-12-31T23:59:59Z"];
    let page = || stamps.iter().map(|stamp| alert(stamp, stamp, "t")).chain([with_body("none", "{}", None, None, "t")]).collect::<Vec<_>>();
    counts(sink.store(fence, GRAPH, page()).await);
    counts(sink.store(other, GRAPH, page()).await);
    counts(sink.store(fence, MDE, vec![alert("mde", stamps[1], "t"), alert(stamps[0], stamps[1], "mde is newer")]).await);
    let between = |source, from, to| {
        let cursors = cursors.clone();
        async move {
            let ids = cursors.stored_between(fence.tenant, source, from, to).await.unwrap();
            let named = |due| {
                let mut ids: Vec<_> = ids.iter().filter(|id| id.due == due).map(|id| id.id.as_str().to_owned()).collect();
                ids.sort();
                ids
            };
            (named(true), named(false))
        }
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let (due, others) = between(GRAPH, ticks(stamps[1]), ticks(stamps[2])).await;
    assert_eq!(due, [stamps[1]], "the start belongs to it and the end does not");
    assert_eq!(others, words(&[stamps[0], stamps[2]]), "what MDE has said the last word on, and what comes later");
    let (due, others) = between(MDE, ticks(stamps[0]), ticks(stamps[2])).await;
    assert_eq!((due, others), (words(&[stamps[0], "mde"]), words(&[])), "whoever said the last word");
    let (due, _) = between(GRAPH, Ticks(i64::MIN + 1), Ticks(i64::MAX)).await;
    assert_eq!(due, words(&[stamps[1], stamps[2]]), "never what has no stamp, or an absurd one");
    assert_eq!(between(INCIDENTS, Ticks(i64::MIN), Ticks(i64::MAX)).await, (words(&[]), words(&[])));
    sink.stop().await;
}
