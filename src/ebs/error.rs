//! What can go wrong with EC2, and what an operator makes of it.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use super::devices::DeviceError;
use super::ids::{InstanceId, SnapshotId, VolumeId};
use super::metadata::MetadataError;
use super::{Call, Place};
use crate::error::{Exit, Explain};
use crate::human;

/// What a failed call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No answer, or one that says nothing of the request: it may have been carried out.
    Unanswered,
    /// Too many requests at this moment; EC2 did nothing.
    Throttled,
    /// A quota, or a second snapshot of the same volume too soon; EC2 did nothing.
    Limit,
    /// We may not.
    Denied,
    /// There is no such thing, or EC2 does not show it yet.
    NotFound,
    /// It is not in the state for that, or not yet.
    OtherState,
    /// The server's certificate is not to be trusted.
    Untrusted,
    /// Anything else that EC2 refuses.
    Refused,
    /// We were asked to end.
    Interrupted,
}

impl Kind {
    /// What a status and EC2's error code mean (EC2 API reference, "Error codes for the Amazon EC2 API").
    pub fn of(status: u16, code: &str) -> Self {
        match code {
            "RequestLimitExceeded"
            | "Throttling"
            | "ThrottlingException"
            | "RequestThrottled"
            | "EC2ThrottledException"
            | "SlowDown"
            | "TooManyRequestsException" => Kind::Throttled,
            "SnapshotCreationPerVolumeRateExceeded"
            | "ConcurrentSnapshotLimitExceeded"
            | "SnapshotLimitExceeded"
            | "ResourceLimitExceeded"
            | "PendingSnapshotLimitExceeded"
            | "VolumeLimitExceeded"
            | "MaxIOPSLimitExceeded"
            | "AttachmentLimitExceeded" => Kind::Limit,
            "IncorrectState" | "VolumeInUse" => Kind::OtherState,
            "UnauthorizedOperation"
            | "AuthFailure"
            | "AccessDenied"
            | "AccessDeniedException"
            | "InvalidClientTokenId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "RequestExpired"
            | "UnrecognizedClientException"
            | "OptInRequired"
            | "Blocked"
            | "PendingVerification" => Kind::Denied,
            code if code.ends_with(".NotFound") => Kind::NotFound,
            "InternalError" | "InternalFailure" | "ServiceUnavailable" | "Unavailable" => {
                Kind::Unanswered
            }
            _ => match status {
                429 => Kind::Throttled,
                401 | 403 => Kind::Denied,
                408 => Kind::Unanswered,
                400..=499 => Kind::Refused,
                // Also a success whose words are not understood: it was carried out.
                _ => Kind::Unanswered,
            },
        }
    }
}

/// A failed call, in words that hold no secret.
#[derive(Debug, Clone, Error)]
#[error("{call} {}: {detail}{}", said(*.kind), tried(*.tried_for))]
pub struct CallFailed {
    /// Which.
    pub call: Call,
    /// What it means.
    pub kind: Kind,
    /// What EC2 said, or why it said nothing.
    pub detail: String,
    /// How long it was tried.
    pub tried_for: Duration,
}

impl CallFailed {
    /// A call that failed at its first try.
    pub fn new(call: Call, kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            call,
            kind,
            detail: detail.into(),
            tried_for: Duration::ZERO,
        }
    }

    /// Whether EC2 has surely not done what it was asked.
    pub fn nothing_was_made(&self) -> bool {
        !matches!(self.kind, Kind::Unanswered | Kind::Interrupted)
    }
}

fn said(kind: Kind) -> &'static str {
    match kind {
        Kind::Unanswered => "was not answered",
        Kind::Throttled => "was throttled by EC2",
        Kind::Limit => "is beyond a limit of the account",
        Kind::Denied => "is not allowed",
        Kind::NotFound => "found nothing",
        Kind::OtherState => "is not possible in the state it is in",
        Kind::Untrusted => "was not sent, the server is not to be trusted",
        Kind::Refused => "was refused by EC2",
        Kind::Interrupted => "was given up",
    }
}

fn tried(time: Duration) -> String {
    match time.as_secs() {
        0 => String::new(),
        _ => format!(" (tried for {})", human::duration(time)),
    }
}

