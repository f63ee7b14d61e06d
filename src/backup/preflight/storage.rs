//! Whether every volume under the members can be snapshotted, and whether we stand on one of them ourselves.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use super::{Finding, Others};
use crate::backup::journal::survey::Seen;
use crate::error::Explain;
use crate::human;
use crate::snapshot::lvm::array::Array;
use crate::snapshot::lvm::facts::{LogicalVolume, LvmFacts, ThinPool};
use crate::snapshot::lvm::plan::{Fit, Planned, needed_in, origin};
use crate::snapshot::{SnapshotError, btrfs};
use crate::store::Spool;
use crate::volume::{DataLayout, DevNumber, Filesystem, HostView, VolumeError, locate};

/// What of ours lies somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The folder of a local store.
    Store,
    /// Run journals.
    State,
    /// Our log.
    Log,
    /// Mount points.
    Runtime,
    /// Our program.
    Program,
    /// The host's root.
    Root,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Store => "the store",
            Self::State => "the state directory",
            Self::Log => "the log directory",
            Self::Runtime => "the runtime directory",
            Self::Program => "freezeframe itself",
            Self::Root => "the root file system",
        })
    }
}

/// A path that must stay writable while origins stand still.
#[derive(Debug, Clone)]
pub struct OwnPath {
    /// What it is.
    pub place: Place,
    /// Where.
    pub path: PathBuf,
    /// What it lies on.
    pub filesystem: Filesystem,
}

impl OwnPath {
    /// Finds out what `path` lies, or would lie, on.
    ///
    /// # Errors
    /// [`VolumeError`].
    pub fn locate(place: Place, path: PathBuf, host: &HostView) -> Result<Self, VolumeError> {
        let filesystem = locate(&path, host)?;
        Ok(Self {
            place,
            path,
            filesystem,
        })
    }
}

/// Refuses what of ours lies inside a member's data: a store there would be archived into itself, and everything there is lost
/// with the data.
pub fn inside_data(layouts: &[&DataLayout], own: &[OwnPath]) -> Vec<Finding> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let kept = |own: &&OwnPath| matches!(own.place, Place::Store | Place::State | Place::Runtime);
    let mut findings = Vec::new();
    for layout in layouts {
        let grafts = layout.grafts.iter().map(|graft| graft.path.as_path());
        let data: Vec<_> = std::iter::once(layout.db_path.as_path())
            .chain(grafts)
            .collect();
        for own in own.iter().filter(kept) {
            if let Some(data) = data.iter().find(|data| real(&own.path).starts_with(data)) {
                findings.push(Finding::refused(
                    own.path.display().to_string(),
                    "inside_data",
                    format!(
                        "{} lies inside the member's data in {}",
                        own.place,
                        data.display()
                    ),
                    "move it to another volume",
                ));
            }
        }
    }
    findings
}

/// Judges everything below the file systems for provider "lvm".
///
/// `planned` is the plan made of the same `layouts` and `facts`; what `others` own is no leftover.
pub fn judge(
    layouts: &[&DataLayout],
    facts: &LvmFacts,
    planned: Result<&[Planned], &SnapshotError>,
    own: &[OwnPath],
    others: &Others,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut origins: Vec<(DevNumber, &LogicalVolume)> = Vec::new();
    let mut seen = BTreeSet::new();
    let filesystems = layouts.iter().flat_map(|layout| &layout.filesystems);
    for filesystem in filesystems.filter(|filesystem| !btrfs::is_ours(filesystem)) {
        if !seen.insert((filesystem.device.number, &filesystem.mount_point)) {
            continue;
        }
        let subject = filesystem.mount_point.display().to_string();
        match origin(filesystem, facts) {
            Ok(Fit { volume, pool, .. }) => {
                let layout = volume.layout.join(" and ");
                let detail = format!("{}, {layout}, {}", volume.full_name(), filesystem.kind);
                findings.push(Finding::ok(subject, "volume", detail));
                findings.extend(pool.map(pool_space));
                findings.extend(in_need(volume));
                if !origins
                    .iter()
                    .any(|(number, _)| *number == filesystem.device.number)
                {
                    origins.push((filesystem.device.number, volume));
                }
            }
            Err(error) => findings.push(refused(subject, "volume", &error)),
        }
    }
    findings.extend(facts.arrays.values().filter_map(degraded));
    findings.extend(space(facts, planned));
    for (number, volume) in &origins {
        findings.extend(standing_on(*number, volume, own));
        findings.extend(other_snapshots(volume, facts));
    }
    let kept = |volume: &&LogicalVolume| volume.run().is_some_and(|run| others.kept.contains(&run));
    let ours_now = facts.ours().filter(|volume| !kept(volume));
    findings.extend(ours_now.map(|volume| ours(volume, &others.at_work)));
    findings
}

/// Whether what waits on its way to the store finds room. `free` is what its file system has.
pub fn judge_spool(spool: &Spool, free: u64) -> Finding {
    let subject = spool.folder.display().to_string();
    let detail = format!(
        "parts on their way to the store take {} of {} free",
        human::size(spool.bytes),
        human::size(free)
    );
    if spool.bytes <= free {
        return Finding::ok(subject, "spool", detail);
    }
    Finding::refused(
        subject,
        "spool",
        detail,
        "free space there, or move [host] state_dir to a larger file system; more [s3] memory keeps larger parts out of it",
    )
}

