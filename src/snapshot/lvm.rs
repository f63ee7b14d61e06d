//! LVM snapshots, classic and thin, driven by LVM's own command line.
//!
//! [`plan`] decides before the lock, [`Lvm`] acts, [`watch`] keeps snapshots from filling up.
//! All of it blocks: call it on blocking threads.

pub mod array;
pub mod command;
mod control;
pub mod facts;
pub mod groups;
mod merge;
pub mod plan;
pub mod prepared;
pub mod status;
pub mod undo;
pub mod watch;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::array::Arrays;
use self::facts::{LogicalVolume, LvmFacts, ReportError, ThinPool};
pub use self::plan::{Planned, Sizing};
use self::prepared::{Names, is_prepared};
use self::status::{CowStatus, DeviceStates, PoolStatus};
pub use self::watch::{FillRecord, Watch};
use super::{LvmSnapshot, SnapshotError, Space};
use crate::exec::{Command, SharedExec};
use crate::volume::DevNumber;
use crate::volume::sysfs::join_lvm_name;

/// How long a device node may be in coming, and how often it is looked for.
const NODE_PATIENCE: Duration = Duration::from_secs(30);
const NODE_AGAIN: Duration = Duration::from_millis(20);

/// The host's LVM.
#[derive(Debug, Clone)]
pub struct Lvm {
    exec: SharedExec,
}

/// What a snapshot is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be read at once, and removed.
    ToRead,
    /// To be kept.
    ToKeep,
}

/// What came of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It was there and is gone.
    Removed,
    /// It was not there.
    WasAbsent,
}

impl Lvm {
    /// LVM as `exec` runs it.
    pub fn new(exec: SharedExec) -> Self {
        Self { exec }
    }

    /// Groups and volumes as they are now.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`] and [`SnapshotError::Report`].
    pub fn survey(&self) -> Result<LvmFacts, SnapshotError> {
        let groups = self.report(&command::groups(), facts::parse_groups)?;
        let volumes = self.report(&command::volumes(), facts::parse_volumes)?;
        Ok(LvmFacts {
            pools: self.pools(&volumes),
            groups,
            volumes,
            arrays: Arrays::new(),
        })
    }

    /// The pools that thin `volumes` lie in. One that is not at work, or does not tell, is left out: whoever needs it misses it.
    fn pools(&self, volumes: &[LogicalVolume]) -> Vec<ThinPool> {
        let pools = volumes
            .iter()
            .filter_map(|volume| Some((&volume.vg, volume.pool.as_ref()?)));
        let pools: BTreeSet<_> = pools.collect();
        if pools.is_empty() {
            return Vec::new();
        }
        let said = self.exec.run(&command::pool_threshold());
        let threshold = said.ok().and_then(|text| status::threshold(&text));
        let at_work = |(vg, lv): (&String, &String)| {
            let of = volumes
                .iter()
                .find(|volume| volume.vg == *vg && volume.lv == *lv)?;
            Some(ThinPool {
                vg: vg.clone(),
                lv: lv.clone(),
                size: of.size,
                threshold: threshold.unwrap_or(100),
                status: self.pool_status(vg, lv).ok()?,
            })
        };
        pools.into_iter().filter_map(at_work).collect()
    }

    /// Does what of a snapshot can be done before the lock: a classic one's space is made.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`]; then it may exist in part and [`Lvm::remove`] clears it up.
    pub fn prepare(&self, snapshot: &LvmSnapshot) -> Result<(), SnapshotError> {
        match snapshot.space {
            Space::Own { cow_bytes } => {
                self.exec.run(&command::make_space(snapshot, cow_bytes))?;
                // Else it would be done in the window.
                self.exec.run(&command::deactivate(&snapshot.full_name()))?;
            }
            // Stays active, being what the picture is made of: see [`Lvm::layer`].
            Space::Prepared { prepared_bytes } => {
                self.exec
                    .run(&command::make_space(snapshot, prepared_bytes))?;
            }
            Space::Pool { .. } => {}
        }
        Ok(())
    }

    /// Takes one snapshot that LVM makes and that was prepared: a single command. Its device node comes later, see [`Lvm::await_node`].
    ///
    /// # Errors
    /// [`SnapshotError::Exec`]; then the snapshot may exist in part and [`Lvm::remove`] clears it up.
    pub fn take(&self, snapshot: &LvmSnapshot, purpose: Purpose) -> Result<(), SnapshotError> {
        self.exec.run(&match snapshot.space {
            Space::Own { .. } | Space::Prepared { .. } => command::attach(snapshot),
            Space::Pool { .. } => command::create_thin(snapshot, purpose),
        })?;
        Ok(())
    }

    /// Has a thin snapshot be active, so that it can be read.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`].
    pub fn activate(&self, snapshot: &LvmSnapshot) -> Result<(), SnapshotError> {
        self.exec.run(&command::activate(&snapshot.full_name()))?;
        Ok(())
    }

