//! The pictures of a backup: taken in the window, mounted one member at a time, watched while they are read, removed as
//! soon as nobody needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::backup::Environment;
use crate::backup::boundary::Step;
use crate::backup::journal::{Entry, JournalError};
use crate::backup::plan::View;
use crate::backup::release::Tools;
use crate::backup::resource::Resource;
use crate::backup::run::Run;
use crate::backup::timeline::Timeline;
use crate::backup::window::WorkError;
use crate::blocking::off_thread;
use crate::error::{Exit, Explain};
use crate::snapshot::lvm::Lvm;
use crate::snapshot::lvm::plan::Planned;
use crate::snapshot::lvm::watch::{INTERVAL, Watch};
use crate::snapshot::{Fill, SnapshotError, mount};
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
    /// The window broke before every snapshot was taken.
    #[error("the window ended before every snapshot was taken")]
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
    pictures: BTreeMap<DevNumber, Picture>,
    watch: Option<Arc<Watch>>,
    /// Cancelled by the watch when a snapshot has overflowed, and with the backup.
    overflowed: CancellationToken,
}

struct Picture {
    planned: Planned,
    snapshot: Entry,
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
        planned: &[Planned],
        env: &Environment,
    ) -> Result<Self, JournalError> {
        // The mount points lie in it; it goes when the run ends.
        let folder = mount::run_dir(&env.config.host.runtime_dir, run.id());
        run.plan(vec![Resource::Directory { path: folder }])?;
        let entries = run.plan(
            planned
                .iter()
                .map(|one| Resource::Snapshot(one.snapshot.clone()))
                .collect(),
        )?;
        let pictures = planned
            .iter()
            .zip(entries)
            .map(|(planned, snapshot)| {
                (
                    planned.device,
                    Picture {
                        planned: planned.clone(),
                        snapshot,
                        mounted: None,
                    },
                )
            })
            .collect();
        Ok(Self {
            lvm: Lvm::new(env.tools.exec.clone()),
            pictures,
            watch: None,
            overflowed: env.cancel.child_token(),
        })
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
        let lvm = self.lvm.clone();
        let taking = move || {
            for one in &planned {
                if broken.is_cancelled() {
                    return Err(PictureError::Interrupted);
                }
                let running = timeline.begin(Step::Snapshot, one.snapshot.origin.to_string());
                let taken = lvm.take(&one.snapshot);
                running.end();
                if let Err(error) = taken {
                    // A member cannot unlock while its volume stands still, as an `lvcreate` that died may leave it.
                    if let Err(error) = lvm.resume(&one.snapshot) {
                        tracing::warn!(origin = %one.snapshot.origin, %error, "cannot see to it that the origin goes on");
                    }
                    return Err(error.into());
                }
            }
            Ok(())
        };
        Ok(off_thread(taking).await?)
    }

    /// Begins to watch how full the snapshots get.
    ///
    /// # Errors
    /// [`PictureError::Watch`].
    pub fn watch(&mut self) -> Result<(), PictureError> {
        let planned: Vec<_> = self
            .pictures
            .values()
            .map(|picture| picture.planned.clone())
            .collect();
        let watch = Watch::start(
            self.lvm.clone(),
            &planned,
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
        let mut snapshots: Vec<_> = self
            .pictures
            .values()
            .map(|picture| picture.planned.snapshot.clone())
            .collect();
        let looking = move || {
            snapshots.retain(|snapshot| matches!(lvm.fill(snapshot), Ok(Fill::Overflowed)));
            snapshots.into_iter().next()
        };
        let full = off_thread(looking).await?;
        let name = full.full_name();
        Some(SnapshotError::Overflowed { name }.into())
    }

    /// Mounts what lies on `devices`, as far as it is not mounted yet.
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
            let point = match &picture.mounted {
                Some(mounted) => mounted.point.clone(),
                None => {
                    let point = folder.join(format!("{}-{}", device.major, device.minor));
                    picture.mounted = Some(mount_at(run, &picture.planned, point.clone()).await?);
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
            if let Some(watch) = self.watch.clone() {
                let snapshot = picture.planned.snapshot.clone();
                let fill = off_thread(move || watch.finish(&snapshot)).await?;
                tracing::debug!(?fill, "a snapshot is no longer needed");
            }
            let mut entries = picture
                .mounted
                .map_or_else(Vec::new, |mounted| mounted.entries);
            entries.push(picture.snapshot);
            for left in run.release(&entries, tools).await? {
                tracing::warn!(resource = %left.resource, error = %left.error, "not given back yet");
            }
        }
        Ok(())
    }
}

async fn mount_at(
    run: &mut Run,
    planned: &Planned,
    point: PathBuf,
) -> Result<Mounted, PictureError> {
    let entries = run.plan(vec![
        Resource::Directory {
            path: point.clone(),
        },
        Resource::Mount {
            point: point.clone(),
        },
    ])?;
    let (device, kind, at) = (
        planned.snapshot.device(),
        planned.kind.clone(),
        point.clone(),
    );
    let mounting = move || {
        mount::make_dir(&at)?;
        mount::mount(&device, &kind, &at)
    };
    off_thread(mounting).await?;
    Ok(Mounted { point, entries })
}
