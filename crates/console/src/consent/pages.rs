//! The pages themselves. They escape what they show, and hold no script.

use domain::{LinkKind, TenantState};
use maud::{DOCTYPE, Markup, html};
use tenant_registry::{Invited, LinkStatus, StepResult};
use token_refresher::{in_plain_words, steps_of, title};

use super::ConsentSettings;
use axum::response::Html;

/// How long a proof may be silent before the page says that its process has probably ended.
const SILENT: std::time::Duration = std::time::Duration::from_secs(120);

fn page(settings: &ConsentSettings, heading: &str, refresh: bool, body: Markup) -> Html<String> {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                @if refresh { meta http-equiv="refresh" content="2"; }
                title { (heading) " · " (settings.operator) }
                link rel="stylesheet" href="/assets/consent.css";
            }
            body { main { h1 { (heading) } (body) } }
        }
    };
    Html(markup.into_string())
}

/// Who asks, for what, what is stored, and how to end it.
pub(super) fn landing(settings: &ConsentSettings, invited: &Invited) -> Html<String> {
    let operator = &settings.operator;
    let heading = format!("{operator} asks to read your security alerts");
    let expires = invited.expires_at.strftime("%-d %B %Y, %H:%M UTC").to_string();
    page(
        settings,
        &heading,
        false,
        html! {
            p {
                (operator) " watches Microsoft Defender for " strong { (invited.name) }
                ". To do so it needs your consent. The next page is Microsoft's own: you sign in there, and your password is never seen by "
                (operator) "."
            }
            h2 { "What you allow" }
            ul { @for source in &invited.sources { li { (capitalised(in_plain_words(*source))) } } }
            p class="note" {
                @match invited.kind {
                    LinkKind::Delegated => { "It reads as the account that you sign in with, and sees what that account may see. It changes nothing." }
                    LinkKind::Application => { "An administrator has to consent, for the whole organisation. It reads on its own and changes nothing." }
                }
            }
            h2 { "What is stored" }
            ul {
                li { "The alerts, with the devices, files and accounts that Microsoft names in them." }
                @if invited.kind == LinkKind::Delegated {
                    li { "A key that Microsoft issues for this purpose (a refresh token), encrypted for your organisation alone. Never a password." }
                }
            }
            h2 { "How to end it" }
            p {
                "At any time: in the Microsoft Entra admin center, open Enterprise applications, choose the application and delete it"
                @if invited.kind == LinkKind::Delegated { ", or revoke the sessions of the account" }
                ". Access ends within 90 minutes. You can also ask " (operator) " to remove your organisation; the key is then destroyed."
            }
            h2 { "For your records" }
            dl {
                dt { "Directory (tenant) ID" } dd { code { (invited.tenant) } }
                dt { "This link ends" } dd { (expires) }
            }
            form method="post" { button type="submit" { "Continue to Microsoft" } }
            p class="note" { "Sign in with an account of this very directory. Any other is refused." }
        },
    )
}

/// The checklist.
pub(super) fn progress(settings: &ConsentSettings, status: &LinkStatus) -> Html<String> {
    let failed = status.steps.iter().any(|step| step.result == StepResult::Fail);
    let linked = status.outcome.as_deref() == Some("linked");
    let silent = status.proving_for.is_some_and(|span| span > SILENT);
    let heading = match (linked, failed || silent) {
        (true, _) => "Connected. Thank you",
        (_, true) => "Not connected yet",
        _ => "Checking the connection",
    };
    let waiting = !linked && !failed && !silent;
    page(
        settings,
        heading,
        waiting,
        html! {
            ol class="steps" aria-live="polite" {
                @for step in &status.steps {
                    li {
                        @let (class, word) = shown(step.result);
                        span class=(class) { (word) }
                        strong { (title(&step.step)) }
                        span class="words" { (step.outside.as_ref().unwrap_or(&step.words)) }
                    }
                }
                @for step in steps_of(status.kind).iter().filter(|step| waiting && !status.steps.iter().any(|done| done.step == **step)) {
                    li { span class="wait" { "waiting" } strong { (title(step)) } }
                }
            }
            @if linked {
                p { "You may close this page. " (settings.operator) " reads the alerts from now on." }
                @if status.tenant_state == TenantState::Paused { p class="note" { "Reading is paused at the moment by the operator." } }
            } @else if silent {
                p { "The check was interrupted. Open the link that you were sent once more and begin again." }
            } @else if failed {
                p { "Nothing was changed. When the cause is mended, open the link that you were sent once more; it is still good." }
            } @else {
                p class="note" { "This page renews itself every two seconds. Right after a consent, Microsoft may need half a minute." }
            }
        },
    )
}

/// A link that has ended.
pub(super) fn ended(settings: &ConsentSettings, why: &str) -> Html<String> {
    page(
        settings,
        "This link has ended",
        false,
        html! {
            p { "It cannot be used any more: " (why) "." }
            p { "Ask " (settings.operator) " for a new one." }
        },
    )
}

/// Anything that is not taken; the reason is told to nobody here.
pub(super) fn refused(settings: &ConsentSettings, reference: &str) -> Html<String> {
    page(
        settings,
        "This sign-in was not completed",
        false,
        html! {
            p { "Nothing was changed. Open the link that you were sent once more, in one window, and begin again." }
            p { "If it happens again, tell " (settings.operator) " this reference: " code { (reference) } }
        },
    )
}

/// The database is away.
pub(super) fn later(settings: &ConsentSettings) -> Html<String> {
    page(
        settings,
        "Please try again in a minute",
        false,
        html! {
            p { "The service is not ready at the moment. Nothing was changed, and your link is still good." }
        },
    )
}

/// Any other address.
pub(super) fn nothing(settings: &ConsentSettings) -> Html<String> {
    page(
        settings,
        "There is nothing here",
        false,
        html! {
            p { "Open the link that you were sent by " (settings.operator) "." }
        },
    )
}

fn shown(result: StepResult) -> (&'static str, &'static str) {
    match result {
        StepResult::Ok => ("ok", "done"),
        StepResult::Warn => ("warn", "note"),
        StepResult::Fail => ("fail", "failed"),
    }
}

fn capitalised(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
