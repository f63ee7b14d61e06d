//! `[ebs]`: snapshots of EBS volumes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::s3::Endpoint;
use super::value::Period;
use crate::ebs::ids::InstanceId;

/// `[ebs]`. Credentials are not here: they come from the standard chain (environment, profile, web identity, instance role).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EbsConfig {
    /// The instance whose volumes are pictured; absent: this one, by its metadata service.
    pub instance: Option<InstanceId>,
    /// Its region; absent: by its metadata service.
    pub region: Option<String>,
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
    /// How long the snapshots may take to be complete after the lock, until the backup fails.
    pub complete_within: Period,
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
        }
    }
}
