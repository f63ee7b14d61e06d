//! freezeframe: a backup appliance for MongoDB.
//!
//! The way of the data, and where to find each step, is told in `doc/architecture.md`.

pub mod backup;
pub mod config;
pub mod error;
pub mod exec;
pub mod ids;
pub mod manifest;
pub mod mongo;
pub mod progress;
pub mod snapshot;
pub mod store;
pub mod volume;
