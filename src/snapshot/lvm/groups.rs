//! LVM's own locks on volume groups, held by us while tables that LVM must not mistake for its own wait in its devices.
//!
//! LVM locks a group by `flock(2)` on the file `V_GROUP` of its locking directory, opens it anew where it finds that the file was removed meanwhile, and removes
//! it when it is done (`lib/misc/lvm-flock.c`). Groups that are locked by `lvmlockd` are shared between hosts and refused before.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Lvm, command};
use crate::snapshot::SnapshotError;

/// How often a lock that somebody else has is asked for again.
const AGAIN: Duration = Duration::from_millis(5);

/// Groups that may be locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    dir: PathBuf,
    names: BTreeSet<String>,
}

/// Locks on groups: no LVM command changes anything in them until this is dropped. The kernel gives them back when the process ends.
#[derive(Debug)]
pub struct GroupLocks {
    _locks: Vec<GroupLock>,
}

#[derive(Debug)]
struct GroupLock {
    path: PathBuf,
    _file: File,
}

impl Lvm {
    /// The groups `names`, and where their locks lie. One command.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`], [`SnapshotError::NoLocks`].
    pub(super) fn groups<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<Groups, SnapshotError> {
        let said = self.exec.run(&command::locking_dir())?;
        // A guess would be a lock that LVM never looks at.
        let dir = locking_dir(&said).ok_or_else(|| SnapshotError::NoLocks {
            said: said.trim().to_owned(),
        })?;
        Ok(Groups {
            dir: dir.into(),
            names: names.map(str::to_owned).collect(),
        })
    }
}

impl Groups {
    /// Locks all of them, always in the same order.
    ///
    /// # Errors
    /// [`SnapshotError::GroupBusy`] where an LVM command had one for longer than `patience`, [`SnapshotError::GroupLock`].
    pub fn lock(&self, patience: Duration) -> Result<GroupLocks, SnapshotError> {
        let begun = Instant::now();
        let lock = |vg: &String| {
            let path = self.dir.join(format!("V_{vg}"));
            loop {
                let taken =
                    GroupLock::try_take(&path).map_err(|source| SnapshotError::GroupLock {
                        path: path.clone(),
                        source,
                    })?;
                match taken {
                    Some(lock) => return Ok(lock),
                    None if begun.elapsed() >= patience => {
                        return Err(SnapshotError::GroupBusy {
                            vg: vg.clone(),
                            patience,
                        });
                    }
                    None => std::thread::sleep(AGAIN),
                }
            }
        };
        let locks = self.names.iter().map(lock).collect::<Result<_, _>>()?;
        Ok(GroupLocks { _locks: locks })
    }
}

impl GroupLock {
    /// None where somebody else has it.
    fn try_take(path: &Path) -> io::Result<Option<Self>> {
        // Appending, as LVM does: it may have written something there.
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Who had it before may have removed the file, and another may have made it anew.
        let held = file.metadata()?;
        let is_the_same = match std::fs::metadata(path) {
            Ok(there) => (there.dev(), there.ino()) == (held.dev(), held.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        Ok(is_the_same.then(|| Self {
            path: path.to_owned(),
            _file: file,
        }))
    }
}

impl Drop for GroupLock {
    /// Removes the file as LVM does, while the lock is still held: who waits for it opens another.
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the lock file stays, which does no harm");
        }
    }
}

/// The directory as `lvmconfig` prints it: `locking_dir="/run/lock/lvm"`.
fn locking_dir(text: &str) -> Option<&str> {
    let value = text.trim().strip_prefix("locking_dir=")?;
    let value = value.strip_prefix('"')?.strip_suffix('"')?;
    value.starts_with('/').then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    fn groups(dir: &Path, names: &[&str]) -> Groups {
        Groups {
            dir: dir.into(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn a_group_is_locked_once_and_its_file_goes_with_the_lock() {
        let home = tempfile::tempdir().unwrap();
        let both = groups(home.path(), &["data", "journal"]);
        let held = both.lock(SOON).unwrap();
        assert!(home.path().join("V_journal").exists());
        let error = groups(home.path(), &["journal"]).lock(SOON).unwrap_err();
        assert!(matches!(&error, SnapshotError::GroupBusy { vg, .. } if vg == "journal"));
        groups(home.path(), &["other"]).lock(SOON).unwrap();
        drop(held);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
        both.lock(SOON).unwrap();
    }

    #[test]
    fn a_lock_on_a_file_that_was_removed_meanwhile_is_none() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("V_data");
        let theirs = GroupLock::try_take(&path).unwrap().unwrap();
        // We have it open, and wait.
        let ours = OpenOptions::new().append(true).open(&path).unwrap();
        assert!(ours.try_lock().is_err());
        drop(theirs);
        ours.try_lock().unwrap();
        // Another's is on the new file: two at a time, were ours believed in.
        assert!(GroupLock::try_take(&path).unwrap().is_some());
    }

    #[test]
    fn where_there_is_no_directory_the_error_names_the_file() {
        let home = tempfile::tempdir().unwrap();
        let missing = groups(&home.path().join("none"), &["data"]);
        let error = missing.lock(SOON).unwrap_err();
        assert!(error.to_string().contains("none/V_data"), "{error}");
    }

    #[test]
    fn the_directory_is_read_as_lvm_prints_it() {
        assert_eq!(
            locking_dir("locking_dir=\"/var/lock/lvm\"\n"),
            Some("/var/lock/lvm")
        );
        for other in [
            "",
            "locking_dir=",
            "locking_dir=\"\"",
            "locking_type=\"/x\"",
        ] {
            assert_eq!(locking_dir(other), None, "{other:?}");
        }
    }
}
