//! A store that fails as it is told, around one that does not: for tests of everything that uses stores.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{ObjectInfo, ObjectWriter, SharedStore, Store, StoreError, Stored};
use crate::ids::RunId;

/// The calls that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`Store::list`].
    List,
    /// [`Store::put`].
    Put,
    /// [`Store::create`].
    Create,
    /// [`ObjectWriter::write`].
    Write,
    /// [`ObjectWriter::finish`].
    Finish,
    /// [`ObjectWriter::abort`].
    Abort,
    /// [`Store::size`].
    Size,
    /// [`Store::read`].
    Read,
    /// [`Store::delete`].
    Delete,
    /// [`Store::unfinished`].
    Unfinished,
    /// [`Store::discard_unfinished`].
    Discard,
}

impl Call {
    /// Every call, for tests that fail each in turn.
    pub const ALL: [Self; 11] = [
        Self::List,
        Self::Put,
        Self::Create,
        Self::Write,
        Self::Finish,
        Self::Abort,
        Self::Size,
        Self::Read,
        Self::Delete,
        Self::Unfinished,
        Self::Discard,
    ];
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The `nth` such call from now on (the first is 1) fails with this kind of error, and nothing is done.
    Fail {
        /// Which call.
        call: Call,
        /// Which of them.
        nth: u32,
        /// With what.
        kind: io::ErrorKind,
    },
    /// What is read of `key` differs in this byte.
    Flip {
        /// The object.
        key: String,
        /// The byte's offset in it.
        offset: u64,
        /// What it is XORed with.
        mask: u8,
    },
    /// The next listing does not show what ends so, like one made a moment before it was there.
    Unlisted {
        /// The end of the key.
        ending: String,
    },
    /// `key` seems to end at this size.
    Cut {
        /// The object.
        key: String,
        /// Its seeming size.
        size: u64,
    },
}

/// The store with the faults.
#[derive(Debug, Clone)]
pub struct FaultStore {
    inner: SharedStore,
    script: Arc<Mutex<Vec<Fault>>>,
}

impl FaultStore {
    /// A store that behaves like `inner` until told otherwise.
    pub fn new(inner: SharedStore) -> Self {
        Self {
            inner,
            script: Arc::default(),
        }
    }

    /// Adds a fault; clones of this store have it too.
    pub fn add(&self, fault: Fault) {
        self.script().push(fault);
    }

    /// Makes the `nth` such call from now on fail with `kind`.
    pub fn fail(&self, call: Call, nth: u32, kind: io::ErrorKind) {
        self.add(Fault::Fail { call, nth, kind });
    }

    /// Whether every planned failure has happened.
    pub fn all_failed(&self) -> bool {
        !self
            .script()
            .iter()
            .any(|fault| matches!(fault, Fault::Fail { .. }))
    }

    fn script(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one `call`, and fails where one was planned to.
    fn pass(&self, call: Call, key: &str) -> Result<(), StoreError> {
        let mut failure = None;
        self.script().retain_mut(|fault| match fault {
            Fault::Fail {
                call: planned,
                nth,
                kind,
            } if *planned == call => {
                *nth = nth.saturating_sub(1);
                if *nth == 0 {
                    failure = Some(*kind);
                }
                *nth > 0
            }
            _ => true,
        });
        match failure {
            None => Ok(()),
            Some(kind) => Err(StoreError::Io {
                action: "reach",
                store: self.inner.url(),
                key: key.to_owned(),
                source: io::Error::new(kind, "planned fault"),
            }),
        }
    }

    /// The size `key` seems to have.
    fn seen_size(&self, key: &str, size: u64) -> u64 {
        self.script()
            .iter()
            .filter_map(|fault| match fault {
                Fault::Cut { key: cut, size } if cut == key => Some(*size),
                _ => None,
            })
            .fold(size, u64::min)
    }
}

#[async_trait]
impl Store for FaultStore {
    fn url(&self) -> String {
        self.inner.url()
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.pass(Call::List, prefix)?;
        let mut found = self.inner.list(prefix).await?;
        self.script().retain(|fault| match fault {
            Fault::Unlisted { ending } => {
                found.retain(|info| !info.key.ends_with(ending));
                false
            }
            _ => true,
        });
        for info in &mut found {
            info.size = self.seen_size(&info.key, info.size);
        }
        Ok(found)
    }

