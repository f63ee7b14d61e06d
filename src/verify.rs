//! `verify`: re-reads everything a backup set holds and compares every hash.
//!
//! Damage is what verification is looking for, so it is gathered into the report and does not end the
//! work; what ends it is a store that fails, or being cancelled.

mod objects;
pub mod snapshots;
mod walk;

use std::num::NonZeroUsize;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::catalog::verification::{Outcome, Verification, VerificationKind};
use crate::catalog::{self, CatalogError};
use crate::error::{Exit, Explain};
use crate::ids::{BackupId, Hash};
use crate::manifest::{FORMAT_FIRST, MANIFEST, Manifest};
use crate::progress::{Meter, Progress};
use crate::store::object::StoredObject;
use crate::store::{SharedStore, StoreError};
use objects::Watch;
use walk::Walk;

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The object's name in the set.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.object, self.problem)
    }
}

/// What a verification found. Its JSON form is what `verify --json` prints, and stays stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The set.
    pub id: BackupId,
    /// What is damaged, in the manifest's order; empty when nothing is.
    pub findings: Vec<Finding>,
    /// Objects in the set that the manifest does not know. They do no harm.
    pub strays: Vec<String>,
    /// Archives that were read.
    pub archives: u64,
    /// Lines of the file table that were read.
    pub entries: u64,
    /// Bytes of archives and file table that were read.
    pub bytes: u64,
    /// How long it took, in seconds.
    pub seconds: u64,
}

/// Why a verification came to no verdict, or to a bad one.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The set cannot be looked at.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The store failed while an object was read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operation was cancelled.
    #[error("verification of {id} was interrupted")]
    Cancelled {
        /// The set.
        id: BackupId,
    },
    /// The set is damaged.
    #[error("backup {id} is damaged: {}", list(findings))]
    Damaged {
        /// The set.
        id: BackupId,
        /// What is wrong, at least one.
        findings: Vec<Finding>,
    },
}

fn list(findings: &[Finding]) -> String {
    let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
    all.join("; ")
}

impl Explain for VerifyError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Catalog(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Damaged { .. } => Some(
                "do not rely on this backup: make a new one now, and check the store's disks"
                    .into(),
            ),
            Self::Cancelled { .. } => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Catalog(error) => error.exit(),
            Self::Store(error) => error.exit(),
            Self::Cancelled { .. } => Exit::Interrupted,
            Self::Damaged { .. } => Exit::Damaged,
        }
    }
}

impl VerifyReport {
    fn new(id: BackupId) -> Self {
        Self {
            id,
            findings: Vec::new(),
            strays: Vec::new(),
            archives: 0,
            entries: 0,
            bytes: 0,
            seconds: 0,
        }
    }

    /// Of somebody who read `object` for another purpose, and saw that it is damaged.
    pub fn of_damage(id: BackupId, object: &str, problem: impl ToString) -> Self {
        let mut report = Self::new(id);
        report.find(object, problem);
        report
    }

    /// The report as a result: damage is an error.
    pub fn into_result(self) -> Result<Self, VerifyError> {
        if self.findings.is_empty() {
            return Ok(self);
        }
        Err(VerifyError::Damaged {
            id: self.id,
            findings: self.findings,
        })
    }

    /// The record to be kept beside the set.
    pub fn record(&self, at: Timestamp, host: &str) -> Verification {
        Verification {
            format: FORMAT_FIRST,
            id: self.id,
            kind: VerificationKind::Hashes,
            outcome: match self.findings.is_empty() {
                true => Outcome::Passed,
                false => Outcome::Damaged,
            },
            at,
            tool: env!("CARGO_PKG_VERSION").into(),
            host: host.to_owned(),
            bytes: self.bytes,
            seconds: self.seconds,
            findings: self.findings.iter().map(ToString::to_string).collect(),
            details: serde_json::json!({"archives": self.archives, "entries": self.entries}),
        }
    }

    fn find(&mut self, object: &str, problem: impl ToString) {
        self.findings.push(Finding {
            object: object.to_owned(),
            problem: problem.to_string(),
        });
    }
}

/// Reads all of the set `id`, with up to `threads` threads.
///
/// # Errors
/// Only where there is no verdict: the store failed, the set is not there, unfinished or of a later
/// format, or `cancel` was called. Damage is in the report: see [`VerifyReport::into_result`].
pub async fn verify(
    store: &SharedStore,
    id: BackupId,
    threads: NonZeroUsize,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<VerifyReport, VerifyError> {
    let begun = Instant::now();
    let mut report = VerifyReport::new(id);
    match catalog::read_manifest(store.as_ref(), id).await {
        Ok(manifest) => {
            let walk = Walk {
                store,
                manifest: &manifest,
                threads,
                progress,
                cancel,
            };
            walk.run(&mut report).await?;
        }
        // Without a manifest nothing tells what the other objects should be.
        Err(error) if error.exit() == Exit::Damaged => report.find(MANIFEST, error),
        Err(error) => return Err(error.into()),
    }
    report.seconds = begun.elapsed().as_secs();
    Ok(report)
}

/// Reads `object` of the set `id` to its end and compares its hash.
///
/// # Errors
/// [`VerifyError::Damaged`] where it is another; else what keeps it from being read.
pub async fn check_object(
    store: &SharedStore,
    id: BackupId,
    object: &str,
    hash: Hash,
    phase: &str,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<(), VerifyError> {
    let stored = StoredObject::open(store, &catalog::key(id, object)).await?;
    let watch = Watch {
        meter: Meter::expecting(stored.size()),
        cancel: cancel.clone(),
    };
    let checked = walk::watched(id, phase, progress, watch, move |watch| {
        objects::bytes(&stored, hash, watch)
    });
    checked.await?.map_err(|problem| VerifyError::Damaged {
        id,
        findings: vec![Finding {
            object: object.to_owned(),
            problem,
        }],
    })
}

/// Reads the whole file table of `manifest` and compares it with what the manifest says.
///
/// # Errors
/// [`VerifyError::Damaged`] naming the table; else what keeps it from being read.
pub async fn check_table(
    store: &SharedStore,
    manifest: &Manifest,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<(), VerifyError> {
    let threads = NonZeroUsize::MIN;
    let walk = Walk {
        store,
        manifest,
        threads,
        progress,
        cancel,
    };
    match walk.table().await? {
        (_, None) => Ok(()),
        (_, Some(problem)) => {
            let findings = vec![Finding {
                object: manifest.files.object.clone(),
                problem,
            }];
            Err(VerifyError::Damaged {
                id: manifest.id,
                findings,
            })
        }
    }
}

#[cfg(test)]
mod tests;
