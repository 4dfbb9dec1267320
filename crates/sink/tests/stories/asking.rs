//! What an operator asks for, and what the answer looks like.

use bytes::Bytes;
use domain::ports::Cursors;
use domain::{Comparison, CursorMove, Errand, Poison, Purpose, Record, RereadMove, TenantId, Ticks};
use sink::CursorStore;
use sink::ask::{self, AskError, ReplayOf};
use sink::read::{self, QuarantineFilter, RereadState};
use sqlx::PgPool;

use crate::world::{GRAPH, INCIDENTS, MDE, MORNING, NOON, Sink, Tail, alert, counts, number, tenant, ticks};

#[sqlx::test(migrations = "../../migrations")]
async fn a_backfill_is_asked_for_refused_while_open_replaced_and_cancelled(pool: PgPool) {
    let (fence, cursors) = (tenant(&pool, 1).await, CursorStore::new(pool.clone()));
    let (from, to) = (ticks(MORNING), ticks(NOON));
    let ask = |replace| ask::backfill(&pool, fence.tenant, GRAPH, from, to, replace);
    assert!(read::rereads(&pool, None).await.unwrap().is_empty());
    assert_eq!(ask(false).await.unwrap(), 1);
    let open = ask(false).await.unwrap_err();
    assert!(matches!(open, AskError::Open { errand: Errand::Backfill, run: 1 }));
    assert_eq!(open.to_string(), "backfill is under way for this feed already (run 1)");
    assert_eq!(ask(true).await.unwrap(), 2);
    assert_eq!(cursors.asked_for().await.unwrap(), [(fence.tenant, GRAPH, Errand::Backfill, 2)]);
    let row = read::rereads(&pool, Some(fence.tenant)).await.unwrap().remove(0);
    assert_eq!((row.state, row.run, row.from_at, row.to_at, row.done), (RereadState::Waiting, 2, from, to, 0.0));
    assert!(row.asked_at.is_some() && row.started_at.is_none());
    let json = serde_json::to_value(&row).unwrap();
    assert_eq!((&json["state"], &json["from_at"]), (&"waiting".into(), &MORNING.into()));

    assert_eq!(ask::cancel(&pool, fence.tenant, GRAPH, Errand::Backfill).await.unwrap(), 2);
    assert!(matches!(ask::cancel(&pool, fence.tenant, GRAPH, Errand::Backfill).await, Err(AskError::NothingOpen(Errand::Backfill))));
    assert_eq!(cursors.asked_for().await.unwrap(), []);
    assert_eq!(read::rereads(&pool, None).await.unwrap()[0].state, RereadState::Cancelled);
    assert_eq!(ask(false).await.unwrap(), 3, "what was cancelled can be asked for anew");
}

#[sqlx::test(migrations = "../../migrations")]
async fn what_cannot_be_read_is_not_asked_for(pool: PgPool) {
    let fence = tenant(&pool, 1).await;
    let words = |source, tenant, from, to| {
        let pool = pool.clone();
        async move { ask::comparison(&pool, tenant, source, from, to).await.unwrap_err().to_string() }
    };
    let (from, to) = (ticks(MORNING), ticks(NOON));
    let nobody = TenantId(uuid::Uuid::from_u128(99));
    assert_eq!(words(GRAPH, nobody, from, to).await, "there is no tenant 00000000-0000-0000-0000-000000000063");
    assert!(words(GRAPH, fence.tenant, to, from).await.starts_with("there is nothing to read from 2026-11-21T12"));
    assert!(words(GRAPH, fence.tenant, Ticks(i64::MIN), to).await.starts_with("there is nothing to read"), "the view could not name it");
    sqlx::query("update tocsin.tenant set sources = '{graph-alerts}'").execute(&pool).await.unwrap();
    assert_eq!(words(MDE, fence.tenant, from, to).await, "mde-alerts is not read for this tenant; it reads graph-alerts");
    sqlx::query("update tocsin.tenant set state = 'removed'").execute(&pool).await.unwrap();
    assert!(words(GRAPH, fence.tenant, from, to).await.starts_with("there is no tenant"));
    assert_eq!(number(&pool, "select count(*) from tocsin.reread").await, 0);
}

