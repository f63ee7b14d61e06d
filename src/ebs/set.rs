//! A set of snapshots: made by one call, waited for, given back.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ids::{InstanceId, SnapshotId};
use super::order::{Awaited, Condition, Order, condition};
use super::patience::Patience;
use super::{Call, CallFailed, EbsError, Ec2, Kind, Place, Snapshot, TAG};
use crate::human;
use crate::ids::{BackupId, RunId};
use crate::progress::Meter;

/// EC2's answers are eventually consistent: what was just made or deleted may be shown wrong for so long. AWS names no time ("eventual
/// consistency", EC2 API developer guide, speaks of a few minutes).
pub(super) const SETTLES: Duration = Duration::from_secs(5 * 60);
/// After so long a call that was not answered has either made something that is shown, or nothing.
pub(super) const SHOWN: Duration = Duration::from_secs(10 * 60);
/// The pauses between two looks at what a call may have made.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The first pause between two looks at how far snapshots are; each further one is longer, up to [`SLOWEST_LOOK`].
pub(super) const FIRST_LOOK: Duration = Duration::from_secs(1);
pub(super) const SLOWEST_LOOK: Duration = Duration::from_secs(30);

/// Snapshots that a run is about to make, or made; this is what the run journal records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeSet {
    /// Where.
    pub place: Place,
    /// Of which instance's volumes.
    pub instance: InstanceId,
    /// The run, by whose tag they are found.
    pub run: RunId,
    /// The backup set they are to be. With its manifest in the store they are a backup.
    pub set: BackupId,
    /// The store of that.
    pub store: String,
    /// The server it is on, where the address does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// When this was written.
    pub planned: Timestamp,
    /// Whether it was a backup and is being pruned: nothing is done for it then where it still is one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pruned: bool,
    /// What EC2 answered; empty where no answer is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<SnapshotId>,
}

impl std::fmt::Display for MadeSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EBS snapshots of {} by run {}", self.instance, self.run)
    }
}

/// Makes the snapshots, under the lock: one call, one attempt, and nothing else. Left when `broken` is cancelled, though it may have been
/// carried out.
///
/// # Errors
/// [`EbsError::Call`], [`EbsError::Broken`].
pub async fn take(
    ec2: &dyn Ec2,
    order: &Order,
    broken: &CancellationToken,
) -> Result<Vec<Snapshot>, EbsError> {
    tokio::select! {
        biased;
        made = ec2.create(order) => Ok(made?),
        () = broken.cancelled() => Err(EbsError::Broken),
    }
}

/// Whether `error` of [`take`] says that nothing was made, so that nothing need be looked for.
pub fn nothing_was_made(error: &EbsError) -> bool {
    matches!(error, EbsError::Call(failed) if failed.nothing_was_made())
}

/// Waits until every snapshot of `set` is completed, for `within` at most. `meter` counts the bytes of the volumes that EC2 says are there, on from
/// what it has counted before.
///
/// # Errors
/// [`EbsError::Failed`], [`EbsError::Gone`], [`EbsError::Overdue`]; [`Kind::Interrupted`] when `cancel` is cancelled.
pub async fn complete(
    ec2: &dyn Ec2,
    set: &[Awaited],
    within: Duration,
    patience: &Patience,
    meter: &Meter,
    cancel: &CancellationToken,
) -> Result<(), EbsError> {
    let ids: Vec<_> = set.iter().map(|one| one.id.clone()).collect();
    let counted = meter.done();
    let began = Instant::now();
    let mut last_shown = began;
    let mut pause = FIRST_LOOK;
    let (mut done, mut of) = (0, 0);
    loop {
        let looked = patience.call(|| ec2.snapshots(&ids)).await;
        let now = match looked {
            Ok(seen) => {
                let bytes = seen.iter().map(|one| one.bytes);
                of = bytes.fold(0, u64::saturating_add);
                condition(set, &seen)?
            }
            // Hours of pending outlast a network that is gone for some minutes: the snapshots go on without us.
            Err(error) if matches!(error.kind, Kind::Unanswered | Kind::Throttled) => {
                tracing::warn!(%error, "cannot look how far the snapshots are");
                last_shown = Instant::now();
                Condition::Pending { done, of }
            }
            Err(error) => return Err(error.into()),
        };
        match now {
            Condition::Completed => {
                meter.advance(counted.saturating_add(of).saturating_sub(meter.done()));
                return Ok(());
            }
            Condition::Pending { done: now, of: all } => {
                last_shown = Instant::now();
                // What EC2 says may go back; a meter does not.
                meter.advance(counted.saturating_add(now).saturating_sub(meter.done()));
                (done, of) = (now, all);
            }
            Condition::Unseen(snapshots) if last_shown.elapsed() >= SETTLES => {
                return Err(EbsError::Gone { snapshots });
            }
            Condition::Unseen(_) => {}
        }
        if began.elapsed() >= within {
            let percent = done.saturating_mul(100).checked_div(of).unwrap_or(0);
            return Err(EbsError::Overdue {
                percent: u8::try_from(percent).unwrap_or(100),
                waited: began.elapsed(),
            });
        }
        let left = within.saturating_sub(began.elapsed());
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                return Err(CallFailed::new(Call::DescribeSnapshots, Kind::Interrupted, "we were asked to end").into());
            }
            () = tokio::time::sleep(pause.min(left)) => {}
        }
        pause = pause.mul_f64(1.5).min(SLOWEST_LOOK);
    }
}

