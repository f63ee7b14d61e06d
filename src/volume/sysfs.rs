//! Block devices and what they lie on, as sysfs tells it. Format: the kernel's
//! `Documentation/ABI/{stable/sysfs-block,testing/sysfs-block-dm}` and `Documentation/admin-guide/md.rst`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{DevNumber, Layer, LayerKind};

/// Where the kernel shows its devices.
pub const SYS: &str = "/sys";
/// Longer chains of devices than this do not exist; it ends a walk through links that loop.
const MAX_DEPTH: usize = 16;
/// A device that several lie on is read once for each: layers of layers of them would multiply.
const MOST_LAYERS: usize = 4096;
/// sysfs counts sizes in these, whatever the device's own block size.
pub(crate) const SECTOR: u64 = 512;

/// The device `number` and everything below it; none where sysfs does not know the number.
///
/// # Errors
/// Whatever reading `sys` brings, and a chain of devices that does not end.
pub fn layers(sys: &Path, number: DevNumber) -> io::Result<Option<Layer>> {
    match fs::canonicalize(sys.join(format!("dev/block/{number}"))) {
        Ok(device) => read_device(&device, MAX_DEPTH, &mut 0).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The node below `dev` of the device whose kernel name is `name`.
pub fn node(dev: &Path, name: &str) -> PathBuf {
    // `cciss!c0d0` is /dev/cciss/c0d0.
    dev.join(name.replace('!', "/"))
}

/// The devices of the btrfs file system that `source`, the name of one of them, was mounted from; none where sysfs knows no such file system.
///
/// # Errors
/// Whatever reading `sys` brings, and a chain of devices that does not end.
pub fn btrfs_devices(sys: &Path, source: &Path) -> io::Result<Vec<Layer>> {
    let source = fs::canonicalize(source).unwrap_or_else(|_| source.to_owned());
    let Some(name) = source.file_name() else {
        return Ok(Vec::new());
    };
    for filesystem in entries(&sys.join("fs/btrfs"))? {
        let devices = filesystem.join("devices");
        if !devices.join(name).exists() {
            continue;
        }
        let mut layers = Vec::new();
        for device in entries(&devices)? {
            layers.push(read_device(&fs::canonicalize(device)?, MAX_DEPTH, &mut 0)?);
        }
        layers.sort_by(|a, b| a.name.cmp(&b.name));
        return Ok(layers);
    }
    Ok(Vec::new())
}

fn read_device(device: &Path, depth: usize, count: &mut usize) -> io::Result<Layer> {
    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| invalid(device, "devices lie on one another without end"))?;
    *count += 1;
    if *count > MOST_LAYERS {
        return Err(invalid(device, "too many devices lie on one another"));
    }
    let number = attribute(device, "dev")?
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| invalid(device, "no device number in `dev`"))?;
    let sectors: u64 = attribute(device, "size")?
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| invalid(device, "no number of sectors in `size`"))?;
    let mut below = Vec::new();
    let partition = attribute(device, "partition")?.is_some();
    if partition {
        let disk = device
            .parent()
            .ok_or_else(|| invalid(device, "a partition without a disk"))?;
        below.push(read_device(disk, depth, count)?);
    }
    for slave in slaves(device)? {
        below.push(read_device(&slave, depth, count)?);
    }
    below.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Layer {
        name: device
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        number,
        size: sectors.saturating_mul(SECTOR),
        kind: kind(device, partition)?,
        below,
    })
}

fn kind(device: &Path, partition: bool) -> io::Result<LayerKind> {
    if partition {
        return Ok(LayerKind::Partition);
    }
    if let Some(name) = attribute(device, "dm/name")? {
        let uuid = attribute(device, "dm/uuid")?.unwrap_or_default();
        return Ok(device_mapper(name, uuid));
    }
    if let Some(level) = attribute(device, "md/level")? {
        return Ok(LayerKind::Md { level });
    }
    Ok(LayerKind::Disk)
}

