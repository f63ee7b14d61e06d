//! What a set of EBS snapshots gets so that it outlives its region, its account and somebody who deletes: copies and shares before the manifest,
//! locks after it. And what becomes of a set whose run died: it is deleted where it is no backup, and gets its lock where it is one.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::backup::journal::Entry;
use crate::backup::lease;
use crate::backup::release::{GIVING_BACK, ReleaseError};
use crate::backup::resource::Resource;
use crate::backup::run::Run;
use crate::backup::volumes::PlannedSet;
use crate::backup::{BackupError, Environment};
use crate::catalog::hold::is_taken;
use crate::catalog::{self, CatalogError, Recorded};
use crate::ebs::connect::Access;
use crate::ebs::copied::{CopyOrder, Limits, copy_all};
use crate::ebs::ids::{SnapshotId, VolumeId};
use crate::ebs::patience::Patience;
use crate::ebs::protect::{lock_all, share_all};
use crate::ebs::set::{self, MadeSet};
use crate::ebs::{EbsError, Place, SharedEc2, Snapshot};
use crate::error::{Exit, Explain};
use crate::ids::RunId;
use crate::manifest::snapshots::{
    Copies, CopyOutcome, Located, Shared, SnapshotManifest, SnapshotSet,
};
use crate::progress::Meter;
use crate::retention_lock::RetentionLock;
use crate::store::releasing::Stores;
use crate::store::{Store, StoreError};

/// How long copies that others make are waited for: a copy of few changed blocks takes minutes.
const OTHERS_COPY_FOR: Duration = Duration::from_secs(30 * 60);

/// Copies that were made, or not.
pub(super) struct Away {
    /// What the manifest says of them; none where none are wanted.
    pub(super) record: Option<Copies>,
    /// What the journal says of them.
    pub(super) entries: Vec<Entry>,
    /// EC2 where they are.
    ec2: Option<SharedEc2>,
}

/// Copies the completed snapshots of `set` to `[ebs] copy_to`, all of them or none. That it fails, or we are asked to end, fails no backup, which is good
/// without: it is warned of, recorded, and what was copied goes.
///
/// # Errors
/// [`BackupError`] where the journal cannot be written.
pub(super) async fn copy_away(
    run: &mut Run,
    planned: &PlannedSet,
    made: &MadeSet,
    set: &BTreeMap<VolumeId, Snapshot>,
    tags: &BTreeMap<String, String>,
    env: &Environment,
) -> Result<Away, BackupError> {
    let Some(region) = &env.config.ebs.copy_to else {
        return Ok(Away {
            record: None,
            entries: Vec::new(),
            ec2: None,
        });
    };
    let place = planned.ec2.place();
    let access = env.tools.ebs.for_copies();
    let missing = |place: Place, error: &EbsError| {
        tracing::warn!(
            "THE BACKUP WILL HAVE NO COPIES in {place}: {}. Once it is complete the snapshots can be copied by hand (`aws ec2 copy-snapshot`)",
            error.with_hint()
        );
        Away {
            record: Some(Copies {
                place,
                outcome: CopyOutcome::Missing(error.to_string()),
            }),
            entries: Vec::new(),
            ec2: None,
        }
    };
    let ec2 = match access.open().await {
        Ok(ec2) => ec2,
        Err(error) => {
            let place = Place {
                region: region.to_string(),
                endpoint: access.endpoint(),
            };
            return Ok(missing(place, &error));
        }
    };
    let entries = run.plan_one(Resource::EbsCopies(MadeSet {
        place: ec2.place(),
        planned: Timestamp::now(),
        // They are found by the run's tag.
        snapshots: Vec::new(),
        ..made.clone()
    }))?;
    let key = env.config.ebs.copy_kms_key.as_deref();
    let orders: Vec<_> = set
        .iter()
        .map(|(volume, one)| {
            let tags = planned.tags_of_copy(volume, tags);
            CopyOrder::new(&one.id, volume, &place.region, key, &tags)
        })
        .collect();
    match copied(&ec2, &orders, set, run.id(), env).await {
        Ok(copies) => Ok(Away {
            record: Some(Copies {
                place: ec2.place(),
                outcome: CopyOutcome::Made(copies),
            }),
            entries,
            ec2: Some(ec2),
        }),
        Err(error) => {
            let away = missing(ec2.place(), &error);
            for left in run.release(&entries, &env.tools).await? {
                tracing::warn!(resource = %left.resource, error = %left.error, "not given back yet");
            }
            Ok(away)
        }
    }
}

