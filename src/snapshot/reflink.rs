//! Reflinks: every file of mongod's, cloned into a directory of the same file system (`FICLONE`), on XFS and btrfs.
//!
//! One call for each file and not one act: only under the lock are the clones of one moment. They share their blocks with the originals until these
//! are overwritten. All of it blocks: call it on blocking threads.

use std::fs::{self, DirBuilder, File, FileTimes, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, symlink,
};
use std::path::{Path, PathBuf};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::SnapshotError;
use super::btrfs::is_subvolume;
use super::lvm::Removal;
use crate::exec::{Command, SharedExec};
use crate::ids::RunId;
use crate::volume::{
    DataLayout, DevNumber, Filesystem, HostView, Layer, LayerKind, SUBVOLUME_PREFIX, SUBVOLUME_ROOT,
};

/// A directory of clones that is to be made or was made; this is what the run journal records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clones {
    /// Where the file system is mounted.
    pub mount_point: PathBuf,
    /// The directory's name in there: `.freezeframe-snapshot-<run>-<n>`, which is no data to anything of ours.
    pub clones: String,
    /// The run that owns it.
    pub run: RunId,
}

impl Clones {
    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        self.mount_point.join(&self.clones)
    }
}

/// Clones to be made, and what they are a picture of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Where they go.
    pub clones: Clones,
    /// The [`Filesystem::device`] they are a picture of.
    pub device: DevNumber,
    /// Directories of mongod's data on it, each with its place in the file system.
    pub places: Vec<Place>,
}

/// A directory that is cloned with all that is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Where it is.
    pub path: PathBuf,
    /// Where it is in the file system, and goes among the clones.
    pub inside: PathBuf,
}

/// Whether files on `filesystem` may be clonable at all; whether they are, see [`Reflink::is_supported`].
pub fn is_fit(filesystem: &Filesystem) -> bool {
    matches!(filesystem.kind.as_str(), "xfs" | "btrfs")
}

/// Whether nothing else takes pictures of `filesystem`: XFS that lies neither on a logical volume nor on an array with one among its members.
pub fn is_ours(filesystem: &Filesystem) -> bool {
    let is_volume = |layer: &Layer| matches!(layer.kind, LayerKind::LogicalVolume { .. });
    let device = &filesystem.device;
    let is_array = matches!(device.kind, LayerKind::Md { .. });
    let on_volumes = is_volume(device) || is_array && device.below.iter().any(is_volume);
    filesystem.kind == "xfs" && !on_volumes
}

