//! What a backup is going to do, as the preflight found it possible.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::archive::{SourceGraft, SourceTree};
use crate::backup::lease::Scope;
use crate::backup::resource::Resource;
use crate::backup::window::{Closed, Locking};
use crate::config::LockChoice;
use crate::host;
use crate::ids::{BackupId, MemberAddr, RunId, ShardName};
use crate::manifest::{
    ArchiveRecord, Deployment, FORMAT_FIRST, FORMAT_VERSION, FileTableRecord, Intent, IntentMember,
    Manifest, MemberRecord, StorageLayout,
};
use crate::mongo::{MemberFacts, Mongod};
use crate::snapshot::{Snapshot, btrfs, lvm};
use crate::volume::{DataLayout, DevNumber, Filesystem};

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
    /// Its replica set.
    pub shard: ShardName,
    /// The connection that will lock it.
    pub mongod: Mongod,
    /// What was read about it.
    pub facts: MemberFacts,
    /// Where its data lies.
    pub layout: DataLayout,
    /// Bytes that will be read.
    pub data_size: u64,
}

/// How the data is read.
#[derive(Debug)]
pub enum PicturePlan {
    /// From snapshots taken in the window.
    Snapshots(Vec<PlannedPicture>),
    /// From the live directories, while the window is open.
    Hold,
}

impl PicturePlan {
    /// The provider's name.
    pub fn provider(&self) -> &'static str {
        let is_lvm = |picture: &PlannedPicture| matches!(picture, PlannedPicture::Lvm(_));
        match self {
            Self::Hold => "hold",
            Self::Snapshots(pictures) => {
                match (pictures.iter().any(is_lvm), pictures.iter().all(is_lvm)) {
                    (_, true) => "lvm",
                    (false, _) => "btrfs",
                    (true, false) => "lvm and btrfs",
                }
            }
        }
    }
}

/// Whether the lock is taken for `picture`. By choice it is left out where one snapshot holds everything: of two the second is later.
pub fn locking(choice: LockChoice, picture: &PicturePlan) -> Locking {
    match (choice, picture) {
        (LockChoice::Auto, PicturePlan::Snapshots(pictures)) if pictures.len() == 1 => {
            Locking::Unlocked
        }
        _ => Locking::Locked,
    }
}

/// A picture of one file system to be taken.
#[derive(Debug, Clone)]
pub enum PlannedPicture {
    /// A snapshot of the logical volume it lies on.
    Lvm(lvm::Planned),
    /// A snapshot of a btrfs subvolume.
    Subvolume(btrfs::Planned),
}

impl PlannedPicture {
    /// The [`Filesystem::device`] that it is a picture of.
    pub fn device(&self) -> DevNumber {
        match self {
            Self::Lvm(planned) => planned.device,
            Self::Subvolume(planned) => planned.device,
        }
    }

    /// What is snapshotted, for the record of the window.
    pub fn origin(&self) -> String {
        match self {
            Self::Lvm(planned) => planned.snapshot.origin.to_string(),
            Self::Subvolume(planned) => planned.snapshot.subvolume.display().to_string(),
        }
    }

    /// What taking it acquires.
    pub fn resource(&self) -> Resource {
        match self {
            Self::Lvm(planned) => Resource::Snapshot(Snapshot::Lvm(planned.snapshot.clone())),
            Self::Subvolume(planned) => {
                Resource::Snapshot(Snapshot::Subvolume(planned.snapshot.clone()))
            }
        }
    }

    /// The part of btrfs, if it is one.
    pub fn subvolume(&self) -> Option<&btrfs::Planned> {
        match self {
            Self::Subvolume(planned) => Some(planned),
            Self::Lvm(_) => None,
        }
    }

    /// The part of LVM, if it is one.
    pub fn lvm(&self) -> Option<&lvm::Planned> {
        match self {
            Self::Lvm(planned) => Some(planned),
            Self::Subvolume(_) => None,
        }
    }
}