/// Whether a backup finds room in the folder that is the store. `before` is what the last one of the same members took, `data` what there is to archive.
pub fn judge_room(folder: &Path, free: u64, before: Option<u64>, data: u64) -> Finding {
    let subject = folder.display().to_string();
    let (needed, detail) = match before {
        Some(before) => (
            before,
            format!(
                "{} free, the last backup took {}",
                human::size(free),
                human::size(before)
            ),
        ),
        None => (
            data,
            format!(
                "{} free, and {} of data, which compressing makes less",
                human::size(free),
                human::size(data)
            ),
        ),
    };
    if needed <= free {
        return Finding::ok(subject, "room", detail);
    }
    Finding::warning(
        subject,
        "room",
        detail,
        "make room there, or name a larger [store]; `freezeframe prune` shows what could go. A backup that does not fit fails, and leaves nothing",
    )
}

fn space(facts: &LvmFacts, planned: Result<&[Planned], &SnapshotError>) -> Vec<Finding> {
    match planned {
        Ok(planned) => facts
            .groups
            .iter()
            .filter_map(|group| {
                let needed = needed_in(&group.name, planned);
                let detail = format!(
                    "the snapshots take {} of {} free",
                    human::size(needed),
                    human::size(group.free)
                );
                (needed > 0).then(|| Finding::ok(&group.name, "snapshot_space", detail))
            })
            .collect(),
        // Told for each volume already.
        Err(SnapshotError::Unfit { .. }) => Vec::new(),
        Err(error @ SnapshotError::NoSpace { vg, .. }) => {
            vec![refused(vg.clone(), "snapshot_space", error)]
        }
        Err(
            error
            @ (SnapshotError::PoolSpace { pool, .. } | SnapshotError::PoolClosed { pool, .. }),
        ) => {
            vec![refused(pool.clone(), "pool_space", error)]
        }
        Err(error) => vec![refused("lvm".into(), "snapshot_plan", error)],
    }
}

fn pool_space(pool: &ThinPool) -> Finding {
    let status = pool.status;
    let detail = format!(
        "thin pool of {}: {} of its data and {} of its metadata used",
        human::size(pool.size),
        human::percent(status.data.share()),
        human::percent(status.metadata.share())
    );
    Finding::ok(format!("{}/{}", pool.vg, pool.lv), "pool_space", detail)
}

/// A raid volume can be snapshotted in any state, but should not be left in this one.
fn in_need(volume: &LogicalVolume) -> Option<Finding> {
    let needs = match volume.health() {
        'r' => "must be refreshed or repaired",
        'm' => "has parts that differ",
        _ => return None,
    };
    let name = volume.full_name();
    let todo = format!("see `lvs -o +lv_health_status {name}` and lvmraid(7)");
    Some(Finding::warning(
        &name,
        "health",
        format!("{name} {needs}"),
        todo,
    ))
}

/// A picture needs one member of each mirror; the next failure may take the data.
fn degraded(array: &Array) -> Option<Finding> {
    let Array { name, degraded, .. } = array;
    (*degraded > 0).then(|| {
        Finding::warning(
            name,
            "health",
            format!("{name} lacks {degraded} of its members"),
            format!("see `mdadm --detail /dev/{name}`"),
        )
    })
}

/// What of ours would stand still together with an origin, or fill its snapshot with what it writes.
fn standing_on(number: DevNumber, volume: &LogicalVolume, own: &[OwnPath]) -> Vec<Finding> {
    let name = volume.full_name();
    let on_it: Vec<_> = own
        .iter()
        .filter(|path| path.filesystem.device.contains(number))
        .collect();
    if on_it.is_empty() {
        return vec![Finding::ok(name, "own_paths", "nothing of ours lies on it")];
    }
    let refuse = |path: &OwnPath| {
        Finding::refused(
            &name,
            "own_paths",
            format!(
                "{} ({}) lies on it, and it is to be snapshotted",
                path.place,
                path.path.display()
            ),
            match path.place {
                Place::Root => "give mongod's data a volume of its own",
                _ => "move it to a file system that holds no mongod's data",
            },
        )
    };
    on_it.into_iter().map(refuse).collect()
}

fn other_snapshots(volume: &LogicalVolume, facts: &LvmFacts) -> Option<Finding> {
    // A thin snapshot costs its origin nothing.
    if volume.pool.is_some() {
        return None;
    }
    let others: Vec<_> = facts
        .snapshots_of(&volume.vg, &volume.lv)
        .filter(|snapshot| !snapshot.has_tag(crate::snapshot::LvmSnapshot::TAG))
        .map(|snapshot| snapshot.lv.as_str())
        .collect();
    (!others.is_empty()).then(|| {
        Finding::warning(
            volume.full_name(),
            "other_snapshots",
            format!("it has other snapshots: {}", others.join(", ")),
            "remove them if nobody needs them: each makes every first write to a block slower",
        )
    })
}

/// A snapshot of ours: of a run that lives, or left behind by one that does not.
fn ours(volume: &LogicalVolume, at_work: &[Seen]) -> Finding {
    let owner = at_work
        .iter()
        .find(|seen| volume.run() == Some(seen.owner.run));
    if let Some(seen) = owner {
        return Finding::refused(
            volume.full_name(),
            "running",
            format!("belongs to {}", seen.owner.at_work()),
            "wait until it has ended",
        );
    }
    let of = volume
        .run()
        .map_or_else(|| "an earlier run".into(), |run| format!("run {run}"));
    Finding::refused(
        volume.full_name(),
        "leftovers",
        format!("left behind by {of}"),
        format!(
            "run `freezeframe recover`; if it stays, no journal here names it: `lvremove {}` once you know that no \
             freezeframe is at work with another state_dir",
            volume.full_name()
        ),
    )
}

pub(super) fn refused(subject: String, check: &'static str, error: &SnapshotError) -> Finding {
    let todo = error.hint().unwrap_or_else(|| "see the message".into());
    Finding::refused(subject, check, error.to_string(), todo)
}

#[cfg(test)]
mod tests;
