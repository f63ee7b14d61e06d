//! Why a backup is not copied.

use thiserror::Error;

use crate::backup::journal::JournalError;
use crate::backup::lease::{Holder, LeaseError, Work};
use crate::backup::release::ReleaseError;
use crate::backup::upload::UploadError;
use crate::catalog::CatalogError;
use crate::error::{Exit, Explain};
use crate::ids::BackupId;
use crate::store::StoreError;

/// Why a backup is not copied. Nothing half copied is visible as a backup.
#[derive(Debug, Error)]
pub enum CopyError {
    /// One of the stores failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store that is read failed under one of the backup's objects.
    #[error("what is to be copied cannot be read: {0}")]
    Source(StoreError),
    /// The backup cannot be read, or its copy not be written.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Somebody else is at work in the store that it goes to.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store that it goes to does not hold what it was sent.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// What is read is not what the manifest says.
    #[error(
        "{object} of {id} in {store} is damaged: its bytes have another hash than the manifest says"
    )]
    Damaged {
        /// The store that it was read from.
        store: String,
        /// The backup.
        id: BackupId,
        /// The object's name in the set.
        object: String,
    },
    /// Another backup has its name.
    #[error("{store} holds another backup, or a part of one, that is called {id}")]
    NameTaken {
        /// The store that it goes to.
        store: String,
        /// The name.
        id: BackupId,
    },
    /// The backup that was just made is not where it was made.
    #[error("{store} does not hold {id} any more, which was just made there")]
    Gone {
        /// The store that was to be read.
        store: String,
        /// The backup.
        id: BackupId,
    },
    /// What is there is of no use.
    #[error("{store} holds a copy of {id} that is not good")]
    NotGood {
        /// The store that it was copied to.
        store: String,
        /// The backup.
        id: BackupId,
    },
    /// Something of the copy is still held.
    #[error("something is left: {error}{}", .besides.as_ref().map_or_else(String::new, |besides| format!("; and {besides}")))]
    StillHeld {
        /// Why it is.
        error: ReleaseError,
        /// What ended the copy before that.
        besides: Option<Box<CopyError>>,
    },
}

impl CopyError {
    /// Who copies to the same store just now, where that is all.
    pub fn copied_by(&self) -> Option<&Holder> {
        match self {
            Self::Lease(LeaseError::Held { holder, .. }) if holder.work == Work::Copy => {
                Some(holder)
            }
            _ => None,
        }
    }

    /// The object of the backup that turned out to be damaged where it was read.
    pub fn damaged(&self) -> Option<&str> {
        match self {
            Self::Damaged { object, .. } => Some(object),
            Self::StillHeld {
                besides: Some(besides),
                ..
            } => besides.damaged(),
            _ => None,
        }
    }

    /// Whether the backup went while it was on its way: then nothing lacks.
    pub fn is_pruned_meanwhile(&self) -> bool {
        matches!(
            self,
            Self::Catalog(CatalogError::NoSuchSet { .. } | CatalogError::Unfinished { .. })
        )
    }

    /// Whether it says something of this backup alone, so that others may do better.
    pub fn is_of_one_backup(&self) -> bool {
        match self {
            Self::Source(error) => error.exit() != Exit::Interrupted,
            Self::Damaged { .. }
            | Self::NameTaken { .. }
            | Self::NotGood { .. }
            | Self::Lease(LeaseError::Held { .. }) => true,
            Self::Catalog(error) => !matches!(error, CatalogError::Store(_)),
            _ => false,
        }
    }
}

impl Explain for CopyError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) | Self::Source(error) => error.hint(),
            Self::Catalog(error) => error.hint(),
            Self::Lease(error) => error.hint(),
            Self::Journal(error) => error.hint(),
            Self::Upload(error) => error.hint(),
            Self::Damaged { id, .. } => Some(format!(
                "`freezeframe verify {id}` tells what else is; make a new backup, and see to the store's disks"
            )),
            Self::NameTaken { .. } => Some(
                "hosts that make backups in stores of their own need places of their own for the copies, such as s3://bucket/host: see [[copy]] url".into(),
            ),
            Self::Gone { .. } => Some(
                "a store that the hook `before` mounts has to stay mounted until the hooks `after` and `failed`: `finally` is too early where backups are copied".into(),
            ),
            Self::NotGood { store, id } => Some(format!(
                "`freezeframe list --store {store}` tells why; delete {id}/ there, and it is copied anew"
            )),
            Self::StillHeld { .. } => Some("run `freezeframe recover`".into()),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Store(error) | Self::Source(error) => error.exit(),
            Self::Catalog(error) => error.exit(),
            // There is the backup all the same.
            Self::Lease(LeaseError::Lost { .. }) => Exit::Store,
            Self::Lease(error) => error.exit(),
            Self::Journal(error) => error.exit(),
            Self::Upload(error) => error.exit(),
            Self::Damaged { .. } | Self::NotGood { .. } => Exit::Damaged,
            Self::NameTaken { .. } | Self::Gone { .. } => Exit::Store,
            Self::StillHeld { .. } => Exit::StillHeld,
        }
    }
}
