//! From dbPath to every real directory and file system under it.
//!
//! mongod itself makes directories at most two deep (`db/collection`, `db/index`), but any of them
//! may be a symlink or a mount, and so may `journal`. What lies deeper is looked at only to refuse
//! links and mounts there, which nobody would expect and an archive would silently miss.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::AccessFlags;
use thiserror::Error;

use super::external::external;
use super::mountinfo::{Mount, MountInfoError, MountTable};
use super::{
    DataLayout, DevNumber, Filesystem, Graft, Layer, LayerKind, SUBVOLUME_PREFIX, SUBVOLUME_ROOT,
    sysfs,
};
use crate::error::{Exit, Explain};

const BTRFS: &str = "btrfs";
/// Where in dbPath mongod sorts what does not fit into memory.
const SORTING: &str = "_tmp";
/// Directories of dbPath that may lie elsewhere are at most this deep.
const MAX_GRAFT_DEPTH: usize = 2;

/// Answers the device number of a path's file system.
pub type DeviceOf = fn(&Path) -> io::Result<DevNumber>;

/// Where the host's mounts and devices are read. A test puts a tree of files in their place.
#[derive(Debug, Clone)]
pub struct HostView {
    /// Normally `/proc/self/mountinfo`.
    pub mountinfo: PathBuf,
    /// Normally `/sys`.
    pub sys: PathBuf,
    /// Normally `/dev`.
    pub dev: PathBuf,
    /// Normally `stat`: a directory whose device is not the one that mountinfo names is refused.
    /// None where mounts are not real.
    pub device_of: Option<DeviceOf>,
}

impl HostView {
    /// This host.
    pub fn real() -> Self {
        Self {
            mountinfo: "/proc/self/mountinfo".into(),
            sys: sysfs::SYS.into(),
            dev: "/dev".into(),
            device_of: Some(|path| Ok(fs::metadata(path)?.dev().into())),
        }
    }

    /// The mounts as they are now.
    ///
    /// # Errors
    /// [`VolumeError::Read`] and [`VolumeError::MountInfo`].
    pub fn mounts(&self) -> Result<MountTable, VolumeError> {
        let text = fs::read(&self.mountinfo).map_err(read(&self.mountinfo))?;
        Ok(MountTable::parse(&text)?)
    }
}

/// Why a path could not be followed to its devices.
#[derive(Debug, Error)]
pub enum VolumeError {
    /// Something could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The mount table has an unknown form.
    #[error(transparent)]
    MountInfo(#[from] MountInfoError),
    /// dbPath is no directory.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// What it is called.
        path: PathBuf,
    },
    /// No mount holds the path.
    #[error("no mount in mountinfo holds {}", path.display())]
    NoMount {
        /// The path.
        path: PathBuf,
    },
    /// stat and mountinfo disagree, as behind a mount made meanwhile.
    #[error("{} is on device {found}, but its mount {} is on {expected}", path.display(), mount.display())]
    OtherDevice {
        /// The directory.
        path: PathBuf,
        /// The mount that should hold it.
        mount: PathBuf,
        /// What stat says.
        found: DevNumber,
        /// What mountinfo says.
        expected: DevNumber,
    },
    /// A symlink to something that is no directory.
    #[error("{} is a symlink to {}, which is no directory", path.display(), target.display())]
    LinkedFile {
        /// The link.
        path: PathBuf,
        /// Its text.
        target: PathBuf,
    },
    /// A symlink, mount or subvolume deeper than mongod's own directories.
    #[error("{} is a symlink, a mount or a subvolume more than two directories below dbPath", path.display())]
    TooDeep {
        /// The entry.
        path: PathBuf,
    },
    /// A subvolume that nobody can write to, and so none of mongod's.
    #[error("{} is a read-only btrfs subvolume, such as a snapshot of another tool", path.display())]
    ReadOnlySubvolume {
        /// Its root.
        path: PathBuf,
    },
    /// Two directories of dbPath are the same place, or one lies in the other.
    #[error("{} and {} are the same place, or one lies in the other", one.display(), other.display())]
    Overlap {
        /// Where mongod sees the one.
        one: PathBuf,
        /// Where mongod sees the other.
        other: PathBuf,
    },
}

impl Explain for VolumeError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::LinkedFile { .. } => Some(
                "mongod's directories may be symlinks, its files may not: put the file into dbPath, or move it elsewhere".into(),
            ),
            Self::TooDeep { .. } => Some("move it out of dbPath, or put a real directory in its place".into()),
            Self::ReadOnlySubvolume { .. } => Some("keep snapshots out of dbPath".into()),
            Self::Overlap { .. } => Some("give every database and index directory a place of its own".into()),
            Self::OtherDevice { .. } => {
                Some("a mount made at this moment, or a file system that is not known: try again".into())
            }
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run freezeframe as root".into())
            }
            _ => None,
        }
    }

    fn exit(&self) -> Exit {
        Exit::Refused
    }
}

