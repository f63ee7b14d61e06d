//! Passwords and passphrases: read from where only we may look, never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::error::{Exit, Explain};

/// A password or passphrase. Never printed, never serialized.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Environment variables that hold secrets of ours.
const IN_ENVIRONMENT: [&str; 3] = [
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "FREEZEFRAME_MONGODB_PASSWORD",
];

/// Keeps our secrets from a program that is going to be started.
pub fn without_secrets(command: &mut std::process::Command) {
    for name in IN_ENVIRONMENT {
        command.env_remove(name);
    }
}

/// `text` with what stands between `://` and `@` in its addresses redacted.
pub fn without_user_info(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let end = after
            .find(|c: char| c.is_whitespace() || c == '"')
            .unwrap_or(after.len());
        let (address, further) = after.split_at(end);
        let address = match address.rsplit_once('@') {
            Some((_, host)) => format!("<redacted>@{host}"),
            None => address.to_owned(),
        };
        shown.push_str(&address);
        rest = further;
    }
    shown.push_str(rest);
    shown
}

/// Refuses a file that holds a secret and can be read by everybody.
///
/// # Errors
/// [`SecretError::Exposed`], [`SecretError::Read`].
pub fn refuse_exposed(path: &Path) -> Result<(), SecretError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path).map_err(|source| SecretError::Read {
        path: path.to_owned(),
        source,
    })?;
    if metadata.permissions().mode() & 0o004 != 0 {
        return Err(SecretError::Exposed {
            path: path.to_owned(),
        });
    }
    Ok(())
}

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
        let read_error = |source| SecretError::Read {
            path: path.to_owned(),
            source,
        };
        refuse_exposed(path)?;
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

    #[test]
    fn addresses_lose_their_user_information() {
        for (text, shown) in [
            ("no address", "no address"),
            (
                "5 | url = \"s3://key:sec/ret@b/p\" x",
                "5 | url = \"s3://<redacted>@b/p\" x",
            ),
            (
                "http://a http://u:p@b://",
                "http://a http://<redacted>@b://",
            ),
        ] {
            assert_eq!(without_user_info(text), shown);
        }
    }
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
