//! Removing a set, in an order that leaves something plain wherever it is cut off.

use super::key;
use crate::ids::BackupId;
use crate::manifest::{INTENT, MANIFEST};
use crate::store::{ObjectInfo, Store, StoreError};

/// Removes the `objects` of the set `id`: the manifest first, since without one it is no backup, and the intent last, since as long as anything is left it
/// tells whose that is. Stops at the first that stays.
///
/// # Errors
/// [`StoreError`].
pub async fn clear(
    store: &dyn Store,
    id: BackupId,
    mut objects: Vec<ObjectInfo>,
) -> Result<(), StoreError> {
    let (manifest, intent) = (key(id, MANIFEST), key(id, INTENT));
    objects.sort_by_key(|object| match &object.key {
        key if *key == manifest => 0,
        key if *key == intent => 2,
        _ => 1,
    });
    for object in objects {
        store.delete(&object.key).await?;
    }
    Ok(())
}
