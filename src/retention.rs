//! Which backups stay: a pure decision, with a reason for each.
//!
//! Backups of the same replica sets of one deployment are a *series*, those in archives apart from those in EBS snapshots. The rules count in each
//! series by itself, and only good backups that are not from the future. Days and weeks are those of UTC.

mod calendar;
mod decide;
mod words;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::catalog::summary::{SetState, SetSummary, Verdict as Verified};
use crate::config::Period;
use crate::ids::{BackupId, DeploymentId, ShardName};
pub use calendar::Span;
pub use decide::plan;

/// A set without a manifest that was begun more recently than this may still be written: longer than backups take, and far longer than clocks differ.
pub const SETTLED: SignedDuration = SignedDuration::from_hours(48);

/// What keeps a good backup. Any one of these is enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rules {
    /// The newest backups that stay, however old they are.
    pub keep_last: u32,
    /// What is older than the newest by no more than this stays. Counted from the newest backup, not from now: where no more backups are made, or a
    /// clock jumps, the old ones do not vanish one by one.
    pub keep_within: Period,
    /// The newest of each of the last so many hours that have one.
    pub hourly: u32,
    /// The same of days.
    pub daily: u32,
    /// The same of weeks, which begin on Monday.
    pub weekly: u32,
    /// The same of months.
    pub monthly: u32,
    /// The same of years.
    pub yearly: u32,
}

/// What the decision knows of one backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its name, and with it when it was begun.
    pub id: BackupId,
    /// Whose it is, as far as that can be told.
    pub deployment: Option<DeploymentId>,
    /// What it holds.
    pub shards: BTreeSet<ShardName>,
    /// The EBS snapshots that its data is in; none where it is in archives.
    pub snapshots: u64,
    /// What it is worth.
    pub condition: Condition,
    /// Whether somebody holds it.
    pub held: bool,
    /// Whether somebody reads it.
    pub read: bool,
    /// Whether nobody may delete it yet.
    pub locked: bool,
    /// Whether another store is to have a copy of it and has none yet.
    pub awaits_copy: bool,
    /// Bytes of its objects.
    pub bytes: u64,
}

/// What a backup is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It is complete and not known to be damaged.
    Good {
        /// Whether a verification found it to be as it was written.
        verified: bool,
    },
    /// Its manifest can be read; something else is missing, or was found damaged.
    Damaged,
    /// It has no manifest.
    Unfinished {
        /// Whether a run of this host is making it.
        at_work: bool,
    },
    /// What it is cannot be told.
    NotUnderstood,
}

impl Backup {
    /// What there is to know of `set` at `now`.
    pub fn of(set: &SetSummary, now: Timestamp) -> Self {
        Self {
            id: set.id,
            deployment: set.deployment.clone(),
            shards: set.members.iter().map(|one| one.shard.clone()).collect(),
            snapshots: set.snapshots,
            condition: match set.state {
                SetState::Complete => Condition::Good {
                    verified: matches!(
                        set.verification.verdict,
                        Verified::Verified | Verified::Proven
                    ),
                },
                // Without a manifest that can be read nobody knows what is lost with it.
                SetState::Damaged if set.finished.is_some() => Condition::Damaged,
                SetState::Unfinished => Condition::Unfinished {
                    at_work: set.at_work.is_some(),
                },
                SetState::Damaged | SetState::Future | SetState::Unreadable => {
                    Condition::NotUnderstood
                }
            },
            held: set.hold.is_some(),
            read: set.readers.iter().any(|reader| reader.until > now),
            locked: set.locked_until.is_some_and(|until| until > now),
            // What other stores hold, a set does not tell.
            awaits_copy: false,
            bytes: set.size,
        }
    }

    /// Whether its data is in EBS snapshots.
    pub fn is_in_snapshots(&self) -> bool {
        self.snapshots > 0
    }

    fn is_good(&self) -> bool {
        matches!(self.condition, Condition::Good { .. })
    }
}

/// Why a backup stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepReason {
    /// It is another deployment's.
    OtherDeployment,
    /// What it is cannot be told: a newer program made it, or its documents cannot be read.
    NotUnderstood,
    /// It was begun later than now, by the clock of this host.
    FromTheFuture,
    /// Somebody holds it.
    Held,
    /// Somebody reads it.
    BeingRead,
    /// Its snapshots are locked: nobody may delete them yet.
    Locked,
    /// Another store is to have a copy of it, and has none yet.
    AwaitsCopy,
    /// It is being made, or was begun so recently that it may be.
    MayBeMade,
    /// It is the newest good one of its series.
    NewestGood,
    /// It is the newest of its series that a verification found good.
    NewestVerified,
    /// It is one of the newest of its series.
    KeepLast,
    /// It is not much older than the newest of its series.
    KeepWithin,
    /// It is the newest of one of the last hours.
    Hourly,
    /// It is the newest of one of the last days.
    Daily,
    /// It is the newest of one of the last weeks.
    Weekly,
    /// It is the newest of one of the last months.
    Monthly,
    /// It is the newest of one of the last years.
    Yearly,
    /// It is no good backup, and there is no newer one of its series that is.
    NothingNewer,
}

/// Why a backup goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// No rule keeps it.
    Outlived,
    /// It is damaged, and a newer one of its series is good.
    Damaged,
    /// It was never finished, nobody is at it any more, and a newer one of its series is good.
    NeverFinished,
}

/// Whether a backup stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It does, for at least one reason.
    Keep(BTreeSet<KeepReason>),
    /// It goes.
    Drop(DropReason),
}

/// A backup and what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The backup.
    pub backup: Backup,
    /// What is to become of it.
    pub verdict: Verdict,
}

/// What is to become of every backup in a store, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan(pub Vec<Decided>);

impl Plan {
    /// What goes, oldest first.
    pub fn dropped(&self) -> impl Iterator<Item = (&Backup, DropReason)> {
        self.0.iter().filter_map(|decided| match decided.verdict {
            Verdict::Drop(reason) => Some((&decided.backup, reason)),
            Verdict::Keep(_) => None,
        })
    }

    /// The newest good backup of the series of `backup`, which stays.
    pub fn newest_like(&self, backup: &Backup) -> Option<&Backup> {
        let same = |other: &Backup| {
            other.shards == backup.shards
                && other.deployment == backup.deployment
                && other.is_in_snapshots() == backup.is_in_snapshots()
        };
        let newest = self.0.iter().rev().find(|decided| match &decided.verdict {
            Verdict::Keep(reasons) => {
                reasons.contains(&KeepReason::NewestGood) && same(&decided.backup)
            }
            Verdict::Drop(_) => false,
        });
        newest.map(|decided| &decided.backup)
    }

    /// Bytes that this frees.
    pub fn frees(&self) -> u64 {
        let bytes = self.dropped().map(|(backup, _)| backup.bytes);
        bytes.fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests;
