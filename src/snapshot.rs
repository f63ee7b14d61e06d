//! Pictures of volumes, one file a provider.
//!
//! Everything slow or fallible that can be done early is done before the lock ([`lvm::plan`], [`btrfs::plan`]); inside
//! the lock window only [`lvm::Lvm::take`], [`btrfs::Btrfs::take`] and [`reflink::Reflink::take`] run, once a volume. `hold` takes no picture and so has no file here.

pub mod btrfs;
mod error;
pub mod lvm;
pub mod mount;
pub mod rate;
pub mod reflink;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ids::RunId;
use btrfs::SubvolumeSnapshot;
pub use error::SnapshotError;
use lvm::array::ArrayPicture;
use reflink::Clones;

/// A logical volume to be snapshotted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// Volume group.
    pub vg: String,
    /// Logical volume.
    pub lv: String,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.vg, self.lv)
    }
}

/// A snapshot of any provider, as the run journal records it. Their fields tell them apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Snapshot {
    /// Of a logical volume.
    Lvm(LvmSnapshot),
    /// Of a btrfs subvolume.
    Subvolume(SubvolumeSnapshot),
    /// Clones of files.
    Clones(Clones),
    /// What shows an md array put together from its members' snapshots.
    Array(ArrayPicture),
}

/// Where a snapshot keeps what is overwritten in its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Space {
    /// A classic snapshot's own.
    Own {
        /// Bytes, a multiple of the group's extent size.
        cow_bytes: u64,
    },
    /// A volume of its own, which LVM does not know as a snapshot's: see [`lvm::prepared`].
    Prepared {
        /// Bytes, a multiple of the group's extent size.
        prepared_bytes: u64,
    },
    /// The thin pool that the origin itself lies in.
    Pool {
        /// Its name in the origin's volume group.
        pool: String,
    },
}

impl Space {
    /// Bytes taken from the volume group.
    pub fn from_group(&self) -> u64 {
        match self {
            Self::Own { cow_bytes: bytes }
            | Self::Prepared {
                prepared_bytes: bytes,
            } => *bytes,
            Self::Pool { .. } => 0,
        }
    }
}

/// A snapshot that is to be made or was made; this is what the run journal records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LvmSnapshot {
    /// What it is a picture of.
    pub origin: Origin,
    /// Its name in the origin's volume group: `freezeframe-<run>-<n>`.
    pub lv: String,
    /// Where it keeps what is overwritten in the origin.
    #[serde(flatten)]
    pub space: Space,
    /// The run that owns it; also its LVM tag `freezeframe_run_<run>`.
    pub run: RunId,
}

impl LvmSnapshot {
    /// Tag on every snapshot this program makes.
    pub const TAG: &'static str = "freezeframe";
    /// What the tag that names the run begins with.
    pub const RUN_TAG_PREFIX: &'static str = "freezeframe_run_";

    /// The name of a run's `n`-th snapshot, counted from 1.
    pub fn name(run: RunId, n: usize) -> String {
        format!("freezeframe-{run}-{n}")
    }

    /// The tag that names the run.
    pub fn run_tag(run: RunId) -> String {
        format!("{}{run}", Self::RUN_TAG_PREFIX)
    }

    /// Written as LVM writes it: `vg/lv`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.origin.vg, self.lv)
    }

    /// Device node to mount, of a snapshot that LVM made; in others that of the space.
    pub fn device(&self) -> PathBuf {
        PathBuf::from(format!("/dev/{}/{}", self.origin.vg, self.lv))
    }
}
