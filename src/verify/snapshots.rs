//! Whether the snapshots of a set are there. No byte of them is read: that would take volumes made of them.

use serde::Serialize;
use thiserror::Error;

use super::{Finding, VerifyError};
use crate::ebs::patience::Patience;
use crate::ebs::{EbsError, Ec2, Snapshot, State};
use crate::error::{Exit, Explain};
use crate::ids::BackupId;
use crate::manifest::snapshots::SnapshotManifest;

/// What EC2 said of a set of snapshots. Its JSON form is what `verify --json` prints, and stays stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotReport {
    /// The set.
    pub id: BackupId,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// Snapshots that the manifest names.
    pub snapshots: u64,
    /// Bytes of them that were read: none.
    pub bytes: u64,
}

/// EC2 could not be asked, so there is no verdict.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct Unasked(#[from] pub EbsError);

impl Explain for Unasked {
    fn hint(&self) -> Option<String> {
        self.0.hint()
    }

    fn exit(&self) -> Exit {
        match self.0.exit() {
            exit @ (Exit::Refused | Exit::Interrupted) => exit,
            // EC2 is to such a set what the store is to archives.
            _ => Exit::Store,
        }
    }
}

impl SnapshotReport {
    /// The report as a result: damage is an error.
    ///
    /// # Errors
    /// [`VerifyError::Damaged`].
    pub fn into_result(self) -> Result<Self, VerifyError> {
        match self.findings.is_empty() {
            true => Ok(self),
            false => Err(VerifyError::Damaged {
                id: self.id,
                findings: self.findings,
            }),
        }
    }
}

/// Asks EC2 for every snapshot that `manifest` names.
///
/// # Errors
/// [`Unasked`] where EC2 does not answer; what it answers is in the report.
pub async fn verify_snapshots(
    manifest: &SnapshotManifest,
    ec2: &dyn Ec2,
    patience: &Patience,
) -> Result<SnapshotReport, Unasked> {
    let volumes = &manifest.snapshots.volumes;
    let ids: Vec<_> = volumes.iter().map(|one| one.snapshot.clone()).collect();
    let shown = patience.call(|| ec2.snapshots(&ids)).await;
    let shown = shown.map_err(EbsError::from)?;
    Ok(SnapshotReport {
        id: manifest.id,
        findings: compare(manifest, &shown),
        snapshots: volumes.len() as u64,
        bytes: 0,
    })
}

fn compare(manifest: &SnapshotManifest, shown: &[Snapshot]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for one in &manifest.snapshots.volumes {
        let problem = match shown.iter().find(|shown| shown.id == one.snapshot) {
            None => Some(
                "EC2 does not show it: it was deleted, or we look in another account".to_owned(),
            ),
            Some(shown) if shown.volume != one.volume.id => Some(format!(
                "it is of {}, and not of {}",
                shown.volume, one.volume.id
            )),
            Some(shown) if shown.bytes != one.volume.bytes => Some(format!(
                "it has {} bytes, the manifest says {}",
                shown.bytes, one.volume.bytes
            )),
            Some(shown) if shown.state != State::Completed => {
                Some(format!("it is not complete ({:?})", shown.state).to_lowercase())
            }
            Some(_) => None,
        };
        findings.extend(problem.map(|problem| Finding {
            object: one.snapshot.to_string(),
            problem,
        }));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::manifest::snapshots::sample::snapshots;

    #[test]
    fn what_is_missing_unfinished_or_of_something_else_is_damage() {
        let manifest = snapshots();
        let shown: Vec<_> = manifest
            .snapshots
            .volumes
            .iter()
            .map(|one| Snapshot {
                id: one.snapshot.clone(),
                volume: one.volume.id.clone(),
                bytes: one.volume.bytes,
                state: State::Completed,
                reason: None,
                percent: 100,
                tags: BTreeMap::new(),
            })
            .collect();
        assert_eq!(compare(&manifest, &shown), []);
        assert_eq!(compare(&manifest, &[]).len(), 3);
        let changes: [fn(&mut Snapshot); 4] = [
            |one| one.state = State::Error,
            |one| one.state = State::Pending,
            |one| one.bytes += 1 << 30,
            |one| one.volume = "vol-00000009".parse().unwrap(),
        ];
        for change in changes {
            let mut other = shown.clone();
            change(&mut other[1]);
            let findings = compare(&manifest, &other);
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert_eq!(findings[0].object, shown[1].id.to_string());
        }
    }
}
