//! What must hold of every table, view, grant and function, whoever adds the next one.

use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use super::{Guarded, THEIRS, migrate, names, run, views};

/// Tables that belong to no customer and that views read all the same, for what they say of a customer's own app.
const OF_NOBODY: &str = "array['app_fault', 'app_clock']";

/// Tables with a tenant that are not guarded.
const UNGUARDED: &str = "select c.relname::text
    from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant' and not a.attisdropped
    where c.relnamespace = 'tocsin'::regnamespace and c.relkind in ('r', 'p') and not (
        c.relrowsecurity and c.relforcerowsecurity
        and (select array_agg(p.polname::text order by p.polname) from pg_policy p where p.polrelid = c.oid) = '{ingest,readers}'
    ) order by 1";

#[sqlx::test]
async fn every_table_is_guarded_that_a_reader_could_reach(pool: PgPool) {
    migrate(&pool).await;
    // A month that is made later is guarded like those that were there.
    run(&pool, "set role tocsin_ingest; select tocsin.ensure_version_partition('2026-10-05 00:00+00'); reset role").await;
    assert!(names(&pool, "select relname::text from pg_class where relname = 'alert_version_202610'").await.len() == 1);
    assert_eq!(names(&pool, UNGUARDED).await, [""; 0], "guard it in the migration that makes it: select tocsin.guard('tocsin.…')");

    // What views read is found by their rules, through views and functions of theirs.
    let reached = format!(
        "select distinct v.relname || ' reads ' || t.oid::regclass
         from pg_class v
         join pg_rewrite r on r.ev_class = v.oid
         join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass and d.refobjid <> v.oid
         join pg_class t on t.oid = d.refobjid
         where v.relnamespace = 'dash'::regnamespace and v.relkind in ('v', 'm')
             and not (t.relnamespace = 'dash'::regnamespace and t.relkind = 'v')
             and not (t.relrowsecurity and t.relforcerowsecurity)
             and not (t.relnamespace = 'tocsin'::regnamespace and t.relname = any ({OF_NOBODY}))
         order by 1"
    );
    let reached: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(reached)).fetch_all(&pool).await.unwrap();
    assert_eq!(reached, [""; 0], "a view shows what is not guarded: tocsin.guard or tocsin.guard_whole");
    assert!(views(&pool).await.len() >= 12);

    // Row security binds who owns the views, and no view hands a predicate of the reader down to the rows.
    let loose = "select v.relname::text from pg_class v join pg_roles o on o.oid = v.relowner
        where v.relnamespace = 'dash'::regnamespace and (
            o.rolsuper or o.rolbypassrls or v.relkind <> 'v' or v.relowner <> (select nspowner from pg_namespace where nspname = 'tocsin')
            or not coalesce('security_barrier=true' = any (v.reloptions), false))";
    assert_eq!(names(&pool, loose).await, [""; 0], "each view belongs to the owner and is a security_barrier");
    let settings = "select polrelid::regclass::text from pg_policy where pg_get_expr(polqual, polrelid) ~* 'current_setting|session_user'";
    assert_eq!(names(&pool, settings).await, [""; 0], "no policy asks what a reader may set");
    let odd = "select polrelid::regclass || ' ' || polname from pg_policy where not (
            polname = 'readers' and polroles = '{0}' and pg_get_expr(polqual, polrelid) like '%sees_all()%' and pg_get_expr(polwithcheck, polrelid) like '%sees_all()%'
            or polname = 'ingest' and polroles = array[to_regrole('tocsin_ingest')::oid] and pg_get_expr(polqual, polrelid) = 'true')";
    assert_eq!(names(&pool, odd).await, [""; 0], "two policies and no third");

    run(&pool, "alter table tocsin.gap no force row level security").await;
    assert_eq!(names(&pool, UNGUARDED).await, ["gap"], "this test can turn red");
}

