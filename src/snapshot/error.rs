//! What can go wrong between a plan for a snapshot and its removal.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::Origin;
use super::lvm::facts::ReportError;
use crate::error::{Exit, Explain};
use crate::exec::ExecError;
use crate::human;
use crate::volume::{DevNumber, VolumeError};

/// Why a snapshot cannot be made, used or removed.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// An LVM or device-mapper command.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A command's report has an unknown form.
    #[error("`{command}` gave a report that is not understood: {source}")]
    Report {
        /// The command line.
        command: String,
        /// What is wrong with it.
        source: ReportError,
    },
    /// Mounts or devices could not be read.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A file system that no classic LVM snapshot can be made of.
    #[error("{} cannot be snapshotted: {reason}\n{drawing}", mount_point.display())]
    Unfit {
        /// Where it is mounted.
        mount_point: PathBuf,
        /// Why not.
        reason: String,
        /// What was found.
        drawing: String,
    },
    /// The group has too little free space for all snapshots together.
    #[error("volume group {vg} has {} free, its snapshots need {}", human::size(*.free), human::size(*.needed))]
    NoSpace {
        /// The group.
        vg: String,
        /// Bytes needed by all planned snapshots of the group.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// A thin pool would be full before the snapshots in it go.
    #[error("thin pool {pool} is {} full, and {} may be written to it while its snapshots live", human::percent(*.fill), human::size(*.coming))]
    PoolSpace {
        /// `vg/pool`.
        pool: String,
        /// The share used of its data or metadata, 0 to 1.
        fill: f64,
        /// Bytes that may be written to the origins in it until then.
        coming: u64,
    },
    /// A thin pool takes no more writes, or will take none soon.
    #[error("thin pool {pool} is full, or nearly so")]
    PoolFull {
        /// `vg/pool`.
        pool: String,
    },
    /// LVM makes no snapshot in a pool that is so full.
    #[error("LVM makes no snapshots in thin pool {pool}: {reason}")]
    PoolClosed {
        /// `vg/pool`.
        pool: String,
        /// What it lacks.
        reason: String,
    },
    /// A btrfs file system is nearly full.
    #[error("the btrfs file system of {} is nearly full", point.display())]
    FilesystemFull {
        /// A subvolume of it.
        point: PathBuf,
    },
    /// What is dirty cannot be written.
    #[error("cannot write out what is dirty in {}: {source}", point.display())]
    Flush {
        /// A directory of the file system.
        point: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be cloned.
    #[error("cannot {action} {}: {source}", path.display())]
    Clone {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Two names could not be exchanged.
    #[error("cannot exchange {} and {}: {source}", one.display(), other.display())]
    Exchange {
        /// What is at work.
        one: PathBuf,
        /// What was to take its place.
        other: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A merge was asked for and is put off.
    #[error("{name} is not being merged: LVM has put that off until its origin is activated anew")]
    NotMerging {
        /// `vg/lv`.
        name: String,
    },
    /// It has our name but is not what the run made.
    #[error("{name} is not removed: {reason}")]
    NotOurs {
        /// `vg/lv`.
        name: String,
        /// What does not fit.
        reason: String,
    },
    /// It ran full; its content is worthless.
    #[error("snapshot {name} ran full and lost its content")]
    Overflowed {
        /// `vg/lv`.
        name: String,
    },
    /// Somebody else removed it, or it never was.
    #[error("snapshot {name} is not there any more")]
    Gone {
        /// `vg/lv`.
        name: String,
    },
    /// LVM, or somebody else, gave a volume with a prepared snapshot another table: what is overwritten since then is not kept.
    #[error(
        "the device of {origin} was given another table while its snapshot was prepared or read; the snapshot is worthless"
    )]
    Reloaded {
        /// The volume.
        origin: Origin,
    },
    /// What a picture of an md array was planned of is not so any more.
    #[error("md array {array} {reason}")]
    ArrayChanged {
        /// Kernel name.
        array: String,
        /// What has changed.
        reason: String,
    },
    /// An LVM command has the group, and does not end.
    #[error("an LVM command has had the lock on volume group {vg} for longer than {}", human::duration(*.patience))]
    GroupBusy {
        /// The group.
        vg: String,
        /// How long it was waited for.
        patience: Duration,
    },
    /// Where LVM keeps its locks cannot be told.
    #[error("`lvmconfig global/locking_dir` does not name a directory: {said}")]
    NoLocks {
        /// What it printed.
        said: String,
    },
    /// A volume is on its way to another place.
    #[error("{origin} is being moved (pvmove)")]
    Moving {
        /// The volume.
        origin: Origin,
    },
    /// LVM's lock on a group cannot be asked for.
    #[error("cannot lock {}, which is LVM's lock on a volume group: {source}", path.display())]
    GroupLock {
        /// LVM's lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A volume whose table cannot be in force twice.
    #[error("no snapshot of {origin} can be prepared, its device's table is: {table}")]
    Unlike {
        /// The volume.
        origin: Origin,
        /// As `dmsetup table` shows it.
        table: String,
    },
    /// Device-mapper did not resume a device of ours.
    #[error("cannot bring the device {name} to life: {source}")]
    Device {
        /// Device-mapper name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody can tell whether it is there: the file system it was made in is not mounted where it was.
    #[error("{name} may still be there: its btrfs subvolume is not mounted on {}", point.display())]
    Unmounted {
        /// Its path.
        name: String,
        /// Where its subvolume was.
        point: PathBuf,
    },
    /// A volume stays suspended; everything that writes to it waits.
    #[error("{device} is suspended and cannot be resumed")]
    Suspended {
        /// Device-mapper name.
        device: String,
    },
    /// A device's write counters cannot be read.
    #[error("cannot read the write counters of device {device}: {source}")]
    Rate {
        /// The device.
        device: DevNumber,
        /// What the system said.
        source: io::Error,
    },
    /// A mount point could not be made or removed.
    #[error("cannot {action} directory {}: {source}", path.display())]
    Directory {
        /// "make" or "remove".
        action: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// udev has not made the device node of a snapshot.
    #[error("{} has not come to be within half a minute", path.display())]
    NoNode {
        /// Device node.
        path: PathBuf,
    },
    /// The mount failed.
    #[error("cannot mount {} on {}: {source}", device.display(), point.display())]
    Mount {
        /// Device node.
        device: PathBuf,
        /// Mount point.
        point: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else than the snapshot is mounted there.
    #[error("{} shows device {found}, not the snapshot's {expected}", point.display())]
    WrongDevice {
        /// Mount point.
        point: PathBuf,
        /// What is there.
        found: DevNumber,
        /// What should be.
        expected: DevNumber,
    },
    /// The file system stays mounted.
    #[error("cannot unmount {} within {}: {source}", point.display(), human::duration(*.tried))]
    Unmount {
        /// Mount point.
        point: PathBuf,
        /// How long it was tried.
        tried: Duration,
        /// What the system said last.
        source: io::Error,
    },
}

impl Explain for SnapshotError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Exec(error) => error.hint(),
            Self::Volume(error) => error.hint(),
            Self::Unfit { .. } => Some(
                "provider \"lvm\" wants each file system, XFS or ext4, directly on a logical volume (linear, striped, raid or thin) or on an md array (raid0, raid1, raid10) of linear or striped ones; \
                 provider \"reflink\" clones files on XFS and btrfs wherever they lie; \
                 provider \"hold\" needs no volume manager but holds the database for the whole backup"
                    .into(),
            ),
            Self::NoSpace { vg, needed, free } => Some(format!(
                "add {} to {vg} (vgextend), or set [lvm] snapshot_size or snapshot_floor lower",
                human::size(needed.saturating_sub(*free))
            )),
            Self::PoolSpace { pool, .. } => Some(format!(
                "extend it (lvextend {pool}, --poolmetadatasize where it is its metadata), or remove snapshots that nobody needs"
            )),
            Self::PoolClosed { pool, .. } => Some(format!(
                "extend it (lvextend {pool}, --poolmetadatasize where it is its metadata)"
            )),
            Self::FilesystemFull { .. } => Some(
                "the backup gave up so that mongod can write: free space there, or run the backup at a quieter time".into(),
            ),
            Self::PoolFull { pool } => Some(format!(
                "the backup gave up so that mongod can write: extend {pool} (lvextend), or run the backup at a quieter time"
            )),
            Self::NotOurs { name, .. } => {
                Some(format!("look at it with `lvs -o +tags,origin {name}` and remove it by hand if nobody needs it"))
            }
            Self::Reloaded { origin } => Some(format!(
                "run no LVM command on {origin} (lvchange, lvextend, lvconvert, pvmove ...) during a backup with [lvm] window = \"prepared\", \
                 or set window = \"lvm\""
            )),
            Self::GroupBusy { vg, .. } => Some(format!(
                "see which it is (`fuser -v` on V_{vg} in LVM's locking directory, normally /run/lock/lvm), and run the backup when it has ended"
            )),
            Self::ArrayChanged { array, .. } => Some(format!(
                "see `mdadm --detail /dev/{array}` and /proc/mdstat; run the backup again when nothing changes there any more"
            )),
            Self::NoLocks { .. } => Some(
                "nothing keeps LVM's commands out of a prepared snapshot without its locks: see `lvmconfig --typeconfig full global/locking_dir`".into(),
            ),
            Self::GroupLock { .. } => Some("run freezeframe as root, with LVM's locking directory writable".into()),
            Self::Moving { .. } => Some("wait until `lvs -a -o name,move_pv` shows no move any more".into()),
            Self::Device { .. } => Some("the kernel's log (`dmesg`) says why".into()),
            Self::Unlike { .. } => Some("set [lvm] window = \"lvm\"".into()),
            Self::Unmounted { point, .. } => Some(format!(
                "mount it on {} again, then run `freezeframe recover`",
                point.display()
            )),
            Self::Overflowed { .. } => Some(
                "more was written during the backup than expected: raise [lvm] snapshot_size, give the volume group \
                 more free space, or run the backup at a quieter time"
                    .into(),
            ),
            Self::Gone { .. } => Some("find out what removes snapshots on this host; the backup has to be run again".into()),
            Self::Suspended { device } => Some(format!("writes to it wait: run `dmsetup resume {device}` now")),
            Self::Unmount { point, .. } => Some(format!(
                "`fuser -vm {}` shows who uses it; then run `freezeframe recover`",
                point.display()
            )),
            Self::NotMerging { name } => Some(format!("end what has the origin of {name} open, unmount it, run `lvchange --refresh` on it, and ask again")),
            Self::NoNode { .. } => Some("see `systemctl status systemd-udevd`: it makes the nodes of new devices".into()),
            Self::Mount { .. } => Some("the kernel's log (`dmesg`) says why".into()),
            Self::Clone { .. } | Self::Exchange { .. } | Self::Flush { .. } | Self::Report { .. } | Self::Rate { .. } | Self::Directory { .. } | Self::WrongDevice { .. } => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Unfit { .. }
            | Self::NoSpace { .. }
            | Self::PoolSpace { .. }
            | Self::PoolClosed { .. }
            | Self::Volume(_) => Exit::Refused,
            Self::NotOurs { .. }
            | Self::Unmounted { .. }
            | Self::Suspended { .. }
            | Self::Unmount { .. } => Exit::StillHeld,
            _ => Exit::BackupFailed,
        }
    }
}
