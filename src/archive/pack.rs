//! Packing: a reader thread makes the tar stream, a second one drives liblzma's workers, the caller's thread writes.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt as _, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio_util::sync::CancellationToken;
use xattr::FileExt as _;

use super::encode::Encoder;
use super::file_index::FileIndex;
use super::source::{Found, SourceTree};
use super::tar::{self, Entry};
use super::{ArchiveError, PackOptions, PackSummary, extents};
use crate::ids::ShardName;
use crate::manifest::{EntryKind, FileEntry};
use crate::progress::Meter;

/// Bytes of the tar stream handed on at a time.
const CHUNK: usize = 256 << 10;
/// Chunks that may wait between two threads.
const QUEUE: usize = 8;

/// From the reader to the encoder.
enum Plain {
    Bytes(Vec<u8>),
    /// The tar stream is complete; this is its file index.
    End(Vec<u8>),
}

/// From both to the caller's thread.
enum Made {
    Entry(FileEntry),
    Bytes(Vec<u8>),
}

/// What the reader thread counted.
#[derive(Default)]
struct Read {
    tar_size: u64,
    data_size: u64,
    files: u64,
}

/// Streams `source` into `sink` and the file table's lines into `on_entry`, in the archive's order.
///
/// `meter` advances by the bytes of the files, holes included. On an error what the sink has received is no archive.
pub fn pack(
    source: &SourceTree,
    shard: &ShardName,
    options: &PackOptions,
    sink: &mut dyn Write,
    on_entry: &mut dyn FnMut(FileEntry) -> Result<(), ArchiveError>,
    meter: &Meter,
    cancel: &CancellationToken,
) -> Result<PackSummary, ArchiveError> {
    std::thread::scope(|scope| {
        let (plain_in, plain_out) = sync_channel(QUEUE);
        let (made_in, made_out) = sync_channel(QUEUE);
        let table = made_in.clone();
        let reader = scope.spawn(move || {
            let mut reader = Reader::new(shard, plain_in, table, meter, cancel);
            reader.live = source.live;
            source.walk(cancel, &mut |found| reader.add(found))?;
            reader.finish()
        });
        let encoder = scope.spawn(move || encode(options, &plain_out, &made_in, cancel));

        let mut hasher = blake3::Hasher::new();
        let mut size = 0;
        let written = made_out.iter().try_for_each(|made| match made {
            Made::Entry(entry) => on_entry(entry),
            Made::Bytes(bytes) => {
                hasher.update(&bytes);
                size += bytes.len() as u64;
                sink.write_all(&bytes).map_err(|source| ArchiveError::Sink {
                    what: "archive",
                    source,
                })
            }
        });
        // Without a receiver the threads come to their end.
        drop(made_out);
        let read = reader.join().unwrap_or(Err(ArchiveError::WorkerLost));
        let blocks = encoder.join().unwrap_or(Err(ArchiveError::WorkerLost));
        if cancel.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        // The first cause is told: where one end failed, the others only saw their channel close.
        written?;
        let (read, blocks) = match (read, blocks) {
            (Err(ArchiveError::WorkerLost), Err(error)) => return Err(error),
            (read, blocks) => (read?, blocks?),
        };
        Ok(PackSummary {
            size,
            tar_size: read.tar_size,
            data_size: read.data_size,
            hash: hasher.finalize().into(),
            blocks,
            files: read.files,
        })
    })
}

fn encode(
    options: &PackOptions,
    plain: &Receiver<Plain>,
    made: &SyncSender<Made>,
    cancel: &CancellationToken,
) -> Result<u64, ArchiveError> {
    let mut out = |bytes| {
        if cancel.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        made.send(Made::Bytes(bytes))
            .map_err(|_| ArchiveError::WorkerLost)
    };
    let mut encoder = Encoder::new(options, cancel, &mut out)?;
    loop {
        match plain.recv() {
            Ok(Plain::Bytes(bytes)) => encoder.write(&bytes)?,
            Ok(Plain::End(file_index)) => return encoder.finish(&file_index),
            Err(_) => return Err(ArchiveError::WorkerLost),
        }
    }
}

