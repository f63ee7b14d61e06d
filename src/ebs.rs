//! Amazon EBS: every volume of an instance pictured by one call.
//!
//! The design, with what was found of AWS's documentation, is `doc/ebs.md`. What calls EC2 is behind the trait [`Ec2`]; the SDK is known to
//! `client` alone, which the cargo feature `ebs` brings in. [`devices`] and [`order`] decide and call nobody.

pub mod attach;
#[cfg(feature = "ebs")]
mod client;
pub mod connect;
pub mod copied;
pub mod devices;
pub mod disks;
mod error;
#[cfg(test)]
pub(crate) mod fake;
pub mod ids;
pub mod made;
pub mod metadata;
pub mod names;
pub mod order;
pub mod patience;
pub mod protect;
pub mod set;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::ids::{BackupId, RunId};
use crate::retention_lock::RetentionLock;
use copied::CopyOrder;
pub use error::{CallFailed, EbsError, Kind};
use ids::{AccountId, InstanceId, SnapshotId, VolumeId};
use made::{MadeVolume, VolumeOrder};
use order::Order;

/// Tag on every snapshot and volume this program makes; its value is the backup set's name.
pub const TAG: &str = "freezeframe";
/// Tag that names the run, by which what was made is found again where its making was not answered.
pub const RUN_TAG: &str = "freezeframe-run";

/// The calls that are made, each by the name it has in EC2's API.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, strum::EnumIter, strum::IntoStaticStr,
)]
pub enum Call {
    /// What the instance's boot volume and zone are.
    DescribeInstances,
    /// Which volumes are attached, how far those are that are made, and which a run made.
    DescribeVolumes,
    /// The one call under the lock, and its rehearsal (`DryRun`) before.
    CreateSnapshots,
    /// How far snapshots are, and which a run made.
    DescribeSnapshots,
    /// A snapshot's place, for people.
    CreateTags,
    /// Giving a set back that is no backup.
    DeleteSnapshot,
    /// A copy of a snapshot in another region.
    CopySnapshot,
    /// Other accounts may make volumes of a snapshot.
    ModifySnapshotAttribute,
    /// Nobody may delete a snapshot for a while.
    LockSnapshot,
    /// Which snapshots are locked.
    DescribeLockedSnapshots,
    /// A copy of a volume, made of a snapshot.
    CreateVolume,
    /// It becomes a disk of this instance.
    AttachVolume,
    /// And is none any more.
    DetachVolume,
    /// Giving it back.
    DeleteVolume,
}

impl Call {
    /// The permission in IAM, which for all of these is named as the call is.
    pub fn permission(self) -> String {
        format!("ec2:{self}")
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.into())
    }
}

/// An instance, as far as its snapshots need to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// The name its boot volume is attached by, such as `/dev/xvda`; none where it boots from no volume.
    pub root_device: Option<String>,
    /// Availability zone, such as `eu-central-1a`.
    pub zone: Option<String>,
}

/// A volume attached to the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its id.
    pub id: VolumeId,
    /// The name it is attached by, such as `/dev/sdf`: what the operator said when attaching it, not what the kernel calls it.
    pub attached_as: String,
    /// Size in bytes, a multiple of a GiB.
    pub bytes: u64,
    /// Type, such as `gp3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_type: Option<String>,
    /// Provisioned operations a second, where its type has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iops: Option<u32>,
    /// Provisioned MiB a second, where its type has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<u32>,
    /// Whether it is encrypted, and so its snapshots.
    #[serde(default)]
    pub encrypted: bool,
}

/// How far a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its blocks are on their way; what it shows is fixed already.
    Pending,
    /// All of it is there.
    Completed,
    /// It will never be.
    Error,
    /// Something else, such as being brought back out of an archive.
    Other,
}

/// A snapshot as EC2 tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// What it is a picture of.
    pub volume: VolumeId,
    /// Size of the volume in bytes when the picture was taken.
    pub bytes: u64,
    /// How far it is.
    pub state: State,
    /// What EC2 says of the state, where it does; of an error the cause.
    pub reason: Option<String>,
    /// The share of it that is there, 0 to 100.
    pub percent: u8,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl Snapshot {
    /// Whether this program made it, in the run `run`.
    pub fn is_of(&self, run: RunId) -> bool {
        self.tags.contains_key(TAG) && self.tags.get(RUN_TAG) == Some(&run.to_string())
    }

    /// Whether it was made in the run `run` for the backup `set`, by its own tags.
    pub fn is_of_set(&self, set: BackupId, run: RunId) -> bool {
        self.is_of(run) && self.tags.get(TAG) == Some(&set.to_string())
    }
}

