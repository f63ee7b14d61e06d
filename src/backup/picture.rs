//! The pictures of a backup: taken in the window, mounted one member at a time, watched while they are read, removed as
//! soon as nobody needs them.

mod take;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::backup::Environment;
use crate::backup::contents::View;
use crate::backup::journal::{Entry, JournalError};
use crate::backup::plan::PlannedPicture;
use crate::backup::release::Tools;
use crate::backup::resource::Resource;
use crate::backup::run::Run;
use crate::backup::timeline::Timeline;
use crate::backup::window::WorkError;
use crate::blocking::off_thread;
use crate::error::{Exit, Explain};
use crate::snapshot::btrfs::{self, Btrfs};
use crate::snapshot::lvm::prepared::{Layered, is_prepared};
use crate::snapshot::lvm::watch::{INTERVAL, Watch};
use crate::snapshot::lvm::{Lvm, Purpose};
use crate::snapshot::reflink::Reflink;
use crate::snapshot::{LvmSnapshot, SnapshotError, mount};
use crate::volume::DevNumber;

/// Why a picture is of no use, or would not go.
#[derive(Debug, Error)]
pub enum PictureError {
    /// A snapshot failed, overflowed or could not be mounted.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The run journal could not be kept.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The watch could not be started.
    #[error("cannot watch the snapshots: {0}")]
    Watch(std::io::Error),
    /// We were asked to end, or the window broke, before every snapshot was taken.
    #[error("interrupted before every snapshot was taken")]
    Interrupted,
}

impl Explain for PictureError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Snapshot(error) => error.hint(),
            Self::Journal(error) => error.hint(),
            Self::Watch(_) | Self::Interrupted => None,
        }
    }

    fn exit(&self) -> Exit {
        Exit::BackupFailed
    }
}

/// All the pictures of one backup.
pub struct Pictures {
    lvm: Lvm,
    btrfs: Btrfs,
    reflink: Reflink,
    pictures: BTreeMap<DevNumber, Picture>,
    purpose: Purpose,
    /// Those that device-mapper alone makes, once they are prepared.
    layered: Option<Layered>,
    watch: Option<Arc<Watch>>,
    /// Cancelled by the watch when a snapshot has overflowed, and with the backup.
    overflowed: CancellationToken,
}

struct Picture {
    planned: PlannedPicture,
    /// Its places in the journal; none where it is kept, and so not ours to give back.
    snapshots: Vec<Entry>,
    mounted: Option<Mounted>,
}

struct Mounted {
    point: PathBuf,
    entries: Vec<Entry>,
}

