//! A host's sysfs and mountinfo as files in a temporary directory.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::{DevNumber, HostView};

/// Devices and mounts that exist on paper only; directories are real.
pub struct FakeHost {
    root: tempfile::TempDir,
    mountinfo: Mutex<String>,
}

impl Default for FakeHost {
    /// A host without devices, whose root file system is 8:255, which sysfs does not know.
    fn default() -> Self {
        let host = Self {
            root: tempfile::tempdir().unwrap(),
            mountinfo: Mutex::default(),
        };
        fs::create_dir_all(host.sys().join("dev/block")).unwrap();
        fs::create_dir_all(host.sys().join("block")).unwrap();
        host.mount_line(
            1,
            0,
            DevNumber {
                major: 8,
                minor: 255,
            },
            "/",
            Path::new("/"),
            ("ext4", "/dev/fake"),
        );
        host
    }
}

impl FakeHost {
    /// Its /sys.
    pub fn sys(&self) -> PathBuf {
        self.root.path().join("sys")
    }

    /// A real directory to put a dbPath into.
    pub fn dir(&self, name: &str) -> PathBuf {
        let dir = self
            .root
            .path()
            .canonicalize()
            .unwrap()
            .join("dirs")
            .join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// What the code under test sees; device numbers of paths come from the fake mounts.
    pub fn view(&self) -> HostView {
        let path = self.root.path().join("mountinfo");
        fs::write(&path, self.mountinfo.lock().unwrap().as_bytes()).unwrap();
        HostView {
            mountinfo: path,
            sys: self.sys(),
            dev: self.root.path().join("dev"),
            device_of: None,
        }
    }

    /// A whole disk.
    pub fn disk(&self, name: &str, major: u32, minor: u32, sectors: u64) {
        self.device(name, major, minor, sectors, &[]);
    }

    /// A partition of the disk `disk`.
    pub fn partition(&self, disk: &str, name: &str, major: u32, minor: u32, sectors: u64) {
        let path = format!("{disk}/{name}");
        self.device(&path, major, minor, sectors, &[]);
        fs::write(self.sys().join("block").join(path).join("partition"), "1\n").unwrap();
    }

    /// A device-mapper device of 1 GiB.
    pub fn dm(
        &self,
        kernel: &str,
        major: u32,
        minor: u32,
        name: &str,
        uuid: &str,
        slaves: &[&str],
    ) {
        let device = self.device(kernel, major, minor, 1 << 21, slaves);
        fs::create_dir(device.join("dm")).unwrap();
        fs::write(device.join("dm/name"), format!("{name}\n")).unwrap();
        fs::write(device.join("dm/uuid"), format!("{uuid}\n")).unwrap();
    }

    /// An LV of 1 GiB directly on the disk `sda`, with a uuid made from its minor number.
    pub fn lv(&self, minor: u32, vg: &str, lv: &str) {
        let uuid = format!("LVM-{minor:064}");
        self.dm(
            &format!("dm-{minor}"),
            254,
            minor,
            &super::sysfs::join_lvm_name(vg, lv),
            &uuid,
            &["sda"],
        );
    }

    /// An md array.
    pub fn md(&self, name: &str, major: u32, minor: u32, level: &str, slaves: &[&str]) {
        let device = self.device(name, major, minor, 1 << 21, slaves);
        fs::create_dir(device.join("md")).unwrap();
        fs::write(device.join("md/level"), format!("{level}\n")).unwrap();
    }

    fn device(&self, path: &str, major: u32, minor: u32, sectors: u64, slaves: &[&str]) -> PathBuf {
        let device = self.sys().join("block").join(path);
        fs::create_dir_all(device.join("slaves")).unwrap();
        fs::write(device.join("dev"), format!("{major}:{minor}\n")).unwrap();
        fs::write(device.join("size"), format!("{sectors}\n")).unwrap();
        for slave in slaves {
            // May be made later: the link is only followed when the stack is read.
            let name = Path::new(slave).file_name().unwrap();
            symlink(
                self.sys().join("block").join(slave),
                device.join("slaves").join(name),
            )
            .unwrap();
        }
        symlink(
            &device,
            self.sys().join(format!("dev/block/{major}:{minor}")),
        )
        .unwrap();
        device
    }

    /// Mounts `minor` of major 254 on a real directory, on top of everything so far.
    pub fn mount(&self, minor: u32, root: &str, point: &Path, kind: &str) {
        self.mount_device(DevNumber { major: 254, minor }, root, point, kind);
    }

    /// Mounts any device on a real directory.
    pub fn mount_device(&self, device: DevNumber, root: &str, point: &Path, kind: &str) {
        self.mount_from(device, root, point, kind, "/dev/fake");
    }

    /// Mounts `device`, whose file system says it came from `source`, on a real directory.
    pub fn mount_from(
        &self,
        device: DevNumber,
        root: &str,
        point: &Path,
        kind: &str,
        source: &str,
    ) {
        let table =
            super::mountinfo::MountTable::parse(self.mountinfo.lock().unwrap().as_bytes()).unwrap();
        let parent = table.covering(point).unwrap().id;
        let id = table.iter().count() as u32 + 1;
        self.mount_line(id, parent, device, root, point, (kind, source));
    }

    /// A btrfs file system on these devices.
    pub fn btrfs(&self, uuid: &str, devices: &[&str]) {
        let folder = self.sys().join("fs/btrfs").join(uuid).join("devices");
        fs::create_dir_all(&folder).unwrap();
        for device in devices {
            let name = Path::new(device).file_name().unwrap();
            symlink(self.sys().join("block").join(device), folder.join(name)).unwrap();
        }
    }

    fn mount_line(
        &self,
        id: u32,
        parent: u32,
        device: DevNumber,
        root: &str,
        point: &Path,
        (kind, source): (&str, &str),
    ) {
        let mut text = self.mountinfo.lock().unwrap();
        writeln!(
            text,
            "{id} {parent} {device} {root} {} rw shared:1 - {kind} {source} rw",
            point.display()
        )
        .unwrap();
    }
}