/// An LV's own device has the uuid `LVM-`, then the group's and the volume's ids of 32 characters each; what LVM
/// builds it from (`-real`, `-cow`, `-tpool`, images) has a suffix.
pub(crate) fn device_mapper(name: String, uuid: String) -> LayerKind {
    let is_lv = uuid
        .strip_prefix("LVM-")
        .is_some_and(|ids| ids.len() == 64 && !ids.contains('-'));
    match split_lvm_name(&name) {
        Some((vg, lv)) if is_lv => LayerKind::LogicalVolume { vg, lv },
        _ => LayerKind::DeviceMapper { name, uuid },
    }
}

/// Takes `vg-lv` apart, where a hyphen inside either name is written twice. A third part is no LV's name.
pub fn split_lvm_name(name: &str) -> Option<(String, String)> {
    let mut parts = vec![String::new()];
    let mut chars = name.chars().peekable();
    while let Some(char) = chars.next() {
        match (char, parts.last_mut()) {
            ('-', Some(part)) if chars.next_if_eq(&'-').is_some() => part.push('-'),
            ('-', _) => parts.push(String::new()),
            (other, Some(part)) => part.push(other),
            (_, None) => return None,
        }
    }
    match <[String; 2]>::try_from(parts) {
        Ok([vg, lv]) if !vg.is_empty() && !lv.is_empty() => Some((vg, lv)),
        _ => None,
    }
}

/// The device-mapper name of an LV: the inverse of [`split_lvm_name`].
pub fn join_lvm_name(vg: &str, lv: &str) -> String {
    format!("{}-{}", vg.replace('-', "--"), lv.replace('-', "--"))
}

fn slaves(device: &Path) -> io::Result<Vec<PathBuf>> {
    let slaves = entries(&device.join("slaves"))?;
    slaves.into_iter().map(fs::canonicalize).collect()
}

/// What is in a directory; nothing where there is none.
pub(crate) fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// What the file `name` in `device` says, without the end of the line; none where there is no such file.
pub(crate) fn attribute(device: &Path, name: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(device.join(name)) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        // ENODEV, ENXIO: the device went away between the listing and the reading.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("{}: {error}", device.join(name).display()),
        )),
    }
}

