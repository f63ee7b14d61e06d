//! What a backup is going to do, as the preflight found it possible.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backup::contents::{Contents, Subject};
use crate::backup::resource::Resource;
use crate::backup::volumes::PlannedSet;
use crate::backup::window::Locking;
use crate::config::LockChoice;
use crate::manifest::Deployment;
use crate::mongo::{MemberFacts, Mongod};
use crate::snapshot::lvm::array::PlannedArray;
use crate::snapshot::{LvmSnapshot, Snapshot, Space, btrfs, lvm, reflink};
use crate::volume::DevNumber;

/// A backup that nothing stands in the way of.
#[derive(Debug)]
pub struct Plan {
    /// Identity of what is backed up.
    pub deployment: Deployment,
    /// The members, one archive each.
    pub members: Vec<PlannedMember>,
    /// How the data is read.
    pub picture: PicturePlan,
    /// Whether the members are locked meanwhile.
    pub locking: Locking,
    /// How long all archives together will take.
    pub expected: Duration,
}

/// One member of the plan, connected.
#[derive(Debug)]
pub struct PlannedMember {
    /// The connection that will lock it.
    pub mongod: Mongod,
    /// What was read about it.
    pub facts: MemberFacts,
    /// What is to be archived of it.
    pub subject: Subject,
}

/// How the data is read.
#[derive(Debug)]
pub enum PicturePlan {
    /// From snapshots taken in the window.
    Snapshots(Vec<PlannedPicture>),
    /// Not at all: snapshots of the volumes are the backup.
    Volumes(Box<PlannedSet>),
    /// From the live directories, while the window is open.
    Hold,
}

impl PicturePlan {
    /// The provider's name.
    pub fn provider(&self) -> String {
        let pictures = match self {
            Self::Hold => return "hold".to_owned(),
            Self::Volumes(_) => return "ebs".to_owned(),
            Self::Snapshots(pictures) => pictures,
        };
        let names: BTreeSet<_> = pictures.iter().map(PlannedPicture::order).collect();
        let names: Vec<_> = names.into_iter().map(|(_, name)| name).collect();
        names.join(" and ")
    }
}

/// Whether the lock is taken for `picture`. By choice it is left out where one snapshot holds everything: of two the second is later.
pub fn locking(choice: LockChoice, picture: &PicturePlan) -> Locking {
    match (choice, picture) {
        // One call for all volumes.
        (LockChoice::Auto, PicturePlan::Volumes(_)) => Locking::Unlocked,
        (LockChoice::Auto, PicturePlan::Snapshots(pictures)) if matches!(pictures.as_slice(), [one] if one.is_atomic()) => {
            Locking::Unlocked
        }
        _ => Locking::Locked,
    }
}

/// A picture of one file system to be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedPicture {
    /// A snapshot of the logical volume it lies on.
    Lvm(lvm::Planned),
    /// Snapshots of the logical volumes under the md array it lies on.
    Array(PlannedArray),
    /// A snapshot of a btrfs subvolume.
    Subvolume(btrfs::Planned),
    /// Clones of the files.
    Clones(reflink::Planned),
}

impl PlannedPicture {
    /// Its provider, and the place of that among others.
    fn order(&self) -> (u8, &'static str) {
        match self {
            Self::Lvm(_) | Self::Array(_) => (0, "lvm"),
            Self::Subvolume(_) => (1, "btrfs"),
            Self::Clones(_) => (2, "reflink"),
        }
    }

    /// Whether it is taken in one act, and so of one moment without any lock. The members of an array stand still together, but nothing keeps what mongod
    /// was about to write to it in order better than its lock.
    fn is_atomic(&self) -> bool {
        !matches!(self, Self::Clones(_) | Self::Array(_))
    }

    /// The [`crate::volume::Filesystem::device`] that it is a picture of.
    pub fn device(&self) -> DevNumber {
        match self {
            Self::Lvm(planned) => planned.device,
            Self::Array(planned) => planned.device,
            Self::Subvolume(planned) => planned.device,
            Self::Clones(planned) => planned.device,
        }
    }

