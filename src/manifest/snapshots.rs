//! The manifest of a backup that is a set of volume snapshots: there are no archives, and the store holds this and the intent alone.
//!
//! Format: `doc/format.md`. What tells it from the manifest of archives is its member `snapshots`, which no other has; it is of format 3 or later,
//! so that older programs refuse it.

mod protection;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::check::Inconsistent;
use super::{Deployment, Intent, MemberState, Role, StorageLayout, WindowRecord};
use crate::ebs::ids::{InstanceId, SnapshotId, VolumeId};
use crate::ebs::{Place, Volume};
use crate::ids::{BackupId, MemberAddr, OpTime, RunId, ShardName};
pub use protection::{Copies, CopyOutcome, Located, LockRecord, Shared};

/// The manifest of a set of volume snapshots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotManifest {
    /// Format version of the whole set.
    pub format: u32,
    /// The set's name.
    pub id: BackupId,
    /// The run that made it.
    pub run: RunId,
    /// Version of freezeframe.
    pub tool: String,
    /// Host it was made on.
    pub host: String,
    /// When the run began.
    pub started: Timestamp,
    /// When the last snapshot was complete.
    pub finished: Timestamp,
    /// Identity of what was backed up.
    pub deployment: Deployment,
    /// How the database was held and for how long.
    pub window: WindowRecord,
    /// One entry for every member.
    pub members: Vec<SnapshotMember>,
    /// Where the data is.
    pub snapshots: SnapshotSet,
}

/// One member, and where in the snapshots its files are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotMember {
    /// Replica-set name.
    pub shard: ShardName,
    /// Address of the member that was read.
    pub address: MemberAddr,
    /// Role in the deployment.
    pub role: Role,
    /// Server version, such as "6.0.5".
    pub server_version: String,
    /// Feature compatibility version, such as "6.0".
    pub feature_compatibility: String,
    /// As in [`super::MemberRecord::optime`].
    pub optime: OpTime,
    /// Whether it was locked.
    pub locked: bool,
    /// Lock of this member, in microseconds; 0 without the lock.
    pub locked_us: u64,
    /// Replica-set configuration (`replSetGetConfig`), as relaxed extended JSON.
    pub replica_set_config: serde_json::Value,
    /// How mongod was told to lay out its files.
    pub layout: StorageLayout,
    /// Sum of its files' sizes in bytes, as they were before the lock.
    pub data_size: u64,
    /// dbPath first, then every directory of it that lay elsewhere.
    pub places: Vec<PlaceRecord>,
}

impl SnapshotMember {
    /// Its data, as settling wants to know of it.
    pub fn state(&self) -> MemberState<'_> {
        MemberState {
            shard: &self.shard,
            role: self.role,
            server_version: &self.server_version,
            layout: &self.layout,
            optime: self.optime,
            locked: self.locked,
        }
    }
}

/// A directory of mongod's in a file system of the set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRecord {
    /// Where mongod expects it, relative to dbPath; `.` is dbPath itself.
    pub at: String,
    /// Index into [`SnapshotSet::filesystems`].
    pub filesystem: usize,
    /// Where it is in that file system, relative to its root.
    pub inside: PathBuf,
}

/// The snapshots of one set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSet {
    /// Where they are.
    pub place: Place,
    /// The instance whose volumes they show.
    pub instance: InstanceId,
    /// Its availability zone; volumes made of the snapshots can be in any of the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Every file system that holds anything of a member's.
    pub filesystems: Vec<FilesystemRecord>,
    /// Every volume, each with its snapshot.
    pub volumes: Vec<VolumeRecord>,
    /// Copies in another region, where there were to be any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<Copies>,
    /// Accounts that may use the snapshots, where there were to be any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<Shared>,
    /// The lock that snapshots and copies were to get as soon as this was written: a locked one cannot be deleted, so it comes after what makes a
    /// backup of them. Whether it is there EC2 says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockRecord>,
}

