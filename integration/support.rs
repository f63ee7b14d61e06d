//! What the tests with real parts share. Each test takes what it needs, so not all is used by all.
#![allow(dead_code)]

pub mod access;
pub mod by_hand;
pub mod certs;
pub mod locked_copy;
pub mod mongod;
pub mod moto;
