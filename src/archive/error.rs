//! What can go wrong with an archive, and what to do then.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::error::{Exit, Explain};
use crate::manifest::table::TableError;
use crate::store::StoreError;

/// Why packing, checking or unpacking failed.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// A file could not be read.
    #[error("cannot read {} at offset {offset}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// A file or directory could not be looked at.
    #[error("cannot {action} {}: {source}", path.display())]
    Inspect {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what it was when it was opened.
    #[error("{} changed while it was read: {what} (offset {offset})", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Where that was noticed.
        offset: u64,
        /// What changed.
        what: &'static str,
    },
    /// A symbolic link that is no graft.
    #[error("{} is a symbolic link", path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// A graft whose place is not in the tree.
    #[error("nothing can be grafted at {}: its parent is no directory of the tree", at.display())]
    GraftUnplaced {
        /// The place.
        at: PathBuf,
    },
    /// A file that this format cannot hold.
    #[error("{} cannot be archived: {reason}", path.display())]
    Unstorable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The compressor failed.
    #[error("xz compression failed: {0}")]
    Compress(xz2::stream::Error),
    /// zstd failed, of itself.
    #[error("zstd failed: {0}")]
    Zstd(io::Error),
    /// A profile that a later version made.
    #[error("the archive's profile is {name:?}, which this freezeframe does not know")]
    UnknownProfile {
        /// Its name in the manifest.
        name: String,
    },
    /// The archive or its table could not be written on.
    #[error("cannot write the {what}: {source}")]
    Sink {
        /// "archive" or "file table".
        what: &'static str,
        /// What the sink said.
        source: io::Error,
    },
    /// The archive or its table could not be fetched.
    #[error(transparent)]
    Fetch(#[from] StoreError),
    /// The file table cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The object's size is not the manifest's.
    #[error("the archive is {found} bytes long and should be {expected}")]
    Size {
        /// By the manifest.
        expected: u64,
        /// By the store.
        found: u64,
    },
    /// The object's hash is not the manifest's.
    #[error("the archive's hash is {found} and should be {expected}")]
    Hash {
        /// By the manifest.
        expected: crate::ids::Hash,
        /// Of the bytes read.
        found: crate::ids::Hash,
    },
    /// The files together are larger or smaller than the manifest says.
    #[error("the archive's files come to {found} bytes, the manifest says {expected}")]
    DataSize {
        /// By the manifest.
        expected: u64,
        /// Sum of the sizes up to the first that is too much, or of all.
        found: u64,
    },
    /// The compressed container breaks its format.
    #[error("damaged archive, byte {offset}: {what}")]
    Container {
        /// Offset in the object.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The tar stream breaks its format.
    #[error("damaged archive, byte {offset} of the tar stream: {what}")]
    Tar {
        /// Offset in the tar stream.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A path that must not be followed.
    #[error("the archive holds the path {path:?}, {reason}")]
    UnsafePath {
        /// As the archive has it, bytes that are no text replaced.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An entry and its line in the file table differ.
    #[error("{path}: {what} is {found} in the archive and {expected} in the file table")]
    Differs {
        /// The entry.
        path: String,
        /// Which property.
        what: &'static str,
        /// In the file table.
        expected: String,
        /// In the archive.
        found: String,
    },
    /// The table has a line more.
    #[error("{path} is in the file table and not in the archive")]
    Missing {
        /// The line's path.
        path: String,
    },
    /// The archive has an entry more.
    #[error("{path} is in the archive and not in the file table")]
    Extra {
        /// The entry's path.
        path: String,
    },
    /// A path asked for is not in the table.
    #[error("the backup holds no {path}")]
    NoSuchPath {
        /// What was asked for.
        path: String,
    },
    /// The target is not an empty directory.
    #[error("{} is not empty", path.display())]
    NotEmpty {
        /// The target.
        path: PathBuf,
    },
    /// The target could not be written.
    #[error("cannot {action} {}: {source}", path.display())]
    Target {
        /// What was tried.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The operation was cancelled.
    #[error("interrupted")]
    Cancelled,
    /// A thread ended without saying why; a defect of this program.
    #[error("a worker thread of the archive ended unexpectedly")]
    WorkerLost,
}

impl Explain for ArchiveError {
    fn hint(&self) -> Option<String> {
        let damaged =
            "what is stored is damaged: restore from another backup, and check the store's disks";
        match self {
            Self::Fetch(error) => error.hint(),
            Self::Table(error) => error.hint(),
            Self::Symlink { .. } => Some(
                "put what it leads to in its place: `backup` follows links of the journal, database and index directories alone, `pack` none".into(),
            ),
            Self::Changed { .. } => Some(
                "something other than mongod writes into dbPath; keep it out, or back up from a snapshot".into(),
            ),
            Self::Read { .. } => Some(
                "the volume cannot be read; look for I/O errors in the kernel's log, or a snapshot that overflowed".into(),
            ),
            Self::Target { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(
                "run as root, so that files can get their owners".into(),
            ),
            Self::Target { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("restore to a larger file system".into())
            }
            Self::UnknownProfile { .. } => Some("use a newer freezeframe".into()),
            Self::NotEmpty { .. } => Some("restore into a new or empty directory".into()),
            Self::NoSuchPath { .. } => Some("`freezeframe show ID --files` tells what the backup holds".into()),
            _ if self.exit() == Exit::Damaged => Some(damaged.into()),
            _ => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Fetch(error) => error.exit(),
            Self::Table(error) => error.exit(),
            Self::Size { .. }
            | Self::Hash { .. }
            | Self::DataSize { .. }
            | Self::Container { .. }
            | Self::Tar { .. }
            | Self::UnsafePath { .. }
            | Self::Differs { .. }
            | Self::Missing { .. }
            | Self::Extra { .. } => Exit::Damaged,
            Self::Target { .. } | Self::NotEmpty { .. } => Exit::Restore,
            Self::NoSuchPath { .. } => Exit::Usage,
            Self::UnknownProfile { .. } => Exit::Refused,
            Self::Cancelled => Exit::Interrupted,
            _ => Exit::BackupFailed,
        }
    }
}