async fn copied(
    ec2: &SharedEc2,
    orders: &[CopyOrder],
    set: &BTreeMap<VolumeId, Snapshot>,
    run: RunId,
    env: &Environment,
) -> Result<BTreeMap<SnapshotId, SnapshotId>, EbsError> {
    let settings = &env.config.ebs;
    let meter = Meter::expecting(set.values().map(|one| one.bytes).sum());
    let phase = format!("copy snapshots to {}", ec2.place().region);
    env.progress.begin(&phase, &meter);
    let limits = Limits {
        within: settings.complete_within.0,
        others_copy_for: OTHERS_COPY_FOR.min(settings.complete_within.0),
        quiet: env.tools.ebs.quiet(),
    };
    let patience = Patience::new(settings.retry_for.0, env.cancel.clone());
    let copies = copy_all(
        ec2.as_ref(),
        orders,
        run,
        limits,
        &patience,
        &meter,
        &env.cancel,
    )
    .await;
    env.progress.end(&phase);
    copies
}

/// Lets the accounts of `[ebs] share_with` use the snapshots of `set` and their copies. That it fails fails no backup: it is warned of, and recorded.
pub(super) async fn share(
    planned: &PlannedSet,
    away: &Away,
    set: &BTreeMap<VolumeId, Snapshot>,
    env: &Environment,
) -> Option<Shared> {
    let with = &env.config.ebs.share_with;
    if with.is_empty() {
        return None;
    }
    let patience = to_the_end(env);
    let ids: Vec<_> = set.values().map(|one| one.id.clone()).collect();
    let mut shared = share_all(planned.ec2.as_ref(), &ids, with, &patience).await;
    if let (
        Some(ec2),
        Some(Copies {
            outcome: CopyOutcome::Made(made),
            ..
        }),
    ) = (&away.ec2, &away.record)
    {
        let copies: Vec<_> = made.values().cloned().collect();
        let copies = share_all(ec2.as_ref(), &copies, with, &patience).await;
        shared = shared.and(copies);
    }
    let failed = match shared {
        Ok(()) => None,
        Err(error) => {
            tracing::warn!("NOT ALL SNAPSHOTS ARE SHARED: {}", error.with_hint());
            Some(error.to_string())
        }
    };
    Some(Shared {
        with: with.clone(),
        failed,
    })
}

/// Patience with what takes moments, and is done for a complete set also where we are asked to end.
fn to_the_end(env: &Environment) -> Patience {
    Patience::new(env.config.ebs.retry_for.0, CancellationToken::new())
}

/// Does `work` with the store, and once more with one whose calls go on, where that ends because we are asked to: a complete set is not thrown away for what
/// takes moments.
///
/// # Errors
/// Those of `work`.
pub(super) async fn with_store<T, E>(
    env: &Environment,
    work: impl AsyncFn(&dyn Store) -> Result<T, E>,
) -> Result<T, E>
where
    E: Explain + From<StoreError>,
{
    match work(env.store.as_ref()).await {
        Err(error) if error.exit() == Exit::Interrupted => {
            let stores = &env.tools.stores;
            let store = stores.open(&env.store.url(), env.store.server().as_deref())?;
            work(store.as_ref()).await
        }
        done => done,
    }
}

/// What of the protection of `set` could not be had, in words; what could not be locked is `unlocked`.
pub(super) fn amiss(set: &SnapshotSet, mut unlocked: Vec<String>) -> Vec<String> {
    let mut amiss = Vec::new();
    if let Some(copies) = &set.copies
        && let CopyOutcome::Missing(reason) = &copies.outcome
    {
        amiss.push(format!("not copied to {}: {reason}", copies.place.region));
    }
    let failed = set
        .shared
        .as_ref()
        .and_then(|shared| shared.failed.as_ref());
    amiss.extend(failed.map(|reason| format!("not all snapshots are shared: {reason}")));
    amiss.append(&mut unlocked);
    amiss
}