#[sqlx::test(migrations = "../../migrations")]
async fn who_waits_for_a_comparison_sees_it_wait_run_and_end_with_its_result(pool: PgPool) {
    let (fence, sink, cursors) = (tenant(&pool, 1).await, Sink::start(&pool), CursorStore::new(pool.clone()));
    let run = ask::comparison(&pool, fence.tenant, GRAPH, ticks(MORNING), ticks(NOON)).await.unwrap();
    let state = || async { read::run_state(&pool, fence.tenant, GRAPH, Errand::Reconcile, run).await.unwrap() };
    assert_eq!(state().await.unwrap().reread.state, RereadState::Waiting);
    assert!(matches!(ask::comparison(&pool, fence.tenant, GRAPH, Ticks(1), Ticks(2)).await, Err(AskError::Open { run: 1, .. })));

    let now = cursors.rereads(fence.tenant, GRAPH).await.unwrap().remove(0);
    let tail = |now: domain::Reread, comparison| Tail {
        purpose: Some(Purpose::Reread { errand: Errand::Reconcile, polled_before: now.polled_before }),
        turn: Some(CursorMove::Reread(RereadMove { now, before: None, whole: None, comparison })),
        ..Tail::default()
    };
    counts(sink.store_with(fence, GRAPH, vec![], tail(now.clone(), None)).await);
    assert_eq!(state().await.unwrap().reread.state, RereadState::Running);
    // It is interrupted, and begun anew.
    let anew = domain::Reread { run: run + 1, ..now };
    counts(sink.store_with(fence, GRAPH, vec![], tail(anew.clone(), None)).await);
    assert_eq!((state().await.unwrap().is_over(), state().await.unwrap().reread.run), (false, run + 1));
    let end = domain::Reread { finished_at: Some(Ticks(0)), ..anew };
    let comparison = Comparison { at_source: 1, stored: 0, ..Comparison::default() };
    counts(sink.store_with(fence, GRAPH, vec![alert("a", NOON, "t")], tail(end, Some(comparison))).await);
    let state = state().await.unwrap();
    assert!(state.is_over());
    let found = state.reconciliation.unwrap();
    assert_eq!((found.at_source, found.stored, found.missing, found.changed, found.only_stored), (1, 0, 1, 0, 0));
    assert_eq!((found.missing_ids, found.asked_by.as_str(), found.from_at), (vec!["a".to_owned()], "operator", ticks(MORNING)));
    assert!(read::run_state(&pool, fence.tenant, GRAPH, Errand::Reconcile, run + 2).await.unwrap().is_none());
    assert!(read::run_state(&pool, fence.tenant, MDE, Errand::Reconcile, 1).await.unwrap().is_none());
    sink.stop().await;
}

#[sqlx::test(migrations = "../../migrations")]
async fn quarantine_is_listed_in_pages_shown_by_the_beginning_of_its_hash_and_replayed(pool: PgPool) {
    let (one, two, sink) = (tenant(&pool, 1).await, tenant(&pool, 2).await, Sink::start(&pool));
    let poison = |text: String| Record::Poison(Poison::new(format!("reason of {text}"), Bytes::from(text)));
    for at in 0..7 {
        counts(sink.store(one, GRAPH, vec![poison(format!("body {at}"))]).await);
    }
    counts(sink.store(two, MDE, vec![poison("body 0".into()), poison("another".into())]).await);
    sink.stop().await;
    let list = |filter: QuarantineFilter| {
        let pool = pool.clone();
        async move { read::quarantine_list(&pool, &filter).await.unwrap() }
    };
    let all = list(QuarantineFilter::default()).await;
    assert_eq!(all.len(), 9);
    assert!(all.is_sorted_by(|a, b| a.seen_at >= b.seen_at), "newest first");
    let mut paged = Vec::new();
    let mut after = None;
    loop {
        let page = list(QuarantineFilter { limit: 2, after: after.take(), ..QuarantineFilter::default() }).await;
        let Some(last) = page.last() else { break };
        after = Some(last.place());
        paged.extend(page);
    }
    assert_eq!(paged, all, "nothing twice and nothing left out, also of those seen in one instant");
    assert_eq!(list(QuarantineFilter { tenant: Some(two.tenant), ..QuarantineFilter::default() }).await.len(), 2);
    assert_eq!(list(QuarantineFilter { source: Some(INCIDENTS), ..QuarantineFilter::default() }).await.len(), 0);
    let row = list(QuarantineFilter { tenant: Some(one.tenant), ..QuarantineFilter::default() }).await.remove(0);
    assert_eq!((row.reason.as_str(), row.bytes, row.tenant.as_str(), row.id.len()), ("reason of body 6", 6, "customer 1", 16));

    let show = |tenant, prefix: &str| {
        let (pool, prefix) = (pool.clone(), prefix.to_owned());
        async move { read::quarantine_show(&pool, tenant, &prefix).await }
    };
    for prefix in [&row.id[..], &row.id[..9], &row.id.to_uppercase()] {
        let shown = show(None, prefix).await.unwrap();
        assert_eq!((shown.row.record, shown.raw.as_slice()), (row.record, &b"body 6"[..]));
    }
    let twice = all.iter().find(|row| row.directory_id == two.tenant && row.reason == "reason of body 0").unwrap();
    let ambiguous = show(None, &twice.id).await.unwrap_err();
    assert!(ambiguous.to_string().starts_with("2 records in quarantine"), "{ambiguous}");
    assert_eq!(show(Some(two.tenant), &twice.id).await.unwrap().row.record, twice.record);
    assert!(matches!(show(None, "abc").await, Err(AskError::NoPrefix(_))));
    assert!(matches!(show(Some(two.tenant), &row.id).await, Err(AskError::NoSuchRecord(_))));

    let asked = ask::replay(&pool, &ReplayOf::These(vec![row.record, twice.record])).await.unwrap();
    assert_eq!(asked.iter().map(|one| (one.tenant, one.records)).collect::<Vec<_>>(), [(one.tenant, 1), (two.tenant, 1)]);
    let again = ask::replay(&pool, &ReplayOf::All { tenant: Some(one.tenant), source: None }).await.unwrap();
    assert_eq!(again.iter().map(|one| (one.run, one.records)).collect::<Vec<_>>(), [(2, 7)], "one under way is begun anew");
    let result = read::replay_result(&pool, one.tenant, GRAPH, 2).await.unwrap().unwrap();
    assert_eq!((result.state, result.waiting), (RereadState::Waiting, 7));
    assert!(read::replay_result(&pool, one.tenant, GRAPH, 3).await.unwrap().is_none());
    assert_eq!(list(QuarantineFilter { limit: 1, ..QuarantineFilter::default() }).await[0].replayed_at, None);
}
