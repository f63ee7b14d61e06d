//! What a store holds: backup sets, read from the store alone.
//!
//! A set is complete when its manifest is there, sound, and every object it names has its size.

pub mod at_work;
mod clear;
pub mod copied;
pub mod hold;
pub mod reader;
mod recorded;
pub mod render;
pub mod summary;
pub mod verification;
mod write;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use crate::error::{Exit, Explain};
use crate::ids::BackupId;
use crate::manifest::check::Inconsistent;
use crate::manifest::seal::{self, SealError};
use crate::manifest::{INTENT, Intent, MANIFEST, Manifest};
use crate::store::{ObjectInfo, Store, StoreError};

pub use clear::clear;
pub use recorded::{Recorded, read_recorded, render as render_snapshots, write_snapshots};
pub use summary::{SetState, SetSummary, list};
pub use verification::{keep_verification, write_verification};
use write::put_manifest;
pub use write::{write_intent, write_manifest};

/// Largest document that is read whole: garbage under a manifest's name must not exhaust memory.
pub const DOCUMENT_MAX: u64 = 64 << 20;

/// What to do where a store does not hold what it was given.
pub const OTHER_BYTES: &str = "make the backup again; if that fails too, the store's disks, or the memory or the network before them, change what they are given";

/// Why a set cannot be read or written.
#[derive(Debug, Error)]
pub enum CatalogError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such set.
    #[error("{store} holds no backup {id}")]
    NoSuchSet {
        /// The store's address.
        store: String,
        /// The set.
        id: BackupId,
    },
    /// The store holds no complete set, or none that is not known to be damaged.
    #[error("{store} holds no sound backup")]
    NoSets {
        /// The store's address.
        store: String,
    },
    /// What was asked for is no id.
    #[error("{text:?} names no backup")]
    BadId {
        /// What was given.
        text: String,
    },
    /// There are objects and no manifest.
    #[error("backup {id} has no manifest: it is still being made, or failed")]
    Unfinished {
        /// The set.
        id: BackupId,
    },
    /// There are no archives in it.
    #[error("backup {id} is a set of EBS snapshots in {place}, and holds no archives")]
    InSnapshots {
        /// The set.
        id: BackupId,
        /// Where the snapshots are.
        place: String,
    },
    /// One of the set's documents cannot be read.
    #[error("backup {id}: {document}: {source}")]
    Document {
        /// The set.
        id: BackupId,
        /// The object's name in the set.
        document: String,
        /// What is wrong.
        source: SealError,
    },
    /// One of the set's documents is too large to be one.
    #[error("backup {id}: {document} has {size} bytes, more than any (limit {DOCUMENT_MAX})")]
    TooLarge {
        /// The set.
        id: BackupId,
        /// The object's name in the set.
        document: String,
        /// Its size in bytes.
        size: u64,
    },
    /// A document lies in another set's folder.
    #[error("backup {id}: {document} is that of {found}")]
    OtherSet {
        /// The set.
        id: BackupId,
        /// The object's name in the set.
        document: String,
        /// The set it was made for.
        found: BackupId,
    },
    /// The manifest contradicts itself or the intent.
    #[error("backup {id}: {MANIFEST}: {source}")]
    Inconsistent {
        /// The set.
        id: BackupId,
        /// How.
        source: Inconsistent,
    },
    /// An object that the manifest names is not there.
    #[error("backup {id}: {object} is missing")]
    MissingObject {
        /// The set.
        id: BackupId,
        /// The object's name in the set.
        object: String,
    },
    /// An object has another size.
    #[error("backup {id}: {object} has {found} bytes, the manifest says {expected}")]
    WrongSize {
        /// The set.
        id: BackupId,
        /// The object's name in the set.
        object: String,
        /// Its size in bytes.
        found: u64,
        /// What the manifest says.
        expected: u64,
    },
    /// The manifest came back as another, and so there is no backup.
    #[error(
        "{store} does not hold the manifest of {id} as it was sent: no backup was recorded{}",
        stays(left)
    )]
    OtherManifest {
        /// The store's address.
        store: String,
        /// The set.
        id: BackupId,
        /// Why what is there could not be removed.
        left: Option<StoreError>,
    },
    /// The manifest was sent, and nobody knows what became of it.
    #[error("backup {id} may be complete: its manifest was sent, and then: {source}")]
    Unsure {
        /// The set.
        id: BackupId,
        /// What happened then.
        source: StoreError,
    },
    /// A document cannot be written as JSON.
    #[error("backup {id}: cannot write {document}: {source}")]
    Encode {
        /// The set.
        id: BackupId,
        /// The object's name in the set.
        document: String,
        /// Why.
        source: serde_json::Error,
    },
}

