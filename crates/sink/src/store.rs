//! The SQL, one file per aggregate. Nothing here decides anything.

pub(crate) mod feeds;
pub(crate) mod fence;
pub(crate) mod gaps;
pub(crate) mod latest;
pub(crate) mod partitions;
pub(crate) mod quarantine;
pub(crate) mod session;
pub(crate) mod stamp;
pub(crate) mod text;
pub(crate) mod versions;
