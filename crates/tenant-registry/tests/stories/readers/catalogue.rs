//! What must hold of every table, view, grant and function, whoever adds the next one.

use sqlx::PgPool;

use super::{Guarded, migrate, names, run, views};

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
