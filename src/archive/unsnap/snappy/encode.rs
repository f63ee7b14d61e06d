//! Making a stream.

use super::super::super::integer;
use super::hash::Hash;
use super::{
    FIRST_SKIP, LONGEST_COPY, MARGIN, Packed, Table, Window, Workspace, common, exchange,
    fragments, load32, prepare,
};

/// See [`Encoder::encode`](super::Encoder::encode).
pub(super) fn encode<H: Hash>(
    workspace: &mut Workspace,
    content: &[u8],
    length: usize,
    out: &mut Vec<u8>,
    most: usize,
) -> bool {
    integer::push(out, length as u64);
    let Workspace {
        table,
        spare,
        packed,
    } = workspace;
    fragments(content, length, spare, |window, length| {
        let hash = prepare::<H>(table, length);
        let mut sink = Sink { packed, length: 0 };
        hash.encode(table, window, length, &mut sink);
        out.extend_from_slice(sink.packed.get(..sink.length).unwrap_or_default());
        out.len() <= most
    }) && out.len() <= most
}

/// Makes the stream of one fragment.
#[inline(always)]
pub(super) fn fragment<H: Hash>(
    table: &mut Table,
    hash: H,
    window: &Window,
    length: usize,
    sink: &mut Sink,
) {
    // The first byte that is not written yet.
    let mut done = 0;
    if let Some(limit) = length.checked_sub(MARGIN) {
        'literals: loop {
            let mut at = done + 1;
            let mut skip = FIRST_SKIP;
            let mut candidate;
            loop {
                let step = skip >> 5;
                skip += step;
                if at + step > limit {
                    break 'literals;
                }
                let bytes = load32(window, at);
                candidate = exchange(table, hash.slot(bytes), at);
                if load32(window, candidate) == bytes {
                    break;
                }
                at += step;
            }
            sink.literal(window, done, at);
            loop {
                let matched = 4 + common(window, length, candidate + 4, at + 4);
                sink.copies(at - candidate, matched);
                at += matched;
                if at >= limit {
                    done = at;
                    break 'literals;
                }
                exchange(table, hash.slot(load32(window, at - 1)), at - 1);
                let bytes = load32(window, at);
                candidate = exchange(table, hash.slot(bytes), at);
                if load32(window, candidate) != bytes {
                    break;
                }
            }
            done = at;
        }
    }
    sink.literal(window, done, length);
}

/// Where the stream of a fragment goes.
pub(super) struct Sink<'a> {
    packed: &'a mut Packed,
    length: usize,
}

impl Sink<'_> {
    /// The bytes of the window from `start` to `end`, if there are any.
    #[inline(always)]
    fn literal(&mut self, window: &Window, start: usize, end: usize) {
        let Some(length) = end.checked_sub(start + 1) else {
            return;
        };
        if length < 16 {
            // Sixteen bytes are copied as fast as one; what is too much is written over.
            let from = window.get(usize::from(start as u16)..);
            let place = self.packed.get_mut(self.length..);
            let from = from.and_then(<[u8]>::first_chunk::<16>);
            let place = place.and_then(<[u8]>::first_chunk_mut::<17>);
            if let (Some(from), Some([tag, place @ ..])) = (from, place) {
                *tag = (length << 2) as u8;
                *place = *from;
            }
            self.length += length + 2;
            return;
        }
        match length {
            ..60 => self.put([(length << 2) as u8]),
            60..256 => self.put([60 << 2, length as u8]),
            // A fragment is not longer.
            _ => self.put([61 << 2, length as u8, (length >> 8) as u8]),
        }
        let literal = window.get(start..end).unwrap_or_default();
        let place = self
            .packed
            .get_mut(self.length..self.length + literal.len());
        if let Some(place) = place {
            place.copy_from_slice(literal);
        }
        self.length += literal.len();
    }

    /// A match of that length.
    #[inline(always)]
    fn copies(&mut self, offset: usize, mut length: usize) {
        // What is left is never shorter than a copy may be.
        while length >= LONGEST_COPY + 4 {
            self.copy(offset, LONGEST_COPY);
            length -= LONGEST_COPY;
        }
        if length > LONGEST_COPY {
            self.copy(offset, 60);
            length -= 60;
        }
        self.copy(offset, length);
    }

    #[inline(always)]
    fn copy(&mut self, offset: usize, length: usize) {
        // Which of the two it becomes cannot be foreseen, so neither is branched on.
        let short = length < 12 && offset < 2048;
        let near = 1 | (length.wrapping_sub(4) << 2) | (offset >> 3 & 0xE0) | (offset & 0xFF) << 8;
        let far = 2 | ((length - 1) << 2) | offset << 8;
        let word = if short { near } else { far } as u32;
        let place = self.packed.get_mut(self.length..);
        if let Some(place) = place.and_then(<[u8]>::first_chunk_mut) {
            *place = word.to_le_bytes();
        }
        self.length += if short { 2 } else { 3 };
    }

    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        let place = self.packed.get_mut(self.length..);
        if let Some(place) = place.and_then(<[u8]>::first_chunk_mut) {
            *place = bytes;
        }
        self.length += N;
    }
}
