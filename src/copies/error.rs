//! Why copies of volumes are not there, or do not go.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::backup::journal::JournalError;
use crate::ebs::{EbsError, Kind};
use crate::error::{Exit, Explain};
use crate::exec::ExecError;
use crate::snapshot::SnapshotError;
use crate::verify::VerifyError;

/// Why copies of volumes are not there, or do not go.
#[derive(Debug, Error)]
pub enum CopyError {
    /// EC2.
    #[error(transparent)]
    Ebs(#[from] EbsError),
    /// Snapshots that are not there, or are not complete.
    #[error(transparent)]
    Snapshots(#[from] VerifyError),
    /// The run journal could not be kept.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An external command.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A mount.
    #[error(transparent)]
    Mount(#[from] SnapshotError),
    /// A file could not be used.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A device of ours that somebody else's disk lies under.
    #[error("{device} lies on {disk} too, which is no copy of ours")]
    Foreign {
        /// Kernel name.
        device: String,
        /// Kernel name.
        disk: String,
    },
    /// A disk that is used.
    #[error("{disk} is in use: something is mounted from it, or lies on it")]
    InUse {
        /// Kernel name.
        disk: String,
    },
    /// A disk that has to go before something else.
    #[error("it stays as long as {disk} is attached")]
    Attached {
        /// Kernel name.
        disk: String,
    },
    /// An array that does not start.
    #[error("the array of {} does not start: {reason}", members.join(", "))]
    Array {
        /// Kernel names.
        members: Vec<String>,
        /// What mdadm said.
        reason: String,
    },
    /// A group that has the name or UUID of another one here, and is not whole.
    #[error(
        "volume group {group} is on this host already, and {missing} of its physical volumes are not in the set: it cannot get another name"
    )]
    PartialGroup {
        /// Its name.
        group: String,
        /// How many.
        missing: u32,
    },
    /// A file system that we do not mount.
    #[error("{} is {kind}, which is not mounted by freezeframe", mount_point.display())]
    OtherKind {
        /// Where it was mounted.
        mount_point: PathBuf,
        /// Its type.
        kind: String,
    },
    /// No file system fits.
    #[error("none of the file systems on the copies is the {kind} that was mounted at {}; there are: {}", mount_point.display(), found.join(", "))]
    NoFilesystem {
        /// Where it was mounted.
        mount_point: PathBuf,
        /// Its type.
        kind: String,
        /// What there is.
        found: Vec<String>,
    },
    /// Several fit.
    #[error("any of {} may be what was mounted at {}", devices.join(", "), mount_point.display())]
    Ambiguous {
        /// Where it was mounted.
        mount_point: PathBuf,
        /// Kernel names.
        devices: Vec<String>,
    },
    /// We were asked to end.
    #[error("interrupted")]
    Interrupted,
}

impl CopyError {
    /// For `map_err` on what reads `path`.
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action: "read",
            path,
            source,
        }
    }
}

impl Explain for CopyError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Ebs(error) => error.hint(),
            Self::Snapshots(error) => error.hint(),
            Self::Journal(error) => error.hint(),
            Self::Exec(error) => error.hint(),
            Self::Mount(error) => error.hint(),
            Self::Io { .. } | Self::Attached { .. } | Self::Interrupted => None,
            Self::Foreign { device, .. } => Some(format!(
                "see what {device} is (lsblk, cat /proc/mdstat), take our disk out of it, and run `freezeframe recover`"
            )),
            Self::InUse { disk } => Some(format!(
                "see who uses it (lsblk /dev/{disk}, fuser -vm), end that, and run `freezeframe recover`"
            )),
            Self::Array { .. } => Some(
                "nothing is forced; to look into it bring the volumes up by hand (doc/ebs.md)"
                    .into(),
            ),
            Self::PartialGroup { .. } => {
                Some("restore on an instance that does not have that group".into())
            }
            Self::OtherKind { .. } | Self::NoFilesystem { .. } | Self::Ambiguous { .. } => {
                Some("bring the volumes up by hand (doc/ebs.md, \"By hand\")".into())
            }
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Ebs(EbsError::Call(error)) => match error.kind {
                Kind::Interrupted => Exit::Interrupted,
                _ => Exit::Restore,
            },
            Self::Ebs(error) => error.exit(),
            Self::Snapshots(error) => error.exit(),
            Self::OtherKind { .. } => Exit::Refused,
            Self::Interrupted => Exit::Interrupted,
            Self::Journal(_)
            | Self::Exec(_)
            | Self::Mount(_)
            | Self::Io { .. }
            | Self::Foreign { .. }
            | Self::InUse { .. }
            | Self::Attached { .. }
            | Self::Array { .. }
            | Self::PartialGroup { .. }
            | Self::NoFilesystem { .. }
            | Self::Ambiguous { .. } => Exit::Restore,
        }
    }
}
