//! Stories of the derivation, told on a real Postgres; what is derived from was stored by the real sink.

#![allow(clippy::unwrap_used, reason = "a story may fail anywhere")]

mod beginning;
mod broken;
mod heard;
mod history;
mod late;
mod let_go;
mod together;
mod world;
