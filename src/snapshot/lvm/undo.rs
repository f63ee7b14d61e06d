//! What an LVM command that died, or hangs, has left in the kernel: origins that stand still, tables that wait, devices that LVM knows nothing of.
//!
//! LVM makes a snapshot in steps: it loads a table into the new device below the origin and one into the origin, suspends, commits its metadata, and
//! resumes from the bottom up. Killed between two of them, it leaves an origin whose waiting table leads to a device that has none in force, and the next
//! LVM command puts that in force: every write fails from then on. Seen in the laboratory, on a raid volume: mongod ended by I/O errors.

use std::iter;
use std::time::Duration;

use super::prepared::{Names, is_prepared};
use super::status::DeviceStates;
use super::{Lvm, Removal, command};
use crate::snapshot::{LvmSnapshot, SnapshotError, Space};
use crate::volume::sysfs::join_lvm_name;

/// A device is suspended for less than this by a command that works (0.4 s is the longest stall seen in the laboratory, on a slow kernel).
pub const MOMENT: Duration = Duration::from_millis(500);
/// So many moments another command may have the group's lock before an origin that stands still is resumed without it.
const MOMENTS: u32 = 3;

impl Lvm {
    /// Has the origin go on where a command of ours that died left it suspended, or half-way to something new. Where nobody else has the group's
    /// lock it goes on as it was before that command; where somebody has, which may be a command that hangs, it goes on to what the command had prepared.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`]; [`SnapshotError::Suspended`] when it stays so.
    pub fn resume(&self, snapshot: &LvmSnapshot) -> Result<(), SnapshotError> {
        let devices = Devices::of(snapshot);
        let states = self.devices()?;
        if devices.standing(&states).next().is_none() && !devices.is_half_way(&states) {
            return Ok(());
        }
        // LVM does nothing with a prepared one; we did, and nobody is at work on it any more.
        if is_prepared(snapshot) {
            return self.resume_devices(snapshot);
        }
        let vg = snapshot.origin.vg.as_str();
        let locked = self
            .groups(iter::once(vg))
            .and_then(|groups| groups.lock(MOMENT * MOMENTS));
        match &locked {
            // With the lock in our hands no command is at work, and what waits is of one that died.
            Ok(_) if devices.is_half_way(&self.devices()?) => {
                self.exec.run(&command::clear(&devices.origin))?;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(origin = %snapshot.origin, %error, "resuming without LVM's lock");
            }
        }
        self.resume_devices(snapshot)
    }

    /// Resumes what a command that hangs has left suspended, without a word to LVM, whose lock that command may hold. One at work, which
    /// suspends for a moment, is not cut short.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`].
    pub fn resume_stuck(&self, snapshot: &LvmSnapshot) -> Result<(), SnapshotError> {
        let devices = Devices::of(snapshot);
        if devices.standing(&self.devices()?).next().is_none() {
            return Ok(());
        }
        std::thread::sleep(MOMENT);
        self.resume_in_order(&devices)
    }

