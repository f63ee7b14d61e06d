//! The story.

pub mod guard;
pub mod journal;
pub mod release;
pub mod run;
pub mod timeline;
pub mod window;
