//! What can go wrong on the way back.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::binary::ServerVersion;
use crate::error::{Exit, Explain};
use crate::human;
use crate::ids::{OpTime, ShardName};
use crate::manifest::Role;
use crate::mongo::MongoError;
use crate::verify::VerifyError;

/// Why a restore, or the proof of one, did not come about.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// A file or directory could not be used.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried: "create", "remove", ...
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The directory to restore into holds something.
    #[error("{path} is not empty: it holds {found}", path = .path.display())]
    TargetNotEmpty {
        /// The target.
        path: PathBuf,
        /// One thing found in it.
        found: String,
    },
    /// The directory to restore into holds what an earlier restore left unfinished.
    #[error("{path} holds an earlier restore that was not finished", path = .path.display())]
    TargetUnfinished {
        /// The target.
        path: PathBuf,
    },
    /// A mongod has the directory open.
    #[error("a mongod runs on {path}", path = .path.display())]
    TargetInUse {
        /// The directory.
        path: PathBuf,
    },
    /// The path is something other than a directory, or has no name of its own.
    #[error("{path} is not a directory", path = .path.display())]
    TargetNotDirectory {
        /// The target.
        path: PathBuf,
    },
    /// The directory that should hold the target does not exist.
    #[error("{parent} does not exist, so {path} cannot be created", parent = .parent.display(), path = .path.display())]
    NoParent {
        /// The target.
        path: PathBuf,
        /// Its parent.
        parent: PathBuf,
    },
    /// The file system is too small.
    #[error(
        "{path} has {free} free, and the data needs {needed}",
        path = .path.display(), free = human::size(*.free), needed = human::size(*.needed)
    )]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Bytes free to us.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// No mongod binary was found.
    #[error("no mongod found{}", .given.as_ref().map_or_else(|| " in PATH".to_owned(), |path| format!(" at {}", path.display())))]
    NoMongod {
        /// The path that was given.
        given: Option<PathBuf>,
    },
    /// The binary did not tell its version.
    #[error("cannot tell the version of {path}: {detail}", path = .path.display())]
    UnknownVersion {
        /// The binary.
        path: PathBuf,
        /// What it said instead.
        detail: String,
    },
    /// The binary is of another version than the data.
    #[error("backup was made by mongod {needed}; the mongod found ({path}) is {found}", path = .path.display())]
    WrongVersion {
        /// Version of the server that was backed up.
        needed: ServerVersion,
        /// Version of the binary.
        found: ServerVersion,
        /// The binary.
        path: PathBuf,
    },
    /// The private mongod ended while it was starting.
    #[error("mongod ended while starting on {db_path} ({status}): {telling}", db_path = .db_path.display())]
    DiedAtStart {
        /// The data directory.
        db_path: PathBuf,
        /// Exit status or signal.
        status: String,
        /// The line of its log that tells most.
        telling: String,
    },
    /// The private mongod ended while it was needed.
    #[error("mongod on {db_path} ended unexpectedly ({status}): {telling}", db_path = .db_path.display())]
    Died {
        /// The data directory.
        db_path: PathBuf,
        /// Exit status or signal.
        status: String,
        /// The line of its log that tells most.
        telling: String,
    },
    /// The private mongod did not become ready.
    #[error("mongod on {db_path} was not ready within {}: {telling}", human::duration(*.limit), db_path = .db_path.display())]
    NotReady {
        /// The data directory.
        db_path: PathBuf,
        /// The limit that passed.
        limit: Duration,
        /// The line of its log that tells most.
        telling: String,
    },
    /// The private mongod did not stop when told, and was killed.
    #[error("mongod on {db_path} did not stop within {} and was killed", human::duration(*.limit), db_path = .db_path.display())]
    NotStopped {
        /// The data directory.
        db_path: PathBuf,
        /// The limit that passed.
        limit: Duration,
    },
    /// The private mongod could not be talked to, or refused a command.
    #[error(transparent)]
    Mongo(#[from] MongoError),
    /// The data is encrypted by the storage engine.
    #[error("the data in {path} is encrypted at rest ({sign})", path = .path.display())]
    Encrypted {
        /// The data directory.
        path: PathBuf,
        /// The sign of it.
        sign: String,
    },
    /// The data is a member of a sharded cluster.
    #[error("{shard} is {} of a sharded cluster, whose members cannot be settled one by one", match .role {
        Role::ConfigServer => "the config server",
        _ => "a shard",
    })]
    Sharded {
        /// The replica set.
        shard: ShardName,
        /// Its role.
        role: Role,
    },
    /// The data ends elsewhere than the manifest says.
    #[error("the data of {shard} reaches optime {}, and the manifest promises {expected}", .found.map_or_else(|| "nothing (no oplog)".to_owned(), |found| found.to_string()))]
    OtherOptime {
        /// The replica set.
        shard: ShardName,
        /// Where the oplog ends that mongod will recover; none without an oplog.
        found: Option<OpTime>,
        /// What the manifest says, see `MemberRecord::promise`.
        expected: String,
    },
    /// The new replica-set configuration is not there after it was written.
    #[error("the replica-set configuration of {shard} was written and is not there")]
    NotSettled {
        /// The replica set.
        shard: ShardName,
    },
    /// The archive could not be fetched or unpacked.
    #[error("cannot unpack {shard}: {cause}")]
    Unpack {
        /// The replica set.
        shard: ShardName,
        /// Why.
        cause: Box<dyn Explain + Send + Sync>,
    },
    /// A proof found damage.
    #[error("the data of {shard} is damaged: {first}{}", match .others {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    })]
    NotProven {
        /// The replica set.
        shard: ShardName,
        /// What is wrong, the first of it.
        first: String,
        /// How much more is wrong.
        others: usize,
    },
    /// The backup holds several replica sets and none was named.
    #[error("the backup holds several replica sets: {}", list(there_are))]
    WhichShard {
        /// Their names.
        there_are: Vec<String>,
    },
    /// The backup does not hold the replica set that was named.
    #[error("the backup holds no {shard}, but {}", list(there_are))]
    NoSuchShard {
        /// What was named.
        shard: ShardName,
        /// What there is.
        there_are: Vec<String>,
    },
    /// The file table is damaged or cannot be read.
    #[error(transparent)]
    Table(#[from] VerifyError),
    /// It was told to stop.
    #[error("stopped before it was done")]
    Cancelled,
    /// It was told to stop when something was in the target already.
    #[error("interrupted: the restore into {path} is not complete", path = .path.display())]
    Interrupted {
        /// The target.
        path: PathBuf,
    },
}

