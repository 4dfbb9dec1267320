//! Whole-system stories; one module each.

mod auditing;
mod bad_input;
mod commands;
mod consent;
mod contract;
mod crashes;
mod dashboards;
mod doctor;
mod health;
mod held_tokens;
mod lossless_cli;
mod main_job;
mod offboarding;
mod outages;
mod paging;
mod proof;
mod reading;
mod replicas;
mod rings;
mod secrets;
mod sight;
mod standalone;
mod verify;
