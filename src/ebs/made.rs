//! Volumes made of snapshots: each by a call that may be repeated, waited for, given back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ids::{InstanceId, SnapshotId, VolumeId};
use super::names::Shape;
use super::order::tag_value;
use super::patience::Patience;
use super::set::{FIRST_LOOK, LOOK_AGAIN, SETTLES, SHOWN, SLOWEST_LOOK};
use super::{Call, CallFailed, EbsError, Ec2, Kind, Place, RUN_TAG, TAG};
use crate::human;
use crate::ids::{BackupId, RunId};

/// Tag with the snapshot that a volume was made of.
pub const SNAPSHOT_TAG: &str = "freezeframe-snapshot";
/// How long a volume may take to be available. A volume of a snapshot is within seconds; its blocks come later.
const AVAILABLE_WITHIN: Duration = Duration::from_secs(15 * 60);

/// A volume that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeOrder {
    /// Of which snapshot.
    pub snapshot: SnapshotId,
    /// In which availability zone.
    pub zone: String,
    /// What it is to be like.
    pub shape: Shape,
    /// By which EC2 knows a repetition.
    pub token: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl VolumeOrder {
    /// The order for a copy of `snapshot`, of the set `set`, by `run`.
    pub fn new(set: BackupId, run: RunId, snapshot: &SnapshotId, zone: &str, shape: Shape) -> Self {
        let tags = [
            (TAG, set.to_string()),
            (RUN_TAG, run.to_string()),
            (SNAPSHOT_TAG, snapshot.to_string()),
            ("Name", format!("{set} restored by {run}")),
        ];
        Self {
            snapshot: snapshot.clone(),
            zone: zone.to_owned(),
            shape,
            // A token has at most 64 characters; a run makes one volume of a snapshot.
            token: format!("freezeframe-{run}-{snapshot}"),
            tags: tags
                .map(|(key, value)| (key.to_owned(), tag_value(&value)))
                .into(),
        }
    }
}

/// How far a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeState {
    /// Not yet.
    Creating,
    /// It can be attached.
    Available,
    /// It is attached, or is being.
    InUse,
    /// It is gone, or is going.
    Deleted,
    /// It will never be.
    Error,
}

/// That a volume is attached, or is being attached or detached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// To which instance.
    pub instance: InstanceId,
    /// By which name.
    pub name: String,
    /// Whether it is attached, wholly.
    pub complete: bool,
}

/// A volume as EC2 tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeVolume {
    /// Its id.
    pub id: VolumeId,
    /// Size in bytes.
    pub bytes: u64,
    /// How far it is.
    pub state: VolumeState,
    /// What it is attached to.
    pub attachments: Vec<Attachment>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl MadeVolume {
    /// Whether this program made it, in the run `run`.
    pub fn is_of(&self, run: RunId) -> bool {
        self.tags.contains_key(TAG) && self.tags.get(RUN_TAG) == Some(&run.to_string())
    }

    fn is_there(&self) -> bool {
        self.state != VolumeState::Deleted
    }
}

/// Volumes that a run is about to make, or made; this is what the run journal records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeVolumes {
    /// Where.
    pub place: Place,
    /// The run, by whose tag they are found.
    pub run: RunId,
    /// When this was written.
    pub planned: Timestamp,
    /// What EC2 answered; empty where not all answers are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeId>,
}

impl std::fmt::Display for MadeVolumes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EBS volumes made by run {}", self.run)
    }
}

/// Makes one. An answer that was lost is looked for by the tags before the call is repeated; where EC2 does not show the volume yet, the token keeps
/// it from making another.
///
/// # Errors
/// [`EbsError::Call`].
pub async fn make(
    ec2: &dyn Ec2,
    order: &VolumeOrder,
    run: RunId,
    patience: &Patience,
) -> Result<MadeVolume, EbsError> {
    let mut asked = false;
    let made = patience
        .call(|| {
            let again = std::mem::replace(&mut asked, true);
            async move {
                if again {
                    let shown = ec2.volumes_of(run).await?;
                    let of_it = |one: &MadeVolume| {
                        one.tags.get(SNAPSHOT_TAG) == order.tags.get(SNAPSHOT_TAG)
                    };
                    if let Some(found) = shown.into_iter().find(of_it) {
                        return Ok(found);
                    }
                }
                ec2.create_volume(order).await
            }
        })
        .await?;
    Ok(made)
}