impl Pictures {
    /// Writes down the snapshots that are going to be taken.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn plan(
        run: &mut Run,
        planned: &[PlannedPicture],
        purpose: Purpose,
        env: &Environment,
    ) -> Result<Self, JournalError> {
        // The mount points lie in it; it goes when the run ends.
        let folder = mount::run_dir(&env.config.host.runtime_dir, run.id());
        run.plan(vec![Resource::Directory { path: folder }])?;
        let resources: Vec<_> = planned.iter().map(PlannedPicture::resources).collect();
        let mut entries = run.plan(resources.concat())?.into_iter();
        let of_each = resources
            .iter()
            .map(|some| entries.by_ref().take(some.len()).collect());
        Ok(Self::of(planned.iter().zip(of_each), purpose, env))
    }

    /// Those that were taken and kept by an earlier run.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn kept(
        run: &mut Run,
        planned: &[PlannedPicture],
        env: &Environment,
    ) -> Result<Self, JournalError> {
        let folder = mount::run_dir(&env.config.host.runtime_dir, run.id());
        run.plan_one(Resource::Directory { path: folder })?;
        Ok(Self::of(
            planned.iter().map(|planned| (planned, Vec::new())),
            Purpose::ToKeep,
            env,
        ))
    }

    fn of<'a>(
        pictures: impl Iterator<Item = (&'a PlannedPicture, Vec<Entry>)>,
        purpose: Purpose,
        env: &Environment,
    ) -> Self {
        let picture = |(planned, snapshots): (&PlannedPicture, _)| {
            let picture = Picture {
                planned: planned.clone(),
                snapshots,
                mounted: None,
            };
            (planned.device(), picture)
        };
        Self {
            lvm: Lvm::new(env.tools.exec.clone()),
            btrfs: Btrfs::new(env.tools.exec.clone()),
            reflink: Reflink::new(env.tools.exec.clone()),
            pictures: pictures.map(picture).collect(),
            purpose,
            layered: None,
            watch: None,
            overflowed: env.cancel.child_token(),
        }
    }

    fn providers(&self) -> (Lvm, Btrfs, Reflink) {
        (self.lvm.clone(), self.btrfs.clone(), self.reflink.clone())
    }

    /// Looks whether every picture is good, and gives their places in the journal: who settles these keeps the pictures.
    ///
    /// # Errors
    /// The first that is not good.
    pub async fn stay(self) -> Result<Vec<Entry>, PictureError> {
        let (lvm, btrfs, reflink) = self.providers();
        let planned: Vec<_> = self
            .pictures
            .values()
            .map(|picture| picture.planned.clone())
            .collect();
        let looking = move || {
            for one in &planned {
                for volume in one.volumes() {
                    // Thin ones that are kept are not active.
                    if one.thin().next().is_none() {
                        lvm.await_node(&volume.snapshot)?;
                    }
                    lvm.fill(&volume.snapshot)?;
                }
                match one {
                    PlannedPicture::Lvm(_) | PlannedPicture::Array(_) => {}
                    PlannedPicture::Subvolume(planned) => btrfs.look(&planned.snapshot)?,
                    PlannedPicture::Clones(planned) => reflink.look(&planned.clones)?,
                }
            }
            Ok(())
        };
        off_thread(looking)
            .await
            .map_err(|error: SnapshotError| PictureError::from(error))?;
        Ok(self
            .pictures
            .into_values()
            .flat_map(|picture| picture.snapshots)
            .collect())
    }

    /// Does what can be done before the lock.
    ///
    /// # Errors
    /// The first snapshot's error; [`PictureError::Interrupted`] when `cancel` is cancelled.
    pub async fn prepare(&mut self, cancel: &CancellationToken) -> Result<(), PictureError> {
        let planned = self.pictures.values();
        let planned: Vec<_> = planned.map(|picture| picture.planned.clone()).collect();
        let (lvm, btrfs, reflink) = self.providers();
        let cancel = cancel.clone();
        let preparing = move || {
            for one in &planned {
                if cancel.is_cancelled() {
                    return Err(PictureError::Interrupted);
                }
                for volume in one.volumes() {
                    lvm.prepare(&volume.snapshot)?;
                }
                match one {
                    PlannedPicture::Lvm(_) | PlannedPicture::Array(_) => {}
                    PlannedPicture::Subvolume(planned) => btrfs.prepare(&planned.snapshot)?,
                    PlannedPicture::Clones(planned) => reflink.prepare(planned)?,
                }
            }
            // Last: what an LVM command changes of their origins from here on ends the backup.
            match prepared(&planned) {
                none if none.is_empty() => Ok(None),
                some => Ok(Some(lvm.layer(some)?)),
            }
        };
        self.layered = off_thread(preparing).await?;
        Ok(())
    }

    /// Takes every snapshot, in the window. Stops early when `broken` is cancelled.
    ///
    /// # Errors
    /// The first snapshot's error; [`PictureError::Interrupted`].
    pub async fn take(
        &self,
        timeline: Timeline,
        broken: CancellationToken,
    ) -> Result<(), WorkError> {
        let planned: Vec<_> = self
            .pictures
            .values()
            .map(|picture| picture.planned.clone())
            .collect();
        let providers = self.providers();
        let (layered, purpose) = (self.layered.clone(), self.purpose);
        let taking = move || {
            take::by_command(&providers, (&planned, purpose), &timeline, &broken)?;
            match layered {
                Some(layered) => take::prepared(layered, &planned, &timeline, &broken),
                None => Ok(()),
            }
        };
        Ok(off_thread(taking).await?)
    }

    /// Begins to watch how full the snapshots, and what they lie in, get.
    ///
    /// # Errors
    /// [`PictureError::Watch`].
    pub fn watch(&mut self) -> Result<(), PictureError> {
        let planned: Vec<_> = self
            .pictures
            .values()
            .flat_map(|picture| picture.planned.volumes())
            .cloned()
            .collect();
        let subvolumes = self
            .pictures
            .values()
            .filter_map(|picture| Some(picture.planned.lives_in()?.to_owned()))
            .collect();
        let watch = Watch::start(
            self.lvm.clone(),
            &planned,
            subvolumes,
            INTERVAL,
            self.overflowed.clone(),
        );
        self.watch = Some(Arc::new(watch.map_err(PictureError::Watch)?));
        Ok(())
    }

    /// Cancelled when reading the pictures makes no sense any more.
    pub fn overflowed(&self) -> CancellationToken {
        self.overflowed.clone()
    }

    /// The snapshot failure behind an error in reading the pictures, if there is one: what the watch has seen, or,
    /// since it looks only now and then, what can be seen now.
    pub async fn failure(&self) -> Option<PictureError> {
        if let Some(seen) = self.watch.as_ref().and_then(|watch| watch.failure()) {
            return Some(seen.into());
        }
        let lvm = self.lvm.clone();
        let snapshots: Vec<_> = self
            .pictures
            .values()
            .flat_map(|picture| picture.planned.volumes())
            .map(|volume| volume.snapshot.clone())
            .collect();
        let looking = move || {
            let mut failures = snapshots
                .iter()
                .filter_map(|snapshot| lvm.fill(snapshot).err());
            failures.find(|error| {
                matches!(
                    error,
                    SnapshotError::Overflowed { .. }
                        | SnapshotError::PoolFull { .. }
                        | SnapshotError::Reloaded { .. }
                )
            })
        };
        off_thread(looking).await.map(PictureError::from)
    }

    /// Mounts what lies on `devices`, as far as it has to be mounted and is not yet.
    ///
    /// # Errors
    /// [`PictureError`].
    pub async fn view(
        &mut self,
        run: &mut Run,
        devices: impl Iterator<Item = DevNumber>,
        env: &Environment,
    ) -> Result<View, PictureError> {
        let folder = mount::run_dir(&env.config.host.runtime_dir, run.id());
        let mut mounts = BTreeMap::new();
        for device in devices {
            let Some(picture) = self.pictures.get_mut(&device) else {
                continue;
            };
            let point = match (&picture.planned, &picture.mounted) {
                (PlannedPicture::Subvolume(planned), _) => planned.snapshot.path(),
                (PlannedPicture::Clones(planned), _) => planned.clones.path(),
                (_, Some(mounted)) => mounted.point.clone(),
                (planned @ (PlannedPicture::Lvm(_) | PlannedPicture::Array(_)), None) => {
                    let point = folder.join(format!("{}-{}", device.major, device.minor));
                    let lvm = self.lvm.clone();
                    let idle = match self.purpose {
                        Purpose::ToKeep => planned.thin().cloned().collect(),
                        Purpose::ToRead => Vec::new(),
                    };
                    let mounted = mount_at(lvm, run, planned, idle, point.clone()).await?;
                    picture.mounted = Some(mounted);
                    point
                }
            };
            mounts.insert(device, point);
        }
        Ok(View::Mounted(mounts))
    }

    /// Takes one last look at every picture that is not `needed` any more, and removes it. One that will not go spoils
    /// no archive: it stays in the journal, and is tried again when the run ends.
    ///
    /// # Errors
    /// [`PictureError::Snapshot`] where one had overflowed: what was read from it is worthless.
    pub async fn keep_only(
        &mut self,
        needed: &BTreeSet<DevNumber>,
        run: &mut Run,
        tools: &Tools,
    ) -> Result<(), PictureError> {
        let done: Vec<_> = self
            .pictures
            .keys()
            .filter(|device| !needed.contains(device))
            .copied()
            .collect();
        for device in done {
            let Some(picture) = self.pictures.remove(&device) else {
                continue;
            };
            self.last_look(&picture.planned).await?;
            let mut entries = picture
                .mounted
                .map_or_else(Vec::new, |mounted| mounted.entries);
            entries.extend(picture.snapshots);
            for left in run.release(&entries, tools).await? {
                tracing::warn!(resource = %left.resource, error = %left.error, "not given back yet");
            }
        }
        Ok(())
    }

    /// Whether what was read from a picture was good to the end.
    async fn last_look(&self, planned: &PlannedPicture) -> Result<(), PictureError> {
        match planned {
            PlannedPicture::Lvm(_) | PlannedPicture::Array(_) => {
                for volume in planned.volumes() {
                    let Some(watch) = self.watch.clone() else {
                        return Ok(());
                    };
                    let snapshot = volume.snapshot.clone();
                    let fill = off_thread(move || watch.finish(&snapshot)).await?;
                    tracing::debug!(?fill, "a snapshot is no longer needed");
                }
            }
            PlannedPicture::Subvolume(btrfs::Planned { snapshot, .. }) => {
                let (btrfs, snapshot) = (self.btrfs.clone(), snapshot.clone());
                off_thread(move || btrfs.look(&snapshot)).await?;
            }
            PlannedPicture::Clones(planned) => {
                let (reflink, clones) = (self.reflink.clone(), planned.clones.clone());
                off_thread(move || reflink.look(&clones)).await?;
            }
        }
        Ok(())
    }
}

