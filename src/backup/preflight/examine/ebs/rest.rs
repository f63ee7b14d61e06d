//! Whether EC2 would allow what a backup does after its snapshots are complete, and a restore: as far as a DryRun can tell before there is anything.

use super::super::super::{Finding, Verdict};
use super::{EBS, refused};
use crate::backup::Environment;
use crate::backup::volumes::PlannedSet;
use crate::catalog::summary::{SetState, SetSummary};
use crate::catalog::{self, Recorded};
use crate::ebs::copied::CopyOrder;
use crate::ebs::made::VolumeOrder;
use crate::ebs::names::{Wish, shape};
use crate::ebs::patience::Patience;
use crate::ebs::{EbsError, Kind, Place, RUN_TAG, Rehearsal, SharedEc2, TAG};
use crate::error::Explain;
use crate::ids::{BackupId, RunId};
use crate::manifest::snapshots::VolumeRecord;

/// EC2 in the region that copies go to, where there are to be any, and what there is to say of it. That it cannot be reached keeps no backup from being
/// made; that it is where the snapshots are does.
pub(super) async fn look_abroad(
    env: &Environment,
    here: &Place,
    run: RunId,
    patience: &Patience,
) -> (Option<SharedEc2>, Option<Finding>) {
    let Some(to) = &env.config.ebs.copy_to else {
        return (None, None);
    };
    if to.as_str() == here.region {
        let refused = Finding::refused(
            EBS,
            "copies",
            format!("[ebs] copy_to is {to}, where the snapshots are, and goes with them"),
            "name another region in copy_to",
        );
        return (None, Some(refused));
    }
    match open_abroad(env, run, patience).await {
        Ok(ec2) => {
            let told = format!("snapshots are copied to {}", ec2.place());
            (Some(ec2), Some(Finding::ok(EBS, "copies", told)))
        }
        Err(error) => (None, Some(doubtful(EBS.into(), "copies", &error))),
    }
}

/// What there is to say of volumes, copies, shares and locks to come. None of it keeps a backup from being made.
pub(super) async fn look_at_rest(
    env: &Environment,
    set: &PlannedSet,
    abroad: Option<&SharedEc2>,
    run: RunId,
    sets: &[SetSummary],
    patience: &Patience,
) -> Vec<Finding> {
    match example(env, set, sets).await {
        Some((id, record)) => rehearse(env, set, abroad, (id, run), &record, patience).await,
        None => vec![Finding::ok(
            EBS,
            "permission",
            "what is done with snapshots that are there (volumes made of them, copies, shares, locks) can be asked by DryRun after the first backup",
        )],
    }
}

async fn open_abroad(
    env: &Environment,
    run: RunId,
    patience: &Patience,
) -> Result<SharedEc2, EbsError> {
    let ec2 = env.tools.ebs.for_copies().open().await?;
    // Whether we may look there; a new run has none.
    patience.call(|| ec2.made_by(run)).await?;
    Ok(ec2)
}

/// A snapshot of the newest set that is here: EC2 says nothing of what is to be done with one that there is not.
async fn example(
    env: &Environment,
    set: &PlannedSet,
    sets: &[SetSummary],
) -> Option<(BackupId, VolumeRecord)> {
    let mut newest = sets.iter().rev();
    let newest = newest.find(|one| one.state == SetState::Complete && one.snapshots > 0)?;
    match catalog::read_recorded(env.store.as_ref(), newest.id).await {
        Ok(Recorded::Snapshots(manifest)) if manifest.snapshots.place == set.ec2.place() => {
            let first = manifest.snapshots.volumes.into_iter().next()?;
            Some((newest.id, first))
        }
        _ => None,
    }
}

async fn rehearse(
    env: &Environment,
    set: &PlannedSet,
    abroad: Option<&SharedEc2>,
    (id, run): (BackupId, RunId),
    record: &VolumeRecord,
    patience: &Patience,
) -> Vec<Finding> {
    let settings = &env.config.ebs;
    let snapshot = &record.snapshot;
    let tags = [(TAG, id.to_string()), (RUN_TAG, run.to_string())];
    let tags = tags.map(|(key, value)| (key.to_owned(), value)).into();
    let zone = set.instance.zone.as_deref();
    let shape = shape(&record.volume, &Wish::default(), snapshot).ok();
    let volume = zone
        .zip(shape)
        .map(|(zone, shape)| VolumeOrder::new(id, run, snapshot, zone, shape));
    let from = set.ec2.place().region;
    let key = settings.copy_kms_key.as_deref();
    let copy = CopyOrder::new(snapshot, &record.volume.id, &from, key, &tags);
    let mut asked: Vec<(&SharedEc2, Rehearsal<'_>)> = Vec::new();
    asked.extend(
        volume
            .as_ref()
            .map(|order| (&set.ec2, Rehearsal::Volume(order))),
    );
    asked.extend(abroad.map(|ec2| (ec2, Rehearsal::Copy(&copy))));
    if !settings.share_with.is_empty() {
        asked.push((&set.ec2, Rehearsal::Share(snapshot, &settings.share_with)));
    }
    asked.extend(
        settings
            .lock
            .map(|lock| (&set.ec2, Rehearsal::Lock(snapshot, lock.at_its_least()))),
    );
    let mut findings = Vec::new();
    let mut allowed = Vec::new();
    for (ec2, rehearsal) in asked {
        match patience.call(|| ec2.may(&rehearsal)).await {
            Ok(()) => allowed.push(rehearsal.call().to_string()),
            Err(error) if error.kind == Kind::NotFound => findings.push(Finding::warning(
                id.to_string(),
                "permission",
                format!(
                    "{} cannot be rehearsed: EC2 does not show {snapshot}",
                    rehearsal.call()
                ),
                format!("`freezeframe verify {id}` says what is left of that backup"),
            )),
            Err(error) => {
                findings.push(doubtful(set.instance.id.to_string(), "permission", &error));
            }
        }
    }
    if !allowed.is_empty() {
        findings.push(Finding::ok(
            set.instance.id.to_string(),
            "permission",
            format!(
                "{} would be allowed (DryRun on {snapshot})",
                allowed.join(", ")
            ),
        ));
    }
    findings
}

/// As [`refused`], of what fails no backup.
pub(super) fn doubtful(subject: String, check: &'static str, error: &dyn Explain) -> Finding {
    Finding {
        verdict: Verdict::Warning,
        ..refused(subject, check, error)
    }
}