    /// Resumes what stands still. A device that is gone or goes on by now, though its resume failed, keeps none above it; one that stands does.
    fn resume_in_order(&self, devices: &Devices) -> Result<(), SnapshotError> {
        for device in devices.standing(&self.devices()?) {
            if let Err(error) = self.exec.run(&command::resume(device)) {
                let now = self.devices()?;
                if devices.standing(&now).any(|still| still == device) {
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// Resumes what stands still, by device-mapper alone.
    pub(super) fn resume_devices(&self, snapshot: &LvmSnapshot) -> Result<(), SnapshotError> {
        let devices = Devices::of(snapshot);
        self.resume_in_order(&devices)?;
        match devices.standing(&self.devices()?).next() {
            Some(device) => Err(SnapshotError::Suspended {
                device: device.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Has LVM refresh the origin as soon as nobody else has the group's lock, for some moments.
    pub(super) fn refresh(&self, snapshot: &LvmSnapshot) -> Result<(), SnapshotError> {
        let mut left = MOMENTS;
        loop {
            match self.exec.run(&command::refresh(&snapshot.origin)) {
                Err(_) if left > 0 => left -= 1,
                done => return Ok(done.map(drop)?),
            }
            std::thread::sleep(MOMENT);
        }
    }

    /// Removes the kernel's devices of a snapshot whose origin does not, or no longer, lie on the same device: it shows nothing, and where LVM's metadata
    /// has it, LVM cannot remove it ("used by another device").
    pub(super) fn drop_detached(&self, snapshot: &LvmSnapshot) -> Result<(), SnapshotError> {
        let Devices { origin, real, .. } = Devices::of(snapshot);
        let states = self.devices()?;
        if !real.is_some_and(|real| states.has(&real)) || !states.has(&origin) {
            return Ok(());
        }
        let table = self.exec.run(&command::table(&origin))?;
        if !lies_on_real(&table) {
            self.sweep(snapshot)?;
        }
        Ok(())
    }

    /// Removes the kernel's devices of a snapshot that LVM does not know, as a command killed at a bad moment
    /// leaves them. Their names are the run's own; the kernel refuses to remove one that is in use.
    pub(super) fn sweep(&self, snapshot: &LvmSnapshot) -> Result<Removal, SnapshotError> {
        let Devices { own, real, .. } = Devices::of(snapshot);
        let states = self.devices()?;
        let mut removal = Removal::WasAbsent;
        // The snapshot holds its copy-on-write space open, so it goes first.
        for device in [own.clone(), format!("{own}-cow")] {
            if states.has(&device) {
                self.exec.run(&command::drop_device(&device))?;
                removal = Removal::Removed;
            }
        }
        // What lies below the origin has no name of the run's, but nobody except LVM makes such, and while it works it has it open but for a moment.
        if let Some(real) = real
            && self.devices()?.is_unused(&real)
        {
            std::thread::sleep(MOMENT);
            if self.devices()?.is_unused(&real) {
                self.exec.run(&command::drop_device(&real))?;
            }
        }
        Ok(removal)
    }
}

/// Whether a table is that of an origin with snapshots (`Documentation/admin-guide/device-mapper/snapshot.rst`).
fn lies_on_real(table: &str) -> bool {
    let target = table.split_ascii_whitespace().nth(2);
    matches!(target, Some("snapshot-origin" | "snapshot-merge"))
}

/// The names of the devices that a snapshot consists of.
struct Devices {
    origin: String,
    own: String,
    /// What LVM puts below the origin of a classic snapshot.
    real: Option<String>,
    /// Those below and beside the origin that stand still with it, from the bottom up.
    below: Vec<String>,
    /// The devices whose parts stand still with the origin as well.
    built: Vec<String>,
}

impl Devices {
    fn of(snapshot: &LvmSnapshot) -> Self {
        let vg = &snapshot.origin.vg;
        let origin = join_lvm_name(vg, &snapshot.origin.lv);
        let own = join_lvm_name(vg, &snapshot.lv);
        let real = matches!(snapshot.space, Space::Own { .. }).then(|| format!("{origin}-real"));
        let mut built = vec![origin.clone()];
        let below = match &snapshot.space {
            Space::Own { .. } => iter::once(format!("{own}-cow"))
                .chain(real.clone())
                .collect(),
            Space::Pool { pool } => {
                built.push(join_lvm_name(vg, pool));
                vec![command::pool_device(vg, pool)]
            }
            Space::Prepared { .. } => {
                let Names { real, picture, .. } = Names::of(snapshot);
                vec![real, picture]
            }
        };
        Self {
            origin,
            own,
            real,
            below,
            built,
        }
    }

    /// All of them, from the bottom up.
    fn all<'a>(&'a self, states: &'a DeviceStates) -> impl Iterator<Item = &'a str> {
        let parts = self.built.iter().flat_map(|name| states.parts_of(name));
        let above = [self.own.as_str(), self.origin.as_str()];
        parts
            .chain(self.below.iter().map(String::as_str))
            .chain(above)
    }

    /// Whether a table waits in the origin of a classic snapshot.
    fn is_half_way(&self, states: &DeviceStates) -> bool {
        self.real.is_some() && states.is_changing(&self.origin)
    }

    /// What stands still and is to be resumed, in this order. Where the origin's resume puts a table in force, what that leads to must have one in force
    /// before. Otherwise what has none holds nobody up and is not brought to life, nor is what LVM made to lie below the origin and nothing lies on: of a raid
    /// volume it is a second manager of the same members. That the members go on before whatever manages them is a must: the kernel reads and writes their
    /// metadata in a resume, and waits for that without end while they stand still (raid1, kernel 7.2, in the laboratory).
    fn standing<'a>(&'a self, states: &'a DeviceStates) -> impl Iterator<Item = &'a str> {
        let goes_forward = states.is_suspended(&self.origin) && self.is_half_way(states);
        self.all(states).filter(move |name| {
            if states.is_unborn(name) {
                return goes_forward;
            }
            let is_idle_real = self.real.as_deref() == Some(name) && states.is_unused(name);
            states.is_suspended(name) && !is_idle_real
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::scripted::ScriptedExec;
    use crate::snapshot::lvm::groups::Groups;
    use crate::snapshot::lvm::tests::{lvm, seen, snapshot};

    const COW: &str = "data--1-freezeframe--0000abcd--1-cow";
    const OWN: &str = "data--1-freezeframe--0000abcd--1";
    const REAL: &str = "data--1-mongo--db-real";
    const ORIGIN: &str = "data--1-mongo--db";

    fn states(lines: &[(&str, &str)]) -> String {
        lines
            .iter()
            .map(|(name, state)| format!("{name}:{state}\n"))
            .collect()
    }

    fn to_resume(lines: &[(&str, &str)]) -> Vec<String> {
        let states = DeviceStates::parse(&states(lines));
        let devices = Devices::of(&snapshot(1, "mongo-db"));
        devices.standing(&states).map(str::to_owned).collect()
    }

    #[test]
    fn from_the_bottom_up_and_what_has_no_table_in_force_gets_one_first() {
        let suspended = [
            (ORIGIN, "Suspended:1:Both"),
            (OWN, "Active:0:Inactive"),
            (COW, "Active:1:Live"),
            (REAL, "Active:2:Inactive"),
            ("data--1-other", "Suspended:1:Both"),
        ];
        assert_eq!(to_resume(&suspended), [REAL, OWN, ORIGIN]);
    }

    #[test]
    fn what_never_stood_still_goes_nowhere() {
        assert!(to_resume(&[(ORIGIN, "Active:1:Both"), (REAL, "Active:2:Inactive")]).is_empty());
        assert!(to_resume(&[(ORIGIN, "Active:1:Live"), (REAL, "Suspended:0:Live")]).is_empty());
        // As it was before, over snapshots of somebody else's.
        let before = [(ORIGIN, "Suspended:1:Live"), (REAL, "Suspended:2:Live")];
        assert_eq!(to_resume(&before), [REAL, ORIGIN]);
    }

    #[test]
    fn the_members_of_a_raid_volume_go_on_first_and_what_has_no_table_in_force_never() {
        let part = |name: &str| format!("{ORIGIN}{name}");
        let (image, meta) = (part("_rimage_0"), part("_rmeta_0"));
        let cleared = [
            (ORIGIN, "Suspended:1:Live"),
            (REAL, "Suspended:2:Inactive"),
            (OWN, "Suspended:0:Inactive"),
            (COW, "Active:1:Live"),
            (&image, "Suspended:2:Live"),
            (&meta, "Suspended:2:Live"),
            ("data--1-mongo--db_2", "Suspended:1:Live"),
        ];
        assert_eq!(to_resume(&cleared), [&image, &meta, ORIGIN]);
        let mut hangs = cleared;
        hangs[0] = (ORIGIN, "Suspended:1:Both");
        assert_eq!(to_resume(&hangs), [&image, &meta, REAL, OWN, ORIGIN]);
    }

    #[test]
    fn what_waits_is_taken_away_under_the_lock_and_left_alone_without_it() {
        let home = tempfile::tempdir().unwrap();
        let dir = format!("locking_dir=\"{}\"\n", home.path().display());
        let scripted = || {
            let half_way = states(&[(ORIGIN, "Active:1:Both"), (REAL, "Active:2:Inactive")]);
            let exec = ScriptedExec::default();
            lvm(exec
                .on("dmsetup info", half_way)
                .on("lvmconfig", dir.clone())
                .on("dmsetup clear", ""))
        };
        let (ours, exec) = scripted();
        ours.resume(&snapshot(1, "mongo-db")).unwrap();
        assert_eq!(
            seen(&exec, "dmsetup clear"),
            [format!("dmsetup clear {ORIGIN}")]
        );

        let (ours, exec) = scripted();
        let groups: Groups = ours.groups(iter::once("data-1")).unwrap();
        let _theirs = groups.lock(MOMENT).unwrap();
        ours.resume(&snapshot(1, "mongo-db")).unwrap();
        assert!(seen(&exec, "dmsetup clear").is_empty());
        assert!(seen(&exec, "dmsetup resume").is_empty());
    }
}
