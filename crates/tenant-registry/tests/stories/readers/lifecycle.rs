//! Readers come, are given customers, lose them and go; over logins of every kind.

use domain::TenantId;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgPool};
use tenant_registry::{AdminError, Alerts, ReaderError, Registry, Sight, Verifier};
use uuid::Uuid;

use super::{OURS, THEIRS, fill, login, migrate, names, run};

/// A registry over a login of its own that may become the owner, as `[database] migrate_url_file` names one.
struct Office {
    pool: PgPool,
    registry: Registry,
    login: String,
}

async fn office(pool: PgPool, rights: &str) -> Office {
    migrate(&pool).await;
    for tenant in [OURS, THEIRS[0]] {
        fill(&pool, tenant).await;
    }
    let login = unique("office");
    run(
        &pool,
        &format!("create role {login} login {rights}; grant tocsin_owner to {login}; grant tocsin_reader to {login} with admin option"),
    )
    .await;
    let options = (*pool.connect_options()).clone().username(&login);
    let own = PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap();
    Office { pool, registry: Registry::without_keys(own).acting_as("cli anna@host"), login }
}

impl Office {
    /// What this reader sees, by customer.
    async fn seen(&self, reader: &str) -> Vec<TenantId> {
        let mut session = login(&self.pool, reader).await;
        let ids: Vec<Uuid> =
            sqlx::query_scalar("select distinct directory_id from dash.alert order by 1").fetch_all(&mut session).await.unwrap();
        session.close().await.unwrap();
        ids.into_iter().map(TenantId).collect()
    }

    async fn actions(&self, tenant: TenantId) -> Vec<String> {
        let entries = self.registry.audit_entries(Some(tenant), 10).await.unwrap();
        entries
            .into_iter()
            .filter(|entry| entry.action.starts_with("reader."))
            .map(|entry| format!("{} {}", entry.actor, entry.action))
            .collect()
    }

    async fn end(self) {
        self.registry.readers().await.unwrap();
        run(&self.pool, &format!("drop owned by {0}; drop role {0}", self.login)).await;
    }
}

fn unique(what: &str) -> String {
    format!("{what}_{}", Uuid::new_v4().simple())
}

