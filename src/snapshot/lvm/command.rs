//! The command lines LVM is driven with. See `lvmreport(7)`, `lvcreate(8)`, `dmsetup(8)`.

use std::time::Duration;

use super::Purpose;
use super::facts::{LV_FIELDS, VG_FIELDS};
use super::prepared::{Names, is_prepared};
use crate::exec::Command;
use crate::snapshot::{LvmSnapshot, Origin};
use crate::volume::sysfs::join_lvm_name;

/// On a loaded host with slow udev a change of metadata was seen to take ten seconds. A command killed half
/// way leaves more to clean up than one that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Copy-on-write chunk in bytes; LVM's default, stated because sizes are computed from it.
pub const CHUNK: u64 = 4096;

/// Makes what will be the copy-on-write space of a classic snapshot: an ordinary volume. Its first 4 KiB must be zero, which is how the kernel
/// tells a new snapshot from an old one (`drivers/md/dm-snap-persistent.c`). What its extents held before goes as well: udev would take the superblock of
/// an array's former member, which lies behind those, for a member that is back.
pub fn make_space(snapshot: &LvmSnapshot, bytes: u64) -> Command {
    let mut command = lvm(
        "lvcreate",
        &[
            "--yes",
            "--autobackup",
            "n",
            "--zero",
            "y",
            "--wipesignatures",
            "y",
        ],
    );
    let size = format!("{bytes}b");
    command
        .args
        .extend(["--permission", "rw", "--size", &size].map(Into::into));
    named(&mut command, snapshot);
    command.args.push(snapshot.origin.vg.clone().into());
    command
}

/// Deactivates the volume `name` (`vg/lv`).
pub fn deactivate(name: &str) -> Command {
    lvm("lvchange", &["--activate", "n", "--autobackup", "n", name])
}

/// Activates the volume `name` (`vg/lv`), also one that is left out when others are.
pub fn activate(name: &str) -> Command {
    let always = ["--activate", "y", "--ignoreactivationskip"];
    let mut command = lvm("lvchange", &always);
    command
        .args
        .extend(["--autobackup", "n", name].map(Into::into));
    // Who finds nothing active after us must find nothing active later.
    command.bound()
}

/// LVM's settings for commands in the lock window.
const IN_THE_WINDOW: &str = "backup/backup=0 backup/archive=0 activation/monitoring=0";

/// Has what [`make_space`] made become a snapshot. Inside the lock window, so whatever can be left out is:
/// - `--noudevsync`: udev may do its work later; whoever mounts waits for the device node.
/// - no copies of the metadata into /etc/lvm, before (`archive`) and after (`backup`), which would wait for the disk; making the space and removing
///   the snapshot write some.
/// - `activation/monitoring=0`: no registration with dmeventd; we watch the space ourselves.
/// - `--zero n`: it is zero already. To do it here means to wait for udev.
pub fn attach(snapshot: &LvmSnapshot) -> Command {
    let chunk = format!("{CHUNK}b");
    let (origin, space) = (snapshot.origin.to_string(), snapshot.full_name());
    lvm(
        "lvconvert",
        &[
            "--yes",
            "--noudevsync",
            "--config",
            IN_THE_WINDOW,
            "--type",
            "snapshot",
            "--zero",
            "n",
            "--chunksize",
            &chunk,
            &origin,
            &space,
        ],
    )
    .urgent()
}

/// Takes a thin snapshot, which has nothing to prepare. Inside the lock window, as [`attach`]. One that is to be read is active now, and not after the
/// host's next start ("activation skip"): udev takes it, which bears its origin's UUID, for the origin (seen on Debian 12), and so would whoever mounts
/// by UUID.
pub fn create_thin(snapshot: &LvmSnapshot, purpose: Purpose) -> Command {
    let active = match purpose {
        Purpose::ToRead => "y",
        Purpose::ToKeep => "n",
    };
    let mut command = lvm(
        "lvcreate",
        &[
            "--yes",
            "--noudevsync",
            "--config",
            IN_THE_WINDOW,
            "--snapshot",
            "--permission",
            "rw",
            "--setactivationskip",
            "y",
            "--ignoreactivationskip",
            "--activate",
            active,
        ],
    );
    named(&mut command, snapshot);
    command.args.push(snapshot.origin.to_string().into());
    command.urgent()
}

