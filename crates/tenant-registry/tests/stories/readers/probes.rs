//! Ten thousand attempts to see another customer's rows, made from a seed, and proof that they would find a fault.
//!
//! A probe is a few hostile preparations and a question. Whatever comes back by any way, rows, errors, copied bytes or
//! what a function in a predicate wrote down, is searched for the marks of the others.

use futures_util::TryStreamExt as _;
use sqlx::postgres::PgDatabaseError;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Row as _, ValueRef as _};

use super::{Guarded, OURS, THEIRS, login, run, tables, views};

const PROBES: usize = 10_000;
const SEED: u64 = 20_261_122;

/// What a hunt has come to.
#[derive(Debug, Default)]
struct Hunt {
    /// Questions that were answered with a row of the asker's own.
    answered: usize,
    /// Questions and preparations that the server refused.
    refused: usize,
    /// What was seen of somebody else, and how.
    leaks: Vec<String>,
}

/// SplitMix64: the same seed, the same hunt.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }

    fn pick<'a>(&mut self, among: &'a [String]) -> &'a str {
        &among[self.roll(among.len())]
    }
}

/// What there is to attack.
struct Ground {
    views: Vec<String>,
    tables: Vec<String>,
    roles: Vec<String>,
    /// Of some server-side file-like thing that belongs to nobody here.
    large_object: String,
}

/// Whose marks must not be seen.
#[derive(Clone, Copy)]
enum Marks {
    Theirs,
    Ours,
}

impl Marks {
    fn found_in(self, text: &str) -> bool {
        let text = text.to_lowercase();
        // As text, as an id, and as the bytes of a text.
        let marks: [&str; 3] = match self {
            Self::Theirs => ["stranger", "f0e1f0e1", "737472616e676572"],
            Self::Ours => ["ourown", "0a0a0a0a", "6f75726f776e"],
        };
        marks.iter().any(|mark| text.contains(mark))
    }
}

/// Everything that the server says to a statement, rows and errors alike.
async fn said(connection: &mut PgConnection, sql: &str) -> Result<String, String> {
    if sql.starts_with("copy (") {
        return copied(connection, sql).await.map_err(|error| words(&error));
    }
    let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut *connection).await.map_err(|error| words(&error))?;
    let mut text = String::new();
    for row in &rows {
        for at in 0..row.len() {
            let value = row.try_get_raw(at).unwrap();
            if !value.is_null() {
                text.push_str(value.as_str().unwrap_or_default());
            }
            text.push('|');
        }
        text.push('\n');
    }
    Ok(text)
}

