//! Which snapshots a backup needs and how large they must be: pure, from facts gathered before the lock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::command::CHUNK;
use super::facts::{LogicalVolume, LvmFacts, ThinPool, VolumeGroup};
use super::status::PoolStatus;
use crate::config::{LvmWindow, SnapshotSize};
use crate::human;
use crate::ids::RunId;
use crate::snapshot::{LvmSnapshot, Origin, SnapshotError, Space, btrfs};
use crate::volume::{DataLayout, DevNumber, Filesystem, LayerKind};

/// Twice what the write rate seen would fill: rates vary, checkpoints come in bursts.
const SAFETY: u64 = 2;
/// A thin pool this full, by data or metadata, is let be: the snapshots in it go, so that mongod can write.
pub const POOL_GIVE_UP: f64 = 0.95;
/// Bytes in a block of a thin pool's metadata.
const POOL_METADATA_BLOCK: u64 = 4096;
/// LVM wants that much of it free, or a quarter of what there is.
const POOL_METADATA_LEAST: u64 = 4 << 20;
/// Bytes of the snapshot's own table for each chunk copied.
const TABLE_ENTRY: u64 = 16;

/// What snapshot sizes are computed from.
#[derive(Debug, Clone)]
pub struct Sizing {
    /// Bytes written to each origin in one second, see [`crate::snapshot::rate::measure`].
    pub rates: BTreeMap<DevNumber, u64>,
    /// How long the snapshots will live.
    pub expected: Duration,
    /// The setting `[lvm] snapshot_size`.
    pub setting: SnapshotSize,
    /// The least that "auto" gives, in bytes.
    pub floor: u64,
    /// The setting `[lvm] window`.
    pub window: LvmWindow,
    /// Origins that must stand still together, being members of arrays, and so are prepared whatever the setting.
    pub together: BTreeSet<DevNumber>,
}

/// A snapshot to be made, and what it is a picture of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The snapshot.
    pub snapshot: LvmSnapshot,
    /// Device number of the origin: the [`Filesystem::device`] of every mount it is a picture of.
    pub device: DevNumber,
    /// Type of the file system in it.
    pub kind: String,
    /// Bytes of the origin.
    pub origin_size: u64,
    /// Bytes in one extent of the group.
    pub extent: u64,
}

/// How long reading `bytes` takes at `rate` bytes a second. A rate of zero is taken for one byte.
pub fn expected_duration(bytes: u64, rate: u64) -> Duration {
    Duration::from_secs(bytes.div_ceil(rate.max(1)))
}

