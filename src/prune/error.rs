//! Why a backup that the plan drops stays, or is half removed.

use thiserror::Error;

use crate::backup::journal::JournalError;
use crate::backup::run::Unreleased;
use crate::catalog::CatalogError;
use crate::ebs::ids::SnapshotId;
use crate::ebs::{CallFailed, EbsError, Kind, Place};
use crate::error::Explain;
use crate::ids::BackupId;
use crate::store::StoreError;

/// Why a backup stays, or is half removed.
#[derive(Debug, Error)]
pub enum RemoveError {
    /// The store did not do what was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its manifest cannot be read, so nobody knows which snapshots are its.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// EC2 cannot be asked whether its snapshots may be deleted. Nothing was done.
    #[error("its snapshots cannot be looked at: {0}")]
    Ebs(#[from] EbsError),
    /// Nobody may delete them yet. Nothing was done.
    #[error("{count} of its snapshots in {place} are locked")]
    Locked {
        /// How many.
        count: usize,
        /// Where.
        place: Place,
    },
    /// EC2 shows none of them. Nothing was done.
    #[error("EC2 shows none of its snapshots in {place}")]
    Unseen {
        /// Where.
        place: Place,
    },
    /// Its manifest names a snapshot that bears no tags of it. Nothing was done.
    #[error("{snapshot} in {place} is a part of it by its manifest and not by its tags")]
    NotOfTheSet {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Where.
        place: Place,
    },
    /// The backup that is to stay in its place lacks snapshots. Nothing was done.
    #[error("{newest}, which is to stay in its place, is not whole: {problem}")]
    NewestIsGone {
        /// The newest good one of its series.
        newest: BackupId,
        /// What was found of it.
        problem: String,
    },
    /// The journal cannot say what is about to be deleted. Nothing was done.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It is no backup any more, and some of its snapshots are still there. The journal names them.
    #[error("its snapshots are not all deleted: {}", .0.error)]
    Left(Box<Unreleased>),
}

/// What a failure says of other backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Nothing.
    This,
    /// EC2 will not do the same for others either.
    Snapshots,
    /// The store will not, or the journal.
    All,
}

impl RemoveError {
    /// What it says of other backups: who does not answer would be asked in vain for each.
    pub fn reach(&self) -> Reach {
        match self {
            // What may not be removed keeps nothing else.
            Self::Store(error) if error.is_denial() => Reach::This,
            Self::Store(_) | Self::Journal(_) | Self::Catalog(CatalogError::Store(_)) => Reach::All,
            Self::Catalog(_)
            | Self::Locked { .. }
            | Self::Unseen { .. }
            | Self::NotOfTheSet { .. } => Reach::This,
            Self::Ebs(_) | Self::Left(_) | Self::NewestIsGone { .. } => Reach::Snapshots,
        }
    }

    /// Whether we were asked to end.
    pub fn is_interruption(&self) -> bool {
        matches!(
            self,
            Self::Store(StoreError::Interrupted { .. })
                | Self::Catalog(CatalogError::Store(StoreError::Interrupted { .. }))
                | Self::Ebs(EbsError::Call(CallFailed {
                    kind: Kind::Interrupted,
                    ..
                }))
        )
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(StoreError::Denied { .. }) => Some(
                "object lock or a policy keeps it; a later prune removes it when the lock has ended. Pruning needs s3:DeleteObject, as in packaging/s3-policy.json"
                    .into(),
            ),
            Self::Store(error) => error.hint(),
            Self::Catalog(error) => error.hint(),
            Self::Ebs(error) => error.hint(),
            Self::Locked { .. } => {
                Some("a later prune removes it when the lock has ended".into())
            }
            Self::Unseen { .. } => Some(
                "look whether they were deleted by hand, or whether the credentials are another account's; where they are gone, remove the set's folder from the store"
                    .into(),
            ),
            Self::NotOfTheSet { .. } => Some(
                "nothing of it was deleted: who changed the manifest, or took the tags `freezeframe` and `freezeframe-run` off the snapshot? Delete by hand what is to go, and then the set's folder in the store"
                    .into(),
            ),
            Self::NewestIsGone { newest, .. } => {
                Some(format!("make a new backup first; `freezeframe verify {newest}` says more"))
            }
            Self::Journal(error) => error.hint(),
            Self::Left(_) => Some("run `freezeframe recover`, which deletes the rest".into()),
        }
    }
}
