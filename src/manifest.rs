//! The manifest: what a backup set is, written last. Its presence is the backup.
//!
//! Format and its rules for change: `doc/format.md`. Every field here is part of the stored
//! format; a change of meaning needs a new [`FORMAT_VERSION`] and a frozen fixture.

pub mod check;
pub mod seal;
pub mod snapshots;
pub mod table;

use std::path::PathBuf;

use clap::ValueEnum;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::Profile;
use crate::ids::{BackupId, DeploymentId, Hash, MemberAddr, OpTime, RunId, ShardName};

/// The newest format that this program reads and writes. Older ones stay readable, newer ones are refused.
pub const FORMAT_VERSION: u32 = 3;
/// The format of documents that say nothing a reader of the first one would misunderstand: of sets whose members were locked, and of
/// verification records.
pub const FORMAT_FIRST: u32 = 1;
/// The format of sets with members that were not locked.
pub const FORMAT_UNLOCKED: u32 = 2;
/// The format of sets that are volume snapshots, and hold no archive: [`snapshots::SnapshotManifest`].
pub const FORMAT_SNAPSHOTS: u32 = 3;

/// Object name of the manifest inside a backup set.
pub const MANIFEST: &str = "manifest.json";
/// Object name of the statement of intent, written first.
pub const INTENT: &str = "intent.json";
/// Object name of the per-file table.
pub const FILES: &str = "files.jsonl.zst";

/// Whether the object `name` of a set is a part of the backup itself, and no mark that may come and go.
pub fn is_part(name: &str) -> bool {
    let is_archive = |profile: &Profile| name.ends_with(profile.extension());
    [MANIFEST, INTENT, FILES].contains(&name) || Profile::value_variants().iter().any(is_archive)
}

/// Written before anything else: who is about to do what. A set with an intent and no manifest is unfinished or failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// Format version of the whole set.
    pub format: u32,
    /// The set's name.
    pub id: BackupId,
    /// The run that makes it.
    pub run: RunId,
    /// Version of freezeframe.
    pub tool: String,
    /// Host the run is on.
    pub host: String,
    /// When it began.
    pub started: Timestamp,
    /// Identity of what is backed up.
    pub deployment: Deployment,
    /// The members to be archived, one archive each.
    pub members: Vec<IntentMember>,
}

/// One member a run is about to back up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IntentMember {
    /// Its replica set.
    pub shard: ShardName,
    /// Its address.
    pub address: MemberAddr,
}

/// Which deployment a set belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Replica-set id or cluster id.
    pub id: DeploymentId,
    /// Whether it is a sharded cluster.
    pub sharded: bool,
}

/// The manifest of one backup set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
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
    /// When the last archive was complete and proven.
    pub finished: Timestamp,
    /// Identity of what was backed up.
    pub deployment: Deployment,
    /// How the database was held and for how long.
    pub window: WindowRecord,
    /// One entry for every member, each with its archive.
    pub members: Vec<MemberRecord>,
    /// The per-file table's object.
    pub files: FileTableRecord,
}

/// How the members were held still.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowRecord {
    /// Snapshot provider: "lvm", "hold", ...
    pub provider: String,
    /// From the first lock command sent to the last unlock reply, in microseconds; 0 where no lock was taken.
    pub held_us: u64,
    /// Each timed step, in order of beginning.
    pub steps: Vec<StepRecord>,
}

/// One timed step of the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// What was done: "lock", "snapshot", "unlock", "flush", ...
    pub step: String,
    /// To what: a member's address or an origin.
    pub subject: String,
    /// Start, in microseconds after the first lock command was sent; negative before it.
    pub start_us: i64,
    /// Length in microseconds.
    pub length_us: u64,
}

/// One member and its archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Replica-set name; names the archive.
    pub shard: ShardName,
    /// Address of the member that was read.
    pub address: MemberAddr,
    /// Role in the deployment.
    pub role: Role,
    /// Server version, such as "6.0.5".
    pub server_version: String,
    /// Feature compatibility version, such as "6.0".
    pub feature_compatibility: String,
    /// Top of the oplog, read under the lock. Without the lock: what was durable before the snapshot was taken, see [`MemberRecord::ends_at`].
    pub optime: OpTime,
    /// Whether it was locked. Else one snapshot holds all its files as they were at one moment.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub locked: bool,
    /// Lock of this member, in microseconds from command sent to unlock reply received; 0 without the lock.
    pub locked_us: u64,
    /// Replica-set configuration (`replSetGetConfig`), as relaxed extended JSON.
    pub replica_set_config: serde_json::Value,
    /// How mongod was told to lay out its files.
    pub layout: StorageLayout,
    /// From mount to device, as resolved before the lock.
    pub storage: Vec<String>,
    /// The archive.
    pub archive: ArchiveRecord,
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

