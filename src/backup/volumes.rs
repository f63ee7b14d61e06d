//! A backup that is snapshots of volumes: one call under the lock, completion after it, and a manifest that names them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::backup::boundary::{self, Step};
use crate::backup::contents::Contents;
use crate::backup::journal::Entry;
use crate::backup::plan::Plan;
use crate::backup::resource::Resource;
use crate::backup::run::Run;
use crate::backup::safekeeping::{amiss, copy_away, lock, share, with_store};
use crate::backup::set::take_leases;
use crate::backup::upload::{UploadError, free_name};
use crate::backup::window::Closed;
use crate::backup::{BackupError, Environment, Made, hold_still, lease};
use crate::catalog::{self, CatalogError, Recorded};
use crate::ebs::ids::VolumeId;
use crate::ebs::order::{self, Awaited, Order};
use crate::ebs::patience::Patience;
use crate::ebs::set::{self, MadeSet};
use crate::ebs::{EbsError, Instance, Rehearsal, SharedEc2, Snapshot, Volume};
use crate::manifest::Intent;
use crate::manifest::snapshots::{
    FilesystemRecord, PlaceRecord, SnapshotManifest, SnapshotMember, SnapshotSet, VolumeRecord,
};
use crate::progress::Meter;
use crate::store::StoreError;
use crate::volume::DevNumber;

/// Tag with the place of a snapshot's volume, for people.
const PLACE_TAG: &str = "freezeframe-place";

/// Snapshots to be taken of an instance's volumes.
#[derive(Debug)]
pub struct PlannedSet {
    /// EC2, connected.
    pub ec2: SharedEc2,
    /// This host.
    pub instance: Instance,
    /// Everything attached to it.
    pub attached: Vec<Volume>,
    /// The file systems that the members lie on, each once.
    pub filesystems: Vec<PlannedFilesystem>,
}

/// A file system, and the volumes it lies on.
#[derive(Debug, Clone)]
pub struct PlannedFilesystem {
    /// [`crate::volume::Filesystem::device`].
    pub device: DevNumber,
    /// What of it is recorded.
    pub record: FilesystemRecord,
}

impl PlannedSet {
    /// The volumes that are needed.
    pub fn wanted(&self) -> BTreeSet<VolumeId> {
        let all = self.filesystems.iter();
        all.flat_map(|one| one.record.volumes.clone()).collect()
    }

    /// Where `volume` lies, in words: the drawings of the file systems on it, cut to a tag's length.
    fn place_of(&self, volume: &VolumeId) -> String {
        let on = self
            .filesystems
            .iter()
            .filter(|one| one.record.volumes.contains(volume));
        let words: Vec<_> = on
            .map(|one| {
                let stack = one.record.stack.lines();
                let stack: Vec<_> = stack
                    .map(|line| line.trim_start_matches(['│', '├', '└', '─', ' ']))
                    .collect();
                stack.join(" / ")
            })
            .collect();
        order::tag_value(&words.join("; "))
    }

    /// The tags of the copy of `volume`'s snapshot: its set's, and its place, which the snapshot itself was given later.
    pub(super) fn tags_of_copy(
        &self,
        volume: &VolumeId,
        set: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut tags = set.clone();
        tags.insert(PLACE_TAG.into(), self.place_of(volume));
        tags
    }
}