/// One snapshot for each LV under `layouts`, numbered in order of first appearance. btrfs is passed over: see [`btrfs::plan`].
///
/// # Errors
/// [`SnapshotError::Unfit`] for the first file system that cannot be snapshotted,
/// [`SnapshotError::NoSpace`] when a group has too little space for all its snapshots together, [`SnapshotError::PoolSpace`] when a thin
/// pool would be full before they go.
pub fn plan(
    facts: &LvmFacts,
    layouts: &[&DataLayout],
    run: RunId,
    sizing: &Sizing,
) -> Result<Vec<Planned>, SnapshotError> {
    let mut planned: Vec<Planned> = Vec::new();
    let mut to_pools = BTreeMap::new();
    let filesystems = layouts.iter().flat_map(|layout| &layout.filesystems);
    for filesystem in filesystems.filter(|filesystem| !btrfs::is_ours(filesystem)) {
        let device = filesystem.device.number;
        let Fit {
            volume: origin,
            group,
            pool,
        } = origin(filesystem, facts)?;
        if planned.iter().any(|one| one.device == device) {
            continue;
        }
        let to_prepare = sizing.window == LvmWindow::Prepared || sizing.together.contains(&device);
        let rate = sizing.rates.get(&device).copied().unwrap_or(0);
        let demand = Demand {
            rate,
            expected: sizing.expected,
            origin: origin.size,
            extent: group.extent,
            floor: sizing.floor,
            setting: sizing.setting,
        };
        planned.push(Planned {
            snapshot: LvmSnapshot {
                origin: Origin {
                    vg: origin.vg.clone(),
                    lv: origin.lv.clone(),
                },
                lv: LvmSnapshot::name(run, planned.len() + 1),
                space: match pool {
                    Some(pool) => Space::Pool {
                        pool: pool.lv.clone(),
                    },
                    None if to_prepare && can_be_prepared(origin) => Space::Prepared {
                        prepared_bytes: cow_size(&demand),
                    },
                    None => Space::Own {
                        cow_bytes: cow_size(&demand),
                    },
                },
                run,
            },
            device,
            kind: filesystem.kind.clone(),
            origin_size: origin.size,
            extent: group.extent,
        });
        if let Some(pool) = pool {
            // Of what lies in the origin the pool keeps one old block at most for each.
            let written = written(rate, sizing.expected).min(origin.size);
            let sum: &mut u64 = to_pools.entry((&pool.vg, &pool.lv)).or_default();
            *sum = sum.saturating_add(written);
        }
    }
    for group in &facts.groups {
        let needed = needed_in(&group.name, &planned);
        if needed > group.free {
            return Err(SnapshotError::NoSpace {
                vg: group.name.clone(),
                needed,
                free: group.free,
            });
        }
    }
    for ((vg, lv), coming) in to_pools {
        if let Some(pool) = facts.pool(vg, lv) {
            is_open(pool)?;
            room_in(pool, coming)?;
        }
    }
    Ok(planned)
}

/// Whether LVM makes snapshots in a pool at all (`lib/metadata/thin_manip.c`, `pool_below_threshold`): neither data nor metadata above the threshold, and
/// of the metadata a quarter or 4 MiB free, whichever is less.
fn is_open(pool: &ThinPool) -> Result<(), SnapshotError> {
    let PoolStatus { data, metadata, .. } = pool.status;
    let threshold = f64::from(pool.threshold) / 100.0;
    let least = (metadata.total / 4).min(POOL_METADATA_LEAST / POOL_METADATA_BLOCK);
    let closed = |reason: String| {
        Err(SnapshotError::PoolClosed {
            pool: format!("{}/{}", pool.vg, pool.lv),
            reason,
        })
    };
    for (what, blocks) in [("data", data), ("metadata", metadata)] {
        if pool.threshold < 100 && blocks.share() > threshold {
            return closed(format!(
                "{} of its {what} are used, and thin_pool_autoextend_threshold is {}",
                human::percent(blocks.share()),
                pool.threshold
            ));
        }
    }
    if metadata.free() < least {
        let free = human::size(metadata.free().saturating_mul(POOL_METADATA_BLOCK));
        return closed(format!("only {free} of its metadata are free"));
    }
    Ok(())
}

/// Whether a pool stays below [`POOL_GIVE_UP`] while `coming` bytes are written to what lies in it. Each may need a new block: of what they
/// overwrite, the snapshots keep the old one. How much metadata that takes is not foretold.
fn room_in(pool: &ThinPool, coming: u64) -> Result<(), SnapshotError> {
    let share = coming as f64 / pool.size.max(1) as f64;
    let fill = pool
        .status
        .metadata
        .share()
        .max(pool.status.data.share() + share);
    if pool.status.healthy && fill < POOL_GIVE_UP {
        return Ok(());
    }
    Err(SnapshotError::PoolSpace {
        pool: format!("{}/{}", pool.vg, pool.lv),
        fill: pool.status.fill(),
        coming,
    })
}

/// Bytes of copy-on-write space that the plan takes from group `vg`.
pub fn needed_in(vg: &str, planned: &[Planned]) -> u64 {
    planned
        .iter()
        .filter(|one| one.snapshot.origin.vg == vg)
        .fold(0, |sum, one| {
            sum.saturating_add(one.snapshot.space.from_group())
        })
}

