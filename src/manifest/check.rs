//! What must hold inside one manifest, whatever the store holds.

use std::collections::HashSet;

use thiserror::Error;

use super::{Deployment, FORMAT_FIRST, INTENT, Intent, MANIFEST, Manifest};
use crate::catalog::hold::HOLD;
use crate::catalog::reader::Reader;
use crate::ids::{BackupId, Hash, RunId, ShardName};

/// A rule of the format that a manifest breaks.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum Inconsistent {
    /// Nothing was backed up.
    #[error("it lists no member")]
    NoMembers,
    /// One replica set appears twice.
    #[error("it lists the replica set {shard} twice")]
    SameShard {
        /// The replica set.
        shard: ShardName,
    },
    /// An object's name is no plain file name, or one with another meaning.
    #[error("{object:?} cannot be the name of {of}")]
    BadObject {
        /// The name.
        object: String,
        /// What it is to be the name of.
        of: String,
    },
    /// One object appears twice.
    #[error("it lists the object {object} twice")]
    SameObject {
        /// The name.
        object: String,
    },
    /// The table and the archives disagree.
    #[error("its archives hold {archives} entries and its file table {table}")]
    Entries {
        /// Sum over the archives.
        archives: u64,
        /// Lines of the table.
        table: u64,
    },
    /// Members and intent disagree: a backup with fewer archives than members is no backup.
    #[error("run {run} set out to back up {planned}, and the manifest lists {listed}")]
    NotAsPlanned {
        /// The run in the intent.
        run: RunId,
        /// Replica sets in the intent.
        planned: String,
        /// Replica sets in the manifest.
        listed: String,
    },
    /// A reader of the first format would take its data for that of its optime.
    #[error(
        "it is of format {format}, which knows no member that was not locked, and {shard} was not"
    )]
    NotLocked {
        /// The format it says.
        format: u32,
        /// The replica set.
        shard: ShardName,
    },
    /// The snapshots of a set do not lead to every file.
    #[error("its snapshots are not whole: {reason}")]
    Snapshots {
        /// What does not fit.
        reason: String,
    },
    /// The intent is another run's.
    #[error("the intent is of {intent} and the manifest of {manifest}")]
    OtherRun {
        /// Set and run of the intent.
        intent: String,
        /// Set and run of the manifest.
        manifest: String,
    },
}

/// Begins the names of verification records.
pub const VERIFIED_PREFIX: &str = "verified-";

/// Whether `name` can be an object of a set that is not one of the set's own documents.
fn is_free_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 220
        && !name.starts_with('.')
        && !name.contains(|c: char| c == '/' || c.is_control())
        && name != MANIFEST
        && name != INTENT
        && !name.starts_with(VERIFIED_PREFIX)
        && name != HOLD
        && Reader::of(name).is_none()
}

impl Manifest {
    /// Checks what must hold inside the manifest itself.
    pub fn check(&self) -> Result<(), Inconsistent> {
        if self.members.is_empty() {
            return Err(Inconsistent::NoMembers);
        }
        if !is_free_name(&self.files.object) {
            return Err(Inconsistent::BadObject {
                object: self.files.object.clone(),
                of: "the file table".into(),
            });
        }
        let mut shards = HashSet::new();
        let mut objects = HashSet::from([self.files.object.as_str()]);
        let mut entries = 0u64;
        for member in &self.members {
            let object = member.archive.object.as_str();
            if !shards.insert(&member.shard) {
                return Err(Inconsistent::SameShard {
                    shard: member.shard.clone(),
                });
            }
            if !member.locked && self.format == FORMAT_FIRST {
                return Err(Inconsistent::NotLocked {
                    format: self.format,
                    shard: member.shard.clone(),
                });
            }
            let named_by_shard = object
                .strip_prefix(&member.shard.file_stem())
                .is_some_and(|rest| rest.starts_with('.'));
            if !is_free_name(object) || !named_by_shard {
                return Err(Inconsistent::BadObject {
                    object: object.to_owned(),
                    of: format!("the archive of {}", member.shard),
                });
            }
            if !objects.insert(object) {
                return Err(Inconsistent::SameObject {
                    object: object.to_owned(),
                });
            }
            entries = entries.saturating_add(member.archive.files);
        }
        if entries != self.files.entries {
            return Err(Inconsistent::Entries {
                archives: entries,
                table: self.files.entries,
            });
        }
        Ok(())
    }

    /// Checks that this is the manifest of what `intent` set out to do.
    pub fn check_against(&self, intent: &Intent) -> Result<(), Inconsistent> {
        as_planned(
            (self.id, self.run, &self.deployment),
            self.members.iter().map(|member| &member.shard),
            intent,
        )
    }

    /// Every object the manifest names, with its size: archives in the members' order, then the file table.
    pub fn objects(&self) -> impl Iterator<Item = (&str, u64)> {
        self.hashed_objects()
            .map(|(object, size, _)| (object, size))
    }

    /// As [`Manifest::objects`], with the hash of each.
    pub fn hashed_objects(&self) -> impl Iterator<Item = (&str, u64, Hash)> {
        let (archives, files) = (
            self.members.iter().map(|member| &member.archive),
            &self.files,
        );
        archives
            .map(|archive| (archive.object.as_str(), archive.size, archive.hash))
            .chain(std::iter::once((
                files.object.as_str(),
                files.size,
                files.hash,
            )))
    }
}

/// Whether a manifest of this set, run and deployment, which lists these replica sets, is that of what `intent` set out to do.
pub(super) fn as_planned<'a>(
    (id, run, deployment): (BackupId, RunId, &Deployment),
    listed: impl Iterator<Item = &'a ShardName>,
    intent: &Intent,
) -> Result<(), Inconsistent> {
    if (intent.id, intent.run, &intent.deployment) != (id, run, deployment) {
        return Err(Inconsistent::OtherRun {
            intent: format!(
                "{} run {} of {}",
                intent.id, intent.run, intent.deployment.id
            ),
            manifest: format!("{id} run {run} of {}", deployment.id),
        });
    }
    let planned = sorted(intent.members.iter().map(|member| &member.shard));
    let listed = sorted(listed);
    if planned == listed {
        return Ok(());
    }
    Err(Inconsistent::NotAsPlanned {
        run: intent.run,
        planned: planned.join(", "),
        listed: listed.join(", "),
    })
}

fn sorted<'a>(shards: impl Iterator<Item = &'a ShardName>) -> Vec<String> {
    let mut names: Vec<String> = shards.map(ToString::to_string).collect();
    names.sort();
    names
}