impl MemberRecord {
    /// Its data, wherever it is kept.
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

    /// [`MemberState::ends_at`].
    pub fn ends_at(&self, top: OpTime) -> bool {
        self.state().ends_at(top)
    }

    /// [`MemberState::promise`].
    pub fn promise(&self) -> String {
        self.state().promise()
    }
}

/// What a record tells of a member's data, whether that is in an archive or in snapshots of volumes.
#[derive(Debug, Clone, Copy)]
pub struct MemberState<'a> {
    /// Replica-set name.
    pub shard: &'a ShardName,
    /// Role in the deployment.
    pub role: Role,
    /// Server version, such as "6.0.5".
    pub server_version: &'a str,
    /// How mongod was told to lay out its files.
    pub layout: &'a StorageLayout,
    /// [`MemberRecord::optime`].
    pub optime: OpTime,
    /// [`MemberRecord::locked`].
    pub locked: bool,
}

impl MemberState<'_> {
    /// Whether data whose oplog ends at `top` can be what this tells of: its very optime, or, of a member that
    /// was not locked, that or a later one.
    pub fn ends_at(&self, top: OpTime) -> bool {
        match self.locked {
            true => top == self.optime,
            false => top >= self.optime,
        }
    }

    /// What it says of the end of the data, for a message: "(1769824801, 7) t=3".
    pub fn promise(&self) -> String {
        match self.locked {
            true => self.optime.to_string(),
            false => format!("{} or later", self.optime),
        }
    }
}

/// A member's role in its deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A replica set on its own.
    ReplicaSet,
    /// A shard of a cluster.
    Shard,
    /// The config server replica set of a cluster.
    ConfigServer,
}

/// The options mongod must be started with on this data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageLayout {
    /// dbPath on the source host.
    pub db_path: PathBuf,
    /// `--directoryperdb`.
    pub directory_per_db: bool,
    /// `--wiredTigerDirectoryForIndexes`.
    pub directory_for_indexes: bool,
    /// Directories that lay outside dbPath by symlink or mount and were archived in place: path in the archive.
    pub grafts: Vec<String>,
}

/// One archive object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArchiveRecord {
    /// Object name inside the set, such as `rs0.tar.xz`.
    pub object: String,
    /// Name of its profile (`archive::Profile`); a later version may have others.
    pub profile: String,
    /// Size of the object in bytes.
    pub size: u64,
    /// Size of the tar stream in bytes.
    pub tar_size: u64,
    /// Sum of the files' sizes in bytes, holes included.
    pub data_size: u64,
    /// BLAKE3 of the object.
    pub hash: Hash,
    /// Number of compressed blocks.
    pub blocks: u64,
    /// Number of entries in the file table.
    pub files: u64,
    /// How long packing and storing took, in microseconds; tells the next run what to expect.
    #[serde(default)]
    pub pack_us: u64,
    /// By which settings it took that long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_with: Option<MadeWith>,
    /// How it was known, before the manifest was written, that the store holds these bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

/// The settings that decide how long an archive takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeWith {
    /// Compression level, of a profile that has levels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u32>,
    /// Compression threads.
    pub threads: u64,
    /// Bytes a second that the store was sent at most, if that was limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_limit: Option<u64>,
}

/// How it was known that the store holds an object as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// The server's own hash of it is that of what was sent.
    ServerHash,
    /// It was read back and hashed.
    ReadBack,
    /// Only its size was compared.
    Size,
    /// In a way that this version does not know.
    #[serde(other)]
    Other,
}

/// The per-file table object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTableRecord {
    /// Object name inside the set.
    pub object: String,
    /// Size of the object in bytes.
    pub size: u64,
    /// BLAKE3 of the object.
    pub hash: Hash,
    /// Number of lines.
    pub entries: u64,
    /// How it was known, before the manifest was written, that the store holds these bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

/// One line of the per-file table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Whose archive holds it.
    pub shard: ShardName,
    /// Path inside the archive, relative to dbPath.
    pub path: String,
    /// File or directory.
    pub kind: EntryKind,
    /// Logical size in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since the epoch.
    pub mtime: i64,
    /// Its nanoseconds.
    pub mtime_ns: u32,
    /// BLAKE3 of the content, holes read as zeros; none for directories.
    pub hash: Option<Hash>,
    /// Offset of the entry's first tar header in the uncompressed tar stream.
    pub tar_offset: u64,
    /// Length of the entry in the tar stream: headers, data and padding.
    pub tar_length: u64,
}

/// What a table line describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
}
