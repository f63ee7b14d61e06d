//! Archives: a member's data directory as one object, and back.
//!
//! The profile is `portable`: tar in multi-block xz with pixz's file index as the last block, described in
//! `doc/format.md`. [`pack`] streams a [`SourceTree`] into a sink; [`check`] re-reads all of an archive;
//! [`unpack`] writes it, or some paths of it, into a directory. All three block: call them from a thread.

mod decode;
mod encode;
mod error;
mod extents;
mod file_index;
pub mod forge;
mod integer;
mod pack;
mod path;
mod read;
mod source;
mod tar;
mod target;
mod unpack;
// Until the profiles that use it are there.
#[allow(dead_code, unused_imports)]
pub(crate) mod unsnap;
mod verify;
mod xz;

#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;

pub use error::ArchiveError;
pub use pack::pack;
pub use path::ArchivePath;
pub use read::{ArchiveRead, FileArchive};
pub use source::{Estimate, SourceGraft, SourceTree, estimate};
pub use unpack::{check, unpack};

use crate::ids::{Hash, ShardName};
use crate::manifest::{ArchiveRecord, FileEntry};

/// Name of the profile in the manifest.
pub const PROFILE: &str = "portable";
/// What an archive's object name ends with.
pub const EXTENSION: &str = ".tar.xz";

/// An xz preset, 0 (fastest) to 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u32);

impl Level {
    /// The level of `preset`, or none above 9.
    pub fn new(preset: u32) -> Option<Self> {
        (preset <= 9).then_some(Self(preset))
    }

    /// The xz preset.
    pub fn preset(self) -> u32 {
        self.0
    }

    /// Uncompressed bytes in a block. Twice the preset's dictionary, as pixz has it; half a mebibyte (level 0) is the smallest.
    ///
    /// A block holds the memory of a thread and is the least that must be read for one file.
    pub fn block_size(self) -> u64 {
        // Dictionary sizes of liblzma's presets: 256 KiB, 1, 2, 4, 4, 8, 8, 16, 32, 64 MiB.
        let dictionary_shift = match self.0 {
            0 => 18,
            1 => 20,
            2 => 21,
            3 | 4 => 22,
            5 | 6 => 23,
            7 => 24,
            8 => 25,
            _ => 26,
        };
        2 << dictionary_shift
    }

    /// The most memory one more compression thread takes, in bytes: match finder and dictionary, a block of input,
    /// two of output. Packing takes no more than [`BASE_MEMORY`] and this for each thread, however much data there is.
    pub fn thread_memory(self) -> u64 {
        let mebibytes = match self.0 {
            0 => 6,
            1 => 16,
            2 => 30,
            3 => 57,
            4 => 73,
            5 | 6 => 144,
            7 => 284,
            8 => 564,
            _ => 1060,
        };
        mebibytes << 20
    }
}

/// What packing takes beside its compression threads, in bytes: the program, chunks between threads. Not in it: names
/// and offsets for pixz's file index (the length of each path and 9 bytes), and 32 bytes for each compressed block.
pub const BASE_MEMORY: u64 = 24 << 20;

impl Default for Level {
    /// 1: on WiredTiger's pages level 6 saves 5 % more and takes 4 to 7 times as long.
    fn default() -> Self {
        Self(1)
    }
}

/// How to pack.
#[derive(Debug, Clone, Copy)]
pub struct PackOptions {
    /// Compression level.
    pub level: Level,
    /// Compression threads.
    pub threads: NonZeroUsize,
}

/// What was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackSummary {
    /// Size of the object in bytes.
    pub size: u64,
    /// Size of the tar stream in bytes.
    pub tar_size: u64,
    /// Sum of the files' sizes in bytes, holes included.
    pub data_size: u64,
    /// BLAKE3 of the object.
    pub hash: Hash,
    /// Number of compressed blocks, the file index's included.
    pub blocks: u64,
    /// Number of entries.
    pub files: u64,
}

impl PackSummary {
    /// What the manifest says of this archive; how long it took and what the store proves is the caller's to tell.
    pub fn record(&self, shard: &ShardName) -> ArchiveRecord {
        ArchiveRecord {
            object: format!("{}{EXTENSION}", shard.file_stem()),
            profile: PROFILE.to_owned(),
            size: self.size,
            tar_size: self.tar_size,
            data_size: self.data_size,
            hash: self.hash,
            blocks: self.blocks,
            files: self.files,
            pack_us: 0,
            made_with: None,
            proof: None,
        }
    }
}

/// What the manifest says an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedArchive {
    /// Size of the object in bytes.
    pub size: u64,
    /// BLAKE3 of the object.
    pub hash: Hash,
    /// Number of compressed blocks.
    pub blocks: u64,
    /// Size of the tar stream in bytes.
    pub tar_size: u64,
    /// Sum of the files' sizes in bytes, holes included. An archive with more is refused before the first byte too many
    /// is hashed or written: a hole costs its writer nothing.
    pub data_size: u64,
}

impl From<&ArchiveRecord> for ExpectedArchive {
    fn from(record: &ArchiveRecord) -> Self {
        Self {
            size: record.size,
            hash: record.hash,
            blocks: record.blocks,
            tar_size: record.tar_size,
            data_size: record.data_size,
        }
    }
}

/// The file table's lines of one archive, in their order, one at a time.
pub type Entries<'a> = dyn Iterator<Item = Result<FileEntry, ArchiveError>> + 'a;

/// Whether unpacked files get the archive's owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// Owner and group by number, as archived; needs root unless they are the caller's.
    #[default]
    Restore,
    /// Files belong to whoever unpacks.
    Caller,
}

/// How to unpack.
#[derive(Debug, Clone)]
pub struct UnpackOptions {
    /// Decompression threads.
    pub threads: NonZeroUsize,
    /// Owners of what is written.
    pub owners: Owners,
    /// Only these paths of the table (a directory with all below it); empty: everything.
    /// Only the blocks they lie in are read, so the object's own hash is not checked then.
    pub only: Vec<String>,
}

/// What was read, and, by [`unpack`], written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnpackSummary {
    /// Entries that matched the file table.
    pub files: u64,
    /// Sum of the files' sizes in bytes, holes included.
    pub data_size: u64,
}