/// Directories of clones that lie in the file system mounted at `point`, by name.
///
/// # Errors
/// What listing the directory brings.
pub fn found_in(point: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(point)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Else it is a snapshot of btrfs.
        if name.starts_with(SUBVOLUME_PREFIX) && entry.metadata()?.ino() != SUBVOLUME_ROOT {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

/// One directory of clones for each file system under `layouts` that `wanted` says, numbered in order of first appearance.
///
/// # Errors
/// [`SnapshotError::Unfit`] for the first whose files cannot be cloned.
pub fn plan(
    layouts: &[&DataLayout],
    wanted: impl Fn(&Filesystem) -> bool,
    run: RunId,
) -> Result<Vec<Planned>, SnapshotError> {
    let mut planned: Vec<Planned> = Vec::new();
    for layout in layouts {
        for (index, filesystem) in layout.filesystems.iter().enumerate() {
            if !wanted(filesystem) {
                continue;
            }
            let unfit = |reason: &str| SnapshotError::Unfit {
                mount_point: filesystem.mount_point.clone(),
                reason: reason.into(),
                drawing: filesystem.draw(),
            };
            if !is_fit(filesystem) {
                return Err(unfit("files can be cloned on XFS and btrfs only"));
            }
            let home = (layout.filesystem == index).then_some(&layout.db_path);
            let grafts = layout
                .grafts
                .iter()
                .filter(|graft| graft.filesystem == index);
            let mut places = Vec::new();
            for path in home.into_iter().chain(grafts.map(|graft| &graft.path)) {
                let inside = filesystem.inside(path);
                let inside =
                    inside.ok_or_else(|| unfit("a directory of mongod's lies beside its mount"))?;
                places.push(Place {
                    path: path.clone(),
                    inside,
                });
            }
            let device = filesystem.device.number;
            match planned.iter_mut().find(|one| one.device == device) {
                Some(one) => one.places.extend(places),
                None => planned.push(Planned {
                    clones: Clones {
                        mount_point: filesystem.mount_point.clone(),
                        clones: format!("{SUBVOLUME_PREFIX}{run}-{}", planned.len() + 1),
                        run,
                    },
                    device,
                    places,
                }),
            }
        }
    }
    for one in &mut planned {
        one.places.sort_by(|a, b| a.inside.cmp(&b.inside));
        // What lies in another of them is cloned with it: in the file system, wherever it is mounted.
        one.places
            .dedup_by(|later, earlier| later.inside.starts_with(&earlier.inside));
    }
    Ok(planned)
}

/// The host's reflinks.
#[derive(Debug, Clone)]
pub struct Reflink {
    exec: SharedExec,
}

impl Reflink {
    /// As `exec` runs the command that tells of a file system.
    pub fn new(exec: SharedExec) -> Self {
        Self { exec }
    }

    /// Whether the file system was made with reflinks.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`].
    pub fn is_supported(&self, filesystem: &Filesystem) -> Result<bool, SnapshotError> {
        if filesystem.kind != "xfs" {
            return Ok(filesystem.kind == "btrfs");
        }
        let said = self
            .exec
            .run(&Command::new("xfs_info", [&filesystem.mount_point]))?;
        Ok(said.contains("reflink=1"))
    }

    /// Makes the directory for the clones, which only root can enter, before the lock.
    ///
    /// # Errors
    /// [`SnapshotError::Directory`].
    pub fn prepare(&self, planned: &Planned) -> Result<(), SnapshotError> {
        let path = planned.clones.path();
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|source| SnapshotError::Directory {
            action: "make",
            path,
            source,
        })
    }

    /// Clones every file, under the lock.
    ///
    /// # Errors
    /// [`SnapshotError::Clone`]; [`Reflink::remove`] clears up what there is.
    pub fn take(&self, planned: &Planned) -> Result<(), SnapshotError> {
        let root = planned.clones.path();
        for place in &planned.places {
            let to = root.join(&place.inside);
            let made = to.parent().map_or(Ok(()), fs::create_dir_all);
            made.map_err(failed("make the directory above", &to))?;
            let found =
                fs::symlink_metadata(&place.path).map_err(failed("look at", &place.path))?;
            clone_directory(&place.path, &found, &to)?;
        }
        Ok(())
    }

    /// Whether the clones are there.
    ///
    /// # Errors
    /// [`SnapshotError::Gone`]; [`SnapshotError::Unmounted`] where the file system is not mounted where it was, so that nobody can tell.
    pub fn look(&self, clones: &Clones) -> Result<(), SnapshotError> {
        is_in_place(clones)?;
        match fs::symlink_metadata(clones.path()) {
            Ok(found) if found.is_dir() => Ok(()),
            _ => Err(SnapshotError::Gone {
                name: clones.path().display().to_string(),
            }),
        }
    }

    /// Removes the clones. Well done also where there are none.
    ///
    /// # Errors
    /// [`SnapshotError::Unmounted`] where the file system is not mounted where it was, so that nobody can tell; [`SnapshotError::NotOurs`]
    /// where something else has the name; [`SnapshotError::Directory`].
    pub fn remove(&self, clones: &Clones) -> Result<Removal, SnapshotError> {
        let path = clones.path();
        is_in_place(clones)?;
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Removal::WasAbsent);
            }
            Ok(found) if !found.is_dir() => {
                return Err(SnapshotError::NotOurs {
                    name: path.display().to_string(),
                    reason: "it is no directory".into(),
                });
            }
            _ => {}
        }
        fs::remove_dir_all(&path).map_err(|source| SnapshotError::Directory {
            action: "remove",
            path,
            source,
        })?;
        Ok(Removal::Removed)
    }
}

