//! The ways in which one kind of effect can show.

use serde::{Deserialize, Serialize};

/// The forms of the `Retry-After` header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// Whole seconds: `5`.
    Seconds(u64),
    /// Seconds with a fraction, as Graph has been seen to send: `2.128`.
    Decimal(f64),
    /// A date so many seconds ahead.
    HttpDate(u64),
    /// No header.
    Missing,
    /// A number no one can wait for.
    Absurd,
    /// Any text at all.
    Text(String),
}

impl Default for RetryAfter {
    fn default() -> RetryAfter {
        RetryAfter::Seconds(5)
    }
}

/// The ways of not being there.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// The connection is reset.
    Reset,
    /// 500.
    InternalError,
    /// 503 without a `Retry-After`.
    Unavailable,
}

/// The ways in which a body ends too early.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncate {
    /// The connection ends before `Content-Length` bytes have come.
    ShortBody,
    /// The transfer is complete, the JSON is not.
    CutJson,
}

/// The ways in which a token answer is odd.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OddToken {
    /// The tokens are for another tenant than the one asked for.
    WrongTenant,
    /// The access token is not readable; the id token still is.
    Opaque,
    /// No new refresh token comes along.
    NoRefreshToken,
    /// No id token comes along.
    NoIdToken,
    /// The access token carries no permission at all.
    NoPermissions,
    /// The access token carries a permission, but not the one for alerts.
    FewerPermissions,
    /// The account that signed in has no directory role.
    NoRole,
    /// No token says which roles the account has.
    RolesUnsaid,
}

/// Records that cannot be understood, or only just.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Poison {
    /// A text with an escaped NUL, which Postgres does not take.
    NulEscape,
    /// A text with half of a surrogate pair.
    LoneSurrogate,
    /// Bytes that are not UTF-8.
    InvalidUtf8,
    /// Ten thousand arrays in each other.
    Deep,
    /// No id.
    MissingId,
    /// A last update in the year 9999.
    FarFuture,
    /// A last update that is an empty text.
    EmptyStamp,
    /// A last update that is no time at all.
    NonsenseStamp,
    /// A number instead of an object.
    NotAnObject,
    /// A last update that is `null`: no window of updates finds it, one of creation does.
    NullStamp,
    /// Twenty megabytes.
    Huge,
    /// An id of ten kilobytes: the given one with much behind it.
    LongId,
    /// Every member twice, the second time with another value.
    DuplicateKeys,
    /// Nearly every member missing or null, and words nobody has seen yet in the others.
    Sparse,
    /// An `@odata.type` nobody has seen yet.
    UnknownType,
}