impl RestoreError {
    /// For `map_err` on file system calls.
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

fn list(names: &[String]) -> String {
    names.join(", ")
}

impl Explain for RestoreError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } | Self::Died { .. } | Self::Cancelled => None,
            Self::TargetNotEmpty { .. } => {
                Some("name a new or an empty directory: a restore never overwrites".into())
            }
            Self::TargetUnfinished { path } | Self::Interrupted { path } => Some(format!(
                "it is no good copy; remove {} and restore again",
                path.display()
            )),
            Self::TargetInUse { .. } => Some(
                "stop that mongod (and keep its service from restarting it), or name another directory".into(),
            ),
            Self::TargetNotDirectory { .. } => Some("name a directory".into()),
            Self::NoParent { parent, .. } => Some(format!(
                "create {} (or mount what belongs there) first",
                parent.display()
            )),
            Self::NoSpace { .. } => Some("name a directory on a larger file system".into()),
            Self::NoMongod { .. } | Self::UnknownVersion { .. } => {
                Some("give --mongod PATH to a mongod binary".into())
            }
            Self::WrongVersion { needed, found, .. } => Some(if needed.same_series(found) {
                format!("give --mongod PATH to a {needed} binary, or a later one of {}", needed.series())
            } else {
                format!("give --mongod PATH to a {} binary", needed.series())
            }),
            Self::DiedAtStart { .. } => Some(
                "the line is from mongod's own log; if the data is at fault, `verify` tells whether the stored archive is".into(),
            ),
            Self::NotReady { .. } | Self::NotStopped { .. } => {
                Some("see whether the disk or the host is overloaded, and try again".into())
            }
            Self::Mongo(error) => error.hint(),
            Self::Encrypted { .. } => Some(
                "restore without --member, then start mongod with its key and reconfigure it by hand: see doc/operations.md".into(),
            ),
            Self::Sharded { .. } => Some(
                "restore without --member and follow \"A sharded cluster\" in doc/operations.md".into(),
            ),
            Self::OtherOptime { .. } => Some(
                "do not use this copy; run `verify ID`, and restore another backup if it fails".into(),
            ),
            Self::NotSettled { .. } => Some("do not use this copy; try again".into()),
            Self::WhichShard { .. } | Self::NoSuchShard { .. } => Some("name one with --shard NAME".into()),
            Self::Table(error) => error.hint(),
            Self::Unpack { cause, .. } => cause.hint(),
            Self::NotProven { .. } => Some(
                "if `verify ID` finds the stored archive intact, the member itself is damaged: validate it, and resync it".into(),
            ),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::OtherOptime { .. } | Self::NotProven { .. } => Exit::Damaged,
            Self::WhichShard { .. } | Self::NoSuchShard { .. } => Exit::Usage,
            Self::Table(error) => error.exit(),
            Self::Unpack { cause, .. } => cause.exit(),
            Self::Cancelled | Self::Interrupted { .. } => Exit::Interrupted,
            Self::Mongo(_)
            | Self::Io { .. }
            | Self::TargetNotEmpty { .. }
            | Self::TargetUnfinished { .. }
            | Self::TargetInUse { .. }
            | Self::TargetNotDirectory { .. }
            | Self::NoParent { .. }
            | Self::NoSpace { .. }
            | Self::NoMongod { .. }
            | Self::UnknownVersion { .. }
            | Self::WrongVersion { .. }
            | Self::DiedAtStart { .. }
            | Self::Died { .. }
            | Self::NotReady { .. }
            | Self::NotStopped { .. }
            | Self::Encrypted { .. }
            | Self::Sharded { .. }
            | Self::NotSettled { .. } => Exit::Restore,
        }
    }
}
