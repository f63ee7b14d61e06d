//! What a set of snapshots has against the loss of its region and its account, and against deletion; and where it is.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{SnapshotManifest, SnapshotSet, VolumeRecord};
use crate::ebs::Place;
use crate::ebs::ids::{AccountId, SnapshotId};
use crate::retention_lock::{LockDays, LockMode, RetentionLock};

/// Seconds.
const DAY: i64 = 24 * 3600;

/// Copies of a set in another region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {
    /// Where.
    pub place: Place,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: CopyOutcome,
}

/// Whether there are copies. There are all of them or none: a part of a set is no set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyOutcome {
    /// The copy of each snapshot.
    Made(BTreeMap<SnapshotId, SnapshotId>),
    /// There are none, and this is why.
    Missing(String),
}

/// Accounts that may make volumes of the snapshots and copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// The accounts.
    pub with: Vec<AccountId>,
    /// Why not all snapshots are shared, where not all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A lock that was to be put on every snapshot and copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRecord {
    /// Who may undo it.
    pub mode: LockMode,
    /// For how long, from the end of the backup on.
    pub days: LockDays,
}

impl From<RetentionLock> for LockRecord {
    fn from(RetentionLock { mode, days }: RetentionLock) -> Self {
        Self { mode, days }
    }
}

impl From<LockRecord> for RetentionLock {
    fn from(LockRecord { mode, days }: LockRecord) -> Self {
        Self { mode, days }
    }
}

impl SnapshotManifest {
    /// When the lock ends that snapshots and copies were to get; none where none was asked for.
    pub fn locked_until(&self) -> Option<Timestamp> {
        let days = i64::from(u32::from(self.snapshots.lock?.days));
        let ends = SignedDuration::from_hours(24 * days);
        Some(self.finished.checked_add(ends).unwrap_or(Timestamp::MAX))
    }

    /// The lock that snapshots and copies are to have at `now`, for the days that are left of it, the last one whole; none where none was asked for, or its
    /// time is over.
    pub fn lock_at(&self, now: Timestamp) -> Option<LockRecord> {
        let lock = self.snapshots.lock?;
        let asked = u32::from(lock.days);
        let left = self.locked_until()?.duration_since(now);
        let days = u32::try_from((left.as_secs() + DAY - 1).div_euclid(DAY)).ok()?;
        // A clock that has jumped back makes no lock longer.
        let days = LockDays::try_from(days.min(asked)).ok()?;
        Some(LockRecord { days, ..lock })
    }
}

/// The snapshots of a set that are in one region: those that were taken, or their copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Where.
    pub place: Place,
    /// Whether they are copies.
    pub copied: bool,
    /// Every volume, each with its snapshot there.
    pub volumes: Vec<VolumeRecord>,
}

impl Located {
    /// The snapshots.
    pub fn ids(&self) -> Vec<SnapshotId> {
        let ids = self.volumes.iter().map(|one| one.snapshot.clone());
        ids.collect()
    }
}

impl SnapshotSet {
    /// What there is of it, region by region: what was taken comes first.
    pub fn located(&self) -> Vec<Located> {
        std::iter::once(self.taken()).chain(self.copied()).collect()
    }

    /// The snapshots that were taken.
    pub fn taken(&self) -> Located {
        Located {
            place: self.place.clone(),
            copied: false,
            volumes: self.volumes.clone(),
        }
    }

    /// The copies, where there are any.
    pub fn copied(&self) -> Option<Located> {
        let copies = self.copies.as_ref()?;
        let CopyOutcome::Made(made) = &copies.outcome else {
            return None;
        };
        let copy = |one: &VolumeRecord| {
            Some(VolumeRecord {
                snapshot: made.get(&one.snapshot)?.clone(),
                volume: one.volume.clone(),
            })
        };
        Some(Located {
            place: copies.place.clone(),
            copied: true,
            volumes: self.volumes.iter().map(copy).collect::<Option<_>>()?,
        })
    }

    /// Whether each snapshot has a copy of its own, where there are copies.
    pub(super) fn is_copied_whole(&self) -> bool {
        let Some(CopyOutcome::Made(made)) = self.copies.as_ref().map(|one| &one.outcome) else {
            return true;
        };
        let distinct: BTreeSet<_> = made.values().collect();
        distinct.len() == made.len() && made.len() == self.volumes.len() && self.copied().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::SnapshotManifest;
    use super::super::sample::{protected, snapshots};
    use super::*;

    fn made(manifest: &mut SnapshotManifest) -> &mut BTreeMap<SnapshotId, SnapshotId> {
        match &mut manifest.snapshots.copies.as_mut().unwrap().outcome {
            CopyOutcome::Made(made) => made,
            CopyOutcome::Missing(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn copies_are_of_every_snapshot_and_each_of_one() {
        assert_eq!(protected().check(), Ok(()));
        let broken: [fn(&mut SnapshotManifest); 4] = [
            |one| drop(made(one).pop_first()),
            |one| made(one).clear(),
            |one| {
                let last = made(one).values().next_back().unwrap().clone();
                *made(one).values_mut().next().unwrap() = last;
            },
            |one| {
                let (_, copy) = made(one).pop_first().unwrap();
                made(one).insert("snap-99999999".parse().unwrap(), copy);
            },
        ];
        for (number, change) in broken.into_iter().enumerate() {
            let mut manifest = protected();
            change(&mut manifest);
            assert!(manifest.check().is_err(), "change {number}");
        }
    }

    #[test]
    fn what_is_where_is_told_by_region() {
        let located = protected().snapshots.located();
        let [taken, copied] = located.as_slice() else {
            panic!("{located:?}")
        };
        assert_eq!(
            (taken.place.region.as_str(), taken.copied),
            ("eu-central-1", false)
        );
        assert_eq!(
            (copied.place.region.as_str(), copied.copied),
            ("eu-west-1", true)
        );
        for (one, copy) in taken.volumes.iter().zip(&copied.volumes) {
            assert_eq!(one.volume, copy.volume);
            assert_ne!(one.snapshot, copy.snapshot);
        }
        let mut none = protected();
        none.snapshots.copies.as_mut().unwrap().outcome = CopyOutcome::Missing("no".into());
        assert_eq!(none.check(), Ok(()));
        assert_eq!(none.snapshots.located().len(), 1);
    }

    /// As doc/format.md says, and never otherwise.
    #[test]
    fn copies_shares_and_locks_are_written_as_documented() {
        let written = serde_json::to_value(protected()).unwrap();
        let set = &written["snapshots"];
        assert_eq!(
            set["copies"],
            serde_json::json!({
                "place": {"region": "eu-west-1"},
                "made": {
                    "snap-00000000000000001": "snap-c0000000000000001",
                    "snap-00000000000000002": "snap-c0000000000000002",
                    "snap-00000000000000003": "snap-c0000000000000003",
                },
            })
        );
        assert_eq!(set["shared"], serde_json::json!({"with": ["123456789012"]}));
        assert_eq!(
            set["lock"],
            serde_json::json!({"mode": "governance", "days": 30})
        );
        let read: SnapshotManifest = serde_json::from_value(written).unwrap();
        assert_eq!(read, protected());
        let missing = serde_json::json!({"place": {"region": "eu-west-1"}, "missing": "no answer"});
        let read: Copies = serde_json::from_value(missing).unwrap();
        assert_eq!(read.outcome, CopyOutcome::Missing("no answer".into()));
        // What was written before has none of it.
        let before = serde_json::to_value(snapshots()).unwrap();
        for member in ["copies", "shared", "lock"] {
            assert!(before["snapshots"].get(member).is_none(), "{member}");
        }
    }
}
