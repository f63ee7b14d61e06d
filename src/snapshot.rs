//! Pictures of volumes: one file a provider behind one small trait.
//!
//! Everything slow or fallible that can be done early is in [`Provider::plan`]; inside the
//! lock window only [`Provider::take`] runs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::RunId;

/// A logical volume to be snapshotted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// Volume group.
    pub vg: String,
    /// Logical volume.
    pub lv: String,
}

/// A snapshot that is to be made or was made; this is what the run journal records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LvmSnapshot {
    /// What it is a picture of.
    pub origin: Origin,
    /// Its name in the origin's volume group: `freezeframe-<run>-<n>`.
    pub lv: String,
    /// Copy-on-write space in bytes, a multiple of the group's extent size.
    pub cow_bytes: u64,
    /// The run that owns it; also its LVM tag `freezeframe_run_<run>`.
    pub run: RunId,
}

impl LvmSnapshot {
    /// Tag on every snapshot this program makes.
    pub const TAG: &'static str = "freezeframe";

    /// Device node to mount.
    pub fn device(&self) -> PathBuf {
        PathBuf::from(format!("/dev/{}/{}", self.origin.vg, self.lv))
    }
}

/// How full a classic snapshot is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fill {
    /// Valid, with this share (0 to 1) of its space used.
    Used(f64),
    /// It ran full and its content is worthless.
    Overflowed,
}
