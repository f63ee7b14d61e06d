//! Exit codes, and what every error of every layer can say besides its message.
//!
//! Each layer has its own typed error. At the edge, `main` prints the message, its chain of
//! causes and the hint, and ends with the exit code.

/// The program's exit codes, documented in the man page and in README.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for was done.
    Done = 0,
    /// Something failed that fits no other code.
    Failed = 1,
    /// The command line or the configuration is wrong; nothing was touched.
    Usage = 2,
    /// A check refused the operation; nothing was touched.
    Refused = 3,
    /// The backup failed; no manifest was written and everything acquired was given back.
    BackupFailed = 4,
    /// The store did not do what was asked, or does not hold what was named.
    Store = 5,
    /// Stored data is damaged: a hash, size or structure is not what the manifest says.
    Damaged = 6,
    /// The restore failed or its target was refused.
    Restore = 7,
    /// Something is still held (a lock, a snapshot, a mount): run `freezeframe recover`.
    StillHeld = 8,
    /// `status` found something that somebody has to look at: a threshold is passed.
    Attention = 9,
    /// Ended by SIGINT or SIGTERM after giving everything back.
    Interrupted = 130,
}

/// What an error can say besides its message.
pub trait Explain: std::error::Error {
    /// What the operator should do next, in one or two sentences.
    fn hint(&self) -> Option<String> {
        None
    }

    /// The code the program ends with.
    fn exit(&self) -> Exit {
        Exit::Failed
    }

    /// The message, and what to do next, in one line.
    fn with_hint(&self) -> String {
        match self.hint() {
            Some(hint) => format!("{self}: {hint}"),
            None => self.to_string(),
        }
    }
}

impl Explain for crate::exec::ExecError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Start { .. } => {
                Some("install the package that carries this command, or put it in PATH".into())
            }
            Self::Failed { .. } | Self::TimedOut { .. } | Self::Interrupted { .. } => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Interrupted { .. } => Exit::Interrupted,
            Self::Start { .. } | Self::Failed { .. } | Self::TimedOut { .. } => Exit::Failed,
        }
    }
}

/// Any layer's error is also the edge's.
impl<E: Explain + Send + Sync + 'static> From<E> for Box<dyn Explain + Send + Sync> {
    fn from(error: E) -> Self {
        Box::new(error)
    }
}