fn said<T>(result: Result<T, ReaderError>) -> String {
    match result {
        Ok(_) => "it was done".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[sqlx::test]
async fn a_reader_is_made_given_customers_and_dropped_and_all_of_it_is_audited(pool: PgPool) {
    let office = office(pool, "createrole").await;
    let registry = &office.registry;
    // No other story makes roles that begin like this one.
    let (name, verifier) = (unique("northwind"), Verifier::of("correct horse battery staple").unwrap());
    assert!(!registry.create_reader(&name, &Sight::Of(vec![OURS]), Some(&verifier)).await.unwrap(), "the role is new");
    assert_eq!(office.seen(&name).await, [OURS]);
    let sql = "select rolname || rolinherit || rolsuper || rolcreaterole || rolconnlimit || array_to_string(rolconfig, ',') from pg_roles where rolname ~ '^northwind_'";
    assert_eq!(
        names(&office.pool, sql).await,
        [format!("{name}falsefalsefalse10default_transaction_read_only=on,statement_timeout=15s,idle_in_transaction_session_timeout=60s")]
    );
    let kept = "select rolname::text from pg_authid where rolpassword like 'SCRAM-SHA-256$4096:%' and rolname ~ '^northwind_'";
    assert_eq!(names(&office.pool, kept).await, std::slice::from_ref(&name), "the server has taken the verifier for one");
    assert!(said(registry.create_reader(&name, &Sight::All, None).await).contains("is there already"));

    assert_eq!(registry.grant_reader(&name, &[OURS, THEIRS[0]]).await.unwrap(), [THEIRS[0]]);
    assert_eq!(office.seen(&name).await, [OURS, THEIRS[0]]);
    let [reader] =
        registry.readers().await.unwrap().into_iter().filter(|reader| reader.name == name).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((reader.tenants.len(), reader.sees_all, reader.excess.as_slice()), (2, false, [].as_slice()));
    assert_eq!(registry.revoke_reader(&name, &[OURS]).await.unwrap(), [OURS]);
    assert_eq!(office.seen(&name).await, [THEIRS[0]]);

    let dropped = registry.drop_reader(&name).await.unwrap();
    assert_eq!((dropped.tenants, dropped.role_stays), (1, None));
    assert!(matches!(registry.drop_reader(&name).await, Err(ReaderError::Admin(AdminError::NoReader(_)))));
    assert!(matches!(registry.grant_reader(&name, &[OURS]).await, Err(ReaderError::Admin(AdminError::NoReader(_)))));
    assert!(matches!(registry.revoke_reader(&name, &[OURS]).await, Err(ReaderError::Admin(AdminError::NoReader(_)))));
    assert_eq!(office.actions(OURS).await, ["cli anna@host reader.create", "cli anna@host reader.revoke"]);
    assert_eq!(office.actions(THEIRS[0]).await, ["cli anna@host reader.grant", "cli anna@host reader.drop"]);

    // One who sees everybody, and those who come later too.
    let whole = unique("grafana");
    registry.create_reader(&whole, &Sight::All, None).await.unwrap();
    fill(&office.pool, THEIRS[1]).await;
    assert_eq!(office.seen(&whole).await, [OURS, THEIRS[0], THEIRS[1]]);
    assert!(said(registry.grant_reader(&whole, &[OURS]).await).contains("every customer already"));
    assert!(said(registry.revoke_reader(&whole, &[OURS]).await).contains("sees every customer"));
    assert_eq!(registry.drop_reader(&whole).await.unwrap().role_stays, None);
    office.end().await;
}

#[sqlx::test]
async fn where_the_login_may_make_no_roles_an_administrator_is_told_what_to_run(pool: PgPool) {
    let office = office(pool, "").await;
    let (name, whole) = (unique("contoso"), unique("grafana"));
    let verifier = Verifier::of("correct horse battery staple").unwrap();
    for (name, sight) in [(&name, Sight::Of(vec![OURS])), (&whole, Sight::All)] {
        let Err(ReaderError::NotAllowed { statements }) = office.registry.create_reader(name, &sight, Some(&verifier)).await else {
            panic!("it may make roles");
        };
        let (password, others) = statements.split_last().unwrap();
        assert_eq!(*password, format!("\\password {name}"), "typed by hand, and never shown");
        assert!(!statements.concat().contains("SCRAM"));
        run(&office.pool, &others.join(";")).await;
        assert!(office.registry.create_reader(name, &sight, None).await.unwrap(), "the role was there by then");
    }
    assert_eq!(office.seen(&name).await, [OURS]);
    assert_eq!(office.seen(&whole).await, [OURS, THEIRS[0]]);
    // What it may not do, it leaves without any right of ours, and says so.
    let dropped = office.registry.drop_reader(&name).await.unwrap();
    assert!(dropped.role_stays.unwrap().contains(&format!("drop role {name}")));
    let mut session = login(&office.pool, &name).await;
    let refused = sqlx::query("select from dash.alert").execute(&mut session).await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().as_deref(), Some("42501"));
    session.close().await.unwrap();
    // Who would go on seeing everybody is not called dropped.
    let Err(ReaderError::NotAllowed { statements }) = office.registry.drop_reader(&whole).await else { panic!("it may take a membership") };
    assert_eq!(statements, [format!("revoke tocsin_reader from {whole}"), format!("drop role {whole}")]);
    assert_eq!(office.seen(&whole).await, [OURS, THEIRS[0]]);
    assert_eq!(
        names(&office.pool, "select action from tocsin.audit where action = 'reader.drop'").await.len(),
        1,
        "only the other one is gone"
    );
    // Nor is anything taken from a role that is there for something else.
    run(&office.pool, &format!("create role other_{name} createrole; select tocsin.show_dash('other_{name}')")).await;
    let refused = office.registry.drop_reader(&format!("other_{name}")).await.unwrap_err().to_string();
    assert!(refused.contains("is no reader that tocsin has made: it may make roles"), "{refused}");
    run(&office.pool, &format!("drop owned by other_{name}; drop role other_{name}")).await;
    run(&office.pool, &format!("drop role {name}; drop owned by {whole}; drop role {whole}")).await;
    office.end().await;
}

#[sqlx::test]
async fn who_could_see_more_than_he_is_given_is_refused_and_reported(pool: PgPool) {
    let office = office(pool, "createrole").await;
    let registry = &office.registry;
    for name in ["Contoso", "co\"ntoso", "pg_contoso", "tocsin_reader", "", "public", "a-b"] {
        assert!(said(registry.create_reader(name, &Sight::Of(vec![OURS]), None).await).contains("no name for a reader"), "{name}");
    }
    let name = unique("contoso");
    for (rights, words) in [
        ("superuser", "is a superuser"),
        ("bypassrls", "is exempt from row security"),
        ("createrole", "may make roles"),
        ("replication", "may replicate"),
        ("in role pg_read_all_data", "is a member of pg_read_all_data"),
        ("in role tocsin_reader", "a member of tocsin_reader"),
        ("in role tocsin_ingest", "is a member of tocsin_ingest"),
    ] {
        run(&office.pool, &format!("create role {name} login {rights}")).await;
        let refused = said(registry.create_reader(&name, &Sight::Of(vec![OURS]), None).await);
        assert!(refused.contains(words), "{rights}: {refused}");
        // Rights that come later are seen all the same.
        run(&office.pool, &format!("insert into tocsin.reader_tenant (tenant, role) values ('{OURS}', '{name}')")).await;
        let readers = registry.readers().await.unwrap();
        let reader = readers.iter().find(|reader| reader.name == name).unwrap();
        assert!(reader.excess.iter().any(|excess| excess.contains(words)), "{rights}: {:?}", reader.excess);
        run(&office.pool, &format!("drop role {name}")).await;
        let gone = registry.readers().await.unwrap().into_iter().find(|reader| reader.name == name).unwrap();
        assert!(gone.gone && !gone.sees_all);
        assert_eq!(registry.drop_reader(&name).await.unwrap().tenants, 1, "what is left of one that is gone");
    }

    // A leaving customer takes everybody's sight of him along.
    registry.create_reader(&name, &Sight::Of(vec![OURS, THEIRS[0]]), None).await.unwrap();
    Registry::without_keys(office.pool.clone()).remove(OURS, Alerts::Keep).await.unwrap();
    assert_eq!(office.seen(&name).await, [THEIRS[0]]);
    let last = registry.audit_entries(Some(OURS), 1).await.unwrap().remove(0);
    assert_eq!((last.action.as_str(), last.details["readers_ended"].as_i64()), ("tenant.remove", Some(1)));
    registry.drop_reader(&name).await.unwrap();

    // Where no policy binds the owner of the views, nobody is given a part of them.
    assert_eq!(registry.reader_leaks().await.unwrap(), [""; 0]);
    let superuser = names(&office.pool, "select current_user::text").await.remove(0);
    run(&office.pool, &format!("alter view dash.gap owner to \"{superuser}\"; alter table tocsin.feed no force row level security")).await;
    let leaks = registry.reader_leaks().await.unwrap();
    assert_eq!(leaks.len(), 2, "{leaks:?}");
    for words in ["tocsin.feed is not guarded", superuser.as_str()] {
        assert!(leaks.iter().any(|leak| leak.contains(words)), "{leaks:?}");
    }
    assert!(said(registry.create_reader(&name, &Sight::Of(vec![OURS]), None).await).contains("would see every customer"));
    office.end().await;
}