/// A call that is asked about, and not done.
#[derive(Debug, Clone, Copy)]
pub enum Rehearsal<'a> {
    /// The snapshots of a set.
    Create(&'a Order),
    /// A volume of a snapshot.
    Volume(&'a VolumeOrder),
    /// A copy, in the region that is asked.
    Copy(&'a CopyOrder),
    /// A share.
    Share(&'a SnapshotId, &'a [AccountId]),
    /// A lock.
    Lock(&'a SnapshotId, RetentionLock),
}

impl Rehearsal<'_> {
    /// Of which call.
    pub fn call(&self) -> Call {
        match self {
            Self::Create(_) => Call::CreateSnapshots,
            Self::Volume(_) => Call::CreateVolume,
            Self::Copy(_) => Call::CopySnapshot,
            Self::Share(..) => Call::ModifySnapshotAttribute,
            Self::Lock(..) => Call::LockSnapshot,
        }
    }
}

/// EC2, as far as it is needed. Each method is one attempt; [`patience::Patience`] tries again where that may help.
#[async_trait]
pub trait Ec2: fmt::Debug + Send + Sync {
    /// The region or endpoint, as the run journal records it.
    fn place(&self) -> Place;

    /// The instance `id`.
    async fn instance(&self, id: &InstanceId) -> Result<Instance, CallFailed>;

    /// The volumes attached to it.
    async fn attached(&self, id: &InstanceId) -> Result<Vec<Volume>, CallFailed>;

    /// Whether a call would be allowed: a `DryRun`.
    async fn may(&self, rehearsal: &Rehearsal<'_>) -> Result<(), CallFailed>;

    /// Does what `order` says. Never to be tried again: see [`CallFailed::nothing_was_made`].
    async fn create(&self, order: &Order) -> Result<Vec<Snapshot>, CallFailed>;

    /// Those of `ids` that EC2 shows.
    async fn snapshots(&self, ids: &[SnapshotId]) -> Result<Vec<Snapshot>, CallFailed>;

    /// Those that `run` made, as far as EC2 shows them yet.
    async fn made_by(&self, run: RunId) -> Result<Vec<Snapshot>, CallFailed>;

    /// Those that any run made.
    async fn tagged(&self) -> Result<Vec<Snapshot>, CallFailed>;

    /// Adds a tag.
    async fn tag(&self, snapshot: &SnapshotId, key: &str, value: &str) -> Result<(), CallFailed>;

    /// Deletes one. False where EC2 shows none, which it may not do yet.
    async fn delete(&self, snapshot: &SnapshotId) -> Result<bool, CallFailed>;

    /// Copies one of another region to the region of this EC2. What a call that was not answered may have made has to be looked for.
    async fn copy(&self, order: &CopyOrder) -> Result<SnapshotId, CallFailed>;

    /// Lets accounts make volumes of a snapshot.
    async fn share(&self, snapshot: &SnapshotId, with: &[AccountId]) -> Result<(), CallFailed>;

    /// Locks one, from now on.
    async fn lock(&self, snapshot: &SnapshotId, lock: RetentionLock) -> Result<(), CallFailed>;

    /// Those of `ids` that are locked at this moment.
    async fn locked(&self, ids: &[SnapshotId]) -> Result<BTreeSet<SnapshotId>, CallFailed>;

    /// Makes a volume of a snapshot. With the same token EC2 makes one, however often it is asked.
    async fn create_volume(&self, order: &VolumeOrder) -> Result<MadeVolume, CallFailed>;

    /// Those of `ids` that EC2 shows.
    async fn volumes(&self, ids: &[VolumeId]) -> Result<Vec<MadeVolume>, CallFailed>;

    /// Those that `run` made, as far as EC2 shows them yet.
    async fn volumes_of(&self, run: RunId) -> Result<Vec<MadeVolume>, CallFailed>;

    /// Those that any run made.
    async fn tagged_volumes(&self) -> Result<Vec<MadeVolume>, CallFailed>;

    /// Attaches one by the name `name`, such as `/dev/sdf`.
    async fn attach(
        &self,
        volume: &VolumeId,
        instance: &InstanceId,
        name: &str,
    ) -> Result<(), CallFailed>;

    /// Detaches one. False where it is not attached.
    async fn detach(&self, volume: &VolumeId, instance: &InstanceId) -> Result<bool, CallFailed>;

    /// Deletes one. False where EC2 shows none.
    async fn delete_volume(&self, volume: &VolumeId) -> Result<bool, CallFailed>;
}

/// EC2, shared.
pub type SharedEc2 = Arc<dyn Ec2>;

/// Where snapshots are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Region, such as `eu-central-1`.
    pub region: String,
    /// The server, where it is not AWS's own of that region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            None => f.write_str(&self.region),
            Some(endpoint) => write!(f, "{} at {endpoint}", self.region),
        }
    }
}
