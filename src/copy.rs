//! Copies of backups in further stores: the same backup, byte for byte, with marks, verifications and retention of its own.
//!
//! What is to be copied is decided by [`due`], one backup is copied by [`copy_one`], under a lease of the store that it goes to, so that no two hosts copy the
//! same backup, or one prunes what the other writes.

mod due;
mod error;
mod set;

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use crate::backup::journal::COPY;
use crate::backup::journal::survey::survey;
use crate::backup::release::Tools;
use crate::catalog;
use crate::catalog::SetSummary;
use crate::ids::{BackupId, DeploymentId, ShardName};
use crate::manifest::MANIFEST;
use crate::progress::Progress;
use crate::recover::recover;
use crate::retention::Rules;
use crate::store::{SharedStore, StoreError};
pub use due::due;
pub use error::CopyError;
pub use set::{Placed, copy_one};

/// From where to where, and how.
pub struct Order<'a> {
    /// The store that is read.
    pub from: &'a SharedStore,
    /// The store that is written.
    pub to: &'a SharedStore,
    /// Whether what that one cannot prove is read back.
    pub read_back: bool,
    /// Where the run journals of this host are.
    pub state_dir: &'a Path,
    /// How things are given back.
    pub tools: &'a Tools,
    /// Who is told how far it is.
    pub progress: &'a dyn Progress,
    /// Cancelled when it should end.
    pub cancel: &'a CancellationToken,
}

/// Whose backups are copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's in the first store.
    Everybodys,
    /// Those of the same replica sets of one deployment.
    Series(DeploymentId, BTreeSet<ShardName>),
}

impl Whose {
    fn includes(&self, set: &SetSummary) -> bool {
        match self {
            Self::Everybodys => true,
            Self::Series(deployment, shards) => {
                set.deployment.as_ref() == Some(deployment)
                    && set.members.iter().all(|one| shards.contains(&one.shard))
            }
        }
    }
}

/// What came of bringing a store up to date.
#[derive(Debug, Default)]
pub struct Copied {
    /// What is there now and was not before, in the order in which it came.
    pub copied: Vec<BackupId>,
    /// What was there before, of what was asked for by name.
    pub was_there: Vec<BackupId>,
    /// What is not, and why.
    pub failed: Vec<(BackupId, CopyError)>,
    /// Somebody else's run is copying there, who goes on with what is left.
    pub by_others: Option<String>,
    /// What ended it before it was through.
    pub ended: Option<CopyError>,
}

impl Copied {
    /// Tells it where the backup `id` that was just made is not in the store that was read: what is not there is not due.
    pub async fn miss(&mut self, id: BackupId, order: &Order<'_>) {
        let size = order.from.size(&catalog::key(id, MANIFEST)).await;
        if self.ended.is_none() && matches!(size, Err(StoreError::NotFound { .. })) {
            let store = order.from.url();
            self.ended = Some(CopyError::Gone { store, id });
        }
    }
}

/// Copies whatever is [`due`], newest first, until nothing is. No other than the first is begun after `no_later`: what is left goes with the next run.
pub async fn bring_up_to_date(
    order: &Order<'_>,
    rules: &Rules,
    whose: &Whose,
    no_later: Option<Instant>,
) -> Copied {
    let mut copied = Copied::default();
    // Each is tried once, whatever the other store says of it afterwards.
    let mut tried = BTreeSet::new();
    loop {
        let mut fresh = match look(order, rules, whose, Timestamp::now()).await {
            Ok(due) => due,
            Err(error) => {
                copied.ended = Some(error.into());
                return copied;
            }
        };
        fresh.retain(|id| !tried.contains(id));
        if fresh.is_empty() {
            return copied;
        }
        for id in fresh {
            if order.cancel.is_cancelled() {
                let store = order.to.url();
                copied.ended = Some(StoreError::Interrupted { store }.into());
                return copied;
            }
            if !tried.is_empty() && no_later.is_some_and(|limit| Instant::now() > limit) {
                tracing::info!(
                    store = order.to.url(),
                    "the rest is copied with the next run, or by `freezeframe copy`"
                );
                return copied;
            }
            tried.insert(id);
            match copy_one(order, id).await {
                Ok(Placed::Copied) => {
                    tracing::info!(%id, store = order.to.url(), "copied");
                    copied.copied.push(id);
                }
                // By another host meanwhile; or it is there, and no good.
                Ok(Placed::WasThere) => match look(order, rules, whose, Timestamp::now()).await {
                    Ok(due) if due.contains(&id) => {
                        let store = order.to.url();
                        copied.failed.push((id, CopyError::NotGood { store, id }));
                    }
                    _ => {}
                },
                Err(error) if error.is_pruned_meanwhile() => {
                    tracing::info!(%id, "pruned before it was copied");
                }
                Err(error) if error.copied_by().is_some() => {
                    tracing::warn!(
                        store = order.to.url(),
                        "{error}: what lacks after that goes with the next run"
                    );
                    copied.by_others = error.copied_by().map(ToString::to_string);
                    return copied;
                }
                Err(error) if error.is_of_one_backup() => copied.failed.push((id, error)),
                Err(error) => {
                    copied.ended = Some(error);
                    return copied;
                }
            }
        }
    }
}

/// Gives back what copies left that died on this host, the next one would find their leases held otherwise. What cannot be given back is told, and stays for
/// `recover`.
pub async fn clear_up_after_dead(state_dir: &Path, tools: &Tools) {
    let dead = match survey(state_dir) {
        Ok(seen) => seen.into_iter().flatten(),
        Err(error) => {
            tracing::warn!(%error, "cannot see what dead copies have left");
            return;
        }
    };
    for seen in dead.filter(|seen| !seen.alive && seen.owner.verb == COPY) {
        let run = seen.owner.run;
        match recover(state_dir, Some(run), tools).await {
            Ok(recovered) => {
                let mut failures = recovered.iter().flat_map(|one| &one.failed).peekable();
                if failures.peek().is_none() {
                    tracing::info!(%run, "gave back what a copy that died has left");
                }
                for failure in failures {
                    tracing::warn!(%run, "left by a copy that died: {}", failure.sentence());
                }
            }
            Err(error) => {
                tracing::warn!(%run, %error, "cannot give back what a dead copy has left")
            }
        }
    }
}

/// What is to be copied at `now`.
///
/// # Errors
/// [`StoreError`] of either store.
pub async fn look(
    order: &Order<'_>,
    rules: &Rules,
    whose: &Whose,
    now: Timestamp,
) -> Result<Vec<BackupId>, StoreError> {
    let mut first = catalog::list(order.from.as_ref()).await?;
    first.retain(|set| whose.includes(set));
    let other = catalog::list(order.to.as_ref()).await?;
    Ok(due(&first, &other, rules, now))
}

#[cfg(test)]
mod tests;
