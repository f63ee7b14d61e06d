//! The commands of a rollback. Each finds what is done already, so that all of them can be done again.

use std::path::Path;
use std::time::Duration;

use super::super::KeptError;
use super::mounts::Mounted;
use super::plan::{Plan, device};
use crate::exec::{Command, SharedExec};
use crate::snapshot::btrfs::{Btrfs, put_back};
use crate::snapshot::lvm::Lvm;
use crate::snapshot::{LvmSnapshot, Origin, SnapshotError};
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
            if !self.is_merging(plan, volume)? {
                // What a dead `backup --from` has mounted.
                if let Some(open) = self.lvm.in_use(volume)?
                    && open != volume.origin
                {
                    return Err(in_use(plan, &open));
                }
                to_merge.push(volume);
            }
        }
        for mount in plan.mounts.iter().rev() {
            // Of one that was cut off some may be merged, and mounted again, already.
            let mut waiting = to_merge.iter().map(|volume| &volume.origin);
            let waits = waiting.any(|origin| mount.device == device(origin));
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
        for volume in to_merge {
            if let Some(open) = self.lvm.in_use(volume)? {
                return Err(in_use(plan, &open));
            }
        }
        Ok(())
    }

    /// Begins to merge every snapshot that is left. From then on the volume holds what the snapshot held.
    pub(super) fn merge(&self, plan: &mut Plan, state_dir: &Path) -> Result<(), KeptError> {
        for volume in plan.volumes.clone() {
            if !plan.is_asked(&volume) && self.lvm.is_removed(&volume)? {
                let name = volume.full_name();
                return Err(SnapshotError::Gone { name }.into());
            }
            plan.ask(&volume, state_dir)?;
            let asked = self.lvm.merge(&volume);
            // One that LVM would not merge, and that is there, may be removed yet by somebody.
            if asked.is_err() && !self.lvm.is_marked(&volume)? && !self.lvm.is_removed(&volume)? {
                plan.take_back(&volume, state_dir)?;
            }
            asked?;
        }
        Ok(())
    }

    /// Whether the merge of `volume` was asked for, and is done or under way.
    fn is_merging(&self, plan: &Plan, volume: &LvmSnapshot) -> Result<bool, KeptError> {
        let merged = plan.is_asked(volume) && self.lvm.is_removed(volume)?;
        Ok(merged || self.lvm.is_marked(volume)?)
    }

    /// A volume that cannot be put back any more, and why: its snapshot overflowed, or somebody removed it, no merge of it ever having been asked for.
    pub(super) fn lost(&self, plan: &Plan) -> Result<Option<(Origin, &'static str)>, KeptError> {
        for volume in &plan.volumes {
            if self.is_merging(plan, volume)? {
                continue;
            }
            let how = match self.lvm.fill(volume) {
                Err(SnapshotError::Overflowed { .. }) => "ran full",
                _ if self.lvm.is_removed(volume)? => "was removed",
                _ => continue,
            };
            return Ok(Some((volume.origin.clone(), how)));
        }
        Ok(None)
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
            if self.is_merging(plan, volume)? {
                return Ok(true);
            }
        }
        Ok(put_back::is_begun(&plan.subvolumes))
    }

    /// Has subvolumes change places with copies of their snapshots.
    pub(super) fn exchange(&self, plan: &Plan) -> Result<(), KeptError> {
        Ok(Btrfs::new(self.exec.clone()).put_back(&plan.subvolumes)?)
    }

    /// Removes copies that have not changed places.
    pub(super) fn discard_copies(&self, plan: &Plan) -> Result<(), KeptError> {
        Ok(Btrfs::new(self.exec.clone()).discard_copies(&plan.subvolumes)?)
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

fn in_use(plan: &Plan, volume: &Origin) -> KeptError {
    KeptError::NotNow {
        name: plan.kept.name(),
        reason: format!("{volume} is in use though it is not mounted where data is"),
        todo: format!(
            "run `freezeframe recover`, which unmounts what a dead run has mounted, and end what else has it open (lsblk {}; a service with mounts of its own: grep {} /proc/*/mountinfo)",
            device(volume).display(),
            volume.lv
        ),
    }
}
