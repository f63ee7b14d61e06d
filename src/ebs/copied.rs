//! Copies of snapshots in another region: asked for, waited for, looked for where nobody answered.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ids::{SnapshotId, VolumeId};
use super::made::SNAPSHOT_TAG;
use super::order::{Awaited, tag_value};
use super::patience::Patience;
use super::set::{LOOK_AGAIN, complete, delete_all};
use super::{CallFailed, EbsError, Ec2, Kind};
use crate::ids::RunId;
use crate::progress::Meter;

/// A copy that is to be made in the region that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOrder {
    /// Of which snapshot.
    pub snapshot: SnapshotId,
    /// Of which volume that is.
    pub volume: VolumeId,
    /// Where that is.
    pub from: String,
    /// The key it is to be encrypted under.
    pub kms_key: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl CopyOrder {
    /// The order for a copy of `snapshot`, of `volume`, in the region `from`, with the tags of its set and one that says of what it is a copy.
    pub fn new(
        snapshot: &SnapshotId,
        volume: &VolumeId,
        from: &str,
        kms_key: Option<&str>,
        set: &BTreeMap<String, String>,
    ) -> Self {
        let mut tags = set.clone();
        tags.insert(SNAPSHOT_TAG.into(), tag_value(&snapshot.to_string()));
        Self {
            snapshot: snapshot.clone(),
            volume: volume.clone(),
            from: from.to_owned(),
            kms_key: kms_key.map(str::to_owned),
            tags,
        }
    }

    fn asks_for(&self, copy: &super::Snapshot) -> bool {
        copy.tags.get(SNAPSHOT_TAG).map(String::as_str) == Some(self.snapshot.as_str())
    }
}

/// How long what is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// All copies together may take so long.
    pub within: Duration,
    /// So long others may use up what a region bears at a time.
    pub others_copy_for: Duration,
    /// A call that was not answered has made nothing where nothing is shown for so long.
    pub quiet: Duration,
}

/// Makes all copies of `run`, as many at a time as EC2 takes, and waits until they are complete. Gives the copy of each snapshot.
///
/// # Errors
/// [`EbsError`]; then copies may be there, complete or not, and all of them are to go.
pub async fn copy_all(
    ec2: &dyn Ec2,
    orders: &[CopyOrder],
    run: RunId,
    limits: Limits,
    patience: &Patience,
    meter: &Meter,
    cancel: &CancellationToken,
) -> Result<BTreeMap<SnapshotId, SnapshotId>, EbsError> {
    let began = Instant::now();
    let mut used_up: Option<Instant> = None;
    let mut copies = BTreeMap::new();
    let mut waiting: VecDeque<&CopyOrder> = orders.iter().collect();
    while !waiting.is_empty() {
        let mut under_way = Vec::new();
        while let Some(order) = waiting.front() {
            match ask(ec2, order, run, limits.quiet, patience).await {
                Ok(copy) => {
                    used_up = None;
                    copies.insert(order.snapshot.clone(), copy.clone());
                    under_way.push(Awaited {
                        id: copy,
                        of: order.volume.clone(),
                        is_copy: true,
                    });
                    waiting.pop_front();
                }
                // A region bears 20 copies of an account at a time: the others come when these are there.
                Err(error) if error.kind == Kind::Limit && !under_way.is_empty() => break,
                // Somebody else of the account copies as well.
                Err(error)
                    if error.kind == Kind::Limit
                        && used_up.get_or_insert_with(Instant::now).elapsed()
                            < limits.others_copy_for =>
                {
                    patience.pause(LOOK_AGAIN).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let left = limits.within.saturating_sub(began.elapsed());
        complete(ec2, &under_way, left, patience, meter, cancel).await?;
    }
    // Of a call whose answer was lost, and which was sent again before the first copy was shown.
    let wanted: BTreeSet<_> = copies.values().collect();
    let shown = patience.call(|| ec2.made_by(run)).await?;
    let surplus: Vec<_> = shown
        .into_iter()
        .filter(|one| one.tags.contains_key(SNAPSHOT_TAG) && !wanted.contains(&one.id))
        .map(|one| one.id)
        .collect();
    delete_all(ec2, &surplus, patience).await?;
    Ok(copies)
}

/// Asks for one copy. The call knows no token: before it is sent again it is looked whether it made something.
async fn ask(
    ec2: &dyn Ec2,
    order: &CopyOrder,
    run: RunId,
    quiet: Duration,
    patience: &Patience,
) -> Result<SnapshotId, CallFailed> {
    let unknown = Cell::new(false);
    patience
        .call(|| {
            let unknown = &unknown;
            async move {
                if unknown.get()
                    && let Some(found) = look_for(ec2, order, run, quiet).await?
                {
                    return Ok(found);
                }
                let asked = ec2.copy(order).await;
                let lost = asked.as_ref().is_err_and(|error| !error.nothing_was_made());
                unknown.set(unknown.get() || lost);
                asked
            }
        })
        .await
}

async fn look_for(
    ec2: &dyn Ec2,
    order: &CopyOrder,
    run: RunId,
    quiet: Duration,
) -> Result<Option<SnapshotId>, CallFailed> {
    let began = Instant::now();
    loop {
        let shown = ec2.made_by(run).await?;
        if let Some(found) = shown.into_iter().find(|one| order.asks_for(one)) {
            return Ok(Some(found.id));
        }
        if began.elapsed() >= quiet {
            return Ok(None);
        }
        tokio::time::sleep(LOOK_AGAIN.min(quiet)).await;
    }
}

#[cfg(test)]
mod tests;
