//! Writing a set's documents: the intent first, the manifest last.

use serde::Serialize;

use super::{CatalogError, key, missing_objects, read_intent};
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
/// read back: it is small, and without it the rest is nothing. One that comes back as another is removed.
///
/// # Errors
/// There is no manifest then, but for [`CatalogError::Unsure`], and [`CatalogError::OtherManifest`] that could not be removed.
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
    put_manifest(store, id, &sealed(id, MANIFEST, manifest)?).await
}

/// Puts the sealed manifest of `id`, and looks whether it is there.
pub(super) async fn put_manifest(
    store: &dyn Store,
    id: BackupId,
    sent: &[u8],
) -> Result<(), CatalogError> {
    let key = key(id, MANIFEST);
    let put = match store.put(&key, sent).await {
        Err(error @ StoreError::Exists { .. }) => return Err(error.into()),
        put => put,
    };
    // Also after a failure: it may have come after the object.
    match (put, holds(store, &key, sent).await) {
        (Ok(_), Ok(Some(true))) => Ok(()),
        // The intent says that the set is ours, and nobody else writes in it.
        (_, Ok(Some(false))) => Err(CatalogError::OtherManifest {
            store: store.url(),
            id,
            left: store.delete(&key).await.err(),
        }),
        (Ok(_), Ok(None)) => {
            let store = store.url();
            let source = StoreError::NotFound { store, key };
            Err(CatalogError::Unsure { id, source })
        }
        (Err(error), Ok(None)) => Err(error.into()),
        (Err(source), Ok(Some(true)) | Err(_)) | (Ok(_), Err(source)) => {
            Err(CatalogError::Unsure { id, source })
        }
    }
}

/// Whether `key` holds `content`; none where there is no such object.
async fn holds(store: &dyn Store, key: &str, content: &[u8]) -> Result<Option<bool>, StoreError> {
    let looking = async {
        let size = store.size(key).await?;
        Ok(size == content.len() as u64 && store.read(key, 0..size).await? == content)
    };
    match looking.await {
        Ok(same) => Ok(Some(same)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(StoreError::Truncated { .. }) => Ok(Some(false)),
        Err(error) => Err(error),
    }
}

/// Seals `content` and puts it into the set.
pub(super) async fn write_document<T: Serialize>(
    store: &dyn Store,
    id: BackupId,
    document: &str,
    content: &T,
) -> Result<(), CatalogError> {
    let bytes = sealed(id, document, content)?;
    store.put(&key(id, document), &bytes).await?;
    Ok(())
}

pub(super) fn sealed<T: Serialize>(
    id: BackupId,
    document: &str,
    content: &T,
) -> Result<Vec<u8>, CatalogError> {
    seal::seal(content).map_err(|source| CatalogError::Encode {
        id,
        document: document.to_owned(),
        source,
    })
}
