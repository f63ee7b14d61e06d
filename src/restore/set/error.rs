//! What can go wrong on the way back of a set of snapshots.

use thiserror::Error;

use super::links::LinkError;
use crate::backup::journal::JournalError;
use crate::backup::run::Unreleased;
use crate::copies::CopyError;
use crate::error::{Exit, Explain};
use crate::restore::RestoreError;

/// Why a set of snapshots was not restored.
#[derive(Debug, Error)]
pub enum SetError {
    /// The copies of the volumes.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// Links of a copy.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Target, member, or settling.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// Another restore is at work in the same place.
    #[error("another restore is at work in {}", path.display())]
    Claimed {
        /// The directory.
        path: std::path::PathBuf,
    },
    /// The run journal could not be kept.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A volume could not be read through.
    #[error("cannot read {} through: {source}", path.display())]
    Warm {
        /// The device.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What is no part of restoring volumes.
    #[error("--only names files of archives, and this backup is of EBS snapshots")]
    Only,
    /// The run journal stays, and names what was given back.
    #[error("{}{source}", describe(made))]
    JournalStays {
        /// What went wrong before, if anything did.
        made: Option<Box<SetError>>,
        /// Why it stays.
        source: JournalError,
    },
    /// Something could not be given back.
    #[error("{}{}", describe(made), list(unreleased))]
    StillHeld {
        /// What went wrong before, if anything did.
        made: Option<Box<SetError>>,
        /// What is still held.
        unreleased: Vec<Unreleased>,
    },
}

fn describe(made: &Option<Box<SetError>>) -> String {
    made.as_ref().map_or_else(
        || "the set is restored, but ".to_owned(),
        |error| format!("{error}; besides, "),
    )
}

fn list(unreleased: &[Unreleased]) -> String {
    let one =
        |left: &Unreleased| format!("{} could not be given back: {}", left.resource, left.error);
    unreleased.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl Explain for SetError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Copy(error) => error.hint(),
            Self::Link(error) => error.hint(),
            // Everything was given back: there is nothing to be removed by hand.
            Self::Restore(RestoreError::Interrupted { .. }) | Self::Warm { .. } => None,
            Self::Restore(error) => error.hint(),
            Self::Journal(error) => error.hint(),
            Self::Claimed { .. } => Some("name another directory with --to".into()),
            Self::Only => Some("restore it without --only, and copy the files".into()),
            Self::JournalStays { .. } => Some("run `freezeframe recover`".into()),
            Self::StillHeld { unreleased, .. } => unreleased
                .iter()
                .find_map(|left| left.error.hint())
                .or_else(|| Some("run `freezeframe recover`".into())),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Copy(error) => error.exit(),
            Self::Link(error) => error.exit(),
            Self::Restore(error) => error.exit(),
            Self::Warm { source, .. } if source.kind() == std::io::ErrorKind::Interrupted => {
                Exit::Interrupted
            }
            Self::Journal(_) | Self::Warm { .. } | Self::Claimed { .. } => Exit::Restore,
            Self::Only => Exit::Usage,
            Self::JournalStays { .. } | Self::StillHeld { .. } => Exit::StillHeld,
        }
    }
}
