//! `[lvm] window = "prepared"`: snapshots that device-mapper makes and LVM knows nothing of, so that in the lock window nothing is left to do but to have
//! tables that were loaded before take effect.
//!
//! Beside an origin, which LVM made and which is mounted, are put: an ordinary volume with our tag (the copy-on-write space), a device with the origin's own
//! table (`real`), and the snapshot of that (`picture`). The origin gets the table `snapshot-origin <real>`:
//!
//! | time | done |
//! |---|---|
//! | before the lock | space made, `real` made; `picture` made and loaded |
//! | in the window | LVM kept from the groups; the origins' new tables loaded beside those in force; all origins suspended, all pictures resumed, all origins resumed |
//! | until the archive is done | the origin's table looked at: an LVM command that loads another makes the picture wrong, and the backup fails |
//! | after | the origin's own table, which is that of `real`, put back; both devices removed, then the space |
//!
//! Exceptions begin when the picture is resumed (`drivers/md/dm-snap.c`, `snapshot_resume`), and the origin writes through `real` from its own resume on; between
//! the two nothing can be written. Only linear and striped volumes: a raid volume's table must not be in force twice, since each would keep its own count of
//! what is in sync.

use std::time::Duration;

use super::groups::{GroupLocks, Groups};
use super::{Lvm, command, control};
use crate::exec::Command;
use crate::snapshot::{LvmSnapshot, SnapshotError, Space};
use crate::volume::sysfs::join_lvm_name;

/// How long an LVM command may have a group that we need in the window, and when giving back.
const WINDOW_PATIENCE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

/// The target that passes everything on to another device, and has that one's snapshots keep what is overwritten.
const ORIGIN: &str = "snapshot-origin";

/// Which of a device's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Live,
    Waiting,
}

/// The device-mapper names that one prepared snapshot has to do with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The origin, which is LVM's.
    pub origin: String,
    /// The copy-on-write space, which is LVM's.
    pub space: String,
    /// Ours, with the origin's own table.
    pub real: String,
    /// Ours, the snapshot.
    pub picture: String,
}

impl Names {
    /// Those of `snapshot`. Ours carry the run.
    pub fn of(snapshot: &LvmSnapshot) -> Self {
        Self {
            origin: join_lvm_name(&snapshot.origin.vg, &snapshot.origin.lv),
            space: join_lvm_name(&snapshot.origin.vg, &snapshot.lv),
            real: format!("{}-real", snapshot.lv),
            picture: format!("{}-picture", snapshot.lv),
        }
    }
}

/// Whether `snapshot` is made by device-mapper alone.
pub fn is_prepared(snapshot: &LvmSnapshot) -> bool {
    matches!(snapshot.space, Space::Prepared { .. })
}

/// Whether a table as `dmsetup table` prints it may be in force in two devices at once: linear and striped targets alone keep nothing in mind.
fn may_be_doubled(table: &str) -> bool {
    let mut lines = table.lines().peekable();
    lines.peek().is_some() && lines.all(|line| matches!(target(line), Some("linear" | "striped")))
}

fn target(line: &str) -> Option<&str> {
    line.split_ascii_whitespace().nth(2)
}

/// Sectors of a device with that table.
fn sectors(table: &str) -> Option<u64> {
    table.lines().try_fold(0u64, |sum, line| {
        let length: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
        sum.checked_add(length)
    })
}

/// Whether that table is the one that we give an origin whose `real` device has the number `real`.
fn is_ours(table: &str, real: &str) -> bool {
    let mut fields = table.split_ascii_whitespace().skip(2);
    fields.next() == Some(ORIGIN) && fields.next() == Some(real) && fields.next().is_none()
}

/// Prepared snapshots of which everything is in place but their origins' tables. What it does, it does in the window, in the order of its methods.
#[derive(Debug, Clone)]
pub struct Layered {
    lvm: Lvm,
    groups: Groups,
    layers: Vec<Layer>,
}

#[derive(Debug, Clone)]
struct Layer {
    snapshot: LvmSnapshot,
    names: Names,
    /// The origin's table, lines without their ends.
    own: Vec<String>,
    /// The one that it gets.
    ours: String,
}

impl Layered {
    /// The origins, for the record.
    pub fn origins(&self) -> String {
        let origins = self.layers.iter();
        let origins: Vec<_> = origins.map(|one| one.snapshot.origin.to_string()).collect();
        origins.join(", ")
    }

    /// Keeps LVM from the groups. LVM takes a table that waits in one of its devices for its own: what it does to an origin while ours waits there would go
    /// wrong, and what moves data below it would lose what is written meanwhile.
    ///
    /// # Errors
    /// [`SnapshotError::GroupBusy`] and [`SnapshotError::GroupLock`].
    pub fn hold_groups(&self) -> Result<GroupLocks, SnapshotError> {
        self.groups.lock(WINDOW_PATIENCE)
    }

