//! `[lvm]`: snapshots of logical volumes.

use serde::{Deserialize, Serialize};

use super::{Size, SnapshotSize};

/// `[lvm]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LvmConfig {
    /// Copy-on-write space of each snapshot.
    pub snapshot_size: SnapshotSize,
    /// Smallest copy-on-write space that "auto" gives.
    pub snapshot_floor: Size,
    /// Who makes a snapshot in the lock window.
    pub window: LvmWindow,
}

/// What is left to do in the lock window for a snapshot of a logical volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LvmWindow {
    /// LVM's own command, one for each volume.
    #[default]
    Lvm,
    /// To put tables of device-mapper in force that were loaded before; LVM knows nothing of the snapshot.
    Prepared,
}

impl Default for LvmConfig {
    fn default() -> Self {
        Self {
            snapshot_size: SnapshotSize::Auto,
            snapshot_floor: Size::gib(1),
            window: LvmWindow::Lvm,
        }
    }
}