/// Turns files into the tar stream.
struct Reader<'a> {
    shard: &'a ShardName,
    plain: SyncSender<Plain>,
    table: SyncSender<Made>,
    meter: &'a Meter,
    cancel: &'a CancellationToken,
    live: bool,
    file_index: FileIndex<Vec<u8>>,
    chunk: Vec<u8>,
    counted: Read,
}

impl<'a> Reader<'a> {
    fn new(
        shard: &'a ShardName,
        plain: SyncSender<Plain>,
        table: SyncSender<Made>,
        meter: &'a Meter,
        cancel: &'a CancellationToken,
    ) -> Self {
        Self {
            shard,
            plain,
            table,
            meter,
            cancel,
            live: false,
            file_index: FileIndex::new(Vec::new()),
            chunk: Vec::with_capacity(CHUNK),
            counted: Read::default(),
        }
    }

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
        self.file_index.add(&entry.path, kind, tar_offset);
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
            shard: self.shard.clone(),
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
        self.table
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
                let read =
                    self.read(file, at, end - at, &mut hasher)
                        .map_err(|source| match source.kind() {
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
                at += read;
                self.counted.tar_size += read;
                self.meter.advance(read);
                self.hand_on_full()?;
            }
        }
        self.hole(&mut hasher, entry.size - at)?;
        Ok(hasher.finalize())
    }

    /// Reads into what is free of the chunk.
    fn read(
        &mut self,
        file: &File,
        at: u64,
        most: u64,
        hasher: &mut blake3::Hasher,
    ) -> std::io::Result<u64> {
        let filled = self.chunk.len();
        let wanted = (CHUNK - filled).min(usize::try_from(most).unwrap_or(CHUNK));
        self.chunk.resize(filled + wanted, 0);
        let result = loop {
            match file.read_at(self.chunk.get_mut(filled..).unwrap_or_default(), at) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(0) => break Err(std::io::ErrorKind::UnexpectedEof.into()),
                other => break other,
            }
        };
        self.chunk.truncate(filled + *result.as_ref().unwrap_or(&0));
        hasher.update(self.chunk.get(filled..).unwrap_or_default());
        result.map(|count| count as u64)
    }

    fn hole(&mut self, hasher: &mut blake3::Hasher, length: u64) -> Result<(), ArchiveError> {
        hash_zeros(hasher, length, self.cancel)?;
        self.meter.advance(length);
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), ArchiveError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            self.counted.tar_size += now.len() as u64;
            bytes = later;
            self.hand_on_full()?;
        }
        Ok(())
    }

    fn hand_on_full(&mut self) -> Result<(), ArchiveError> {
        if self.chunk.len() < CHUNK {
            return Ok(());
        }
        self.hand_on()
    }

    fn hand_on(&mut self) -> Result<(), ArchiveError> {
        if self.cancel.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        let full = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.plain
            .send(Plain::Bytes(full))
            .map_err(|_| ArchiveError::WorkerLost)
    }

    fn finish(mut self) -> Result<Read, ArchiveError> {
        let end = (self.counted.tar_size + 2 * tar::BLOCK as u64).next_multiple_of(tar::RECORD);
        let zeros = vec![0; usize::try_from(end - self.counted.tar_size).unwrap_or_default()];
        self.write(&zeros)?;
        self.hand_on()?;
        let file_index = self.file_index.finish(end);
        self.plain
            .send(Plain::End(file_index))
            .map_err(|_| ArchiveError::WorkerLost)?;
        self.counted.tar_size = end;
        Ok(self.counted)
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

fn inspect<T>(
    action: &'static str,
    path: &Path,
    result: std::io::Result<T>,
) -> Result<T, ArchiveError> {
    result.map_err(|source| ArchiveError::Inspect {
        action,
        path: path.to_path_buf(),
        source,
    })
}