    /// Has a thin snapshot be there and not active: udev takes one that is active for its origin, whose UUID it bears, and so does whoever mounts by
    /// UUID. Well done where it is not active, or gone.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`] where it is in use.
    pub fn deactivate(&self, snapshot: &LvmSnapshot) -> Result<(), SnapshotError> {
        let device = join_lvm_name(&snapshot.origin.vg, &snapshot.lv);
        if self.devices()?.has(&device) {
            self.exec.run(&command::deactivate(&snapshot.full_name()))?;
        }
        Ok(())
    }

    /// Waits until the device node of a snapshot that was taken is there, and is that of the snapshot. udev makes those of LVM, the kernel itself those that
    /// udev is not to see.
    ///
    /// # Errors
    /// [`SnapshotError::NoNode`] after half a minute.
    pub fn await_node(&self, snapshot: &LvmSnapshot) -> Result<PathBuf, SnapshotError> {
        match is_prepared(snapshot) {
            true => self.await_kernel_node(&Names::of(snapshot).picture),
            false => await_node(
                snapshot.device(),
                &join_lvm_name(&snapshot.origin.vg, &snapshot.lv),
            ),
        }
    }

    /// As [`Lvm::await_node`], of a device of ours that udev is not to see.
    fn await_kernel_node(&self, name: &str) -> Result<PathBuf, SnapshotError> {
        let number = self.number(name)?;
        let minor = number.rsplit(':').next().unwrap_or_default();
        await_node(PathBuf::from(format!("/dev/dm-{minor}")), name)
    }

    /// What share of a good snapshot's space is used, 0 to 1, as the kernel and LVM both see it.
    ///
    /// # Errors
    /// [`SnapshotError::Overflowed`], [`SnapshotError::PoolFull`] and [`SnapshotError::Gone`] where it is good no more, and what the commands bring.
    pub fn fill(&self, snapshot: &LvmSnapshot) -> Result<f64, SnapshotError> {
        let name = || snapshot.full_name();
        let gone = || SnapshotError::Gone { name: name() };
        let overflowed = || SnapshotError::Overflowed { name: name() };
        if is_prepared(snapshot) {
            return match self.cow_status(snapshot)? {
                CowStatus::Invalid => Err(overflowed()),
                CowStatus::Valid { used, total } => {
                    // Last: what was read before it was read from the right table.
                    self.is_in_place(snapshot)?;
                    Ok(used as f64 / total.max(1) as f64)
                }
            };
        }
        let volume = self
            .find(&snapshot.origin.vg, &snapshot.lv)?
            .ok_or_else(gone)?;
        if volume.origin.as_deref() != Some(snapshot.origin.lv.as_str()) {
            return Err(gone());
        }
        match volume.state() {
            // Suspended: somebody, perhaps we, extends it at this moment.
            'a' | 's' => {}
            // Not active, as a thin one is that is kept: it lies in its pool all the same.
            '-' if matches!(snapshot.space, Space::Pool { .. }) => {}
            // Invalid, or a merge that failed, active or suspended.
            'I' | 'S' | 'm' | 'M' => return Err(overflowed()),
            _ => return Err(gone()),
        }
        match &snapshot.space {
            Space::Own { .. } | Space::Prepared { .. } => match self.cow_status(snapshot)? {
                CowStatus::Invalid => Err(overflowed()),
                CowStatus::Valid { used, total } => Ok(used as f64 / total.max(1) as f64),
            },
            Space::Pool { pool } => match self.pool_status(&snapshot.origin.vg, pool)? {
                status if status.healthy => Ok(status.fill()),
                _ => Err(SnapshotError::PoolFull {
                    pool: format!("{}/{pool}", snapshot.origin.vg),
                }),
            },
        }
    }

    /// The kernel's count of a classic snapshot's space; cheap, and without LVM's locks.
    ///
    /// # Errors
    /// [`SnapshotError::Gone`] when the device is no snapshot, [`SnapshotError::Exec`] when there is none.
    pub fn cow_status(&self, snapshot: &LvmSnapshot) -> Result<CowStatus, SnapshotError> {
        let text = self.exec.run(&command::status(snapshot))?;
        CowStatus::parse(&text).ok_or_else(|| SnapshotError::Gone {
            name: snapshot.full_name(),
        })
    }

    /// The kernel's count of the space in the thin pool `vg/pool`; cheap, and without LVM's locks.
    ///
    /// # Errors
    /// [`SnapshotError::Gone`] when the device is no pool, [`SnapshotError::Exec`] when there is none.
    pub fn pool_status(&self, vg: &str, pool: &str) -> Result<PoolStatus, SnapshotError> {
        let text = self.exec.run(&command::pool_status(vg, pool))?;
        PoolStatus::parse(&text).ok_or_else(|| SnapshotError::Gone {
            name: format!("{vg}/{pool}"),
        })
    }

    /// Gives a classic snapshot `by` more bytes, a multiple of the group's extent size.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`].
    pub fn extend(&self, snapshot: &LvmSnapshot, by: u64) -> Result<(), SnapshotError> {
        self.exec.run(&command::extend(snapshot, by))?;
        Ok(())
    }

