//! The tar stream of a source tree, made file by file into whatever buffers it is fed to.

use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt as _, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::SyncSender;

use tokio_util::sync::CancellationToken;
use xattr::FileExt as _;

use super::pack::Made;
use super::source::{Found, SourceTree, inspect};
use super::tar::{self, Entry};
use super::unsnap::FileKind;
use super::{ArchiveError, extents};
use crate::ids::ShardName;
use crate::manifest::{EntryKind, FileEntry};
use crate::progress::Meter;

/// Bytes read and hashed at a time: what has just been read is hashed out of the processor's cache.
const PIECE: usize = 256 << 10;

/// Where a piece of the stream comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// What the file holds.
    pub kind: FileKind,
    /// Where in the file.
    pub offset: u64,
}

/// Where the tar stream goes. It is written straight into the buffers of who takes it.
pub(super) trait Feed {
    /// What is free of the buffer; never empty.
    fn room(&mut self) -> &mut [u8];
    /// The first `count` bytes of the room were filled; `origin` where they are a file's content.
    fn filled(&mut self, count: usize, origin: Option<Origin>) -> Result<(), ArchiveError>;
    /// An entry begins at `offset` of the stream.
    fn begins(&mut self, _entry: &Entry, _offset: u64) {}
    /// The stream is complete, `tar_size` bytes long.
    fn end(self, tar_size: u64) -> Result<(), ArchiveError>;
}

/// What was counted on the way.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub tar_size: u64,
    pub data_size: u64,
    pub files: u64,
}

/// Who is told of what while the stream is made, and who may end it.
pub(super) struct Watch<'a> {
    pub shard: &'a ShardName,
    /// Where the file table's lines go.
    pub table: SyncSender<Made>,
    pub meter: &'a Meter,
    pub cancel: &'a CancellationToken,
}

/// Makes the tar stream of `source`.
pub(super) fn stream<F: Feed>(
    source: &SourceTree,
    feed: F,
    watch: Watch<'_>,
) -> Result<Counted, ArchiveError> {
    let cancel = watch.cancel;
    let mut stream = Stream {
        watch,
        feed,
        live: source.live,
        counted: Counted::default(),
    };
    source.walk(cancel, &mut |found| stream.add(found))?;
    stream.finish()
}

/// Turns files into the tar stream.
struct Stream<'a, F> {
    watch: Watch<'a>,
    feed: F,
    live: bool,
    counted: Counted,
}

