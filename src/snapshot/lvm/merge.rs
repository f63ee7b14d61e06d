//! Merging a snapshot back into its origin.

use super::{Claimed, Lvm, LvmSnapshot, SnapshotError, claim, command};
use crate::snapshot::Origin;
use crate::volume::sysfs::join_lvm_name;

impl Lvm {
    /// What has to be let go before `snapshot` can be merged: the name of its origin or its own, where something has that open. LVM would put the merge off,
    /// and say that all is well.
    ///
    /// # Errors
    /// [`SnapshotError::Gone`] without the origin, and what the report brings.
    pub fn in_use(&self, snapshot: &LvmSnapshot) -> Result<Option<Origin>, SnapshotError> {
        let origin = &snapshot.origin;
        let itself = Origin {
            vg: origin.vg.clone(),
            lv: snapshot.lv.clone(),
        };
        let found = self
            .find(&origin.vg, &origin.lv)?
            .ok_or_else(|| SnapshotError::Gone {
                name: origin.to_string(),
            })?;
        let of_snapshot = self.find(&itself.vg, &itself.lv)?;
        Ok(match of_snapshot.is_some_and(|found| found.is_open()) {
            true => Some(itself),
            false => found.is_open().then(|| origin.clone()),
        })
    }

    /// Has the origin be active: LVM deactivates a thin one to merge into it, and may have died at that.
    fn awaken(&self, origin: &Origin) -> Result<(), SnapshotError> {
        if !self.devices()?.has(&join_lvm_name(&origin.vg, &origin.lv)) {
            self.exec.run(&command::activate(&origin.to_string()))?;
        }
        Ok(())
    }

    /// Begins to merge `snapshot`; well done where it is merged, or being merged, already, and where somebody removed it: see [`Lvm::is_removed`]. From then
    /// on the origin holds what the snapshot held, and can be used.
    ///
    /// # Errors
    /// [`SnapshotError::NotOurs`] for anything else of its name, [`SnapshotError::Exec`], [`SnapshotError::NotMerging`].
    pub fn merge(&self, snapshot: &LvmSnapshot) -> Result<(), SnapshotError> {
        self.awaken(&snapshot.origin)?;
        if self.is_marked(snapshot)? {
            // Whoever polled it may have died.
            self.exec.run(&command::poll(&snapshot.origin))?;
            return self.merges(snapshot);
        }
        let Some(found) = self.find(&snapshot.origin.vg, &snapshot.lv)? else {
            return match self.is_removed(snapshot)? {
                true => Ok(()),
                false => Err(SnapshotError::Gone {
                    name: snapshot.origin.to_string(),
                }),
            };
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
        self.merges(snapshot)
    }

    /// Whether the snapshot is merged, or the kernel is at it. One that LVM put off is marked in its metadata as one that is at work.
    fn merges(&self, snapshot: &LvmSnapshot) -> Result<(), SnapshotError> {
        let name = join_lvm_name(&snapshot.origin.vg, &snapshot.origin.lv);
        let at_work = self
            .exec
            .run(&command::table(&name))?
            .contains("snapshot-merge");
        // Looked at again: it may have come to its end meanwhile.
        match at_work || !self.is_unmerged(snapshot)? {
            true => Ok(()),
            false => Err(SnapshotError::NotMerging {
                name: snapshot.full_name(),
            }),
        }
    }

    /// Whether LVM knows the origin and no snapshot: it was removed, or is merged. Where it knows neither nobody can tell.
    ///
    /// # Errors
    /// What the report brings.
    pub fn is_removed(&self, snapshot: &LvmSnapshot) -> Result<bool, SnapshotError> {
        let vg = &snapshot.origin.vg;
        Ok(self.find(vg, &snapshot.origin.lv)?.is_some() && self.find(vg, &snapshot.lv)?.is_none())
    }

    /// Whether there is something to merge yet.
    ///
    /// # Errors
    /// What the report brings.
    pub fn is_unmerged(&self, snapshot: &LvmSnapshot) -> Result<bool, SnapshotError> {
        // While it is merged a classic snapshot is no volume that is seen.
        Ok(self.is_marked(snapshot)? || self.find(&snapshot.origin.vg, &snapshot.lv)?.is_some())
    }

    /// Whether something is being merged into its origin.
    ///
    /// # Errors
    /// What the report brings.
    pub fn is_marked(&self, snapshot: &LvmSnapshot) -> Result<bool, SnapshotError> {
        let origin = self.find(&snapshot.origin.vg, &snapshot.origin.lv)?;
        Ok(origin.is_some_and(|origin| origin.volume_type() == 'O'))
    }
}
