//! freezeframe: a backup appliance for MongoDB.
//!
//! The way of the data, and where to find each step, is told in `doc/architecture.md`.

pub mod archive;
pub mod aws;
pub mod backup;
pub mod blocking;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod copies;
pub mod copy;
pub mod ebs;
pub mod error;
pub mod exec;
pub mod hooks;
pub mod host;
pub mod hostile;
pub mod human;
pub mod ids;
pub mod kept;
pub mod manifest;
pub mod memory;
pub mod mongo;
pub mod progress;
pub mod prune;
pub mod reading;
pub mod recover;
pub mod restore;
pub mod retention;
pub mod retention_lock;
pub mod secret;
pub mod service;
pub mod setup;
pub mod shown;
pub mod snapshot;
pub mod store;
pub mod terminal;
pub mod test_switch;
pub mod unlock;
pub mod verify;
pub mod volume;
pub mod watch;
pub mod whole;
