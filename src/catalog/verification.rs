//! Verification records: `<set>/verified-<YYYYmmdd_HHMMSS>.json`, one for every verification that came to an end.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{CatalogError, belongs, read_document, write::write_document};
use crate::ids::BackupId;
use crate::manifest::check::VERIFIED_PREFIX;
use crate::store::{ObjectInfo, Store, StoreError};

/// What one verification found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Format version, as in the manifest.
    pub format: u32,
    /// The set.
    pub id: BackupId,
    /// What was done.
    pub kind: VerificationKind,
    /// How it ended.
    pub outcome: Outcome,
    /// When it ended; the object's name may say some seconds more.
    pub at: Timestamp,
    /// Version of freezeframe that did it.
    pub tool: String,
    /// Host it was done on.
    pub host: String,
    /// Bytes of stored objects that were read.
    pub bytes: u64,
    /// Seconds it took.
    pub seconds: u64,
    /// What is damaged; empty when nothing is.
    pub findings: Vec<String>,
    /// What else the verification has to tell, such as the server version and the collections validated.
    #[serde(default)]
    pub details: serde_json::Value,
}

/// How deep a verification went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerificationKind {
    /// Everything was read and every hash compared.
    Hashes,
    /// It was restored, mongod started on it and every collection validated.
    Proven,
    /// Whoever keeps it was asked whether all of it is there; no byte was read.
    Shown,
}

/// How a verification ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All is as the manifest says.
    Passed,
    /// Something is damaged.
    Damaged,
}

/// How a time is written in a name.
const NAMED: &str = "%Y%m%d_%H%M%S";
/// Seconds that a record's name may be late, so that two verifications of one second both keep their record. What it
/// says of its time stays true.
const SECONDS_TRIED: i64 = 5;

/// Writes a record beside the set; earlier ones stay. What counts is the last by name, so its name comes after theirs, also where a clock that was ahead
/// has named one of them.
pub async fn write_verification(
    store: &dyn Store,
    record: &Verification,
) -> Result<(), CatalogError> {
    let listed = store.list(&super::key(record.id, VERIFIED_PREFIX)).await?;
    let last = listed.iter().filter_map(|info| moment(&info.key)).max();
    let first = last
        .and_then(|last| last.checked_add(SignedDuration::from_secs(1)).ok())
        .map_or(record.at, |after| after.max(record.at));
    let mut taken = None;
    for late in 0..SECONDS_TRIED {
        let name = first
            .checked_add(SignedDuration::from_secs(late))
            .unwrap_or(first);
        match write_document(store, record.id, &object(name), record).await {
            Err(CatalogError::Store(error @ StoreError::Exists { .. })) => taken = Some(error),
            written => return written,
        }
    }
    match taken {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// As [`write_verification`]; a record that cannot be written spoils no verification.
pub async fn keep_verification(store: &dyn Store, record: &Verification) {
    if let Err(error) = write_verification(store, record).await {
        tracing::warn!(%error, "the verification cannot be recorded in the store");
    }
}

/// The name of a record, with a time.
fn object(at: Timestamp) -> String {
    format!("{VERIFIED_PREFIX}{}.json", at.strftime(NAMED))
}

/// The time in the name of the record `key`.
fn moment(key: &str) -> Option<Timestamp> {
    let (_, name) = key.rsplit_once(VERIFIED_PREFIX)?;
    let named = DateTime::strptime(NAMED, name.strip_suffix(".json")?).ok()?;
    Some(named.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Every record of `id` in the listing, oldest first; one that cannot be read is told in its place.
pub async fn read_verifications(
    store: &dyn Store,
    id: BackupId,
    listed: &[ObjectInfo],
) -> Result<Vec<Result<Verification, CatalogError>>, StoreError> {
    let prefix = super::key(id, VERIFIED_PREFIX);
    let set = format!("{id}/");
    let mut records = Vec::new();
    for info in listed.iter().filter(|info| info.key.starts_with(&prefix)) {
        let Some(document) = info.key.strip_prefix(&set) else {
            continue;
        };
        let read = read_document::<Verification>(store, id, document)
            .await
            .and_then(|record| belongs(id, document, record.id).map(|()| record));
        match read {
            // Pruned since it was listed.
            Err(CatalogError::Store(StoreError::NotFound { .. })) => {}
            Err(CatalogError::Store(error)) => return Err(error),
            read => records.push(read),
        }
    }
    Ok(records)
}
