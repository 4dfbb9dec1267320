//! What the checklist says of the role of the account that signed in: a role is enough, a page is the proof, and a page
//! that is refused is put down to the role that is missing.

use e2e::harness::{Visitor, eventually};
use serde_json::Value;
use simulator::{Effect, Endpoint, OddToken, Rule, SourceMix};

use super::{Desk, SOON, url_of};

/// Lets somebody consent whose tokens are like this, and answers the whole checklist once it has come to its end.
async fn checklist(desk: &Desk, at: usize, token: Option<OddToken>, refused: Option<Endpoint>) -> anyhow::Result<Vec<[String; 3]>> {
    let tenant = desk.tenant(at)?;
    if let Some(odd) = token {
        desk.world.cloud.script(Rule::new(Effect::OddToken(odd)).tenant(tenant.directory_id));
    }
    if let Some(endpoint) = refused {
        desk.world.cloud.script(Rule::new(Effect::Forbidden { code: None }).tenant(tenant.directory_id).endpoint(endpoint));
    }
    let link = url_of(&desk.invite(&tenant, &[]).await?)?;
    let mut visitor = Visitor::new()?;
    let answer = desk.answered(&mut visitor, &link).await?;
    visitor.open(&answer).await?;
    let pool = desk.world.pool().await?;
    eventually("the checklist has come to its end", SOON, async || {
        let statement = sqlx::query_scalar("select steps from tocsin.link where tenant = $1").bind(tenant.directory_id);
        let steps: Value = statement.fetch_one(&pool).await.map_err(|error| error.to_string())?;
        let word = |step: &Value, key: &str| step[key].as_str().unwrap_or_default().to_owned();
        let steps: Vec<_> =
            steps.as_array().into_iter().flatten().map(|step| [word(step, "step"), word(step, "result"), word(step, "words")]).collect();
        let over = steps.last().is_some_and(|[step, result, _]| step == "connected" || result == "fail");
        if over { Ok(steps) } else { Err(format!("{steps:?}")) }
    })
    .await
}

fn role(steps: &[[String; 3]]) -> Option<(&str, &str)> {
    steps.iter().find(|[step, ..]| step == "role").map(|[_, result, words]| (result.as_str(), words.as_str()))
}

#[tokio::test]
async fn a_role_that_reads_is_named_and_one_that_no_token_tells_is_proved_by_the_page() -> anyhow::Result<()> {
    let desk = Desk::with(3, SourceMix::Both, "").await?;
    let reader = checklist(&desk, 0, None, None).await?;
    assert_eq!(role(&reader), Some(("ok", "it has the directory role Security Reader")), "{reader:?}");

    let by_defender = checklist(&desk, 1, Some(OddToken::NoRole), None).await?;
    let (result, words) = role(&by_defender).unwrap_or_default();
    assert_eq!(result, "warn", "{by_defender:?}");
    assert!(words.contains("by a role of Defender itself") && words.contains("Security Reader"), "{words}");

    let silent = checklist(&desk, 2, Some(OddToken::RolesUnsaid), None).await?;
    assert_eq!(role(&silent), None, "a token that does not say proves nothing: {silent:?}");

    for (at, steps) in [&reader, &by_defender, &silent].into_iter().enumerate() {
        assert_eq!(steps.last().map(|[step, ..]| step.as_str()), Some("connected"), "{steps:?}");
        assert!(steps.iter().any(|[step, result, _]| step == "device-groups" && result == "warn"), "{steps:?}");
        desk.becomes(&desk.tenant(at)?, "active").await?;
    }
    desk.end().await
}

#[tokio::test]
async fn an_account_without_a_role_that_is_refused_is_told_which_one_and_whom_to_ask() -> anyhow::Result<()> {
    let desk = Desk::with(3, SourceMix::Both, "").await?;
    // Half a minute each, since a refusal right after a consent may pass.
    let (missing, unsaid, defender) = tokio::try_join!(
        checklist(&desk, 0, Some(OddToken::NoRole), Some(Endpoint::Graph)),
        checklist(&desk, 1, Some(OddToken::RolesUnsaid), Some(Endpoint::Graph)),
        checklist(&desk, 2, Some(OddToken::NoRole), Some(Endpoint::Defender)),
    )?;
    for (at, (steps, explained)) in [(&missing, true), (&unsaid, false), (&defender, false)].into_iter().enumerate() {
        let [step, result, words] = steps.last().cloned().unwrap_or_default();
        assert_eq!((step.as_str(), result.as_str()), ("first-page", "fail"), "{steps:?}");
        let named = words.contains("Most likely it is the role")
            && words.contains("the customer's administrator: give that account the role Security Reader");
        assert_eq!(named, explained, "{words}");
        assert_eq!(desk.state(&desk.tenant(at)?).await?, "awaiting-consent");
    }
    // The customer is the one who can act on it, so he gets to read it; the rest is the operator's business.
    let pool = desk.world.pool().await?;
    let told: Vec<bool> = sqlx::query_scalar("select steps -> -1 ->> 'outside' is null from tocsin.link order by tenant = $1 desc")
        .bind(desk.tenant(0)?.directory_id)
        .fetch_all(&pool)
        .await?;
    assert_eq!(told, [true, false, false]);
    desk.end().await
}
