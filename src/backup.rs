//! The backup: one story, each step a module of its own.

pub mod preflight;
