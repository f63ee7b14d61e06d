//! The tar stream: POSIX pax, regular files, sparse files (GNU's pax format 1.0) and directories, nothing else.

mod header;
mod pax;
mod reader;
#[cfg(test)]
mod tests;

pub(super) use header::{BLOCK, headers};
pub(super) use pax::decimal;
pub(super) use reader::{Piece, Reader, Source};

use super::extents::Segment;
use super::path::ArchivePath;
use crate::manifest::EntryKind;

/// The stream is padded with zeros to a multiple of this, as `tar` does it.
pub(super) const RECORD: u64 = 10_240;
/// The longest pax header, which bounds the extended attributes of one entry.
pub(super) const LONGEST_PAX: u64 = 1 << 20;

/// An extended attribute, name and value.
pub(super) type Xattr = (Vec<u8>, Vec<u8>);

/// What precedes an entry's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub path: ArchivePath,
    pub kind: EntryKind,
    /// Logical size, holes included; 0 for directories.
    pub size: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: i64,
    pub mtime_ns: u32,
    pub xattrs: Vec<Xattr>,
    /// Where the data of a file with holes is; none for a file without.
    pub segments: Option<Vec<Segment>>,
}

impl Entry {
    /// Bytes of data in the stream, without headers, map and padding.
    pub(super) fn data_size(&self) -> u64 {
        match &self.segments {
            Some(segments) => segments.iter().map(|s| s.length).sum(),
            None => self.size,
        }
    }
}

/// Zeros needed after `size` bytes to fill a block.
pub(super) fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK as u64) as usize
}
