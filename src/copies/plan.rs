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
use crate::ids::{BackupId, RunId};
use crate::manifest::snapshots::{Located, SnapshotManifest, SnapshotSet, VolumeRecord};
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

/// Those snapshots of a set, or copies of them, that can become volumes of an instance in `here`.
///
/// # Errors
/// [`EbsError::OtherRegion`], [`EbsError::OtherPlace`].
fn located(set: &SnapshotSet, here: &Place) -> Result<Located, EbsError> {
    let all = set.located();
    let regions: Vec<_> = all.iter().map(|one| one.place.region.clone()).collect();
    let Some(found) = all.into_iter().find(|one| one.place.region == here.region) else {
        return Err(EbsError::OtherRegion {
            set: regions.join(" and "),
            here: here.region.clone(),
        });
    };
    match found.place == *here {
        true => Ok(found),
        false => Err(EbsError::OtherPlace {
            written: found.place,
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
    let access = &env.tools.ebs;
    let (id, ec2) = (access.instance().await?, access.open().await?);
    let located = located(&manifest.snapshots, &ec2.place())?;
    if located.copied {
        tracing::info!(place = %located.place, "this instance is where the copies are, and they are taken");
    }
    let records: Vec<&VolumeRecord> = located
        .volumes
        .iter()
        .filter(|one| wanted.contains(&one.volume.id))
        .collect();
    let shapes: Vec<_> = records
        .iter()
        .map(|one| shape(&one.volume, wish, &one.snapshot))
        .collect::<Result<_, _>>()?;
    let retry_for = access.settings().retry_for.0;
    let patience = Patience::new(retry_for, env.cancel.clone());
    let instance = patience.call(|| ec2.instance(&id)).await;
    let instance = instance.map_err(EbsError::from)?;
    let zone = instance.zone.ok_or_else(|| EbsError::NoZone {
        instance: id.clone(),
    })?;
    refuse_damaged(manifest.id, &located, &records, ec2.as_ref(), &patience).await?;
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
    id: BackupId,
    located: &Located,
    records: &[&VolumeRecord],
    ec2: &dyn Ec2,
    patience: &Patience,
) -> Result<(), CopyError> {
    let verified = verify_snapshots(id, located, ec2, patience).await;
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
    use crate::manifest::snapshots::sample::{protected, snapshots};

    #[test]
    fn a_set_of_another_region_is_refused_with_the_way_out() {
        let place = |region: &str, endpoint: Option<&str>| Place {
            region: region.into(),
            endpoint: endpoint.map(str::to_owned),
        };
        let (set, copied) = (snapshots().snapshots, protected().snapshots);
        let here = place("eu-central-1", None);
        assert!(!located(&set, &here).unwrap().copied);
        assert!(!located(&copied, &here).unwrap().copied);
        // Where the copies are they are as good.
        let there = place("eu-west-1", None);
        let found = located(&copied, &there).unwrap();
        assert!(found.copied && found.ids()[0].as_str().starts_with("snap-c"));
        let error = located(&set, &there).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused);
        let hint = error.hint().unwrap();
        assert!(
            hint.contains("eu-central-1") && hint.contains("copy-snapshot"),
            "{hint}"
        );
        let error = located(&copied, &place("us-east-1", None)).unwrap_err();
        assert!(
            error.to_string().contains("eu-central-1 and eu-west-1"),
            "{error}"
        );
        let other = place("eu-central-1", Some("http://127.0.0.1:1"));
        assert!(matches!(
            located(&set, &other),
            Err(EbsError::OtherPlace { .. })
        ));
    }
}