impl Explain for CallFailed {
    fn hint(&self) -> Option<String> {
        let call = self.call;
        match self.kind {
            Kind::Denied => Some(format!(
                "see that the role of the instance has {} as in packaging/ebs-policy.json, that its credentials are valid, and that the \
                 host's clock is right",
                call.permission()
            )),
            Kind::Throttled => Some(
                "something in this account asks EC2 very often; try again, and if it happens daily ask AWS for a higher rate"
                    .into(),
            ),
            Kind::Limit if call == Call::CreateVolume => Some(
                "an account has a quota of volumes' bytes and IOPS: delete volumes that nobody needs, or ask AWS for more (Service Quotas, Amazon EBS)"
                    .into(),
            ),
            Kind::Limit if call == Call::AttachVolume => Some(
                "an instance bears a number of volumes that its type decides: detach what nobody needs, or restore on a larger one".into(),
            ),
            Kind::Limit if call == Call::CopySnapshot => Some(
                "a region bears 20 copies of an account at a time, and has a quota of snapshots: see what else copies there, or ask AWS for more (Service Quotas, Amazon EBS)"
                    .into(),
            ),
            Kind::Limit => Some(
                "a volume can be snapshotted once in 15 seconds, and an account has a quota of snapshots, pending ones too: wait, delete \
                 what nobody needs, or ask AWS for more (Service Quotas, Amazon EBS)"
                    .into(),
            ),
            Kind::NotFound if call == Call::DescribeInstances => Some(
                "see [ebs] instance and region: the instance has to be this host, and in that region"
                    .into(),
            ),
            Kind::Untrusted => Some("see which certificate the endpoint shows, and that the host's clock is right".into()),
            Kind::Unanswered => Some("see that the EC2 endpoint of the region can be reached from this host (a route, or a VPC endpoint)".into()),
            // No code for it was found in AWS's documentation; its words will hardly do without this one.
            Kind::Refused | Kind::OtherState if call == Call::DeleteSnapshot && self.detail.to_ascii_lowercase().contains("lock") => Some(
                "it is locked ([ebs] lock): `aws ec2 describe-locked-snapshots` says until when. A lock in governance mode is undone by whoever has \
                 ec2:UnlockSnapshot (`aws ec2 unlock-snapshot`), one in compliance mode by nobody: then wait until it ends"
                    .into(),
            ),
            Kind::Refused | Kind::OtherState if call == Call::ModifySnapshotAttribute => Some(
                "a snapshot that is encrypted under the account's default key (aws/ebs) cannot be shared: encrypt the volumes under a KMS key of your own, and let \
                 the other accounts use that. See also that [ebs] share_with names accounts that there are, and none that is this one"
                    .into(),
            ),
            Kind::Refused | Kind::OtherState | Kind::NotFound if call == Call::CopySnapshot => Some(
                "see that the account has enabled the region of [ebs] copy_to, that copy_kms_key is a key of that region, and that the role may use both it \
                 and the key of the volumes (kms:CreateGrant, kms:Decrypt, kms:DescribeKey, kms:GenerateDataKeyWithoutPlaintext, kms:ReEncrypt*)"
                    .into(),
            ),
            Kind::Refused if call == Call::LockSnapshot => Some(
                "see [ebs] lock: a lock in compliance mode can be made longer, but not shorter or another mode".into(),
            ),
            Kind::NotFound | Kind::OtherState | Kind::Refused | Kind::Interrupted => None,
        }
    }

    fn exit(&self) -> Exit {
        match self.kind {
            Kind::Interrupted => Exit::Interrupted,
            _ => Exit::BackupFailed,
        }
    }
}

