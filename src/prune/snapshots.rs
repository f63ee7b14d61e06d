//! Removing one backup whose data is in EBS snapshots.

use jiff::Timestamp;

use super::Order;
use super::error::RemoveError;
use super::remove::{Removed, remove};
use crate::backup::release::Tools;
use crate::backup::resource::Resource;
use crate::backup::run::Run;
use crate::catalog::{self, Recorded};
use crate::ebs::EbsError;
use crate::ebs::connect::Access;
use crate::ebs::patience::Patience;
use crate::ebs::set::MadeSet;
use crate::ids::BackupId;
use crate::manifest::snapshots::{Located, SnapshotManifest};
use crate::verify::snapshots::{Unasked, verify_snapshots};

/// Removes the backup `id` and deletes its snapshots and their copies, unless somebody has it by now, or `newest`, which stays in its place, is not all there.
///
/// The journal of the run says first what is to be deleted, in the words in which a backup says what it makes. So what becomes of the snapshots is decided in
/// one place, by whether there is a manifest, also when we are killed: with it they are a backup and stay, without it they go.
///
/// # Errors
/// [`RemoveError`].
pub(super) async fn remove_set(
    run: &mut Run,
    order: &Order<'_>,
    tools: &Tools,
    (id, newest): (BackupId, BackupId),
    now: Timestamp,
) -> Result<Removed, RemoveError> {
    let store = order.store.as_ref();
    let Recorded::Snapshots(manifest) = catalog::read_recorded(store, id).await? else {
        return Ok(Removed::Spared);
    };
    see_newest(newest, &tools.ebs, order).await?;
    let located = manifest.snapshots.located();
    for one in &located {
        look_before_it_goes(one, &manifest, &tools.ebs, order).await?;
    }
    let planned = located
        .iter()
        .map(|one| resource(one, &manifest, order))
        .collect();
    let entries = run.plan(planned)?;
    let removed = remove(store, id, true, now).await;
    if let Ok(Removed::Spared) = removed {
        run.settled(&entries)?;
        return Ok(Removed::Spared);
    }
    let left = run.release(&entries, tools).await?;
    match (removed, left.into_iter().next()) {
        (_, Some(left)) => Err(RemoveError::Left(Box::new(left))),
        (removed, None) => Ok(removed?),
    }
}

fn patience(order: &Order<'_>, access: &Access) -> Patience {
    Patience::new(access.settings().retry_for.0, order.cancel.clone())
}

/// A list says of a set that it is complete as long as its manifest is there: whether its snapshots are only EC2 knows.
async fn see_newest(
    newest: BackupId,
    access: &Access,
    order: &Order<'_>,
) -> Result<(), RemoveError> {
    let gone = |problem: String| RemoveError::NewestIsGone { newest, problem };
    let Recorded::Snapshots(manifest) =
        catalog::read_recorded(order.store.as_ref(), newest).await?
    else {
        return Err(gone("it is no set of snapshots".into()));
    };
    let taken = manifest.snapshots.taken();
    let ec2 = access.open_at(&taken.place).await?;
    let patience = patience(order, access);
    let report = verify_snapshots(newest, &taken, ec2.as_ref(), &patience).await;
    let report = report.map_err(|Unasked(error)| error)?;
    match report.findings.first() {
        None => Ok(()),
        Some(finding) => Err(gone(finding.to_string())),
    }
}

/// A manifest that is gone cannot be had back when EC2 says no. Nor can a snapshot that only a manifest, which anybody who writes into the store may have
/// changed, calls a part of this backup: its own tags have to say so.
async fn look_before_it_goes(
    located: &Located,
    manifest: &SnapshotManifest,
    access: &Access,
    order: &Order<'_>,
) -> Result<(), RemoveError> {
    let ec2 = access.open_located(located).await?;
    let patience = patience(order, access);
    let ids = located.ids();
    let shown = patience.call(|| ec2.snapshots(&ids)).await;
    let shown = shown.map_err(EbsError::from)?;
    if let Some(other) = shown
        .iter()
        .find(|one| !one.is_of_set(manifest.id, manifest.run))
    {
        return Err(RemoveError::NotOfTheSet {
            snapshot: other.id.clone(),
            place: located.place.clone(),
        });
    }
    let there: Vec<_> = shown.into_iter().map(|one| one.id).collect();
    // Also where the credentials lead to another account: then the owner's snapshots would be known to nobody.
    if there.is_empty() {
        return Err(RemoveError::Unseen {
            place: located.place.clone(),
        });
    }
    let locked = patience.call(|| ec2.locked(&there)).await;
    match locked.map_err(EbsError::from)?.len() {
        0 => Ok(()),
        count => Err(RemoveError::Locked {
            count,
            place: located.place.clone(),
        }),
    }
}

fn resource(located: &Located, manifest: &SnapshotManifest, order: &Order<'_>) -> Resource {
    let made = MadeSet {
        place: located.place.clone(),
        instance: manifest.snapshots.instance.clone(),
        run: manifest.run,
        set: manifest.id,
        store: order.store.url(),
        server: order.store.server(),
        // All that the call made is long to be seen.
        planned: manifest.started,
        pruned: true,
        snapshots: located.ids(),
    };
    match located.copied {
        true => Resource::EbsCopies(made),
        false => Resource::EbsSnapshots(made),
    }
}
