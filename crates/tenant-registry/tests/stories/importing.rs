//! Importing customers: the rules of the contract, one story each.

use domain::TenantState;
use sqlx::PgPool;
use tenant_registry::{AdminError, Alerts, EnrolKind, ImportError, ImportReport, ImportRules, Registry, TenantDraft};

use crate::world::{CLIENT, HEADER, id, rules, token, world};

fn line(number: u128, rest: &str) -> String {
    format!("{},{rest}", id(number))
}

fn kinds(report: &ImportReport) -> Vec<Result<EnrolKind, String>> {
    report.lines.iter().map(|line| line.result.as_ref().map(|done| done.kind).map_err(ToString::to_string)).collect()
}

#[sqlx::test(migrations = "../../migrations")]
async fn each_line_is_reported_and_a_bad_one_does_not_stop_the_others(pool: PgPool) {
    let world = world(pool).await;
    let report = world
        .import(&[
            line(1, "Contoso,global,main,graph-alerts;mde-alerts,token-1"),
            "not even close".to_owned(),
            line(3, "Fabrikam,globl,main,graph-alerts,token-3"),
            line(4, "Adatum,global,main,graph-alerts,\"token-4"),
            line(5, "Litware,global,main,graph-alerts,"),
            line(6, "Tailspin,global,direct,graph-alerts,"),
        ])
        .await;
    let failed: Vec<_> = report.failures().map(|(line, error)| (line.line, error.to_string())).collect();
    assert_eq!(failed.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 4, 5]);
    assert!(failed[1].1.contains("did you mean \"global\"?"), "{failed:?}");
    let states: Vec<_> = world.registry.list().await.unwrap().into_iter().map(|tenant| (tenant.name, tenant.state)).collect();
    let expected = [("Contoso", TenantState::Active), ("Litware", TenantState::AwaitingConsent), ("Tailspin", TenantState::Active)];
    assert_eq!(states, expected.map(|(name, state)| (name.to_owned(), state)));
    assert_eq!(world.registry.open_refresh_token(id(5), CLIENT).await.unwrap().map(|opened| opened.version), None);
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_windows_file_with_a_byte_order_mark_is_imported(pool: PgPool) {
    let world = world(pool).await;
    let file = format!("\u{feff}{HEADER}\r\n\"{}\",\"Contoso, Ltd\",\"global\",\"main\",\"graph-alerts\",\"token-1\"\r\n", id(1));
    let report = world.registry.import_csv(file.as_bytes(), &rules()).await.unwrap();
    assert_eq!(kinds(&report), [Ok(EnrolKind::Added)]);
    assert_eq!(world.registry.find("Contoso, Ltd").await.unwrap().id, id(1));
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_wrong_header_imports_nothing(pool: PgPool) {
    let world = world(pool).await;
    let file = format!("{}\n{}\n", HEADER.replace(',', ";"), line(1, "a,global,main,graph-alerts,t"));
    let error = world.registry.import_csv(file.as_bytes(), &rules()).await.unwrap_err();
    assert!(matches!(&error, ImportError::File(words) if words.contains("';'")), "{error}");
    assert!(world.registry.list().await.unwrap().is_empty());
}

#[sqlx::test(migrations = "../../migrations")]
async fn importing_again_changes_nothing_and_facts_can_be_corrected(pool: PgPool) {
    let world = world(pool).await;
    let first = [line(1, "Contoso,global,main,graph-alerts,token-1")];
    assert_eq!(kinds(&world.import(&first).await), [Ok(EnrolKind::Added)]);
    let before: String =
        sqlx::query_scalar("select s::text || t::text from tocsin.tenant_secret s, tocsin.tenant t").fetch_one(&world.pool).await.unwrap();

    assert_eq!(kinds(&world.import(&first).await), [Ok(EnrolKind::Unchanged)]);
    assert_eq!(kinds(&world.import(&[line(1, "Contoso,global,main,graph-alerts,")]).await), [Ok(EnrolKind::Unchanged)]);
    let after: String =
        sqlx::query_scalar("select s::text || t::text from tocsin.tenant_secret s, tocsin.tenant t").fetch_one(&world.pool).await.unwrap();
    assert_eq!(before, after, "not one byte");

    let report = world.import(&[line(1, "Contoso Ltd,global,main,mde-alerts;graph-alerts,")]).await;
    assert_eq!(kinds(&report), [Ok(EnrolKind::Updated)]);
    let found = world.registry.find("Contoso Ltd").await.unwrap();
    assert_eq!(found.sources.len(), 2);
    assert_eq!(found.state, TenantState::Active, "it keeps its token");
    assert!(world.registry.open_refresh_token(id(1), CLIENT).await.unwrap().is_some());
}

#[sqlx::test(migrations = "../../migrations")]
async fn another_token_is_a_conflict_unless_it_is_meant(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let other = [line(1, "tenant 1,global,main,graph-alerts,another")];
    let report = world.import(&other).await;
    assert!(matches!(&report.lines[0].result, Err(AdminError::Conflict(words)) if words.contains("--replace-token")), "{report:?}");
    let opened = world.registry.open_refresh_token(id(1), CLIENT).await.unwrap().unwrap();
    assert_eq!((secrecy::ExposeSecret::expose_secret(&opened.token), opened.version), ("token-1", 1));

    let replace = ImportRules { replace_token: true, ..rules() };
    let report = world.import_by(&other, &replace).await;
    assert_eq!(report.lines[0].result.as_ref().unwrap().to_string(), "updated, active, refresh token stored");
    let opened = world.registry.open_refresh_token(id(1), CLIENT).await.unwrap().unwrap();
    assert_eq!((secrecy::ExposeSecret::expose_secret(&opened.token), opened.version), ("another", 2));
    assert_eq!(
        kinds(&world.import_by(&other, &replace).await),
        [Ok(EnrolKind::Unchanged)],
        "the same again changes nothing, replacing or not"
    );
    assert_eq!(world.count("select credential_version from tocsin.tenant").await, 1);
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_token_last_imported_is_recognised_after_any_number_of_rotations(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let fence = world.hold(id(1)).await;
    for version in 1..4 {
        world.registry.commit_rotation(fence, version, CLIENT, &token(&format!("rotated-{version}"))).await.unwrap();
    }
    assert_eq!(kinds(&world.import(&[line(1, "tenant 1,global,main,graph-alerts,token-1")]).await), [Ok(EnrolKind::Unchanged)]);
    let opened = world.registry.open_refresh_token(id(1), CLIENT).await.unwrap().unwrap();
    assert_eq!(opened.version, 4);

    let replace = ImportRules { replace_token: true, ..rules() };
    world.import_by(&[line(1, "tenant 1,global,main,graph-alerts,fresh")], &replace).await;
    assert_eq!(world.registry.open_refresh_token(id(1), CLIENT).await.unwrap().unwrap().version, 5);
    assert!(world.registry.open_previous(id(1), CLIENT).await.unwrap().is_none(), "an import leaves no way back");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_directory_id_twice_in_one_file_counts_once(pool: PgPool) {
    let world = world(pool).await;
    let report = world
        .import(&[
            line(1, "first,global,main,graph-alerts,token-1"),
            line(1, "second,global,main,graph-alerts,token-2"),
            format!("{},third,global", id(1)),
        ])
        .await;
    let outcomes = kinds(&report);
    assert_eq!(outcomes[0], Ok(EnrolKind::Added));
    for later in &outcomes[1..] {
        assert!(later.as_ref().unwrap_err().contains("in line 2 already"), "{later:?}");
    }
    assert_eq!(world.registry.find(&id(1).to_string()).await.unwrap().name, "first");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_name_belongs_to_one_tenant(pool: PgPool) {
    let world = world(pool).await;
    let report = world
        .import(&[
            line(1, "Contoso,global,main,graph-alerts,t"),
            line(2, "Contoso,global,main,graph-alerts,t"),
            line(3, "contoso,global,main,graph-alerts,t"),
        ])
        .await;
    let outcomes = kinds(&report);
    assert_eq!((&outcomes[0], &outcomes[2]), (&Ok(EnrolKind::Added), &Ok(EnrolKind::Added)), "case matters");
    assert!(matches!(&report.lines[1].result, Err(AdminError::Conflict(words)) if words.contains(&id(1).to_string())), "{report:?}");
    // Renaming onto a taken name is the same conflict.
    let report = world.import(&[line(3, "Contoso,global,main,graph-alerts,")]).await;
    assert!(matches!(&report.lines[0].result, Err(AdminError::Conflict(_))), "{report:?}");
    // A removed tenant's name is free.
    world.registry.remove(id(1), Alerts::Keep).await.unwrap();
    assert_eq!(kinds(&world.import(&[line(3, "Contoso,global,main,graph-alerts,")]).await), [Ok(EnrolKind::Updated)]);
    assert_eq!(world.registry.find("Contoso").await.unwrap().id, id(3), "the living one");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_tenant_waits_for_consent_until_its_token_comes(pool: PgPool) {
    let world = world(pool).await;
    world.import(&[line(1, "a,global,main,graph-alerts,")]).await;
    assert_eq!(world.state(id(1)).await, "awaiting-consent");
    let report = world.import(&[line(1, "a,global,main,graph-alerts,token")]).await;
    assert_eq!(report.lines[0].result.as_ref().unwrap().to_string(), "updated, active, refresh token stored");
    assert_eq!(world.state(id(1)).await, "active");

    world.import(&[line(2, "b,global,main,graph-alerts,")]).await;
    world.import(&[line(2, "b,global,direct,graph-alerts,")]).await;
    assert_eq!(world.state(id(2)).await, "active", "an app with its own credential needs no token");
    world.import(&[line(2, "b,global,main,graph-alerts,")]).await;
    assert_eq!(world.state(id(2)).await, "awaiting-consent", "and back");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_paused_tenant_stays_paused_and_a_removed_one_comes_back(pool: PgPool) {
    let world = world(pool).await.with_tenants(2).await;
    world.registry.pause(id(1)).await.unwrap();
    let replace = ImportRules { replace_token: true, ..rules() };
    world.import_by(&[line(1, "tenant 1,global,main,graph-alerts,new")], &replace).await;
    assert_eq!(world.state(id(1)).await, "paused");

    world.registry.remove(id(2), Alerts::Keep).await.unwrap();
    let report = world.import(&[line(2, "tenant 2,global,main,graph-alerts,entirely-new")]).await;
    assert_eq!(kinds(&report), [Ok(EnrolKind::Revived)]);
    let opened = world.registry.open_refresh_token(id(2), CLIENT).await.unwrap().unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(&opened.token), "entirely-new");

    world.registry.remove(id(2), Alerts::Keep).await.unwrap();
    world.import(&[line(2, "tenant 2,global,main,graph-alerts,")]).await;
    assert_eq!(world.state(id(2)).await, "awaiting-consent");
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_stored_token_never_moves_to_another_cloud_by_the_edit_of_a_word(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let report = world.import(&[line(1, "tenant 1,china,main,graph-alerts,")]).await;
    assert!(matches!(&report.lines[0].result, Err(AdminError::Conflict(words)) if words.contains("from cloud global")), "{report:?}");
    // Giving the token there is saying so.
    let report = world.import(&[line(1, "tenant 1,china,main,graph-alerts,token-1")]).await;
    assert!(report.lines[0].result.as_ref().unwrap().token_stored);
    // Without a token there is nothing that could go astray.
    world.import(&[line(2, "b,global,main,graph-alerts,")]).await;
    assert_eq!(kinds(&world.import(&[line(2, "b,china,main,graph-alerts,")]).await), [Ok(EnrolKind::Updated)]);
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_same_token_given_for_another_app_is_sealed_for_it(pool: PgPool) {
    let world = world(pool).await.with_tenants(1).await;
    let other = &rules().apps[&domain::AppName::new("other")].client_id.clone();
    world.import(&[line(1, "tenant 1,global,other,graph-alerts,")]).await;
    let error = world.registry.open_refresh_token(id(1), other).await.unwrap_err();
    assert!(error.to_string().contains(CLIENT) && error.to_string().contains(other), "{error}");
    let report = world.import(&[line(1, "tenant 1,global,other,graph-alerts,token-1")]).await;
    assert!(report.lines[0].result.as_ref().unwrap().token_stored);
    assert_eq!(world.registry.open_refresh_token(id(1), other).await.unwrap().unwrap().version, 2);
}

#[sqlx::test(migrations = "../../migrations")]
async fn nothing_is_sealed_over_a_data_key_that_does_not_open(pool: PgPool) {
    let world = world(pool).await.with_tenants(2).await;
    sqlx::query("update tocsin.tenant_key set wrapped = (select wrapped from tocsin.tenant_key where tenant = $2) where tenant = $1")
        .bind(id(1).0)
        .bind(id(2).0)
        .execute(&world.pool)
        .await
        .unwrap();
    let replace = ImportRules { replace_token: true, ..rules() };
    let before: Vec<u8> =
        sqlx::query_scalar("select sealed from tocsin.tenant_secret where tenant = $1").bind(id(1).0).fetch_one(&world.pool).await.unwrap();
    let report = world.import_by(&[line(1, "tenant 1,global,main,graph-alerts,new")], &replace).await;
    assert!(matches!(&report.lines[0].result, Err(AdminError::Vault(_))), "{report:?}");
    let after: Vec<u8> =
        sqlx::query_scalar("select sealed from tocsin.tenant_secret where tenant = $1").bind(id(1).0).fetch_one(&world.pool).await.unwrap();
    assert_eq!(before, after);
}

#[sqlx::test(migrations = "../../migrations")]
async fn adding_by_hand_is_the_same_but_never_an_update(pool: PgPool) {
    let world = world(pool).await;
    let draft = |name: &str| TenantDraft {
        directory_id: id(1).to_string(),
        name: name.to_owned(),
        cloud: "global".to_owned(),
        app: "main".to_owned(),
        sources: "graph-alerts".to_owned(),
        refresh_token: Some(token("t")),
    };
    assert_eq!(world.registry.add(draft("a"), &rules()).await.unwrap().kind, EnrolKind::Added);
    let error = world.registry.add(draft("b"), &rules()).await.unwrap_err();
    assert!(matches!(&error, AdminError::Conflict(words) if words.contains("there already, as \"a\"")), "{error}");
    let error = world.registry.add(TenantDraft { cloud: "mars".to_owned(), ..draft("c") }, &rules()).await.unwrap_err();
    assert!(matches!(error, AdminError::Invalid(_)), "{error}");
}

#[sqlx::test(migrations = "../../migrations")]
async fn without_a_key_ring_nothing_is_imported(pool: PgPool) {
    let registry = Registry::without_keys(pool);
    let file = format!("{HEADER}\n{}\n", line(1, "a,global,main,graph-alerts,t"));
    let error = registry.import_csv(file.as_bytes(), &rules()).await.unwrap_err();
    assert!(matches!(&error, ImportError::Stopped { line: 2, source: AdminError::NoKeys(_), .. }), "{error}");
}