    async fn put(&self, key: &str, content: &[u8]) -> Result<ObjectInfo, StoreError> {
        self.pass(Call::Put, key)?;
        self.inner.put(key, content).await
    }

    async fn create(
        &self,
        key: &str,
        expected: Option<u64>,
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        self.pass(Call::Create, key)?;
        Ok(Box::new(FaultWriter {
            store: self.clone(),
            key: key.to_owned(),
            inner: self.inner.create(key, expected).await?,
        }))
    }

    async fn size(&self, key: &str) -> Result<u64, StoreError> {
        self.pass(Call::Size, key)?;
        Ok(self.seen_size(key, self.inner.size(key).await?))
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.pass(Call::Read, key)?;
        let size = self.seen_size(key, u64::MAX);
        if range.end > size {
            return Err(StoreError::Truncated {
                store: self.inner.url(),
                key: key.to_owned(),
                size,
                wanted: range.end,
            });
        }
        let mut content = self.inner.read(key, range.clone()).await?;
        for fault in self.script().iter() {
            if let Fault::Flip {
                key: flipped,
                offset,
                mask,
            } = fault
                && flipped == key
                && let Some(at) = offset.checked_sub(range.start)
                && let Some(byte) = usize::try_from(at).ok().and_then(|at| content.get_mut(at))
            {
                *byte ^= mask;
            }
        }
        Ok(content)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.pass(Call::Delete, key)?;
        self.inner.delete(key).await
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.pass(Call::Unfinished, prefix)?;
        self.inner.unfinished(prefix).await
    }

    async fn discard_unfinished(&self, id: &str) -> Result<(), StoreError> {
        self.pass(Call::Discard, id)?;
        self.inner.discard_unfinished(id).await
    }

    fn of_run(&self, run: RunId) -> Option<SharedStore> {
        Some(Arc::new(Self {
            inner: self.inner.of_run(run)?,
            script: self.script.clone(),
        }))
    }

    async fn unfinished_of(&self, prefix: &str, run: RunId) -> Result<Vec<String>, StoreError> {
        self.pass(Call::Unfinished, prefix)?;
        self.inner.unfinished_of(prefix, run).await
    }

    fn while_wanted(&self, unwanted: &CancellationToken) -> Option<SharedStore> {
        Some(Arc::new(Self {
            inner: self.inner.while_wanted(unwanted)?,
            script: self.script.clone(),
        }))
    }

    async fn give_up_open(&self) -> Result<(), StoreError> {
        self.inner.give_up_open().await
    }

    fn local_path(&self) -> Option<&Path> {
        self.inner.local_path()
    }
}

struct FaultWriter {
    store: FaultStore,
    key: String,
    inner: Box<dyn ObjectWriter>,
}

#[async_trait]
impl ObjectWriter for FaultWriter {
    async fn write(&mut self, chunk: Vec<u8>) -> Result<(), StoreError> {
        self.store.pass(Call::Write, &self.key)?;
        self.inner.write(chunk).await
    }

    async fn seal(&mut self) -> Result<(), StoreError> {
        self.inner.seal().await
    }

    async fn finish(self: Box<Self>) -> Result<Stored, StoreError> {
        self.store.pass(Call::Finish, &self.key)?;
        self.inner.finish().await
    }

    async fn abort(self: Box<Self>) -> Result<(), StoreError> {
        self.store.pass(Call::Abort, &self.key)?;
        self.inner.abort().await
    }
}
