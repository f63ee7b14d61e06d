//! Why there was no valid window.

use thiserror::Error;

use crate::backup::guard::GuardError;
use crate::backup::journal::JournalError;
use crate::error::{Exit, Explain};
use crate::exec::ExecError;
use crate::ids::MemberAddr;
use crate::mongo::MongoError;

/// Why there was no valid window. Nothing is locked any more, unless it is [`WindowError::StillLocked`].
#[derive(Debug, Error)]
pub enum WindowError {
    /// The plan could not be written down.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The guard could not guard or had to act.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The timer could not be armed.
    #[error("cannot arm the recovery timer: {0}")]
    Timer(ExecError),
    /// A member could not be flushed, locked or read.
    #[error(transparent)]
    Mongo(#[from] MongoError),
    /// A lock command was not answered in time. What there was of it is given back.
    #[error("{member} did not answer the lock ({detail}); it is not locked by us any more")]
    LockUnanswered {
        /// The member.
        member: MemberAddr,
        /// A timeout, or how the connection broke.
        detail: String,
    },
    /// A lock was not the only one.
    #[error("{member} had {count} locks after ours: somebody else holds it locked, too")]
    ForeignLock {
        /// The member.
        member: MemberAddr,
        /// Its lock count.
        count: i64,
    },
    /// Our lock was gone before we gave it back.
    #[error("{member} was not locked any more before it was to be unlocked: {found}")]
    LostLock {
        /// The member.
        member: MemberAddr,
        /// What was found instead.
        found: &'static str,
    },
    /// What was to be done in the window failed.
    #[error("{0}")]
    Work(super::WorkError),
    /// We were asked to end.
    #[error("interrupted: no backup was made")]
    Interrupted,
    /// A member could not be unlocked.
    #[error("{} may still be locked", members.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    StillLocked {
        /// The members.
        members: Vec<MemberAddr>,
    },
}

impl Explain for WindowError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Journal(error) => error.hint(),
            Self::Guard(error) => error.hint(),
            Self::Mongo(error) => error.hint(),
            Self::Work(error) => error.hint(),
            Self::LockUnanswered { .. } => Some(
                "see whether the member is overloaded (a lock waits for the operations before it); run the backup again, with \
                 a longer [window] max_lock if need be"
                    .into(),
            ),
            Self::ForeignLock { .. } => {
                Some("find who runs fsyncLock on this member, and let them finish first".into())
            }
            Self::LostLock { .. } => {
                Some("find who restarted or unlocked the member; run the backup again".into())
            }
            Self::StillLocked { .. } => Some("run `freezeframe recover` now".into()),
            Self::Timer(_) | Self::Interrupted => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::StillLocked { .. } => Exit::StillHeld,
            Self::Interrupted => Exit::Interrupted,
            Self::Work(error) => match error.exit() {
                Exit::Failed => Exit::BackupFailed,
                exit => exit,
            },
            _ => Exit::BackupFailed,
        }
    }
}
