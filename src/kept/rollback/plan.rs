//! What putting one back would do, and whether it may be done now.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::condition::look;
use super::super::{Kept, KeptError, UNDER_WAY};
use super::mounts::{Mounted, mounts};
use crate::backup::journal::survey::survey;
use crate::backup::plan::PlannedPicture;
use crate::backup::resource::Resource;
use crate::exec::SharedExec;
use crate::manifest::{FORMAT_FIRST, seal};
use crate::mongo::open_files::user_of;
use crate::mongo::process::is_open;
use crate::snapshot::btrfs::SubvolumeSnapshot;
use crate::snapshot::lvm::Lvm;
use crate::snapshot::{LvmSnapshot, Origin};
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
    /// Whether everything is where it is to be, and only the kernel merges yet.
    #[serde(skip)]
    pub(super) settled: bool,
}

#[derive(Serialize, Deserialize)]
struct UnderWay {
    format: u32,
    mounts: Vec<Mounted>,
    #[serde(default)]
    asked: Vec<LvmSnapshot>,
    #[serde(default)]
    settled: bool,
}

/// The plan of putting `kept` back.
///
/// # Errors
/// [`KeptError::NotNow`] with what stands in the way, [`KeptError::Lost`] where it is good no more.
pub fn plan(kept: Kept, state_dir: &Path, exec: &SharedExec) -> Result<Plan, KeptError> {
    let (volumes, subvolumes) = parts(&kept)?;
    let under_way = under_way(&kept, state_dir)?;
    if under_way.is_none() {
        look(exec, &kept).usable(&kept)?;
    }
    // Where it is put back mongod runs on it again, and rightly.
    if !under_way.as_ref().is_some_and(|found| found.settled) {
        is_stopped(&kept)?;
    }
    if let Some(found) = under_way {
        return Ok(Plan {
            kept,
            under_way: true,
            volumes,
            subvolumes,
            mounts: found.mounts,
            asked: found.asked,
            settled: found.settled,
        });
    }
    nothing_is_outstanding(&kept, state_dir)?;
    is_unused(&kept, &subvolumes)?;
    is_alone(&kept, &volumes, state_dir, exec)?;
    let mounts = mounts(&kept, &volumes, &subvolumes, exec)?;
    Ok(Plan {
        kept,
        under_way: false,
        volumes,
        subvolumes,
        mounts,
        asked: Vec::new(),
        settled: false,
    })
}

/// The volumes and subvolumes that are put back.
fn parts(kept: &Kept) -> Result<(Vec<LvmSnapshot>, Vec<SubvolumeSnapshot>), KeptError> {
    let mut volumes = Vec::new();
    let mut subvolumes = Vec::new();
    for picture in &kept.pictures {
        match picture {
            PlannedPicture::Lvm(planned) => volumes.push(planned.snapshot.clone()),
            PlannedPicture::Subvolume(planned) => subvolumes.push(planned.snapshot.clone()),
            // Refused before one is kept.
            PlannedPicture::Array(planned) => {
                return Err(not_now(
                    kept,
                    format!("it is of md array {}", planned.assembly.array),
                    "`freezeframe restore` a backup",
                ));
            }
            PlannedPicture::Clones(planned) => {
                return Err(not_now(
                    kept,
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
    Ok((volumes, subvolumes))
}

/// What keeps `kept`, which was just taken, from being put back later, as far as that is a matter of how the host is made, and of what else is kept on it.
///
/// # Errors
/// [`KeptError::NotNow`].
pub fn can_be(kept: &Kept, state_dir: &Path, exec: &SharedExec) -> Result<(), KeptError> {
    let (volumes, subvolumes) = parts(kept)?;
    is_alone(kept, &volumes, state_dir, exec)?;
    mounts(kept, &volumes, &subvolumes, exec).map(drop)
}

/// Whether there is no other snapshot, ours or another's, of what is put back.
fn is_alone(
    kept: &Kept,
    volumes: &[LvmSnapshot],
    state_dir: &Path,
    exec: &SharedExec,
) -> Result<(), KeptError> {
    if let Some((other, origin)) = another_snapshot(volumes, exec)? {
        return Err(not_now(
            kept,
            format!(
                "{other} is another snapshot of {origin}: what merging writes there would fill it"
            ),
            &format!(
                "remove it (lvremove {other}) where nobody needs it; or `freezeframe backup --from` and `restore`"
            ),
        ));
    }
    if let Some(other) = beside(kept, state_dir)? {
        return Err(not_now(
            kept,
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
    Ok(())
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

/// Whether nothing that is to change places is in use, by whomever: who has files open there would go on in what is carried aside, and find others by their
/// names.
pub(super) fn is_unused(kept: &Kept, subvolumes: &[SubvolumeSnapshot]) -> Result<(), KeptError> {
    for snapshot in subvolumes {
        let path = &snapshot.subvolume;
        let user = user_of(path).map_err(|source| KeptError::Io {
            action: "see who uses",
            path: path.clone(),
            source,
        })?;
        if let Some((pid, file)) = user {
            return Err(not_now(
                kept,
                format!("process {pid} has {} open", file.display()),
                "end it first; another mongod that has its data there, too",
            ));
        }
    }
    Ok(())
}

/// What dead runs hold is found by where it is, and would be elsewhere afterwards.
fn nothing_is_outstanding(kept: &Kept, state_dir: &Path) -> Result<(), KeptError> {
    let seen = survey(state_dir).map_err(|error| {
        not_now(
            kept,
            format!("what other runs hold cannot be told: {error}"),
            "run `freezeframe recover`",
        )
    })?;
    let of_volumes = |resource: &Resource| matches!(resource, Resource::Snapshot(_));
    let holding = seen
        .into_iter()
        .flatten()
        .find(|seen| !seen.alive && seen.outstanding.iter().any(of_volumes));
    match holding {
        None => Ok(()),
        Some(seen) => Err(not_now(
            kept,
            format!(
                "run {} ({}) died and left snapshots",
                seen.owner.run, seen.owner.verb
            ),
            "run `freezeframe recover`",
        )),
    }
}

/// A classic snapshot of one of the origins that is none of ours, and that origin. Of ours [`beside`] knows.
fn another_snapshot(
    volumes: &[LvmSnapshot],
    exec: &SharedExec,
) -> Result<Option<(String, Origin)>, KeptError> {
    if volumes.is_empty() {
        return Ok(None);
    }
    let facts = Lvm::new(exec.clone()).survey()?;
    let another = volumes.iter().find_map(|volume| {
        let origin = &volume.origin;
        let mut of_it = facts.snapshots_of(&origin.vg, &origin.lv);
        let other = of_it.find(|one| one.pool.is_none() && !one.has_tag(LvmSnapshot::TAG))?;
        Some((other.full_name(), origin.clone()))
    });
    Ok(another)
}

/// The node of a volume.
pub(super) fn device(origin: &Origin) -> PathBuf {
    PathBuf::from(format!("/dev/{origin}"))
}

pub(super) fn not_now(kept: &Kept, reason: String, todo: &str) -> KeptError {
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
            settled: self.settled,
        };
        let write = || whole::replace(&path, &seal::seal(&document)?, 0o600);
        write().map_err(|source| KeptError::Io {
            action: "write",
            path: path.clone(),
            source,
        })
    }

    /// Writes down, durably, that everything is where it is to be.
    pub(super) fn settle(&mut self, state_dir: &Path) -> Result<(), KeptError> {
        self.settled = true;
        self.write(state_dir)
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