pub(crate) fn invalid(device: &Path, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{}: {what}", device.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use super::*;
    use proptest::prelude::*;

    fn number(minor: u32) -> DevNumber {
        DevNumber { major: 254, minor }
    }

    #[test]
    fn an_origin_shows_its_layers_down_to_the_disks() {
        let host = FakeHost::default();
        host.disk("sda", 8, 0, 4096);
        host.partition("sda", "sda1", 8, 1, 2048);
        host.disk("sdb", 8, 16, 4096);
        host.md("md0", 9, 0, "raid0", &["sda/sda1", "sdb"]);
        host.dm(
            "dm-2",
            254,
            2,
            "data--1-mongo--db-real",
            &format!("LVM-{}-real", "a".repeat(64)),
            &["md0"],
        );
        host.dm(
            "dm-0",
            254,
            0,
            "data--1-mongo--db",
            &format!("LVM-{}", "a".repeat(64)),
            &["dm-2"],
        );
        let top = layers(&host.sys(), number(0)).unwrap().unwrap();
        assert_eq!(
            top.kind,
            LayerKind::LogicalVolume {
                vg: "data-1".into(),
                lv: "mongo-db".into()
            }
        );
        let real = &top.below[0];
        assert!(
            matches!(&real.kind, LayerKind::DeviceMapper { uuid, .. } if uuid.ends_with("-real"))
        );
        let md = &real.below[0];
        assert_eq!(
            md.kind,
            LayerKind::Md {
                level: "raid0".into()
            }
        );
        let names: Vec<_> = md.below.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(names, ["sda1", "sdb"]);
        assert_eq!(md.below[0].kind, LayerKind::Partition);
        assert_eq!(md.below[0].below[0].name, "sda");
        assert_eq!(md.below[1].size, 4096 * 512);
        assert!(top.contains(DevNumber { major: 8, minor: 0 }));
        assert!(!top.contains(DevNumber {
            major: 8,
            minor: 99
        }));
    }

    #[test]
    fn disks_and_partitions_are_known_whatever_they_are_called() {
        for (disk, partition) in [
            ("nvme0n1", "nvme0n1p2"),
            ("xvda", "xvda1"),
            ("xvdba", "xvdba1"),
            ("vdb", "vdb3"),
            ("mmcblk0", "mmcblk0p1"),
            ("cciss!c0d0", "cciss!c0d0p1"),
        ] {
            let host = FakeHost::default();
            host.disk(disk, 259, 0, 4096);
            host.partition(disk, partition, 259, 1, 2048);
            let number = DevNumber {
                major: 259,
                minor: 1,
            };
            let top = layers(&host.sys(), number).unwrap().unwrap();
            assert_eq!(
                (top.name.as_str(), &top.kind),
                (partition, &LayerKind::Partition)
            );
            assert_eq!(
                (top.below[0].name.as_str(), &top.below[0].kind),
                (disk, &LayerKind::Disk)
            );
        }
    }

    #[test]
    fn an_unknown_number_is_none_and_a_loop_an_error() {
        let host = FakeHost::default();
        assert_eq!(layers(&host.sys(), number(7)).unwrap(), None);
        host.dm("dm-0", 254, 0, "a", "CRYPT-x", &["dm-1"]);
        host.dm("dm-1", 254, 1, "b", "CRYPT-y", &["dm-0"]);
        assert!(layers(&host.sys(), number(0)).is_err());
    }

    #[test]
    fn devices_that_multiply_are_refused() {
        let host = FakeHost::default();
        let name = |level: u32, one: u32| format!("dm-{}", level * 4 + one);
        for level in 0..12 {
            let below: Vec<String> = (0..4).map(|one| name(level + 1, one)).collect();
            let below: Vec<&str> = below.iter().map(String::as_str).collect();
            for one in 0..4 {
                // Four to the power of eleven, were each read once for each that lies on it.
                let below = if level < 11 { below.as_slice() } else { &[] };
                host.dm(
                    &name(level, one),
                    254,
                    level * 4 + one,
                    "a",
                    "CRYPT-x",
                    below,
                );
            }
        }
        let error = layers(&host.sys(), number(0)).unwrap_err();
        assert!(error.to_string().contains("too many"), "{error}");
    }

    #[test]
    fn only_an_lv_with_its_own_uuid_is_a_logical_volume() {
        let ids = "a".repeat(64);
        let cases = [
            ("data-mongo", format!("LVM-{ids}"), true),
            ("data-mongo-real", format!("LVM-{ids}-real"), false),
            ("data-pool_tdata", format!("LVM-{ids}-tdata"), false),
            ("data-mongo", format!("CRYPT-LUKS2-{ids}"), false),
            ("data-mongo1", format!("part1-LVM-{ids}"), false),
            ("data", format!("LVM-{ids}"), false),
            ("a-b-c", format!("LVM-{ids}"), false),
        ];
        for (name, uuid, expected) in cases {
            let kind = device_mapper(name.into(), uuid.clone());
            assert_eq!(
                matches!(kind, LayerKind::LogicalVolume { .. }),
                expected,
                "{name} {uuid}"
            );
        }
    }

    proptest! {
        /// LVM's names: letters, digits, `+ _ . -`, not beginning with a hyphen.
        #[test]
        fn lvm_names_come_apart_as_they_were_put_together(vg in "[a-z0-9+_.][a-z0-9+_.-]{0,8}", lv in "[a-z0-9+_.][a-z0-9+_.-]{0,8}") {
            prop_assert_eq!(split_lvm_name(&join_lvm_name(&vg, &lv)), Some((vg, lv)));
        }

        #[test]
        fn splitting_never_panics(name in ".{0,20}") {
            let _ = split_lvm_name(&name);
        }
    }
}
