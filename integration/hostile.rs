//! Input that somebody made to hurt us: every reader over a kept corpus and mutations of it, whole backup sets changed by
//! one who may write the store, and named attacks. `doc/reliability.md` tells what is covered and what must hold.
//!
//! `FREEZEFRAME_TEST_SEED` repeats a run, `FREEZEFRAME_TEST_ROUNDS` makes it longer (10) or shorter (0.25).

// Tests fail by panicking; clippy.toml's allowances do not reach helpers outside #[test].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "hostile/attacks.rs"]
mod attacks;
#[path = "hostile/bounds.rs"]
mod bounds;
#[path = "hostile/corpus.rs"]
mod corpus;
#[path = "hostile/memory.rs"]
mod memory;
#[path = "hostile/mutate.rs"]
mod mutate;
#[path = "hostile/readers.rs"]
mod readers;
#[path = "hostile/sets.rs"]
mod sets;
