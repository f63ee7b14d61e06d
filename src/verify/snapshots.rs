//! Whether the snapshots of a set are there. No byte of them is read: that would take volumes made of them.

use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;

use super::{Finding, VerifyError};
use crate::catalog::verification::{Outcome, Verification, VerificationKind};
use crate::ebs::connect::Access;
use crate::ebs::patience::Patience;
use crate::ebs::protect;
use crate::ebs::{EbsError, Ec2, Snapshot, State};
use crate::error::{Exit, Explain};
use crate::ids::BackupId;
use crate::manifest::FORMAT_FIRST;
use crate::manifest::snapshots::{
    Copies, CopyOutcome, Located, LockRecord, Shared, SnapshotManifest, SnapshotSet,
};
use crate::retention_lock::RetentionLock;

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
    /// Whether EC2 shows any of them.
    #[serde(skip)]
    pub any_shown: bool,
    /// What was to protect the set and does not: copies, shares and locks that lack. It is restored without them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unprotected: Vec<Finding>,
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
    /// The record to be kept beside the set. There is none where EC2 shows no snapshot of it at all: more likely than that all are gone is that we look in
    /// another account.
    pub fn record(&self, at: Timestamp, host: &str, seconds: u64) -> Option<Verification> {
        if !self.any_shown {
            return None;
        }
        Some(Verification {
            format: FORMAT_FIRST,
            id: self.id,
            kind: VerificationKind::Shown,
            outcome: match self.findings.is_empty() {
                true => Outcome::Passed,
                false => Outcome::Damaged,
            },
            at,
            tool: env!("CARGO_PKG_VERSION").into(),
            host: host.to_owned(),
            bytes: 0,
            seconds,
            findings: self.findings.iter().map(ToString::to_string).collect(),
            details: serde_json::json!({"snapshots": self.snapshots}),
        })
    }

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

/// Asks EC2 for every snapshot of the set `id` that is in one place.
///
/// # Errors
/// [`Unasked`] where EC2 does not answer; what it answers is in the report.
pub async fn verify_snapshots(
    id: BackupId,
    located: &Located,
    ec2: &dyn Ec2,
    patience: &Patience,
) -> Result<SnapshotReport, Unasked> {
    let ids = located.ids();
    let shown = patience.call(|| ec2.snapshots(&ids)).await;
    let shown = shown.map_err(EbsError::from)?;
    Ok(SnapshotReport {
        id,
        findings: compare(located, &shown),
        snapshots: ids.len() as u64,
        bytes: 0,
        any_shown: !shown.is_empty(),
        unprotected: Vec::new(),
    })
}

/// Whether what was to protect a set is there, as of `now`. What cannot be asked is told like what is not there: nobody knows.
pub async fn unprotected(
    manifest: &SnapshotManifest,
    access: &Access,
    patience: &Patience,
    now: Timestamp,
) -> Vec<Finding> {
    let set = &manifest.snapshots;
    let mut findings = recorded(set);
    let lock = manifest.lock_at(now);
    for located in set.located() {
        // Those that were taken are looked at as the backup that they are.
        if !located.copied && lock.is_none() {
            continue;
        }
        let asked = look(manifest.id, &located, lock, access, patience).await;
        findings.extend(asked.unwrap_or_else(|error| {
            vec![Finding {
                object: located.place.to_string(),
                problem: format!("copies and locks there cannot be asked for: {error}"),
            }]
        }));
    }
    findings
}

/// What the manifest itself says that there is not.
fn recorded(set: &SnapshotSet) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(Copies {
        place,
        outcome: CopyOutcome::Missing(reason),
    }) = &set.copies
    {
        findings.push(Finding {
            object: format!("copies in {place}"),
            problem: format!("there are none: {reason}"),
        });
    }
    if let Some(Shared {
        with,
        failed: Some(reason),
    }) = &set.shared
    {
        let with: Vec<_> = with.iter().map(ToString::to_string).collect();
        findings.push(Finding {
            object: format!("shares with {}", with.join(", ")),
            problem: format!("not every snapshot is shared: {reason}"),
        });
    }
    findings
}

async fn look(
    id: BackupId,
    located: &Located,
    lock: Option<LockRecord>,
    access: &Access,
    patience: &Patience,
) -> Result<Vec<Finding>, EbsError> {
    let ec2 = access.open_located(located).await?;
    let mut findings = Vec::new();
    if located.copied {
        let report = verify_snapshots(id, located, ec2.as_ref(), patience).await;
        findings = report.map_err(|Unasked(error)| error)?.findings;
    }
    if let Some(lock) = lock {
        let open = protect::unlocked(ec2.as_ref(), &located.ids(), patience).await?;
        findings.extend(open.into_iter().map(|snapshot| Finding {
            object: snapshot.to_string(),
            problem: format!(
                "it is not locked, and was to be ({})",
                RetentionLock::from(lock)
            ),
        }));
    }
    Ok(findings)
}

fn compare(located: &Located, shown: &[Snapshot]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for one in &located.volumes {
        let problem = match shown.iter().find(|shown| shown.id == one.snapshot) {
            None => Some(
                "EC2 does not show it: it was deleted, or we look in another account".to_owned(),
            ),
            // Of a copy EC2 names some volume that there is not.
            Some(shown) if !located.copied && shown.volume != one.volume.id => Some(format!(
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
    use crate::manifest::snapshots::sample::{protected, snapshots};

    #[test]
    fn what_is_missing_unfinished_or_of_something_else_is_damage() {
        let located = snapshots().snapshots.taken();
        let shown: Vec<_> = located
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
        assert_eq!(compare(&located, &shown), []);
        assert_eq!(compare(&located, &[]).len(), 3);
        let changes: [fn(&mut Snapshot); 4] = [
            |one| one.state = State::Error,
            |one| one.state = State::Pending,
            |one| one.bytes += 1 << 30,
            |one| one.volume = "vol-00000009".parse().unwrap(),
        ];
        for change in changes {
            let mut other = shown.clone();
            change(&mut other[1]);
            let findings = compare(&located, &other);
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert_eq!(findings[0].object, shown[1].id.to_string());
        }
        let copied = Located {
            copied: true,
            ..located.clone()
        };
        let mut other = shown.clone();
        other[1].volume = "vol-ffffffff".parse().unwrap();
        assert_eq!(compare(&copied, &other), []);
        assert_eq!(compare(&copied, &other[1..]).len(), 1);
    }

    #[test]
    fn what_the_manifest_says_that_there_is_not_is_told() {
        assert_eq!(recorded(&protected().snapshots), []);
        let mut set = protected().snapshots;
        set.copies.as_mut().unwrap().outcome = CopyOutcome::Missing("denied".into());
        set.shared.as_mut().unwrap().failed = Some("default key".into());
        let told: Vec<_> = recorded(&set).iter().map(ToString::to_string).collect();
        assert!(
            told[0].contains("eu-west-1") && told[0].contains("denied"),
            "{told:?}"
        );
        assert!(
            told[1].contains("123456789012") && told[1].contains("default key"),
            "{told:?}"
        );
    }
}
