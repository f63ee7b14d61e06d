//! What a mongod says about itself, read once and kept as plain data to be judged.

pub(crate) mod parse;

use std::path::PathBuf;

use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use serde::Serialize;

pub(crate) use self::parse::integer;
use self::parse::{
    Truncations, cache, feature_compatibility, hello_facts, instant, missing_actions,
    shard_identity, start_options, storage_engine, truncations,
};
use super::{MongoError, Mongod, ServerProcess};
use crate::ids::{DeploymentId, MemberAddr, OpTime, ShardName};
use crate::manifest::Role;

/// The server's code for "not started with --replSet".
const NO_REPLICATION_ENABLED: i32 = 76;
/// The server's code for "started with --replSet, but no configuration yet".
const NOT_YET_INITIALIZED: i32 = 94;

/// The server's code for a read in initial sync, rollback or recovery.
const NOT_PRIMARY_OR_SECONDARY: i32 = 13436;

/// Everything the preflight judges a member by.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemberFacts {
    /// Where it was asked.
    pub addr: MemberAddr,
    /// Identity of the server process.
    pub process: ServerProcess,
    /// Its process id, as the server sees it (in its own pid namespace).
    pub pid: u32,
    /// The server's clock when it was asked.
    pub read_at: Timestamp,
    /// Such as "6.0.5".
    pub server_version: String,
    /// Such as "6.0"; "unknown" while it serves no reads.
    pub feature_compatibility: String,
    /// What it is in its set.
    pub hello: Hello,
    /// Its replica set; none for a standalone or uninitiated server.
    pub replica_set: Option<ReplicaSet>,
    /// How it stores.
    pub storage_engine: StorageEngine,
    /// How it was started.
    pub options: StartOptions,
    /// The ends of its oplog; none where there is none, or while it serves no reads.
    pub oplog: Option<OplogEnds>,
    /// Actions on the cluster that locking and unlocking need and our user lacks; empty where nobody must log in.
    pub missing_actions: Vec<String>,
    /// The `fsyncLock` flag of `currentOp`: locked, or a lock is waiting.
    pub fsync_locked: bool,
    /// Its cache.
    pub cache: Cache,
    /// Membership of a sharded cluster; on config servers only `cluster_id` may be unknown here.
    pub shard_identity: Option<ShardIdentity>,
}

/// The parts of `hello` that matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hello {
    /// Replica set name.
    pub set: Option<ShardName>,
    /// The name the set knows it by.
    pub me: Option<MemberAddr>,
    /// Primary.
    pub is_writable_primary: bool,
    /// Secondary.
    pub secondary: bool,
    /// Hidden from clients.
    pub hidden: bool,
    /// Arbiter.
    pub arbiter: bool,
}

/// `replSetGetStatus` and `replSetGetConfig`, joined by member.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplicaSet {
    /// `settings.replicaSetId`.
    pub id: Option<DeploymentId>,
    /// The member's own state.
    pub my_state: MemberState,
    /// An initial sync is running or failed.
    pub initial_sync: bool,
    /// How many voters must acknowledge a majority write.
    pub write_majority: u32,
    /// All members, in the order of the configuration.
    pub members: Vec<SetMember>,
    /// The configuration as it is, in extended JSON.
    pub config: serde_json::Value,
}

impl ReplicaSet {
    /// The member that was asked.
    pub fn this(&self) -> Option<&SetMember> {
        self.members.iter().find(|member| member.this)
    }
}

/// One member as the asked one sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SetMember {
    /// Its name in the configuration.
    pub host: String,
    /// The one that was asked.
    pub this: bool,
    /// Last seen state.
    pub state: MemberState,
    /// Reachable from the asked one.
    pub healthy: bool,
    /// Votes, 0 or 1.
    pub votes: u32,
    /// Election priority.
    pub priority: f64,
    /// Hidden.
    pub hidden: bool,
    /// Holds no data.
    pub arbiter: bool,
    /// How far it is kept behind on purpose, in seconds.
    pub delay_secs: u64,
    /// When its newest oplog entry was written.
    pub optime_date: Option<Timestamp>,
}

