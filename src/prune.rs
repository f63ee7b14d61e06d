//! Pruning: what the rules of retention keep stays, the rest goes.
//!
//! The decision is [`crate::retention`]'s. Here it is carried out: under the lease of every replica set that anything is removed of, so that nobody writes
//! a backup of it or prunes it at the same time, by a plan that was made again when the lease was had.

mod error;
mod remove;
mod snapshots;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::backup::journal::JournalError;
use crate::backup::lease::{self, LeaseError, Scope, Work};
use crate::backup::release::{ReleaseError, Tools};
use crate::backup::run::Run;
use crate::backup::set::plan_lease;
use crate::catalog;
use crate::catalog::SetSummary;
use crate::catalog::at_work::note_at_work;
use crate::copy::due;
use crate::error::{Exit, Explain};
use crate::ids::{BackupId, DeploymentId};
use crate::retention::{self, Backup, Condition, DropReason, Plan, Rules};
use crate::retention_lock::RetentionLock;
use crate::store::{SharedStore, Store, StoreError};
use error::Reach;
pub use error::RemoveError;
use remove::{Removed, remove};
use snapshots::remove_set;

/// What a prune's run journal says it does.
pub const PRUNE: &str = "prune";

/// How long its leases count. It looks at them before every backup that goes, and ends where somebody has taken one since.
const COUNTS: Duration = Duration::from_secs(3600);

/// What is to be pruned, and how.
#[derive(Debug)]
pub struct Order<'a> {
    /// The store.
    pub store: &'a SharedStore,
    /// Whose backups; others' are never touched.
    pub ours: &'a DeploymentId,
    /// What stays.
    pub rules: &'a Rules,
    /// The stores that its backups are copied to, and what stays in each: what is not there yet stays here.
    pub copies: &'a [(SharedStore, Rules)],
    /// Where the run journals of this host are.
    pub state_dir: &'a Path,
    /// Cancelled when it should end.
    pub cancel: &'a CancellationToken,
}

/// What came of the plan.
#[derive(Debug)]
pub struct Pruned {
    /// The plan that was carried out; none where it did not come to that.
    pub plan: Option<Plan>,
    /// What became of each backup that it drops.
    pub outcomes: BTreeMap<BackupId, Outcome>,
    /// What ended it before it was through, or is left of it.
    pub ended: Result<(), PruneError>,
}

/// What became of a backup that the plan drops.
#[derive(Debug)]
pub enum Outcome {
    /// It is gone.
    Removed,
    /// It stays: somebody has begun to hold it, to read it or to finish it meanwhile.
    Spared,
    /// It stays, whole or without its manifest.
    Failed(RemoveError),
    /// It stays: the store failed before its turn came, or EC2, we were asked to end, or it was not in the plan when the leases were taken.
    Later,
}

impl Pruned {
    /// The code the program ends with.
    ///
    /// # Errors
    /// What ended it.
    pub fn exit(self) -> Result<Exit, PruneError> {
        let through = self.exit_when_through();
        self.ended.map(|()| through)
    }

    /// The code the program ends with where nothing ended it before it was through.
    pub fn exit_when_through(&self) -> Exit {
        let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
        match self.outcomes.values().any(failed) {
            true => Exit::Store,
            false => Exit::Done,
        }
    }

    fn removed(&self) -> usize {
        let gone = |outcome: &&Outcome| matches!(outcome, Outcome::Removed);
        self.outcomes.values().filter(gone).count()
    }
}

/// Why pruning did not begin, or did not end well.
#[derive(Debug, Error)]
pub enum PruneError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody else is at work in the store.
    #[error("nothing more is pruned: {0}")]
    Lease(#[from] LeaseError),
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A lease could not be given back, or snapshots of what is no backup any more are not deleted.
    #[error("something is left: {error}{}", .besides.as_ref().map_or_else(String::new, |besides| format!("; and {besides}")))]
    StillHeld {
        /// Why it is.
        error: ReleaseError,
        /// What ended the prune before that.
        besides: Option<Box<PruneError>>,
    },
    /// We were asked to end.
    #[error("interrupted after {removed} backups were removed")]
    Interrupted {
        /// How many are gone.
        removed: usize,
    },
}

impl Explain for PruneError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Lease(error) => error.hint(),
            Self::Journal(error) => error.hint(),
            Self::StillHeld { .. } => Some("run `freezeframe recover`".into()),
            Self::Interrupted { .. } => Some("the rest goes with the next prune".into()),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
            // A lost one as well: what there is to be lost, a backup, was not.
            Self::Lease(LeaseError::Lost { .. }) => Exit::Refused,
            Self::Lease(error) => error.exit(),
            Self::Journal(error) => error.exit(),
            Self::StillHeld { .. } => Exit::StillHeld,
            Self::Interrupted { .. } => Exit::Interrupted,
        }
    }
}

/// What would be done at `now`.
///
/// # Errors
/// [`StoreError`] where the store cannot be listed, or one that its backups are copied to: then nobody knows what is safe there.
pub async fn look(order: &Order<'_>, now: Timestamp) -> Result<Plan, StoreError> {
    let mut sets = catalog::list(order.store.as_ref()).await?;
    note_at_work(&mut sets, order.state_dir);
    let mut awaited = BTreeSet::new();
    for (store, rules) in order.copies {
        let there = catalog::list(store.as_ref()).await?;
        awaited.extend(due(&sets, &there, rules, now));
    }
    let lock = order.store.object_lock();
    let backups = sets.iter().map(|set| {
        let backup = Backup::of(set, now);
        Backup {
            awaits_copy: awaited.contains(&set.id),
            locked: backup.locked || lock.is_some_and(|lock| is_locked(set, lock, now)),
            ..backup
        }
    });
    Ok(retention::plan(
        backups.collect(),
        order.ours,
        order.rules,
        now,
    ))
}

