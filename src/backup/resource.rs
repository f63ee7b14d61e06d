//! The kinds of thing a run acquires.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::backup::lease::Scope;
use crate::config::Hook;
use crate::copies::stack::Stack;
use crate::ebs::Volume;
use crate::ebs::attach::Attachments;
use crate::ebs::made::MadeVolumes;
use crate::ebs::set::MadeSet;
use crate::ids::{BackupId, MemberAddr, RunId};
use crate::mongo::{HostProcess, ServerProcess};
use crate::snapshot::{LvmSnapshot, Snapshot};

/// Something a run acquires and somebody must give back. In the order in which a run acquires them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, strum::EnumDiscriminants)]
#[strum_discriminants(
    name(Kind),
    doc = "What sort of thing a [`Resource`] is.",
    allow(missing_docs),
    derive(strum::EnumIter, strum::IntoStaticStr),
    strum(serialize_all = "snake_case")
)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Resource {
    /// What the operator's hook `before` did; the hook `finally` undoes it.
    Hook {
        /// `finally`, as it was configured when the run began.
        hook: Hook,
        /// The run.
        run: RunId,
    },
    /// Objects half written to a backup set in the store.
    Upload {
        /// The store's address.
        store: String,
        /// The server it is on, where the address does not say it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<String>,
        /// The set.
        set: BackupId,
        /// The run that writes it; a set that names another one is not ours.
        run: RunId,
    },
    /// The lease on a replica set in the store.
    Lease {
        /// The store's address.
        store: String,
        /// The server it is on, where the address does not say it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<String>,
        /// What it is on.
        scope: Scope,
        /// The run that has it; another's is not ours to give back.
        run: RunId,
    },
    /// The mark that keeps a backup from being pruned while it is read.
    Reading {
        /// The store's address.
        store: String,
        /// The server it is on, where the address does not say it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<String>,
        /// The backup.
        set: BackupId,
        /// The run that reads it; another's mark is not ours to give back.
        run: RunId,
    },
    /// EBS snapshots of an instance's volumes, unless they are a backup.
    EbsSnapshots(MadeSet),
    /// Copies of them in another region, unless they are part of a backup.
    EbsCopies(MadeSet),
    /// EBS volumes made of snapshots.
    EbsVolumes(MadeVolumes),
    /// A rule by which udev leaves copies of volumes alone.
    UdevRule {
        /// The file.
        path: PathBuf,
        /// The copies: it stays as long as they are attached.
        volumes: Vec<Volume>,
    },
    /// Attachments of EBS volumes to this instance.
    EbsAttachments(Attachments),
    /// Whatever lies on the disks of EBS volumes that were made.
    Stack(Stack),
    /// A snapshot, of whatever provider.
    Snapshot(Snapshot),
    /// A kept thin snapshot, active for as long as it is read.
    Activation {
        /// The snapshot, which itself is not given back.
        snapshot: LvmSnapshot,
    },
    /// The transient systemd timer that runs `recover`.
    Timer {
        /// Unit name without suffix.
        unit: String,
    },
    /// One fsyncLock on one server process.
    Lock {
        /// The member.
        member: MemberAddr,
        /// The server process; another one at the same address never had our lock.
        process: ServerProcess,
        /// The comment on the lock command, by which the server shows one that is still waiting.
        comment: String,
        /// The process of this host that it is, where that is known: once it has ended, so has the lock.
        #[serde(default)]
        host: Option<HostProcess>,
    },
    /// A directory made as a mount point.
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// A snapshot mounted on a directory of ours.
    Mount {
        /// Where.
        point: PathBuf,
    },
    /// A directory of temporary files; removed with all it holds.
    Scratch {
        /// The directory.
        path: PathBuf,
    },
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hook { hook, .. } => write!(f, "hook `{}`", hook.command.join(" ")),
            Self::Upload { store, set, .. } => write!(f, "unfinished objects of {set} in {store}"),
            Self::Lease { store, scope, .. } => write!(f, "lease on {scope} in {store}"),
            Self::Reading { store, set, .. } => write!(f, "reader's mark on {set} in {store}"),
            Self::Snapshot(Snapshot::Lvm(snapshot)) => {
                write!(f, "snapshot {}", snapshot.full_name())
            }
            Self::Snapshot(Snapshot::Subvolume(snapshot)) => {
                write!(f, "snapshot {}", snapshot.path().display())
            }
            Self::Snapshot(Snapshot::Array(picture)) => {
                write!(f, "device {}", picture.array_device)
            }
            Self::Snapshot(Snapshot::Clones(clones)) => {
                write!(f, "clones in {}", clones.path().display())
            }
            Self::EbsSnapshots(made) => made.fmt(f),
            Self::EbsCopies(made) => write!(f, "copies in {} of {made}", made.place),
            Self::EbsVolumes(made) => made.fmt(f),
            Self::UdevRule { path, .. } => write!(f, "udev rule {}", path.display()),
            Self::EbsAttachments(attachments) => attachments.fmt(f),
            Self::Stack(stack) => stack.fmt(f),
            Self::Activation { snapshot } => {
                write!(f, "activation of {}", snapshot.full_name())
            }
            Self::Timer { unit } => write!(f, "timer {unit}"),
            Self::Lock { member, .. } => write!(f, "lock on {member}"),
            Self::Directory { path } => write!(f, "directory {}", path.display()),
            Self::Mount { point } => write!(f, "mount {}", point.display()),
            Self::Scratch { path } => write!(f, "temporary directory {}", path.display()),
        }
    }
}