/// Why there is no set of snapshots, or why it is not given back.
#[derive(Debug, Error)]
pub enum EbsError {
    /// A call.
    #[error(transparent)]
    Call(#[from] CallFailed),
    /// The instance's metadata service.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A disk that is no volume of this instance.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// This program was built without EBS.
    #[error("this freezeframe was built without EBS snapshots")]
    NotBuiltIn,
    /// There is no way to EC2.
    #[error("EC2 cannot be asked: {reason}")]
    NoClient {
        /// What is missing.
        reason: String,
        /// Whether it may be there the next time.
        passing: bool,
    },
    /// Snapshots that are elsewhere than where the configuration leads.
    #[error("the snapshots are in {written}, and [ebs] leads to {found}")]
    OtherPlace {
        /// Where they were made.
        written: Place,
        /// Where we would look.
        found: Place,
    },
    /// EC2 gave fewer snapshots than were asked for.
    #[error("EC2 made no snapshot of {}: the set is not whole", list(volumes))]
    Partial {
        /// What there is no snapshot of.
        volumes: Vec<VolumeId>,
    },
    /// A snapshot that will never be complete.
    #[error("snapshot {snapshot} of {volume} failed{}", because(reason.as_ref()))]
    Failed {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Its volume.
        volume: VolumeId,
        /// What EC2 says.
        reason: Option<String>,
    },
    /// Snapshots that somebody else deleted, or that EC2 does not show.
    #[error("EC2 does not show {} any more", list(snapshots))]
    Gone {
        /// Which.
        snapshots: Vec<SnapshotId>,
    },
    /// Still pending when the time was over.
    #[error("the snapshots are {percent} % complete after {}", human::duration(*.waited))]
    Overdue {
        /// The share that is there.
        percent: u8,
        /// How long was waited.
        waited: Duration,
    },
    /// They are still shown.
    #[error(
        "{} of instance {instance} are deleted and still shown",
        list(snapshots)
    )]
    Stay {
        /// Which.
        snapshots: Vec<SnapshotId>,
        /// The instance.
        instance: InstanceId,
    },
    /// The window ended before the call was answered.
    #[error("the lock ended before EC2 had answered")]
    Broken,
    /// Snapshots of another region than this instance's.
    #[error("the snapshots are in {set}, and this instance is in {here}")]
    OtherRegion {
        /// Where the snapshots are.
        set: String,
        /// Where the instance is.
        here: String,
    },
    /// EC2 does not say in which zone the instance is.
    #[error("EC2 does not tell the availability zone of {instance}")]
    NoZone {
        /// The instance.
        instance: InstanceId,
    },
    /// A volume that cannot be made like that.
    #[error("no volume like that can be made of {snapshot}: {reason}")]
    Shape {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Why.
        reason: String,
    },
    /// A volume that will never be of use.
    #[error("volume {volume} failed")]
    VolumeFailed {
        /// The volume.
        volume: VolumeId,
    },
    /// Volumes that are not as they should be after a long time.
    #[error("{} {} after {}", list(volumes), wanted, human::duration(*.waited))]
    Unready {
        /// Which.
        volumes: Vec<VolumeId>,
        /// What they are not: "are not available".
        wanted: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// A volume that is to go, and is attached still.
    #[error("volume {volume} is attached to {instance}")]
    Elsewhere {
        /// The volume.
        volume: VolumeId,
        /// To which instance.
        instance: InstanceId,
    },
    /// There is no name to attach a volume by.
    #[error("every name that a volume can be attached by is in use")]
    NoName,
    /// What is attached and not shown by the kernel.
    #[error("the kernel shows no disk of {} after {}", list(volumes), human::duration(*.waited))]
    NoDisk {
        /// Which.
        volumes: Vec<VolumeId>,
        /// How long was waited.
        waited: Duration,
    },
}

fn list<T: fmt::Display>(all: &[T]) -> String {
    let all: Vec<_> = all.iter().map(ToString::to_string).collect();
    all.join(", ")
}

fn because(reason: Option<&String>) -> String {
    reason.map_or_else(String::new, |reason| format!(": {reason}"))
}