/// Makes the snapshots and the manifest that makes a backup of them.
///
/// # Errors
/// [`BackupError`]; what was made is in the journal of `run`, and given back when it ends.
pub async fn backup(
    run: &mut Run,
    plan: &Plan,
    planned: &PlannedSet,
    env: &Environment,
) -> Result<Made, BackupError> {
    let contents = plan.contents();
    let expected = expected(plan, env);
    take_leases(run, &contents, expected, env.store.as_ref(), &env.cancel).await?;
    let (uploading, intent) = begin_set(run, &contents, env).await?;
    let order = ordered(planned, &contents, &intent);
    let patience = Patience::new(env.config.ebs.retry_for.0, env.cancel.clone());
    // Once more, so that the connection is open and the credentials are fresh when the lock is taken.
    let rehearsal = Rehearsal::Create(&order);
    let rehearsed = patience.call(|| planned.ec2.may(&rehearsal)).await;
    rehearsed.map_err(EbsError::from)?;
    let mut made = MadeSet {
        place: planned.ec2.place(),
        instance: planned.instance.id.clone(),
        run: run.id(),
        set: intent.id,
        store: env.store.url(),
        server: env.store.server(),
        planned: Timestamp::now(),
        pruned: false,
        snapshots: Vec::new(),
    };
    let mut entries = run.plan_one(Resource::EbsSnapshots(made.clone()))?;
    let taken = take(run, plan, planned, &order, env).await;
    let (closed, snapshots) = match taken {
        Ok(taken) => taken,
        Err((error, nothing_was_made)) => {
            if nothing_was_made {
                run.settled(&entries)?;
            }
            return Err(error);
        }
    };
    // With the ids in the journal nobody has to look for what else may come.
    made.snapshots = snapshots.iter().map(|one| one.id.clone()).collect();
    let known = run.plan_one(Resource::EbsSnapshots(made.clone()))?;
    run.settled(&entries)?;
    entries = known;

    let answer = order::compare(&order, snapshots)?;
    if !answer.surplus.is_empty() {
        tracing::warn!(
            count = answer.surplus.len(),
            "EC2 made snapshots of volumes that were not asked for, as of one attached meanwhile; they are deleted"
        );
        set::delete_all(planned.ec2.as_ref(), &answer.surplus, &patience).await?;
    }
    complete(planned, &answer.set, &patience, env).await?;
    for (volume, snapshot) in &answer.set {
        let place = planned.place_of(volume);
        let tagging = patience.call(|| planned.ec2.tag(&snapshot.id, PLACE_TAG, &place));
        // For people only; the manifest has it too.
        if let Err(error) = tagging.await {
            tracing::warn!(%error, snapshot = %snapshot.id, "its place is not among its tags");
        }
    }
    let away = copy_away(run, planned, &made, &answer.set, &order.tags, env).await?;
    let shared = share(planned, &away, &answer.set, env).await;
    for scope in contents.scopes() {
        with_store(env, async |store| {
            lease::still_ours(store, &scope, run.id()).await
        })
        .await?;
    }
    let mut manifest = manifest(&contents, &intent, &closed, planned, &answer.set);
    manifest.snapshots.copies = away.record.clone();
    manifest.snapshots.shared = shared;
    manifest.snapshots.lock = env.config.ebs.lock.map(Into::into);
    let writing = with_store(env, async |store| {
        catalog::write_snapshots(store, &manifest).await
    });
    boundary::within(Step::Manifest, writing)
        .await
        .map_err(UploadError::from)?;
    // What is locked cannot be given back any more, so it has to be a backup before.
    let unlocked = lock(&manifest, planned, &away, env).await;
    entries.extend(uploading);
    entries.extend(away.entries);
    // The backup is made. A journal that cannot say so is told of when the run ends.
    if let Err(error) = run.settled(&entries) {
        tracing::warn!(%error, "the journal does not know yet that the backup is complete");
    }
    Ok(Made {
        amiss: amiss(&manifest.snapshots, unlocked),
        recorded: Recorded::Snapshots(manifest),
    })
}

/// How long it may take, for the lease, which counts for four times as long: the snapshots are waited for under it.
fn expected(plan: &Plan, env: &Environment) -> Duration {
    let ebs = &env.config.ebs;
    // Copies are waited for once more.
    let waits = 1 + u32::from(ebs.copy_to.is_some());
    let completing = ebs.complete_within.0 / 4;
    completing
        .saturating_mul(waits)
        .saturating_add(plan.expected)
}

/// The window: one call. With an error comes whether nothing was made for sure.
async fn take(
    run: &mut Run,
    plan: &Plan,
    planned: &PlannedSet,
    order: &Order,
    env: &Environment,
) -> Result<(Closed<()>, Vec<Snapshot>), (BackupError, bool)> {
    // As long as nobody has sent it nothing was made.
    let refused = std::sync::atomic::AtomicBool::new(true);
    let subject = planned.instance.id.to_string();
    let held = hold_still(run, plan, env, |timeline, broken| {
        let (refused, ec2) = (&refused, planned.ec2.as_ref());
        async move {
            refused.store(false, std::sync::atomic::Ordering::Relaxed);
            let made = timeline
                .time(Step::Snapshot, subject, set::take(ec2, order, &broken))
                .await;
            let nothing = made.as_ref().is_err_and(set::nothing_was_made);
            refused.store(nothing, std::sync::atomic::Ordering::Relaxed);
            Ok(made?)
        }
    })
    .await;
    match held {
        Ok(closed) => Ok(closed.split()),
        Err(error) => Err((error, refused.into_inner())),
    }
}

