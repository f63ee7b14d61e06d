//! What copies are to be made, and whatever can refuse that before the first is.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::CopyError;
use crate::backup::Environment;
use crate::ebs::ids::{InstanceId, VolumeId};
use crate::ebs::made::VolumeOrder;
use crate::ebs::names::{Wish, free_names, shape};
use crate::ebs::patience::Patience;
use crate::ebs::{EbsError, Ec2, Place, SharedEc2};
use crate::ids::RunId;
use crate::manifest::snapshots::{SnapshotManifest, VolumeRecord};
use crate::verify::VerifyError;
use crate::verify::snapshots::{Unasked, verify_snapshots};

/// One volume to be made.
#[derive(Debug, Clone)]
pub struct Ordered {
    /// The volume that was pictured.
    pub of: VolumeId,
    /// The call.
    pub order: VolumeOrder,
    /// The name it will be attached by.
    pub name: String,
    /// Whether its snapshot is encrypted, and so it.
    pub encrypted: bool,
}

/// Copies to be made.
#[derive(Debug)]
pub struct Plan {
    /// EC2, connected.
    pub ec2: SharedEc2,
    /// This instance.
    pub instance: InstanceId,
    /// One for each volume.
    pub orders: Vec<Ordered>,
    retry_for: Duration,
    cancel: CancellationToken,
}

impl Plan {
    /// How long calls are tried again.
    pub fn patience(&self) -> Patience {
        Patience::new(self.retry_for, self.cancel.clone())
    }
}

/// Sees to it that snapshots in `set` can become volumes of an instance in `here`.
///
/// # Errors
/// [`EbsError::OtherRegion`], [`EbsError::OtherPlace`].
fn same_place(set: &Place, here: &Place) -> Result<(), EbsError> {
    if set.region != here.region {
        return Err(EbsError::OtherRegion {
            set: set.region.clone(),
            here: here.region.clone(),
        });
    }
    match set == here {
        true => Ok(()),
        false => Err(EbsError::OtherPlace {
            written: set.clone(),
            found: here.clone(),
        }),
    }
}

/// What copies of the volumes `wanted` of `manifest` are to be made by `run`.
///
/// # Errors
/// [`CopyError`]; nothing was made.
pub async fn plan(
    manifest: &SnapshotManifest,
    wanted: &BTreeSet<VolumeId>,
    wish: &Wish,
    run: RunId,
    env: &Environment,
) -> Result<Plan, CopyError> {
    let set = &manifest.snapshots;
    let records: Vec<&VolumeRecord> = set
        .volumes
        .iter()
        .filter(|one| wanted.contains(&one.volume.id))
        .collect();
    // Nobody has to be asked for this.
    let shapes: Vec<_> = records
        .iter()
        .map(|one| shape(&one.volume, wish, &one.snapshot))
        .collect::<Result<_, _>>()?;
    let access = &env.tools.ebs;
    let (id, ec2) = (access.instance().await?, access.open().await?);
    same_place(&set.place, &ec2.place())?;
    let retry_for = access.settings().retry_for.0;
    let patience = Patience::new(retry_for, env.cancel.clone());
    let instance = patience.call(|| ec2.instance(&id)).await;
    let instance = instance.map_err(EbsError::from)?;
    let zone = instance.zone.ok_or_else(|| EbsError::NoZone {
        instance: id.clone(),
    })?;
    refuse_damaged(manifest, &records, ec2.as_ref(), &patience).await?;
    let attached = patience.call(|| ec2.attached(&id)).await;
    let attached = attached.map_err(EbsError::from)?;
    let names = free_names(
        records.iter().map(|one| one.volume.attached_as.as_str()),
        attached.iter().map(|one| one.attached_as.as_str()),
    )?;
    let orders = records.iter().zip(shapes).zip(names);
    let orders = orders.map(|((record, shape), name)| Ordered {
        of: record.volume.id.clone(),
        order: VolumeOrder::new(manifest.id, run, &record.snapshot, &zone, shape),
        name,
        encrypted: record.volume.encrypted,
    });
    Ok(Plan {
        orders: orders.collect(),
        ec2,
        instance: id,
        retry_for,
        cancel: env.cancel.clone(),
    })
}

/// Whether every snapshot that is needed is there, and complete.
async fn refuse_damaged(
    manifest: &SnapshotManifest,
    records: &[&VolumeRecord],
    ec2: &dyn Ec2,
    patience: &Patience,
) -> Result<(), CopyError> {
    let verified = verify_snapshots(manifest, ec2, patience).await;
    let mut report = verified.map_err(|Unasked(error)| error)?;
    let needed: BTreeSet<_> = records.iter().map(|one| one.snapshot.to_string()).collect();
    report.findings.retain(|one| needed.contains(&one.object));
    match report.into_result() {
        Ok(_) => Ok(()),
        Err(error @ VerifyError::Damaged { .. }) => Err(error.into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Exit, Explain};

    #[test]
    fn a_set_of_another_region_is_refused_with_the_way_out() {
        let place = |region: &str, endpoint: Option<&str>| Place {
            region: region.into(),
            endpoint: endpoint.map(str::to_owned),
        };
        let here = place("eu-central-1", None);
        assert!(same_place(&here, &here).is_ok());
        let error = same_place(&place("us-east-1", None), &here).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused);
        let hint = error.hint().unwrap();
        assert!(
            hint.contains("us-east-1") && hint.contains("copy-snapshot"),
            "{hint}"
        );
        let other = place("eu-central-1", Some("http://127.0.0.1:1"));
        assert!(matches!(
            same_place(&other, &here),
            Err(EbsError::OtherPlace { .. })
        ));
    }
}
