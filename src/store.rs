//! Where backups are kept: one small trait, one implementation a file, one conformance suite for all.
//!
//! Keys are `/`-separated relative paths (`mongo_backup-20260131_020000/rs0.tar.xz`). Nothing is ever
//! overwritten: every write creates a new object or fails. An object is visible only when it is whole.

pub mod closed;
pub mod conformance;
mod error;
pub mod fault;
mod key;
pub mod local;
pub mod memory;
pub mod object;
mod probe;
pub mod releasing;
pub mod s3;
pub mod sink;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::config::s3::S3Config;
use crate::ids::RunId;
use crate::retention_lock::RetentionLock;
pub use error::StoreError;

/// A stored object's key and size in bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectInfo {
    /// Key below the store's prefix.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
}

/// A finished object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The object.
    pub object: ObjectInfo,
    /// Whether the store has shown, by a hash that it made itself, that it received the bytes that were sent. Else only
    /// their number is known, and who must be sure reads them back.
    pub proven: bool,
}

/// What a store can do. All calls may be made concurrently.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// The store's address as the configuration gives it, without secrets.
    fn url(&self) -> String;

    /// Where the address does not say it: which server the store is on.
    fn server(&self) -> Option<String> {
        None
    }

    /// Every whole object whose key begins with `prefix`, in key order.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError>;

    /// As [`Store::list`], but folders of the first level that may not be opened, and files below them that may not be
    /// looked at, are told by themselves: the folder's name and why. A store without folders has none.
    async fn list_what_opens(
        &self,
        prefix: &str,
    ) -> Result<(Vec<ObjectInfo>, Vec<(String, StoreError)>), StoreError> {
        Ok((self.list(prefix).await?, Vec::new()))
    }

    /// Creates `key` with `content`; durable when it returns. Fails with [`StoreError::Exists`] where it exists.
    async fn put(&self, key: &str, content: &[u8]) -> Result<ObjectInfo, StoreError>;

    /// Begins a streamed object; nothing is visible under `key` before [`ObjectWriter::finish`].
    /// `expected` is the size to come where it is known, for stores that must size parts.
    async fn create(
        &self,
        key: &str,
        expected: Option<u64>,
    ) -> Result<Box<dyn ObjectWriter>, StoreError>;

    /// Size of `key`, or [`StoreError::NotFound`].
    async fn size(&self, key: &str) -> Result<u64, StoreError>;

    /// Exactly the bytes of `range`; an end beyond the object is [`StoreError::Truncated`].
    async fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError>;

    /// Removes `key`; well done also where it does not exist.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Proves that the store can be written: creates, reads back and removes a small object. Removes what probes that were
    /// killed have left, too.
    async fn probe(&self) -> Result<(), StoreError> {
        probe::sweep(self, Timestamp::now()).await?;
        let key = format!("{}/object", probe::name(Timestamp::now()));
        let content = key.as_bytes();
        let written = self.put(&key, content).await;
        let read = match &written {
            Ok(info) => self.read(&key, 0..info.size).await.map(Some),
            Err(_) => Ok(None),
        };
        // Also after a failure: a put may have failed after its object became visible.
        let deleted = self.delete(&key).await;
        written?;
        let read = read?;
        deleted?;
        if read.as_deref() == Some(content) {
            return Ok(());
        }
        Err(StoreError::Io {
            action: "read back",
            store: self.url(),
            key,
            source: std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "the store returned other bytes than were written",
            ),
        })
    }

    /// Unfinished writes (partial files, multipart uploads) whose key begins with `prefix`; each can be given to [`Store::discard_unfinished`].
    async fn unfinished(&self, prefix: &str) -> Result<Vec<String>, StoreError>;

    /// Removes one unfinished write named by [`Store::unfinished`]; well done also where it is gone.
    async fn discard_unfinished(&self, id: &str) -> Result<(), StoreError>;

    /// The same store, whose unfinished writes [`Store::unfinished_of`] knows for those of `run`. None where an object that is put
    /// leaves nothing unfinished.
    fn of_run(&self, _run: RunId) -> Option<SharedStore> {
        None
    }

    /// Those of [`Store::unfinished`] that are known for `run`'s, whoever else is writing there.
    async fn unfinished_of(&self, _prefix: &str, _run: RunId) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    /// The same store, whose objects are not waited for any more when `unwanted` is cancelled: they fail with
    /// [`StoreError::Interrupted`]. None where nobody waits long anyway.
    fn while_wanted(&self, _unwanted: &CancellationToken) -> Option<SharedStore> {
        None
    }

    /// Ends every write that was begun by way of this handle and neither finished nor given up, such as those whose writers
    /// were dropped. Not every server lists them for [`Store::unfinished`], and then nobody else can.
    async fn give_up_open(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether creating `key`, which holds `content`, once more is refused, as it must be for two hosts to exclude each
    /// other. Stores that cannot fail here need not be asked.
    async fn creates_once(&self, _key: &str, _content: &[u8]) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// How an object is best read from start to end.
    fn read_ahead(&self) -> ReadAhead {
        ReadAhead {
            chunk: 1 << 20,
            at_once: 1,
        }
    }

    /// What of an object of `expected` bytes waits in files of this host on its way; none where nothing does.
    fn spool(&self, _expected: u64) -> Option<Spool> {
        None
    }

    /// How each object of a backup is locked there: what is deleted before that has ended is only hidden.
    fn object_lock(&self) -> Option<RetentionLock> {
        None
    }

    /// The folder on this host that holds the store, if it is one: it must not lie on a volume that is snapshotted.
    fn local_path(&self) -> Option<&Path> {
        None
    }
}

