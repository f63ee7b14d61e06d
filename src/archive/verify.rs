//! Archive and file table held against each other, entry by entry.

use tokio_util::sync::CancellationToken;

use super::path::ArchivePath;
use super::stream::hash_zeros;
use super::tar::{Entry, Piece, Reader, Source};
use super::{ArchiveError, UnpackSummary};
use crate::ids::Hash;
use crate::manifest::{EntryKind, FileEntry};
use crate::progress::Meter;

/// Where verified entries go.
pub(super) trait Sink {
    /// A directory begins; all below it follows.
    fn directory(&mut self, entry: &Entry) -> Result<(), ArchiveError>;
    /// A file begins; its data follows.
    fn file(&mut self, entry: &Entry) -> Result<(), ArchiveError>;
    /// Bytes of the file that was begun last.
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), ArchiveError>;
    /// The file that was begun last is whole and its hash is right.
    fn file_end(&mut self, entry: &Entry) -> Result<(), ArchiveError>;
}

/// Keeps nothing.
pub(super) struct Nowhere;

impl Sink for Nowhere {
    fn directory(&mut self, _: &Entry) -> Result<(), ArchiveError> {
        Ok(())
    }
    fn file(&mut self, _: &Entry) -> Result<(), ArchiveError> {
        Ok(())
    }
    fn data(&mut self, _: u64, _: &[u8]) -> Result<(), ArchiveError> {
        Ok(())
    }
    fn file_end(&mut self, _: &Entry) -> Result<(), ArchiveError> {
        Ok(())
    }
}

/// Verifies entries one after the other and passes them on.
pub(super) struct Verifier<'a> {
    pub sink: &'a mut dyn Sink,
    pub meter: &'a Meter,
    pub cancel: &'a CancellationToken,
    order: Order,
    /// What the manifest says that all files together have, where there is one.
    data_size: Option<u64>,
    pub summary: UnpackSummary,
}

impl<'a> Verifier<'a> {
    pub(super) fn new(
        sink: &'a mut dyn Sink,
        data_size: Option<u64>,
        meter: &'a Meter,
        cancel: &'a CancellationToken,
    ) -> Self {
        Self {
            sink,
            meter,
            cancel,
            order: Order::default(),
            data_size,
            summary: UnpackSummary::default(),
        }
    }

    /// The entry whose headers began at `offset` and were just read; `line` is its line in the table, where there is one.
    pub(super) fn entry<S: Source>(
        &mut self,
        reader: &mut Reader<S>,
        offset: u64,
        entry: &Entry,
        line: Option<&FileEntry>,
    ) -> Result<(), ArchiveError> {
        if let Some(line) = line {
            compare(entry, line)?;
            same(&line.path, "place", line.tar_offset, offset)?;
        }
        self.order.accept(entry)?;
        let room = self
            .data_size
            .map(|most| most.saturating_sub(self.summary.data_size));
        if let (Some(expected), Some(room)) = (self.data_size, room)
            && entry.size > room
        {
            return Err(ArchiveError::DataSize {
                expected,
                found: self.summary.data_size.saturating_add(entry.size),
            });
        }
        let hash = match entry.kind {
            EntryKind::Directory => {
                self.sink.directory(entry)?;
                None
            }
            EntryKind::File => {
                self.sink.file(entry)?;
                self.content(reader, entry, line.is_some())?
            }
        };
        if let Some(line) = line {
            let shown =
                |hash: Option<Hash>| hash.map_or_else(|| "none".to_owned(), |h| h.to_string());
            same(&line.path, "hash", shown(line.hash), shown(hash))?;
            let length = reader.offset() - offset;
            same(&line.path, "length", line.tar_length, length)?;
        }
        if entry.kind == EntryKind::File {
            self.sink.file_end(entry)?;
        }
        self.summary.files += 1;
        self.summary.data_size = self.summary.data_size.saturating_add(entry.size);
        Ok(())
    }

    /// To be called behind the last entry of a whole archive.
    pub(super) fn end(&self) -> Result<(), ArchiveError> {
        match (self.data_size, self.summary.data_size) {
            (Some(expected), found) if expected != found => {
                Err(ArchiveError::DataSize { expected, found })
            }
            _ => Ok(()),
        }
    }

    /// Hashes the content only where there is something to compare it with.
    fn content<S: Source>(
        &mut self,
        reader: &mut Reader<S>,
        entry: &Entry,
        hashed: bool,
    ) -> Result<Option<Hash>, ArchiveError> {
        let mut hasher = hashed.then(blake3::Hasher::new);
        let mut at = 0;
        reader.content(entry, &mut |piece| {
            let length = match piece {
                Piece::Data(bytes) => {
                    if let Some(hasher) = &mut hasher {
                        hasher.update(bytes);
                    }
                    self.sink.data(at, bytes)?;
                    bytes.len() as u64
                }
                Piece::Hole(length) => {
                    if let Some(hasher) = &mut hasher {
                        hash_zeros(hasher, length, self.cancel)?;
                    }
                    length
                }
            };
            at += length;
            self.meter.advance(length);
            Ok(())
        })?;
        Ok(hasher.map(|hasher| hasher.finalize().into()))
    }
}

/// Everything that the headers say.
fn compare(entry: &Entry, line: &FileEntry) -> Result<(), ArchiveError> {
    let path = entry.path.to_table();
    same(&path, "path", line.path.clone(), path.clone())?;
    let name = |kind| match kind {
        EntryKind::File => "a file",
        EntryKind::Directory => "a directory",
    };
    same(&path, "kind", name(line.kind), name(entry.kind))?;
    same(&path, "size", line.size, entry.size)?;
    same(
        &path,
        "mode",
        format!("{:o}", line.mode),
        format!("{:o}", entry.mode),
    )?;
    same(&path, "owner", line.uid, entry.uid)?;
    same(&path, "group", line.gid, entry.gid)?;
    same(&path, "mtime", line.mtime, entry.mtime)?;
    same(&path, "mtime's fraction", line.mtime_ns, entry.mtime_ns)
}

fn same<T: PartialEq + ToString>(
    path: &str,
    what: &'static str,
    expected: T,
    found: T,
) -> Result<(), ArchiveError> {
    if expected == found {
        return Ok(());
    }
    Err(ArchiveError::Differs {
        path: path.to_owned(),
        what,
        expected: expected.to_string(),
        found: found.to_string(),
    })
}

/// Entries come in the order of a sorted walk, each below directories that came before it. So no path comes twice, and
/// nothing is created in a directory that the archive did not make.
#[derive(Default)]
struct Order {
    last: Option<ArchivePath>,
    directories: Vec<Vec<u8>>,
}

impl Order {
    fn accept(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        let refuse = |reason| {
            Err(ArchiveError::UnsafePath {
                path: entry.path.to_table(),
                reason,
            })
        };
        if self.last.as_ref().is_some_and(|last| *last >= entry.path) {
            return refuse("which comes twice or out of order");
        }
        let parent = entry.path.split().0;
        match parent {
            None => self.directories.clear(),
            Some(parent) => match self.directories.iter().rposition(|d| d == parent) {
                Some(depth) => self.directories.truncate(depth + 1),
                None => return refuse("whose directory did not come before it"),
            },
        }
        if entry.kind == EntryKind::Directory {
            self.directories.push(entry.path.as_bytes().to_vec());
        }
        self.last = Some(entry.path.clone());
        Ok(())
    }
}
