//! From a path to the devices under it: mount, then layers, then what a provider can snapshot.

use std::path::PathBuf;

use serde::Serialize;

/// A block device's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DevNumber {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// A mounted file system and the tree of devices it lies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Filesystem {
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The directory of the file system that is mounted there (`/` but for bind mounts and subvolumes).
    pub root: PathBuf,
    /// "xfs", "ext4", ...
    pub kind: String,
    /// The top device.
    pub device: Layer,
}

/// One block device and what it lies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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

/// The kinds of device the stack is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// A whole disk.
    Disk,
}

/// A directory that belongs to dbPath but lies elsewhere, by symlink or mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Graft {
    /// Where mongod expects it, relative to dbPath: `journal`, `mydb`, `mydb/index`.
    pub at: PathBuf,
    /// Where it really lies on this host.
    pub path: PathBuf,
    /// Index into [`DataLayout::filesystems`].
    pub filesystem: usize,
}

/// Everything under one dbPath: real places and the file systems that hold them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DataLayout {
    /// dbPath with symlinks resolved.
    pub db_path: PathBuf,
    /// Index of dbPath's own file system.
    pub filesystem: usize,
    /// Directories that lie elsewhere (also those on the same file system behind a symlink).
    pub grafts: Vec<Graft>,
    /// Every file system involved, each once.
    pub filesystems: Vec<Filesystem>,
}
