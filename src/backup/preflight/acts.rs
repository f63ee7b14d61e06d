//! By which act each picture of LVM is taken in the window.

use super::Finding;
use crate::backup::plan::PlannedPicture;
use crate::config::LvmWindow;
use crate::snapshot::Space;

/// Says what the setting `[lvm] window` means for `picture`; nothing where LVM has no part in it and none was asked for.
pub fn judge(window: LvmWindow, picture: &PlannedPicture) -> Option<Finding> {
    if let PlannedPicture::Array(array) = picture {
        let origins = array.members.iter();
        let origins: Vec<_> = origins.map(|one| one.snapshot.origin.to_string()).collect();
        return Some(Finding::ok(
            picture.origin(),
            "window",
            format!(
                "{}: {} stand still together, prepared before the lock; no LVM command may touch them during a backup",
                array.assembly.level,
                origins.join(" and ")
            ),
        ));
    }
    let space = picture
        .volumes()
        .first()
        .map(|planned| &planned.snapshot.space);
    let detail = match (window, space) {
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

/// Refuses a picture that cannot be kept.
pub fn judge_kept(picture: &PlannedPicture) -> Option<Finding> {
    let PlannedPicture::Array(array) = picture else {
        return None;
    };
    Some(Finding::refused(
        picture.origin(),
        "window",
        format!(
            "{}: its picture is made by device-mapper alone, gone with a reboot, and cannot be merged",
            array.assembly.level
        ),
        "make a backup (`freezeframe backup`)",
    ))
}
