//! What each sign-in error means, and who must do what.
//!
//! The sentences are read by the people of a security provider at three in the morning: the reason says
//! what happened, the action begins with who must act ("you" are they), and neither needs a manual.
//!
//! `error` and `suberror` decide ([`by_error`]); the AADSTS numbers refine ([`table`]), and one that nobody
//! knows leaves it to them.
//!
//! Two numbers are filed under the tenant although the fault is on our side of the fence: a tenant that
//! lives in another national cloud, and an app that one tenant does not know. As faults of the app they
//! would raise an alarm for every customer, where one line of one customer is wrong.
//!
//! Two classes cannot be told from one answer: a federated credential that is not known yet or no more, and an app that
//! is gone from one tenant or from all. They are filed as the milder, and say what would settle it ([`super::MaybeOurs`]).

mod by_error;
mod table;
#[cfg(test)]
mod tests;
mod words;

use std::time::Duration;

pub(super) use by_error::{every_word, may_mean_a_dead_token, of_error};
use table::TABLE;

/// Who is at fault, and so what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It passes. `least` is the shortest wait that helps.
    Transient { least: Option<Duration> },
    /// A credential of our app that is not known there: it passes, or it is ours.
    Unsettled,
    /// The refresh token is dead, or its user must do something.
    SignInAgain,
    /// A consent, an assignment or a product is missing.
    Consent,
    /// The customer's policy blocks us.
    Policy,
    /// The user, the app or the tenant is gone.
    Gone,
    /// Our app is gone from this tenant, or from all of them.
    AppGone,
    /// Our app registration or its credential.
    Ours,
    /// We sent something wrong.
    Malformed,
}

/// What an error means.
#[derive(Debug)]
pub(super) struct Meaning {
    pub(super) class: Class,
    pub(super) reason: &'static str,
    pub(super) action: &'static str,
}

const TRANSIENT: Class = Class::Transient { least: None };

const fn after_minutes(minutes: u64) -> Class {
    Class::Transient { least: Some(Duration::from_secs(minutes * 60)) }
}

/// "Credentials are wrong" says nothing that a second code does not say better.
const VAGUE: u32 = 70002;
/// "Not valid": true, and said of so many things that a telling `suberror` says more.
const HARDLY_TELLING: [u32; 2] = [VAGUE, 70000];

/// The code that decides, with its meaning; `None` when none is known.
///
/// Passing trouble among several codes wins, since waiting costs least; a vague one loses.
pub(super) fn deciding(codes: &[u32]) -> Option<(u32, &'static Meaning)> {
    let known: Vec<_> = codes.iter().filter_map(|code| Some((*code, of_code(*code)?))).collect();
    let passing = known.iter().find(|(_, meaning)| matches!(meaning.class, Class::Transient { .. } | Class::Unsettled));
    let telling = known.iter().find(|(code, _)| *code != VAGUE);
    // The vague code decides only when it stands alone: beside one that we do not know, `error` does.
    let alone = known.first().filter(|_| codes.len() == 1);
    passing.or(telling).or(alone).copied()
}

/// The meaning of a whole answer, and the code that stands for it, if there is one.
pub(super) fn meaning(error: &str, suberror: Option<&str>, codes: &[u32]) -> (Option<u32>, &'static Meaning) {
    match deciding(codes) {
        Some((code, meaning)) => {
            let better = suberror.filter(|_| HARDLY_TELLING.contains(&code)).and_then(by_error::of_suberror);
            (Some(code), better.unwrap_or(meaning))
        }
        None => (codes.first().copied(), of_error(error, suberror)),
    }
}

fn of_code(code: u32) -> Option<&'static Meaning> {
    TABLE.iter().find(|row| row.codes.contains(&code)).map(|row| &row.meaning)
}

/// Every number that is known, as the table has them.
pub(super) fn every_code() -> impl Iterator<Item = (u32, &'static Meaning)> {
    TABLE.iter().flat_map(|row| row.codes.iter().map(|code| (*code, &row.meaning)))
}
