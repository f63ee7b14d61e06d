//! Why something could not be given back.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::catalog::CatalogError;
use crate::copies::CopyError;
use crate::ebs::EbsError;
use crate::error::{Exit, Explain};
use crate::exec::ExecError;
use crate::human;
use crate::ids::{BackupId, MemberAddr};
use crate::mongo::MongoError;
use crate::snapshot::SnapshotError;
use crate::store::StoreError;

/// Why something could not be given back.
#[derive(Debug, Error)]
pub enum ReleaseError {
    /// The member cannot be reached.
    #[error("cannot unlock {member}: {source}")]
    Mongo {
        /// The member.
        member: MemberAddr,
        /// What happened.
        source: MongoError,
    },
    /// The member does not answer.
    #[error("{member} did not answer within {}", human::duration(*.patience))]
    Unanswered {
        /// The member.
        member: MemberAddr,
        /// How long it was tried.
        patience: Duration,
    },
    /// Snapshot or mount.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// EC2.
    #[error(transparent)]
    Ebs(#[from] EbsError),
    /// Copies of volumes.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing at all in the store, in which at least leases must be.
    #[error("{store} holds nothing, not even a lease, so nobody knows whether {set} is a backup")]
    OtherStore {
        /// Its address.
        store: String,
        /// The set.
        set: BackupId,
    },
    /// A set without its manifest, and somebody wants it.
    #[error("{set} has lost its manifest while somebody began to hold or read it")]
    Taken {
        /// The set.
        set: BackupId,
    },
    /// The set's statement of intent, which tells whose it is.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// An external command.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A recovery timer, as long as there is a lock for it.
    #[error("it stays armed: a lock of the run is not given back")]
    Armed,
    /// A directory of ours.
    #[error("cannot remove {}: {source}", path.display())]
    Remove {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ReleaseError {
    /// Whether a directory of ours holds something else by now, or is none any more.
    pub fn is_somebody_elses(&self) -> bool {
        use std::io::ErrorKind::{DirectoryNotEmpty, NotADirectory};
        matches!(self, Self::Remove { source, .. } if matches!(source.kind(), DirectoryNotEmpty | NotADirectory))
    }
}

impl Explain for ReleaseError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Mongo { member, source } if source.is_denied() => Some(format!(
                "writes to {member} are held: as an administrator run `db.fsyncUnlock()` on it, or grant our user the action unlock \
                 (mongodb-role.js) and run `freezeframe recover`"
            )),
            Self::Mongo { member, .. } | Self::Unanswered { member, .. } => Some(format!(
                "writes to {member} may be held: run `freezeframe unlock --member {member} --yes`; \
                 if mongod cannot be reached at all, restarting it ends the lock too"
            )),
            Self::Snapshot(error) => error.hint(),
            Self::Ebs(error) => error.hint(),
            Self::Copy(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Catalog(error) => error.hint(),
            Self::Exec(error) => error.hint(),
            Self::OtherStore { .. } => {
                Some("mount what belongs there, then run `freezeframe recover`".into())
            }
            Self::Taken { .. } => Some(
                "in the set, rename manifest.removed.json to manifest.json, or release the hold; then run `freezeframe recover`"
                    .into(),
            ),
            Self::Armed | Self::Remove { .. } => None,
        }
    }

    fn exit(&self) -> Exit {
        Exit::StillHeld
    }
}
