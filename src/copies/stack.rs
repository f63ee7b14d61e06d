//! What lies on some disks, by what sysfs shows: looked at, and taken down from the top.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::libc::O_EXCL;
use serde::{Deserialize, Serialize};

use super::CopyError;
use super::quiet::Quiet;
use crate::ebs::Volume;
use crate::ebs::disks::{node, shown};
use crate::exec::{Command, Exec};
use crate::ids::RunId;
use crate::volume::sysfs::{self, entries};
use crate::volume::{Layer, LayerKind};

/// How long what nobody seems to use is tried to be taken down: something that looks at new devices, such as udev, lets go soon.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the kernel may show a disk that is detached.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// Between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Whatever is going to lie on the disks of some volumes of ours, or lies there; this is what the run journal records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// The run, whose rule keeps udev from bringing up again what is taken down.
    pub run: RunId,
    /// The volumes, each with the name it is attached by.
    pub volumes: Vec<Volume>,
}

impl std::fmt::Display for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.volumes.iter().map(|one| one.id.as_str()).collect();
        write!(f, "arrays and logical volumes on {}", names.join(", "))
    }
}

fn leaves<'a>(layer: &'a Layer, into: &mut Vec<&'a str>) {
    if layer.below.is_empty() {
        into.push(&layer.name);
    }
    for below in &layer.below {
        leaves(below, into);
    }
}

/// The names of the disks under `layer`.
pub fn disks_under(layer: &Layer) -> BTreeSet<&str> {
    let mut found = Vec::new();
    leaves(layer, &mut found);
    found.into_iter().collect()
}

fn depth(layer: &Layer) -> usize {
    let deepest = layer.below.iter().map(depth).max();
    deepest.map_or(0, |below| below.saturating_add(1))
}

/// Every device that lies on any of `disks`, and they themselves; what lies on others comes before them.
///
/// # Errors
/// What reading `sys` brings.
pub fn above(sys: &Path, disks: &BTreeSet<String>) -> io::Result<Vec<Layer>> {
    let mut found = Vec::new();
    for entry in entries(&sys.join("dev/block"))? {
        let number = entry
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        let Some(number) = number else {
            continue;
        };
        let layer = match sysfs::layers(sys, number) {
            Ok(layer) => layer,
            // It went away while it was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        found.extend(layer.filter(|layer| {
            let mut under = disks_under(layer).into_iter();
            under.any(|disk| disks.contains(disk))
        }));
    }
    found.sort_by(|a, b| depth(b).cmp(&depth(a)).then_with(|| a.name.cmp(&b.name)));
    Ok(found)
}

/// Those of `layers` that nothing lies on.
pub fn tops(layers: &[Layer]) -> Vec<Layer> {
    let lies_on =
        |upper: &Layer, lower: &Layer| upper.number != lower.number && upper.contains(lower.number);
    let is_top = |layer: &&Layer| !layers.iter().any(|other| lies_on(other, layer));
    layers.iter().filter(is_top).cloned().collect()
}

/// What of `layers` has to be taken down, in that order, and by which command.
///
/// # Errors
/// [`CopyError::Foreign`] where one lies on a disk that is none of `disks` as well: it is not ours.
pub fn acts(layers: &[Layer], disks: &BTreeSet<String>) -> Result<Vec<Command>, CopyError> {
    let mut acts = Vec::new();
    for layer in layers {
        let command = match &layer.kind {
            LayerKind::LogicalVolume { vg, lv } => remove_device(&sysfs::join_lvm_name(vg, lv)),
            LayerKind::DeviceMapper { name, .. } => remove_device(name),
            LayerKind::Md { .. } => Command::new(
                "mdadm",
                ["--stop".into(), node(&layer.name).into_os_string()],
            ),
            LayerKind::Partition
            | LayerKind::Disk
            | LayerKind::Subvolume { .. }
            | LayerKind::NotABlockDevice { .. } => continue,
        };
        let foreign = disks_under(layer)
            .into_iter()
            .find(|disk| !disks.contains(*disk));
        if let Some(disk) = foreign {
            return Err(CopyError::Foreign {
                device: layer.name.clone(),
                disk: disk.to_owned(),
            });
        }
        acts.push(command);
    }
    Ok(acts)
}

fn remove_device(name: &str) -> Command {
    Command::new("dmsetup", ["remove", "--retry", name])
}

