//! A lock that keeps what is stored from being deleted: of EBS snapshots (`[ebs] lock`) and of objects in S3 (`[s3] lock`).

use std::fmt;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// Most days of a lock (EC2 API reference, `LockSnapshot`): a hundred years.
const MOST_DAYS: u32 = 36_500;

/// How a snapshot is locked, or an object in S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionLock {
    /// Who may undo it.
    pub mode: LockMode,
    /// For how long, from the moment on in which it is locked.
    pub days: LockDays,
}

impl RetentionLock {
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

impl fmt::Display for RetentionLock {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_written_as_ec2_names_it_and_never_of_no_time() {
        let lock: RetentionLock =
            serde_json::from_str(r#"{"mode":"compliance","days":30}"#).unwrap();
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
            assert!(
                serde_json::from_str::<RetentionLock>(wrong).is_err(),
                "{wrong}"
            );
        }
    }
}