fn named(command: &mut Command, snapshot: &LvmSnapshot) {
    let run = LvmSnapshot::run_tag(snapshot.run);
    let options = [
        "--name",
        &snapshot.lv,
        "--addtag",
        LvmSnapshot::TAG,
        "--addtag",
        &run,
    ];
    command.args.extend(options.map(Into::into));
}

/// Gives the snapshot `by` more bytes, a multiple of the extent size.
pub fn extend(snapshot: &LvmSnapshot, by: u64) -> Command {
    let size = format!("+{by}b");
    lvm(
        "lvextend",
        &["--autobackup", "n", "--size", &size, &snapshot.full_name()],
    )
}

/// Removes the volume `name` (`vg/lv`).
pub fn remove(name: &str) -> Command {
    lvm("lvremove", &["--yes", name])
}

/// Begins to merge a snapshot into its origin; a process of LVM's own sees to the end of it.
pub fn merge(snapshot: &LvmSnapshot) -> Command {
    lvm(
        "lvconvert",
        &["--yes", "--merge", "--background", &snapshot.full_name()],
    )
}

/// Has LVM see to the end of a merge that is under way.
pub fn poll(origin: &Origin) -> Command {
    lvm("lvchange", &["--poll", "y", &origin.to_string()])
}

/// Loads an origin's table anew from the metadata, under the group's lock, which resumes it if it is suspended. Fails where somebody else has the lock.
pub fn refresh(origin: &Origin) -> Command {
    let at_once = "global/wait_for_locks=0";
    lvm(
        "lvchange",
        &["--refresh", "--config", at_once, &origin.to_string()],
    )
}

/// All visible volumes.
pub fn volumes() -> Command {
    lvm(
        "lvs",
        &[
            "--reportformat",
            "json",
            "--units",
            "b",
            "--nosuffix",
            "--options",
            LV_FIELDS,
        ],
    )
}

/// One volume, or an empty report where there is none: a selection, unlike a name, may match nothing.
pub fn volume(vg: &str, lv: &str) -> Command {
    let mut command = volumes();
    command.args.extend([
        "--select".into(),
        format!("vg_name=\"{vg}\" && lv_name=\"{lv}\"").into(),
    ]);
    command
}

/// All groups.
pub fn groups() -> Command {
    lvm(
        "vgs",
        &[
            "--reportformat",
            "json",
            "--units",
            "b",
            "--nosuffix",
            "--options",
            VG_FIELDS,
        ],
    )
}

/// The kernel's status of a classic snapshot; needs no lock and no scan of disks.
pub fn status(snapshot: &LvmSnapshot) -> Command {
    let device = match is_prepared(snapshot) {
        true => Names::of(snapshot).picture,
        false => join_lvm_name(&snapshot.origin.vg, &snapshot.lv),
    };
    lvm("dmsetup", &["status", &device])
}

/// LVM's setting `thin_pool_autoextend_threshold`, in per cent. Above it LVM makes no new thin volumes.
pub fn pool_threshold() -> Command {
    lvm(
        "lvmconfig",
        &[
            "--typeconfig",
            "full",
            "activation/thin_pool_autoextend_threshold",
        ],
    )
}

/// LVM's setting `locking_dir`.
pub fn locking_dir() -> Command {
    lvm("lvmconfig", &["--typeconfig", "full", "global/locking_dir"])
}

/// The kernel's status of the thin pool `vg/pool`.
pub fn pool_status(vg: &str, pool: &str) -> Command {
    lvm("dmsetup", &["status", &pool_device(vg, pool)])
}