/// Looks at `ids` until `ready` says so of each of them, for `within` at most.
///
/// # Errors
/// [`EbsError::Unready`] with the words `wanted`; [`EbsError::Gone`]-like failures of single volumes; [`Kind::Interrupted`] when `cancel` is cancelled.
pub(super) async fn await_volumes(
    ec2: &dyn Ec2,
    ids: &[VolumeId],
    wanted: &'static str,
    within: Duration,
    mut ready: impl FnMut(&MadeVolume) -> Result<bool, EbsError>,
    patience: &Patience,
    cancel: &CancellationToken,
) -> Result<(), EbsError> {
    let began = Instant::now();
    let mut pause = FIRST_LOOK;
    loop {
        let shown = patience.call(|| ec2.volumes(ids)).await?;
        let mut waiting = Vec::new();
        for id in ids {
            let is_ready = match shown.iter().find(|one| one.id == *id) {
                Some(one) => ready(one)?,
                // Not shown yet.
                None => false,
            };
            if !is_ready {
                waiting.push(id.clone());
            }
        }
        if waiting.is_empty() {
            return Ok(());
        }
        if began.elapsed() >= within {
            return Err(EbsError::Unready {
                volumes: waiting,
                wanted,
                waited: began.elapsed(),
            });
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                return Err(CallFailed::new(Call::DescribeVolumes, Kind::Interrupted, "we were asked to end").into());
            }
            () = tokio::time::sleep(pause.min(within.saturating_sub(began.elapsed()))) => {}
        }
        pause = pause.mul_f64(1.5).min(SLOWEST_LOOK);
    }
}

/// Waits until all of `ids` can be attached.
///
/// # Errors
/// [`EbsError::VolumeFailed`], [`EbsError::Unready`]; [`Kind::Interrupted`] when `cancel` is cancelled.
pub async fn await_available(
    ec2: &dyn Ec2,
    ids: &[VolumeId],
    patience: &Patience,
    cancel: &CancellationToken,
) -> Result<(), EbsError> {
    let ready = |one: &MadeVolume| match one.state {
        VolumeState::Available => Ok(true),
        VolumeState::Creating => Ok(false),
        VolumeState::Error | VolumeState::Deleted | VolumeState::InUse => {
            Err(EbsError::VolumeFailed {
                volume: one.id.clone(),
            })
        }
    };
    let wanted = "are not available";
    await_volumes(ec2, ids, wanted, AVAILABLE_WITHIN, ready, patience, cancel).await
}

/// Deletes whatever `made` was, or may have been: by the ids that are known, and by the run's tag. What a call that was not answered may have made is
/// looked for until nothing new has come for `quiet`, or the call is old. One that is attached is not touched: something may lie on it.
///
/// # Errors
/// [`EbsError`]; then something is there, or nobody knows.
pub async fn give_back(
    ec2: &dyn Ec2,
    made: &MadeVolumes,
    patience: &Patience,
    now: Timestamp,
    quiet: Duration,
) -> Result<(), EbsError> {
    let age = Duration::try_from(now.duration_since(made.planned)).unwrap_or_default();
    let quiet = match !made.volumes.is_empty() || age >= SHOWN {
        true => Duration::ZERO,
        false => quiet,
    };
    if !quiet.is_zero() {
        tracing::info!(
            "{made}: looking for what EC2 may have made, for {} at least",
            human::duration(quiet)
        );
    }
    let began = Instant::now();
    let mut last_new = began;
    let mut deleted = BTreeSet::new();
    loop {
        let mut there = patience.call(|| ec2.volumes_of(made.run)).await?;
        // What was made this moment may not be found by its tag yet.
        for one in patience.call(|| ec2.volumes(&made.volumes)).await? {
            if one.is_of(made.run) && !there.iter().any(|other| other.id == one.id) {
                there.push(one);
            }
        }
        there.retain(MadeVolume::is_there);
        for one in &there {
            if let Some(attachment) = one.attachments.first() {
                return Err(EbsError::Elsewhere {
                    volume: one.id.clone(),
                    instance: attachment.instance.clone(),
                });
            }
            match patience.call(|| ec2.delete_volume(&one.id)).await {
                Ok(_) => {
                    if deleted.insert(one.id.clone()) {
                        tracing::info!(volume = %one.id, "deleted");
                        last_new = Instant::now();
                    }
                }
                // Still being made, or being detached.
                Err(error) if error.kind == Kind::OtherState => {
                    tracing::debug!(%error, "not yet");
                }
                Err(error) => return Err(error.into()),
            }
        }
        if there.is_empty() && last_new.elapsed() >= quiet {
            return Ok(());
        }
        if !there.is_empty() && last_new.elapsed() >= SETTLES {
            return Err(EbsError::Unready {
                volumes: there.into_iter().map(|one| one.id).collect(),
                wanted: "are not gone",
                waited: began.elapsed(),
            });
        }
        let pause = match there.is_empty() {
            true => LOOK_AGAIN.min(quiet.max(FIRST_LOOK)),
            false => FIRST_LOOK,
        };
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests;
