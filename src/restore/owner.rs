//! Whose files a restored directory holds.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

use super::RestoreError;

/// A user and a group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Owner {
    /// Who owns the data in `db_path`: the owner of its `WiredTiger` file, which every data
    /// directory has and which no start of mongod writes anew.
    ///
    /// # Errors
    /// [`RestoreError::Io`] when there is none.
    pub fn of_data(db_path: &Path) -> Result<Self, RestoreError> {
        let file = db_path.join("WiredTiger");
        let metadata = fs::symlink_metadata(&file).map_err(RestoreError::io("read", file))?;
        Ok(Self {
            uid: metadata.uid(),
            gid: metadata.gid(),
        })
    }
}

/// Gives `path` and everything below it to `owner`; what is theirs already is not touched, symlinks
/// are not followed.
///
/// # Errors
/// [`RestoreError::Io`]: not permitted, unless we are root or they are ours already.
pub fn give(path: &Path, owner: Owner) -> Result<(), RestoreError> {
    let metadata = fs::symlink_metadata(path).map_err(RestoreError::io("read", path))?;
    if (metadata.uid(), metadata.gid()) != (owner.uid, owner.gid) {
        lchown(path, Some(owner.uid), Some(owner.gid))
            .map_err(RestoreError::io("change the owner of", path))?;
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(RestoreError::io("list", path))? {
            let entry = entry.map_err(RestoreError::io("list", path))?;
            give(&entry.path(), owner)?;
        }
    }
    Ok(())
}