/// The device-mapper name under which the pool works: the one without the suffix is only a handle for users.
pub fn pool_device(vg: &str, pool: &str) -> String {
    format!("{}-tpool", join_lvm_name(vg, pool))
}

/// Every device-mapper device, whether it stands still, how often it is open, and which tables it has: `name:Active:1:Live`, `name:Suspended:0:Both`.
pub fn states() -> Command {
    lvm(
        "dmsetup",
        &[
            "info",
            "--columns",
            "--noheadings",
            "--separator",
            ":",
            "--options",
            "name,suspended,open,tables_loaded",
        ],
    )
}

/// Removes one device that nothing has open.
pub fn drop_device(device: &str) -> Command {
    lvm("dmsetup", &["remove", "--retry", device])
}

/// Makes a device of ours that has no table yet. Its UUID is its name.
pub fn make_device(name: &str) -> Command {
    lvm(
        "dmsetup",
        &[
            "create",
            name,
            "--notable",
            "--uuid",
            name,
            "--noudevrules",
            "--noudevsync",
        ],
    )
}

/// Loads a table, which may have several lines, beside the one in force.
pub fn load(name: &str, table: &str) -> Command {
    lvm("dmsetup", &["load", name, "--table", table])
}

/// Takes what was loaded and is not in force away again.
pub fn clear(name: &str) -> Command {
    lvm("dmsetup", &["clear", name])
}

/// The table in force.
pub fn table(name: &str) -> Command {
    lvm("dmsetup", &["table", name])
}

/// The table that was loaded and is not in force.
pub fn inactive_table(name: &str) -> Command {
    lvm("dmsetup", &["table", "--inactive", name])
}

/// The tables in force of all devices, each line after `name: `. Inside the lock window.
pub fn tables() -> Command {
    lvm("dmsetup", &["table"]).urgent()
}

/// The tables of all devices that were loaded and are not in force. Inside the lock window.
pub fn inactive_tables() -> Command {
    lvm("dmsetup", &["table", "--inactive"]).urgent()
}

/// The names of the devices that a device lies on, as `dmsetup deps` prints them.
pub fn below(name: &str) -> Command {
    lvm("dmsetup", &["deps", "--options", "devname", name])
}

/// `major:minor` of a device.
pub fn number(name: &str) -> Command {
    lvm(
        "dmsetup",
        &[
            "info",
            "--columns",
            "--noheadings",
            "--separator",
            ":",
            "--options",
            "major,minor",
            name,
        ],
    )
}

/// Has devices stand still, their file systems frozen and flushed. Inside the lock window. One that outlived us would suspend what the guard has
/// resumed.
pub fn suspend(names: &[String]) -> Command {
    let mut command = lvm("dmsetup", &["suspend"]).urgent().bound();
    command.args.extend(names.iter().map(Into::into));
    command
}

/// Has devices go on, with the tables that were loaded. Inside the lock window: nobody waits for udev.
pub fn resume_all(names: &[String]) -> Command {
    let mut command = lvm("dmsetup", &["resume", "--noudevsync"]).urgent();
    command.args.extend(names.iter().map(Into::into));
    command
}

/// Has a device go over to the table that was loaded: the kernel suspends and resumes it in one call, so nobody can be killed in between. What is on
/// its way is waited for; no file system needs to be flushed for it.
pub fn exchange(name: &str) -> Command {
    lvm("dmsetup", &["resume", "--nolockfs", "--noudevsync", name])
}

/// Resumes one device. Nobody waits for udev: it may be what hangs, and others wait to be resumed.
pub fn resume(device: &str) -> Command {
    lvm("dmsetup", &["resume", "--noudevsync", device])
}

fn lvm(program: &'static str, args: &[&str]) -> Command {
    Command::new(program, args.iter().copied()).timeout(PATIENCE)
}
