//! Which backups a further store lacks: a pure decision.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::catalog::SetSummary;
use crate::catalog::summary::SetState;
use crate::ids::{BackupId, DeploymentId};
use crate::retention::{Backup, Condition, Rules, Verdict, plan};

/// The backups of archives in the first store that the other one lacks and its `rules` would keep, newest first: what the next prune would remove there is not
/// sent on its way. Those that are in EBS snapshots have copies of their own kind.
pub fn due(
    first: &[SetSummary],
    other: &[SetSummary],
    rules: &Rules,
    now: Timestamp,
) -> Vec<BackupId> {
    let lacks = |set: &&SetSummary| !other.iter().any(|there| is_there(there, set));
    let candidates: Vec<Backup> = first
        .iter()
        .filter(|set| set.state == SetState::Complete && set.snapshots == 0)
        .filter(lacks)
        .map(|set| Backup {
            // Who has it in the first store has it there alone, and who has verified it, too.
            held: false,
            read: false,
            locked: false,
            condition: Condition::Good { verified: false },
            ..Backup::of(set, now)
        })
        .collect();
    let there = other.iter().map(|set| Backup::of(set, now));
    let of_them = |backup: &Backup| candidates.iter().any(|one| one.id == backup.id);
    let together: Vec<Backup> = there
        .filter(|backup| !of_them(backup))
        .chain(candidates.iter().cloned())
        .collect();
    let deployments: BTreeSet<&DeploymentId> = candidates
        .iter()
        .filter_map(|one| one.deployment.as_ref())
        .collect();
    let mut due: Vec<BackupId> = deployments
        .into_iter()
        .flat_map(|ours| {
            plan(together.clone(), ours, rules, now)
                .0
                .into_iter()
                .filter(|decided| {
                    let backup = &decided.backup;
                    backup.deployment.as_ref() == Some(ours)
                        && of_them(backup)
                        && matches!(decided.verdict, Verdict::Keep(_))
                })
        })
        .map(|decided| decided.backup.id)
        .collect();
    due.sort_unstable_by(|one, other| other.cmp(one));
    due
}

/// Whether `there` is a good copy of `set`, and not another backup of the same name.
fn is_there(there: &SetSummary, set: &SetSummary) -> bool {
    there.id == set.id && there.run == set.run && there.state == SetState::Complete
}
