//! From a path to the devices under it: mount, then layers, then what a provider can snapshot.

pub mod draw;
mod external;
#[cfg(test)]
pub mod fake;
pub mod mountinfo;
pub mod resolve;
pub mod sysfs;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use resolve::{HostView, VolumeError, locate, resolve};

/// What the names of our btrfs snapshots begin with. Nothing of that name is mongod's data.
pub const SUBVOLUME_PREFIX: &str = ".freezeframe-snapshot-";
/// Inode number of every btrfs subvolume's root directory, and of nothing else there (the kernel's `BTRFS_FIRST_FREE_OBJECTID`).
pub const SUBVOLUME_ROOT: u64 = 256;

/// A block device's number. Written `major:minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DevNumber {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl fmt::Display for DevNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for DevNumber {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (major, minor) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self {
            major: major.parse()?,
            minor: minor.parse()?,
        })
    }
}

impl From<nix::libc::dev_t> for DevNumber {
    fn from(number: nix::libc::dev_t) -> Self {
        Self {
            major: nix::libc::major(number),
            minor: nix::libc::minor(number),
        }
    }
}

/// A mounted file system and the tree of devices it lies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// Where it is mounted; of a btrfs subvolume: where its root is seen, by a mount of its own or inside another.
    pub mount_point: PathBuf,
    /// The directory of the file system that is mounted there (`/` but for bind mounts).
    pub root: PathBuf,
    /// "xfs", "ext4", ...
    pub kind: String,
    /// The top device.
    pub device: Layer,
    /// What of the file system lies on other devices than this one ("log on /dev/sdb1"), without which a picture cannot be mounted, or is not whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external: Vec<String>,
}

impl Filesystem {
    /// Where `path`, a place under this mount, lies inside the file system: relative to the root of
    /// any other mount of it, such as that of a snapshot. None for a path elsewhere.
    pub fn inside(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(&self.mount_point).ok()?;
        let root = self.root.strip_prefix("/").unwrap_or(&self.root);
        // Joined by components: joining an empty path would leave a slash at the end.
        Some(root.components().chain(below.components()).collect())
    }
}

/// One block device and what it lies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Kernel name, such as `dm-3` or `sda1`.
    pub name: String,
    /// Device number.
    pub number: DevNumber,
    /// Size in bytes.
    pub size: u64,
    /// What kind of device it is.
    pub kind: LayerKind,
    /// The devices below it.
    pub below: Vec<Layer>,
}

impl Layer {
    /// Whether the device `number` is this one or lies somewhere below it.
    pub fn contains(&self, number: DevNumber) -> bool {
        self.number == number || self.below.iter().any(|layer| layer.contains(number))
    }
}

/// The kinds of device the stack is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// An LVM logical volume.
    LogicalVolume {
        /// Volume group.
        vg: String,
        /// Logical volume.
        lv: String,
    },
    /// Another device-mapper device.
    DeviceMapper {
        /// dm name.
        name: String,
        /// dm uuid; its prefix tells who made it.
        uuid: String,
    },
    /// An md array.
    Md {
        /// "raid0", "raid1", ...
        level: String,
    },
    /// A partition.
    Partition,
    /// A whole disk, or another device with nothing below it.
    Disk,
    /// A btrfs subvolume, on the devices of its file system.
    Subvolume {
        /// Whether all of it is seen at the mount point, and not a directory of it.
        whole: bool,
    },
    /// Nothing that sysfs knows as a block device: a network or memory file system, an overlay.
    NotABlockDevice {
        /// What was mounted, as mountinfo names it.
        source: String,
    },
}

/// A directory that belongs to dbPath but lies elsewhere, by symlink or mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graft {
    /// Where mongod expects it, relative to dbPath: `journal`, `mydb`, `mydb/index`.
    pub at: PathBuf,
    /// Where it really lies on this host.
    pub path: PathBuf,
    /// Index into [`DataLayout::filesystems`].
    pub filesystem: usize,
}

/// Everything under one dbPath: real places and the file systems that hold them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataLayout {
    /// dbPath with symlinks resolved.
    pub db_path: PathBuf,
    /// Index of dbPath's own file system.
    pub filesystem: usize,
    /// Directories that lie elsewhere (also those on the same file system behind a symlink).
    pub grafts: Vec<Graft>,
    /// Every mount involved, each once. Two mounts of one file system have the same device number.
    pub filesystems: Vec<Filesystem>,
}

impl DataLayout {
    /// The mount that holds dbPath itself.
    pub fn home(&self) -> Option<&Filesystem> {
        self.filesystems.get(self.filesystem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_again_in_another_mount_of_the_file_system() {
        let filesystem = |mount_point: &str, root: &str| Filesystem {
            mount_point: mount_point.into(),
            root: root.into(),
            kind: "xfs".into(),
            device: Layer {
                name: "dm-0".into(),
                number: DevNumber {
                    major: 254,
                    minor: 0,
                },
                size: 0,
                kind: LayerKind::Disk,
                below: Vec::new(),
            },
            external: Vec::new(),
        };
        let cases = [
            ("/data", "/", "/data/db", Some("db")),
            ("/data", "/", "/data", Some("")),
            ("/", "/", "/var/lib/mongodb", Some("var/lib/mongodb")),
            (
                "/var/lib/mongodb",
                "/volumes/m",
                "/var/lib/mongodb/db",
                Some("volumes/m/db"),
            ),
            ("/data", "/", "/database", None),
        ];
        for (point, root, path, expected) in cases {
            let inside = filesystem(point, root).inside(Path::new(path));
            assert_eq!(
                inside.as_deref().map(Path::as_os_str),
                expected.map(std::ffi::OsStr::new),
                "{path}"
            );
        }
    }
}