/// Locks snapshots and copies as the manifest, which is written, says. That it fails is warned of and told: the backup is there, and `verify` says what is
/// not locked.
pub(super) async fn lock(
    manifest: &SnapshotManifest,
    planned: &PlannedSet,
    away: &Away,
    env: &Environment,
) -> Vec<String> {
    let mut unlocked = Vec::new();
    let Some(lock) = manifest.snapshots.lock.map(RetentionLock::from) else {
        return unlocked;
    };
    let patience = to_the_end(env);
    for located in manifest.snapshots.located() {
        let ec2 = match (located.copied, &away.ec2) {
            (true, Some(ec2)) => ec2,
            (true, None) => continue,
            (false, _) => &planned.ec2,
        };
        unlocked.extend(lock_there(ec2, &located, lock, &patience).await);
    }
    unlocked
}

/// Tells what could not be locked.
async fn lock_there(
    ec2: &SharedEc2,
    located: &Located,
    lock: RetentionLock,
    patience: &Patience,
) -> Option<String> {
    let ids = located.ids();
    match lock_all(ec2.as_ref(), &ids, lock, patience).await {
        Ok(()) => {
            tracing::info!(place = %located.place, "{} snapshots are locked ({lock})", ids.len());
            None
        }
        Err(error) => {
            tracing::warn!(
                "NOT ALL SNAPSHOTS ARE LOCKED in {}: {}. The backup is complete; `freezeframe verify` says which are not, `aws ec2 lock-snapshot` locks them",
                located.place,
                error.with_hint()
            );
            Some(format!(
                "not all snapshots are locked in {}: {error}",
                located.place
            ))
        }
    }
}

/// What becomes of snapshots or copies whose run ended before its journal said what they are. Without a manifest of this run, or where that does not
/// name them (`part`), they are no backup and are deleted; else they stay, and get their lock where they were to have one. Where the store cannot tell,
/// nothing is deleted: it may be the last good backup.
///
/// # Errors
/// [`ReleaseError`]; then something is there, or nobody knows.
pub(super) async fn set_to_rights(
    made: &MadeSet,
    part: impl Fn(&SnapshotSet) -> Option<Located>,
    access: &Access,
    stores: &Stores,
) -> Result<(), ReleaseError> {
    let store = stores.open(&made.store, made.server.as_deref())?;
    let recorded = match catalog::read_recorded(store.as_ref(), made.set).await {
        Ok(recorded) => Some(recorded),
        Err(CatalogError::NoSuchSet { .. }) => {
            // A store in which a run has been is never without a lease: a place where nothing is mounted is.
            if store.list(lease::PREFIX).await?.is_empty() {
                return Err(ReleaseError::OtherStore {
                    store: made.store.clone(),
                    set: made.set,
                });
            }
            None
        }
        Err(CatalogError::Unfinished { .. }) => {
            let listed = store.list(&catalog::key(made.set, "")).await?;
            if is_taken(made.set, &listed, Timestamp::now()) {
                return Err(ReleaseError::Taken { set: made.set });
            }
            None
        }
        Err(error) => return Err(error.into()),
    };
    let patience = Patience::new(GIVING_BACK, CancellationToken::new());
    let kept = match &recorded {
        Some(Recorded::Snapshots(manifest)) if manifest.run == made.run => {
            // Who prunes locks nothing anew.
            let lock = manifest.lock_at(Timestamp::now()).filter(|_| !made.pruned);
            part(&manifest.snapshots).map(|located| (located, lock))
        }
        _ => None,
    };
    if let Some((located, lock)) = kept {
        tracing::info!(set = %made.set, place = %located.place, "the snapshots are a backup, and stay");
        if let Some(lock) = lock {
            match access.open_at(&located.place).await {
                Ok(ec2) => {
                    // It has been warned of.
                    let _ = lock_there(&ec2, &located, lock.into(), &patience).await;
                }
                Err(error) => tracing::warn!(
                    %error,
                    "NOT ALL SNAPSHOTS ARE LOCKED in {}: `freezeframe verify` says which are not", located.place
                ),
            }
        }
        return Ok(());
    }
    let ec2 = access.open_at(&made.place).await?;
    let (now, quiet) = (Timestamp::now(), access.quiet());
    set::give_back(ec2.as_ref(), made, &patience, now, quiet).await?;
    Ok(())
}
