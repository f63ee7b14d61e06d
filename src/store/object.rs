//! Reading an object from threads: ranges, or from start to end through `std::io::Read`.

use std::io::{self, Read};
use std::ops::Range;

use tokio::runtime::Handle;

use super::{SharedStore, StoreError};

/// Bytes asked for at once when reading from start to end.
const CHUNK: u64 = 1 << 20;

/// One object, readable from any thread that may block; inside an async task reading panics.
#[derive(Debug, Clone)]
pub struct StoredObject {
    store: SharedStore,
    key: String,
    size: u64,
    runtime: Handle,
}

impl StoredObject {
    /// The object `key`, as large as it is now. Call it on the runtime that the store lives on.
    pub async fn open(store: &SharedStore, key: &str) -> Result<Self, StoreError> {
        Ok(Self {
            size: store.size(key).await?,
            store: store.clone(),
            key: key.to_owned(),
            runtime: Handle::current(),
        })
    }

    /// Its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Exactly the bytes of `range`.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.runtime.block_on(self.store.read(&self.key, range))
    }

    /// The object from its first byte to its last.
    pub fn reader(&self) -> ObjectReader {
        ObjectReader {
            object: self.clone(),
            next: 0,
            chunk: io::Cursor::new(Vec::new()),
        }
    }
}

/// Reads a [`StoredObject`] in order. Errors are [`StoreError`]s inside: see [`StoreError::from_io`].
#[derive(Debug)]
pub struct ObjectReader {
    object: StoredObject,
    next: u64,
    chunk: io::Cursor<Vec<u8>>,
}

impl Read for ObjectReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.chunk.read(into)?;
        if read > 0 || into.is_empty() || self.next >= self.object.size {
            return Ok(read);
        }
        let end = self.next.saturating_add(CHUNK).min(self.object.size);
        let chunk = self
            .object
            .read(self.next..end)
            .map_err(StoreError::into_io)?;
        self.next = end;
        self.chunk = io::Cursor::new(chunk);
        self.chunk.read(into)
    }
}
