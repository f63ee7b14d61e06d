//! What this host says: the kernel's files, LVM's reports, the guard, our own journal.

use std::path::Path;

use crate::backup::guard::{FromGuard, ToGuard};
use crate::backup::journal;
use crate::mongo::process;
use crate::snapshot::lvm::facts;
use crate::snapshot::lvm::plan::{in_extents, most_usable};
use crate::snapshot::lvm::status::{CowStatus, PoolStatus};
use crate::snapshot::rate::Counters;
use crate::volume::DevNumber;
use crate::volume::mountinfo::MountTable;
use crate::volume::sysfs;

/// The run journal, read as `recover` reads it.
pub(super) fn journal(data: &[u8]) -> usize {
    let Ok(contents) = journal::parse(data) else {
        return 0;
    };
    for (_, resource) in &contents.outstanding {
        let _ = resource.to_string();
    }
    contents.outstanding.len()
}

/// Both ends of the pipe between run and guard.
pub(super) fn guard(data: &[u8]) -> usize {
    let text = String::from_utf8_lossy(data);
    let orders = text
        .lines()
        .filter_map(|line| serde_json::from_str::<ToGuard>(line).ok());
    let answers = text
        .lines()
        .filter_map(|line| serde_json::from_str::<FromGuard>(line).ok());
    orders.count() + answers.count()
}

/// Reports of `lvs` and `vgs`, device-mapper's status lines.
pub(super) fn lvm(data: &[u8]) -> usize {
    let text = String::from_utf8_lossy(data);
    let mut read = 0;
    for volume in facts::parse_volumes(&text).into_iter().flatten() {
        let _ = (volume.full_name(), volume.run(), volume.volume_type());
        let _ = (volume.state(), volume.is_open());
        let _ = most_usable(volume.size, volume.origin_size.unwrap_or(0));
        read += 1;
    }
    for group in facts::parse_groups(&text).into_iter().flatten() {
        let _ = in_extents(group.free, group.extent);
        read += 1;
    }
    for line in text.lines() {
        read += usize::from(CowStatus::parse(line).is_some());
        read += usize::from(PoolStatus::parse(line).is_some());
        read += usize::from(sysfs::split_lvm_name(line).is_some());
    }
    read
}

/// The mount table, and walks through it to paths that it names itself.
pub(super) fn mountinfo(data: &[u8]) -> usize {
    let Ok(table) = MountTable::parse(data) else {
        return 0;
    };
    let points: Vec<_> = table.iter().map(|mount| mount.point.clone()).collect();
    for point in points.iter().take(16) {
        let _ = table.covering(&point.join("db"));
    }
    let _ = table.covering(Path::new("/"));
    points.len()
}

/// Texts of /proc and /sys: socket tables, counters, device numbers and names.
pub(super) fn proc(data: &[u8]) -> usize {
    let text = String::from_utf8_lossy(data);
    let listening = process::listening(&text);
    let mut read = process::reachable(listening.into_iter().map(|(_, address)| address)).len();
    for line in text.lines() {
        read += usize::from(Counters::parse(line).is_some());
        read += usize::from(line.parse::<DevNumber>().is_ok());
        let (name, uuid) = line.split_once(' ').unwrap_or((line, line));
        let _ = sysfs::device_mapper(name.to_owned(), uuid.to_owned());
    }
    read
}