impl Plan {
    /// The members, for a log line.
    pub fn names(&self) -> String {
        let name = |member: &PlannedMember| format!("{} at {}", member.shard, member.mongod.addr());
        self.members.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// What a lease is needed on: every replica set, in one order on every host, so that of two who share some, one gets them all.
    pub fn scopes(&self) -> Vec<Scope> {
        let shards: BTreeSet<_> = self.members.iter().map(|member| &member.shard).collect();
        let scope = |shard: &ShardName| Scope {
            deployment: self.deployment.id.clone(),
            shard: shard.clone(),
        };
        shards.into_iter().map(scope).collect()
    }

    /// The oldest format that says all there is to say of this backup.
    fn format(&self) -> u32 {
        match self.locking {
            Locking::Locked => FORMAT_FIRST,
            Locking::Unlocked => FORMAT_VERSION,
        }
    }

    /// The statement of intent of run `run`, beginning at `started`.
    pub fn intent(&self, run: RunId, started: Timestamp) -> Intent {
        let member = |member: &PlannedMember| IntentMember {
            shard: member.shard.clone(),
            address: member.mongod.addr().clone(),
        };
        Intent {
            format: self.format(),
            id: BackupId::at(started),
            run,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            host: host::name(),
            started,
            deployment: self.deployment.clone(),
            members: self.members.iter().map(member).collect(),
        }
    }

    /// The manifest of what was done. Members without an archive or an optime are left out, and so fail the
    /// check that comes before the manifest is written.
    pub fn manifest<T>(
        &self,
        intent: &Intent,
        window: &Closed<T>,
        archives: &[(MemberAddr, ArchiveRecord)],
        files: FileTableRecord,
    ) -> Manifest {
        let record = |member: &PlannedMember| {
            let address = member.mongod.addr();
            let (_, archive) = archives.iter().find(|(archived, _)| archived == address)?;
            Some(MemberRecord {
                shard: member.shard.clone(),
                address: address.clone(),
                role: member.facts.options.role,
                server_version: member.facts.server_version.clone(),
                feature_compatibility: member.facts.feature_compatibility.clone(),
                optime: *window.optimes.get(address)?,
                locked: self.locking == Locking::Locked,
                locked_us: match self.locking {
                    Locking::Locked => *window.locked_us.get(address)?,
                    Locking::Unlocked => 0,
                },
                replica_set_config: member.facts.replica_set.as_ref()?.config.clone(),
                layout: member.storage_layout(),
                storage: member
                    .layout
                    .filesystems
                    .iter()
                    .map(Filesystem::draw)
                    .collect(),
                archive: archive.clone(),
            })
        };
        Manifest {
            format: intent.format,
            id: intent.id,
            run: intent.run,
            tool: intent.tool.clone(),
            host: intent.host.clone(),
            started: intent.started,
            finished: Timestamp::now(),
            deployment: intent.deployment.clone(),
            window: window.record.clone(),
            members: self.members.iter().filter_map(record).collect(),
            files,
        }
    }
}

impl PlannedMember {
    fn storage_layout(&self) -> StorageLayout {
        StorageLayout {
            db_path: self.facts.options.db_path.clone(),
            directory_per_db: self.facts.options.directory_per_db,
            directory_for_indexes: self.facts.options.directory_for_indexes,
            grafts: self
                .layout
                .grafts
                .iter()
                .map(|graft| graft.at.to_string_lossy().into_owned())
                .collect(),
        }
    }

    /// The file systems that hold this member's data, by device.
    pub fn devices(&self) -> impl Iterator<Item = DevNumber> {
        self.layout
            .filesystems
            .iter()
            .map(|filesystem| filesystem.device.number)
    }

    /// The member's files as seen through `view`; none where the view lacks one of its file systems.
    pub fn source(&self, view: &View, include_diagnostics: bool) -> Option<SourceTree> {
        let layout = &self.layout;
        let place =
            |path: &Path, filesystem: usize| view.place(layout.filesystems.get(filesystem)?, path);
        let grafts = layout
            .grafts
            .iter()
            .map(|graft| {
                Some(SourceGraft {
                    at: graft.at.clone(),
                    path: place(&graft.path, graft.filesystem)?,
                })
            })
            .collect::<Option<_>>()?;
        // mongod's own log, if it lies in dbPath, is no data and grows under our eyes.
        let exclude = self
            .facts
            .options
            .log_path
            .iter()
            .filter_map(|log| {
                log.strip_prefix(&self.facts.options.db_path)
                    .ok()
                    .map(Path::to_owned)
            })
            .collect();
        Some(SourceTree {
            root: place(&layout.db_path, layout.filesystem)?,
            grafts,
            exclude,
            include_diagnostics,
            live: matches!(view, View::Live),
        })
    }
}

/// Through which mounts the file systems are read.
#[derive(Debug)]
pub enum View {
    /// As they are mounted, live.
    Live,
    /// Mounted snapshots, by the origin's device.
    Mounted(BTreeMap<DevNumber, PathBuf>),
}

impl View {
    /// Where `path`, which lies on `filesystem`, can be read.
    fn place(&self, filesystem: &Filesystem, path: &Path) -> Option<PathBuf> {
        match self {
            Self::Live => Some(path.to_owned()),
            Self::Mounted(mounts) => Some(
                mounts
                    .get(&filesystem.device.number)?
                    .join(filesystem.inside(path)?),
            ),
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