#[sqlx::test]
async fn readers_have_no_right_but_to_read_views_and_no_function_lends_them_one(pool: PgPool) {
    let world = Guarded::new(pool).await;
    let sql = format!(
        "select r.rolname || ' ' || o.what from pg_roles r cross join lateral (
             select 'tocsin.' || c.relname as what from pg_class c
             where c.relnamespace = 'tocsin'::regnamespace and c.relkind in ('r', 'p', 'v', 'S')
                 and (has_any_column_privilege(r.oid, c.oid, 'select, insert, update, references') or has_table_privilege(r.oid, c.oid, 'delete, truncate, trigger'))
             union all
             select 'changes dash.' || c.relname from pg_class c
             where c.relnamespace = 'dash'::regnamespace
                 and (has_any_column_privilege(r.oid, c.oid, 'insert, update, references') or has_table_privilege(r.oid, c.oid, 'delete, truncate, trigger'))
             union all select 'schema ' || n.nspname from pg_namespace n
             where has_schema_privilege(r.oid, n.oid, 'create') and n.nspname in ('tocsin', 'dash') or has_schema_privilege(r.oid, n.oid, 'usage') and n.nspname = 'tocsin'
         ) o where r.rolname in ('{}', '{}', 'tocsin_reader')",
        world.customer, world.all
    );
    let rights: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&world.pool).await.unwrap();
    assert_eq!(rights, [""; 0]);

    let definers = "select p.proname::text from pg_proc p
        where p.pronamespace in ('tocsin'::regnamespace, 'dash'::regnamespace) and p.prosecdef order by 1";
    let known = ["ensure_version_partition", "erase_some"];
    let found = names(&world.pool, definers).await;
    assert!(known.iter().all(|known| found.contains(&(*known).to_owned())), "{found:?}");
    let open = "select p.proname::text from pg_proc p
        where p.pronamespace in ('tocsin'::regnamespace, 'dash'::regnamespace) and p.prosecdef and (
            coalesce(array_to_string(p.proconfig, ' '), '') not like '%search_path=pg_catalog, pg_temp%'
            or has_function_privilege('public', p.oid, 'execute'))";
    assert_eq!(names(&world.pool, open).await, [""; 0], "who lends the owner's rights fixes its search path, and not to everybody");
    let in_dash = "select p.proname::text from pg_proc p where p.pronamespace = 'dash'::regnamespace";
    assert_eq!(names(&world.pool, in_dash).await, [""; 0], "a function of dash would be the first that a reader can call by name");
    world.end().await;
}

/// Every column of words that a reader could compare with a guess. Ids are random: nobody guesses one; sources are known to all.
const WORDS: &str = "select table_name::text || '.' || column_name from information_schema.columns
    where table_schema = 'dash' and data_type = 'text' and column_name not in ('alert_id', 'incident_id', 'trace_id', 'source')
        and not (table_name = 'incident_redirect')
    order by 1";

#[sqlx::test]
async fn no_guess_of_a_strangers_word_is_confirmed_by_an_estimate(pool: PgPool) {
    let guarded = Guarded::new(pool).await;
    // So many rows of another's that a statistic of theirs would show.
    for (table, key) in [("alert", "alert_id"), ("incident", "incident_id"), ("alert_event", "alert_id")] {
        let more = format!(
            "insert into tocsin.{table} select (jsonb_populate_record(null::tocsin.{table}, to_jsonb(it) || jsonb_build_object('{key}', it.{key} || '-' || n))).*
             from tocsin.{table} it, generate_series(1, 600) n where it.tenant = '{}'; analyze tocsin.{table}",
            THEIRS[0]
        );
        run(&guarded.pool, &more).await;
    }
    let evidence = format!(
        "insert into tocsin.evidence (tenant, alert_id, kind, value, created_at)
         select '{}', 'strange-' || n, 'user', 'stranger@stranger.example', now() from generate_series(1, 2000) n; analyze tocsin.evidence",
        THEIRS[0]
    );
    run(&guarded.pool, &evidence).await;
    let (tried, confirmed) = guesses(&guarded).await;
    assert!(tried > 15, "{tried}");
    assert_eq!(confirmed, [""; 0], "set statistics 0 on what lies under it, in a migration");

    run(&guarded.pool, "alter table tocsin.evidence alter column value set statistics -1; analyze tocsin.evidence").await;
    assert_eq!(guesses(&guarded).await.1, ["evidence.value"], "this test can turn red");
    guarded.end().await;
}

/// Lets a customer's role have explained what it would cost to look for words of others, and for one that nobody has; how many
/// were tried, and the columns where a word of theirs makes a difference.
async fn guesses(guarded: &Guarded) -> (usize, Vec<String>) {
    let (mut all, mut customer) = (guarded.login(&guarded.all).await, guarded.login(&guarded.customer).await);
    let (mut tried, mut confirmed) = (0, Vec::new());
    for place in names(&guarded.pool, WORDS).await {
        let (view, column) = place.split_once('.').unwrap();
        let sql = format!("select distinct {column} from dash.{view} where {column} ~ 'stranger|f0e1f0e1' limit 3");
        let theirs: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut all).await.unwrap();
        let nobodys = estimate(&mut customer, view, column, "a word that nobody has").await;
        for word in theirs {
            tried += 1;
            if estimate(&mut customer, view, column, &word).await != nobodys {
                confirmed.push(place.clone());
                break;
            }
        }
    }
    (tried, confirmed)
}

/// What the planner believes of a word: the rows that it expects.
async fn estimate(customer: &mut PgConnection, view: &str, column: &str, word: &str) -> String {
    let word = word.replace('\'', "''");
    let sql = format!("explain (format json, costs true) select from dash.{view} where {column} = '{word}'");
    let plan: serde_json::Value = sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_one(customer).await.unwrap();
    plan[0]["Plan"]["Plan Rows"].to_string()
}
