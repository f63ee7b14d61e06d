//! What bears our tags in EC2 and belongs to nothing that anybody knows of: it costs money until somebody deletes it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::super::super::Finding;
use super::EBS;
use super::rest::doubtful;
use crate::backup::Environment;
use crate::backup::journal::Journal;
use crate::catalog::summary::{SetState, SetSummary};
use crate::ebs::made::{MadeVolume, VolumeState};
use crate::ebs::order::DEPLOYMENT_TAG;
use crate::ebs::patience::Patience;
use crate::ebs::{EbsError, Place, RUN_TAG, SharedEc2, Snapshot, TAG};
use crate::ids::{BackupId, DeploymentId, RunId};

/// How long a backup may be at work on another host besides what its snapshots take to be complete.
const AT_WORK: SignedDuration = SignedDuration::from_hours(24);

/// What is known of whose what is tagged may be.
struct Known<'a> {
    /// The sets in the store.
    sets: &'a [SetSummary],
    /// Runs that have a journal on this host.
    runs: BTreeSet<RunId>,
    /// What is backed up here.
    deployment: &'a DeploymentId,
    /// Sets that were begun after this may be at work on another host.
    quiet_since: Timestamp,
}

impl Known<'_> {
    /// The set and the run that `tags` name, where they are to be told of.
    fn strange(&self, tags: &BTreeMap<String, String>) -> Option<(BackupId, RunId)> {
        let set: BackupId = tags.get(TAG)?.parse().ok()?;
        let run: RunId = tags.get(RUN_TAG)?.parse().ok()?;
        (!self.runs.contains(&run)).then_some((set, run))
    }

    fn summary(&self, set: BackupId) -> Option<&SetSummary> {
        self.sets.iter().find(|one| one.id == set)
    }

    /// Snapshots of this deployment without a manifest, by run.
    fn snapshots(&self, tagged: &[Snapshot]) -> BTreeMap<(BackupId, RunId), Vec<String>> {
        let mut left: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for one in tagged {
            let ours = one.tags.get(DEPLOYMENT_TAG) == Some(&self.deployment.to_string());
            let Some((set, run)) = self.strange(&one.tags).filter(|_| ours) else {
                continue;
            };
            // What cannot be read may be a backup.
            let recorded = self
                .summary(set)
                .is_some_and(|one| one.state != SetState::Unfinished);
            if !recorded && set.started() < self.quiet_since {
                left.entry((set, run)).or_default().push(one.id.to_string());
            }
        }
        left
    }

    /// Volumes made of sets of this store that are attached to nothing, by run.
    fn volumes(&self, tagged: &[MadeVolume]) -> BTreeMap<(BackupId, RunId), Vec<String>> {
        let mut left: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for one in tagged {
            let idle = one.state == VolumeState::Available && one.attachments.is_empty();
            let Some((set, run)) = self.strange(&one.tags).filter(|_| idle) else {
                continue;
            };
            if self.summary(set).is_some() {
                left.entry((set, run)).or_default().push(one.id.to_string());
            }
        }
        left
    }
}

/// Warnings of what is left in the regions of `all`: that of the instance, and that of copies.
pub(super) async fn look_at_tagged(
    env: &Environment,
    all: impl Iterator<Item = &SharedEc2>,
    sets: &[SetSummary],
    deployment: &DeploymentId,
    patience: &Patience,
) -> Vec<Finding> {
    let completing = env.config.ebs.complete_within.0;
    let completing = SignedDuration::try_from(completing).unwrap_or(AT_WORK);
    // Copies are waited for as long again.
    let at_work = completing.saturating_mul(2).saturating_add(AT_WORK);
    let runs = Journal::all(&env.config.host.state_dir).unwrap_or_else(|error| {
        // It is a finding of its own already.
        tracing::debug!(%error, "journals cannot be listed");
        Vec::new()
    });
    let known = Known {
        sets,
        runs: runs
            .iter()
            .filter_map(|path| path.file_stem()?.to_str()?.parse().ok())
            .collect(),
        deployment,
        quiet_since: Timestamp::now()
            .checked_sub(at_work)
            .unwrap_or(Timestamp::MIN),
    };
    let mut findings = Vec::new();
    for ec2 in all {
        match left_in(ec2, &known, patience).await {
            Ok(found) => findings.extend(found),
            Err(error) => {
                let subject = format!("{EBS} in {}", ec2.place());
                findings.push(doubtful(subject, "leftovers", &error));
            }
        }
    }
    findings
}