/// Takes down whatever lies on the disks of `stack`, from the top. Well done where nothing does, or there are no disks.
///
/// Each disk that becomes free is looked at by udev: without the rule, as after a reboot, it would assemble the array again.
///
/// # Errors
/// [`CopyError`]; then something lies there, or nobody knows.
pub fn take_down(exec: &dyn Exec, sys: &Path, stack: &Stack) -> Result<(), CopyError> {
    let began = Instant::now();
    let mut failed = None;
    loop {
        let disks = disk_names(sys, &stack.volumes)?;
        let layers = above(sys, &disks).map_err(CopyError::read(sys))?;
        let acts = acts(&layers, &disks)?;
        if acts.is_empty() {
            return Ok(());
        }
        if began.elapsed() >= PATIENCE {
            let disk = disks.into_iter().next().unwrap_or_default();
            return Err(failed.map_or(CopyError::InUse { disk }, CopyError::from));
        }
        let quiet = Quiet::new(stack.run, &stack.volumes);
        if !quiet.path().exists() {
            quiet.write(exec)?;
        }
        failed = None;
        for act in &acts {
            if let Err(error) = exec.run(act) {
                failed.get_or_insert(error);
            }
        }
        if failed.is_some() {
            std::thread::sleep(TRY_AGAIN);
        }
    }
}

fn disk_names(sys: &Path, volumes: &[Volume]) -> Result<BTreeSet<String>, CopyError> {
    let disks = shown(sys, volumes).map_err(CopyError::read(sys))?;
    Ok(disks.into_values().map(|disk| disk.name).collect())
}

/// Sees to it that nobody uses the disks of `volumes`, so that they can be detached: no mount, no array, no group.
///
/// # Errors
/// [`CopyError::InUse`].
pub fn refuse_used(sys: &Path, volumes: &[Volume]) -> Result<(), CopyError> {
    for disk in disk_names(sys, volumes)? {
        let path = node(&disk);
        // The kernel gives a disk to one alone, whether that is a mount of any process, an array or a device mapper; its partitions count.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(O_EXCL)
            .open(&path);
        match opened {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                return Err(CopyError::InUse { disk });
            }
            // Gone meanwhile, or dead: nothing can use it.
            Err(error) => tracing::debug!(%error, disk, "cannot open it"),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Waits until the kernel shows none of the disks of `volumes`, which are detached.
///
/// # Errors
/// [`CopyError::Attached`] where it still does.
pub fn await_gone(sys: &Path, volumes: &[Volume]) -> Result<(), CopyError> {
    let began = Instant::now();
    loop {
        let Some(disk) = disk_names(sys, volumes)?.into_iter().next() else {
            return Ok(());
        };
        if began.elapsed() >= GONE_WITHIN {
            return Err(CopyError::Attached { disk });
        }
        std::thread::sleep(TRY_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::fake::FakeHost;

    fn host() -> FakeHost {
        let host = FakeHost::default();
        for (n, name) in ["nvme1n1", "nvme2n1", "nvme3n1"].into_iter().enumerate() {
            host.disk(name, 259, n as u32, 4096);
        }
        host.partition("nvme3n1", "nvme3n1p1", 259, 10, 2048);
        host.md("md100", 9, 100, "raid1", &["nvme1n1", "nvme2n1"]);
        let uuid = format!("LVM-{}", "a".repeat(64));
        host.dm("dm-1", 254, 1, "vg0-mongo", &uuid, &["md100"]);
        host
    }

    fn named(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_lies_on_disks_is_taken_down_from_the_top_and_nothing_else() {
        let host = host();
        let ours = named(&["nvme1n1", "nvme2n1", "nvme3n1"]);
        let layers = above(&host.sys(), &ours).unwrap();
        let order: Vec<_> = layers.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(
            order,
            [
                "dm-1",
                "md100",
                "nvme3n1p1",
                "nvme1n1",
                "nvme2n1",
                "nvme3n1"
            ]
        );
        let top: Vec<_> = tops(&layers).into_iter().map(|layer| layer.name).collect();
        assert_eq!(top, ["dm-1", "nvme3n1p1"]);
        let lines: Vec<_> = acts(&layers, &ours)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            lines,
            [
                "dmsetup remove --retry vg0-mongo",
                "mdadm --stop /dev/md100"
            ]
        );
        assert!(
            acts(&above(&host.sys(), &named(&["nvme3n1"])).unwrap(), &ours)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn an_array_that_holds_a_disk_of_somebody_else_is_not_touched() {
        let host = host();
        let ours = named(&["nvme1n1"]);
        let error = acts(&above(&host.sys(), &ours).unwrap(), &ours).unwrap_err();
        assert!(
            matches!(&error, CopyError::Foreign { device, disk } if device == "dm-1" && disk == "nvme2n1"),
            "{error}"
        );
    }
}
