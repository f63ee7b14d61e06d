//! btrfs: read-only snapshots of subvolumes, one command each, in the subvolume they are pictures of.
//!
//! Nothing stands still for them but the commit of a transaction, and nothing has to be mounted: the picture is a directory of the file system that
//! mongod's data is in. All of it blocks: call it on blocking threads.

pub mod put_back;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statfs::{BTRFS_SUPER_MAGIC, statfs};
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};

use super::SnapshotError;
use super::lvm::Removal;
use crate::exec::{Command, SharedExec};
use crate::ids::RunId;
use crate::volume::{
    DataLayout, DevNumber, Filesystem, LayerKind, SUBVOLUME_PREFIX, SUBVOLUME_ROOT,
};

/// A snapshot waits for the commit of a transaction, which has all of its files' data written.
const PATIENCE: Duration = Duration::from_secs(120);
/// The least share of a file system that must be free: what its snapshots keep grows with every block that is overwritten, and who fills it up is mongod.
const LEAST_FREE: f64 = 0.05;
/// The share at which a backup under way gives its snapshots up.
const GIVE_UP: f64 = 0.02;

/// A subvolume's snapshot that is to be made or was made; this is what the run journal records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubvolumeSnapshot {
    /// Root directory of the subvolume that it is a picture of.
    pub subvolume: PathBuf,
    /// Its name in there: `.freezeframe-snapshot-<run>-<n>`.
    pub name: String,
    /// The run that owns it.
    pub run: RunId,
    /// Which subvolume that is, by `statvfs`: another one may be mounted there when it is to be removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
}

/// What tells a subvolume from all others, also after a reboot: the file system's id with the subvolume's in it, as `statvfs` has it (the kernel's
/// `btrfs_statfs`). None where it cannot be asked.
fn identity(subvolume: &Path) -> Option<u64> {
    statvfs(subvolume).ok().map(|found| found.filesystem_id())
}

impl SubvolumeSnapshot {
    /// The `n`-th snapshot of a run, counted from 1.
    fn new(subvolume: &Path, run: RunId, n: usize) -> Self {
        Self {
            subvolume: subvolume.to_owned(),
            name: format!("{SUBVOLUME_PREFIX}{run}-{n}"),
            run,
            of: identity(subvolume),
        }
    }

    /// Where it is found.
    pub fn path(&self) -> PathBuf {
        self.subvolume.join(&self.name)
    }
}

/// A snapshot to be made, and what it is a picture of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The snapshot.
    pub snapshot: SubvolumeSnapshot,
    /// The number of the subvolume: the [`Filesystem::device`] it is a picture of.
    pub device: DevNumber,
}

/// Whether `filesystem` is one that this module takes pictures of.
pub fn is_ours(filesystem: &Filesystem) -> bool {
    matches!(filesystem.device.kind, LayerKind::Subvolume { .. })
}

/// One snapshot for each subvolume under `layouts`, numbered in order of first appearance. Other file systems are passed over.
///
/// # Errors
/// [`SnapshotError::Unfit`] for the first that is mounted in part alone.
pub fn plan(layouts: &[&DataLayout], run: RunId) -> Result<Vec<Planned>, SnapshotError> {
    let mut planned: Vec<Planned> = Vec::new();
    let filesystems = layouts.iter().flat_map(|layout| &layout.filesystems);
    for filesystem in filesystems.filter(|filesystem| is_ours(filesystem)) {
        fit(filesystem)?;
        let device = filesystem.device.number;
        if planned.iter().all(|one| one.device != device) {
            let snapshot = SubvolumeSnapshot::new(&filesystem.mount_point, run, planned.len() + 1);
            planned.push(Planned { snapshot, device });
        }
    }
    Ok(planned)
}

