//! Packing: a reader thread makes the tar stream, others compress it, the caller's thread writes.
//!
//! For `portable` one thread drives liblzma's workers; for `fast` and `small` blocks go to workers of our own.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use tokio_util::sync::CancellationToken;

use super::file_index::FileIndex;
use super::source::SourceTree;
use super::stream::{Counted, Feed, Origin, Watch, stream};
use super::tar::Entry;
use super::{ArchiveError, Level, Method, PackOptions, PackSummary, Unsnapped, xz, zst};
use crate::ids::ShardName;
use crate::manifest::FileEntry;
use crate::progress::Meter;

/// Bytes of the tar stream handed to liblzma at a time.
const CHUNK: usize = 256 << 10;
/// Chunks or entries that may wait between two threads.
const QUEUE: usize = 8;

/// For the caller's thread.
pub(super) enum Made {
    Entry(FileEntry),
    /// Bytes of the object, in order.
    Bytes(Vec<u8>),
    /// A block of the object, in any order.
    Block(u64, Result<zst::Slot, ArchiveError>),
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
        let (made_in, made_out) = sync_channel(QUEUE);
        let watch = Watch {
            shard,
            table: made_in.clone(),
            meter,
            cancel,
        };
        let mut object = Object {
            sink,
            hasher: blake3::Hasher::new(),
            size: 0,
        };
        let mut engine = Engine::start(scope, source, options, watch, made_in)?;
        object.write(&engine.head())?;
        let written = made_out.iter().try_for_each(|made| match made {
            Made::Entry(entry) => on_entry(entry),
            Made::Bytes(bytes) => object.write(&bytes),
            Made::Block(number, slot) => engine.block(number, slot?, &mut object),
        });
        // Without a receiver the threads come to their end.
        drop(made_out);
        let ended = engine.end();
        if cancel.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        // The first cause is told: where one end failed, the others only saw their channel close.
        written?;
        let Ended {
            read,
            tail,
            blocks,
            unsnapped,
        } = ended?;
        object.write(&tail)?;
        Ok(PackSummary {
            profile: options.method.profile(),
            size: object.size,
            tar_size: read.tar_size,
            data_size: read.data_size,
            hash: object.hasher.finalize().into(),
            blocks,
            files: read.files,
            unsnapped,
        })
    })
}

/// What the caller's thread writes on.
struct Object<'a> {
    sink: &'a mut dyn Write,
    hasher: blake3::Hasher,
    size: u64,
}

impl Object<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.sink
            .write_all(bytes)
            .map_err(|source| ArchiveError::Sink {
                what: "archive",
                source,
            })
    }
}

type Thread<'scope, T> = ScopedJoinHandle<'scope, Result<T, ArchiveError>>;

/// The threads behind the caller's.
enum Engine<'scope> {
    Xz {
        reader: Thread<'scope, Counted>,
        /// Ends with the number of blocks.
        encoder: Thread<'scope, u64>,
    },
    Zst {
        reader: Thread<'scope, Counted>,
        parameters: &'static zst::Parameters,
        collector: zst::Collector,
    },
}

/// What they came to.
struct Ended {
    read: Counted,
    /// What follows the blocks, where it is not written yet.
    tail: Vec<u8>,
    blocks: u64,
    unsnapped: Unsnapped,
}

impl<'scope> Engine<'scope> {
    fn start(
        scope: &'scope Scope<'scope, '_>,
        source: &'scope SourceTree,
        options: &PackOptions,
        watch: Watch<'scope>,
        made: SyncSender<Made>,
    ) -> Result<Self, ArchiveError> {
        let (threads, cancel) = (options.threads, watch.cancel);
        let parameters = match options.method {
            Method::Portable(level) => {
                let (plain_in, plain_out) = sync_channel(QUEUE);
                let feed = Chunks::new(plain_in, cancel);
                let encode = move || encode(level, threads, &plain_out, &made, cancel);
                return Ok(Self::Xz {
                    reader: scope.spawn(move || stream(source, feed, watch)),
                    encoder: scope.spawn(encode),
                });
            }
            Method::Fast => &zst::FAST,
            Method::Small => &zst::SMALL,
        };
        let (feeder, collector) = zst::pipeline(scope, parameters, threads, made, cancel)?;
        Ok(Self::Zst {
            reader: scope.spawn(move || stream(source, feeder, watch)),
            parameters,
            collector,
        })
    }

