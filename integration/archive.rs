//! The archive against the tools that must read it, against damage, and against time.

// Tests fail by panicking; clippy.toml's allowances do not reach helpers outside #[test].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "archive/damage.rs"]
mod damage;
#[path = "archive/fixture.rs"]
mod fixture;
#[path = "archive/interop.rs"]
mod interop;
#[path = "archive/round_trip.rs"]
mod round_trip;
#[path = "archive/support.rs"]
mod support;
