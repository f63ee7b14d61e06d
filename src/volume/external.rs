//! What of a file system lies on devices of its own: the log and the realtime files of XFS, the journal of ext4.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::mountinfo::Mount;

/// Where ext4's superblock begins, in bytes, and how much of it is needed (the kernel's `Documentation/filesystems/ext4/super.rst`).
const SUPERBLOCK: u64 = 1024;
const NEEDED: usize = 0xe4;

/// What of the file system of `mount`, on the block device `device`, lies elsewhere.
///
/// # Errors
/// Whatever reading the superblock brings, but for who may not read the device or has no node of it: he does without.
pub fn external(mount: &Mount, device: &Path) -> io::Result<Vec<String>> {
    match mount.kind.as_str() {
        "xfs" => Ok(of_xfs(&mount.options)),
        "ext4" => match superblock(device) {
            Err(error) if is_nobodys(&error) => Ok(Vec::new()),
            read => Ok(of_ext4(&read?).into_iter().collect()),
        },
        _ => Ok(Vec::new()),
    }
}

fn is_nobodys(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
    )
}

/// The kernel tells them among the options, as xfs(5) has them.
fn of_xfs(options: &str) -> Vec<String> {
    let part = |option: &str| {
        let (name, device) = option.split_once('=')?;
        match name {
            "logdev" => Some(format!("log on {device}")),
            "rtdev" => Some(format!("realtime files on {device}")),
            _ => None,
        }
    };
    options.split(',').filter_map(part).collect()
}

fn superblock(device: &Path) -> io::Result<[u8; NEEDED]> {
    let mut bytes = [0; NEEDED];
    File::open(device)?.read_exact_at(&mut bytes, SUPERBLOCK)?;
    Ok(bytes)
}

/// No option tells: it has a journal, and that is no file in it.
fn of_ext4(superblock: &[u8; NEEDED]) -> Option<String> {
    const FEATURES: usize = 0x5c;
    const HAS_JOURNAL: u32 = 0x4;
    const JOURNAL_INODE: usize = 0xe0;
    let at = |place: usize| {
        let bytes = superblock.get(place..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    };
    let apart = at(FEATURES)? & HAS_JOURNAL != 0 && at(JOURNAL_INODE)? == 0;
    apart.then(|| "journal on another device".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::mountinfo::MountTable;
    use super::*;
    use crate::exec::{Command, Exec, SystemExec};

    fn mount(kind: &str, options: &str) -> Mount {
        let line = format!("30 21 254:3 / /data rw - {kind} /dev/mapper/vg0-mongo {options}\n");
        let table = MountTable::parse(line.as_bytes()).unwrap();
        table.iter().next().unwrap().clone()
    }

    #[test]
    fn the_log_and_the_realtime_files_of_xfs_are_told_by_its_options() {
        let nowhere = Path::new("/nonexistent");
        let options = "rw,attr2,inode64,logdev=/dev/sdb1,logbufs=8,rtdev=/dev/sdc,noquota";
        assert_eq!(
            external(&mount("xfs", options), nowhere).unwrap(),
            ["log on /dev/sdb1", "realtime files on /dev/sdc"]
        );
        for whole in [
            mount("xfs", "rw,attr2,inode64,logbufs=8,noquota"),
            mount("btrfs", "rw"),
            // Nobody can read it.
            mount("ext4", "rw"),
        ] {
            assert_eq!(external(&whole, nowhere).unwrap(), [""; 0]);
        }
    }

    #[test]
    fn an_ext4_that_mke2fs_made_has_its_journal_inside() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("device");
        File::create(&device).unwrap().set_len(8 << 20).unwrap();
        let mkfs = Command::new(
            "mkfs.ext4",
            ["-q".into(), "-F".into(), device.clone().into_os_string()],
        );
        SystemExec.run(&mkfs).unwrap();
        let ext4 = mount("ext4", "rw");
        assert_eq!(external(&ext4, &device).unwrap(), [""; 0]);
        // What `mkfs.ext4 -J device=` writes instead of the number 8; the laboratory's job `layouts` has a real one.
        let written = File::options().write(true).open(&device).unwrap();
        written.write_all_at(&[0; 4], SUPERBLOCK + 0xe0).unwrap();
        assert_eq!(
            external(&ext4, &device).unwrap(),
            ["journal on another device"]
        );
        File::create(&device).unwrap();
        assert!(external(&ext4, &device).is_err());
    }
}