/// Begins the set of the first second that no other host begins one in, by its intent alone.
async fn begin_set(
    run: &mut Run,
    contents: &Contents,
    env: &Environment,
) -> Result<(Vec<Entry>, Intent), BackupError> {
    let store = env.store.as_ref();
    loop {
        let intent = contents.intent(run.id(), free_name(store, None).await?);
        let uploading = run.plan_one(Resource::Upload {
            store: store.url(),
            server: store.server(),
            set: intent.id,
            run: run.id(),
        })?;
        match catalog::write_intent(store, &intent).await {
            Err(CatalogError::Store(StoreError::Exists { .. })) => {
                tracing::debug!(id = %intent.id, "another host has begun it");
                run.settled(&uploading)?;
            }
            written => {
                written.map_err(UploadError::from)?;
                return Ok((uploading, intent));
            }
        }
    }
}

fn ordered(planned: &PlannedSet, contents: &Contents, intent: &Intent) -> Order {
    let tags = order::tags(
        intent.id,
        intent.run,
        &contents.deployment.id,
        contents.members.iter().map(|member| &member.shard),
    );
    order::order(&planned.instance, &planned.attached, planned.wanted(), tags)
}

async fn complete(
    planned: &PlannedSet,
    set: &BTreeMap<VolumeId, Snapshot>,
    patience: &Patience,
    env: &Environment,
) -> Result<(), EbsError> {
    let meter = Meter::expecting(set.values().map(|one| one.bytes).sum());
    let phase = "complete snapshots";
    env.progress.begin(phase, &meter);
    let within = env.config.ebs.complete_within.0;
    let completed = set::complete(
        planned.ec2.as_ref(),
        &Awaited::all(set),
        within,
        patience,
        &meter,
        &env.cancel,
    )
    .await;
    env.progress.end(phase);
    completed
}

/// The manifest of what was done. Members without an optime or a place are left out, and so fail the check that comes before the manifest is written.
fn manifest(
    contents: &Contents,
    intent: &Intent,
    window: &Closed<()>,
    planned: &PlannedSet,
    set: &BTreeMap<VolumeId, Snapshot>,
) -> SnapshotManifest {
    let member = |member: &crate::backup::contents::Subject| {
        let address = &member.address;
        let layout = &member.layout;
        let place = |at: &Path, path: &Path, filesystem: usize| {
            let on = layout.filesystems.get(filesystem)?;
            let index = planned
                .filesystems
                .iter()
                .position(|one| one.device == on.device.number)?;
            Some(PlaceRecord {
                at: at.to_string_lossy().into_owned(),
                filesystem: index,
                inside: on.inside(path)?,
            })
        };
        let home = place(Path::new("."), &layout.db_path, layout.filesystem);
        let grafts = layout
            .grafts
            .iter()
            .map(|graft| place(&graft.at, &graft.path, graft.filesystem));
        Some(SnapshotMember {
            shard: member.shard.clone(),
            address: address.clone(),
            role: member.role,
            server_version: member.server_version.clone(),
            feature_compatibility: member.feature_compatibility.clone(),
            optime: *window.optimes.get(address)?,
            locked: window.locked_us.contains_key(address),
            locked_us: window.locked_us.get(address).copied().unwrap_or(0),
            replica_set_config: member.replica_set_config.clone()?,
            layout: member.storage.clone(),
            data_size: member.data_size,
            places: std::iter::once(home).chain(grafts).collect::<Option<_>>()?,
        })
    };
    let record = |volume: &Volume| {
        Some(VolumeRecord {
            snapshot: set.get(&volume.id)?.id.clone(),
            volume: volume.clone(),
        })
    };
    SnapshotManifest {
        format: intent.format,
        id: intent.id,
        run: intent.run,
        tool: intent.tool.clone(),
        host: intent.host.clone(),
        started: intent.started,
        finished: Timestamp::now(),
        deployment: intent.deployment.clone(),
        window: window.record.clone(),
        members: contents.members.iter().filter_map(member).collect(),
        snapshots: SnapshotSet {
            place: planned.ec2.place(),
            instance: planned.instance.id.clone(),
            zone: planned.instance.zone.clone(),
            filesystems: planned
                .filesystems
                .iter()
                .map(|one| one.record.clone())
                .collect(),
            volumes: planned.attached.iter().filter_map(record).collect(),
            copies: None,
            shared: None,
            lock: None,
        },
    }
}
