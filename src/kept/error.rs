//! What can go wrong with kept snapshots.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::error::{Exit, Explain};
use crate::ids::{Label, RunId};
use crate::manifest::seal::SealError;
use crate::snapshot::{Origin, SnapshotError};

/// Why a kept snapshot cannot be taken, found or used.
#[derive(Debug, Error)]
pub enum KeptError {
    /// A record could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A record is not as it was written.
    #[error("{}: {source}", path.display())]
    Damaged {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        source: SealError,
    },
    /// Nothing of that name is kept.
    #[error("no kept snapshot is called {which}")]
    NoSuch {
        /// The name.
        which: String,
        /// The labels of those that are kept.
        there_are: Vec<String>,
    },
    /// Two of one label could not be told apart.
    #[error("a snapshot labelled {label} is kept already, by run {run}")]
    LabelTaken {
        /// The label.
        label: Label,
        /// Whose it is.
        run: RunId,
    },
    /// The provider takes no pictures.
    #[error("the provider takes no picture that could be kept")]
    NoPicture,
    /// What is kept is worth nothing any more.
    #[error("{name} cannot be used: {reason}")]
    Lost {
        /// The kept snapshot.
        name: String,
        /// Why.
        reason: String,
    },
    /// Some of it is put back, and the rest was lost before it could be.
    #[error(
        "{name} cannot be put back whole: other volumes hold their old data, and the snapshot of {origin} {how}"
    )]
    Torn {
        /// The kept snapshot.
        name: String,
        /// The volume that is as new as it was.
        origin: Origin,
        /// What became of its snapshot.
        how: &'static str,
        /// Where its record lies.
        record: PathBuf,
    },
    /// Nobody can tell now what it is worth.
    #[error("{name} cannot be looked at: {reason}")]
    Unknown {
        /// The kept snapshot.
        name: String,
        /// Why.
        reason: String,
    },
    /// It would not go, and so is kept still.
    #[error("{name} is not removed: {reason}")]
    Stays {
        /// The kept snapshot.
        name: String,
        /// Why.
        reason: String,
    },
    /// It cannot be put back as things are.
    #[error("{name} cannot be put back: {reason}")]
    NotNow {
        /// The kept snapshot.
        name: String,
        /// Why.
        reason: String,
        /// What to do about it.
        todo: String,
    },
    /// Its volumes, mounts or commands.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Only what is whole can be removed.
    #[error("{name} is being put back, or that was cut off")]
    RollingBack {
        /// The kept snapshot.
        name: String,
    },
    /// It was put back, and its space is not free yet.
    #[error("{name} is put back, and still being merged")]
    StillMerging {
        /// The kept snapshot.
        name: String,
    },
}

impl KeptError {
    /// The run whose record is damaged.
    pub fn run(&self) -> Option<RunId> {
        match self {
            Self::Damaged { path, .. } => path.parent()?.file_name()?.to_str()?.parse().ok(),
            _ => None,
        }
    }
}

impl Explain for KeptError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Snapshot(error) => return error.hint(),
            Self::RollingBack { name } => format!(
                "go on with it: freezeframe rollback {} --yes",
                name.split(' ').next().unwrap_or(name)
            ),
            Self::StillMerging { name } => format!(
                "it goes on by itself; `freezeframe rollback {} --yes` waits for it and tidies up",
                name.split(' ').next().unwrap_or(name)
            ),
            Self::Io { .. } => "run freezeframe as root; see [host] state_dir".into(),
            Self::Damaged {
                source: source @ SealError::Future { .. },
                ..
            } => return source.hint(),
            Self::Unknown { .. } => "see that its volumes are there and active, and look again; it may be good, so do not remove it".into(),
            Self::Stays { .. } => "see who uses it (lsblk, fuser), and remove it again".into(),
            Self::Damaged { path, .. } => format!(
                "nothing else tells what it was of: remove {} and the snapshots that `lvs @freezeframe` shows, once you know that nobody needs them",
                path.parent().unwrap_or(path).display()
            ),
            Self::NoSuch { there_are, .. } if there_are.is_empty() => {
                "none is kept; `freezeframe snapshot` takes one".into()
            }
            Self::NoSuch { there_are, .. } => format!("there are: {}", there_are.join(", ")),
            Self::LabelTaken { label, .. } => {
                format!(
                    "take another label, or remove it: freezeframe snapshot remove {label} --yes"
                )
            }
            Self::NoPicture => "set provider = \"auto\" in [window]".into(),
            Self::Lost { name, .. } => format!(
                "remove it: freezeframe snapshot remove {} --yes",
                name.split(' ').next().unwrap_or(name)
            ),
            Self::Torn { record, .. } => format!(
                "start no mongod on this mixture: mount the volumes that are not mounted, and `freezeframe restore` a backup or sync the member anew; then `rm -r {}`",
                record.display()
            ),
            Self::NotNow { todo, .. } => todo.clone(),
        })
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Snapshot(error) => error.exit(),
            Self::Damaged { source, .. } => source.exit(),
            Self::Unknown { .. } => Exit::Refused,
            Self::Stays { .. } => Exit::StillHeld,
            Self::StillMerging { .. } => Exit::Interrupted,
            Self::NoSuch { .. } => Exit::Usage,
            Self::RollingBack { .. }
            | Self::LabelTaken { .. }
            | Self::NoPicture
            | Self::NotNow { .. } => Exit::Refused,
            Self::Lost { .. } | Self::Torn { .. } => Exit::Damaged,
            Self::Io { .. } => Exit::Failed,
        }
    }
}
