//! From the kernel's disks to EBS volumes.
//!
//! Nitro instances show volumes as NVMe disks whose serial number is the volume's id; that is certain. Xen instances show them by a name
//! that follows from the one they were attached by, which is a guess until EC2 says what is attached, and until the sizes agree.
//! Source: EBS user guide, "Map EBS volumes to NVMe device names" and EC2 user guide, "Device names for volumes".

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Volume;
use super::ids::VolumeId;
use crate::error::{Exit, Explain};
use crate::human;
use crate::volume::{Filesystem, Layer, LayerKind, sysfs};

/// A serial number is some tens of bytes; what is longer is none.
const LONGEST_SERIAL: usize = 256;

/// A disk of this host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Disk {
    /// Kernel name, such as `nvme1n1` or `xvdf`.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Its serial number, where the kernel knows one.
    pub serial: Option<String>,
}

/// Why a disk is no volume of this instance.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// A file system that lies on no disk.
    #[error("{} lies on no disk\n{drawing}", mount_point.display())]
    NoDisk {
        /// Where it is mounted.
        mount_point: PathBuf,
        /// What was found.
        drawing: String,
    },
    /// A part of the file system lies on a device that is not seen below it.
    #[error("{} has its {part}, which would be missing from the snapshots", mount_point.display())]
    External {
        /// Where it is mounted.
        mount_point: PathBuf,
        /// What lies where.
        part: String,
    },
    /// The kernel could not be asked.
    #[error("cannot read the serial number of {disk}: {source}")]
    Read {
        /// Kernel name.
        disk: String,
        /// What the system said.
        source: io::Error,
    },
    /// The instance's own disk.
    #[error(
        "{disk} is a disk of the instance itself (instance store), which cannot be snapshotted"
    )]
    InstanceStore {
        /// Kernel name.
        disk: String,
    },
    /// Nothing says which volume it is.
    #[error("nothing tells which EBS volume {disk} is")]
    Unknown {
        /// Kernel name.
        disk: String,
    },
    /// The volume is not among those that EC2 says are attached.
    #[error(
        "{disk} says that it is {volume}, which EC2 does not show as attached to this instance"
    )]
    NotAttached {
        /// Kernel name.
        disk: String,
        /// What its serial number says.
        volume: VolumeId,
    },
    /// Its name fits several volumes.
    #[error("{disk} may be any of {}", list(volumes))]
    Ambiguous {
        /// Kernel name.
        disk: String,
        /// Those.
        volumes: Vec<VolumeId>,
    },
    /// Its name fits a volume of another size.
    #[error("{disk} has {} bytes, and {volume}, attached by that name, has {}", bytes, human::size(*.volume_bytes))]
    OtherSize {
        /// Kernel name.
        disk: String,
        /// The disk's size.
        bytes: u64,
        /// The volume.
        volume: VolumeId,
        /// The volume's size in bytes.
        volume_bytes: u64,
    },
}

fn list(volumes: &[VolumeId]) -> String {
    let all: Vec<_> = volumes.iter().map(ToString::to_string).collect();
    all.join(", ")
}

impl Explain for DeviceError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::External { .. } => "set provider = \"hold\" in [window]".into(),
            Self::NoDisk { .. } | Self::InstanceStore { .. } => {
                "put mongod's data on EBS volumes, or set provider = \"lvm\" or \"hold\" in [window]".into()
            }
            Self::Read { .. } => "run freezeframe as root on the host of the member".into(),
            Self::Unknown { .. } | Self::Ambiguous { .. } | Self::OtherSize { .. } => {
                "on Xen instances attach volumes as /dev/sdf to /dev/sdp; or use an instance type of the Nitro system, whose disks tell their volume"
                    .into()
            }
            Self::NotAttached { .. } => {
                "a volume attached or detached at this moment: try again; else see that [ebs] instance and region are those of this host".into()
            }
        })
    }

    fn exit(&self) -> Exit {
        Exit::Refused
    }
}

/// The disks that `filesystem` lies on, whatever lies between: partitions, md, device-mapper, LVM. `sys` is the host's `/sys`.
///
/// # Errors
/// [`DeviceError::NoDisk`] where anything at the bottom is no disk; [`DeviceError::Read`].
pub fn disks(sys: &Path, filesystem: &Filesystem) -> Result<BTreeSet<Disk>, DeviceError> {
    if let Some(part) = filesystem.external.first() {
        return Err(DeviceError::External {
            mount_point: filesystem.mount_point.clone(),
            part: part.clone(),
        });
    }
    let mut bottom = BTreeMap::new();
    leaves(&filesystem.device, &mut bottom);
    let no_disk = || DeviceError::NoDisk {
        mount_point: filesystem.mount_point.clone(),
        drawing: filesystem.draw(),
    };
    let mut disks = BTreeSet::new();
    for (name, layer) in bottom {
        if layer.kind != LayerKind::Disk {
            return Err(no_disk());
        }
        let serial = serial(sys, name).map_err(|source| DeviceError::Read {
            disk: name.to_owned(),
            source,
        })?;
        disks.insert(Disk {
            name: name.to_owned(),
            bytes: layer.size,
            serial,
        });
    }
    match disks.is_empty() {
        true => Err(no_disk()),
        false => Ok(disks),
    }
}