/// Whether all of the subvolume is seen at its mount point.
///
/// # Errors
/// [`SnapshotError::Unfit`].
pub fn fit(filesystem: &Filesystem) -> Result<(), SnapshotError> {
    match &filesystem.device.kind {
        LayerKind::Subvolume { whole: true, .. } => Ok(()),
        _ => Err(SnapshotError::Unfit {
            mount_point: filesystem.mount_point.clone(),
            reason: "what is mounted there is a directory of a btrfs subvolume, not all of it"
                .into(),
            drawing: filesystem.draw(),
        }),
    }
}

/// Whether the snapshot of that name is one of `run`.
pub fn is_of(name: &str, run: RunId) -> bool {
    let number = name.strip_prefix(&format!("{SUBVOLUME_PREFIX}{run}-"));
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Whether a file system with that share of its space free, 0 to 1, has room for snapshots.
pub fn has_room(free: f64) -> bool {
    free >= LEAST_FREE
}

/// Whether the snapshots in a file system with that share of its space free must go, so that mongod can write.
pub fn is_endangered(free: f64) -> bool {
    free < GIVE_UP
}

/// Snapshots of ours that lie in `subvolume`, by name.
///
/// # Errors
/// What listing the directory brings.
pub fn found_in(subvolume: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(subvolume)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(SUBVOLUME_PREFIX) && entry.metadata()?.ino() == SUBVOLUME_ROOT {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

fn sync(subvolume: &Path) -> Result<(), SnapshotError> {
    let synced = File::open(subvolume).and_then(|root| Ok(nix::unistd::syncfs(root)?));
    synced.map_err(|source| SnapshotError::Flush {
        point: subvolume.to_owned(),
        source,
    })
}

/// The host's btrfs.
#[derive(Debug, Clone)]
pub struct Btrfs {
    exec: SharedExec,
}

impl Btrfs {
    /// btrfs as `exec` runs its commands.
    pub fn new(exec: SharedExec) -> Self {
        Self { exec }
    }

    /// Whether the command is there.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`].
    pub fn is_installed(&self) -> Result<(), SnapshotError> {
        self.exec.run(&Command::new("btrfs", ["--version"]))?;
        Ok(())
    }

    /// Does what of a snapshot can be done before the lock: what is dirty in its file system, mongod's files or not, is written.
    ///
    /// # Errors
    /// [`SnapshotError::Flush`].
    pub fn prepare(&self, snapshot: &SubvolumeSnapshot) -> Result<(), SnapshotError> {
        sync(&snapshot.subvolume)
    }

    /// Takes one snapshot.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`]; [`Btrfs::remove`] clears up what there may be.
    pub fn take(&self, snapshot: &SubvolumeSnapshot) -> Result<(), SnapshotError> {
        let arguments = [
            "subvolume".into(),
            "snapshot".into(),
            "-r".into(),
            snapshot.subvolume.clone().into_os_string(),
            snapshot.path().into_os_string(),
        ];
        self.exec.run(
            &Command::new("btrfs", arguments)
                .timeout(PATIENCE)
                .urgent()
                .bound(),
        )?;
        Ok(())
    }

    /// Whether the snapshot is there.
    ///
    /// # Errors
    /// [`SnapshotError::Gone`]; [`SnapshotError::Unmounted`] where its file system is not mounted where it was, so that nobody can tell.
    pub fn look(&self, snapshot: &SubvolumeSnapshot) -> Result<(), SnapshotError> {
        is_in_place(snapshot)?;
        match fs::symlink_metadata(snapshot.path()) {
            Ok(found) if found.ino() == SUBVOLUME_ROOT => Ok(()),
            _ => Err(SnapshotError::Gone {
                name: snapshot.path().display().to_string(),
            }),
        }
    }

    /// Removes a snapshot. Well done also where there is none.
    ///
    /// # Errors
    /// [`SnapshotError::NotOurs`] where something else has its name, [`SnapshotError::Unmounted`] where its file system is not mounted where it
    /// was, so that nobody can tell, and [`SnapshotError::Exec`].
    pub fn remove(&self, snapshot: &SubvolumeSnapshot) -> Result<Removal, SnapshotError> {
        let path = snapshot.path();
        let subvolume = &snapshot.subvolume;
        is_in_place(snapshot)?;
        let mut found = fs::symlink_metadata(&path);
        if found.is_err() {
            // A command that was killed at work may still be at it in the kernel: what it writes out is waited for.
            sync(subvolume)?;
            found = fs::symlink_metadata(&path);
        }
        match found {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Removal::WasAbsent);
            }
            Ok(found) if found.ino() != SUBVOLUME_ROOT => {
                return Err(SnapshotError::NotOurs {
                    name: path.display().to_string(),
                    reason: "it is no subvolume".into(),
                });
            }
            _ => {}
        }
        // Committed, or a power cut would bring it back when no journal knows of it any more.
        let arguments = [
            "subvolume".into(),
            "delete".into(),
            "--commit-after".into(),
            path.into_os_string(),
        ];
        self.exec
            .run(&Command::new("btrfs", arguments).timeout(PATIENCE))?;
        Ok(Removal::Removed)
    }
}

/// Whether `path` is the root of a subvolume.
pub(super) fn is_subvolume(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.ino() == SUBVOLUME_ROOT)
        && statfs(path).is_ok_and(|found| found.filesystem_type() == BTRFS_SUPER_MAGIC)
}