/// Those of `planned` that device-mapper makes alone.
fn prepared(planned: &[PlannedPicture]) -> Vec<LvmSnapshot> {
    let snapshots = planned
        .iter()
        .flat_map(PlannedPicture::volumes)
        .map(|volume| &volume.snapshot);
    snapshots
        .filter(|snapshot| is_prepared(snapshot))
        .cloned()
        .collect()
}

/// Mounts one picture, of which `idle` snapshots are not active yet.
async fn mount_at(
    lvm: Lvm,
    run: &mut Run,
    planned: &PlannedPicture,
    idle: Vec<LvmSnapshot>,
    point: PathBuf,
) -> Result<Mounted, PictureError> {
    let activations = idle.iter().cloned();
    let activations = activations.map(|snapshot| Resource::Activation { snapshot });
    let mount = [
        Resource::Directory {
            path: point.clone(),
        },
        Resource::Mount {
            point: point.clone(),
        },
    ];
    let entries = run.plan(activations.chain(mount).collect())?;
    let (planned, at) = (planned.clone(), point.clone());
    let mounting = move || {
        mount::make_dir(&at)?;
        for snapshot in &idle {
            lvm.activate(snapshot)?;
        }
        match &planned {
            PlannedPicture::Lvm(planned) => {
                mount::mount(&lvm.await_node(&planned.snapshot)?, &planned.kind, &at)
            }
            PlannedPicture::Array(planned) => {
                mount::mount(&lvm.show_array(planned)?, &planned.kind, &at)
            }
            // Seen where they are.
            PlannedPicture::Subvolume(_) | PlannedPicture::Clones(_) => Ok(()),
        }
    };
    off_thread(mounting).await?;
    Ok(Mounted { point, entries })
}
