//! Finding one's way in an archive object: where it is read from, and where its blocks lie.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::xz::{self, EDGE, HEADER, Record};
use super::{ArchiveError, ExpectedArchive};
use crate::store::StoreError;

/// An archive object that can be read at any place, by several threads at once.
pub trait ArchiveRead: Send + Sync {
    /// Its size in bytes.
    fn size(&self) -> u64;
    /// Exactly the bytes of `range`.
    fn read_at(&self, range: Range<u64>) -> Result<Vec<u8>, StoreError>;
}

/// An archive in a file.
#[derive(Debug)]
pub struct FileArchive {
    path: PathBuf,
    file: File,
    size: u64,
}

impl FileArchive {
    /// Opens `path`.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = opened.map_err(|source| ArchiveError::Read {
            path: path.to_path_buf(),
            offset: 0,
            source,
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
            size,
        })
    }
}

impl ArchiveRead for FileArchive {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let key = || {
            self.path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let store = || {
            let folder = self.path.parent().unwrap_or(Path::new("."));
            folder.display().to_string()
        };
        if range.end > self.size {
            return Err(StoreError::Truncated {
                store: store(),
                key: key(),
                size: self.size,
                wanted: range.end,
            });
        }
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        match self.file.read_exact_at(&mut bytes, range.start) {
            Ok(()) => Ok(bytes),
            Err(source) => Err(StoreError::Io {
                action: "read",
                store: store(),
                key: key(),
                source,
            }),
        }
    }
}

/// The bytes of `range`, and no others.
pub(super) fn fetch(archive: &dyn ArchiveRead, range: Range<u64>) -> Result<Vec<u8>, ArchiveError> {
    let (start, length) = (range.start, range.end.saturating_sub(range.start));
    let bytes = archive.read_at(range)?;
    if bytes.len() as u64 != length {
        return Err(ArchiveError::Container {
            offset: start,
            what: format!("{} bytes came where {length} were asked for", bytes.len()),
        });
    }
    Ok(bytes)
}

/// The largest block content that is read: that of level 9.
const LARGEST_BLOCK: u64 = 128 << 20;
/// The largest xz index that is read; enough for the blocks of 50 TB at level 1.
const LARGEST_INDEX: u64 = 256 << 20;

/// A block's place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// Where it begins in the object.
    pub offset: u64,
    /// Where its content begins in the tar stream.
    pub plain: u64,
    pub record: Record,
}

/// Where everything lies in an object.
pub(super) struct Layout {
    /// The tar stream's blocks.
    pub blocks: Vec<Block>,
    /// The file index's block.
    pub file_index: Block,
    /// Bytes of the tar stream.
    pub tar_size: u64,
    /// The xz index and the stream footer, as they are in the object.
    pub tail: Vec<u8>,
}

impl Layout {
    /// Reads header, footer and index of `archive`, and holds them against what is expected.
    pub(super) fn read(
        archive: &dyn ArchiveRead,
        expected: &ExpectedArchive,
    ) -> Result<Self, ArchiveError> {
        let size = archive.size();
        if size != expected.size {
            return Err(ArchiveError::Size {
                expected: expected.size,
                found: size,
            });
        }
        let damaged = |offset: u64, what: &str| ArchiveError::Container {
            offset,
            what: what.to_owned(),
        };
        let edge = EDGE as u64;
        let Some(footer_offset) = size.checked_sub(edge).filter(|at| *at >= edge) else {
            return Err(damaged(0, "it is too short"));
        };
        if fetch(archive, 0..edge)? != HEADER {
            return Err(damaged(0, "it does not begin as an archive does"));
        }
        let footer = fetch(archive, footer_offset..size)?;
        let footer = footer
            .first_chunk::<EDGE>()
            .ok_or_else(|| damaged(footer_offset, "no footer"))?;
        let index_size = xz::parse_footer(footer).map_err(|what| damaged(footer_offset, what))?;
        let Some(index_offset) = footer_offset
            .checked_sub(index_size)
            .filter(|at| *at >= edge && index_size <= LARGEST_INDEX)
        else {
            return Err(damaged(
                footer_offset,
                "the footer names an impossible index size",
            ));
        };
        let mut tail = fetch(archive, index_offset..footer_offset)?;
        let records = xz::parse_index(&tail, index_offset - edge)
            .map_err(|what| damaged(index_offset, what))?;
        tail.extend_from_slice(footer);
        if records.len() as u64 != expected.blocks {
            return Err(damaged(
                index_offset,
                "the index has another number of blocks than the manifest",
            ));
        }

        let mut blocks = Vec::with_capacity(records.len());
        let (mut offset, mut plain) = (edge, 0u64);
        for record in records {
            blocks.push(Block {
                offset,
                plain,
                record,
            });
            let fits = record
                .uncompressed
                .checked_add(record.uncompressed / 1024 + 4096)
                .is_some_and(|most| record.unpadded <= most);
            offset = offset.saturating_add(record.total());
            if !fits || offset > index_offset {
                return Err(damaged(
                    index_offset,
                    "the index holds an impossible block size",
                ));
            }
            plain = plain.saturating_add(record.uncompressed);
        }
        let file_index = blocks
            .pop()
            .ok_or_else(|| damaged(index_offset, "there are no blocks"))?;
        if offset != index_offset {
            return Err(damaged(
                index_offset,
                "the index does not account for every byte",
            ));
        }
        if blocks
            .iter()
            .any(|block| block.record.uncompressed > LARGEST_BLOCK)
        {
            return Err(damaged(
                index_offset,
                "a block is larger than any level makes",
            ));
        }
        if file_index.plain != expected.tar_size {
            return Err(damaged(
                index_offset,
                "the tar stream has another length than in the manifest",
            ));
        }
        Ok(Self {
            blocks,
            file_index,
            tar_size: file_index.plain,
            tail,
        })
    }

    /// The numbers of the blocks that hold `range` of the tar stream.
    pub(super) fn covering(&self, range: &Range<u64>) -> Range<usize> {
        let first = self
            .blocks
            .partition_point(|block| block.plain + block.record.uncompressed <= range.start);
        let end = self.blocks.partition_point(|block| block.plain < range.end);
        first..end.max(first)
    }
}
