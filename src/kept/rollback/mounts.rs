//! What is mounted of volumes and subvolumes that are put back, and what keeps it from being unmounted, or them from changing places.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::{Kept, KeptError};
use super::plan::{device, not_now};
use crate::exec::SharedExec;
use crate::snapshot::LvmSnapshot;
use crate::snapshot::btrfs::put_back::outermost;
use crate::snapshot::btrfs::{Btrfs, SubvolumeSnapshot};
use crate::volume::mountinfo::{Mount, MountTable};
use crate::volume::{DevNumber, HostView};

/// A mount of one of the volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    /// The device.
    pub device: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// Type of the file system.
    pub kind: String,
    /// Options, as `mount` takes them.
    pub options: String,
}

/// What of volumes and subvolumes has to be unmounted and mounted again, where that can be done.
pub(super) fn mounts(
    kept: &Kept,
    volumes: &[LvmSnapshot],
    subvolumes: &[SubvolumeSnapshot],
    exec: &SharedExec,
) -> Result<Vec<Mounted>, KeptError> {
    let table = HostView::real().mounts().map_err(|error| {
        not_now(
            kept,
            error.to_string(),
            "run freezeframe as root on this host",
        )
    })?;
    for snapshot in outermost(subvolumes) {
        if let Some((reason, todo)) = is_held(snapshot, &table) {
            return Err(not_now(kept, reason, todo));
        }
    }
    let strangers = Btrfs::new(exec.clone()).strangers(subvolumes)?;
    if let Some(stranger) = strangers.first() {
        return Err(not_now(
            kept,
            format!(
                "{} (as `btrfs subvolume list` names it) is a subvolume inside, of which no snapshot was taken: it would be carried aside",
                stranger.display()
            ),
            "move it out of there (mv) and back afterwards, or `freezeframe backup --from` and `restore`",
        ));
    }
    let mut devices = Vec::new();
    for volume in volumes {
        let device = device(&volume.origin);
        let number = fs::metadata(&device).map_err(|source| KeptError::Io {
            action: "look at",
            path: device.clone(),
            source,
        })?;
        devices.push((DevNumber::from(number.rdev()), device));
    }
    mounts_of(&devices, &table).map_err(|(reason, todo)| not_now(kept, reason, &todo))
}

/// What keeps a subvolume from changing places by its name: the reason, and what to do.
fn is_held(snapshot: &SubvolumeSnapshot, table: &MountTable) -> Option<(String, &'static str)> {
    // What is mounted in it would be carried aside with it.
    let beneath = |mount: &&Mount| mount.point.starts_with(&snapshot.subvolume);
    table.iter().find(beneath).map(|mount| {
        (
            format!("{} is a mount of its own, not seen inside another subvolume", mount.point.display()),
            "by hand, with mongod stopped and the top of the file system (subvolid=5) mounted elsewhere: `btrfs subvolume snapshot` of the \
             picture, then rename both; or `freezeframe backup --from` and `restore`",
        )
    })
}

/// Every mount of `devices`, in the order of mounting, or what keeps them from being unmounted: the reason, and what to do.
fn mounts_of(
    devices: &[(DevNumber, PathBuf)],
    table: &MountTable,
) -> Result<Vec<Mounted>, (String, String)> {
    let of = |mount: &Mount| devices.iter().find(|(number, _)| *number == mount.device);
    let mut mounts = Vec::new();
    for mount in table.iter() {
        let Some((_, device)) = of(mount) else {
            continue;
        };
        if mount.root != Path::new("/") {
            let point = mount.point.display();
            return Err((
                format!(
                    "{point} is a bind mount of a directory of {}",
                    device.display()
                ),
                format!("unmount it (umount {point}), and mount it again afterwards"),
            ));
        }
        mounts.push(Mounted {
            device: device.clone(),
            point: mount.point.clone(),
            kind: mount.kind.clone(),
            options: mount.options.clone(),
        });
    }
    let points: BTreeSet<_> = mounts.iter().map(|mount| &mount.point).collect();
    // What mounts a volume when it is looked for stands below that mount, and stays.
    let is_trigger = |mount: &Mount| mount.kind == "autofs" && points.contains(&mount.point);
    let beneath = table.iter().find(|mount| {
        of(mount).is_none()
            && !is_trigger(mount)
            && points.iter().any(|point| mount.point.starts_with(point))
    });
    match beneath {
        Some(mount) => {
            let point = mount.point.display();
            Err((
                format!("{point} is mounted below what has to be unmounted"),
                format!("unmount it (umount {point}), and mount it again afterwards"),
            ))
        }
        None => Ok(mounts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 21 254:3 / /data rw,noatime shared:7 - xfs /dev/mapper/vg0-mongo rw,attr2,inode64
31 30 254:4 / /data/db/journal rw,relatime - ext4 /dev/mapper/vg0-journal rw
";

    fn devices(names: &[(u32, &str)]) -> Vec<(DevNumber, PathBuf)> {
        let device = |(minor, name): &(u32, &str)| {
            (
                DevNumber {
                    major: 254,
                    minor: *minor,
                },
                PathBuf::from(name),
            )
        };
        names.iter().map(device).collect()
    }

    #[test]
    fn what_lies_on_the_volumes_is_mounted_again_as_it_was() {
        let table = MountTable::parse(TABLE).unwrap();
        let both = devices(&[(3, "/dev/vg0/mongo"), (4, "/dev/vg0/journal")]);
        let mounts = mounts_of(&both, &table).unwrap();
        let points: Vec<_> = mounts
            .iter()
            .map(|mount| mount.point.display().to_string())
            .collect();
        assert_eq!(points, ["/data", "/data/db/journal"]);
        assert_eq!(mounts[0].options, "rw,noatime,rw,attr2,inode64");
    }

    #[test]
    fn what_mounts_them_by_itself_is_not_in_the_way() {
        let trigger = b"29 21 0:40 / /data rw,relatime - autofs systemd-1 rw\n";
        let table = MountTable::parse(&[trigger.as_slice(), TABLE].concat()).unwrap();
        let both = devices(&[(3, "/dev/vg0/mongo"), (4, "/dev/vg0/journal")]);
        assert_eq!(mounts_of(&both, &table).unwrap().len(), 2);
    }

    #[test]
    fn what_else_is_mounted_there_is_in_the_way() {
        let table = MountTable::parse(TABLE).unwrap();
        let (reason, _) = mounts_of(&devices(&[(3, "/dev/vg0/mongo")]), &table).unwrap_err();
        assert!(
            reason.contains("/data/db/journal is mounted below"),
            "{reason}"
        );
        let bound = [
            TABLE,
            b"32 21 254:3 /db /srv/db rw - xfs /dev/mapper/vg0-mongo rw\n",
        ]
        .concat();
        let table = MountTable::parse(&bound).unwrap();
        let both = devices(&[(3, "/dev/vg0/mongo"), (4, "/dev/vg0/journal")]);
        let (reason, _) = mounts_of(&both, &table).unwrap_err();
        assert!(reason.contains("/srv/db is a bind mount"), "{reason}");
    }
}
