//! Passwords and passphrases: read from where only we may look, never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::error::{Exit, Explain};

/// A password or passphrase. Never printed, never serialized.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why a secret could not be had.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Its file cannot be read.
    #[error("cannot read the secret in {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its file can be read by everybody.
    #[error("the secret in {} can be read by every user of this host", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// Its file is empty.
    #[error("the secret in {} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// None was configured where one is needed.
    #[error("user {user} is configured, but no password")]
    Missing {
        /// The user.
        user: String,
    },
}

impl Explain for SecretError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } | Self::Empty { .. } => None,
            Self::Exposed { path } => Some(format!("chmod 600 {}", path.display())),
            Self::Missing { .. } => Some(
                "name a file in [mongodb] password_file, set FREEZEFRAME_MONGODB_PASSWORD, \
                 or give systemd a credential `mongodb-password` (LoadCredential=)"
                    .into(),
            ),
        }
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

impl Secret {
    /// Wraps a secret already at hand.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Reads the first line of `path`, which must not be readable by everybody.
    ///
    /// # Errors
    /// [`SecretError`] when it cannot be read, is exposed or is empty.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        use std::os::unix::fs::PermissionsExt;
        let read_error = |source| SecretError::Read {
            path: path.to_owned(),
            source,
        };
        let mode = std::fs::metadata(path)
            .map_err(read_error)?
            .permissions()
            .mode();
        if mode & 0o004 != 0 {
            return Err(SecretError::Exposed {
                path: path.to_owned(),
            });
        }
        let text = std::fs::read_to_string(path).map_err(read_error)?;
        match text.lines().next() {
            Some(line) if !line.is_empty() => Ok(Self(line.to_owned())),
            _ => Err(SecretError::Empty {
                path: path.to_owned(),
            }),
        }
    }

    /// The secret itself, for the one call that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn secrets_stay_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "hunter2\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            Secret::read(&path),
            Err(SecretError::Exposed { .. })
        ));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let secret = Secret::read(&path).unwrap();
        assert_eq!(secret.reveal(), "hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
