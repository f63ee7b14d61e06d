//! What putting one back would do, and whether it may be done now.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::condition::look;
use super::super::{Kept, KeptError, UNDER_WAY};
use crate::backup::plan::PlannedPicture;
use crate::exec::SharedExec;
use crate::manifest::{FORMAT_FIRST, seal};
use crate::mongo::process::is_open;
use crate::snapshot::btrfs::put_back::outermost;
use crate::snapshot::btrfs::{Btrfs, SubvolumeSnapshot};
use crate::snapshot::{LvmSnapshot, Origin};
use crate::volume::mountinfo::{Mount, MountTable};
use crate::volume::{DevNumber, HostView};
use crate::whole;

/// What is put back, and what is mounted of it.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// What is put back.
    #[serde(skip)]
    pub kept: Kept,
    /// Whether it is under way already: it was cut off.
    pub under_way: bool,
    /// Volumes whose snapshots are merged.
    pub volumes: Vec<LvmSnapshot>,
    /// Subvolumes that change places with copies of their snapshots.
    pub subvolumes: Vec<SubvolumeSnapshot>,
    /// What is unmounted and mounted again, in the order of mounting.
    pub mounts: Vec<Mounted>,
    /// Those of the volumes whose merge was asked for. What of them LVM knows no more is merged; of the others it was removed.
    #[serde(skip)]
    asked: Vec<LvmSnapshot>,
}

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

#[derive(Serialize, Deserialize)]
struct UnderWay {
    format: u32,
    mounts: Vec<Mounted>,
    #[serde(default)]
    asked: Vec<LvmSnapshot>,
}

/// The plan of putting `kept` back.
///
/// # Errors
/// [`KeptError::NotNow`] with what stands in the way, [`KeptError::Lost`] where it is good no more.
pub fn plan(kept: Kept, state_dir: &Path, exec: &SharedExec) -> Result<Plan, KeptError> {
    let mut volumes = Vec::new();
    let mut subvolumes = Vec::new();
    for picture in &kept.pictures {
        match picture {
            PlannedPicture::Lvm(planned) => volumes.push(planned.snapshot.clone()),
            PlannedPicture::Subvolume(planned) => subvolumes.push(planned.snapshot.clone()),
            // Refused before one is kept.
            PlannedPicture::Array(planned) => {
                return Err(not_now(
                    &kept,
                    format!("it is of md array {}", planned.assembly.array),
                    "`freezeframe restore` a backup",
                ));
            }
            PlannedPicture::Clones(planned) => {
                return Err(not_now(
                    &kept,
                    format!(
                        "what is in {} are clones of files",
                        planned.clones.path().display()
                    ),
                    "by hand, with mongod stopped: move the data directory aside and `cp -a --reflink` the clones in its place; or \
                     `freezeframe backup --from` and `restore`",
                ));
            }
        }
    }
    let under_way = under_way(&kept, state_dir)?;
    if under_way.is_none() {
        look(exec, &kept).usable(&kept)?;
    }
    is_stopped(&kept)?;
    if let Some(UnderWay { mounts, asked, .. }) = under_way {
        return Ok(Plan {
            kept,
            under_way: true,
            volumes,
            subvolumes,
            mounts,
            asked,
        });
    }
    let table = HostView::real().mounts().map_err(|error| {
        not_now(
            &kept,
            error.to_string(),
            "run freezeframe as root on this host",
        )
    })?;
    if let Some(other) = beside(&kept, state_dir)? {
        return Err(not_now(
            &kept,
            format!(
                "{} is kept of the same volume or subvolume, and would not outlive it",
                other.name()
            ),
            &format!(
                "remove it first: freezeframe snapshot remove {} --yes",
                other.label
            ),
        ));
    }
    for snapshot in outermost(&subvolumes) {
        if let Some((reason, todo)) = is_held(snapshot, &table) {
            return Err(not_now(&kept, reason, todo));
        }
    }
    let strangers = Btrfs::new(exec.clone()).strangers(&subvolumes)?;
    if let Some(stranger) = strangers.first() {
        return Err(not_now(
            &kept,
            format!(
                "{} (as `btrfs subvolume list` names it) is a subvolume inside, of which no snapshot was taken: it would be carried aside",
                stranger.display()
            ),
            "move it out of there (mv) and back afterwards, or `freezeframe backup --from` and `restore`",
        ));
    }
    let mut devices = Vec::new();
    for volume in &volumes {
        let device = device(&volume.origin);
        let number = fs::metadata(&device).map_err(|source| KeptError::Io {
            action: "look at",
            path: device.clone(),
            source,
        })?;
        devices.push((DevNumber::from(number.rdev()), device));
    }
    let mounts =
        mounts_of(&devices, &table).map_err(|(reason, todo)| not_now(&kept, reason, &todo))?;
    Ok(Plan {
        kept,
        under_way: false,
        volumes,
        subvolumes,
        mounts,
        asked: Vec::new(),
    })
}

