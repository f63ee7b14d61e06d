//! Decoding one block of an .xz object.
//!
//! Each block is decoded alone, between the archive's stream header and an index and footer made for it, so that
//! liblzma checks all it can check: header, sizes, padding and CRC64.

use std::ops::Range;

use xz2::stream::{Action, Status, Stream};

use super::{HEADER, Record, footer, index};
use crate::archive::ArchiveError;
use crate::archive::container::{Block, Coded};
use crate::archive::read::{ArchiveRead, fetch};

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
    record: Record,
    buffer: Vec<u8>,
    ended: bool,
}

impl Decoder {
    fn new(block: Block) -> Result<Self, ArchiveError> {
        let Coded::Xz { unpadded } = block.coded else {
            return Err(block.damaged("it is no block of an xz file"));
        };
        let stream =
            Stream::new_stream_decoder(MEMORY_LIMIT, 0).map_err(|error| block.damaged(error))?;
        let mut decoder = Self {
            stream,
            record: Record {
                unpadded,
                uncompressed: block.length,
            },
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
                    Err(self.block.damaged("it ends before it should"))
                };
            }
            let (taken_before, made_before) = (self.stream.total_in(), self.stream.total_out());
            let status = self
                .stream
                .process(input, &mut self.buffer, Action::Run)
                .map_err(|error| self.block.damaged(error))?;
            let taken = self.stream.total_in() - taken_before;
            let made = self.stream.total_out() - made_before;
            if self.stream.total_out() > self.record.uncompressed {
                return Err(self.block.damaged("it is longer than the index says"));
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
                    Err(self.block.damaged("its decoder does not go on"))
                };
            }
        }
    }

    /// To be called when the whole block was fed.
    fn finish(mut self, give: &mut Give<'_>) -> Result<(), ArchiveError> {
        let mut tail = index(&[self.record]);
        tail.extend_from_slice(&footer(tail.len()));
        self.feed(&tail, give)?;
        if self.ended && self.stream.total_out() == self.record.uncompressed {
            Ok(())
        } else {
            Err(self.block.damaged("it is shorter than the index says"))
        }
    }
}

/// Decodes a block of any length piece by piece: `raw` gets its compressed bytes, `give` its content.
pub(in crate::archive) fn stream_block(
    archive: &dyn ArchiveRead,
    block: Block,
    raw: &mut dyn FnMut(&[u8]),
    give: &mut Give<'_>,
) -> Result<(), ArchiveError> {
    let mut decoder = Decoder::new(block)?;
    let Range { mut start, end } = block.place();
    while start < end {
        let next = start.saturating_add(PIECE).min(end);
        let piece = fetch(archive, start..next)?;
        raw(&piece);
        decoder.feed(&piece, give)?;
        start = next;
    }
    decoder.finish(give)
}

/// Appends the content of a block, whose bytes in the object are `raw`, to `plain`.
pub(in crate::archive) fn decode(
    block: &Block,
    raw: &[u8],
    plain: &mut Vec<u8>,
) -> Result<(), ArchiveError> {
    let mut give = |bytes: &[u8]| {
        plain.extend_from_slice(bytes);
        Ok(())
    };
    let mut decoder = Decoder::new(*block)?;
    decoder.feed(raw, &mut give)?;
    decoder.finish(&mut give)
}
