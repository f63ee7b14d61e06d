//! The commands of a rollback. Each finds what is done already, so that all of them can be done again.

use std::time::Duration;

use super::super::KeptError;
use super::plan::{Mounted, Plan, device};
use crate::exec::{Command, SharedExec};
use crate::snapshot::SnapshotError;
use crate::snapshot::btrfs::{Btrfs, put_back};
use crate::snapshot::lvm::Lvm;
use crate::volume::HostView;

/// How long a file system may take to write what is dirty, or to replay its log.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Clone)]
pub(super) struct Storage {
    exec: SharedExec,
    lvm: Lvm,
}

impl Storage {
    pub(super) fn new(exec: SharedExec) -> Self {
        Self {
            lvm: Lvm::new(exec.clone()),
            exec,
        }
    }

    fn is_mounted(mount: &Mounted) -> Result<bool, KeptError> {
        let table = HostView::real().mounts().map_err(SnapshotError::from)?;
        Ok(table.is_mount_point(&mount.point))
    }

    /// Unmounts, what was mounted last first, whatever lies on volumes whose merge was not asked for yet.
    pub(super) fn unmount(&self, plan: &Plan) -> Result<(), KeptError> {
        let mut to_merge = Vec::new();
        for volume in &plan.volumes {
            if !self.lvm.is_begun(volume)? {
                to_merge.push(&volume.origin);
            }
        }
        for mount in plan.mounts.iter().rev() {
            // Of one that was cut off some may be merged, and mounted again, already.
            let waits = to_merge.iter().any(|origin| mount.device == device(origin));
            if !waits || !Self::is_mounted(mount)? {
                continue;
            }
            let umount = Command::new("umount", [&mount.point]).timeout(PATIENCE);
            self.exec.run(&umount).map_err(|error| KeptError::NotNow {
                name: plan.kept.name(),
                reason: error.to_string(),
                todo: format!("end what uses it (fuser -vm {})", mount.point.display()),
            })?;
        }
        for origin in to_merge {
            // LVM would put the merge off until the next activation, and say that all is well.
            if self.lvm.is_in_use(origin)? {
                return Err(KeptError::NotNow {
                    name: plan.kept.name(),
                    reason: format!("{origin} is in use though it is not mounted here"),
                    todo: format!(
                        "end what has it open (lsblk {}; a service with mounts of its own: grep {} /proc/*/mountinfo)",
                        device(origin).display(),
                        origin.lv
                    ),
                });
            }
        }
        Ok(())
    }

    /// Begins to merge every snapshot that is left. From then on the volume holds what the snapshot held.
    pub(super) fn merge(&self, plan: &Plan) -> Result<(), KeptError> {
        for volume in &plan.volumes {
            self.lvm.merge(volume)?;
        }
        Ok(())
    }

    /// Mounts what is not mounted.
    pub(super) fn mount(&self, plan: &Plan) -> Result<(), KeptError> {
        for mount in &plan.mounts {
            if Self::is_mounted(mount)? {
                continue;
            }
            let arguments = [
                "-t".into(),
                mount.kind.clone().into(),
                "-o".into(),
                mount.options.clone().into(),
                mount.device.clone().into_os_string(),
                mount.point.clone().into_os_string(),
            ];
            let command = Command::new("mount", arguments).timeout(PATIENCE);
            self.exec.run(&command).map_err(SnapshotError::from)?;
        }
        Ok(())
    }

    /// Whether something was merged, or exchanged, that cannot be taken back.
    pub(super) fn is_begun(&self, plan: &Plan) -> Result<bool, KeptError> {
        for volume in &plan.volumes {
            if self.lvm.is_begun(volume)? {
                return Ok(true);
            }
        }
        Ok(put_back::is_begun(&plan.subvolumes))
    }

    /// Has subvolumes change places with copies of their snapshots.
    pub(super) fn exchange(&self, plan: &Plan) -> Result<(), KeptError> {
        Ok(Btrfs::new(self.exec.clone()).put_back(&plan.subvolumes)?)
    }

    /// The volumes whose snapshots are not merged yet.
    pub(super) fn left(&self, plan: &Plan) -> Result<Vec<String>, KeptError> {
        let mut left = Vec::new();
        for volume in &plan.volumes {
            if self.lvm.is_unmerged(volume)? {
                left.push(volume.origin.to_string());
            }
        }
        Ok(left)
    }
}
