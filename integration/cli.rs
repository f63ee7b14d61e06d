//! The program as a person meets it: what is typed, what it says, and the code it ends with.
//!
//! Expected text stands in the tests; `SNAPSHOTS=overwrite cargo test --test cli` writes what the program says now
//! in its place, for a person to read.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(missing_docs)]

#[path = "cli/around.rs"]
mod around;
#[path = "cli/copying.rs"]
mod copying;
#[path = "cli/damaged.rs"]
mod damaged;
#[path = "cli/documented.rs"]
mod documented;
#[path = "cli/hand.rs"]
mod hand;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/members.rs"]
mod members;
#[path = "cli/retention.rs"]
mod retention;
#[path = "cli/scene.rs"]
mod scene;
#[path = "cli/snapshots.rs"]
mod snapshots;
#[path = "cli/stored.rs"]
mod stored;
mod support;
#[path = "cli/watch.rs"]
mod watch;
