//! The one thing asked of device-mapper by `ioctl(2)` and not by `dmsetup`: to bring a device of ours to life unseen by udev.
//!
//! udev must neither scan it nor make links to it: it holds a file system with the very UUID of one that is mounted, and a link such as
//! `/dev/disk/by-uuid/...` would come to point to ours. libdevmapper has a flag for each set of rules, and `dmsetup --noudevrules` gives two of the five only
//! (seen in the laboratory: links by uuid were made all the same).

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;

/// Where device-mapper takes its commands.
const CONTROL: &str = "/dev/mapper/control";
/// The oldest version of the interface that will do (`include/uapi/linux/dm-ioctl.h`).
const VERSION: [u32; 3] = [4, 0, 0];
/// `DM_UDEV_DISABLE_{DM,SUBSYSTEM,DISK,OTHER}_RULES_FLAG`, `DM_UDEV_DISABLE_LIBRARY_FALLBACK` and `DM_UDEV_PRIMARY_SOURCE_FLAG` of `libdevmapper.h`. udev's
/// rules find them in the upper half of the cookie that the kernel hands on; a lower half of zero says that nobody waits for udev.
const UNSEEN: u32 = (0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40) << 16;

/// `struct dm_ioctl`
#[repr(C)]
struct Request {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

const SIZE: u32 = 312;
const _: () = assert!(size_of::<Request>() == SIZE as usize);

nix::ioctl_readwrite!(dm_dev_suspend, 0xfd, 6, Request);

/// Resumes the device `name`, which makes the table that was loaded into it live. udev's rules leave it alone, now and later.
///
/// # Errors
/// What the system said.
pub fn resume_unseen(name: &str) -> io::Result<()> {
    let mut request = request(name)?;
    let control = OpenOptions::new().read(true).write(true).open(CONTROL)?;
    // SAFETY: the kernel reads and writes `data_size` bytes, the size of the structure, which lives until the call returns.
    unsafe { dm_dev_suspend(control.as_raw_fd(), &raw mut request) }?;
    Ok(())
}

/// The command is "suspend" with the flag for it, "resume" without any.
fn request(name: &str) -> io::Result<Request> {
    let mut padded = [0; 128];
    // One byte at the least must stay zero.
    match padded.get_mut(..name.len()) {
        Some(place) if name.len() < 128 => place.copy_from_slice(name.as_bytes()),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    }
    Ok(Request {
        version: VERSION,
        data_size: SIZE,
        data_start: SIZE,
        target_count: 0,
        open_count: 0,
        flags: 0,
        event_nr: UNSEEN,
        padding: 0,
        dev: 0,
        name: padded,
        uuid: [0; 129],
        data: [0; 7],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_with_a_zero_and_a_longer_one_is_refused() {
        let longest = "n".repeat(127);
        let made = request(&longest).unwrap();
        assert_eq!(made.name.last(), Some(&0));
        assert!(made.name.starts_with(longest.as_bytes()));
        assert!(request(&"n".repeat(128)).is_err());
    }
}
