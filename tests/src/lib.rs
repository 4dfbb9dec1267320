#![doc = include_str!("../README.md")]

pub mod harness;
pub mod measure;
pub mod soak;
