//! The directory a restore writes to: checked before, marked until everything is done.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::RestoreError;
use crate::host;
use crate::mongo::process::is_open;

/// Lies in a target from before the first byte until it is complete. mongod ignores it; people should not.
pub const INCOMPLETE: &str = ".freezeframe-restore-incomplete";

const INCOMPLETE_TEXT: &str = "A restore into this directory was begun and is not finished.\n\
    While this file is here the data is no good copy: remove the directory and restore again.\n";

/// The one thing a fresh file system holds, and a mount point for the data is what operators make.
const LOST_AND_FOUND: &str = "lost+found";

/// A directory being restored into. Dropped without [`Target::finish`] it stays marked as incomplete.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
}

impl Target {
    /// Checks `path` for `needed` bytes, creates it if it is not there (0700; its parent must exist) and marks it
    /// as incomplete.
    ///
    /// An existing directory must be empty, but for `lost+found`.
    ///
    /// # Errors
    /// [`RestoreError`]; nothing was written unless it is [`RestoreError::Io`].
    pub fn prepare(path: &Path, needed: u64) -> Result<Self, RestoreError> {
        let exists = check_empty(path)?;
        let parent = parent(path);
        let measured = if exists { path } else { parent.as_path() };
        check_space(measured, needed)?;
        if !exists {
            DirBuilder::new()
                .mode(0o700)
                .create(path)
                .map_err(RestoreError::io("create", path))?;
            sync_dir(&parent)?;
        }
        let marker = path.join(INCOMPLETE);
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&marker)?;
            file.write_all(INCOMPLETE_TEXT.as_bytes())?;
            file.sync_all()
        };
        write().map_err(RestoreError::io("create", &marker))?;
        sync_dir(path)?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings everything to the disk, then removes the marker: from here on it is a restored directory.
    ///
    /// # Errors
    /// [`RestoreError::Io`]; it stays marked then, unless the removal itself could not be synced.
    pub fn finish(self) -> Result<(), RestoreError> {
        let dir = File::open(&self.path).map_err(RestoreError::io("open", &self.path))?;
        nix::unistd::syncfs(dir.as_fd()).map_err(|errno| {
            RestoreError::io("sync the file system of", &self.path)(errno.into())
        })?;
        let marker = self.path.join(INCOMPLETE);
        fs::remove_file(&marker).map_err(RestoreError::io("remove", &marker))?;
        sync_dir(&self.path)
    }
}

/// Refuses what holds anything; tells whether the directory exists.
///
/// # Errors
/// [`RestoreError`].
pub(super) fn check_empty(path: &Path) -> Result<bool, RestoreError> {
    match fs::metadata(path) {
        // A link that leads nowhere: nothing can be made in its place.
        Err(_) if path.is_symlink() => {
            return Err(RestoreError::TargetNotDirectory {
                path: path.to_owned(),
            });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let parent = parent(path);
            return match fs::metadata(&parent) {
                Ok(metadata) if metadata.is_dir() && path.file_name().is_some() => Ok(false),
                Ok(_) => Err(RestoreError::TargetNotDirectory { path: parent }),
                Err(_) => Err(RestoreError::NoParent {
                    path: path.to_owned(),
                    parent,
                }),
            };
        }
        Err(error) => return Err(RestoreError::io("read", path)(error)),
        Ok(metadata) if !metadata.is_dir() => {
            return Err(RestoreError::TargetNotDirectory {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    refuse_running(path)?;
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(RestoreError::io("list", path))? {
        let entry = entry.map_err(RestoreError::io("list", path))?;
        found.push(entry.file_name().to_string_lossy().into_owned());
    }
    if found.iter().any(|name| name == INCOMPLETE) {
        return Err(RestoreError::TargetUnfinished {
            path: path.to_owned(),
        });
    }
    match found.into_iter().find(|name| name != LOST_AND_FOUND) {
        None => Ok(true),
        Some(found) => Err(RestoreError::TargetNotEmpty {
            path: path.to_owned(),
            found,
        }),
    }
}

/// Refuses a directory that a mongod has open.
///
/// # Errors
/// [`RestoreError::TargetInUse`], [`RestoreError::Io`].
pub fn refuse_running(db_path: &Path) -> Result<(), RestoreError> {
    match is_open(db_path) {
        Ok(false) => Ok(()),
        Ok(true) => Err(RestoreError::TargetInUse {
            path: db_path.to_owned(),
        }),
        Err(source) => Err(RestoreError::io("look for a mongod at work on", db_path)(
            source,
        )),
    }
}

/// Refuses a file system with less than `needed` bytes free to us.
///
/// # Errors
/// [`RestoreError::NoSpace`], [`RestoreError::Io`].
pub fn check_space(path: &Path, needed: u64) -> Result<(), RestoreError> {
    let free =
        host::free_space(path).map_err(RestoreError::io("ask for the free space of", path))?;
    if free >= needed {
        return Ok(());
    }
    Err(RestoreError::NoSpace {
        path: path.to_owned(),
        free,
        needed,
    })
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) => PathBuf::from("."),
        None => PathBuf::from("/"),
    }
}

fn sync_dir(path: &Path) -> Result<(), RestoreError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(RestoreError::io("sync", path))
}

#[cfg(test)]
mod tests;
