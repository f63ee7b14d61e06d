//! `[lvm] window = "prepared"`: snapshots that device-mapper makes and LVM knows nothing of, so that in the lock window nothing is left to do but to have
//! tables that were loaded before take effect.
//!
//! Beside an origin, which LVM made and which is mounted, are put: an ordinary volume with our tag (the copy-on-write space), a device with the origin's own
//! table (`real`), and the snapshot of that (`picture`). The origin gets the table `snapshot-origin <real>`:
//!
//! | time | done |
//! |---|---|
//! | before the lock | space made, `real` made; `picture` made and loaded; the origin's new table loaded, beside the one in force |
//! | in the window | all origins suspended, all pictures resumed, all origins resumed |
//! | until the archive is done | the origin's table looked at: an LVM command that loads another makes the picture wrong, and the backup fails |
//! | after | the origin's own table, which is that of `real`, put back; both devices removed, then the space |
//!
//! Exceptions begin when the picture is resumed (`drivers/md/dm-snap.c`, `snapshot_resume`), and the origin writes through `real` from its own resume on; between
//! the two nothing can be written. Only linear and striped volumes: a raid volume's table must not be in force twice, since each would keep its own count of
//! what is in sync.

use super::{Lvm, command, control};
use crate::snapshot::{LvmSnapshot, SnapshotError, Space};
use crate::volume::sysfs::join_lvm_name;

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
    fields.next() == Some("snapshot-origin")
        && fields.next() == Some(real)
        && fields.next().is_none()
}

impl Lvm {
    /// Puts everything in its place for `snapshots`, whose spaces were made and are active, and lets nothing of it take effect yet. The last thing before the lock.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`], [`SnapshotError::Device`] and [`SnapshotError::Unlike`]; [`Lvm::remove`] clears up.
    pub fn layer(&self, snapshots: &[LvmSnapshot]) -> Result<(), SnapshotError> {
        let mut loads = Vec::new();
        for snapshot in snapshots {
            let names = Names::of(snapshot);
            let own = self.table(&names.origin)?;
            let unlike = || SnapshotError::Unlike {
                origin: snapshot.origin.clone(),
                table: own.trim().to_owned(),
            };
            if !may_be_doubled(&own) {
                return Err(unlike());
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
            loads.push((names, format!("0 {sectors} snapshot-origin {real}"), own));
        }
        for (names, table, _) in &loads {
            self.exec.run(&command::load(&names.origin, table))?;
        }
        // What LVM does meanwhile puts its own table where ours lies, or changes the one in force.
        for (snapshot, (names, table, own)) in snapshots.iter().zip(&loads) {
            let waiting = self.exec.run(&command::inactive_table(&names.origin))?;
            if waiting.trim() != table || self.table(&names.origin)? != *own {
                return Err(reloaded(snapshot));
            }
        }
        Ok(())
    }

    /// Has all origins stand still. In the window.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`]; some may stand still then.
    pub fn suspend(&self, snapshots: &[LvmSnapshot]) -> Result<(), SnapshotError> {
        self.exec.run(&command::suspend(&origins(snapshots)))?;
        Ok(())
    }

    /// Has the pictures be of this moment. In the window, while all origins stand still.
    ///
    /// # Errors
    /// [`SnapshotError::Device`].
    pub fn expose(&self, snapshots: &[LvmSnapshot]) -> Result<(), SnapshotError> {
        snapshots.iter().try_for_each(|snapshot| {
            let Names { picture, .. } = Names::of(snapshot);
            control::resume_unseen(&picture).map_err(|source| device(&picture, source))
        })
    }

    /// Has all origins go on, writing past their pictures. In the window.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`]; some may stand still then.
    pub fn go_on(&self, snapshots: &[LvmSnapshot]) -> Result<(), SnapshotError> {
        self.exec.run(&command::resume_all(&origins(snapshots)))?;
        Ok(())
    }

    /// Has every origin that stands still go on, each by itself: the first that cannot must not keep the others.
    pub fn go_on_whatever(&self, snapshots: &[LvmSnapshot]) {
        for snapshot in snapshots {
            if let Err(error) = self.resume_devices(snapshot) {
                tracing::warn!(origin = %snapshot.origin, %error, "cannot see to it that the origin goes on");
            }
        }
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
        let states = self.exec.run(&command::states())?;
        let is_there = |name: &String| {
            let mut lines = states.lines();
            lines.any(|line| {
                line.trim()
                    .rsplit_once(':')
                    .is_some_and(|(found, _)| found == name)
            })
        };
        if is_there(&names.real) && is_there(&names.origin) {
            let (real, own) = (self.number(&names.real)?, self.table(&names.real)?);
            if is_ours(&self.table(&names.origin)?, &real) {
                self.exec
                    .run(&command::load(&names.origin, own.trim_end()))?;
                self.exec.run(&command::exchange(&names.origin))?;
                // LVM takes a table that waits for its own: what changed the origin between our loading and the lock put ours in force. So what
                // was put back may be older than what LVM's metadata says.
                if let Err(error) = self.refresh(snapshot) {
                    tracing::warn!(origin = %snapshot.origin, %error, "cannot have LVM refresh the origin; `lvchange --refresh` does it where it was changed during the backup");
                }
            } else if is_ours(
                &self.exec.run(&command::inactive_table(&names.origin))?,
                &real,
            ) {
                self.exec.run(&command::clear(&names.origin))?;
            }
        }
        for name in [names.picture, names.real] {
            if is_there(&name) {
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

fn origins(snapshots: &[LvmSnapshot]) -> Vec<String> {
    let origin = |snapshot| Names::of(snapshot).origin;
    snapshots.iter().map(origin).collect()
}

fn reloaded(snapshot: &LvmSnapshot) -> SnapshotError {
    SnapshotError::Reloaded {
        origin: snapshot.origin.clone(),
    }
}

fn device(name: &str, source: std::io::Error) -> SnapshotError {
    SnapshotError::Device {
        name: name.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
