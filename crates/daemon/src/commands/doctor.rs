//! `tocsin doctor`: what is wrong, why it matters, and how to mend it.
//!
//! Facts are gathered once ([`gather`]), judged by functions without I/O ([`judge`]), and shown. The facts hold no
//! names: the terminal puts them back ([`names`]), the archive never had them ([`bundle`]).

mod bundle;
mod check;
mod database;
mod facts;
mod gather;
mod judge;
mod names;
mod network;

use serde_json::json;

use super::Setting;
use crate::cli::Doctor;
use crate::config::ConfigError;
use crate::failure::{Exit, Failure};
use crate::output::{Output, printable};
use check::{Check, Outcome, tally};
use names::Names;

/// Looks at everything.
pub(super) async fn run(setting: &Setting, options: &Doctor) -> Result<(), Failure> {
    // Refused before anything is asked.
    let to_stdout = options.bundle.as_deref().is_some_and(|path| path.as_os_str() == "-");
    let output = if to_stdout { setting.output.aside("the archive")? } else { setting.output };
    let (facts, names) = gather::gather(setting, options.tenant.as_deref()).await?;
    let checks = judge::judge(&facts);
    if let Some(path) = &options.bundle {
        let contents = bundle::contents(&setting.config, &facts, &checks)?;
        let name = if to_stdout { bundle::write_out(&contents)? } else { bundle::write(path, &contents)? };
        output.note(&format!("{name} written; it holds no secrets and no names of customers"));
    }
    show(output, &checks, &names)?;
    verdict(&checks)
}

/// What there is to say when the configuration itself does not load.
pub(super) fn without_config(output: Output, error: &ConfigError) -> Result<(), Failure> {
    let mut check = Check::ok("configuration", "everything else follows from it", "")
        .but(Outcome::Fail, "it does not load", "you: correct what is named here; config/default.toml explains every key")
        .privately([error.to_string()]);
    check.number = 1;
    let checks = [check];
    show(output, &checks, &Names::default())?;
    verdict(&checks)
}

fn show(output: Output, checks: &[Check], names: &Names) -> Result<(), Failure> {
    let [well, warn, fail] = tally(checks);
    if output.json {
        let checks: Vec<_> = checks
            .iter()
            .map(|check| {
                json!({
                    "number": check.number, "title": check.title, "outcome": check.outcome, "found": names.reveal(&check.found),
                    "why": check.why, "fix": check.fix.as_deref().map(|fix| names.typed(fix)), "details": check.private,
                })
            })
            .collect();
        return output.document(&json!({ "ok": fail == 0, "counts": { "ok": well, "warn": warn, "fail": fail }, "checks": checks }));
    }
    for check in checks {
        let line = format!("{:>3}  {:<4}  {}: {}", check.number, check.outcome.as_str(), check.title, names.reveal(&check.found));
        output.line(&printable(&line))?;
        if check.outcome == Outcome::Ok {
            continue;
        }
        for sentence in &check.private {
            output.line(&printable(&format!("           {sentence}")))?;
        }
        output.line(&format!("           why: {}", check.why))?;
        if let Some(fix) = &check.fix {
            output.line(&printable(&format!("           fix: {}", names.typed(fix))))?;
        }
    }
    output.line(&format!("{well} ok, {warn} warn, {fail} fail"))
}

fn verdict(checks: &[Check]) -> Result<(), Failure> {
    let failed: Vec<_> = checks.iter().filter(|check| check.outcome == Outcome::Fail).map(|check| check.number.to_string()).collect();
    match failed.as_slice() {
        [] => Ok(()),
        [one] => Err(Failure::new(Exit::ConditionTrue, format!("check {one} fails"))),
        many => Err(Failure::new(Exit::ConditionTrue, format!("checks {} fail", many.join(", ")))),
    }
}
