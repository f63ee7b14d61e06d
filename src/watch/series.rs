//! The backups of the same replica sets of one deployment, and what is watched of them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::ago;
use crate::catalog::summary::{SetState, Verdict};
use crate::catalog::{SetSummary, newest_first};
use crate::config::WatchScope;
use crate::host;
use crate::ids::{BackupId, DeploymentId, ShardName};
use crate::retention::SETTLED;

/// Whose backups are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those of the replica sets that this host backed up last.
    Host(String),
    /// Every series in the store.
    Store,
}

impl Scope {
    /// What the configuration means on this host.
    pub fn of(configured: WatchScope) -> Self {
        match configured {
            WatchScope::Host => Self::Host(host::name()),
            WatchScope::Store => Self::Store,
        }
    }

    /// Whether what nobody of this host makes now can be a run that died.
    fn is_of_host(&self, set: &SetSummary) -> bool {
        match self {
            Self::Host(name) => set.host.as_deref() == Some(name),
            Self::Store => false,
        }
    }
}

/// What is watched of one series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// What is backed up.
    pub deployment: DeploymentId,
    /// Its replica sets.
    pub replica_sets: BTreeSet<ShardName>,
    /// The newest good backup.
    pub newest: Option<Newest>,
    /// By how much its data are more than those of the good one before, as a share of those: -0.5 where half of them is gone.
    pub size_change: Option<f64>,
    /// When any of the good ones was last verified, and nothing found.
    pub verified: Option<Timestamp>,
    /// When any of the good ones was last proven by restoring it.
    pub proven: Option<Timestamp>,
    /// How many there are of each state.
    pub counts: Counts,
    /// Those that are damaged, oldest first.
    pub damaged: Vec<BackupId>,
    /// Those that are newer than the newest good one, and that nobody is making any more.
    pub failed: Vec<BackupId>,
    /// Good ones of moments that are yet to come, oldest first: they count as newest only where there is no other.
    pub ahead: Vec<BackupId>,
}

/// The newest good backup of a series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Newest {
    /// Its name.
    pub id: BackupId,
    /// The moment it is of, to the second.
    pub started: Timestamp,
    /// How long ago that is; 0 where it is yet to come.
    pub age_seconds: u64,
    /// How long the run took, in microseconds.
    pub took_us: u64,
    /// How long the database was held, in microseconds; 0 where it was not locked.
    pub held_us: u64,
    /// Bytes in the store.
    pub size: u64,
    /// Bytes of the files that were backed up.
    pub data_size: u64,
    /// EBS snapshots that are the backup; 0 in one of archives.
    pub snapshots: u64,
}

/// How many backups there are of each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Good ones.
    pub good: u64,
    /// Damaged ones.
    pub damaged: u64,
    /// Without manifest, being made or failed.
    pub unfinished: u64,
    /// Made by a newer program.
    pub future: u64,
    /// Not to be read.
    pub unreadable: u64,
}

impl Counts {
    fn of(sets: &[&SetSummary]) -> Self {
        let mut counts = Self::default();
        for set in sets {
            let count = match set.state {
                SetState::Complete => &mut counts.good,
                SetState::Damaged => &mut counts.damaged,
                SetState::Unfinished => &mut counts.unfinished,
                SetState::Future => &mut counts.future,
                SetState::Unreadable => &mut counts.unreadable,
            };
            *count += 1;
        }
        counts
    }
}

type Key = (DeploymentId, BTreeSet<ShardName>);

/// Whose a set is, as far as it tells.
fn key(set: &SetSummary) -> Option<Key> {
    let shards: BTreeSet<_> = set.members.iter().map(|one| one.shard.clone()).collect();
    match shards.is_empty() {
        true => None,
        false => Some((set.deployment.clone()?, shards)),
    }
}