/// Deletes `ids`, which were made and are not wanted.
///
/// # Errors
/// The first failure; the others were tried all the same.
pub async fn delete_all(
    ec2: &dyn Ec2,
    ids: &[SnapshotId],
    patience: &Patience,
) -> Result<(), EbsError> {
    let mut deleted = Ok(());
    for id in ids {
        let one = patience.call(|| ec2.delete(id)).await;
        deleted = deleted.and(one.map(drop));
    }
    Ok(deleted?)
}

/// Deletes whatever `made` was, or may have been: by the ids that are known, and by the run's tag. Gives what was deleted. What a call that was
/// not answered may have made is looked for until nothing new has come for `quiet`, or the call is old.
///
/// # Errors
/// [`EbsError`]; then something is there, or nobody knows.
pub async fn give_back(
    ec2: &dyn Ec2,
    made: &MadeSet,
    patience: &Patience,
    now: Timestamp,
    quiet: Duration,
) -> Result<BTreeSet<SnapshotId>, EbsError> {
    let mut deleted = BTreeSet::new();
    let mut known = made.snapshots.clone();
    // One that EC2 does not delete keeps none of the others.
    let mut failed = Ok(());
    for id in &known {
        match patience.call(|| ec2.delete(id)).await {
            Ok(true) => {
                deleted.insert(id.clone());
            }
            Ok(false) => {}
            Err(error) => failed = failed.and(Err(error)),
        }
    }
    failed?;
    known.retain(|id| !deleted.contains(id));
    // All that was made is known, and was there to be deleted: nothing else can come.
    let certain = !made.snapshots.is_empty() && known.is_empty();
    let age = Duration::try_from(now.duration_since(made.planned)).unwrap_or_default();
    let quiet = match certain || age >= SHOWN {
        true => Duration::ZERO,
        false => quiet,
    };
    if !quiet.is_zero() {
        tracing::info!(
            "{made}: looking for what EC2 may have made, for {} at least",
            human::duration(quiet)
        );
    }
    let began = Instant::now();
    let mut last_new = began;
    loop {
        let mut shown = patience.call(|| ec2.made_by(made.run)).await?;
        // In years two runs may come by the same id.
        let set = made.set.to_string();
        shown.retain(|one| one.tags.get(TAG) == Some(&set));
        let mut failed = Ok(());
        for snapshot in &shown {
            if let Err(error) = patience.call(|| ec2.delete(&snapshot.id)).await {
                failed = failed.and(Err(error));
                continue;
            }
            if deleted.insert(snapshot.id.clone()) {
                tracing::info!(snapshot = %snapshot.id, volume = %snapshot.volume, "deleted");
                last_new = Instant::now();
            }
        }
        failed?;
        if shown.is_empty() && last_new.elapsed() >= quiet {
            return Ok(deleted);
        }
        if !shown.is_empty() && last_new.elapsed() >= SETTLES {
            return Err(EbsError::Stay {
                snapshots: shown.into_iter().map(|one| one.id).collect(),
                instance: made.instance.clone(),
            });
        }
        tokio::time::sleep(LOOK_AGAIN.min(quiet.max(FIRST_LOOK))).await;
    }
}

#[cfg(test)]
mod tests;
