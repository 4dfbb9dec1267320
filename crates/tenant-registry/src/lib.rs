#![doc = include_str!("../README.md")]

mod admin;
mod clocks;
mod config;
mod credentials;
mod enrol;
mod import;
mod keyring;
mod process;
mod registry;
mod rules;
mod store;
mod vault;
mod worker;

pub use admin::{AdminError, Attention, KeyStatus, StateChange, TenantSummary};
pub use clocks::{AppClock, TenantClock, WARNED_AT_DAYS};
pub use config::Config;
pub use credentials::{OpenTokenError, Opened, RotateError};
pub use enrol::{EnrolKind, Enrolled};
pub use import::{ImportError, ImportReport, LineOutcome};
pub use keyring::{KeyId, KeyRing, KeyRingError};
pub use process::ProcessMark;
pub use registry::{NoKeys, OpenError, Registry};
pub use rules::{AppRule, ImportRules, TenantDraft};
pub use vault::VaultError;
pub use worker::RegistryWorker;