impl<F: Feed> Stream<'_, F> {
    fn add(&mut self, found: Found) -> Result<(), ArchiveError> {
        let Found { path, real, .. } = found;
        let file = open(&real)?;
        // Of the file that is open, not of the name: nothing can come between.
        let metadata = inspect("look at", &real, file.metadata())?;
        let kind = match (metadata.is_dir(), metadata.is_file()) {
            (true, _) => EntryKind::Directory,
            (_, true) => EntryKind::File,
            _ => {
                return Err(ArchiveError::Changed {
                    path: real,
                    offset: 0,
                    what: "it is no file any more",
                });
            }
        };
        let size = if kind == EntryKind::File {
            metadata.size()
        } else {
            0
        };
        let entry = Entry {
            path,
            kind,
            size,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime: metadata.mtime(),
            mtime_ns: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
            xattrs: user_xattrs(&file, &real)?,
            segments: match kind {
                EntryKind::File => {
                    inspect("find the holes of", &real, extents::of_file(&file, size))?
                }
                EntryKind::Directory => None,
            },
        };
        let tar_offset = self.counted.tar_size;
        self.feed.begins(&entry, tar_offset);
        let headers = tar::headers(&entry).map_err(|reason| ArchiveError::Unstorable {
            path: real.clone(),
            reason,
        })?;
        self.write(&headers)?;
        let hash = match kind {
            EntryKind::File => Some(self.content(&entry, &file, &real)?),
            EntryKind::Directory => None,
        };
        let zeros = [0; tar::BLOCK];
        self.write(
            zeros
                .get(..tar::padding(entry.data_size()))
                .unwrap_or_default(),
        )?;
        let after = inspect("look at", &real, file.metadata())?;
        let written =
            (after.mtime(), after.mtime_nsec()) != (metadata.mtime(), metadata.mtime_nsec());
        let changed = match self.live {
            true => after.size() < size,
            false => written || after.size() != size,
        };
        if kind == EntryKind::File && changed {
            return Err(ArchiveError::Changed {
                path: real,
                offset: after.size(),
                what: if after.size() == size {
                    "it was written to"
                } else {
                    "its size is another"
                },
            });
        }
        self.counted.files += 1;
        self.counted.data_size += size;
        let line = FileEntry {
            shard: self.watch.shard.clone(),
            path: entry.path.to_table(),
            kind,
            size,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            mtime_ns: entry.mtime_ns,
            hash: hash.map(Into::into),
            tar_offset,
            tar_length: self.counted.tar_size - tar_offset,
        };
        self.watch
            .table
            .send(Made::Entry(line))
            .map_err(|_| ArchiveError::WorkerLost)
    }

    fn content(
        &mut self,
        entry: &Entry,
        file: &File,
        real: &Path,
    ) -> Result<blake3::Hash, ArchiveError> {
        let mut hasher = blake3::Hasher::new();
        let kind = FileKind::of(entry.path.split().1);
        let whole = [extents::Segment {
            offset: 0,
            length: entry.size,
        }];
        let mut at = 0;
        for segment in entry.segments.as_deref().unwrap_or(&whole) {
            self.hole(&mut hasher, segment.offset - at)?;
            at = segment.offset;
            let end = segment.offset + segment.length;
            while at < end {
                if self.watch.cancel.is_cancelled() {
                    return Err(ArchiveError::Cancelled);
                }
                let room = self.feed.room();
                let most = usize::try_from(end - at).unwrap_or(usize::MAX);
                let most = room.len().min(most).min(PIECE);
                let room = room.get_mut(..most).unwrap_or_default();
                let count = read(file, at, room).map_err(|source| match source.kind() {
                    std::io::ErrorKind::UnexpectedEof => ArchiveError::Changed {
                        path: real.to_path_buf(),
                        offset: at,
                        what: "it ends here",
                    },
                    _ => ArchiveError::Read {
                        path: real.to_path_buf(),
                        offset: at,
                        source,
                    },
                })?;
                hasher.update(room.get(..count).unwrap_or_default());
                let origin = Origin { kind, offset: at };
                self.feed.filled(count, Some(origin))?;
                at += count as u64;
                self.counted.tar_size += count as u64;
                self.watch.meter.advance(count as u64);
            }
        }
        self.hole(&mut hasher, entry.size - at)?;
        Ok(hasher.finalize())
    }

    fn hole(&mut self, hasher: &mut blake3::Hasher, length: u64) -> Result<(), ArchiveError> {
        hash_zeros(hasher, length, self.watch.cancel)?;
        self.watch.meter.advance(length);
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), ArchiveError> {
        while !bytes.is_empty() {
            let room = self.feed.room();
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            if let Some(place) = room.get_mut(..now.len()) {
                place.copy_from_slice(now);
            }
            self.feed.filled(now.len(), None)?;
            self.counted.tar_size += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Counted, ArchiveError> {
        let end = (self.counted.tar_size + 2 * tar::BLOCK as u64).next_multiple_of(tar::RECORD);
        let zeros = vec![0; usize::try_from(end - self.counted.tar_size).unwrap_or_default()];
        self.write(&zeros)?;
        self.feed.end(end)?;
        Ok(self.counted)
    }
}

/// Reads at least a byte.
fn read(file: &File, at: u64, room: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match file.read_at(room, at) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            other => return other,
        }
    }
}

/// Hashes `length` zeros.
pub(super) fn hash_zeros(
    hasher: &mut blake3::Hasher,
    mut length: u64,
    cancel: &CancellationToken,
) -> Result<(), ArchiveError> {
    static ZEROS: [u8; 128 << 10] = [0; 128 << 10];
    while length > 0 {
        if cancel.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        let count = ZEROS
            .len()
            .min(usize::try_from(length).unwrap_or(usize::MAX));
        hasher.update(ZEROS.get(..count).unwrap_or_default());
        length -= count as u64;
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, ArchiveError> {
    // NONBLOCK: a pipe put there in this instant must not hold us up.
    let result = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    inspect("open", path, result)
}

/// `user.` attributes only: labels, capabilities and overlay marks belong to the host, not to the data.
fn user_xattrs(file: &File, path: &Path) -> Result<Vec<tar::Xattr>, ArchiveError> {
    let names = match file.list_xattr() {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
        other => inspect("list the attributes of", path, other)?,
    };
    let mut names: Vec<_> = names
        .filter(|name| name.as_bytes().starts_with(b"user."))
        .collect();
    names.sort_unstable();
    names
        .into_iter()
        .map(|name| {
            let value = inspect("read the attributes of", path, file.get_xattr(&name))?;
            Ok((name.as_bytes().to_vec(), value.unwrap_or_default()))
        })
        .collect()
}
