#![doc = include_str!("../README.md")]

mod admin;
mod audit;
mod clocks;
mod config;
mod credentials;
mod enrol;
mod import;
mod keyring;
mod offboard;
mod process;
mod registry;
mod rotate;
mod rules;
mod store;
mod upkeep;
mod vault;
mod worker;
mod wrapping;

pub use admin::{AdminError, Attention, KeyStatus, StateChange, TenantSummary};
pub use audit::{AuditEntry, AuditHead, Finding, Unaudited, Verified};
pub use clocks::{AppClock, TenantClock, WARNED_AT_DAYS};
pub use config::Config;
pub use credentials::{OpenTokenError, Opened, RotateError};
pub use enrol::{EnrolKind, Enrolled};
pub use import::{ImportError, ImportReport, LineOutcome};
pub use keyring::change::RingTarget;
pub use keyring::{KeyId, KeyRing, KeyRingError};
pub use offboard::{Alerts, Erased, Removal, Stored};
pub use process::ProcessMark;
pub use registry::{NoKeys, OpenError, Registry};
pub use rotate::{KeyChangeError, Retired, Rotated, RotationStep};
pub use rules::{AppRule, ImportRules, TenantDraft};
pub use upkeep::Upkeep;
pub use vault::VaultError;
pub use worker::RegistryWorker;
