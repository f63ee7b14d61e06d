//! Holds: `<set>/hold.json` keeps a backup from being pruned, whatever the rules say.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reader::readers;
use super::write::write_document;
use super::{CatalogError, belongs, key, read_document, read_recorded};
use crate::ids::BackupId;
use crate::manifest::FORMAT_FIRST;
use crate::store::{ObjectInfo, Store, StoreError};

/// The object's name in the set.
pub const HOLD: &str = "hold.json";

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldDocument {
    /// Format version, as in the manifest.
    pub format: u32,
    /// The set.
    pub id: BackupId,
    /// What is to be known of it.
    #[serde(flatten)]
    pub hold: Hold,
}

/// What is known of a hold. Of one whose document cannot be read that is nothing; it holds all the same.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hold {
    /// Since when.
    pub at: Option<Timestamp>,
    /// The host it was made on.
    pub host: Option<String>,
    /// What for.
    pub note: Option<String>,
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Some(at), Some(host)) = (&self.at, &self.host) else {
            return write!(f, "held, and {HOLD} does not tell since when");
        };
        write!(f, "held since {at:.0} by {host}")?;
        match &self.note {
            Some(note) => write!(f, ": {note}"),
            None => Ok(()),
        }
    }
}

/// What became of an order to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// It is held from now on.
    Now(Hold),
    /// It was held before, and that stays as it is.
    Before(Hold),
}

/// Holds the backup `id`.
///
/// # Errors
/// [`CatalogError`] where there is no such backup, or is none any more.
pub async fn hold(store: &dyn Store, id: BackupId, hold: Hold) -> Result<Held, CatalogError> {
    read_recorded(store, id).await?;
    let document = HoldDocument {
        format: FORMAT_FIRST,
        id,
        hold,
    };
    let held = match write_document(store, id, HOLD, &document).await {
        Ok(()) => Held::Now(document.hold),
        Err(CatalogError::Store(StoreError::Exists { .. })) => {
            let before = read_document::<HoldDocument>(store, id, HOLD).await;
            Held::Before(before.map(|before| before.hold).unwrap_or_default())
        }
        Err(error) => return Err(error),
    };
    // Who prunes removes the manifest, and looks for holds then: one of us two sees the other.
    match read_recorded(store, id).await {
        Ok(_) => Ok(held),
        Err(error) => {
            if let Held::Now(_) = held
                && let Err(left) = store.delete(&key(id, HOLD)).await
            {
                tracing::warn!(%id, error = %left, "the hold stays, on what is no backup any more");
            }
            Err(error)
        }
    }
}

/// Ends the hold on `id`; well done also where there is none.
///
/// # Errors
/// [`CatalogError`].
pub async fn release(store: &dyn Store, id: BackupId) -> Result<(), CatalogError> {
    Ok(store.delete(&key(id, HOLD)).await?)
}

/// The hold on `id`, where the listing has one.
///
/// # Errors
/// [`StoreError`]; a document that cannot be read is a hold.
pub(super) async fn read_hold(
    store: &dyn Store,
    id: BackupId,
    listed: &[ObjectInfo],
) -> Result<Option<Hold>, StoreError> {
    if !is_held(id, listed) {
        return Ok(None);
    }
    let read = read_document::<HoldDocument>(store, id, HOLD).await;
    match read.and_then(|read| belongs(id, HOLD, read.id).map(|()| read)) {
        Ok(document) => Ok(Some(document.hold)),
        // Released since it was listed.
        Err(CatalogError::Store(StoreError::NotFound { .. })) => Ok(None),
        Err(CatalogError::Store(error)) if !error.is_denial() => Err(error),
        Err(_) => Ok(Some(Hold::default())),
    }
}

/// Whether the listing of `id` has a hold.
pub fn is_held(id: BackupId, listed: &[ObjectInfo]) -> bool {
    let hold = key(id, HOLD);
    listed.iter().any(|object| object.key == hold)
}

/// Whether somebody holds or reads `id` at `now`, by its listing.
pub fn is_taken(id: BackupId, listed: &[ObjectInfo], now: Timestamp) -> bool {
    let is_read = readers(id, listed).iter().any(|reader| reader.until > now);
    is_held(id, listed) || is_read
}

#[cfg(test)]
mod tests {
    use super::super::{list, sample};
    use super::*;
    use crate::error::{Exit, Explain};
    use crate::store::SharedStore;
    use crate::store::memory::MemoryStore;

    fn upgrade() -> Hold {
        Hold {
            at: Some("2026-02-01T00:00:00Z".parse().unwrap()),
            host: Some("db3".into()),
            note: Some("before the upgrade".into()),
        }
    }

    #[tokio::test]
    async fn a_hold_is_made_listed_and_released() {
        let memory = MemoryStore::new();
        let store: SharedStore = std::sync::Arc::new(memory.clone());
        let store = store.as_ref();
        let missing = hold(store, sample::id(), upgrade()).await.unwrap_err();
        assert_eq!(missing.exit(), Exit::Store);
        sample::write(&(std::sync::Arc::new(memory.clone()) as SharedStore)).await;
        let found = async || list(store).await.unwrap().remove(0).hold;
        assert_eq!(found().await, None);
        let made = hold(store, sample::id(), upgrade()).await.unwrap();
        assert_eq!(made, Held::Now(upgrade()));
        assert_eq!(found().await, Some(upgrade()));
        let other = Hold {
            note: None,
            ..upgrade()
        };
        let again = hold(store, sample::id(), other).await.unwrap();
        assert_eq!(again, Held::Before(upgrade()));
        // What it says does not matter: it holds.
        memory.replace(&key(sample::id(), HOLD), b"{".to_vec());
        assert_eq!(found().await, Some(Hold::default()));
        release(store, sample::id()).await.unwrap();
        release(store, sample::id()).await.unwrap();
        assert_eq!(found().await, None);
    }
}
