//! Reading one object to its end and comparing it with the manifest. These functions block.

use std::io::{self, Read};
use std::num::NonZeroUsize;

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::archive::{self, ArchiveError};
use crate::ids::{Hash, ShardName};
use crate::manifest::table::{TableCheck, TableError, TableReader};
use crate::manifest::{ArchiveRecord, Manifest};
use crate::progress::Meter;
use crate::restore::fetch::entries;
use crate::store::StoreError;
use crate::store::object::StoredObject;

/// Bytes hashed at once.
const CHUNK: usize = 1 << 20;

/// Who watches a check, and may end it.
pub(super) struct Watch {
    pub meter: Meter,
    pub cancel: CancellationToken,
}

/// Why a check did not end well. All but the first two, and stores that fail, are damage.
#[derive(Debug, Error)]
pub(super) enum CheckError {
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    Store(StoreError),
    #[error("its hash is {actual}, it should be {expected}")]
    Hash { expected: Hash, actual: Hash },
    #[error(transparent)]
    Table(TableError),
    #[error(transparent)]
    Archive(ArchiveError),
    #[error("it cannot be read: {0}")]
    Read(io::Error),
}

/// Hashes and counts what is read, and stops when cancelled.
struct Hashing<'a, R> {
    inner: R,
    hasher: blake3::Hasher,
    watch: &'a Watch,
}

impl<'a, R: Read> Hashing<'a, R> {
    fn new(inner: R, watch: &'a Watch) -> Self {
        Self {
            inner,
            hasher: blake3::Hasher::new(),
            watch,
        }
    }

    /// Reads what is left and compares the hash of everything.
    fn finish(mut self, expected: Hash) -> Result<(), CheckError> {
        let mut buffer = vec![0; CHUNK];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(self.watch.failed(error)),
            }
        }
        let actual = Hash::from(self.hasher.finalize());
        if actual == expected {
            Ok(())
        } else {
            Err(CheckError::Hash { expected, actual })
        }
    }
}

impl<R: Read> Read for Hashing<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.watch.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let read = self.inner.read(into)?;
        self.hasher.update(into.get(..read).unwrap_or_default());
        self.watch.meter.advance(read as u64);
        Ok(read)
    }
}

impl Watch {
    fn failed(&self, error: io::Error) -> CheckError {
        if self.cancel.is_cancelled() {
            return CheckError::Cancelled;
        }
        match StoreError::from_io(error) {
            Ok(error) => CheckError::Store(error),
            Err(error) => CheckError::Read(error),
        }
    }

    fn table_failed(&self, error: TableError) -> CheckError {
        match error {
            _ if self.cancel.is_cancelled() => CheckError::Cancelled,
            TableError::Store(error) => CheckError::Store(error),
            error => CheckError::Table(error),
        }
    }
}

/// Checks the file table: its hash, every line, and that it lists what the manifest counts.
pub(super) fn table(
    object: &StoredObject,
    manifest: &Manifest,
    watch: &Watch,
) -> Result<u64, CheckError> {
    let mut bytes = Hashing::new(object.reader(), watch);
    let content = table_content(&mut bytes, manifest);
    // A wrong hash is the better message: it says that the content is not what was written.
    match content {
        Err(error @ TableError::Store(_)) => return Err(watch.table_failed(error)),
        Err(error) if watch.cancel.is_cancelled() => return Err(watch.table_failed(error)),
        _ => {}
    }
    bytes.finish(manifest.files.hash)?;
    content.map_err(|error| watch.table_failed(error))
}

fn table_content(bytes: impl Read, manifest: &Manifest) -> Result<u64, TableError> {
    let mut check = TableCheck::new(manifest);
    let mut entries = 0u64;
    for entry in TableReader::new(bytes)? {
        check.entry(&entry?)?;
        entries = entries.saturating_add(1);
    }
    check.end()?;
    Ok(entries)
}

/// Checks an archive: its hash, every block, and that it holds exactly what `table` lists for `shard`.
pub(super) fn archive(
    object: &StoredObject,
    record: &ArchiveRecord,
    table: &StoredObject,
    shard: ShardName,
    threads: NonZeroUsize,
    watch: &Watch,
) -> Result<(), CheckError> {
    let checked = entries(table, shard).and_then(|mut entries| {
        archive::check(
            object,
            &record.into(),
            &mut entries,
            threads,
            &watch.meter,
            &watch.cancel,
        )
    });
    match checked {
        Ok(_) => Ok(()),
        Err(ArchiveError::Cancelled) => Err(CheckError::Cancelled),
        Err(ArchiveError::Fetch(error) | ArchiveError::Table(TableError::Store(error))) => {
            Err(CheckError::Store(error))
        }
        Err(error) => Err(CheckError::Archive(error)),
    }
}

/// Checks only an object's hash, where there is nothing to check more against.
pub(super) fn bytes(
    object: &StoredObject,
    expected: Hash,
    watch: &Watch,
) -> Result<(), CheckError> {
    Hashing::new(object.reader(), watch).finish(expected)
}