    /// What comes before the first block, where nobody else writes it.
    fn head(&self) -> Vec<u8> {
        match self {
            Self::Xz { .. } => Vec::new(),
            Self::Zst { parameters, .. } => zst::head(parameters),
        }
    }

    fn block(
        &mut self,
        number: u64,
        slot: zst::Slot,
        object: &mut Object<'_>,
    ) -> Result<(), ArchiveError> {
        match self {
            Self::Xz { .. } => Err(ArchiveError::WorkerLost),
            Self::Zst { collector, .. } => {
                collector.take(number, slot, &mut |bytes| object.write(bytes))
            }
        }
    }

    /// Waits for the threads.
    fn end(self) -> Result<Ended, ArchiveError> {
        match self {
            Self::Xz { reader, encoder } => {
                let read = reader.join().unwrap_or(Err(ArchiveError::WorkerLost));
                let blocks = encoder.join().unwrap_or(Err(ArchiveError::WorkerLost));
                let (read, blocks) = match (read, blocks) {
                    (Err(ArchiveError::WorkerLost), Err(error)) => return Err(error),
                    (read, blocks) => (read?, blocks?),
                };
                Ok(Ended {
                    read,
                    tail: Vec::new(),
                    blocks,
                    unsnapped: Unsnapped::default(),
                })
            }
            Self::Zst {
                reader, collector, ..
            } => {
                // Without it the reader does not wait for a free slot for ever.
                let (tail, blocks, unsnapped) = collector.finish();
                let read = reader.join().unwrap_or(Err(ArchiveError::WorkerLost))?;
                Ok(Ended {
                    read,
                    tail,
                    blocks,
                    unsnapped,
                })
            }
        }
    }
}

/// From the reader to liblzma.
enum Plain {
    Bytes(Vec<u8>),
    /// The tar stream is complete; this is its file index.
    End(Vec<u8>),
}

fn encode(
    level: Level,
    threads: std::num::NonZeroUsize,
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
    let mut encoder = xz::Encoder::new(level, threads, cancel, &mut out)?;
    loop {
        match plain.recv() {
            Ok(Plain::Bytes(bytes)) => encoder.write(&bytes)?,
            Ok(Plain::End(file_index)) => return encoder.finish(&file_index),
            Err(_) => return Err(ArchiveError::WorkerLost),
        }
    }
}

/// Feeds liblzma chunk by chunk, and makes pixz's file index on the way.
struct Chunks<'a> {
    plain: SyncSender<Plain>,
    cancel: &'a CancellationToken,
    file_index: FileIndex<Vec<u8>>,
    /// A chunk long; the first `filled` bytes mean something.
    chunk: Vec<u8>,
    filled: usize,
}

impl<'a> Chunks<'a> {
    fn new(plain: SyncSender<Plain>, cancel: &'a CancellationToken) -> Self {
        Self {
            plain,
            cancel,
            file_index: FileIndex::new(Vec::new()),
            chunk: vec![0; CHUNK],
            filled: 0,
        }
    }

    fn hand_on(&mut self) -> Result<(), ArchiveError> {
        if self.cancel.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        let mut full = std::mem::replace(&mut self.chunk, vec![0; CHUNK]);
        full.truncate(self.filled);
        self.filled = 0;
        self.plain
            .send(Plain::Bytes(full))
            .map_err(|_| ArchiveError::WorkerLost)
    }
}

impl Feed for Chunks<'_> {
    fn room(&mut self) -> &mut [u8] {
        self.chunk.get_mut(self.filled..).unwrap_or_default()
    }

    fn filled(&mut self, count: usize, _origin: Option<Origin>) -> Result<(), ArchiveError> {
        self.filled += count;
        if self.filled < CHUNK {
            return Ok(());
        }
        self.hand_on()
    }

    fn begins(&mut self, entry: &Entry, offset: u64) {
        self.file_index.add(&entry.path, entry.kind, offset);
    }

    fn end(mut self, tar_size: u64) -> Result<(), ArchiveError> {
        self.hand_on()?;
        let file_index = self.file_index.finish(tar_size);
        self.plain
            .send(Plain::End(file_index))
            .map_err(|_| ArchiveError::WorkerLost)
    }
}
