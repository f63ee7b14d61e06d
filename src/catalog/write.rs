//! Writing a set's documents: the intent first, the manifest last.

use serde::Serialize;

use super::{CatalogError, key, missing_objects, read_intent, read_manifest};
use crate::ids::BackupId;
use crate::manifest::{INTENT, Intent, MANIFEST, Manifest, seal};
use crate::store::{Store, StoreError};

/// Writes the statement of intent. Fails with [`StoreError::Exists`] where the set was begun before.
pub async fn write_intent(store: &dyn Store, intent: &Intent) -> Result<(), CatalogError> {
    write_document(store, intent.id, INTENT, intent).await
}

/// Writes the manifest, and so makes the set a backup.
///
/// First the store is asked what it holds: every object named must be there with its size, and the
/// members must be those of the intent. There is no manifest without every byte behind it. Then the manifest itself is
/// read back: it is small, and without it the rest is nothing.
pub async fn write_manifest(store: &dyn Store, manifest: &Manifest) -> Result<(), CatalogError> {
    let id = manifest.id;
    let inconsistent = |source| CatalogError::Inconsistent { id, source };
    manifest.check().map_err(inconsistent)?;
    let intent = match read_intent(store, id).await {
        Err(CatalogError::Store(StoreError::NotFound { .. })) => {
            return Err(CatalogError::MissingObject {
                id,
                object: INTENT.into(),
            });
        }
        read => read?,
    };
    manifest.check_against(&intent).map_err(inconsistent)?;
    let listed = store.list(&format!("{id}/")).await?;
    if let Some(problem) = missing_objects(manifest, &listed).into_iter().next() {
        return Err(problem);
    }
    write_document(store, id, MANIFEST, manifest).await?;
    read_manifest(store, id).await.map(drop)
}

/// Seals `content` and puts it into the set.
pub(super) async fn write_document<T: Serialize>(
    store: &dyn Store,
    id: BackupId,
    document: &str,
    content: &T,
) -> Result<(), CatalogError> {
    let bytes = seal::seal(content).map_err(|source| CatalogError::Encode {
        id,
        document: document.to_owned(),
        source,
    })?;
    store.put(&key(id, document), &bytes).await?;
    Ok(())
}
