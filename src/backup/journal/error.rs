//! Why the run journal could not be kept or read.

use std::path::PathBuf;

use thiserror::Error;

use crate::error::{Exit, Explain};
use crate::ids::RunId;

/// Why the journal could not be kept or read.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The system refused.
    #[error("cannot {action} the run journal {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file does not hold records.
    #[error("the run journal {} is damaged in line {line}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// What the parser said.
        reason: String,
    },
    /// Another run is at work that bears no other beside it.
    #[error("another backup is at work on this host")]
    Busy,
    /// Its owner lives.
    #[error("run {run} (pid {pid}) is still at work")]
    Alive {
        /// The run.
        run: RunId,
        /// Its process.
        pid: u32,
    },
}

impl Explain for JournalError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } => Some(
                "[host] state_dir must be a directory this user can write to; until it is, `freezeframe unlock` tells whether a \
                 member is locked, and `freezeframe unlock --force --yes` unlocks it"
                    .into(),
            ),
            Self::Damaged { path, .. } => Some(format!(
                "see whether a member is locked (`freezeframe unlock`; `freezeframe unlock --force --yes` unlocks it), look for \
                 other leftovers by hand (`lvs @freezeframe`, `findmnt`), then remove {}",
                path.display()
            )),
            Self::Busy => Some("wait until it has ended".into()),
            Self::Alive { .. } => {
                Some("wait for it, or end it with SIGTERM; it gives back what it holds".into())
            }
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Alive { .. } | Self::Busy => Exit::Refused,
            _ => Exit::Failed,
        }
    }
}
