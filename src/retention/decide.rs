//! The decision itself.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{
    Backup, Condition, Decided, DropReason, KeepReason, Plan, Rules, SETTLED, Span, Verdict,
};
use crate::ids::{BackupId, DeploymentId, ShardName};

/// Decides for every backup whether it stays, for the deployment `ours` at `now`.
pub fn plan(mut backups: Vec<Backup>, ours: &DeploymentId, rules: &Rules, now: Timestamp) -> Plan {
    backups.sort_by_key(|backup| backup.id);
    let good: Vec<&Backup> = backups
        .iter()
        .rev()
        .filter(|backup| backup.deployment.as_ref() == Some(ours) && backup.is_good())
        // One that a clock ahead has named counts for nothing before its time: it would take the place of a true one.
        .filter(|backup| backup.id.started() <= now)
        .collect();
    let mut series: BTreeMap<(&BTreeSet<ShardName>, bool), Vec<&Backup>> = BTreeMap::new();
    for &backup in &good {
        let key = (&backup.shards, backup.is_in_snapshots());
        series.entry(key).or_default().push(backup);
    }
    let mut kept: BTreeMap<BackupId, BTreeSet<KeepReason>> = BTreeMap::new();
    for newest_first in series.values() {
        for (id, reason) in kept_of_series(newest_first, rules) {
            kept.entry(id).or_default().insert(reason);
        }
    }
    // The newest good backup of the same replica sets, of whatever kind.
    let newest = |backup: &Backup| {
        let same = good.iter().find(|other| other.shards == backup.shards);
        same.map(|newest| newest.id)
    };
    let decide = |backup: &Backup| {
        if backup.deployment.as_ref().is_some_and(|of| of != ours) {
            return Verdict::Keep(BTreeSet::from([KeepReason::OtherDeployment]));
        }
        let mut reasons = whatever_it_is_worth(backup, now);
        let fate = match backup.condition {
            Condition::NotUnderstood => Err(KeepReason::NotUnderstood),
            Condition::Good { .. } => {
                reasons.extend(kept.get(&backup.id).into_iter().flatten());
                Ok(DropReason::Outlived)
            }
            Condition::Damaged => worthless(backup, newest(backup), DropReason::Damaged)
                .and_then(|reason| still_recent(backup, newest(backup), rules, reason)),
            Condition::Unfinished { at_work } => {
                let age = now.duration_since(backup.id.started());
                match at_work || age < SETTLED {
                    true => Err(KeepReason::MayBeMade),
                    false => worthless(backup, newest(backup), DropReason::NeverFinished),
                }
            }
        };
        match fate {
            Ok(reason) if reasons.is_empty() => Verdict::Drop(reason),
            Ok(_) => Verdict::Keep(reasons),
            Err(reason) => {
                reasons.insert(reason);
                Verdict::Keep(reasons)
            }
        }
    };
    let verdicts: Vec<_> = backups.iter().map(decide).collect();
    let decided = backups.into_iter().zip(verdicts);
    Plan(
        decided
            .map(|(backup, verdict)| Decided { backup, verdict })
            .collect(),
    )
}

/// What keeps the good backups of one series, and why.
fn kept_of_series(newest_first: &[&Backup], rules: &Rules) -> Vec<(BackupId, KeepReason)> {
    let mut kept = Vec::new();
    let Some(newest) = newest_first.first() else {
        return kept;
    };
    kept.push((newest.id, KeepReason::NewestGood));
    let verified = |backup: &&&Backup| backup.condition == Condition::Good { verified: true };
    if let Some(verified) = newest_first.iter().find(verified) {
        kept.push((verified.id, KeepReason::NewestVerified));
    }
    let last = usize::try_from(rules.keep_last).unwrap_or(usize::MAX);
    let last = newest_first.iter().take(last);
    kept.extend(last.map(|backup| (backup.id, KeepReason::KeepLast)));
    let recent = newest_first
        .iter()
        .filter(|backup| is_within(backup, newest.id, rules));
    kept.extend(recent.map(|backup| (backup.id, KeepReason::KeepWithin)));
    for span in Span::all() {
        let mut left = span.wanted(rules);
        let mut before = None;
        for backup in newest_first {
            let this = Some(span.of(backup.id.started()));
            if left > 0 && this != before {
                kept.push((backup.id, span.reason()));
                left -= 1;
            }
            before = this;
        }
    }
    kept
}

/// Whether `backup` is older than the one named `newest` by no more than the rules say.
fn is_within(backup: &Backup, newest: BackupId, rules: &Rules) -> bool {
    let age = newest.started().duration_since(backup.id.started());
    let within = SignedDuration::try_from(rules.keep_within.0).unwrap_or(SignedDuration::MAX);
    age <= within
}

/// What keeps a backup of ours, good or not.
fn whatever_it_is_worth(backup: &Backup, now: Timestamp) -> BTreeSet<KeepReason> {
    let reasons = [
        (backup.id.started() > now, KeepReason::FromTheFuture),
        (backup.held, KeepReason::Held),
        (backup.read, KeepReason::BeingRead),
        (backup.locked, KeepReason::Locked),
        (backup.awaits_copy, KeepReason::AwaitsCopy),
    ];
    let holding = reasons.into_iter().filter(|(holds, _)| *holds);
    holding.map(|(_, reason)| reason).collect()
}

/// What is no good backup goes only where a newer one is: until then something may be made of it.
fn worthless(
    backup: &Backup,
    newest: Option<BackupId>,
    reason: DropReason,
) -> Result<DropReason, KeepReason> {
    match newest {
        Some(newest) if newest > backup.id => Ok(reason),
        _ => Err(KeepReason::NothingNewer),
    }
}

/// A damaged backup stays for somebody to look at, as long as a good one would.
fn still_recent(
    backup: &Backup,
    newest: Option<BackupId>,
    rules: &Rules,
    reason: DropReason,
) -> Result<DropReason, KeepReason> {
    match newest {
        Some(newest) if is_within(backup, newest, rules) => Err(KeepReason::KeepWithin),
        _ => Ok(reason),
    }
}
