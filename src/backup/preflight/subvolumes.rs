//! Whether every btrfs subvolume under the members can be snapshotted, and what of ours lies in it already.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::storage::{OwnPath, Place, refused};
use super::{Finding, Others};
use crate::host;
use crate::human;
use crate::snapshot::btrfs;
use crate::volume::{DataLayout, Filesystem};

/// Judges every subvolume below `layouts`; `own` is what must not share their space; what `others` own is no leftover.
pub fn judge(layouts: &[&DataLayout], own: &[OwnPath], others: &Others) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    let filesystems = layouts.iter().flat_map(|layout| &layout.filesystems);
    for filesystem in filesystems.filter(|filesystem| btrfs::is_ours(filesystem)) {
        if !seen.insert(filesystem.device.number) {
            continue;
        }
        let subject = filesystem.mount_point.display().to_string();
        match btrfs::fit(filesystem) {
            Ok(()) => {
                let detail = format!("btrfs subvolume, on {}", devices(filesystem));
                findings.push(Finding::ok(&subject, "volume", detail));
                findings.push(space(&subject, &filesystem.mount_point));
                findings.extend(beside(filesystem, own));
                findings.extend(leftovers(
                    &subject,
                    &filesystem.mount_point,
                    btrfs::found_in(&filesystem.mount_point),
                    others,
                ));
            }
            Err(error) => findings.push(refused(subject, "volume", &error)),
        }
    }
    findings
}

fn devices(filesystem: &Filesystem) -> String {
    let names = filesystem.device.below.iter();
    let names: Vec<_> = names.map(|device| device.name.as_str()).collect();
    match names.is_empty() {
        true => filesystem.device.name.clone(),
        false => names.join(", "),
    }
}

/// A store on the devices that the data is on is lost with it, and fills the file system that the snapshot keeps from being emptied.
pub(super) fn beside(filesystem: &Filesystem, own: &[OwnPath]) -> Vec<Finding> {
    let devices = &filesystem.device.below;
    let shared = own.iter().filter(|own| {
        matches!(own.place, Place::Store)
            && devices
                .iter()
                .any(|device| own.filesystem.device.contains(device.number))
    });
    let refuse = |own: &OwnPath| {
        Finding::refused(
            filesystem.mount_point.display().to_string(),
            "own_paths",
            format!(
                "{} ({}) lies on the same devices, and they are snapshotted",
                own.place,
                own.path.display()
            ),
            "move it to a file system that holds no mongod's data",
        )
    };
    shared.map(refuse).collect()
}

/// A snapshot keeps what is overwritten, and a full file system stops mongod.
pub(super) fn space(subject: &str, root: &Path) -> Finding {
    let space = match host::space(root) {
        Ok(space) => space,
        Err(error) => {
            let detail = format!("cannot tell how much is free: {error}");
            return Finding::warning(subject, "snapshot_space", detail, "see that it is not full");
        }
    };
    let detail = format!(
        "{} of {} free for what its snapshot keeps",
        human::size(space.free),
        human::size(space.total)
    );
    match btrfs::has_room(space.free as f64 / space.total.max(1) as f64) {
        true => Finding::ok(subject, "snapshot_space", detail),
        false => Finding::refused(
            subject,
            "snapshot_space",
            detail,
            "free space there: a snapshot keeps everything that is overwritten, and when the file system is full mongod stops",
        ),
    }
}

/// Snapshots of ours that no run at work owns. Their names tell the run.
pub(super) fn leftovers(
    subject: &str,
    root: &Path,
    found: io::Result<Vec<String>>,
    others: &Others,
) -> Vec<Finding> {
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let detail = format!("cannot be listed: {error}");
            return vec![Finding::warning(
                subject,
                "leftovers",
                detail,
                "run freezeframe as root",
            )];
        }
    };
    let finding = |name: String| {
        let path = root.join(&name).display().to_string();
        let owner = others
            .at_work
            .iter()
            .find(|seen| btrfs::is_of(&name, seen.owner.run));
        match owner {
            Some(seen) => {
                let detail = format!("belongs to {}", seen.owner.at_work());
                Finding::refused(path, "running", detail, "wait until it has ended")
            }
            None => {
                let todo = format!(
                    "run `freezeframe recover`; if it stays, no journal here names it: `btrfs subvolume delete {path}` (clones: `rm -r`) once you \
                     know that no freezeframe is at work with another state_dir"
                );
                Finding::refused(path, "leftovers", "left behind by an earlier run", todo)
            }
        }
    };
    let is_kept = |name: &String| others.kept.iter().any(|run| btrfs::is_of(name, *run));
    found
        .into_iter()
        .filter(|name| !is_kept(name))
        .map(finding)
        .collect()
}
