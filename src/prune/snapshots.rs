//! Removing one backup whose data is in EBS snapshots.

use jiff::Timestamp;

use super::Order;
use super::error::RemoveError;
use super::remove::{Removed, remove};
use crate::backup::release::Tools;
use crate::backup::resource::Resource;
use crate::backup::run::Run;
use crate::catalog::{self, Recorded};
use crate::ebs::connect::Access;
use crate::ebs::patience::Patience;
use crate::ebs::set::MadeSet;
use crate::ebs::{CallFailed, Kind};
use crate::ids::BackupId;
use crate::manifest::snapshots::{Located, SnapshotManifest};

/// Removes the backup `id` and deletes its snapshots and their copies, unless somebody has it by now.
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
    id: BackupId,
    now: Timestamp,
) -> Result<Removed, RemoveError> {
    let store = order.store.as_ref();
    let Recorded::Snapshots(manifest) = catalog::read_recorded(store, id).await? else {
        return Ok(Removed::Spared);
    };
    let located = manifest.snapshots.located();
    for one in &located {
        refuse_locked(one, &tools.ebs, order).await?;
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
    removed?;
    match left.into_iter().next() {
        None => Ok(Removed::Gone),
        Some(left) => Err(RemoveError::Left(left)),
    }
}

/// A manifest that is gone cannot be had back when EC2 says no.
async fn refuse_locked(
    located: &Located,
    access: &Access,
    order: &Order<'_>,
) -> Result<(), RemoveError> {
    let access = match located.copied {
        true => access.for_copies(),
        false => access.clone(),
    };
    let ec2 = access.open_at(&located.place).await?;
    let patience = Patience::new(access.settings().retry_for.0, order.cancel.clone());
    let ids = located.ids();
    let locked = match patience.call(|| ec2.locked(&ids)).await {
        Ok(locked) => locked.len(),
        // Some are deleted already. Those that are not are asked for one by one.
        Err(CallFailed {
            kind: Kind::NotFound,
            ..
        }) => {
            let mut locked = 0;
            for id in &ids {
                match patience.call(|| ec2.locked(std::slice::from_ref(id))).await {
                    Ok(found) => locked += found.len(),
                    Err(CallFailed {
                        kind: Kind::NotFound,
                        ..
                    }) => {}
                    Err(error) => return Err(RemoveError::Ebs(error.into())),
                }
            }
            locked
        }
        Err(error) => return Err(RemoveError::Ebs(error.into())),
    };
    match locked {
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
        snapshots: located.ids(),
    };
    match located.copied {
        true => Resource::EbsCopies(made),
        false => Resource::EbsSnapshots(made),
    }
}