/// A file system of the set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesystemRecord {
    /// Where it was mounted.
    pub mount_point: PathBuf,
    /// "xfs", "ext4", ...
    pub kind: String,
    /// Its UUID, by which it is told from others on the same volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// What it lay on, down to the disks, drawn for people.
    pub stack: String,
    /// The volumes that it lay on.
    pub volumes: BTreeSet<VolumeId>,
}

/// A volume and its snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// What the volume was.
    #[serde(flatten)]
    pub volume: Volume,
}

impl SnapshotManifest {
    /// Checks what must hold inside the manifest itself.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), Inconsistent> {
        if self.members.is_empty() {
            return Err(Inconsistent::NoMembers);
        }
        let mut shards = BTreeSet::new();
        if let Some(twice) = self.members.iter().find(|one| !shards.insert(&one.shard)) {
            return Err(Inconsistent::SameShard {
                shard: twice.shard.clone(),
            });
        }
        let volumes: BTreeMap<_, _> = self
            .snapshots
            .volumes
            .iter()
            .map(|one| (&one.volume.id, &one.snapshot))
            .collect();
        let distinct: BTreeSet<_> = volumes.values().collect();
        let count = self.snapshots.volumes.len();
        if volumes.is_empty() || volumes.len() != count || distinct.len() != count {
            return Err(Inconsistent::Snapshots {
                reason: "a volume or a snapshot is there twice, or none is".into(),
            });
        }
        for filesystem in &self.snapshots.filesystems {
            let mut lain_on = filesystem.volumes.iter();
            if filesystem.volumes.is_empty() || lain_on.any(|one| !volumes.contains_key(one)) {
                return Err(Inconsistent::Snapshots {
                    reason: format!(
                        "not every volume of {} is there",
                        filesystem.mount_point.display()
                    ),
                });
            }
        }
        if !self.snapshots.is_copied_whole() {
            return Err(Inconsistent::Snapshots {
                reason: "not every snapshot has a copy of its own".into(),
            });
        }
        let known = self.snapshots.filesystems.len();
        for member in &self.members {
            let lost = member.places.iter().any(|place| place.filesystem >= known);
            if lost || member.places.is_empty() {
                return Err(Inconsistent::Snapshots {
                    reason: format!("it does not say where the files of {} are", member.shard),
                });
            }
        }
        Ok(())
    }

    /// Checks that this is the manifest of what `intent` set out to do.
    ///
    /// # Errors
    /// [`Inconsistent::OtherRun`], [`Inconsistent::NotAsPlanned`].
    pub fn check_against(&self, intent: &Intent) -> Result<(), Inconsistent> {
        super::check::as_planned(
            (self.id, self.run, &self.deployment),
            self.members.iter().map(|member| &member.shard),
            intent,
        )
    }
}

#[cfg(test)]
pub(crate) mod sample {
    use super::*;
    use crate::catalog::sample;
    use crate::manifest::{FORMAT_SNAPSHOTS, Manifest};
    use crate::retention_lock::LockMode;

