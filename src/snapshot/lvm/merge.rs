//! Merging a snapshot back into its origin.

use super::{Claimed, Lvm, LvmSnapshot, SnapshotError, claim, command};
use crate::snapshot::Origin;

impl Lvm {
    /// Whether something has the volume open: then LVM would put a merge off, and say that all is well.
    ///
    /// # Errors
    /// [`SnapshotError::Gone`], and what the report brings.
    pub fn is_in_use(&self, origin: &Origin) -> Result<bool, SnapshotError> {
        let found = self.find(&origin.vg, &origin.lv)?;
        found
            .map(|volume| volume.is_open())
            .ok_or_else(|| SnapshotError::Gone {
                name: origin.to_string(),
            })
    }

    /// Begins to merge `snapshot`; well done where it is merged, or being merged, already. From then on the origin holds what the
    /// snapshot held, and can be used.
    ///
    /// # Errors
    /// [`SnapshotError::NotOurs`] for anything else of its name, [`SnapshotError::Exec`], [`SnapshotError::NotMerging`].
    pub fn merge(&self, snapshot: &LvmSnapshot) -> Result<(), SnapshotError> {
        if self.is_merging(snapshot)? {
            return Ok(());
        }
        let Some(found) = self.find(&snapshot.origin.vg, &snapshot.lv)? else {
            return Ok(());
        };
        let not_ours = |reason| SnapshotError::NotOurs {
            name: snapshot.full_name(),
            reason,
        };
        match claim(&found, snapshot).map_err(not_ours)? {
            Claimed::Snapshot => {}
            Claimed::Unattached => return Err(not_ours("it is no snapshot".into())),
        }
        self.exec.run(&command::merge(snapshot))?;
        let is_there = self.find(&snapshot.origin.vg, &snapshot.lv)?.is_some();
        match is_there && !self.is_merging(snapshot)? {
            true => Err(SnapshotError::NotMerging {
                name: snapshot.full_name(),
            }),
            false => Ok(()),
        }
    }

    /// Whether there is something to merge yet.
    ///
    /// # Errors
    /// What the report brings.
    pub fn is_unmerged(&self, snapshot: &LvmSnapshot) -> Result<bool, SnapshotError> {
        // While it is merged a classic snapshot is no volume that is seen.
        Ok(self.is_merging(snapshot)? || self.find(&snapshot.origin.vg, &snapshot.lv)?.is_some())
    }

    fn is_merging(&self, snapshot: &LvmSnapshot) -> Result<bool, SnapshotError> {
        let origin = self.find(&snapshot.origin.vg, &snapshot.origin.lv)?;
        Ok(origin.is_some_and(|origin| origin.volume_type() == 'O'))
    }
}