    /// Loads the origins' new tables beside those in force, if these are what they were.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`] and [`SnapshotError::Reloaded`].
    pub fn load(&self) -> Result<(), SnapshotError> {
        let names = self.origin_names();
        let (live, waiting) = (
            self.lvm.tables(&names, Which::Live)?,
            self.lvm.tables(&names, Which::Waiting)?,
        );
        for layer in &self.layers {
            let name = &layer.names.origin;
            if table_of(&live, name) != layer.own || !table_of(&waiting, name).is_empty() {
                return Err(reloaded(&layer.snapshot));
            }
        }
        for layer in &self.layers {
            let load = command::load(&layer.names.origin, &layer.ours).urgent();
            self.lvm.exec.run(&load)?;
        }
        Ok(())
    }

    /// Has all origins stand still.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`]; some may stand still then.
    pub fn suspend(&self) -> Result<(), SnapshotError> {
        self.lvm.exec.run(&command::suspend(&self.origin_names()))?;
        Ok(())
    }

    /// Has the pictures be of this moment: all origins stand still.
    ///
    /// # Errors
    /// [`SnapshotError::Device`].
    pub fn expose(&self) -> Result<(), SnapshotError> {
        self.layers.iter().try_for_each(|layer| {
            let picture = &layer.names.picture;
            control::resume_unseen(picture).map_err(|source| device(picture, source))
        })
    }

    /// Has all origins go on, writing past their pictures.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`]; some may stand still then.
    pub fn go_on(&self) -> Result<(), SnapshotError> {
        self.lvm
            .exec
            .run(&command::resume_all(&self.origin_names()))?;
        Ok(())
    }

    /// Has every origin that stands still go on, and leaves no table waiting.
    pub fn withdraw(&self) {
        let snapshots = self.layers.iter().map(|layer| &layer.snapshot);
        self.lvm.withdraw(snapshots);
    }

    /// Each by itself, as they must not be taken: for a test.
    pub fn apart(&self) -> Vec<Self> {
        let one = |layer: &Layer| Self {
            layers: vec![layer.clone()],
            lvm: self.lvm.clone(),
            groups: self.groups.clone(),
        };
        self.layers.iter().map(one).collect()
    }

    fn origin_names(&self) -> Vec<String> {
        let names = self.layers.iter().map(|layer| layer.names.origin.clone());
        names.collect()
    }
}

impl Lvm {
    /// Puts everything in its place for `snapshots`, whose spaces were made and are active, but for their origins' tables. The last thing before the lock.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`], [`SnapshotError::Device`] and [`SnapshotError::Unlike`]; [`Lvm::remove`] clears up.
    pub fn layer(&self, snapshots: Vec<LvmSnapshot>) -> Result<Layered, SnapshotError> {
        let groups = self.groups(snapshots.iter().map(|one| one.origin.vg.as_str()))?;
        // What keeps them from being locked is better known now than in the window.
        drop(groups.lock(PATIENCE)?);
        let layers = snapshots.into_iter().map(|snapshot| self.lay(snapshot));
        Ok(Layered {
            layers: layers.collect::<Result<_, _>>()?,
            lvm: self.clone(),
            groups,
        })
    }

    fn lay(&self, snapshot: LvmSnapshot) -> Result<Layer, SnapshotError> {
        let names = Names::of(&snapshot);
        let own = self.table(&names.origin)?;
        let unlike = || SnapshotError::Unlike {
            origin: snapshot.origin.clone(),
            table: own.trim().to_owned(),
        };
        if !may_be_doubled(&own) {
            return Err(unlike());
        }
        // LVM gives it another table when the move ends, and could not take its own devices away while ours lie on them.
        if self
            .exec
            .run(&command::below(&names.origin))?
            .contains("-pvmove")
        {
            return Err(SnapshotError::Moving {
                origin: snapshot.origin,
            });
        }
        let sectors = sectors(&own).ok_or_else(unlike)?;
        self.exec.run(&command::make_device(&names.real))?;
        self.exec.run(&command::load(&names.real, own.trim_end()))?;
        control::resume_unseen(&names.real).map_err(|source| device(&names.real, source))?;
        let (real, space) = (self.number(&names.real)?, self.number(&names.space)?);
        let chunk = command::CHUNK / 512;
        let table = format!("0 {sectors} snapshot {real} {space} P {chunk}");
        self.exec.run(&command::make_device(&names.picture))?;
        self.exec.run(&command::load(&names.picture, &table))?;
        Ok(Layer {
            own: own.lines().map(|line| line.trim().to_owned()).collect(),
            ours: format!("0 {sectors} {ORIGIN} {real}"),
            snapshot,
            names,
        })
    }