fn leaves<'a>(layer: &'a Layer, into: &mut BTreeMap<&'a str, &'a Layer>) {
    if layer.below.is_empty() {
        into.insert(&layer.name, layer);
    }
    for below in &layer.below {
        leaves(below, into);
    }
}

/// The disk `name`; none where it is gone, or has no size yet.
///
/// # Errors
/// What reading `sys` brings.
pub fn disk(sys: &Path, name: &str) -> io::Result<Option<Disk>> {
    let sectors = sysfs::attribute(&sys.join("block").join(name), "size")?;
    let sectors: Option<u64> = sectors.and_then(|text| text.parse().ok());
    let Some(sectors) = sectors.filter(|sectors| *sectors > 0) else {
        return Ok(None);
    };
    Ok(Some(Disk {
        name: name.to_owned(),
        bytes: sectors.saturating_mul(sysfs::SECTOR),
        serial: serial(sys, name)?,
    }))
}

/// The serial number that the kernel shows of a disk: beside the disk (virtio), or at its controller (NVMe).
fn serial(sys: &Path, disk: &str) -> io::Result<Option<String>> {
    let device = sys.join("block").join(disk);
    for place in ["serial", "device/serial"] {
        match fs::read(device.join(place)) {
            Ok(bytes) if bytes.len() > LONGEST_SERIAL => {}
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes).trim().to_owned();
                if !text.is_empty() {
                    return Ok(Some(text));
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The names by which a volume may be attached that a Xen kernel shows as `disk`.
///
/// `xvdf` is what `/dev/sdf` and `/dev/xvdf` become. The boot volume of older images is attached as `/dev/sda1`, a partition's name, and
/// shown as `xvda` or `xvda1`.
pub fn xen_names(disk: &str) -> Vec<String> {
    let Some(letters) = disk.strip_prefix("xvd") else {
        return Vec::new();
    };
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase());
    let letters_of = letters.trim_end_matches(|c: char| c.is_ascii_digit());
    if !plain(letters_of) {
        return Vec::new();
    }
    let mut names = Vec::new();
    for prefix in ["/dev/sd", "/dev/xvd", "sd", "xvd"] {
        names.push(format!("{prefix}{letters}"));
        if letters == "a" {
            names.push(format!("{prefix}a1"));
        }
    }
    names
}

/// The name by which a Xen kernel will show a volume that is attached by `name`: the inverse of [`xen_names`].
pub fn kernel_name(name: &str) -> Option<String> {
    let name = name.strip_prefix("/dev/").unwrap_or(name);
    let letters = name
        .strip_prefix("xvd")
        .or_else(|| name.strip_prefix("sd"))
        .unwrap_or_default();
    let shown = format!("xvd{letters}");
    (!xen_names(&shown).is_empty()).then_some(shown)
}

/// Which of the `attached` volumes `disk` is.
///
/// # Errors
/// [`DeviceError`]; a guess is never made.
pub fn volume_of(disk: &Disk, attached: &[Volume]) -> Result<VolumeId, DeviceError> {
    let name = || disk.name.clone();
    if let Some(serial) = &disk.serial {
        if let Some(volume) = VolumeId::from_serial(serial) {
            return match attached.iter().any(|one| one.id == volume) {
                true => Ok(volume),
                false => Err(DeviceError::NotAttached {
                    disk: name(),
                    volume,
                }),
            };
        }
        // Disks of the instance's own have such serial numbers.
        if serial.starts_with("AWS") {
            return Err(DeviceError::InstanceStore { disk: name() });
        }
    }
    let names = xen_names(&disk.name);
    let fits = |one: &&Volume| names.contains(&one.attached_as);
    let found: Vec<_> = attached.iter().filter(fits).collect();
    match found.as_slice() {
        [] => Err(DeviceError::Unknown { disk: name() }),
        [one] if one.bytes == disk.bytes => Ok(one.id.clone()),
        [one] => Err(DeviceError::OtherSize {
            disk: name(),
            bytes: disk.bytes,
            volume: one.id.clone(),
            volume_bytes: one.bytes,
        }),
        several => Err(DeviceError::Ambiguous {
            disk: name(),
            volumes: several.iter().map(|one| one.id.clone()).collect(),
        }),
    }
}

#[cfg(test)]
mod tests;
