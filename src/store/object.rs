//! Reading an object from threads: ranges, or from start to end through `std::io::Read`.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::Range;

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::{ReadAhead, SharedStore, StoreError};

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
            read_ahead: self.store.read_ahead(),
            next: 0,
            coming: VecDeque::new(),
            chunk: io::Cursor::new(Vec::new()),
        }
    }
}

/// Reads a [`StoredObject`] in order, some chunks ahead where the store is far away. Errors are [`StoreError`]s inside: see
/// [`StoreError::from_io`].
#[derive(Debug)]
pub struct ObjectReader {
    object: StoredObject,
    read_ahead: ReadAhead,
    /// Where the next chunk to be asked for begins.
    next: u64,
    coming: VecDeque<AbortOnDropHandle<Result<Vec<u8>, StoreError>>>,
    chunk: io::Cursor<Vec<u8>>,
}

impl ObjectReader {
    fn ask_ahead(&mut self) {
        let object = &self.object;
        while self.coming.len() < self.read_ahead.at_once.max(1) && self.next < object.size {
            let end = self
                .next
                .saturating_add(self.read_ahead.chunk.max(1))
                .min(object.size);
            let (store, key, range) = (object.store.clone(), object.key.clone(), self.next..end);
            let reading = object
                .runtime
                .spawn(async move { store.read(&key, range).await });
            self.coming.push_back(AbortOnDropHandle::new(reading));
            self.next = end;
        }
    }
}

impl Read for ObjectReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.chunk.read(into)?;
        if read > 0 || into.is_empty() {
            return Ok(read);
        }
        self.ask_ahead();
        let Some(coming) = self.coming.pop_front() else {
            return Ok(0);
        };
        let chunk = self
            .object
            .runtime
            .block_on(coming)
            .map_err(io::Error::other)?
            .map_err(StoreError::into_io)?;
        self.chunk = io::Cursor::new(chunk);
        self.chunk.read(into)
    }
}