impl Series {
    /// The series that are watched, and the sets that are damaged beyond telling whose they are.
    pub fn all(sets: &[SetSummary], scope: &Scope, now: Timestamp) -> (Vec<Self>, Vec<BackupId>) {
        let mut series: BTreeMap<Key, Vec<&SetSummary>> = BTreeMap::new();
        let mut strange = Vec::new();
        let mut last_of_host: Option<(BackupId, Key)> = None;
        for set in sets {
            let Some(key) = key(set) else {
                // What a newer program made is its business.
                if set.state != SetState::Future {
                    strange.push(set.id);
                }
                continue;
            };
            if scope.is_of_host(set) && last_of_host.as_ref().is_none_or(|(id, _)| *id < set.id) {
                last_of_host = Some((set.id, key.clone()));
            }
            series.entry(key).or_default().push(set);
        }
        if let Scope::Host(_) = scope {
            // A series whose replica sets are all in the last backup has gone on as that one. One that has another replica set is backed up no more, and that is to be told.
            series.retain(|key, sets| {
                let of_host = sets.iter().any(|set| scope.is_of_host(set));
                last_of_host.as_ref().is_some_and(|(_, last)| {
                    last == key || of_host && !(last.0 == key.0 && key.1.is_subset(&last.1))
                })
            });
        }
        let all = series
            .into_iter()
            .map(|(key, sets)| Self::of(key, sets, scope, now));
        strange.sort_unstable();
        (all.collect(), strange)
    }

    fn of(key: Key, mut sets: Vec<&SetSummary>, scope: &Scope, now: Timestamp) -> Self {
        sets.sort_by_key(|set| set.id);
        let good = || {
            let all = newest_first(sets.iter().copied(), now);
            all.filter(|set| set.state == SetState::Complete)
        };
        let (newest, before) = (good().next(), good().nth(1));
        let sound = || good().filter(|set| set.verification.verdict != Verdict::Damaged);
        let failed = sets.iter().filter(|set| {
            set.state == SetState::Unfinished
                && set.at_work.is_none()
                && newest.is_none_or(|newest| newest.id < set.id)
                // Whether another host still makes it, nobody here knows.
                && (scope.is_of_host(set) || now.duration_since(set.started) >= SETTLED)
        });
        let (deployment, replica_sets) = key;
        Self {
            deployment,
            replica_sets,
            newest: newest.map(|set| Newest::of(set, now)),
            size_change: newest.zip(before).and_then(|(new, old)| change(new, old)),
            // That snapshots are shown to be there says nothing of their bytes.
            verified: sound()
                .filter(|set| set.verification.verdict != Verdict::Unverified)
                .filter_map(|set| set.verification.last)
                .max(),
            proven: sound().filter_map(|set| set.verification.proven).max(),
            counts: Counts::of(&sets),
            failed: failed.map(|set| set.id).collect(),
            ahead: sets
                .iter()
                .filter(|set| set.state == SetState::Complete && set.is_ahead(now))
                .map(|set| set.id)
                .collect(),
            damaged: sets
                .iter()
                .filter(|set| set.state == SetState::Damaged)
                .map(|set| set.id)
                .collect(),
        }
    }

    /// Whether `set` is one of it.
    pub fn includes(&self, set: &SetSummary) -> bool {
        key(set).is_some_and(|(deployment, shards)| {
            deployment == self.deployment && shards == self.replica_sets
        })
    }

    /// How to name it: "rs0, rs1 of 65b9a1f0c3d2e4f5a6b7c8d9".
    pub fn name(&self) -> String {
        format!("{} of {}", self.shards(), self.deployment)
    }

    /// Its replica sets, with commas between them.
    pub fn shards(&self) -> String {
        let names: Vec<_> = self.replica_sets.iter().map(ShardName::as_str).collect();
        names.join(", ")
    }
}

impl Newest {
    fn of(set: &SetSummary, now: Timestamp) -> Self {
        Self {
            id: set.id,
            started: set.started,
            age_seconds: ago(set.started, now).as_secs(),
            took_us: set.took_us.unwrap_or_default(),
            held_us: set.held_us.unwrap_or_default(),
            size: set.size,
            data_size: set.data_size.unwrap_or_default(),
            snapshots: set.snapshots,
        }
    }
}

/// Of the data, not of what is stored: that depends on the profile too, and of EBS snapshots nobody tells it.
fn change(new: &SetSummary, old: &SetSummary) -> Option<f64> {
    let (new, old) = (new.data_size?, old.data_size?);
    (old > 0).then(|| (new as f64 - old as f64) / old as f64)
}