impl Explain for EbsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Call(error) => error.hint(),
            Self::Metadata(error) => error.hint(),
            Self::Device(error) => error.hint(),
            Self::NotBuiltIn => Some("install one built with the cargo feature `ebs`, or set another provider in [window]".into()),
            Self::NoClient { .. } => Some(
                "give the instance a role (packaging/ebs-policy.json), and set [ebs] region where the instance cannot tell its own".into(),
            ),
            Self::OtherPlace { written, .. } => Some(format!(
                "set [ebs] endpoint (for copies copy_endpoint) to that of {written}, or remove it where there is none, and ask again"
            )),
            Self::Partial { .. } => Some("a volume that is detached during a backup is not in it; make the backup again".into()),
            Self::Failed { .. } => {
                Some("make the backup again; where it happens again, AWS's support can say why (for an encrypted volume: whether its KMS key is usable)".into())
            }
            Self::Gone { .. } => Some("find out what deletes snapshots in this account; the backup has to be made again".into()),
            Self::Overdue { .. } => Some("set [ebs] complete_within longer: the first snapshot of a volume copies all of it".into()),
            Self::Stay { .. } => Some("run `freezeframe recover` in a few minutes".into()),
            Self::OtherRegion { set, .. } => Some(format!(
                "a volume can be made only where its snapshot is: restore on an instance there ({set}), or copy the snapshots (aws ec2 copy-snapshot; [ebs] copy_to \
                 does it with every backup) and restore the copies by hand (doc/ebs.md)"
            )),
            Self::NoZone { .. } => Some("see that [ebs] instance is this host's, and that it runs".into()),
            Self::Shape { .. } => Some("give other values, or none: then the volumes are as they were".into()),
            Self::VolumeFailed { .. } => Some(
                "of an encrypted snapshot: see that the instance's role may use its KMS key (kms:CreateGrant, kms:Decrypt, kms:GenerateDataKeyWithoutPlaintext)"
                    .into(),
            ),
            Self::Unready { .. } => Some("see what EC2 says of them (aws ec2 describe-volumes), and try again".into()),
            Self::Elsewhere { .. } => Some("it is made by this program, by its tags. Where that is this host run `freezeframe recover` again; else find out who attached it there".into()),
            Self::NoName => Some("detach what nobody needs".into()),
            Self::NoDisk { .. } => Some(
                "see the kernel's log (dmesg); on Xen instances a volume's name in the kernel must follow from the one it is attached by".into(),
            ),
            Self::Broken => Some("EC2 was slow to answer: raise [window] max_lock, or make the backup again".into()),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Call(error) => error.exit(),
            Self::Metadata(_)
            | Self::Device(_)
            | Self::NotBuiltIn
            | Self::NoClient { .. }
            | Self::OtherPlace { .. }
            | Self::OtherRegion { .. }
            | Self::NoZone { .. }
            | Self::Shape { .. } => Exit::Refused,
            Self::Stay { .. } => Exit::StillHeld,
            Self::VolumeFailed { .. }
            | Self::Unready { .. }
            | Self::Elsewhere { .. }
            | Self::NoName
            | Self::NoDisk { .. } => Exit::Restore,
            Self::Partial { .. }
            | Self::Failed { .. }
            | Self::Gone { .. }
            | Self::Overdue { .. }
            | Self::Broken => Exit::BackupFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_done_is_told_from_what_was_not() {
        for (status, code, expected, made_nothing) in [
            // AWS answers this with the status of a server that failed, and has done nothing.
            (503, "RequestLimitExceeded", Kind::Throttled, true),
            (503, "Unavailable", Kind::Unanswered, false),
            (500, "InternalError", Kind::Unanswered, false),
            (502, "", Kind::Unanswered, false),
            (200, "", Kind::Unanswered, false),
            (302, "", Kind::Unanswered, false),
            (400, "", Kind::Refused, true),
            (403, "UnauthorizedOperation", Kind::Denied, true),
            (400, "InvalidSnapshot.NotFound", Kind::NotFound, true),
            (400, "InvalidInstanceID.NotFound", Kind::NotFound, true),
            (
                400,
                "SnapshotCreationPerVolumeRateExceeded",
                Kind::Limit,
                true,
            ),
            (400, "InvalidParameterValue", Kind::Refused, true),
            (429, "", Kind::Throttled, true),
        ] {
            let failed = CallFailed::new(Call::CreateSnapshots, Kind::of(status, code), "x");
            assert_eq!(failed.kind, expected, "{status} {code}");
            assert_eq!(failed.nothing_was_made(), made_nothing, "{status} {code}");
        }
    }

    #[test]
    fn who_is_denied_hears_which_permission_lacks() {
        let failed = CallFailed::new(
            Call::CreateSnapshots,
            Kind::Denied,
            "UnauthorizedOperation: no",
        );
        assert_eq!(
            failed.to_string(),
            "CreateSnapshots is not allowed: UnauthorizedOperation: no"
        );
        assert!(failed.hint().unwrap().contains("ec2:CreateSnapshots"));
    }

    #[test]
    fn what_a_lock_or_the_default_key_keeps_from_being_done_is_explained() {
        let hint = |call, detail: &str| CallFailed::new(call, Kind::of(400, ""), detail).hint();
        let locked = "OperationNotPermitted: snapshot snap-1 is Locked until";
        let told = hint(Call::DeleteSnapshot, locked).unwrap();
        assert!(told.contains("unlock-snapshot"), "{told}");
        assert_eq!(hint(Call::DeleteSnapshot, "InvalidSnapshot.InUse: x"), None);
        let default =
            "OperationNotPermitted: Encrypted snapshots with EBS default key cannot be shared";
        let told = hint(Call::ModifySnapshotAttribute, default).unwrap();
        assert!(told.contains("aws/ebs"), "{told}");
        let told = hint(Call::CopySnapshot, "InvalidParameterValue: key").unwrap();
        assert!(told.contains("copy_kms_key"), "{told}");
    }
}
