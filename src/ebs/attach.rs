//! Volumes become disks of this instance, and none any more.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ids::InstanceId;
use super::made::{MadeVolume, VolumeState, await_volumes};
use super::patience::Patience;
use super::set::FIRST_LOOK;
use super::{EbsError, Ec2, Kind, Place, Volume};

/// How long an attachment, or a detachment, may take.
const WITHIN: Duration = Duration::from_secs(5 * 60);
/// After so long a volume that is available can be attached, whatever EC2 said before: its answers are eventually consistent.
const KNOWN_WITHIN: Duration = Duration::from_secs(60);

/// Volumes that a run is about to attach, or attached; this is what the run journal records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachments {
    /// Where.
    pub place: Place,
    /// To which instance: this one.
    pub instance: InstanceId,
    /// The volumes, each with the name it is attached by.
    pub volumes: Vec<Volume>,
}

impl std::fmt::Display for Attachments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.volumes.iter().map(|one| one.id.as_str()).collect();
        write!(f, "attachment of {} to {}", names.join(", "), self.instance)
    }
}

/// Asks for the attachment of one volume. It may go on after the answer: see [`await_attached`].
///
/// # Errors
/// [`EbsError::Call`].
pub async fn attach(
    ec2: &dyn Ec2,
    instance: &InstanceId,
    volume: &Volume,
    patience: &Patience,
) -> Result<(), EbsError> {
    let name = &volume.attached_as;
    let began = Instant::now();
    loop {
        let asked = patience
            .call(|| ec2.attach(&volume.id, instance, name))
            .await;
        let error = match asked {
            // What was made this moment may not be known everywhere yet; a call that was not answered, and repeated, has done it.
            Err(error) if matches!(error.kind, Kind::OtherState | Kind::NotFound) => error,
            asked => return Ok(asked?),
        };
        tracing::debug!(%error, "looking whether it is attached already");
        let shown = patience
            .call(|| ec2.volumes(std::slice::from_ref(&volume.id)))
            .await?;
        if shown.iter().any(|one| is_attached(one, instance, name)) {
            return Ok(());
        }
        if began.elapsed() >= KNOWN_WITHIN {
            return Err(error.into());
        }
        tokio::time::sleep(FIRST_LOOK).await;
    }
}

fn is_attached(volume: &MadeVolume, instance: &InstanceId, name: &str) -> bool {
    let mut all = volume.attachments.iter();
    all.any(|one| one.instance == *instance && one.name == name)
}

/// Waits until EC2 says that all of `attachments` are complete.
///
/// # Errors
/// [`EbsError::Unready`], [`EbsError::VolumeFailed`]; [`Kind::Interrupted`] when `cancel` is cancelled.
pub async fn await_attached(
    ec2: &dyn Ec2,
    attachments: &Attachments,
    patience: &Patience,
    cancel: &CancellationToken,
) -> Result<(), EbsError> {
    let ids: Vec<_> = attachments
        .volumes
        .iter()
        .map(|one| one.id.clone())
        .collect();
    let ready = |one: &MadeVolume| match one.state {
        VolumeState::Error | VolumeState::Deleted => Err(EbsError::VolumeFailed {
            volume: one.id.clone(),
        }),
        _ => Ok(one
            .attachments
            .iter()
            .any(|at| at.instance == attachments.instance && at.complete)),
    };
    let wanted = "are not attached";
    await_volumes(ec2, &ids, wanted, WITHIN, ready, patience, cancel).await
}

/// Detaches all of `attachments`, and waits until they are. Nothing may lie on their disks any more.
///
/// # Errors
/// [`EbsError`]; then one is attached, or nobody knows.
pub async fn give_back(
    ec2: &dyn Ec2,
    attachments: &Attachments,
    patience: &Patience,
) -> Result<(), EbsError> {
    let instance = &attachments.instance;
    let ids: Vec<_> = attachments
        .volumes
        .iter()
        .map(|one| one.id.clone())
        .collect();
    let began = Instant::now();
    loop {
        // One that EC2 does not show was never made, or is deleted; one that is not attached is well detached.
        let shown = patience.call(|| ec2.volumes(&ids)).await?;
        let here = |one: &MadeVolume| one.attachments.iter().any(|at| at.instance == *instance);
        let attached: Vec<_> = shown.into_iter().filter(here).map(|one| one.id).collect();
        if attached.is_empty() {
            return Ok(());
        }
        for id in &attached {
            match patience.call(|| ec2.detach(id, instance)).await {
                // It is being detached already; or it is still being attached, and is asked for again.
                Err(error) if error.kind == Kind::OtherState => {
                    tracing::debug!(%error, "not yet, or already");
                }
                detached => drop(detached?),
            }
        }
        if began.elapsed() >= WITHIN {
            return Err(EbsError::Unready {
                volumes: attached,
                wanted: "are not detached",
                waited: began.elapsed(),
            });
        }
        tokio::time::sleep(FIRST_LOOK).await;
    }
}