/// A volume that a snapshot can be made of.
#[derive(Debug, Clone, Copy)]
pub struct Fit<'a> {
    /// The volume.
    pub volume: &'a LogicalVolume,
    /// Its group.
    pub group: &'a VolumeGroup,
    /// The pool it lies in, if it is thin.
    pub pool: Option<&'a ThinPool>,
}

/// The LV that `filesystem` lies directly on, if a snapshot can be made of it.
///
/// # Errors
/// [`SnapshotError::Unfit`] with the reason and a drawing.
pub fn origin<'a>(filesystem: &Filesystem, facts: &'a LvmFacts) -> Result<Fit<'a>, SnapshotError> {
    fitting(filesystem, facts).map_err(|reason| SnapshotError::Unfit {
        mount_point: filesystem.mount_point.clone(),
        reason,
        drawing: filesystem.draw(),
    })
}

fn fitting<'a>(filesystem: &Filesystem, facts: &'a LvmFacts) -> Result<Fit<'a>, String> {
    let (vg, lv) = match &filesystem.device.kind {
        LayerKind::LogicalVolume { vg, lv } => (vg, lv),
        LayerKind::DeviceMapper { uuid, .. }
            if uuid.starts_with("part") && uuid.contains("LVM-") =>
        {
            return Err("it lies on a partition inside a logical volume".into());
        }
        LayerKind::DeviceMapper { .. } => {
            return Err("it lies on a device-mapper device that is no logical volume".into());
        }
        LayerKind::Md { .. } => {
            let array = facts.arrays.get(&filesystem.device.number);
            let reason = array.and_then(|array| array.assembly.as_ref().err());
            return Err(reason.cloned().unwrap_or_else(|| {
                "it lies on an md array, not directly on a logical volume".into()
            }));
        }
        LayerKind::Partition | LayerKind::Disk => {
            return Err("it does not lie on a logical volume".into());
        }
        LayerKind::Subvolume { .. } => return Err("it is a btrfs subvolume".into()),
        LayerKind::NotABlockDevice { .. } => return Err("it lies on no block device".into()),
    };
    if filesystem.mount_point.as_os_str() == "/" {
        return Err("it is the root file system, which must not stand still under the commands that snapshot it".into());
    }
    if !matches!(filesystem.kind.as_str(), "xfs" | "ext4") {
        return Err(format!(
            "only XFS and ext4 are supported, this is {}",
            filesystem.kind
        ));
    }
    if let Some(apart) = filesystem.external.first() {
        return Err(format!(
            "it has its {apart}, and a snapshot of it could not be mounted without that"
        ));
    }
    let volume = facts
        .volume(vg, lv)
        .ok_or_else(|| format!("LVM does not list {vg}/{lv}"))?;
    let group = facts
        .group(vg)
        .ok_or_else(|| format!("LVM does not list the group {vg}"))?;
    if volume.device != Some(filesystem.device.number) {
        return Err(format!(
            "LVM knows {vg}/{lv} as another device than the one that is mounted"
        ));
    }
    fit_group(group)?;
    fit_volume(volume)?;
    let pool = match &volume.pool {
        Some(pool) => Some(
            facts
                .pool(vg, pool)
                .ok_or_else(|| format!("the kernel does not show the thin pool {vg}/{pool}"))?,
        ),
        None => None,
    };
    Ok(Fit {
        volume,
        group,
        pool,
    })
}

pub(super) fn fit_group(group: &VolumeGroup) -> Result<(), String> {
    let name = &group.name;
    let flag = |index| group.attr.chars().nth(index).unwrap_or('?');
    if flag(0) != 'w' {
        return Err(format!("volume group {name} is read-only"));
    }
    if flag(2) == 'x' {
        return Err(format!("volume group {name} is exported"));
    }
    if flag(3) == 'p' || group.missing > 0 {
        return Err(format!("volume group {name} lacks a physical volume"));
    }
    if matches!(flag(5), 'c' | 's') || !group.lock_type.is_empty() {
        return Err(format!("volume group {name} is shared between hosts"));
    }
    if group.extent == 0 {
        return Err(format!("volume group {name} has no extent size"));
    }
    Ok(())
}

