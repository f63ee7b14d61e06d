//! Whether the files of a file system can be cloned, and what of ours lies in it already.

use super::storage::{OwnPath, refused};
use super::subvolumes::{beside, leftovers, space};
use super::{Finding, Others};
use crate::snapshot::reflink::{self, Reflink};
use crate::volume::Filesystem;

/// Judges every file system whose files are to be cloned; `own` is what must not share their space, what `others` own is no leftover.
pub fn judge(
    filesystems: &[Filesystem],
    reflink: &Reflink,
    own: &[OwnPath],
    others: &Others,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = Vec::new();
    for filesystem in filesystems {
        if seen.contains(&filesystem.device.number) {
            continue;
        }
        seen.push(filesystem.device.number);
        let point = &filesystem.mount_point;
        let subject = point.display().to_string();
        match reflink.is_supported(filesystem) {
            Ok(true) => {
                let detail = format!("{} with reflinks, on {}", filesystem.kind, filesystem.device.name);
                findings.push(Finding::ok(&subject, "volume", detail));
                findings.push(space(&subject, point));
                findings.extend(beside(filesystem, own));
                findings.extend(leftovers(&subject, point, reflink::found_in(point), others));
            }
            Ok(false) => findings.push(Finding::refused(
                subject,
                "volume",
                format!("{} without reflinks: its files cannot be cloned", filesystem.kind),
                "use logical volumes or btrfs, XFS made with reflink=1, or provider = \"hold\" in [window]",
            )),
            Err(error) => findings.push(refused(subject, "volume", &error)),
        }
    }
    findings
}
