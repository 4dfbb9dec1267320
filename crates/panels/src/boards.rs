//! The boards, one file each, and the pieces of SQL that many of their questions share.
//!
//! Days are those of UTC, as in the roll-ups. `day BETWEEN from AND to` takes whole days: a range that begins at noon
//! shows the whole of its first day, which the descriptions say.

mod ingestion;
mod noise;
mod overview;
mod service;
mod tenant;
mod tokens;

use crate::Board;

/// All of them, in the order in which somebody would look.
pub const ALL: [Board; 6] = [overview::BOARD, tenant::BOARD, ingestion::BOARD, tokens::BOARD, noise::BOARD, service::BOARD];

/// The customers that were chosen.
macro_rules! chosen {
    () => {
        "directory_id = ANY(ARRAY[${tenant:sqlstring}]::uuid[])"
    };
}
pub(crate) use chosen;

/// The severities that were chosen; what has none, or one of which we do not know, counts as unknown.
macro_rules! severe {
    () => {
        // Not by a `case`: of that the planner knows nothing, believes that few rows are left, and sorts a million.
        "(severity = ANY(ARRAY[${severity:sqlstring}]::text[]) or ('unknown' = ANY(ARRAY[${severity:sqlstring}]::text[]) \
          and coalesce(severity, '') not in ('high', 'medium', 'low', 'informational')))"
    };
}
pub(crate) use severe;

/// The days of the range, the first and the last one whole.
macro_rules! days {
    () => {
        "day BETWEEN $__timeFrom()::date AND $__timeTo()::date"
    };
}
pub(crate) use days;

/// True once anything was read of a chosen customer: before that a 0 would be a lie.
macro_rules! polled {
    () => {
        "exists (select from dash.feed_health where directory_id = ANY(ARRAY[${tenant:sqlstring}]::uuid[]) and last_success_at is not null)"
    };
}
pub(crate) use polled;

/// Customers that we ought to be reading.
macro_rules! to_be_read {
    () => {
        "state in ('active', 'needs-consent', 'needs-customer')"
    };
}
pub(crate) use to_be_read;

/// Median and nine tenths of how long one step of the response took.
macro_rules! response {
    ($step:literal) => {
        concat!(
            "select
    2 ^ (min(bucket) filter (where reached >= 0.5 * total) / 4.0::double precision) as median,
    2 ^ (min(bucket) filter (where reached >= 0.9 * total) / 4.0::double precision) as \"nine of ten\"
from (
    select bucket, sum(sum(",
            $step,
            ")) over (order by bucket) as reached, sum(sum(",
            $step,
            ")) over () as total
    from dash.response_day
    where ",
            $step,
            " > 0 and ",
            crate::boards::days!(),
            " and ",
            crate::boards::chosen!(),
            "
    group by bucket
) h
having count(*) > 0"
        )
    };
}
pub(crate) use response;

/// What is said where nothing can be known before the first poll.
macro_rules! not_polled {
    () => {
        "Not polled yet: no source of the chosen customers has ever been read. `tocsin doctor` says why."
    };
}
pub(crate) use not_polled;
