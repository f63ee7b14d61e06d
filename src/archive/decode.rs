//! Blocks decompressed in parallel and handed on in order.
//!
//! Each block is decoded alone, between the archive's stream header and an index and footer made for it, so that
//! liblzma checks all it can check: header, sizes, padding and CRC64.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};

use tokio_util::sync::CancellationToken;
use xz2::stream::{Action, Status, Stream};

use super::ArchiveError;
use super::read::{ArchiveRead, Block, Layout, fetch};
use super::tar::Source;
use super::xz::{self, HEADER};

/// What one decoder may take: level 9's dictionary and some.
const MEMORY_LIMIT: u64 = 80 << 20;
/// Decompressed bytes given out at a time.
const CHUNK: usize = 128 << 10;
/// Compressed bytes of a long block fetched at a time.
const PIECE: u64 = 1 << 20;

type Give<'a> = dyn FnMut(&[u8]) -> Result<(), ArchiveError> + 'a;

/// Decodes one block.
struct Decoder {
    stream: Stream,
    block: Block,
    buffer: Vec<u8>,
    ended: bool,
}

impl Decoder {
    fn new(block: Block) -> Result<Self, ArchiveError> {
        let stream =
            Stream::new_stream_decoder(MEMORY_LIMIT, 0).map_err(|error| damaged(&block, error))?;
        let mut decoder = Self {
            stream,
            block,
            buffer: vec![0; CHUNK],
            ended: false,
        };
        decoder.feed(&HEADER, &mut |_| Ok(()))?;
        Ok(decoder)
    }

    fn feed(&mut self, mut input: &[u8], give: &mut Give<'_>) -> Result<(), ArchiveError> {
        loop {
            if self.ended {
                return if input.is_empty() {
                    Ok(())
                } else {
                    Err(damaged(&self.block, "it ends before it should"))
                };
            }
            let (taken_before, made_before) = (self.stream.total_in(), self.stream.total_out());
            let status = self
                .stream
                .process(input, &mut self.buffer, Action::Run)
                .map_err(|error| damaged(&self.block, error))?;
            let taken = self.stream.total_in() - taken_before;
            let made = self.stream.total_out() - made_before;
            if self.stream.total_out() > self.block.record.uncompressed {
                return Err(damaged(&self.block, "it is longer than the index says"));
            }
            let made_all = usize::try_from(made).unwrap_or(usize::MAX);
            give(self.buffer.get(..made_all).unwrap_or_default())?;
            input = input
                .get(usize::try_from(taken).unwrap_or(usize::MAX)..)
                .unwrap_or_default();
            self.ended = matches!(status, Status::StreamEnd);
            if !self.ended && made_all < CHUNK && (input.is_empty() || taken + made == 0) {
                return if input.is_empty() {
                    Ok(())
                } else {
                    Err(damaged(&self.block, "its decoder does not go on"))
                };
            }
        }
    }

    /// To be called when the whole block was fed.
    fn finish(mut self, give: &mut Give<'_>) -> Result<(), ArchiveError> {
        let mut tail = xz::index(&[self.block.record]);
        tail.extend_from_slice(&xz::footer(tail.len()));
        self.feed(&tail, give)?;
        if self.ended && self.stream.total_out() == self.block.record.uncompressed {
            Ok(())
        } else {
            Err(damaged(&self.block, "it is shorter than the index says"))
        }
    }
}

fn damaged(block: &Block, what: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::Container {
        offset: block.offset,
        what: format!("the block that begins there: {what}"),
    }
}

fn bytes_of(block: &Block) -> Range<u64> {
    block.offset..block.offset.saturating_add(block.record.total())
}

/// Decodes a block of any length piece by piece: `raw` gets its compressed bytes, `give` its content.
pub(super) fn stream_block(
    archive: &dyn ArchiveRead,
    block: Block,
    raw: &mut dyn FnMut(&[u8]),
    give: &mut Give<'_>,
) -> Result<(), ArchiveError> {
    let mut decoder = Decoder::new(block)?;
    let Range { mut start, end } = bytes_of(&block);
    while start < end {
        let next = start.saturating_add(PIECE).min(end);
        let piece = fetch(archive, start..next)?;
        raw(&piece);
        decoder.feed(&piece, give)?;
        start = next;
    }
    decoder.finish(give)
}

#[derive(Default)]
struct Decoded {
    /// The compressed bytes, where the object's hash is wanted.
    raw: Vec<u8>,
    plain: Vec<u8>,
}

fn decode(
    archive: &dyn ArchiveRead,
    block: Block,
    keep_raw: bool,
) -> Result<Decoded, ArchiveError> {
    let raw = fetch(archive, bytes_of(&block))?;
    let mut plain = Vec::new();
    let mut give = |bytes: &[u8]| {
        plain.extend_from_slice(bytes);
        Ok(())
    };
    let mut decoder = Decoder::new(block)?;
    decoder.feed(&raw, &mut give)?;
    decoder.finish(&mut give)?;
    Ok(Decoded {
        raw: if keep_raw { raw } else { Vec::new() },
        plain,
    })
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
                for block in blocks.iter().skip(worker).step_by(count) {
                    // A closed channel means that the reader has failed and wants no more.
                    if cancel.is_cancelled()
                        || give.send(decode(archive, *block, keep_raw)).is_err()
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