/// A member's state, by the numbers of `replSetGetStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the server's own names")]
pub enum MemberState {
    Startup,
    Primary,
    Secondary,
    Recovering,
    Startup2,
    Unknown,
    Arbiter,
    Down,
    Rollback,
    Removed,
    Other(i64),
}

impl From<i64> for MemberState {
    fn from(number: i64) -> Self {
        match number {
            0 => Self::Startup,
            1 => Self::Primary,
            2 => Self::Secondary,
            3 => Self::Recovering,
            5 => Self::Startup2,
            6 => Self::Unknown,
            7 => Self::Arbiter,
            8 => Self::Down,
            9 => Self::Rollback,
            10 => Self::Removed,
            other => Self::Other(other),
        }
    }
}

impl std::fmt::Display for MemberState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Startup => f.write_str("STARTUP"),
            Self::Primary => f.write_str("PRIMARY"),
            Self::Secondary => f.write_str("SECONDARY"),
            Self::Recovering => f.write_str("RECOVERING"),
            Self::Startup2 => f.write_str("STARTUP2"),
            Self::Unknown => f.write_str("UNKNOWN"),
            Self::Arbiter => f.write_str("ARBITER"),
            Self::Down => f.write_str("DOWN"),
            Self::Rollback => f.write_str("ROLLBACK"),
            Self::Removed => f.write_str("REMOVED"),
            Self::Other(number) => write!(f, "state {number}"),
        }
    }
}

/// `serverStatus.storageEngine`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StorageEngine {
    /// "wiredTiger", "inMemory", ...
    pub name: String,
    /// Data survives a restart.
    pub persistent: bool,
    /// Another tool holds a backup cursor.
    pub backup_cursor_open: bool,
}

/// What matters of `getCmdLineOpts.parsed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StartOptions {
    /// dbPath as given: may be relative to the server's working directory.
    pub db_path: PathBuf,
    /// `--directoryperdb`.
    pub directory_per_db: bool,
    /// `--wiredTigerDirectoryForIndexes`.
    pub directory_for_indexes: bool,
    /// Log file or directory, where it logs to a file.
    pub log_path: Option<PathBuf>,
    /// The role it was started for.
    pub role: Role,
    /// `storage.journal.enabled`, where it was set (gone since 6.1).
    pub journal_enabled: Option<bool>,
    /// Encryption at rest.
    pub encrypted: bool,
}

/// Oldest and newest oplog entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OplogEnds {
    /// Oldest.
    pub first: OpTime,
    /// Newest.
    pub last: OpTime,
    /// Whether older ones are gone.
    pub truncated: Truncated,
}

/// Whether entries were removed from an oplog, as it is when it has grown to its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncated {
    /// None ever: it reaches back no further because it began no earlier.
    Never,
    /// None in so many seconds, for which the server has run; before that nobody knows.
    NotFor(u64),
    /// Some, or nobody knows.
    Perhaps,
}

/// Cache counters of WiredTiger, in bytes; 0 with other engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// Dirty now: what a flush must write.
    pub dirty_bytes: u64,
    /// Written since the server started; two readings give the write rate.
    pub written_bytes: u64,
    /// How long the server has been up, in milliseconds.
    pub uptime_ms: u64,
}

/// The `shardIdentity` document of a shard or config server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShardIdentity {
    /// The shard's name in the cluster.
    pub shard_name: String,
    /// `set/host:port,host:port` of the config servers.
    pub config_servers: String,
    /// The cluster.
    pub cluster_id: DeploymentId,
}

impl Mongod {
    /// Identity of the server process: the same value means the same process, started once.
    ///
    /// # Errors
    /// [`MongoError`]; servers before 4.4 have none and give an unexpected reply.
    pub async fn process_id(&self) -> Result<ServerProcess, MongoError> {
        let hello = self.run("hello", doc! { "hello": 1 }).await?;
        self.process_of(&hello)
    }

    fn process_of(&self, hello: &Document) -> Result<ServerProcess, MongoError> {
        hello
            .get_document("topologyVersion")
            .and_then(|version| version.get_object_id("processId"))
            .map(|id| ServerProcess::from_bytes(id.bytes()))
            .map_err(|_| self.odd_reply("hello", "no process id (servers from 4.4 have one)"))
    }

