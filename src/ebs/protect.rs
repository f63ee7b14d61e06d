//! What a set is given so that it outlives more than its own account and somebody who deletes: shares and locks.

use std::collections::BTreeSet;

use super::ids::{AccountId, SnapshotId};
use super::patience::Patience;
use super::{EbsError, Ec2};
use crate::retention_lock::RetentionLock;

/// Lets `accounts` make volumes of all of `ids`.
///
/// # Errors
/// The first failure; the others were tried all the same.
pub async fn share_all(
    ec2: &dyn Ec2,
    ids: &[SnapshotId],
    accounts: &[AccountId],
    patience: &Patience,
) -> Result<(), EbsError> {
    let mut shared = Ok(());
    for id in ids {
        let one = patience.call(|| ec2.share(id, accounts)).await;
        shared = shared.and(one);
    }
    Ok(shared?)
}

/// Locks those of `ids` that are not locked yet: a repetition must not make a lock longer.
///
/// # Errors
/// The first failure; the others were tried all the same.
pub async fn lock_all(
    ec2: &dyn Ec2,
    ids: &[SnapshotId],
    lock: RetentionLock,
    patience: &Patience,
) -> Result<(), EbsError> {
    let wanted = unlocked(ec2, ids, patience).await?;
    let mut locked = Ok(());
    for id in &wanted {
        let one = patience.call(|| ec2.lock(id, lock)).await;
        locked = locked.and(one);
    }
    Ok(locked?)
}

/// Those of `ids` on which there is no lock, or none any more.
///
/// # Errors
/// [`EbsError::Call`].
pub async fn unlocked(
    ec2: &dyn Ec2,
    ids: &[SnapshotId],
    patience: &Patience,
) -> Result<BTreeSet<SnapshotId>, EbsError> {
    let locked = patience.call(|| ec2.locked(ids)).await?;
    let open = ids.iter().filter(|id| !locked.contains(*id));
    Ok(open.cloned().collect())
}