/// Follows dbPath and every directory in it to the file systems that hold them.
///
/// A file system without a block device is no error here: [`LayerKind::NotABlockDevice`] says so.
///
/// # Errors
/// [`VolumeError`]; a database may drop directories meanwhile, so what vanishes is no error.
pub fn resolve(db_path: &Path, host: &HostView) -> Result<DataLayout, VolumeError> {
    let real = fs::canonicalize(db_path).map_err(read(db_path))?;
    if !fs::metadata(&real).map_err(read(&real))?.is_dir() {
        return Err(VolumeError::NotADirectory { path: real });
    }
    let mounts = host.mounts()?;
    let mut walk = Walk {
        host,
        mounts: &mounts,
        filesystems: Vec::new(),
        ids: Vec::new(),
        grafts: Vec::new(),
    };
    let home = walk.place(&real)?;
    walk.directory(&real, Path::new(""), home)?;
    let Walk {
        filesystems,
        mut grafts,
        ..
    } = walk;
    grafts.sort_by(|a, b| a.at.cmp(&b.at));
    refuse_overlap(&real, &grafts)?;
    Ok(DataLayout {
        db_path: real,
        filesystem: home,
        grafts,
        filesystems,
    })
}

/// The file system that holds `path`, or would hold it: of a path that does not exist, its nearest
/// ancestor that does.
///
/// # Errors
/// [`VolumeError`].
pub fn locate(path: &Path, host: &HostView) -> Result<Filesystem, VolumeError> {
    let existing = path
        .ancestors()
        .find_map(|ancestor| fs::canonicalize(ancestor).ok());
    let real = existing.ok_or_else(|| VolumeError::NoMount {
        path: path.to_owned(),
    })?;
    let mounts = host.mounts()?;
    let mount = mounts
        .covering(&real)
        .ok_or_else(|| VolumeError::NoMount { path: real.clone() })?;
    let on = Place {
        device: mount.device,
        top: mount.point.clone(),
    };
    filesystem(mount, on, host)
}

/// Where in a mount a directory lies.
struct Place {
    /// The mount's device, or the subvolume's own number, which none of the others of its file system has.
    device: DevNumber,
    /// The mount point, or the root of the subvolume in it.
    top: PathBuf,
}

struct Walk<'a> {
    host: &'a HostView,
    mounts: &'a MountTable,
    filesystems: Vec<Filesystem>,
    /// The mount id of each file system, and its device.
    ids: Vec<(u32, DevNumber)>,
    grafts: Vec<Graft>,
}

impl<'a> Walk<'a> {
    /// The file system that holds the real directory `path`.
    fn place(&mut self, path: &Path) -> Result<usize, VolumeError> {
        let mount = self
            .mounts
            .covering(path)
            .ok_or_else(|| VolumeError::NoMount {
                path: path.to_owned(),
            })?;
        let mut on = Place {
            device: mount.device,
            top: mount.point.clone(),
        };
        if let Some(device_of) = self.host.device_of {
            let found = device_of(path).map_err(read(path))?;
            if mount.kind == BTRFS {
                on = Place {
                    device: found,
                    top: subvolume_root(path, mount, found, device_of),
                };
            } else if found != mount.device {
                let (path, mount_point) = (path.to_owned(), mount.point.clone());
                return Err(VolumeError::OtherDevice {
                    path,
                    mount: mount_point,
                    found,
                    expected: mount.device,
                });
            }
        }
        let id = (mount.id, on.device);
        if let Some(known) = self.ids.iter().position(|one| *one == id) {
            return Ok(known);
        }
        self.filesystems.push(filesystem(mount, on, self.host)?);
        self.ids.push(id);
        Ok(self.filesystems.len() - 1)
    }

    fn is_read_only_subvolume(&self, filesystem: usize) -> bool {
        let found = self
            .filesystems
            .get(filesystem)
            .filter(|found| found.kind == BTRFS);
        found.is_some_and(|found| {
            nix::unistd::access(&found.mount_point, AccessFlags::W_OK) == Err(Errno::EROFS)
        })
    }