    /// Reads everything the preflight judges. Needs the minimum role and works under the lock.
    ///
    /// # Errors
    /// [`MongoError`] when anything cannot be read or is not as it should be.
    pub async fn facts(&self) -> Result<MemberFacts, MongoError> {
        let hello = self.run("hello", doc! { "hello": 1 }).await?;
        let status_command = doc! { "serverStatus": 1, "metrics": 0, "tcmalloc": 0, "locks": 0 };
        let status = self.run("serverStatus", status_command).await?;
        let options = self
            .run("getCmdLineOpts", doc! { "getCmdLineOpts": 1 })
            .await?;
        let replica_set = self.replica_set().await?;
        let current = doc! { "currentOp": 1, "$ownOps": true };
        let operations = self.run("currentOp", current).await?;
        let oplog = match &replica_set {
            Some(_) => self.oplog_ends(truncations(&status)).await?,
            None => None,
        };
        let versions = doc! { "find": "system.version", "singleBatch": true };
        let versions = self.find("admin", "find admin.system.version", versions);
        let versions = readable(versions.await)?.unwrap_or_default();
        let odd = |command, detail: &str| self.odd_reply(command, detail);
        let status_of_user = doc! { "connectionStatus": 1, "showPrivileges": true };
        Ok(MemberFacts {
            addr: self.addr().clone(),
            process: self.process_of(&hello)?,
            pid: integer(&status, "pid")
                .and_then(|pid| u32::try_from(pid).ok())
                .ok_or_else(|| odd("serverStatus", "no pid"))?,
            read_at: instant(&status, "localTime")
                .ok_or_else(|| odd("serverStatus", "no localTime"))?,
            server_version: status
                .get_str("version")
                .map_err(|_| odd("serverStatus", "no version"))?
                .to_owned(),
            feature_compatibility: feature_compatibility(&versions),
            hello: hello_facts(&hello),
            replica_set,
            storage_engine: storage_engine(&status)
                .ok_or_else(|| odd("serverStatus", "no storageEngine"))?,
            options: start_options(&options)
                .ok_or_else(|| odd("getCmdLineOpts", "no parsed options"))?,
            oplog,
            missing_actions: missing_actions(&self.run("connectionStatus", status_of_user).await?),
            fsync_locked: operations.get_bool("fsyncLock").unwrap_or(false),
            cache: cache(&status),
            shard_identity: shard_identity(&versions),
        })
    }

    async fn oplog_ends(
        &self,
        truncated: Option<Truncations>,
    ) -> Result<Option<OplogEnds>, MongoError> {
        let first = readable(self.oplog_end(1).await)?.flatten();
        let last = readable(self.oplog_end(-1).await)?.flatten();
        Ok(first.zip(last).map(|(first, last)| OplogEnds {
            first,
            last,
            truncated: truncated.map_or(Truncated::Perhaps, |truncated| truncated.since(first)),
        }))
    }

    async fn replica_set(&self) -> Result<Option<ReplicaSet>, MongoError> {
        let command = doc! { "replSetGetStatus": 1, "initialSync": 1 };
        let status = match self.run("replSetGetStatus", command).await {
            Ok(status) => status,
            Err(MongoError::Command { code, .. })
                if code == NO_REPLICATION_ENABLED || code == NOT_YET_INITIALIZED =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let reply = self
            .run("replSetGetConfig", doc! { "replSetGetConfig": 1 })
            .await?;
        let config = reply
            .get_document("config")
            .map_err(|error| self.odd_reply("replSetGetConfig", error.to_string()))?;
        parse::replica_set(&status, config)
            .map(Some)
            .ok_or_else(|| {
                self.odd_reply("replSetGetStatus", "status and configuration do not fit")
            })
    }
}

/// Nothing where the member serves no reads now: its state says why, and is what is judged.
fn readable<T>(read: Result<T, MongoError>) -> Result<Option<T>, MongoError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(MongoError::Command { code, .. }) if code == NOT_PRIMARY_OR_SECONDARY => Ok(None),
        Err(error) => Err(error),
    }
}
