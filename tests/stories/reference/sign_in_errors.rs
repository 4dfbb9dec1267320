//! `sign-in-errors.md`, from the table by which answers of the sign-in service are judged.

use anyhow::ensure;

use super::{Page, plain};

#[test]
fn sign_in_errors() -> anyhow::Result<()> {
    let mut page = Page::new(
        "sign-in-errors.md",
        "Sign-in errors",
        "crates/microsoft/src/oauth/codes",
        "What tocsin makes of an answer of Microsoft's sign-in service: the number that `error_code` of `dash.tenant_health` shows, the verdict that follows, what \
         happened, and who must do what. `tocsin tenant show NAME` says the same of a customer, with his name in the place of `{tenant}`. \"You\" are the security \
         provider.",
    );
    page.table(
        &["Verdict", "What follows"],
        &[
            ["`retry`, `throttled`", "it passes: tried again by itself, at growing pauses or when the service says"],
            ["`needs-consent`", "the customer is `needs-consent`: a person signs in or consents again, by a new link"],
            ["`needs-customer`", "the customer is `needs-customer`: something changes on his side first"],
            ["`global`", "a fault of our own app registration: one alarm for all of its customers, and no state changes"],
            ["`our-bug`", "we sent something wrong: to be reported"],
        ]
        .map(|row| row.map(str::to_owned).to_vec()),
    );
    let mut rows: Vec<(Vec<String>, &'static str, String, String)> = Vec::new();
    for (name, trouble) in microsoft::oauth::known_answers() {
        let row = (trouble.verdict.as_str(), trouble.reason, trouble.action);
        match rows.last_mut() {
            Some((names, verdict, reason, action)) if (*verdict, &*reason, &*action) == (row.0, &row.1, &row.2) => names.push(name),
            _ => rows.push((vec![name], row.0, row.1, row.2)),
        }
    }
    let (by_number, by_word): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(names, ..)| names[0].starts_with("AADSTS"));
    ensure!(by_number.len() > 40 && by_word.len() > 10, "{} rows and {}", by_number.len(), by_word.len());
    page.heading(2, "By number");
    page.paragraph("The number decides wherever it is known.");
    write(&mut page, by_number);
    page.heading(2, "By word");
    page.paragraph("Where no number is known, `suberror` and then `error` of the answer decide. A word that nobody knows is passing trouble: the last line.");
    write(&mut page, by_word);
    page.settle()
}

/// Words that end with a command, which is shown as one.
fn typed(action: &str) -> String {
    match action.rsplit_once("tocsin ") {
        Some((before, command)) if command.ends_with("{tenant}") => format!("{} `tocsin {command}`", plain(before)),
        _ => plain(action),
    }
}

fn write(page: &mut Page, rows: Vec<(Vec<String>, &'static str, String, String)>) {
    let cells = |(names, verdict, reason, action): (Vec<String>, &str, String, String)| {
        let names = names.iter().map(|name| match name.strip_prefix("suberror ") {
            Some(word) => format!("suberror `{word}`"),
            None if name == "never_heard_of" => "anything else".to_owned(),
            None => format!("`{name}`"),
        });
        vec![names.collect::<Vec<_>>().join(", "), format!("`{verdict}`"), plain(&reason), typed(&action)]
    };
    page.table(&["Answer", "Verdict", "What happened", "Who must do what"], &rows.into_iter().map(cells).collect::<Vec<_>>());
}
