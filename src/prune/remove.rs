//! Removing one backup that the plan drops.

use jiff::Timestamp;

use crate::catalog::hold::is_taken;
use crate::catalog::{clear, key};
use crate::ids::BackupId;
use crate::manifest::MANIFEST;
use crate::store::{Store, StoreError};

/// A manifest while it is taken away: whoever finds it alone, where the put-back failed or we were killed, has all that the manifest said.
const REMOVED: &str = "manifest.removed.json";

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
            let removed = key(id, REMOVED);
            match store.put(&removed, &content).await {
                // By a prune that came no further.
                Ok(_) | Err(StoreError::Exists { .. }) => {}
                Err(error) => return Err(error),
            }
            store.delete(&manifest).await?;
            match store.list(&folder).await {
                Ok(listed) if !is_taken(id, &listed, now) => listed,
                seen => {
                    store.put(&manifest, &content).await?;
                    if let Err(error) = store.delete(&removed).await {
                        tracing::debug!(%error, "a copy of the manifest stays beside it");
                    }
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