/// Whether objects of `set` are locked still, each from when it was stored on: deleted now they would be hidden, and paid for, until that ends.
fn is_locked(set: &SetSummary, lock: RetentionLock, now: Timestamp) -> bool {
    let stored = set.finished.unwrap_or(set.started);
    set.snapshots == 0 && now.duration_since(stored) < lock.length()
}

/// Removes what the rules do not keep. What was done is told also where it ends early.
pub async fn prune(order: &Order<'_>, tools: &Tools, now: Timestamp) -> Pruned {
    let mut pruned = Pruned {
        plan: None,
        outcomes: BTreeMap::new(),
        ended: Ok(()),
    };
    pruned.ended = journaled(&mut pruned, order, tools, now).await;
    for (backup, _) in pruned.plan.iter().flat_map(Plan::dropped) {
        pruned.outcomes.entry(backup.id).or_insert(Outcome::Later);
    }
    pruned
}

async fn journaled(
    pruned: &mut Pruned,
    order: &Order<'_>,
    tools: &Tools,
    now: Timestamp,
) -> Result<(), PruneError> {
    let mut run = Run::begin(order.state_dir, PRUNE)?;
    let swept = under_lease(&mut run, pruned, order, tools, now).await;
    let left = run.finish(tools).await?;
    match left.into_iter().next() {
        None => swept,
        Some(left) => Err(PruneError::StillHeld {
            error: left.error,
            besides: swept.err().map(Box::new),
        }),
    }
}

async fn under_lease(
    run: &mut Run,
    pruned: &mut Pruned,
    order: &Order<'_>,
    tools: &Tools,
    now: Timestamp,
) -> Result<(), PruneError> {
    let scopes = scopes(order.ours, look(order, now).await?.dropped());
    // What is half written when we are killed can be told from what other hosts write there.
    let store = order.store.of_run(run.id());
    let store = store.unwrap_or_else(|| order.store.clone());
    for scope in &scopes {
        plan_lease(run, scope, store.as_ref())?;
        lease::take_for(store.as_ref(), scope, run.id(), COUNTS, Work::Prune).await?;
    }
    sweep(run, pruned, order, tools, &scopes, now).await
}

/// The replica sets that anything is removed of.
fn scopes<'a>(
    ours: &DeploymentId,
    dropped: impl Iterator<Item = (&'a Backup, DropReason)>,
) -> Vec<Scope> {
    let shards: BTreeSet<_> = dropped.flat_map(|(backup, _)| &backup.shards).collect();
    let scope = |shard: &crate::ids::ShardName| Scope {
        deployment: ours.clone(),
        shard: shard.clone(),
    };
    shards.into_iter().map(scope).collect()
}

/// Makes the plan and carries it out, with the lease on `scopes` in the hands of `run`.
async fn sweep(
    run: &mut Run,
    pruned: &mut Pruned,
    order: &Order<'_>,
    tools: &Tools,
    scopes: &[Scope],
    now: Timestamp,
) -> Result<(), PruneError> {
    let plan = look(order, now).await?;
    let plan = pruned.plan.insert(plan).clone();
    let mut failing = Reach::This;
    for (backup, _) in plan.dropped() {
        let of_it: Vec<_> = scopes
            .iter()
            .filter(|scope| backup.shards.contains(&scope.shard))
            .collect();
        let in_vain = match failing {
            Reach::This => false,
            Reach::Snapshots => backup.is_in_snapshots(),
            Reach::All => true,
        };
        if in_vain || of_it.len() < backup.shards.len() {
            pruned.outcomes.insert(backup.id, Outcome::Later);
            continue;
        }
        if order.cancel.is_cancelled() {
            return Err(interrupted(pruned));
        }
        for scope in of_it {
            lease::still_ours(order.store.as_ref(), scope, run.id()).await?;
        }
        let removed = match backup.is_in_snapshots() {
            true => match plan.newest_like(backup) {
                Some(newest) => remove_set(run, order, tools, (backup.id, newest.id), now).await,
                None => Ok(Removed::Spared),
            },
            false => removed(order.store.as_ref(), backup, now).await,
        };
        let outcome = match removed {
            Ok(Removed::Gone) => {
                tracing::info!(id = %backup.id, "pruned");
                Outcome::Removed
            }
            Ok(Removed::Spared) => Outcome::Spared,
            // It may be gone already, or half.
            Err(error) if error.is_interruption() => {
                pruned.outcomes.insert(backup.id, Outcome::Failed(error));
                return Err(interrupted(pruned));
            }
            Err(error) => {
                failing = failing.max(error.reach());
                Outcome::Failed(error)
            }
        };
        pruned.outcomes.insert(backup.id, outcome);
    }
    Ok(())
}

async fn removed(
    store: &dyn Store,
    backup: &Backup,
    now: Timestamp,
) -> Result<Removed, RemoveError> {
    let finished = !matches!(backup.condition, Condition::Unfinished { .. });
    Ok(remove(store, backup.id, finished, now).await?)
}

fn interrupted(pruned: &Pruned) -> PruneError {
    PruneError::Interrupted {
        removed: pruned.removed(),
    }
}

#[cfg(test)]
mod tests;
