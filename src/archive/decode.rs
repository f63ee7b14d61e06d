//! Blocks decompressed in parallel and handed on in order.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};

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
    ) -> Result<Decoded, ArchiveError> {
        let raw = fetch(archive, block.place())?;
        let mut plain = Vec::new();
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

/// The content of consecutive blocks as one stream.
pub(super) struct Blocks<'a> {
    /// Worker `i` of `n` decodes every `n`th block from the `i`th on, so taking turns gives them in order.
    workers: Vec<Receiver<Result<Decoded, ArchiveError>>>,
    left: usize,
    turn: usize,
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
            self.current = worker.recv().map_err(|_| ArchiveError::WorkerLost)??;
            self.position = 0;
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
            let (give, take) = sync_channel(1);
            workers.push(take);
            scope.spawn(move || {
                let mut decoder = Decoder::default();
                for block in blocks.iter().skip(worker).step_by(count) {
                    // A closed channel means that the reader has failed and wants no more.
                    if cancel.is_cancelled()
                        || give.send(decoder.decode(archive, block, keep_raw)).is_err()
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
            current: Decoded::default(),
            position: 0,
            hasher,
            cancel,
        })
    })
}