/// Whether no mongod runs on it.
pub(super) fn is_stopped(kept: &Kept) -> Result<(), KeptError> {
    for member in &kept.contents.members {
        let db_path = &member.layout.db_path;
        let open = is_open(db_path).map_err(|source| KeptError::Io {
            action: "see whether a mongod runs on",
            path: db_path.clone(),
            source,
        })?;
        if open {
            return Err(not_now(
                kept,
                format!("a mongod runs on {}", db_path.display()),
                "stop it first (systemctl stop mongod)",
            ));
        }
    }
    Ok(())
}

/// The node of a volume.
pub(super) fn device(origin: &Origin) -> PathBuf {
    PathBuf::from(format!("/dev/{origin}"))
}

fn not_now(kept: &Kept, reason: String, todo: &str) -> KeptError {
    KeptError::NotNow {
        name: kept.name(),
        reason,
        todo: todo.to_owned(),
    }
}

/// Another that is kept of something of `kept`: what merging writes to an origin fills its other snapshots, and of several LVM merges one at a time.
fn beside(kept: &Kept, state_dir: &Path) -> Result<Option<Kept>, KeptError> {
    let of: BTreeSet<_> = kept.pictures.iter().map(PlannedPicture::origin).collect();
    for other in Kept::all(state_dir)? {
        let other = other?;
        let shares = |picture: &PlannedPicture| of.contains(&picture.origin());
        if other.run != kept.run && other.pictures.iter().any(shares) {
            return Ok(Some(other));
        }
    }
    Ok(None)
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
    let beneath = table.iter().find(|mount| {
        of(mount).is_none() && points.iter().any(|point| mount.point.starts_with(point))
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

/// What a rollback that was cut off has written down.
fn under_way(kept: &Kept, state_dir: &Path) -> Result<Option<UnderWay>, KeptError> {
    let path = Kept::place(state_dir, kept.run).join(UNDER_WAY);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|source| KeptError::Io {
            action: "read",
            path: path.clone(),
            source,
        })?,
    };
    let read = seal::open(&bytes).map_err(|source| KeptError::Damaged { path, source })?;
    Ok(Some(read))
}

impl Plan {
    fn path(&self, state_dir: &Path) -> PathBuf {
        Kept::place(state_dir, self.kept.run).join(UNDER_WAY)
    }

    /// Whether the merge of `volume` was asked for.
    pub(super) fn is_asked(&self, volume: &LvmSnapshot) -> bool {
        self.asked.contains(volume)
    }

    /// Writes down, durably, that the merge of `volume` is going to be asked for.
    pub(super) fn ask(&mut self, volume: &LvmSnapshot, state_dir: &Path) -> Result<(), KeptError> {
        if !self.is_asked(volume) {
            self.asked.push(volume.clone());
            self.write(state_dir)?;
        }
        Ok(())
    }

    /// Writes down, durably, that the merge of `volume` would not begin.
    pub(super) fn take_back(
        &mut self,
        volume: &LvmSnapshot,
        state_dir: &Path,
    ) -> Result<(), KeptError> {
        self.asked.retain(|asked| asked != volume);
        self.write(state_dir)
    }

    /// Writes down, durably, what has to be mounted again, and what was asked for.
    pub(super) fn write(&self, state_dir: &Path) -> Result<(), KeptError> {
        let path = self.path(state_dir);
        let document = UnderWay {
            format: FORMAT_FIRST,
            mounts: self.mounts.clone(),
            asked: self.asked.clone(),
        };
        let write = || whole::replace(&path, &seal::seal(&document)?, 0o600);
        write().map_err(|source| KeptError::Io {
            action: "write",
            path: path.clone(),
            source,
        })
    }

    /// Nothing was merged: it is not under way any more.
    pub(super) fn forget(&self, state_dir: &Path) -> Result<(), KeptError> {
        let path = self.path(state_dir);
        match fs::remove_file(&path) {
            // It could not be written.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|source| KeptError::Io {
                action: "remove",
                path,
                source,
            }),
        }
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
