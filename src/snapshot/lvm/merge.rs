//! Merging a snapshot back into its origin.

use super::{Claimed, Lvm, LvmSnapshot, SnapshotError, claim, command};
use crate::snapshot::Origin;
use crate::volume::sysfs::join_lvm_name;

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

    /// Whether its merge was asked for, done or not.
    ///
    /// # Errors
    /// What the report brings.
    pub fn is_begun(&self, snapshot: &LvmSnapshot) -> Result<bool, SnapshotError> {
        Ok(self.is_removed(snapshot)? || self.is_marked(snapshot)?)
    }

    /// Whether LVM knows the origin and no snapshot: it was removed. Where it knows neither nobody can tell.
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

    fn is_marked(&self, snapshot: &LvmSnapshot) -> Result<bool, SnapshotError> {
        let origin = self.find(&snapshot.origin.vg, &snapshot.origin.lv)?;
        Ok(origin.is_some_and(|origin| origin.volume_type() == 'O'))
    }
}
