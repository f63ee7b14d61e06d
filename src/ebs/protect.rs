//! What a set is given so that it outlives more than its own account and somebody who deletes: shares and locks.

use std::collections::BTreeSet;
use std::fmt;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::ids::{AccountId, SnapshotId};
use super::patience::Patience;
use super::{EbsError, Ec2};

/// Most days of a lock (EC2 API reference, `LockSnapshot`): a hundred years.
const MOST_DAYS: u32 = 36_500;

/// How a snapshot is locked, or an object in S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Who may undo it.
    pub mode: LockMode,
    /// For how long, from the moment on in which it is locked.
    pub days: LockDays,
}

impl Lock {
    /// For how long.
    pub fn length(self) -> SignedDuration {
        SignedDuration::from_hours(i64::from(self.days.0) * 24)
    }

    /// One by the same permission that does the least harm where a server passes over `DryRun`.
    pub fn at_its_least(self) -> Self {
        Self {
            mode: LockMode::Governance,
            days: LockDays(1),
        }
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode: &str = self.mode.into();
        match self.days.0 {
            1 => write!(f, "{mode}, 1 day"),
            days => write!(f, "{mode}, {days} days"),
        }
    }
}

/// Who may undo a lock, by the names of EC2 and S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum LockMode {
    /// Whoever has the permission `ec2:UnlockSnapshot`, or `s3:BypassGovernanceRetention`.
    Governance,
    /// Nobody, from the first moment on: no time to think better of it is asked for.
    Compliance,
}

/// The length of a lock in days, 1 to 36500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct LockDays(u32);

impl TryFrom<u32> for LockDays {
    type Error = String;

    fn try_from(days: u32) -> Result<Self, String> {
        match days {
            1..=MOST_DAYS => Ok(Self(days)),
            _ => Err(format!(
                "{days} is no number of days for a lock; write one from 1 to {MOST_DAYS}"
            )),
        }
    }
}

impl From<LockDays> for u32 {
    fn from(days: LockDays) -> Self {
        days.0
    }
}

/// Lets `accounts` make volumes of all of `ids`.
///
/// # Errors
/// The first failure; the others were tried all the same.
pub async fn share_all(
    ec2: &dyn Ec2,
    ids: &[SnapshotId],
    accounts: &[AccountId],
    patience: &Patience,
) -> Result<(), EbsError> {
    let mut shared = Ok(());
    for id in ids {
        let one = patience.call(|| ec2.share(id, accounts)).await;
        shared = shared.and(one);
    }
    Ok(shared?)
}

/// Locks those of `ids` that are not locked yet: a repetition must not make a lock longer.
///
/// # Errors
/// The first failure; the others were tried all the same.
pub async fn lock_all(
    ec2: &dyn Ec2,
    ids: &[SnapshotId],
    lock: Lock,
    patience: &Patience,
) -> Result<(), EbsError> {
    let wanted = unlocked(ec2, ids, patience).await?;
    let mut locked = Ok(());
    for id in &wanted {
        let one = patience.call(|| ec2.lock(id, lock)).await;
        locked = locked.and(one);
    }
    Ok(locked?)
}

/// Those of `ids` on which there is no lock, or none any more.
///
/// # Errors
/// [`EbsError::Call`].
pub async fn unlocked(
    ec2: &dyn Ec2,
    ids: &[SnapshotId],
    patience: &Patience,
) -> Result<BTreeSet<SnapshotId>, EbsError> {
    let locked = patience.call(|| ec2.locked(ids)).await?;
    let open = ids.iter().filter(|id| !locked.contains(*id));
    Ok(open.cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_written_as_ec2_names_it_and_never_of_no_time() {
        let lock: Lock = serde_json::from_str(r#"{"mode":"compliance","days":30}"#).unwrap();
        assert_eq!(lock.to_string(), "compliance, 30 days");
        assert_eq!(
            serde_json::to_string(&lock).unwrap(),
            r#"{"mode":"compliance","days":30}"#
        );
        for wrong in [
            r#"{"mode":"governance","days":0}"#,
            r#"{"mode":"governance","days":36501}"#,
            r#"{"mode":"governance"}"#,
            r#"{"mode":"forever","days":1}"#,
        ] {
            assert!(serde_json::from_str::<Lock>(wrong).is_err(), "{wrong}");
        }
    }
}
