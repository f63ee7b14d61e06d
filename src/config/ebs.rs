//! `[ebs]`: snapshots of EBS volumes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::s3::Endpoint;
use super::value::Period;
use crate::ebs::ids::{AccountId, InstanceId, Region};
use crate::retention_lock::RetentionLock;

/// `[ebs]`. Credentials are not here: they come from the standard chain (environment, profile, web identity, instance role).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EbsConfig {
    /// The instance whose volumes are pictured; absent: this one, by its metadata service.
    pub instance: Option<InstanceId>,
    /// Its region; absent: by its metadata service.
    pub region: Option<Region>,
    /// EC2's address where it is not AWS's own for that region, such as a VPC endpoint: `http(s)://host:port`.
    pub endpoint: Option<Endpoint>,
    /// The metadata service's address; absent: `http://169.254.169.254`.
    pub metadata: Option<Endpoint>,
    /// Profile of the AWS configuration files.
    pub profile: Option<String>,
    /// How long a call is tried again before it counts as failed. The call under the lock is never tried again.
    pub retry_for: Period,
    /// How long one try may take.
    pub timeout: Period,
    /// How long the snapshots may take to be complete after the lock, until the backup fails; and how long their copies, after that.
    pub complete_within: Period,
    /// The region that every snapshot is copied to before the set counts as a backup; absent: none.
    pub copy_to: Option<Region>,
    /// The KMS key, of that region, that the copies are encrypted under; absent: as EC2 does it there by itself.
    pub copy_kms_key: Option<String>,
    /// EC2's address in that region, where it is not AWS's own.
    pub copy_endpoint: Option<Endpoint>,
    /// Accounts that may make volumes of the snapshots, and of the copies.
    pub share_with: Vec<AccountId>,
    /// The lock that snapshots and copies get when they are a backup; absent: none.
    pub lock: Option<RetentionLock>,
}

impl EbsConfig {
    /// Which keys contradict each other: the key, what is wrong, and the way out.
    pub(super) fn contradiction(&self) -> Option<(&'static str, &'static str, &'static str)> {
        let rules = [
            (
                self.copy_to.is_none() && self.copy_kms_key.is_some(),
                "copy_kms_key",
                "copy_kms_key is set but no copies are made",
                "add copy_to = \"REGION\" to [ebs], or remove copy_kms_key",
            ),
            (
                self.copy_to.is_none() && self.copy_endpoint.is_some(),
                "copy_endpoint",
                "copy_endpoint is set but no copies are made",
                "add copy_to = \"REGION\" to [ebs], or remove copy_endpoint",
            ),
            (
                self.copy_to
                    .as_ref()
                    .is_some_and(|to| Some(to) == self.region.as_ref()),
                "copy_to",
                "copy_to is the region that the snapshots are in, and goes with it",
                "name another region in copy_to",
            ),
        ];
        rules
            .into_iter()
            .find(|(broken, ..)| *broken)
            .map(|(_, key, message, fix)| (key, message, fix))
    }
}

impl Default for EbsConfig {
    fn default() -> Self {
        Self {
            instance: None,
            region: None,
            endpoint: None,
            metadata: None,
            profile: None,
            retry_for: Period(Duration::from_secs(5 * 60)),
            timeout: Period(Duration::from_secs(30)),
            complete_within: Period(Duration::from_secs(24 * 3600)),
            copy_to: None,
            copy_kms_key: None,
            copy_endpoint: None,
            share_with: Vec::new(),
            lock: None,
        }
    }
}
