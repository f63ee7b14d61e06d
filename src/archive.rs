//! Archives: a member's data directory as one object, and back.
//!
//! A [`Profile`] says how: `portable` is tar in multi-block xz with pixz's file index as the last block; `fast` and `small`
//! are the same tar stream with WiredTiger's own compression taken off, in zstd. All are described in `doc/format.md`. [`pack`] streams a [`SourceTree`] into a sink; [`check`] re-reads all of an archive;
//! [`unpack`] writes it, or some paths of it, into a directory. All three block: call them from a thread.

mod container;
mod decode;
mod durable;
mod error;
mod extents;
mod file_index;
pub mod forge;
mod integer;
mod pack;
mod path;
mod profile;
mod read;
pub(crate) mod shred;
mod source;
mod stream;
mod tar;
mod target;
mod unpack;
pub(crate) mod unsnap;
mod unsnapped;
mod verify;
mod xz;
mod zst;

#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;

pub use error::ArchiveError;
pub use pack::pack;
pub use path::ArchivePath;
pub use profile::{Level, Method, Profile};
pub use read::{ArchiveRead, FileArchive};
pub use source::{Estimate, SourceGraft, SourceTree, estimate};
pub use unpack::{Described, check, chosen_size, describe, unpack, unpack_alone};
pub use unsnapped::{Proven, Unsnapped, UnsnappedOfKind};

use crate::ids::{Hash, ShardName};
use crate::manifest::{ArchiveRecord, FileEntry};

/// How to pack.
#[derive(Debug, Clone, Copy)]
pub struct PackOptions {
    /// Profile and level.
    pub method: Method,
    /// Compression threads.
    pub threads: NonZeroUsize,
}

/// What was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackSummary {
    /// The archive's profile.
    pub profile: Profile,
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
    /// What was found of WiredTiger's own compression; nothing by `portable`, which does not look.
    pub unsnapped: Unsnapped,
}

impl PackSummary {
    /// What the manifest says of this archive; how long it took and what the store proves is the caller's to tell.
    pub fn record(&self, shard: &ShardName) -> ArchiveRecord {
        ArchiveRecord {
            object: format!("{}{}", shard.file_stem(), self.profile.extension()),
            profile: self.profile.name().to_owned(),
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
    /// Name of its profile, which this program may not know.
    pub profile: String,
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
            profile: record.profile.clone(),
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
