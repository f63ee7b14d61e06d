//! Why there is no backup.

use thiserror::Error;

use crate::backup::journal::JournalError;
use crate::backup::lease::LeaseError;
use crate::backup::picture::PictureError;
use crate::backup::preflight::PreflightError;
use crate::backup::run::Unreleased;
use crate::backup::upload::UploadError;
use crate::backup::window::WindowError;
use crate::copies::CopyError;
use crate::ebs::EbsError;
use crate::error::{Exit, Explain};
use crate::hooks::HookError;
use crate::ids::MemberAddr;
use crate::kept::KeptError;

/// Why there is no backup.
#[derive(Debug, Error)]
pub enum BackupError {
    /// Something stands in its way.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// The operator's hook did not let it begin.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The run could not begin: its journal cannot be made, or another one is at work.
    #[error(transparent)]
    NotBegun(JournalError),
    /// The run journal could not be kept.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Another host writes a backup of this deployment.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The window was not valid.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// A snapshot could not be mounted, overflowed or could not be removed.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The volumes' snapshots were not made, or are not complete.
    #[error(transparent)]
    Ebs(#[from] EbsError),
    /// Copies of volumes could not be made of a set.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The set could not be written.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The balancer was started, or a migration began, while the members were held.
    #[error("the cluster did not stand still: {detail}")]
    ChunksMoved {
        /// What was found after the window.
        detail: String,
    },
    /// A kept snapshot could not be taken, found or used.
    #[error(transparent)]
    Kept(#[from] KeptError),
    /// A file system of the member is not in the picture; a defect of this program.
    #[error("the picture does not hold all of {member}'s data")]
    NoPicture {
        /// The member.
        member: MemberAddr,
    },
    /// The run journal stays, and names what was given back.
    #[error("{}{source}", describe(made))]
    JournalStays {
        /// What went wrong before, if anything did.
        made: Option<Box<BackupError>>,
        /// Why it stays.
        source: JournalError,
    },
    /// Something could not be given back.
    #[error("{}{}", describe(made), list(unreleased))]
    StillHeld {
        /// What went wrong before, if anything did.
        made: Option<Box<BackupError>>,
        /// What is still held.
        unreleased: Vec<Unreleased>,
    },
}

fn describe(made: &Option<Box<BackupError>>) -> String {
    made.as_ref().map_or_else(
        || "what was asked for is done and complete, but ".to_owned(),
        |error| format!("{error}; besides, "),
    )
}

fn list(unreleased: &[Unreleased]) -> String {
    let one =
        |left: &Unreleased| format!("{} could not be given back: {}", left.resource, left.error);
    unreleased.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl BackupError {
    /// The error of a run that made `made` and left `unreleased`.
    pub fn settle<T>(made: Result<T, Self>, unreleased: Vec<Unreleased>) -> Self {
        match made {
            Err(error) if unreleased.is_empty() => error,
            made => Self::StillHeld {
                made: made.err().map(Box::new),
                unreleased,
            },
        }
    }
}

impl Explain for BackupError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Preflight(error) => error.hint(),
            Self::Hook(error) => error.hint(),
            Self::NotBegun(error) | Self::Journal(error) => error.hint(),
            Self::Lease(error) => error.hint(),
            Self::Window(error) => error.hint(),
            Self::Picture(error) => error.hint(),
            Self::Ebs(error) => error.hint(),
            Self::Copy(error) => error.hint(),
            Self::Upload(error) => error.hint(),
            Self::Kept(error) => error.hint(),
            Self::NoPicture { .. } => None,
            Self::ChunksMoved { .. } => Some(
                "keep the balancer stopped (sh.stopBalancer() on a mongos) until the backup has ended, and run it again".into(),
            ),
            Self::JournalStays { .. } => Some("run `freezeframe recover`".into()),
            Self::StillHeld { unreleased, .. } => unreleased
                .iter()
                .find_map(|left| left.error.hint())
                .or_else(|| Some("run `freezeframe recover`".into())),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Preflight(error) => error.exit(),
            Self::Hook(error) => error.exit(),
            // As `check` says it.
            Self::NotBegun(_) => Exit::Refused,
            Self::Journal(error) => match error.exit() {
                // Everything was given back; where the journal does not say so `recover` finds out.
                Exit::Failed => Exit::BackupFailed,
                exit => exit,
            },
            Self::Lease(error) => error.exit(),
            Self::Window(error) => error.exit(),
            Self::Picture(error) => error.exit(),
            Self::Ebs(error) => error.exit(),
            Self::Copy(error) => match error.exit() {
                Exit::Restore => Exit::BackupFailed,
                exit => exit,
            },
            Self::Upload(error) => match error.exit() {
                // Nothing stored is damaged: it was not stored.
                Exit::Failed => Exit::BackupFailed,
                exit => exit,
            },
            Self::Kept(error) => error.exit(),
            Self::NoPicture { .. } | Self::ChunksMoved { .. } => Exit::BackupFailed,
            Self::JournalStays { .. } | Self::StillHeld { .. } => Exit::StillHeld,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io() -> JournalError {
        JournalError::Io {
            action: "write",
            path: "/var/lib/freezeframe/runs/x.journal".into(),
            source: std::io::ErrorKind::StorageFull.into(),
        }
    }

    #[test]
    fn a_journal_that_fails_fails_the_backup_and_one_that_stays_wants_recover() {
        assert_eq!(BackupError::from(io()).exit(), Exit::BackupFailed);
        assert_eq!(BackupError::from(JournalError::Busy).exit(), Exit::Refused);
        let complete = BackupError::JournalStays {
            made: None,
            source: io(),
        };
        assert_eq!(complete.exit(), Exit::StillHeld);
        assert!(
            complete
                .to_string()
                .starts_with("what was asked for is done")
        );
        assert!(complete.hint().is_some_and(|hint| hint.contains("recover")));
        let failed = BackupError::JournalStays {
            made: Some(Box::new(JournalError::Busy.into())),
            source: io(),
        };
        assert!(failed.to_string().starts_with("another backup"), "{failed}");
    }
}
