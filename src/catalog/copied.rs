//! A set's documents as they are stored, byte for byte, so that a copy of the set is the same backup.

use super::{CatalogError, belongs, decode, key, missing_objects, put_manifest, read_bytes};
use crate::ids::BackupId;
use crate::manifest::{INTENT, Intent, MANIFEST, Manifest};
use crate::store::{Store, StoreError};

/// Intent and manifest of a backup of archives.
#[derive(Debug)]
pub struct Documents {
    intent: Vec<u8>,
    sealed: Vec<u8>,
    /// What the manifest says.
    pub manifest: Manifest,
}

/// What a store holds under a set's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nothing.
    Free,
    /// The backup, or the whole copy of it.
    Whole,
    /// A copy that was cut off: what is there of it is gone on with.
    Begun,
    /// Another backup, or one that nobody can tell from it.
    Others,
}

impl Documents {
    /// Reads those of the backup `id`, which must be whole as far as a listing tells.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn read(store: &dyn Store, id: BackupId) -> Result<Self, CatalogError> {
        super::load(store, id).await?;
        let intent = read_bytes(store, id, INTENT).await?;
        let planned: Intent = decode(id, INTENT, &intent)?;
        belongs(id, INTENT, planned.id)?;
        let sealed = read_bytes(store, id, MANIFEST).await?;
        let manifest: Manifest = decode(id, MANIFEST, &sealed)?;
        let checked = manifest.check_against(&planned);
        checked.map_err(|source| CatalogError::Inconsistent { id, source })?;
        Ok(Self {
            intent,
            sealed,
            manifest,
        })
    }

    /// What `store` holds where a copy of this backup is to go.
    ///
    /// # Errors
    /// [`CatalogError`] where it cannot be read.
    pub async fn place(&self, store: &dyn Store) -> Result<Place, CatalogError> {
        let id = self.manifest.id;
        if store.list(&key(id, "")).await?.is_empty() {
            return Ok(Place::Free);
        }
        Ok(match document(store, id, MANIFEST).await? {
            Some(there) if there == self.sealed => Place::Whole,
            Some(_) => Place::Others,
            None => match document(store, id, INTENT).await? {
                Some(there) if there == self.intent => Place::Begun,
                _ => Place::Others,
            },
        })
    }

    /// Begins the copy in `store`, of which this is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(&self, store: &dyn Store, place: Place) -> Result<(), StoreError> {
        if place == Place::Begun {
            return Ok(());
        }
        let intent = key(self.manifest.id, INTENT);
        store.put(&intent, &self.intent).await.map(drop)
    }

    /// Makes the copy a backup: as [`super::write_manifest`] does.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn publish(&self, store: &dyn Store) -> Result<(), CatalogError> {
        let id = self.manifest.id;
        let listed = store.list(&key(id, "")).await?;
        if let Some(problem) = missing_objects(&self.manifest, &listed).into_iter().next() {
            return Err(problem);
        }
        put_manifest(store, id, &self.sealed).await
    }
}

/// The bytes of one document of a set; none where it has none.
async fn document(
    store: &dyn Store,
    id: BackupId,
    name: &str,
) -> Result<Option<Vec<u8>>, CatalogError> {
    match read_bytes(store, id, name).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(CatalogError::Store(StoreError::NotFound { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}