    /// What is snapshotted, for the record of the window.
    pub fn origin(&self) -> String {
        match self {
            Self::Lvm(planned) => planned.snapshot.origin.to_string(),
            Self::Array(planned) => planned.assembly.array.clone(),
            Self::Subvolume(planned) => planned.snapshot.subvolume.display().to_string(),
            Self::Clones(planned) => planned.clones.mount_point.display().to_string(),
        }
    }

    /// What taking it acquires, in that order.
    pub fn resources(&self) -> Vec<Resource> {
        let snapshots = match self {
            Self::Lvm(planned) => vec![Snapshot::Lvm(planned.snapshot.clone())],
            Self::Array(planned) => {
                let members = planned.members.iter();
                let members = members.map(|member| Snapshot::Lvm(member.snapshot.clone()));
                members
                    .chain([Snapshot::Array(planned.picture.clone())])
                    .collect()
            }
            Self::Subvolume(planned) => vec![Snapshot::Subvolume(planned.snapshot.clone())],
            Self::Clones(planned) => vec![Snapshot::Clones(planned.clones.clone())],
        };
        snapshots.into_iter().map(Resource::Snapshot).collect()
    }

    /// The directory in whose file system it lies, if it takes its space there and nowhere of its own.
    pub fn lives_in(&self) -> Option<&Path> {
        match self {
            Self::Lvm(_) | Self::Array(_) => None,
            Self::Subvolume(planned) => Some(&planned.snapshot.subvolume),
            Self::Clones(planned) => Some(&planned.clones.mount_point),
        }
    }

    /// Whether device-mapper alone makes it, with others of its kind at once.
    pub fn is_prepared(&self) -> bool {
        let mut volumes = self.volumes().iter();
        volumes.any(|planned| lvm::prepared::is_prepared(&planned.snapshot))
    }

    /// The picture of an md array, if it is one.
    pub fn array(&self) -> Option<&PlannedArray> {
        match self {
            Self::Array(planned) => Some(planned),
            Self::Lvm(_) | Self::Subvolume(_) | Self::Clones(_) => None,
        }
    }

    /// Its thin snapshots, which udev takes for their origins while they are active.
    pub fn thin(&self) -> impl Iterator<Item = &LvmSnapshot> {
        let snapshots = self.volumes().iter().map(|planned| &planned.snapshot);
        snapshots.filter(|snapshot| matches!(snapshot.space, Space::Pool { .. }))
    }

    /// The logical volumes it is made of: one, those of an array's members, or none.
    pub fn volumes(&self) -> &[lvm::Planned] {
        match self {
            Self::Lvm(planned) => std::slice::from_ref(planned),
            Self::Array(planned) => &planned.members,
            Self::Subvolume(_) | Self::Clones(_) => &[],
        }
    }
}

impl Plan {
    /// What the set will be of.
    pub fn contents(&self) -> Contents {
        Contents {
            deployment: self.deployment.clone(),
            locking: self.locking,
            in_snapshots: matches!(self.picture, PicturePlan::Volumes(_)),
            members: self
                .members
                .iter()
                .map(|member| member.subject.clone())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures(count: u32) -> PicturePlan {
        let one = |minor| {
            PlannedPicture::Subvolume(btrfs::Planned {
                snapshot: btrfs::SubvolumeSnapshot {
                    subvolume: "/data".into(),
                    name: "picture".into(),
                    run: "0badcafe".parse().unwrap(),
                    of: None,
                },
                device: DevNumber { major: 0, minor },
            })
        };
        PicturePlan::Snapshots((0..count).map(one).collect())
    }

    #[test]
    fn one_picture_does_without_the_lock_where_that_is_asked_for() {
        let auto = |picture| locking(LockChoice::Auto, &picture);
        assert_eq!(auto(pictures(1)), Locking::Unlocked);
        assert_eq!(auto(pictures(2)), Locking::Locked);
        assert_eq!(auto(PicturePlan::Hold), Locking::Locked);
        assert_eq!(locking(LockChoice::Always, &pictures(1)), Locking::Locked);
    }
}