    /// The sample's set, as snapshots of a RAID0 of two volumes and a volume of the second member's journal.
    pub(crate) fn snapshots() -> SnapshotManifest {
        let Manifest {
            id,
            run,
            tool,
            host,
            started,
            finished,
            deployment,
            mut window,
            members,
            ..
        } = sample::manifest();
        window.provider = "ebs".into();
        let snapshot = window.steps.iter_mut().find(|step| step.step == "snapshot");
        snapshot.unwrap().subject = "i-0123456789abcdef0".into();
        let volume = |n: u32, attached_as: &str| VolumeRecord {
            snapshot: format!("snap-0000000000000000{n}").parse().unwrap(),
            volume: Volume {
                id: format!("vol-0000000000000000{n}").parse().unwrap(),
                attached_as: attached_as.into(),
                bytes: 100 << 30,
                volume_type: Some("gp3".into()),
                iops: Some(3000),
                throughput: Some(125),
                encrypted: n == 3,
            },
        };
        let of = |numbers: &[u32]| {
            let id = |n: &u32| format!("vol-0000000000000000{n}").parse().unwrap();
            numbers.iter().map(id).collect()
        };
        let member = |(n, member): (usize, crate::manifest::MemberRecord)| SnapshotMember {
            shard: member.shard,
            address: member.address,
            role: member.role,
            server_version: member.server_version,
            feature_compatibility: member.feature_compatibility,
            optime: member.optime,
            locked: member.locked,
            locked_us: member.locked_us,
            replica_set_config: member.replica_set_config,
            layout: member.layout,
            data_size: 80 << 30,
            places: vec![
                PlaceRecord {
                    at: ".".into(),
                    filesystem: 0,
                    inside: format!("db{n}").into(),
                },
                PlaceRecord {
                    at: "journal".into(),
                    filesystem: 1,
                    inside: format!("journal{n}").into(),
                },
            ],
        };
        SnapshotManifest {
            format: FORMAT_SNAPSHOTS,
            id,
            run,
            tool,
            host,
            started,
            finished,
            deployment,
            window,
            members: members.into_iter().enumerate().map(member).collect(),
            snapshots: SnapshotSet {
                place: Place {
                    region: "eu-central-1".into(),
                    endpoint: None,
                },
                instance: "i-0123456789abcdef0".parse().unwrap(),
                zone: Some("eu-central-1a".into()),
                filesystems: vec![
                    FilesystemRecord {
                        mount_point: "/data".into(),
                        kind: "xfs".into(),
                        uuid: None,
                        stack: "/data  xfs\n└─ md raid0  200 GiB  (md0)".into(),
                        volumes: of(&[1, 2]),
                    },
                    FilesystemRecord {
                        mount_point: "/journal".into(),
                        kind: "ext4".into(),
                        uuid: None,
                        stack: "/journal  ext4\n└─ disk nvme3n1  100 GiB".into(),
                        volumes: of(&[3]),
                    },
                ],
                volumes: vec![
                    volume(1, "/dev/sdf"),
                    volume(2, "/dev/sdg"),
                    volume(3, "/dev/sdh"),
                ],
                copies: None,
                shared: None,
                lock: None,
            },
        }
    }

    /// The same set, copied, shared and locked.
    pub(crate) fn protected() -> SnapshotManifest {
        let mut manifest = snapshots();
        let set = &mut manifest.snapshots;
        let copy = |one: &VolumeRecord| {
            let copy = one.snapshot.as_str().replace("snap-0", "snap-c");
            (one.snapshot.clone(), copy.parse().unwrap())
        };
        set.copies = Some(Copies {
            place: Place {
                region: "eu-west-1".into(),
                endpoint: None,
            },
            outcome: CopyOutcome::Made(set.volumes.iter().map(copy).collect()),
        });
        set.shared = Some(Shared {
            with: vec!["123456789012".parse().unwrap()],
            failed: None,
        });
        set.lock = Some(LockRecord {
            mode: LockMode::Governance,
            days: 30.try_into().unwrap(),
        });
        manifest
    }
}

#[cfg(test)]
mod tests {
    use super::sample::snapshots;
    use super::*;

    #[test]
    fn a_manifest_that_does_not_lead_to_every_file_is_none() {
        assert_eq!(snapshots().check(), Ok(()));
        let broken: [fn(&mut SnapshotManifest); 8] = [
            |one| one.members.clear(),
            |one| one.members[1].shard = one.members[0].shard.clone(),
            |one| one.snapshots.volumes.clear(),
            |one| drop(one.snapshots.volumes.pop()),
            |one| one.snapshots.volumes[1].snapshot = one.snapshots.volumes[0].snapshot.clone(),
            |one| one.snapshots.filesystems[0].volumes.clear(),
            |one| one.members[0].places[0].filesystem = 2,
            |one| one.members[0].places.clear(),
        ];
        for (number, change) in broken.into_iter().enumerate() {
            let mut manifest = snapshots();
            change(&mut manifest);
            assert!(manifest.check().is_err(), "change {number}");
        }
    }
}
