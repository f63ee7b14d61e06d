//! What a set is of: the deployment, its members, how they were held. Known before the first byte is archived, and all that is needed to
//! archive a picture at any later time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::{SourceGraft, SourceTree};
use crate::backup::lease::Scope;
use crate::backup::window::{Closed, Locking};
use crate::host;
use crate::ids::{BackupId, MemberAddr, RunId, ShardName};
use crate::manifest::{
    ArchiveRecord, Deployment, FORMAT_FIRST, FORMAT_SNAPSHOTS, FORMAT_UNLOCKED, FileTableRecord,
    Intent, IntentMember, Manifest, MemberRecord, Role, StorageLayout,
};
use crate::mongo::MemberFacts;
use crate::volume::{DataLayout, DevNumber, Filesystem};

/// What a backup set is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contents {
    /// Identity of what is backed up.
    pub deployment: Deployment,
    /// Whether the members are locked while the picture is taken.
    pub locking: Locking,
    /// Whether the snapshots themselves are the backup, and nothing is archived.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_snapshots: bool,
    /// The members, one archive each.
    pub members: Vec<Subject>,
}

/// One member, as far as its archive and the record of it need to know it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// Its replica set.
    pub shard: ShardName,
    /// Its address.
    pub address: MemberAddr,
    /// Its role in the deployment.
    pub role: Role,
    /// Server version, such as "6.0.5".
    pub server_version: String,
    /// Feature compatibility version, such as "6.0".
    pub feature_compatibility: String,
    /// Configuration of its replica set; a set without it is not written.
    pub replica_set_config: Option<serde_json::Value>,
    /// How mongod was told to lay out its files.
    pub storage: StorageLayout,
    /// mongod's own log.
    pub log_path: Option<PathBuf>,
    /// Where its data lies.
    pub layout: DataLayout,
    /// Bytes that will be read.
    pub data_size: u64,
}

impl Contents {
    /// The members, for a log line.
    pub fn names(&self) -> String {
        let name = |member: &Subject| format!("{} at {}", member.shard, member.address);
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
            _ if self.in_snapshots => FORMAT_SNAPSHOTS,
            Locking::Locked => FORMAT_FIRST,
            Locking::Unlocked => FORMAT_UNLOCKED,
        }
    }

    /// The statement of intent of run `run`, which begins the set `id` now.
    pub fn intent(&self, run: RunId, id: BackupId) -> Intent {
        let member = |member: &Subject| IntentMember {
            shard: member.shard.clone(),
            address: member.address.clone(),
        };
        Intent {
            format: self.format(),
            id,
            run,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            host: host::name(),
            started: Timestamp::now(),
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
        let record = |member: &Subject| {
            let address = &member.address;
            let (_, archive) = archives.iter().find(|(archived, _)| archived == address)?;
            Some(MemberRecord {
                shard: member.shard.clone(),
                address: address.clone(),
                role: member.role,
                server_version: member.server_version.clone(),
                feature_compatibility: member.feature_compatibility.clone(),
                optime: *window.optimes.get(address)?,
                locked: self.locking == Locking::Locked,
                locked_us: match self.locking {
                    Locking::Locked => *window.locked_us.get(address)?,
                    Locking::Unlocked => 0,
                },
                replica_set_config: member.replica_set_config.clone()?,
                layout: member.storage.clone(),
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

impl Subject {
    /// The member of `shard` at `address`, as `facts` tell of it, with its data at `layout`; how much it is is not known yet.
    pub fn new(
        shard: ShardName,
        address: MemberAddr,
        facts: &MemberFacts,
        layout: DataLayout,
    ) -> Self {
        let options = &facts.options;
        Self {
            shard,
            address,
            role: options.role,
            server_version: facts.server_version.clone(),
            feature_compatibility: facts.feature_compatibility.clone(),
            replica_set_config: facts.replica_set.as_ref().map(|set| set.config.clone()),
            storage: StorageLayout {
                db_path: options.db_path.clone(),
                directory_per_db: options.directory_per_db,
                directory_for_indexes: options.directory_for_indexes,
                grafts: layout
                    .grafts
                    .iter()
                    .map(|graft| graft.at.to_string_lossy().into_owned())
                    .collect(),
            },
            log_path: options.log_path.clone(),
            layout,
            data_size: 0,
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
            .log_path
            .iter()
            .filter_map(|log| {
                log.strip_prefix(&self.storage.db_path)
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
