//! pixz's file index: which path begins where in the tar stream.
//!
//! Its bytes: an 8-byte magic number, then for every entry its name, a NUL and the 8-byte offset of its first
//! header, and at the end an empty name with the tar stream's length. All numbers little-endian.

use super::path::ArchivePath;
use crate::manifest::EntryKind;

const MAGIC: u64 = 0xDBAE_14D6_2E32_4CA6;

/// Receives the index's bytes piece by piece: kept when packing, hashed when checking.
pub(super) trait Collect {
    fn collect(&mut self, bytes: &[u8]);
}

impl Collect for Vec<u8> {
    fn collect(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Collect for blake3::Hasher {
    fn collect(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// Builds the index while entries go by.
pub(super) struct FileIndex<C> {
    collected: C,
    /// Where a run of AppleDouble names began.
    pending: Option<u64>,
}

impl<C: Collect> FileIndex<C> {
    pub(super) fn new(mut collected: C) -> Self {
        collected.collect(&MAGIC.to_le_bytes());
        Self {
            collected,
            pending: None,
        }
    }

    /// An entry whose first header is at `offset`.
    pub(super) fn add(&mut self, path: &ArchivePath, kind: EntryKind, offset: u64) {
        // pixz takes a name that begins with `._` for a part of the entry after it, and stops at an index that does not.
        if kind == EntryKind::File && path.split().1.starts_with(b"._") {
            self.pending.get_or_insert(offset);
            return;
        }
        let offset = self.pending.take().unwrap_or(offset);
        self.collected.collect(path.as_bytes());
        if kind == EntryKind::Directory {
            self.collected.collect(b"/");
        }
        self.collected.collect(b"\0");
        self.collected.collect(&offset.to_le_bytes());
    }

    /// The end of the tar stream.
    pub(super) fn finish(mut self, tar_size: u64) -> C {
        let offset = self.pending.take().unwrap_or(tar_size);
        self.collected.collect(b"\0");
        self.collected.collect(&offset.to_le_bytes());
        self.collected
    }
}
