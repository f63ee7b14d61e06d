//! Removing one backup that the plan drops.

use jiff::Timestamp;

use crate::catalog::hold::is_held;
use crate::catalog::reader::readers;
use crate::catalog::{clear, key};
use crate::ids::BackupId;
use crate::manifest::MANIFEST;
use crate::store::{ObjectInfo, Store, StoreError};

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Gone,
    /// It stays as it was: since the plan was made somebody has begun to hold or read it, or finished it.
    Spared,
}

/// Removes the backup `id`, unless somebody has it by now.
///
/// Who reads or holds a backup first says so in the set, and then looks for its manifest; here the manifest is removed, and then it is looked who said so. So one of
/// the two sees the other, whatever comes first. A crash at any moment leaves the whole backup, or a set without a manifest, which nobody takes for a backup and
/// the next prune removes.
///
/// # Errors
/// [`StoreError`]; then it stays, or is a set without a manifest.
pub async fn remove(
    store: &dyn Store,
    id: BackupId,
    finished: bool,
    now: Timestamp,
) -> Result<Removed, StoreError> {
    let folder = key(id, "");
    let manifest = key(id, MANIFEST);
    let listed = store.list(&folder).await?;
    let has_manifest = listed.iter().any(|object| object.key == manifest);
    if is_taken(id, &listed, now) || has_manifest != finished {
        return Ok(Removed::Spared);
    }
    let listed = match has_manifest {
        false => listed,
        true => {
            let size = store.size(&manifest).await?;
            let content = store.read(&manifest, 0..size).await?;
            store.delete(&manifest).await?;
            match store.list(&folder).await {
                Ok(listed) if !is_taken(id, &listed, now) => listed,
                seen => {
                    store.put(&manifest, &content).await?;
                    return seen.map(|_| Removed::Spared);
                }
            }
        }
    };
    for unfinished in store.unfinished(&folder).await? {
        store.discard_unfinished(&unfinished).await?;
    }
    clear(store, id, listed).await?;
    Ok(Removed::Gone)
}

fn is_taken(id: BackupId, listed: &[ObjectInfo], now: Timestamp) -> bool {
    let is_read = readers(id, listed).iter().any(|reader| reader.until > now);
    is_held(id, listed) || is_read
}
