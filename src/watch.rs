//! What an operator watches: how the backups of this host stand, and which thresholds are passed.
//!
//! [`look`] asks the store and this host. All that follows is decided by pure functions: [`Standing::of`] makes figures of what was seen, [`judge`] holds them against
//! the thresholds of `[watch]`, [`exposition`] writes them for Prometheus.

pub mod error;
pub mod exposition;
pub mod judge;
pub mod last_run;
pub mod look;
pub mod series;
pub mod serve;
pub mod watcher;

use jiff::Timestamp;
use serde::Serialize;

use crate::backup::BACKUP;
use crate::backup::journal::Owner;
use crate::catalog::SetSummary;
use crate::catalog::summary::SetState;
use crate::copy::due;
use crate::ids::{BackupId, RunId};
use last_run::LastRun;
use look::{CopySeen, HostSeen, StoreSeen};
use series::{Scope, Series};

/// How the backups stand at one moment. Its JSON form is part of what `status --json` prints, and stays stable.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// The moment.
    pub at: Timestamp,
    /// The store.
    pub store: StoreStanding,
    /// The stores that backups are copied to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<CopyStanding>,
    /// The series of backups that are watched; none where the store did not tell.
    pub series: Option<Vec<Series>>,
    /// Sets of which nobody can tell whose they are.
    pub strange: Vec<BackupId>,
    /// The backup that this host is making.
    pub running: Option<Owner>,
    /// How the last backup of this host ended, where that is known.
    pub last_run: Option<LastRun>,
    /// What runs left that are dead.
    pub leftovers: Vec<Leftover>,
    /// Why nobody can tell what else was left.
    pub unreadable: Vec<String>,
}

/// Whether the store could be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreStanding {
    /// Its address.
    pub url: String,
    /// Whether it answered when it was last asked.
    pub reached: bool,
    /// What it said instead.
    pub error: Option<String>,
    /// What to do about that.
    pub hint: Option<String>,
    /// As of when the series are.
    pub asked: Option<Timestamp>,
    /// Bytes that it had room for then; null of a bucket.
    pub free_bytes: Option<u64>,
}

/// A store that backups are copied to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyStanding {
    /// Whether it could be asked.
    #[serde(flatten)]
    pub store: StoreStanding,
    /// Backups of the series that are watched that it is to have and has not, newest first; none where one of the stores did not tell.
    pub lacking: Option<Vec<BackupId>>,
    /// Copies of these series that are damaged, or of all where the first store did not tell, oldest first; none where this one did not.
    pub damaged: Option<Vec<BackupId>>,
}

/// What a dead run left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// The run.
    pub run: RunId,
    /// What it was doing.
    pub verb: String,
    /// When it began.
    pub started: Timestamp,
    /// What is not given back, first acquired first.
    pub resources: Vec<String>,
    /// How many of these are locks on members that may still be held.
    pub locks: u64,
}

impl Standing {
    /// What the figures are at `now`.
    pub fn of(
        store: &StoreSeen,
        copies: &[CopySeen],
        host: &HostSeen,
        scope: &Scope,
        now: Timestamp,
    ) -> Self {
        let told = store
            .told
            .as_ref()
            .map(|told| Series::all(&at_work(&told.sets, host), scope, now));
        let (series, strange) = match told {
            Some((series, strange)) => (Some(series), strange),
            None => (None, Vec::new()),
        };
        let watched = series.as_deref().unwrap_or_default();
        let copies = copies.iter();
        Self {
            at: now,
            store: StoreStanding::of(store),
            copies: copies
                .map(|copy| CopyStanding::of(copy, store, watched, now))
                .collect(),
            series,
            strange,
            running: host.running().cloned(),
            last_run: host.last_run.clone(),
            leftovers: host.leftovers(),
            unreadable: host.unreadable.clone(),
        }
    }
}

impl StoreStanding {
    fn of(store: &StoreSeen) -> Self {
        Self {
            url: store.url.clone(),
            reached: store.failed.is_none(),
            error: store.failed.as_ref().map(|failed| failed.error.clone()),
            hint: store.failed.as_ref().and_then(|failed| failed.hint.clone()),
            asked: store.told.as_ref().map(|told| told.asked),
            free_bytes: store.told.as_ref().and_then(|told| told.free),
        }
    }
}

impl CopyStanding {
    fn of(copy: &CopySeen, first: &StoreSeen, watched: &[Series], now: Timestamp) -> Self {
        let of_watched = |set: &&SetSummary| watched.iter().any(|series| series.includes(set));
        let both = first.told.as_ref().zip(copy.store.told.as_ref());
        let lacking = both.map(|(first, there)| {
            let first: Vec<_> = first.sets.iter().filter(of_watched).cloned().collect();
            due(&first, &there.sets, &copy.rules, now)
        });
        let counts = |set: &&SetSummary| first.told.is_none() || of_watched(set);
        let is_damaged = |set: &&SetSummary| set.state == SetState::Damaged;
        let damaged = copy.store.told.as_ref().map(|told| {
            let sets = told.sets.iter().filter(counts).filter(is_damaged);
            sets.map(|set| set.id).collect()
        });
        Self {
            store: StoreStanding::of(&copy.store),
            lacking,
            damaged,
        }
    }
}

/// The sets, with those noted that a run of this host makes now. A set may have been begun since the store was asked, and a run have ended: then it is not there.
fn at_work(sets: &[SetSummary], host: &HostSeen) -> Vec<SetSummary> {
    let mut sets = sets.to_vec();
    crate::catalog::at_work::note(&mut sets, &host.runs);
    sets
}

/// Whether `owner` is making a backup.
fn makes_a_backup(owner: &Owner) -> bool {
    owner.verb == BACKUP
}

/// How long ago `then` was; a moment that is yet to come was just now.
pub fn ago(then: Timestamp, now: Timestamp) -> std::time::Duration {
    now.duration_since(then).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests;
