//! Blocks decompressed in parallel and handed on in order.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tokio_util::sync::CancellationToken;

use super::container::{Block, Coded, Layout};
use super::read::{ArchiveRead, fetch};
use super::tar::Source;
use super::{ArchiveError, xz, zst};

#[derive(Default)]
struct Decoded {
    /// The compressed bytes, where the object's hash is wanted.
    raw: Vec<u8>,
    plain: Vec<u8>,
}

/// What one thread keeps from block to block.
#[derive(Default)]
struct Decoder {
    zst: Option<zst::Decoder>,
}

impl Decoder {
    fn decode(
        &mut self,
        archive: &dyn ArchiveRead,
        block: &Block,
        keep_raw: bool,
        mut plain: Vec<u8>,
    ) -> Result<Decoded, ArchiveError> {
        let raw = fetch(archive, block.place())?;
        plain.clear();
        match block.coded {
            Coded::Xz { .. } => xz::decode(block, &raw, &mut plain)?,
            Coded::Zst(coded) => {
                let decoder = match &mut self.zst {
                    Some(decoder) => decoder,
                    none => none.insert(zst::Decoder::new()?),
                };
                decoder.decode(block, coded, &raw, &mut plain)?;
            }
        }
        Ok(Decoded {
            raw: if keep_raw { raw } else { Vec::new() },
            plain,
        })
    }
}

/// A thread that decodes blocks, as the reader sees it.
struct Worker {
    decoded: Receiver<Result<Decoded, ArchiveError>>,
    /// Buffers that were read come back to where they were filled: new memory took an eighth of the processor time.
    read: SyncSender<Vec<u8>>,
}

/// The content of consecutive blocks as one stream.
pub(super) struct Blocks<'a> {
    /// Worker `i` of `n` decodes every `n`th block from the `i`th on, so taking turns gives them in order.
    workers: Vec<Worker>,
    left: usize,
    /// The worker whose block comes next.
    turn: usize,
    /// The worker whose block is the current one.
    last: usize,
    current: Decoded,
    position: usize,
    hasher: Option<&'a mut blake3::Hasher>,
    cancel: &'a CancellationToken,
}

impl Source for Blocks<'_> {
    fn fill(&mut self) -> Result<&[u8], ArchiveError> {
        while self.position >= self.current.plain.len() && self.left > 0 {
            if self.cancel.is_cancelled() {
                return Err(ArchiveError::Cancelled);
            }
            let worker = self
                .workers
                .get(self.turn)
                .ok_or(ArchiveError::WorkerLost)?;
            let next = worker.decoded.recv();
            let next = next.map_err(|_| ArchiveError::WorkerLost)??;
            let read = std::mem::replace(&mut self.current, next).plain;
            if let Some(worker) = self.workers.get(self.last) {
                // A worker that needs no more has ended; then the buffer goes.
                let _ = worker.read.try_send(read);
            }
            self.position = 0;
            self.last = self.turn;
            self.turn = (self.turn + 1) % self.workers.len().max(1);
            self.left -= 1;
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&self.current.raw);
            }
        }
        Ok(self.current.plain.get(self.position..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}

/// Runs `body` on the content of the blocks `numbers`. Each of `threads` holds at most three blocks: one that it decodes,
/// one that waits, one that is read. `hasher` receives the blocks' compressed bytes.
pub(super) fn with_blocks<R>(
    archive: &dyn ArchiveRead,
    layout: &Layout,
    numbers: Range<usize>,
    threads: NonZeroUsize,
    hasher: Option<&mut blake3::Hasher>,
    cancel: &CancellationToken,
    body: impl FnOnce(Blocks<'_>) -> Result<R, ArchiveError>,
) -> Result<R, ArchiveError> {
    let blocks = layout.blocks.get(numbers).unwrap_or_default();
    let count = threads.get().min(blocks.len());
    let keep_raw = hasher.is_some();
    std::thread::scope(|scope| {
        let mut workers = Vec::with_capacity(count);
        for worker in 0..count {
            let (give, decoded) = sync_channel(1);
            let (read, again) = sync_channel(1);
            workers.push(Worker { decoded, read });
            scope.spawn(move || {
                let mut decoder = Decoder::default();
                for block in blocks.iter().skip(worker).step_by(count) {
                    let plain = again.try_recv().unwrap_or_default();
                    // A closed channel means that the reader has failed and wants no more.
                    if cancel.is_cancelled()
                        || give
                            .send(decoder.decode(archive, block, keep_raw, plain))
                            .is_err()
                    {
                        break;
                    }
                }
            });
        }
        body(Blocks {
            workers,
            left: blocks.len(),
            turn: 0,
            last: 0,
            current: Decoded::default(),
            position: 0,
            hasher,
            cancel,
        })
    })
}