pub(super) fn fit_volume(volume: &LogicalVolume) -> Result<(), String> {
    let name = volume.full_name();
    let kind = volume.layout.join(",");
    let plain =
        |one: &String| matches!(one.as_str(), "linear" | "striped") || one.starts_with("raid");
    let fit = match volume.volume_type() {
        '-' | 'o' | 'r' | 'R' => !volume.layout.is_empty() && volume.layout.iter().all(plain),
        'V' => volume.pool.is_some(),
        's' | 'S' => return Err(format!("{name} is itself a snapshot")),
        'O' => return Err(format!("a snapshot is being merged into {name}")),
        _ => false,
    };
    if !fit {
        return Err(format!(
            "{name} is of kind \"{kind}\"; linear, striped, raid and thin volumes are supported"
        ));
    }
    match volume.state() {
        'a' => Ok(()),
        's' => Err(format!("{name} is suspended: writes to it wait")),
        other => Err(format!(
            "{name} is in state '{other}' (see lvs(8)), not simply active"
        )),
    }
}

/// Whether the volume's table may be in force twice: linear or striped, and not the origin of other snapshots.
pub(super) fn can_be_prepared(volume: &LogicalVolume) -> bool {
    let plain = |one: &String| matches!(one.as_str(), "linear" | "striped");
    volume.volume_type() == '-' && volume.layout.iter().all(plain)
}

/// What one snapshot's size is computed from; bytes, and bytes a second.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    /// Write rate of the origin.
    pub rate: u64,
    /// How long the snapshot will live.
    pub expected: Duration,
    /// Size of the origin.
    pub origin: u64,
    /// Extent size of the group.
    pub extent: u64,
    /// The least that "auto" gives.
    pub floor: u64,
    /// The setting.
    pub setting: SnapshotSize,
}

/// Bytes of copy-on-write space, in whole extents.
///
/// "auto" is twice what the write rate would fill, and not below the floor. Whatever the setting, never more than a
/// snapshot of this origin can use.
pub fn cow_size(demand: &Demand) -> u64 {
    let asked = match demand.setting {
        SnapshotSize::Bytes(size) => size.0,
        SnapshotSize::Percent(percent) => share(demand.origin, percent),
        SnapshotSize::Auto => with_table(written(demand.rate, demand.expected)).max(demand.floor),
    };
    in_extents(asked.max(1), demand.extent).min(most_usable(demand.origin, demand.extent))
}

/// What may be written in `expected` at a rate of `rate` bytes a second now.
fn written(rate: u64, expected: Duration) -> u64 {
    rate.saturating_mul(expected.as_secs().saturating_add(1))
        .saturating_mul(SAFETY)
}

/// The largest copy-on-write space a snapshot of an origin of `origin` bytes can use: every chunk copied. With
/// that much it cannot overflow. LVM cuts larger ones down to it (`lib/metadata/snapshot_manip.c`).
pub fn most_usable(origin: u64, extent: u64) -> u64 {
    // One chunk for the header and one for the end of the table.
    in_extents(with_table(origin).saturating_add(2 * CHUNK), extent)
}

/// `bytes` rounded up to chunks, and the table that tells where they are.
fn with_table(bytes: u64) -> u64 {
    let chunks = bytes.div_ceil(CHUNK);
    let table = chunks.div_ceil(CHUNK / TABLE_ENTRY);
    chunks.saturating_add(table).saturating_mul(CHUNK)
}

/// `bytes` rounded up to whole extents; as many as fit where that is more than there are numbers.
pub fn in_extents(bytes: u64, extent: u64) -> u64 {
    let extent = extent.max(1);
    bytes
        .checked_next_multiple_of(extent)
        .unwrap_or(u64::MAX - u64::MAX % extent)
}

fn share(of: u64, percent: u8) -> u64 {
    let share = u128::from(of) * u128::from(percent) / 100;
    u64::try_from(share).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
