//! Why there is no lease.

use thiserror::Error;

use super::{Holder, RELEASED, Scope};
use crate::error::{Exit, Explain};
use crate::store::StoreError;

/// Why there is no lease.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// Another host is at work.
    #[error("{store}: {holder}")]
    Held {
        /// The store.
        store: String,
        /// Who is.
        holder: Holder,
    },
    /// Somebody holds it, and cannot be told from what is stored.
    #[error("{key} in {store} cannot be read ({reason}): another host may be writing a backup")]
    Unreadable {
        /// The store.
        store: String,
        /// The object.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Others were faster every time.
    #[error("others keep taking and giving back the lease on {scope} in {store}")]
    Contended {
        /// The store.
        store: String,
        /// What it is on.
        scope: Scope,
    },
    /// It was ours, and is not any more.
    #[error(
        "the lease on {scope} in {store} is not ours any more: another host may have written to it meanwhile"
    )]
    Lost {
        /// The store.
        store: String,
        /// What it was on.
        scope: Scope,
    },
    /// Our own cannot be written down; a defect of this program.
    #[error("cannot write a lease: {0}")]
    Encode(#[from] serde_json::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explain for LeaseError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Held { holder, .. } => Some(holder.todo()),
            Self::Unreadable { key, .. } => Some(format!(
                "see that no other host is at work, with this or a newer version; then delete {key} from the store, or put an \
                 empty object {key}{RELEASED} beside it"
            )),
            Self::Contended { .. } => {
                Some("see what else uses this store, and try again later".into())
            }
            Self::Lost { .. } => Some(
                "see which host backs up this deployment beside this one, or who removed the lease; run the backup again".into(),
            ),
            Self::Encode(_) => None,
            Self::Store(error) => error.hint(),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Held { .. } | Self::Unreadable { .. } | Self::Contended { .. } => Exit::Refused,
            Self::Lost { .. } => Exit::BackupFailed,
            Self::Encode(_) => Exit::Failed,
            Self::Store(error) => error.exit(),
        }
    }
}
