//! A store in memory, for tests.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{ObjectInfo, ObjectWriter, Store, StoreError, Stored, key};

/// Objects in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<String, Arc<Vec<u8>>>,
    /// Unfinished writes: id and key.
    unfinished: BTreeMap<String, String>,
    begun: u64,
}

const URL: &str = "memory:";

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// The content of `key`, if it exists.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.inner().objects.get(key).map(|found| found.to_vec())
    }

    /// Puts `content` at `key` whatever is there: how a test damages what a store holds.
    pub fn replace(&self, key: &str, content: Vec<u8>) {
        self.inner()
            .objects
            .insert(key.to_owned(), Arc::new(content));
    }

    /// A store with the same objects that shares nothing with this one.
    pub fn deep_clone(&self) -> Self {
        let copy = Self::new();
        copy.inner().objects = self.inner().objects.clone();
        copy
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change is one map operation: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, key: &str, content: Vec<u8>) -> Result<ObjectInfo, StoreError> {
        let size = content.len() as u64;
        match self.inner().objects.entry(key.to_owned()) {
            std::collections::btree_map::Entry::Occupied(_) => Err(exists(key)),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(Arc::new(content));
                Ok(ObjectInfo {
                    key: key.to_owned(),
                    size,
                })
            }
        }
    }

    fn find(&self, key: &str) -> Result<Arc<Vec<u8>>, StoreError> {
        key::check(key)?;
        self.inner()
            .objects
            .get(key)
            .cloned()
            .ok_or_else(|| StoreError::NotFound {
                store: URL.into(),
                key: key.to_owned(),
            })
    }
}

fn exists(key: &str) -> StoreError {
    StoreError::Exists {
        store: URL.into(),
        key: key.to_owned(),
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn url(&self) -> String {
        URL.into()
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        key::check_prefix(prefix)?;
        Ok(self
            .inner()
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, content)| ObjectInfo {
                key: key.clone(),
                size: content.len() as u64,
            })
            .collect())
    }

    async fn put(&self, key: &str, content: &[u8]) -> Result<ObjectInfo, StoreError> {
        key::check(key)?;
        self.add(key, content.to_vec())
    }

    async fn create(
        &self,
        key: &str,
        _expected: Option<u64>,
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        key::check(key)?;
        let mut inner = self.inner();
        if inner.objects.contains_key(key) {
            return Err(exists(key));
        }
        inner.begun = inner.begun.saturating_add(1);
        let id = format!("{key}?{}", inner.begun);
        inner.unfinished.insert(id.clone(), key.to_owned());
        drop(inner);
        Ok(Box::new(MemoryWriter {
            store: self.clone(),
            key: key.to_owned(),
            id,
            content: Vec::new(),
        }))
    }

    async fn size(&self, key: &str) -> Result<u64, StoreError> {
        Ok(self.find(key)?.len() as u64)
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let content = self.find(key)?;
        let size = content.len() as u64;
        if range.end > size {
            return Err(StoreError::Truncated {
                store: URL.into(),
                key: key.to_owned(),
                size,
                wanted: range.end,
            });
        }
        // Both ends are within the content here, or the range is empty.
        let (start, end) = (range.start as usize, range.end as usize);
        Ok(content.get(start..end).unwrap_or_default().to_vec())
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        key::check(key)?;
        self.inner().objects.remove(key);
        Ok(())
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        key::check_prefix(prefix)?;
        Ok(self
            .inner()
            .unfinished
            .iter()
            .filter(|(_, key)| key.starts_with(prefix))
            .map(|(id, _)| id.clone())
            .collect())
    }

    async fn discard_unfinished(&self, id: &str) -> Result<(), StoreError> {
        match id.rsplit_once('?') {
            Some((key, number)) if number.parse::<u64>().is_ok() => key::check(key)?,
            _ => return Err(key::invalid(id)),
        }
        self.inner().unfinished.remove(id);
        Ok(())
    }
}

struct MemoryWriter {
    store: MemoryStore,
    key: String,
    id: String,
    content: Vec<u8>,
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        self.store.inner().unfinished.remove(&self.id);
    }
}

#[async_trait]
impl ObjectWriter for MemoryWriter {
    async fn write(&mut self, chunk: Vec<u8>) -> Result<(), StoreError> {
        self.content.extend_from_slice(&chunk);
        Ok(())
    }

    async fn seal(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Stored, StoreError> {
        if !self.store.inner().unfinished.contains_key(&self.id) {
            return Err(StoreError::Io {
                action: "finish",
                store: URL.into(),
                key: self.key.clone(),
                source: std::io::Error::other("the unfinished write was discarded"),
            });
        }
        let content = std::mem::take(&mut self.content);
        // As a folder: what a test damages after that is found only by who looks.
        Ok(Stored {
            object: self.store.add(&self.key, content)?,
            proven: false,
        })
    }

    async fn abort(self: Box<Self>) -> Result<(), StoreError> {
        Ok(())
    }
}