    /// Looks at everything in the real directory `dir` of the file system `holder`, which mongod sees at `at` below dbPath.
    fn directory(&mut self, dir: &Path, at: &Path, holder: usize) -> Result<(), VolumeError> {
        let Some(entries) = unless_gone(fs::read_dir(dir)).map_err(read(dir))? else {
            return Ok(());
        };
        for entry in entries {
            let entry = entry.map_err(read(dir))?;
            let (path, at) = (entry.path(), at.join(entry.file_name()));
            // It is never archived, so wherever it leads to needs no picture.
            if at == Path::new(SORTING) {
                continue;
            }
            let Some(kind) = unless_gone(entry.file_type()).map_err(read(&path))? else {
                continue;
            };
            let real = if kind.is_symlink() {
                let Some(real) = linked_directory(&path)? else {
                    continue;
                };
                real
            } else if kind.is_dir() && !is_snapshot(&path) {
                path.clone()
            } else {
                continue;
            };
            let filesystem = match self.place(&real) {
                Err(VolumeError::Read { source, .. })
                    if source.kind() == io::ErrorKind::NotFound =>
                {
                    continue;
                }
                placed => placed?,
            };
            if kind.is_symlink() || filesystem != holder {
                if self.is_read_only_subvolume(filesystem) {
                    return Err(VolumeError::ReadOnlySubvolume { path: real });
                }
                if at.components().count() > MAX_GRAFT_DEPTH {
                    return Err(VolumeError::TooDeep { path });
                }
                // Otherwise a link back to dbPath would be walked for ever.
                if dir.starts_with(&real) {
                    return Err(VolumeError::Overlap {
                        one: path,
                        other: real,
                    });
                }
                self.grafts.push(Graft {
                    at: at.clone(),
                    path: real.clone(),
                    filesystem,
                });
            }
            self.directory(&real, &at, filesystem)?;
        }
        Ok(())
    }
}

/// The highest directory below or at the mount point from which everything down to `path` lies in the subvolume `device`.
fn subvolume_root(path: &Path, mount: &Mount, device: DevNumber, device_of: DeviceOf) -> PathBuf {
    path.ancestors()
        .take_while(|above| above.starts_with(&mount.point))
        .take_while(|above| device_of(above).is_ok_and(|found| found == device))
        .last()
        .unwrap_or(path)
        .to_owned()
}

/// A btrfs snapshot of ours, or what is left of one in a snapshot: an empty directory.
fn is_snapshot(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_bytes().starts_with(SUBVOLUME_PREFIX.as_bytes()))
}

/// What a symlink in dbPath leads to; none if the link is gone meanwhile.
fn linked_directory(link: &Path) -> Result<Option<PathBuf>, VolumeError> {
    let Some(target) = unless_gone(fs::read_link(link)).map_err(read(link))? else {
        return Ok(None);
    };
    match fs::canonicalize(link) {
        Ok(real) if real.is_dir() => Ok(Some(real)),
        Ok(_) => Err(VolumeError::LinkedFile {
            path: link.to_owned(),
            target,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(VolumeError::LinkedFile {
            path: link.to_owned(),
            target,
        }),
        Err(error) => Err(read(link)(error)),
    }
}

/// Each place must belong to one directory of mongod's, or the archive would hold it twice.
fn refuse_overlap(db_path: &Path, grafts: &[Graft]) -> Result<(), VolumeError> {
    let places: Vec<(&Path, &Path)> = std::iter::once((Path::new(""), db_path))
        .chain(
            grafts
                .iter()
                .map(|graft| (graft.at.as_path(), graft.path.as_path())),
        )
        .collect();
    for (i, (at, path)) in places.iter().enumerate() {
        for (j, (other_at, other)) in places.iter().enumerate() {
            let Ok(below) = other.strip_prefix(path) else {
                continue;
            };
            // A mount in its natural place lies inside its parent, and that is where mongod sees it.
            if i != j && at.join(below) != *other_at {
                return Err(VolumeError::Overlap {
                    one: db_path.join(at),
                    other: db_path.join(other_at),
                });
            }
        }
    }
    Ok(())
}

fn filesystem(mount: &Mount, on: Place, host: &HostView) -> Result<Filesystem, VolumeError> {
    if mount.kind == BTRFS {
        return subvolume(mount, on, host);
    }
    let device = sysfs::layers(&host.sys, mount.device)
        .map_err(read(&host.sys))?
        .unwrap_or_else(|| Layer {
            name: mount.kind.clone(),
            number: mount.device,
            size: 0,
            kind: LayerKind::NotABlockDevice {
                source: mount.source.clone(),
            },
            below: Vec::new(),
        });
    let node = sysfs::node(&host.dev, &device.name);
    Ok(Filesystem {
        mount_point: mount.point.clone(),
        root: mount.root.clone(),
        kind: mount.kind.clone(),
        external: external(mount, &node).map_err(read(&node))?,
        device,
    })
}

fn subvolume(mount: &Mount, on: Place, host: &HostView) -> Result<Filesystem, VolumeError> {
    let below =
        sysfs::btrfs_devices(&host.sys, Path::new(&mount.source)).map_err(read(&host.sys))?;
    let whole = fs::metadata(&on.top).is_ok_and(|found| found.ino() == SUBVOLUME_ROOT);
    Ok(Filesystem {
        mount_point: on.top,
        // A picture of the subvolume begins at its root.
        root: "/".into(),
        kind: mount.kind.clone(),
        external: Vec::new(),
        device: Layer {
            name: mount.source.clone(),
            number: on.device,
            size: below.iter().map(|device| device.size).sum(),
            kind: LayerKind::Subvolume { whole },
            below,
        },
    })
}

fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> impl FnOnce(io::Error) -> VolumeError + use<> {
    let path = path.to_owned();
    move |source| VolumeError::Read { path, source }
}

#[cfg(test)]
mod tests;