fn stays(left: &Option<StoreError>) -> String {
    left.as_ref().map_or_else(String::new, |error| {
        format!(", and what is there cannot be removed: {error}")
    })
}

impl Explain for CatalogError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Document { source, .. } => source.hint(),
            Self::NoSuchSet { .. } => Some("`freezeframe list` shows what the store holds".into()),
            Self::NoSets { .. } => Some(
                "make one with `freezeframe backup`; where `freezeframe list` shows a damaged one it can be named by its date".into(),
            ),
            Self::BadId { .. } => Some(
                "name a backup as `freezeframe list` shows it, by its date and time (20260131_020000 or 2026-01-31T02:00:00Z), or `latest`".into(),
            ),
            Self::Unfinished { .. } => Some(
                "wait for the run that makes it; if none does, `freezeframe recover` cleans up".into(),
            ),
            Self::InSnapshots { id, .. } => Some(format!(
                "`freezeframe show {id}` names the snapshots, `freezeframe verify {id}` asks whether they are there, `freezeframe restore {id}` \
                 brings up volumes made of them"
            )),
            Self::TooLarge { .. }
            | Self::OtherSet { .. }
            | Self::Inconsistent { .. }
            | Self::MissingObject { .. }
            | Self::WrongSize { .. } => {
                Some("the stored backup is damaged: use another, or a copy of this one".into())
            }
            Self::OtherManifest { id, left: Some(_), .. } => Some(format!(
                "remove {} from the store; {OTHER_BYTES}",
                key(*id, MANIFEST)
            )),
            Self::OtherManifest { .. } => Some(OTHER_BYTES.into()),
            Self::Unsure { id, .. } => Some(format!(
                "`freezeframe list` shows whether it is complete, and `freezeframe verify {id}` whether it is sound; else make the backup again"
            )),
            Self::Encode { .. } => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
            Self::Document { source, .. } => source.exit(),
            Self::BadId { .. } => Exit::Usage,
            Self::InSnapshots { .. } => Exit::Refused,
            Self::Unsure { source, .. } => source.exit(),
            Self::NoSuchSet { .. }
            | Self::NoSets { .. }
            | Self::Unfinished { .. }
            | Self::OtherManifest { .. } => Exit::Store,
            Self::TooLarge { .. }
            | Self::OtherSet { .. }
            | Self::Inconsistent { .. }
            | Self::MissingObject { .. }
            | Self::WrongSize { .. } => Exit::Damaged,
            Self::Encode { .. } => Exit::Failed,
        }
    }
}

/// The key of `object` in the set `id`.
pub fn key(id: BackupId, object: &str) -> String {
    format!("{id}/{object}")
}

/// Which set `text` means: a full name, its date and time alone, the same as an RFC 3339 instant, or `latest` complete one.
pub async fn resolve(store: &dyn Store, text: &str) -> Result<BackupId, CatalogError> {
    if text == "latest" {
        return latest(store).await;
    }
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    // As `started` is printed, whatever its fraction of a second and its offset from UTC.
    let instant = text.parse::<Timestamp>();
    instant.map(BackupId::at).map_err(|_| CatalogError::BadId {
        text: text.to_owned(),
    })
}

/// By so much clocks of several hosts may differ, so that a backup of a moment to come says nothing of a clock that was set.
pub const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(1);

/// `sets`, which are in the order of their names, newest first. Those of moments that are yet to come are last: they were made while a clock was ahead, and
/// would else hide for as long whatever was made since.
pub fn newest_first<'a>(
    sets: impl DoubleEndedIterator<Item = &'a SetSummary>,
    now: Timestamp,
) -> impl Iterator<Item = &'a SetSummary> {
    let (ahead, come): (Vec<_>, Vec<_>) = sets.rev().partition(|set| set.is_ahead(now));
    come.into_iter().chain(ahead)
}