/// Whether something is mounted where the clones were made, or a subvolume is there, which need be no mount.
fn is_in_place(clones: &Clones) -> Result<(), SnapshotError> {
    let point = &clones.mount_point;
    match HostView::real().mounts()?.is_mount_point(point) || is_subvolume(point) {
        true => Ok(()),
        false => Err(SnapshotError::Unmounted {
            name: clones.path().display().to_string(),
            point: point.clone(),
        }),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    move |source| SnapshotError::Clone {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Everything below `from`, which `found` tells of, but what other file systems show in it.
fn clone_directory(from: &Path, found: &Metadata, to: &Path) -> Result<(), SnapshotError> {
    fs::create_dir(to).map_err(failed("make", to))?;
    for entry in fs::read_dir(from).map_err(failed("list", from))? {
        let entry = entry.map_err(failed("list", from))?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(SUBVOLUME_PREFIX) {
            continue;
        }
        let (from, to) = (entry.path(), to.join(&name));
        let metadata = entry.metadata().map_err(failed("look at", &from))?;
        if metadata.is_dir() && metadata.dev() == found.dev() {
            clone_directory(&from, &metadata, &to)?;
        } else if metadata.is_dir() {
            fs::create_dir(&to).map_err(failed("make", &to))?;
        } else if metadata.is_symlink() {
            let target = fs::read_link(&from).map_err(failed("read", &from))?;
            symlink(target, &to).map_err(failed("make", &to))?;
        } else if metadata.is_file() {
            clone_file(&from, &metadata, &to)?;
        }
    }
    let directory = File::open(to).map_err(failed("open", to))?;
    as_it_was(from, found, &directory).map_err(failed("keep owner, mode and times of", from))
}

fn clone_file(from: &Path, found: &Metadata, to: &Path) -> Result<(), SnapshotError> {
    let source = File::open(from).map_err(failed("open", from))?;
    let clone = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(failed("make", to))?;
    take_after(&source, &clone).map_err(failed("clone the attributes of", from))?;
    rustix::fs::ioctl_ficlone(&clone, &source)
        .map_err(io::Error::from)
        .map_err(failed("clone", from))?;
    as_it_was(from, found, &clone).map_err(failed("keep owner, mode and times of", from))
}

/// Gives an empty file the attribute of `source` without which btrfs clones neither from the other: no copy on write, and so no checksums (`chattr +C`).
fn take_after(source: &File, clone: &File) -> io::Result<()> {
    let (wanted, flags) = match (ioctl_getflags(source), ioctl_getflags(clone)) {
        (Ok(wanted), Ok(flags)) => (wanted & IFlags::NOCOW, flags),
        // A file system that has no such attributes.
        (Err(Errno::NOTTY | Errno::OPNOTSUPP), _) => return Ok(()),
        (Err(errno), _) | (_, Err(errno)) => return Err(errno.into()),
    };
    if flags & IFlags::NOCOW != wanted {
        ioctl_setflags(clone, flags.difference(IFlags::NOCOW) | wanted)?;
    }
    Ok(())
}

/// What the archive tells of a file besides what is in it.
fn as_it_was(from: &Path, found: &Metadata, clone: &File) -> io::Result<()> {
    use xattr::FileExt;
    for name in xattr::list(from)? {
        if let Some(value) = xattr::get(from, &name)? {
            clone.set_xattr(&name, &value)?;
        }
    }
    fchown(clone, Some(found.uid()), Some(found.gid()))?;
    clone.set_permissions(Permissions::from_mode(found.mode() & 0o7777))?;
    clone.set_times(FileTimes::new().set_modified(found.modified()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{Graft, Layer};

    fn filesystem(point: &str, kind: &str, minor: u32) -> Filesystem {
        Filesystem {
            mount_point: point.into(),
            root: "/".into(),
            kind: kind.into(),
            external: Vec::new(),
            device: Layer {
                name: "sdb".into(),
                number: DevNumber { major: 8, minor },
                size: 0,
                kind: LayerKind::Disk,
                below: Vec::new(),
            },
        }
    }

    #[test]
    fn what_the_archive_tells_of_a_file_is_kept_where_files_can_be_cloned() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("db"), dir.path().join("clones"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(from.join("sub")).unwrap();
        fs::create_dir(from.join(format!("{SUBVOLUME_PREFIX}0badcafe-1"))).unwrap();
        symlink("/elsewhere", from.join("journal")).unwrap();
        fs::write(from.join("sub/file"), vec![7; 8192]).unwrap();
        fs::set_permissions(from.join("sub/file"), Permissions::from_mode(0o640)).unwrap();
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        let times = FileTimes::new().set_modified(long_ago);
        for path in ["sub/file", "sub"] {
            File::open(from.join(path))
                .unwrap()
                .set_times(times)
                .unwrap();
        }
        let found = fs::symlink_metadata(&from).unwrap();
        match clone_directory(&from, &found, &to) {
            // Told, not skipped in silence: the laboratory has XFS and btrfs.
            Err(SnapshotError::Clone {
                action: "clone",
                source,
                ..
            }) => {
                eprintln!("skipped: this file system clones no files: {source}");
                return;
            }
            done => done.unwrap(),
        }
        let clone = fs::metadata(to.join("sub/file")).unwrap();
        assert_eq!((clone.len(), clone.mode() & 0o7777), (8192, 0o640));
        assert_eq!(clone.modified().unwrap(), long_ago);
        assert_eq!(
            fs::metadata(to.join("sub")).unwrap().modified().unwrap(),
            long_ago
        );
        assert_eq!(
            fs::read_link(to.join("journal")).unwrap(),
            Path::new("/elsewhere")
        );
        assert_eq!(fs::read_dir(&to).unwrap().count(), 2);
    }

    #[test]
    fn every_directory_of_mongods_is_cloned_once_on_its_file_system() {
        let graft = |at: &str, path: &str, filesystem| Graft {
            at: at.into(),
            path: path.into(),
            filesystem,
        };
        let layout = DataLayout {
            db_path: "/data/db".into(),
            filesystem: 0,
            grafts: vec![
                graft("journal", "/journal/j", 1),
                graft("lab", "/data/db/lab", 0),
                graft("other", "/data/other", 0),
            ],
            filesystems: vec![
                filesystem("/data", "xfs", 16),
                filesystem("/journal", "xfs", 32),
            ],
        };
        let run = "0badcafe".parse().unwrap();
        let planned = plan(&[&layout, &layout], |_| true, run).unwrap();
        let places = |one: &Planned| -> Vec<_> {
            one.places
                .iter()
                .map(|place| place.inside.display().to_string())
                .collect()
        };
        assert_eq!(planned.len(), 2);
        assert_eq!(places(&planned[0]), ["db", "other"]);
        assert_eq!(places(&planned[1]), ["j"]);
        assert_eq!(
            planned[1].clones.path(),
            Path::new("/journal/.freezeframe-snapshot-0badcafe-2")
        );
        // A bind mount shows in the one what lies elsewhere in the file system.
        let bound = DataLayout {
            grafts: vec![graft("journal", "/data/db/journal", 1)],
            filesystems: vec![
                filesystem("/data", "xfs", 16),
                Filesystem {
                    root: "/vol/j".into(),
                    ..filesystem("/data/db/journal", "xfs", 16)
                },
            ],
            ..layout.clone()
        };
        let planned = plan(&[&bound], |_| true, run).unwrap();
        assert_eq!(places(&planned[0]), ["db", "vol/j"]);
        let ext4 = DataLayout {
            filesystems: vec![
                filesystem("/data", "ext4", 16),
                filesystem("/journal", "xfs", 32),
            ],
            ..layout
        };
        let error = plan(&[&ext4], |_| true, run).unwrap_err();
        assert!(error.to_string().contains("XFS and btrfs only"), "{error}");
    }
}
