//! The containers an archive can have, behind one face: where the blocks of the tar stream lie in the object.
//!
//! `portable` is an .xz stream ([`super::xz`]), `fast` and `small` are zstd frames ([`super::zst`]). An object says by its
//! first bytes which it is.

use std::ops::Range;

use super::read::{ArchiveRead, fetch};
use super::{ArchiveError, ExpectedArchive, Profile, xz, zst};

/// The largest block content that is read: that of xz's level 9.
pub(super) const LARGEST_BLOCK: u64 = 128 << 20;
/// The largest index that is read: of an .xz file enough for the blocks of 50 TB at level 1, of `fast` for 100 TB.
pub(super) const LARGEST_INDEX: u64 = 256 << 20;

/// A block's place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// Where it begins in the object.
    pub offset: u64,
    /// Bytes it takes in the object.
    pub stored: u64,
    /// Where its content begins in the tar stream.
    pub plain: u64,
    /// Bytes of its content.
    pub length: u64,
    pub coded: Coded,
}

/// What the index says besides of a block.
#[derive(Debug, Clone, Copy)]
pub(super) enum Coded {
    Xz {
        /// Bytes without the padding to a multiple of four.
        unpadded: u64,
    },
    Zst(Frame),
}

/// What the index says of a zstd frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// Bytes of the zstd frame's content, from which the block's is restored.
    pub content: u64,
    /// The most bytes that may come of that while the block is restored.
    pub limit: u64,
    /// Whether the content ends with a byte that says how it is made.
    pub marked: bool,
    /// CRC32 of the block's content.
    pub checksum: u32,
}

impl Block {
    /// Where it lies in the object.
    pub(super) fn place(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.stored)
    }

    /// That something is wrong with it.
    pub(super) fn damaged(&self, what: impl std::fmt::Display) -> ArchiveError {
        ArchiveError::Container {
            offset: self.offset,
            what: format!("the block that begins there: {what}"),
        }
    }
}

/// Where everything lies in an object.
pub(super) struct Layout {
    /// As the object itself says.
    pub profile: Profile,
    /// What comes before the blocks, as it is in the object.
    pub head: Vec<u8>,
    /// The tar stream's blocks.
    pub blocks: Vec<Block>,
    /// The block of pixz's file index, where the container has one.
    pub file_index: Option<Block>,
    /// Bytes of the tar stream.
    pub tar_size: u64,
    /// Index and footer, as they are in the object.
    pub tail: Vec<u8>,
}

pub(super) fn damaged(offset: u64, what: &str) -> ArchiveError {
    ArchiveError::Container {
        offset,
        what: what.to_owned(),
    }
}

impl Layout {
    /// What `archive` says of itself; sound, and accounting for every byte of the object.
    pub(super) fn open(archive: &dyn ArchiveRead) -> Result<Self, ArchiveError> {
        let begin = fetch(archive, 0..archive.size().min(4))?;
        match begin.as_slice() {
            [0xFD, b'7', b'z', b'X'] => xz::layout(archive),
            [_, 0x2A, 0x4D, 0x18] => zst::layout(archive),
            _ if begin.len() < 4 => Err(damaged(0, "it is too short")),
            _ => Err(damaged(0, "it does not begin as an archive does")),
        }
    }

    /// The same, held against what is expected.
    pub(super) fn read(
        archive: &dyn ArchiveRead,
        expected: &ExpectedArchive,
    ) -> Result<Self, ArchiveError> {
        let profile = Profile::known(&expected.profile)?;
        let size = archive.size();
        if size != expected.size {
            return Err(ArchiveError::Size {
                expected: expected.size,
                found: size,
            });
        }
        let layout = Self::open(archive)?;
        if layout.profile != profile {
            let found = layout.profile.name();
            let what = format!("its profile is {found} and should be {}", profile.name());
            return Err(damaged(0, &what));
        }
        let index_offset = size.saturating_sub(layout.tail.len() as u64);
        if layout.block_count() != expected.blocks {
            return Err(damaged(
                index_offset,
                "the index has another number of blocks than the manifest",
            ));
        }
        if layout.tar_size != expected.tar_size {
            return Err(damaged(
                index_offset,
                "the tar stream has another length than in the manifest",
            ));
        }
        Ok(layout)
    }

    /// All blocks, the file index's included.
    pub(super) fn block_count(&self) -> u64 {
        self.blocks.len() as u64 + u64::from(self.file_index.is_some())
    }

    /// The numbers of the blocks that hold `range` of the tar stream.
    pub(super) fn covering(&self, range: &Range<u64>) -> Range<usize> {
        let first = self
            .blocks
            .partition_point(|block| block.plain + block.length <= range.start);
        let end = self.blocks.partition_point(|block| block.plain < range.end);
        first..end.max(first)
    }
}