/// The newest complete set that is not known to be damaged. That a newer one is passed over is told as an error, since who asks for the
/// latest data then gets older ones.
pub async fn latest(store: &dyn Store) -> Result<BackupId, CatalogError> {
    let (sets, now) = (list(store).await?, Timestamp::now());
    for set in newest_first(sets.iter(), now) {
        match set.state {
            SetState::Complete => {
                let ahead = sets.iter().filter(|one| one.is_ahead(now));
                for passed_over in ahead.filter(|_| !set.is_ahead(now)) {
                    tracing::warn!(
                        "not `latest`: {} is of a moment to come, so it was made while a clock was ahead, or this host's is behind",
                        passed_over.id
                    );
                }
                return Ok(set.id);
            }
            SetState::Unfinished => {}
            SetState::Damaged | SetState::Future | SetState::Unreadable => {
                let reason = set.reason.as_deref().unwrap_or_default();
                tracing::error!("not `latest`, because it cannot be used: {reason}");
            }
        }
    }
    Err(CatalogError::NoSets { store: store.url() })
}

/// What `latest` means to who wants to know whether the newest backup is sound: the newest set that was recorded, damaged or not.
pub async fn newest(store: &dyn Store) -> Result<BackupId, CatalogError> {
    let sets = list(store).await?;
    let recorded = |set: &&SetSummary| set.state != SetState::Unfinished;
    match newest_first(sets.iter(), Timestamp::now()).find(recorded) {
        Some(set) => Ok(set.id),
        None => Err(CatalogError::NoSets { store: store.url() }),
    }
}

/// The manifest of `id`, checked in itself and against what the store lists.
pub async fn load(store: &dyn Store, id: BackupId) -> Result<Manifest, CatalogError> {
    let manifest = read_manifest(store, id).await?;
    let listed = store.list(&format!("{id}/")).await?;
    match missing_objects(&manifest, &listed).into_iter().next() {
        None => Ok(manifest),
        Some(problem) => Err(problem),
    }
}

/// The manifest of `id`, which has to be a backup of archives, checked in itself; what it names may still be missing.
pub async fn read_manifest(store: &dyn Store, id: BackupId) -> Result<Manifest, CatalogError> {
    read_recorded(store, id).await?.archives()
}

/// The intent of `id`.
pub async fn read_intent(store: &dyn Store, id: BackupId) -> Result<Intent, CatalogError> {
    let intent: Intent = read_document(store, id, INTENT).await?;
    belongs(id, INTENT, intent.id)?;
    Ok(intent)
}

/// Everything the manifest names that the listing does not hold with its size.
pub fn missing_objects(manifest: &Manifest, listed: &[ObjectInfo]) -> Vec<CatalogError> {
    manifest
        .objects()
        .filter_map(|(object, size)| object_problem(manifest.id, object, size, listed))
        .collect()
}

/// Why the listing of the set `id` does not hold `object` with `expected` bytes, if it does not.
pub fn object_problem(
    id: BackupId,
    object: &str,
    expected: u64,
    listed: &[ObjectInfo],
) -> Option<CatalogError> {
    let key = key(id, object);
    match listed.iter().find(|info| info.key == key) {
        None => Some(CatalogError::MissingObject {
            id,
            object: object.to_owned(),
        }),
        Some(info) if info.size != expected => Some(CatalogError::WrongSize {
            id,
            object: object.to_owned(),
            found: info.size,
            expected,
        }),
        Some(_) => None,
    }
}

/// Reads one sealed document of a set.
async fn read_document<T: serde::de::DeserializeOwned>(
    store: &dyn Store,
    id: BackupId,
    document: &str,
) -> Result<T, CatalogError> {
    decode(id, document, &read_bytes(store, id, document).await?)
}

async fn read_bytes(
    store: &dyn Store,
    id: BackupId,
    document: &str,
) -> Result<Vec<u8>, CatalogError> {
    let key = key(id, document);
    let size = store.size(&key).await?;
    if size > DOCUMENT_MAX {
        return Err(CatalogError::TooLarge {
            id,
            document: document.to_owned(),
            size,
        });
    }
    Ok(store.read(&key, 0..size).await?)
}

fn decode<T: serde::de::DeserializeOwned>(
    id: BackupId,
    document: &str,
    bytes: &[u8],
) -> Result<T, CatalogError> {
    seal::open(bytes).map_err(|source| CatalogError::Document {
        id,
        document: document.to_owned(),
        source,
    })
}

fn belongs(id: BackupId, document: &str, found: BackupId) -> Result<(), CatalogError> {
    if found == id {
        return Ok(());
    }
    Err(CatalogError::OtherSet {
        id,
        document: document.to_owned(),
        found,
    })
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
