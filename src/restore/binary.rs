//! The mongod binary of the restoring host: where it is, which version, whether it fits the data.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use super::RestoreError;

/// A binary that has not told its version by then never will.
const VERSION_LIMIT: Duration = Duration::from_secs(30);

/// A mongod version: series (major and minor) and patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion {
    major: u32,
    minor: u32,
    patch: u32,
}

impl ServerVersion {
    /// The series, such as "6.0".
    pub fn series(&self) -> String {
        format!("{}.{}", self.major, self.minor)
    }

    /// Whether both are of one series.
    pub fn same_series(&self, other: &Self) -> bool {
        (self.major, self.minor) == (other.major, other.minor)
    }

    /// Whether a binary of this version may open data that a server of version `data` left.
    ///
    /// The same series, because another one may refuse the files or upgrade them for good.
    /// Not an older patch: patches fix how data is written, and going back behind a
    /// fix is nothing MongoDB promises to work. A later patch is what every update does.
    pub fn may_open(&self, data: &Self) -> bool {
        self.same_series(data) && self.patch >= data.patch
    }

    /// Whether it is of this series or a later one.
    pub(super) fn at_least(&self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for ServerVersion {
    type Err = ();

    /// Takes `6.0.5`, and what distributions append to it: `6.0.5-ent`, `6.0.5-4`, `7.0.0-rc1`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let plain = text.split(['-', '+', ' ']).next().unwrap_or(text);
        let mut parts = plain
            .split('.')
            .map(|part| part.parse::<u32>().map_err(drop));
        let mut next = || parts.next().unwrap_or(Err(()));
        let version = Self {
            major: next()?,
            minor: next()?,
            patch: next()?,
        };
        if parts.next().is_some() {
            return Err(());
        }
        Ok(version)
    }
}

/// A mongod binary that told its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MongodBinary {
    path: PathBuf,
    version: ServerVersion,
}

impl MongodBinary {
    /// Finds the binary, `given` or the first `mongod` in `PATH`, and asks for its version.
    ///
    /// It is started without [`crate::exec::Exec`], which knows its programs by name: this one is
    /// wherever the operator says.
    ///
    /// # Errors
    /// [`RestoreError::NoMongod`], [`RestoreError::UnknownVersion`].
    pub async fn find(given: Option<&Path>) -> Result<Self, RestoreError> {
        let path = match given {
            Some(path) => path.to_owned(),
            None => {
                in_path(std::env::var_os("PATH")).ok_or(RestoreError::NoMongod { given: None })?
            }
        };
        let unknown = |detail: String| RestoreError::UnknownVersion {
            path: path.clone(),
            detail,
        };
        let asked = tokio::process::Command::new(&path)
            .arg("--version")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = match tokio::time::timeout(VERSION_LIMIT, asked).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(RestoreError::NoMongod { given: Some(path) });
            }
            Ok(Err(error)) => return Err(unknown(error.to_string())),
            Err(_) => return Err(unknown("it did not answer --version".into())),
        };
        let stdout = String::from_utf8_lossy(&output.stdout);
        let version = stdout
            .lines()
            .find_map(|line| line.trim().strip_prefix("db version v"))
            .and_then(|version| version.trim().parse().ok());
        match version {
            Some(version) => Ok(Self { path, version }),
            None => {
                let stderr = String::from_utf8_lossy(&output.stderr);
                let said = stderr
                    .lines()
                    .chain(stdout.lines())
                    .find(|line| !line.trim().is_empty());
                Err(unknown(format!(
                    "--version said {:?} ({})",
                    said.unwrap_or_default().trim(),
                    output.status
                )))
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version.
    pub fn version(&self) -> ServerVersion {
        self.version
    }

    /// Whether it may open data of a server of `version` (as in the manifest).
    ///
    /// # Errors
    /// [`RestoreError::WrongVersion`]; [`RestoreError::UnknownVersion`] when `version` is no version.
    pub fn fit_for(&self, version: &str) -> Result<(), RestoreError> {
        let needed: ServerVersion = version.parse().map_err(|()| RestoreError::UnknownVersion {
            path: self.path.clone(),
            detail: format!("the manifest names the server version {version:?}"),
        })?;
        if self.version.may_open(&needed) {
            return Ok(());
        }
        Err(RestoreError::WrongVersion {
            needed,
            found: self.version,
            path: self.path.clone(),
        })
    }
}

/// The first executable `mongod` of a `PATH`.
fn in_path(path: Option<std::ffi::OsString>) -> Option<PathBuf> {
    std::env::split_paths(&path?)
        .map(|dir| dir.join("mongod"))
        .find(|file| {
            nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok() && file.is_file()
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn version_round_trips(major: u32, minor: u32, patch: u32) {
            let version = ServerVersion { major, minor, patch };
            prop_assert_eq!(version.to_string().parse::<ServerVersion>(), Ok(version));
        }

        #[test]
        fn version_parser_never_panics(text in ".{0,30}") {
            let _ = text.parse::<ServerVersion>();
        }
    }

    #[test]
    fn only_the_same_series_and_no_older_patch_may_open_data() {
        for (binary, data, may) in [
            ("6.0.5", "6.0.5", true),
            ("6.0.27", "6.0.5", true),
            ("6.0.5", "6.0.27", false),
            ("5.0.32", "6.0.5", false),
            ("6.1.5", "6.0.5", false),
            ("7.0.5", "6.0.5", false),
            ("6.0.5-4", "6.0.5", true),
        ] {
            let (binary, data): (ServerVersion, ServerVersion) =
                (binary.parse().unwrap(), data.parse().unwrap());
            assert_eq!(binary.may_open(&data), may, "{binary} on data of {data}");
        }
        for bad in ["", "6", "6.0", "6.0.x", "v6.0.5", "6.0.5.1"] {
            assert_eq!(bad.parse::<ServerVersion>(), Err(()), "{bad}");
        }
    }

    #[tokio::test]
    async fn says_what_is_wrong_with_a_binary() {
        let missing = MongodBinary::find(Some(Path::new("/does/not/exist"))).await;
        assert!(matches!(
            missing,
            Err(RestoreError::NoMongod { given: Some(_) })
        ));
        let other = MongodBinary::find(Some(Path::new("/bin/true")))
            .await
            .unwrap_err();
        assert!(
            matches!(other, RestoreError::UnknownVersion { .. }),
            "{other}"
        );
    }
}