/// Room that a store needs on this host while an object is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spool {
    /// Where.
    pub folder: PathBuf,
    /// How much at the same time.
    pub bytes: u64,
}

/// How an object is best read from start to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadAhead {
    /// Bytes asked for at once.
    pub chunk: u64,
    /// Chunks under way at the same time.
    pub at_once: usize,
}

/// A shared handle on a store.
pub type SharedStore = Arc<dyn Store>;

/// What opening a store needs besides its address.
#[derive(Debug, Clone, Default)]
pub struct StoreSettings {
    /// For stores in S3.
    pub s3: S3Config,
    /// For those of them that have settings of their own, by their addresses.
    pub others: BTreeMap<String, S3Config>,
    /// Where parts wait that are too large for memory.
    pub spool_dir: PathBuf,
    /// Cancelled when nothing at all is to be waited for any more.
    pub hurry: CancellationToken,
}

impl StoreSettings {
    /// The same for somebody who does not try a store for longer than `limit`.
    pub fn impatient(mut self, limit: Duration) -> Self {
        for s3 in self.others.values_mut().chain([&mut self.s3]) {
            s3.retry_for.0 = s3.retry_for.0.min(limit);
            s3.timeout.0 = s3.timeout.0.min(limit);
        }
        self
    }
}

/// When the calls of a store end before they are done.
#[derive(Debug, Clone)]
pub struct Ending {
    /// Cancelled when we were asked to end: nothing is tried again then, but a change under way is waited for, so that
    /// whoever cleans up sees what became of it.
    pub cancel: CancellationToken,
    /// Cancelled when that is not to be waited for, either.
    pub hurry: CancellationToken,
}

impl From<CancellationToken> for Ending {
    fn from(cancel: CancellationToken) -> Self {
        Self {
            cancel,
            hurry: CancellationToken::new(),
        }
    }
}

/// Opens the store at `url`: `file:///an/absolute/folder`, just `/an/absolute/folder`, or `s3://bucket/prefix`.
///
/// A folder must exist: were it made here, a backup disk that is not mounted would
/// silently become a folder on the disk below. Of a server nothing is asked yet. Its calls end when `cancel` is cancelled.
pub fn open(
    url: &str,
    settings: &StoreSettings,
    cancel: &CancellationToken,
) -> Result<SharedStore, StoreError> {
    let invalid = |reason: &str| StoreError::InvalidUrl {
        url: without_secrets(url),
        reason: reason.to_owned(),
    };
    if url.starts_with('/') {
        return Ok(Arc::new(local::LocalStore::open(Path::new(url))?));
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(invalid("it is neither a URL nor an absolute path"));
    };
    match scheme {
        "file" if !rest.starts_with('/') => Err(invalid(
            "a file URL names no host and has three slashes: file:///absolute/path",
        )),
        "file" if rest.contains(['%', '?', '#']) => Err(invalid(
            "%, ? and # have a meaning of their own in URLs: give the bare path instead",
        )),
        "file" => Ok(Arc::new(local::LocalStore::open(Path::new(rest))?)),
        "s3" => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() || bucket.contains(['@', ':', '?', '#']) {
                return Err(invalid("write s3://bucket or s3://bucket/prefix"));
            }
            let prefix = prefix.trim_end_matches('/');
            if !prefix.is_empty() && key::check(prefix).is_err() {
                return Err(invalid("its prefix is no plain relative path"));
            }
            let ending = Ending {
                cancel: cancel.clone(),
                hurry: settings.hurry.clone(),
            };
            let spool = settings.spool_dir.clone();
            let settings = settings.others.get(url).unwrap_or(&settings.s3);
            let store = s3::S3Store::new(bucket, prefix, settings, spool, ending);
            Ok(Arc::new(store))
        }
        _ => Err(invalid(
            "only file:// and s3:// are stores this version knows",
        )),
    }
}

/// The address without user information and query, which may carry secrets.
pub(crate) fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let rest = rest.split_once('?').map_or(rest, |(kept, _)| kept);
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// An object being written. Dropping it without [`ObjectWriter::finish`] leaves nothing visible.
#[async_trait]
pub trait ObjectWriter: Send {
    /// Appends `chunk`; waits while the store is slower than the writer.
    async fn write(&mut self, chunk: Vec<u8>) -> Result<(), StoreError>;

    /// Nothing more is written. What is left goes on its way, and the room that was kept for more is given back: who writes
    /// many objects before the first is finished would wait for it for ever. Does not wait for the store.
    async fn seal(&mut self) -> Result<(), StoreError>;

    /// Makes the object visible under its key, durable, with exactly the bytes written.
    async fn finish(self: Box<Self>) -> Result<Stored, StoreError>;

    /// Gives the object up and removes what was written.
    async fn abort(self: Box<Self>) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests;
