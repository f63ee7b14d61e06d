//! By which act each picture of LVM is taken in the window.

use super::Finding;
use crate::backup::plan::PlannedPicture;
use crate::config::LvmWindow;
use crate::snapshot::Space;

/// Says what the setting `[lvm] window` means for `picture`; nothing where LVM has no part in it and none was asked for.
pub fn judge(window: LvmWindow, picture: &PlannedPicture) -> Option<Finding> {
    let detail = match (window, picture.lvm().map(|planned| &planned.snapshot.space)) {
        (_, Some(Space::Prepared { .. })) => {
            "prepared before the lock; no LVM command may touch it during a backup"
        }
        (LvmWindow::Lvm, Some(_)) => "LVM's own command makes its snapshot",
        (LvmWindow::Lvm, None) => return None,
        (LvmWindow::Prepared, Some(Space::Pool { .. })) => {
            "thin: not prepared, LVM's own command makes its snapshot"
        }
        (LvmWindow::Prepared, Some(Space::Own { .. })) => {
            "raid, or with other snapshots: not prepared, LVM's own command makes its snapshot"
        }
        (LvmWindow::Prepared, None) => "on no logical volume: not prepared",
    };
    Some(Finding::ok(picture.origin(), "window", detail))
}