async fn copied(connection: &mut PgConnection, sql: &str) -> Result<String, sqlx::Error> {
    // Reads what an earlier refusal has left in the line, which the driver does not do before a copy.
    connection.ping().await?;
    let mut text = Vec::new();
    let mut stream = connection.copy_out_raw(sql).await?;
    while let Some(bytes) = stream.try_next().await? {
        text.extend_from_slice(&bytes);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn words(error: &sqlx::Error) -> String {
    match error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>()) {
        Some(error) => format!("{} {:?} {:?} {:?}", error.message(), error.detail(), error.hint(), error.r#where()),
        None => panic!("the session broke: {error}"),
    }
}

/// Something done before the question, in the hope that it changes the answer.
fn preparation(dice: &mut Dice, ground: &Ground) -> String {
    let setting = |name: &str, value: &str| format!("set {name} = {value}");
    match dice.roll(22) {
        0 => setting("row_security", "off"),
        1 => setting("row_security", "on"),
        2 => setting("search_path", "tocsin, dash, pg_temp"),
        3 => setting("tocsin.tenant", &format!("'{}'", THEIRS[0])),
        4 => setting("app.current_tenant", &format!("'{}'", THEIRS[1])),
        5 => setting("plan_cache_mode", "force_generic_plan"),
        6 => {
            setting(["enable_seqscan", "enable_indexscan", "enable_hashjoin", "enable_nestloop", "enable_bitmapscan"][dice.roll(5)], "off")
        }
        7 => setting("session_replication_role", "replica"),
        8 => setting("default_transaction_read_only", "off"),
        9 | 10 => format!("set role {}", dice.pick(&ground.roles)),
        11 => format!("set session authorization {}", dice.pick(&ground.roles)),
        12 => format!("set local role {}", dice.pick(&ground.roles)),
        13 => "reset session authorization".to_owned(),
        14 => "set role none".to_owned(),
        15 => "set transaction isolation level serializable".to_owned(),
        16 => ["discard plans", "discard temp", "reset all"][dice.roll(3)].to_owned(),
        17 => {
            "create temp table if not exists tenant (tenant uuid); create temp table if not exists reader_tenant (tenant uuid, role name)"
                .to_owned()
        }
        18 => "create or replace function pg_temp.sees_all() returns boolean language sql as 'select true'".to_owned(),
        19 => "create or replace function pg_temp.pg_has_role(name, oid, text) returns boolean language sql as 'select true'".to_owned(),
        20 => format!("insert into tocsin.reader_tenant (tenant, role) values ('{}', current_user)", THEIRS[0]),
        _ => format!("grant {} to current_user", dice.pick(&ground.roles)),
    }
}

/// Conditions that could push themselves beneath the policy, or tell what they were shown.
fn condition(dice: &mut Dice) -> &'static str {
    [
        "true",
        "v.directory_id is not null",
        "v.directory_id <> '0a0a0a0a-0000-4000-8000-000000000001'",
        "v.directory_id > 'c0000000-0000-0000-0000-000000000000'",
        "v.directory_id::text like 'f0%' or true",
        "pg_temp.spy(v::text)",
        "pg_temp.spy(v.directory_id::text)",
        "v.directory_id operator(pg_temp.@@@@) 'x'",
        "(v::text)::int > 0",
        "1 / (case when v.directory_id > 'c0000000-0000-0000-0000-000000000000' then 0 else 1 end) = 1",
        "v::text::xml is not null",
        "v::text ~ 'st.ang.r'",
        "exists (select from dash.alert x where x.directory_id <> v.directory_id)",
        "v.directory_id in (select directory_id from dash.tenant_health)",
        "random() >= 0",
    ][dice.roll(15)]
}

/// One question. Statements in one text are sent together.
fn question(dice: &mut Dice, ground: &Ground) -> String {
    let view = format!("dash.{}", dice.pick(&ground.views));
    let condition = condition(dice);
    let from = format!("from {view} v where {condition}");
    match dice.roll(28) {
        0..=4 => format!("select * {from}"),
        5 => format!("select v {from}"),
        6 => format!("select row_to_json(v), count(*) over () {from} order by v::text desc"),
        7 => format!("select string_agg(v::text, ','), count(*), max(v.directory_id::text) {from}"),
        8 => format!(
            "deallocate all; prepare p as select * {from}; execute p; execute p; execute p; execute p; execute p; execute p; execute p; deallocate p"
        ),
        9 => format!("begin; declare c cursor with hold for select * {from}; fetch all c; commit; fetch backward all c; close c"),
        10 => format!("explain (analyze, verbose, buffers, format json) select * {from}"),
        11 => format!("copy (select * {from}) to stdout"),
        12 => format!("copy (table {view}) to stdout with (format csv, header)"),
        13 => format!("create or replace temp view w as select * {from}; select * from w"),
        14 => format!("drop table if exists k; create temp table k as select * {from}; select * from k"),
        15 => format!("select query_to_xml('select * from {view}', true, false, '')"),
        16 => format!("select table_to_xml('{view}'::regclass, true, false, '')"),
        17 => "select schema_to_xml('dash', true, false, ''), database_to_xml(true, false, '')".to_owned(),
        18 => format!(
            "do $$ declare r record; begin for r in execute 'select v::text as t from {view} v' loop perform pg_temp.spy(r.t); end loop; end $$; select * from seen"
        ),
        19 => format!("with recursive w as (select v::text t, 1 n {from} union all select t, n + 1 from w where n < 2) select * from w"),
        20 => format!("select * from dash.tenant_health h full join {view} v using (directory_id) where h is null or {condition}"),
        21 => format!("select * from tocsin.{}", dice.pick(&ground.tables)),
        22 => format!("select * from only tocsin.{} tablesample system (100)", dice.pick(&ground.tables)),
        23 => [
            "select * from pg_stats",
            "select * from pg_stats_ext",
            "select * from pg_statistic",
            "select query from pg_stat_activity where pid <> pg_backend_pid()",
            "select * from pg_prepared_statements",
            "select * from pg_stat_all_tables",
            "select statement from pg_cursors",
            "select * from pg_largeobject",
        ][dice.roll(8)]
        .to_owned(),
        24 => [
            format!("select lo_get({})", ground.large_object),
            format!("select loread(lo_open({}, 262144), 1000)", ground.large_object),
            "select lo_import('/etc/hostname')".to_owned(),
            "select pg_read_file('postgresql.conf')".to_owned(),
        ][dice.roll(4)]
        .clone(),
        25 => [
            format!("select tocsin.erase_some('{}', 10)", OURS),
            "select tocsin.ensure_version_partition(now())".to_owned(),
            "select tocsin.guard('tocsin.alert')".to_owned(),
            "alter table tocsin.alert no force row level security".to_owned(),
            "drop policy readers on tocsin.alert".to_owned(),
            "create policy mine on tocsin.alert using (true)".to_owned(),
            "create rule \"_RETURN\" as on select to dash.gap do instead select * from dash.gap".to_owned(),
            "alter view dash.alert set (security_barrier = false)".to_owned(),
        ][dice.roll(8)]
        .clone(),
        26 => format!("savepoint s; select * {from} for update"),
        _ => format!("select array(select v2::text from {view} v2 where v2.directory_id <> v.directory_id) {from}"),
    }
}

/// Tools that whoever may log in can make for himself.
async fn tools(connection: &mut PgConnection) {
    let sql = "set default_transaction_read_only = off;
        create temp table if not exists seen (what text);
        create or replace function pg_temp.spy(what text) returns boolean language plpgsql cost 0.0000000001 as
            $$ begin insert into pg_temp.seen values (what); return true; end $$;
        create or replace function pg_temp.spy_id(what uuid, other text) returns boolean language plpgsql cost 0.0000000001 as
            $$ begin insert into pg_temp.seen values (what::text); return true; end $$;
        create operator pg_temp.@@@@ (leftarg = uuid, rightarg = text, function = pg_temp.spy_id)";
    if let Err(error) = sqlx::raw_sql(sql).execute(connection).await {
        panic!("{error}");
    }
}

/// Asks so many questions as the customer's role, from its own login.
async fn hunt(world: &Guarded, seed: u64, probes: usize, stop_at_a_leak: bool) -> Hunt {
    let large_object: String = sqlx::query_scalar("select lo_from_bytea(0, 'stranger')::text").fetch_one(&world.pool).await.unwrap();
    let roles = [&world.other, &world.all, "tocsin_reader", "tocsin_owner", "tocsin_ingest", "postgres", "pg_read_all_data", "pg_monitor"];
    let ground =
        Ground { views: views(&world.pool).await, tables: tables(&world.pool).await, roles: roles.map(str::to_owned).into(), large_object };
    let mut dice = Dice(seed);
    let mut hunt = Hunt::default();
    let mut connection = world.login(&world.customer).await;
    tools(&mut connection).await;
    for number in 0..probes {
        if stop_at_a_leak && !hunt.leaks.is_empty() {
            break;
        }
        let mut statements: Vec<String> = (0..dice.roll(3)).map(|_| preparation(&mut dice, &ground)).collect();
        let together = dice.roll(3) == 0;
        if together {
            statements.insert(0, "begin".to_owned());
        }
        statements.push(question(&mut dice, &ground));
        let asked = statements.len();
        statements.push("rollback".to_owned());
        statements.push("select * from pg_temp.seen".to_owned());
        for (at, statement) in statements.iter().enumerate() {
            let (text, refused) = match said(&mut connection, statement).await {
                Ok(text) => (text, false),
                Err(text) => (text, true),
            };
            if Marks::Theirs.found_in(&text) && !echoes(statement, &text) {
                hunt.leaks.push(format!("probe {number} of seed {seed}: {statements:?}: {statement} said {text:.300}"));
            }
            hunt.refused += usize::from(refused && at < asked);
            if refused && statement.starts_with("copy (") {
                // The driver loses count of the server's answers when a copy is refused.
                connection = world.login(&world.customer).await;
                tools(&mut connection).await;
            }
            hunt.answered += usize::from(at + 1 == asked && !refused && Marks::Ours.found_in(&text));
        }
        // As a pool does it: handed on as it is, cleaned now and then, sometimes a fresh one.
        if number % 500 == 499 {
            connection.close().await.unwrap();
            connection = world.login(&world.customer).await;
        } else if number % 5 == 4 {
            said(&mut connection, "discard all").await.unwrap();
        } else {
            continue;
        }
        tools(&mut connection).await;
    }
    connection.close().await.unwrap();
    hunt
}

/// A refusal may repeat what was asked: whoever guesses an id learns nothing from reading his guess.
fn echoes(statement: &str, text: &str) -> bool {
    Marks::Theirs.found_in(statement) && text.contains("permission denied") || statement.starts_with("insert into tocsin.reader_tenant")
}

#[sqlx::test]
async fn ten_thousand_probes_see_no_row_of_another_customer(pool: PgPool) {
    let world = Guarded::new(pool).await;
    let hunt = hunt(&world, SEED, PROBES, false).await;
    assert!(hunt.leaks.is_empty(), "{} leaks, the first: {}", hunt.leaks.len(), hunt.leaks[0]);
    // They were questions that have answers, and attacks that are refused.
    assert!(hunt.answered > PROBES / 5 && hunt.refused > PROBES / 5, "{} answered, {} refused", hunt.answered, hunt.refused);
    world.end().await;
}

#[sqlx::test]
async fn a_fault_in_a_policy_or_a_grant_is_found_by_the_same_probes(pool: PgPool) {
    let world = Guarded::new(pool).await;
    let customer = &world.customer;
    let superuser: String = sqlx::query_scalar("select quote_ident(current_user)").fetch_one(&world.pool).await.unwrap();
    let guarded = ["alert_version", "alert_event", "incident", "quarantine"];
    let faults = [
        // A policy that believes a setting.
        guarded
            .map(|table| format!("select tocsin.guard_by('tocsin.{table}', 'tenant::text = current_setting(''tocsin.tenant'', true)');"))
            .concat(),
        "alter table tocsin.alert_event disable row level security".to_owned(),
        "alter table tocsin.alert_version no force row level security".to_owned(),
        // A view that runs as somebody whom no policy binds.
        format!("alter view dash.gap owner to {superuser}; grant select on dash.gap to {customer}"),
        format!("alter role {customer} inherit; grant tocsin_reader to {customer}"),
        format!("insert into tocsin.reader_tenant (tenant, role) values ('{}', '{customer}')", THEIRS[0]),
    ];
    // Everything as it was, whatever was done.
    let mend = guarded.map(|table| format!("select tocsin.guard('tocsin.{table}');")).concat();
    let mend = format!(
        "set role tocsin_owner; {mend} reset role; alter view dash.gap owner to tocsin_owner; revoke tocsin_reader from {customer};
         alter role {customer} noinherit; delete from tocsin.reader_tenant where role = '{customer}' and tenant <> '{OURS}'"
    );
    for fault in faults {
        run(&world.pool, &fault).await;
        assert!(!hunt(&world, 7, 3_000, true).await.leaks.is_empty(), "nobody noticed: {fault}");
        run(&world.pool, &mend).await;
    }
    let mended = hunt(&world, 7, 200, false).await;
    assert!(mended.leaks.is_empty(), "it was put back: {}", mended.leaks[0]);
    world.end().await;
}

/// One connection serves several people, each by `set role`, and keeps what was prepared and planned for the one before.
#[sqlx::test]
async fn what_was_planned_for_one_role_shows_another_nothing_more(pool: PgPool) {
    let world = Guarded::new(pool).await;
    let views = views(&world.pool).await;
    let people = [(&world.all, None), (&world.customer, Some(Marks::Theirs)), (&world.other, Some(Marks::Ours))];
    let mut dice = Dice(3);
    let mut seen_by_all = 0;
    let mut connection = login(&world.pool, &world.pooler).await;
    for round in 0..60 {
        let view = dice.pick(&views).to_owned();
        let generic = if dice.roll(2) == 0 { "force_generic_plan" } else { "auto" };
        // Prepared and first planned by whoever comes first, often by the one who sees everything.
        let first = people[dice.roll(3)].0;
        let prepare = format!(
            "set plan_cache_mode = {generic}; set role {first}; prepare p as select * from dash.{view} v; execute p;
             create function pg_temp.f() returns setof text language plpgsql as $$ begin return query select v::text from dash.{view} v; end $$;
             create function pg_temp.g() returns setof text language sql stable as $$ select v::text from dash.{view} v $$;
             create temp view w as select * from dash.{view}; grant select on w to public; select * from pg_temp.f()"
        );
        said(&mut connection, &prepare).await.unwrap();
        for step in 0..20 {
            let (role, forbidden) = people[dice.roll(3)];
            let become_them = ["set role ", "set session authorization default; set role ", "reset role; set role "][dice.roll(3)];
            said(&mut connection, &format!("{become_them}{role}")).await.unwrap();
            let ask =
                ["execute p", "select * from pg_temp.f()", "select * from pg_temp.g()", "select * from w", "explain analyze execute p"]
                    [dice.roll(5)];
            let text = said(&mut connection, ask).await.unwrap_or_else(|error| error);
            match forbidden {
                // Everybody may use a view, which runs as who made it: that is theirs to give away.
                _ if ask == "select * from w" => {}
                Some(forbidden) => {
                    assert!(!forbidden.found_in(&text), "round {round}, step {step}: {role} after {first}, {ask} on {view}: {text}")
                }
                None => seen_by_all += usize::from(Marks::Theirs.found_in(&text) && Marks::Ours.found_in(&text)),
            }
        }
        said(&mut connection, "reset role").await.unwrap();
        said(&mut connection, "discard all").await.unwrap();
    }
    assert!(seen_by_all > 100, "who sees all saw all: {seen_by_all}");
    connection.close().await.unwrap();

    // A right that was taken away is gone from what is planned already.
    let mut kept = login(&world.pool, &world.customer).await;
    assert!(Marks::Ours.found_in(
        &said(&mut kept, "set plan_cache_mode = force_generic_plan; prepare p as select * from dash.alert; execute p").await.unwrap()
    ));
    run(&world.pool, &format!("delete from tocsin.reader_tenant where role = '{}'", world.customer)).await;
    assert_eq!(said(&mut kept, "execute p").await.unwrap(), "");
    let mut whole = login(&world.pool, &world.all).await;
    assert!(
        Marks::Theirs.found_in(
            &said(&mut whole, "set plan_cache_mode = force_generic_plan; prepare p as select directory_id from dash.alert; execute p")
                .await
                .unwrap()
        )
    );
    run(
        &world.pool,
        &format!(
            "grant select on all tables in schema dash to {0}; grant usage on schema dash to {0}; revoke tocsin_reader from {0}",
            world.all
        ),
    )
    .await;
    assert_eq!(said(&mut whole, "execute p").await.unwrap(), "", "it was planned for who sees all");
    kept.close().await.unwrap();
    whole.close().await.unwrap();
    world.end().await;
}
