//! The way back: a target directory, a private mongod, settled data, proof.
//!
//! [`target::Target`] is the directory that receives an archive; it carries a marker until
//! everything is done. [`settle::settle`] turns a copied data directory into a replica set of
//! one member; [`prove::prove`] validates every collection of a copy nobody keeps. Both
//! work through [`server::PrivateMongod`]. What MongoDB does with such a copy, and how that was
//! seen, is told in `doc/mongodb.md`.

mod binary;
mod error;
mod log;
pub mod owner;
pub mod prove;
pub mod server;
pub mod settle;
pub mod target;

pub use binary::{MongodBinary, ServerVersion};
pub use error::RestoreError;
