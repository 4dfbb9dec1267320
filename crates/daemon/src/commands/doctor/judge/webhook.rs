//! Whether somebody would be told.

use notifier::Standing;

use super::super::check::{Check, Outcome};
use super::counted;

/// A receiver may be away for so long before it is worth a word.
const PATIENCE: f64 = 300.0;

pub(super) fn webhook(files: &Result<(), String>, standing: Option<Standing>) -> Check {
    let check = Check::ok("webhook", "it tells somebody when a customer cannot be seen", "nothing has been told yet");
    if let Err(unusable) = files {
        let fix = "you: correct the file that is named here; tocsin notify test says whether it works";
        return check.but(Outcome::Fail, "its address or its secret cannot be used", fix).privately([unusable.clone()]);
    }
    let Some(Standing { waiting, given_up, success_seconds, failing_seconds }) = standing else { return check };
    let minutes = |seconds: f64| counted((seconds / 60.0).floor() as i64, "minute");
    let last = success_seconds.map_or("none was ever taken".to_owned(), |seconds| format!("the last was taken {} ago", minutes(seconds)));
    let found = format!("{} waiting, {last}", counted(waiting, "message"));
    let test = "you: see what comes back with: tocsin notify test";
    match failing_seconds {
        Some(seconds) if seconds >= PATIENCE => check.but(Outcome::Fail, format!("{found}; it has failed for {}", minutes(seconds)), test),
        Some(_) => check.but(Outcome::Warn, format!("{found}; the last one was not taken and is tried again"), test),
        None if given_up > 0 => {
            let lost = format!("{found}; {} of the last week reached nobody", counted(given_up, "message"));
            check.but(Outcome::Warn, lost, "you: read what was missed with: tocsin tenant list")
        }
        None => Check { found, ..check },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_is_away_for_long_fails_and_one_that_stumbles_warns() {
        let standing = Standing { waiting: 2, given_up: 0, success_seconds: Some(130.0), failing_seconds: None };
        let judged = |change: Standing| webhook(&Ok(()), Some(change));
        assert_eq!(
            (judged(standing).outcome, judged(standing).found.as_str()),
            (Outcome::Ok, "2 messages waiting, the last was taken 2 minutes ago")
        );
        assert_eq!(judged(Standing { failing_seconds: Some(20.0), ..standing }).outcome, Outcome::Warn);
        let failed = judged(Standing { failing_seconds: Some(400.0), success_seconds: None, ..standing });
        assert_eq!(failed.outcome, Outcome::Fail);
        assert!(failed.found.contains("none was ever taken; it has failed for 6 minutes"), "{}", failed.found);
        assert_eq!(judged(Standing { given_up: 1, ..standing }).outcome, Outcome::Warn);
        let unusable = webhook(&Err("/etc/x: the webhook's address is none".to_owned()), None);
        assert_eq!((unusable.outcome, unusable.private.len()), (Outcome::Fail, 1));
        assert!(!unusable.found.contains("/etc/x"));
    }
}