    /// Has every origin that stands still go on, each by itself: the first that cannot must not keep the others. Then takes away what of ours waits in one
    /// that never stood still: LVM would take it for its own.
    pub fn withdraw<'a>(&self, snapshots: impl Iterator<Item = &'a LvmSnapshot> + Clone) {
        for snapshot in snapshots.clone() {
            if let Err(error) = self.resume_devices(snapshot) {
                tracing::warn!(origin = %snapshot.origin, %error, "cannot see to it that the origin goes on");
            }
        }
        if let Err(error) = self.clear_waiting(snapshots) {
            tracing::warn!(%error, "a table may wait in an origin; `freezeframe recover` takes it away");
        }
    }

    fn clear_waiting<'a>(
        &self,
        snapshots: impl Iterator<Item = &'a LvmSnapshot>,
    ) -> Result<(), SnapshotError> {
        let names: Vec<_> = snapshots.map(Names::of).collect();
        let origins: Vec<_> = names.iter().map(|one| one.origin.clone()).collect();
        let waiting = self.tables(&origins, Which::Waiting)?;
        let clear = |names: &Names| {
            let found = table_of(&waiting, &names.origin);
            if let [line] = found.as_slice()
                && target(line) == Some(ORIGIN)
                && is_ours(line, &self.number(&names.real)?)
            {
                self.exec.run(&command::clear(&names.origin))?;
            }
            Ok(())
        };
        // Every one is tried.
        let cleared: Vec<_> = names.iter().map(clear).collect();
        cleared.into_iter().collect()
    }

    /// The tables of `names`, each line after `name: `. By one command for all devices of the host; where that fails, as it does when any of them goes away
    /// meanwhile, by one for each.
    fn tables(&self, names: &[String], which: Which) -> Result<String, SnapshotError> {
        let (all, one): (_, fn(&str) -> Command) = match which {
            Which::Live => (command::tables(), command::table),
            Which::Waiting => (command::inactive_tables(), command::inactive_table),
        };
        if let Ok(text) = self.exec.run(&all) {
            return Ok(text);
        }
        let mut text = String::new();
        for name in names {
            for line in self.exec.run(&one(name))?.lines() {
                text.push_str(&format!("{name}: {line}\n"));
            }
        }
        Ok(text)
    }

    /// Sees to it that the origin still writes past the picture.
    ///
    /// # Errors
    /// [`SnapshotError::Reloaded`] where it does not, [`SnapshotError::Exec`] where it cannot be told.
    pub fn is_in_place(&self, snapshot: &LvmSnapshot) -> Result<(), SnapshotError> {
        let names = Names::of(snapshot);
        match is_ours(&self.table(&names.origin)?, &self.number(&names.real)?) {
            true => Ok(()),
            false => Err(reloaded(snapshot)),
        }
    }

    /// Puts the origin's own table back, if it has ours, and removes our devices, if they are there. What LVM has put there meanwhile stays.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`].
    pub(super) fn take_apart(&self, snapshot: &LvmSnapshot) -> Result<(), SnapshotError> {
        let names = Names::of(snapshot);
        let devices = self.devices()?;
        if devices.has(&names.real) && devices.has(&names.origin) {
            let groups = self.groups(std::iter::once(snapshot.origin.vg.as_str()))?;
            let _held = groups.lock(PATIENCE)?;
            let (real, own) = (self.number(&names.real)?, self.table(&names.real)?);
            if is_ours(&self.table(&names.origin)?, &real) {
                self.exec
                    .run(&command::load(&names.origin, own.trim_end()))?;
                self.exec.run(&command::exchange(&names.origin))?;
            } else if is_ours(
                &self.exec.run(&command::inactive_table(&names.origin))?,
                &real,
            ) {
                self.exec.run(&command::clear(&names.origin))?;
            }
        }
        for name in [names.picture, names.real] {
            if devices.has(&name) {
                self.exec.run(&command::drop_device(&name))?;
            }
        }
        Ok(())
    }

    fn table(&self, name: &str) -> Result<String, SnapshotError> {
        Ok(self.exec.run(&command::table(name))?)
    }

    /// `major:minor` of a device.
    pub(super) fn number(&self, name: &str) -> Result<String, SnapshotError> {
        let number = self.exec.run(&command::number(name))?;
        Ok(number.trim().to_owned())
    }
}

/// The lines of one device in what [`command::tables`] prints of all.
fn table_of(text: &str, name: &str) -> Vec<String> {
    let line = |line: &str| {
        let table = line.strip_prefix(name)?.strip_prefix(':')?.trim();
        (!table.is_empty()).then(|| table.to_owned())
    };
    text.lines().filter_map(line).collect()
}

fn reloaded(snapshot: &LvmSnapshot) -> SnapshotError {
    SnapshotError::Reloaded {
        origin: snapshot.origin.clone(),
    }
}

pub(super) fn device(name: &str, source: std::io::Error) -> SnapshotError {
    SnapshotError::Device {
        name: name.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