fn is_in_place(snapshot: &SubvolumeSnapshot) -> Result<(), SnapshotError> {
    let subvolume = &snapshot.subvolume;
    match is_subvolume(subvolume) && (snapshot.of.is_none() || snapshot.of == identity(subvolume)) {
        true => Ok(()),
        false => Err(SnapshotError::Unmounted {
            name: snapshot.path().display().to_string(),
            point: subvolume.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::scripted::ScriptedExec;
    use crate::volume::Layer;
    use std::sync::Arc;

    fn run() -> RunId {
        "0000abcd".parse().unwrap()
    }

    fn subvolume(point: &str, minor: u32, whole: bool) -> Filesystem {
        Filesystem {
            mount_point: point.into(),
            root: "/".into(),
            kind: "btrfs".into(),
            external: Vec::new(),
            device: Layer {
                name: "sda".into(),
                number: DevNumber { major: 0, minor },
                size: 0,
                kind: LayerKind::Subvolume { whole },
                below: Vec::new(),
            },
        }
    }

    fn layout(filesystems: Vec<Filesystem>) -> DataLayout {
        DataLayout {
            db_path: "/data/db".into(),
            filesystem: 0,
            grafts: Vec::new(),
            filesystems,
        }
    }

    #[test]
    fn every_subvolume_is_snapshotted_once_in_itself() {
        let one = layout(vec![
            subvolume("/data", 40, true),
            subvolume("/data/journal", 41, true),
        ]);
        let two = layout(vec![subvolume("/data", 40, true)]);
        let planned = plan(&[&one, &two], run()).unwrap();
        let paths: Vec<_> = planned.iter().map(|one| one.snapshot.path()).collect();
        assert_eq!(
            paths,
            [
                Path::new("/data/.freezeframe-snapshot-0000abcd-1"),
                Path::new("/data/journal/.freezeframe-snapshot-0000abcd-2")
            ]
        );
    }

    #[test]
    fn a_mounted_directory_of_a_subvolume_is_refused() {
        let error = plan(&[&layout(vec![subvolume("/data", 40, false)])], run()).unwrap_err();
        assert!(error.to_string().contains("not all of it"), "{error}");
    }

    #[test]
    fn nothing_is_removed_where_the_file_system_is_not_mounted() {
        let exec = Arc::new(ScriptedExec::default());
        let dir = tempfile::tempdir().unwrap();
        let snapshot = SubvolumeSnapshot::new(dir.path(), run(), 1);
        let error = Btrfs::new(exec.clone()).remove(&snapshot).unwrap_err();
        assert!(matches!(error, SnapshotError::Unmounted { .. }), "{error}");
        assert!(exec.seen.lock().unwrap().is_empty());
    }
}