async fn left_in(
    ec2: &SharedEc2,
    known: &Known<'_>,
    patience: &Patience,
) -> Result<Vec<Finding>, EbsError> {
    let place = ec2.place();
    let snapshots = patience.call(|| ec2.tagged()).await?;
    let volumes = patience.call(|| ec2.tagged_volumes()).await?;
    let mut findings: Vec<_> = known
        .snapshots(&snapshots)
        .into_iter()
        .map(|((set, run), ids)| {
            warning(
                &place,
                format!(
                    "snapshots of run {run} that no journal of this host knows and no manifest of this store names (as {set}): {}",
                    ids.join(", ")
                ),
                format!(
                    "they cost money. Where no other store has {set}, delete them: `aws ec2 delete-snapshot --region {} --snapshot-id ID`",
                    place.region
                ),
            )
        })
        .collect();
    findings.extend(known.volumes(&volumes).into_iter().map(|((set, run), ids)| {
        warning(
            &place,
            format!("volumes made of {set} by run {run} are attached to nothing: {}", ids.join(", ")),
            format!(
                "they cost money. Where nobody wants them any more: `aws ec2 delete-volume --region {} --volume-id ID`",
                place.region
            ),
        )
    }));
    Ok(findings)
}

fn warning(place: &Place, detail: String, todo: String) -> Finding {
    Finding::warning(format!("{EBS} in {place}"), "leftovers", detail, todo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::sample;
    use crate::ebs::State;

    #[test]
    fn what_nobody_knows_of_is_told_and_what_may_be_anybodys_is_not() {
        let deployment = sample::intent().deployment.id;
        let complete = summary("20260131_020000", SetState::Complete);
        let sets = [
            complete,
            summary("20260131_030000", SetState::Unfinished),
            summary("20260131_040000", SetState::Unreadable),
        ];
        let known = Known {
            sets: &sets,
            runs: ["00000007".parse().unwrap()].into(),
            deployment: &deployment,
            quiet_since: "2026-02-02T00:00:00Z".parse().unwrap(),
        };
        let tags = |set: &str, run: &str, deployment: &str| {
            let tags = [(TAG, set), (RUN_TAG, run), (DEPLOYMENT_TAG, deployment)];
            let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned()));
            BTreeMap::from(tags)
        };
        let ours = deployment.to_string();
        for (set, run, of, told) in [
            ("20260131_020000", "00000001", ours.as_str(), false),
            // Killed, and its host is gone.
            ("20260131_030000", "00000001", &ours, true),
            ("20260131_040000", "00000001", &ours, false),
            // Its folder was deleted.
            ("20260131_050000", "00000001", &ours, true),
            // Recover will see to it.
            ("20260131_030000", "00000007", &ours, false),
            // Perhaps at work at this moment.
            ("20260203_020000", "00000001", &ours, false),
            (
                "20260131_050000",
                "00000001",
                "65b9a1f0c3d2e4f5a6b7c8ff",
                false,
            ),
            ("no set", "00000001", &ours, false),
            ("20260131_050000", "no run", &ours, false),
        ] {
            let set = format!("mongo_backup-{set}");
            let snapshot = Snapshot {
                id: "snap-00000001".parse().unwrap(),
                volume: "vol-00000001".parse().unwrap(),
                bytes: 1 << 30,
                state: State::Completed,
                reason: None,
                percent: 100,
                tags: tags(&set, run, of),
            };
            let left = known.snapshots(&[snapshot]);
            assert_eq!(!left.is_empty(), told, "{set} of {run} of {of}");
        }
        for (set, state, told) in [
            ("20260131_020000", VolumeState::Available, true),
            // The user's, who restored it.
            ("20260131_020000", VolumeState::InUse, false),
            // Of some other store.
            ("20260131_050000", VolumeState::Available, false),
        ] {
            let volume = MadeVolume {
                id: "vol-00000001".parse().unwrap(),
                bytes: 1 << 30,
                state,
                attachments: Vec::new(),
                tags: tags(&format!("mongo_backup-{set}"), "00000001", &ours),
            };
            assert_eq!(
                !known.volumes(&[volume]).is_empty(),
                told,
                "{set} {state:?}"
            );
        }
    }

    fn summary(set: &str, state: SetState) -> SetSummary {
        SetSummary {
            id: format!("mongo_backup-{set}").parse().unwrap(),
            state,
            ..sample::summary()
        }
    }
}
