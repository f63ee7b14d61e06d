//! Why there is no usable configuration.

use std::path::PathBuf;

use thiserror::Error;

use super::DEFAULT_PATH;
use crate::error::{Exit, Explain};
use crate::secret::SecretError;

/// Why there is no usable configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what it should be; the message names line and column.
    #[error("{}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        message: String,
    },
    /// Two settings contradict each other or one lacks another.
    #[error("{}: {message}", path.display())]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// What does not go together.
        message: String,
        /// What to write instead.
        fix: String,
    },
    /// A secret could not be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl Explain for ConfigError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Some(format!(
                    "`freezeframe setup` writes it (by hand two lines are enough: `[store]` and `url = \"file:///var/backups/freezeframe\"`), \
                 or name another with --config FILE or FREEZEFRAME_CONFIG; the default place is {DEFAULT_PATH}"
                ))
            }
            Self::Invalid { message, .. } if message.contains("duplicate key") => Some(
                "what stands in the file already is not written a second time: put the keys below the [table] that is there".into(),
            ),
            Self::Invalid { message, .. } if message.contains("invalid type: integer") => Some(
                "what is no plain number is written in quotes: durations and sizes with their unit (\"10s\", \"4GiB\"), accounts with their twelve digits".into(),
            ),
            Self::Inconsistent { fix, .. } => Some(fix.clone()),
            Self::Invalid { .. } => {
                Some("every key is explained in the shipped freezeframe.toml; only [store] url must be there".into())
            }
            Self::Read { source, path } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Some(format!(
                    "run freezeframe as root (sudo), or let this user's group read it: chgrp GROUP {0}; chmod 640 {0}",
                    path.display()
                ))
            }
            Self::Secret(error) => error.hint(),
            Self::Read { .. } => None,
        }
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }
}