    /// Bytes that are free in a group.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`] and [`SnapshotError::Report`]; a group that is not listed has none.
    pub fn free(&self, vg: &str) -> Result<u64, SnapshotError> {
        let groups = self.report(&command::groups(), facts::parse_groups)?;
        Ok(groups
            .iter()
            .find(|group| group.name == vg)
            .map_or(0, |group| group.free))
    }

    /// Removes a snapshot if it is the one that the run made, or what a killed `lvcreate` left of it; resumes
    /// its origin first, should that have been left suspended. Well done also where there is nothing.
    ///
    /// # Errors
    /// [`SnapshotError::NotOurs`] for anything else of that name, [`SnapshotError::Exec`] when it cannot be
    /// removed (it is mounted), [`SnapshotError::Suspended`].
    pub fn remove(&self, snapshot: &LvmSnapshot) -> Result<Removal, SnapshotError> {
        self.resume(snapshot)?;
        if is_prepared(snapshot) {
            self.take_apart(snapshot)?;
        }
        self.drop_detached(snapshot)?;
        let Some(found) = self.find(&snapshot.origin.vg, &snapshot.lv)? else {
            return self.sweep(snapshot);
        };
        let claimed = claim(&found, snapshot).map_err(|reason| SnapshotError::NotOurs {
            name: snapshot.full_name(),
            reason,
        })?;
        let removed = self.exec.run(&command::remove(&snapshot.full_name()));
        if removed.is_err() {
            // One that died at it has left the origin standing still, and it may be long until this is tried again.
            self.resume(snapshot)?;
        }
        removed?;
        if claimed == Claimed::Unattached && !is_prepared(snapshot) {
            // The kernel may still have the origin's table for a snapshot that the metadata never got. Where the refresh
            // does not change that, the table passes everything on and goes with the next snapshot's removal.
            if let Err(error) = self.refresh(snapshot) {
                tracing::warn!(origin = %snapshot.origin, %error, "cannot refresh the origin; it works, `lvchange --refresh` tidies it");
            }
        }
        self.resume(snapshot)?;
        self.sweep(snapshot)?;
        Ok(Removal::Removed)
    }

    fn find(&self, vg: &str, lv: &str) -> Result<Option<LogicalVolume>, SnapshotError> {
        let volumes = self.report(&command::volume(vg, lv), facts::parse_volumes)?;
        Ok(volumes
            .into_iter()
            .find(|volume| volume.vg == vg && volume.lv == lv))
    }

    /// Every device-mapper device of the host; without LVM's locks.
    fn devices(&self) -> Result<DeviceStates, SnapshotError> {
        let text = self.exec.run(&command::states())?;
        Ok(DeviceStates::parse(&text))
    }

    fn report<T>(
        &self,
        command: &Command,
        parse: fn(&str) -> Result<T, ReportError>,
    ) -> Result<T, SnapshotError> {
        let text = self.exec.run(command)?;
        parse(&text).map_err(|source| SnapshotError::Report {
            command: command.to_string(),
            source,
        })
    }
}

/// Waits until `path` is the node of the device-mapper device `name`.
fn await_node(path: PathBuf, name: &str) -> Result<PathBuf, SnapshotError> {
    let begun = Instant::now();
    while !is_node_of(&path, name) {
        if begun.elapsed() > NODE_PATIENCE {
            return Err(SnapshotError::NoNode { path });
        }
        std::thread::sleep(NODE_AGAIN);
    }
    Ok(path)
}

/// Whether the node `path` is that of the device-mapper device `name`.
fn is_node_of(path: &Path, name: &str) -> bool {
    let found = fs::metadata(path).map(|found| DevNumber::from(found.rdev()));
    let named =
        found.and_then(|number| fs::read_to_string(format!("/sys/dev/block/{number}/dm/name")));
    named.is_ok_and(|found| found.trim_end() == name)
}

/// In what state something of ours was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claimed {
    Snapshot,
    /// The copy-on-write space alone: `lvcreate` was killed before it became a snapshot.
    Unattached,
}

/// Whether `found` is what the run that planned `snapshot` made; else the reason why not.
fn claim(found: &LogicalVolume, snapshot: &LvmSnapshot) -> Result<Claimed, String> {
    let tagged =
        found.has_tag(LvmSnapshot::TAG) && found.has_tag(&LvmSnapshot::run_tag(snapshot.run));
    if let (true, Space::Pool { pool }) = (tagged, &snapshot.space)
        && found.pool.as_ref() == Some(pool)
    {
        // Also one whose origin is gone.
        return Ok(Claimed::Snapshot);
    }
    match found.origin.as_deref() {
        Some(_) if !tagged => Err("it does not carry the run's tags".into()),
        Some(origin) if origin != snapshot.origin.lv => {
            Err(format!("it is a snapshot of {origin}"))
        }
        Some(_) => Ok(Claimed::Snapshot),
        None if found.volume_type() != '-' => {
            Err(format!("it is of kind \"{}\"", found.layout.join(",")))
        }
        None if found.is_open() => Err("it is a volume in use".into()),
        None if tagged || found.size == snapshot.space.from_group() => Ok(Claimed::Unattached),
        None => Err("it is a volume of another size, without the run's tags".into()),
    }
}

#[cfg(test)]
mod tests;
