//! Values on their way into columns: each behind the one before it in its own column, in one pass over the payload.
//!
//! How long a column gets is not known before, so each grows by chunks of one arena. Long values are not copied there; where they
//! lie in the payload is enough.

use super::short::{self, STRIDE};

/// The first chunk of a column; each one after it is twice as long, up to the longest.
const FIRST_CHUNK: usize = 64;
const LONGEST_CHUNK: usize = 1 << 14;
/// Values from this length on are left in the payload.
const LONG: usize = 1 << 10;
/// What chunks may take beyond twice the payload.
const SURPLUS: usize = 1 << 20;
/// Values of one document or run of cells are remembered, so that they can be taken back: one for so many bytes of the payload, and some.
const BYTES_A_VALUE: usize = 8;
const FEW_VALUES: usize = 1 << 15;

/// Where the next value of a column goes.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    at: u32,
    /// Where its chunk ends.
    end: u32,
    /// How long its chunk is.
    size: u32,
    /// The number of its chunk, from 1 on; 0 where it has none.
    chunk: u32,
}

/// Values of one column that lie together.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    column: u32,
    start: u32,
    end: u32,
    in_payload: bool,
    /// What the column's cursor was.
    before: Cursor,
}

/// What is to be as it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    chunks: usize,
    used: usize,
}

/// Columns in the making. It holds nothing but buffers that are used again.
#[derive(Debug, Default)]
pub(super) struct Gather {
    arena: Vec<u8>,
    /// How much of `arena` is in chunks.
    used: usize,
    /// How much of it may be.
    most: usize,
    cursors: Vec<Cursor>,
    chunks: Vec<Chunk>,
    /// Since the last mark: columns that got a value, and where it began.
    taken: Vec<(u32, u32)>,
    /// How many of them there may be.
    most_taken: usize,
}

impl Gather {
    /// Begins anew, for a payload of that length.
    pub(super) fn clear(&mut self, payload: usize) {
        self.used = 0;
        self.most = payload.saturating_mul(2).saturating_add(SURPLUS);
        self.cursors.clear();
        self.chunks.clear();
        self.taken.clear();
        self.most_taken = payload / BYTES_A_VALUE + FEW_VALUES;
        self.taken.reserve_exact(self.most_taken);
    }

    /// There are so many columns.
    pub(super) fn columns(&mut self, count: usize) {
        self.cursors.resize(count, Cursor::default());
    }

    /// Where [`Self::take_back`] leads to. What was marked before cannot be gone back to.
    pub(super) fn mark(&mut self) -> Mark {
        self.taken.clear();
        Mark {
            chunks: self.chunks.len(),
            used: self.used,
        }
    }

    /// As if nothing had been pushed since the last mark, which this is.
    pub(super) fn take_back(&mut self, mark: Mark) {
        for chunk in self.chunks.drain(mark.chunks..).rev() {
            if let Some(cursor) = self.cursors.get_mut(chunk.column as usize) {
                *cursor = chunk.before;
            }
        }
        for (column, at) in self.taken.drain(..).rev() {
            if let Some(cursor) = self.cursors.get_mut(column as usize) {
                cursor.at = at;
            }
        }
        self.used = mark.used;
    }

    /// Appends `length` bytes of `payload` from `start` on to a column. None where that would take too much memory. What is shorter than
    /// [`LONG`] may come from elsewhere, since it is copied.
    #[inline(always)]
    pub(super) fn push(
        &mut self,
        column: u32,
        payload: &[u8],
        start: usize,
        length: usize,
    ) -> Option<()> {
        let cursor = self.cursors.get_mut(column as usize)?;
        if self.taken.len() >= self.most_taken {
            return None;
        }
        self.taken.push((column, cursor.at));
        if length <= STRIDE
            && let Some(from) = payload.get(start..)?.first_chunk::<STRIDE>()
            && let Some(chunk) = self.arena.get_mut(cursor.at as usize..cursor.end as usize)
            && let Some(place) = chunk.first_chunk_mut::<STRIDE>()
        {
            *place = *from;
            cursor.at += length as u32;
            return Some(());
        }
        self.push_slowly(column, payload, start, length)
    }

    #[inline(never)]
    fn push_slowly(
        &mut self,
        column: u32,
        payload: &[u8],
        start: usize,
        length: usize,
    ) -> Option<()> {
        let bytes = payload.get(start..)?.get(..length)?;
        let cursor = self.cursors.get_mut(column as usize)?;
        let before = *cursor;
        if length >= LONG {
            self.close(column);
            self.chunks.push(Chunk {
                column,
                start: u32::try_from(start).ok()?,
                end: u32::try_from(start + length).ok()?,
                in_payload: true,
                before,
            });
            // What is left of the column's chunk is one of its own.
            self.open(column, before);
            return Some(());
        }
        if cursor.end.saturating_sub(cursor.at) < length as u32 {
            let size = (2 * before.size as usize).clamp(FIRST_CHUNK, LONGEST_CHUNK);
            let size = size.max(length + STRIDE);
            let (start, end) = (self.used, self.used + size);
            if end > self.most {
                return None;
            }
            if end > self.arena.len() {
                let ample = end.max(self.arena.len() * 2).min(self.most);
                self.arena.reserve_exact(ample - self.arena.len());
                self.arena.resize(ample, 0);
            }
            self.close(column);
            self.used = end;
            let new = Cursor {
                at: u32::try_from(start).ok()?,
                end: u32::try_from(end).ok()?,
                size: size as u32,
                chunk: 0,
            };
            self.open(column, new);
        }
        let cursor = self.cursors.get_mut(column as usize)?;
        let place = self
            .arena
            .get_mut(cursor.at as usize..cursor.end as usize)?;
        short::copy(place, bytes);
        cursor.at += length as u32;
        Some(())
    }

    /// The column's values go where `new` says from now on, as a chunk of their own.
    fn open(&mut self, column: u32, new: Cursor) {
        if let Some(cursor) = self.cursors.get_mut(column as usize) {
            self.chunks.push(Chunk {
                column,
                start: new.at,
                end: new.at,
                in_payload: false,
                before: *cursor,
            });
            let chunk = self.chunks.len() as u32;
            *cursor = Cursor { chunk, ..new };
        }
    }

    /// Notes where the values of the column's chunk end.
    fn close(&mut self, column: u32) {
        if let Some(cursor) = self.cursors.get(column as usize)
            && let Some(number) = (cursor.chunk as usize).checked_sub(1)
            && let Some(chunk) = self.chunks.get_mut(number)
        {
            chunk.end = cursor.at;
        }
    }

    /// All that was pushed to `payload`'s columns.
    pub(super) fn finish<'a>(&'a mut self, payload: &'a [u8]) -> Gathered<'a> {
        for column in 0..self.cursors.len() {
            self.close(column as u32);
        }
        // It keeps the order of those of a column.
        self.chunks.sort_by_key(|chunk| chunk.column);
        Gathered {
            arena: &self.arena,
            payload,
            chunks: &self.chunks,
        }
    }
}

/// All values.
pub(super) struct Gathered<'a> {
    arena: &'a [u8],
    payload: &'a [u8],
    chunks: &'a [Chunk],
}

impl<'a> Gathered<'a> {
    /// Adds to each column how many bytes it has.
    pub(super) fn add_lengths(&self, lengths: &mut [usize]) {
        for chunk in self.chunks {
            if let Some(length) = lengths.get_mut(chunk.column as usize) {
                *length += (chunk.end - chunk.start) as usize;
            }
        }
    }

    /// What `column` has, piece by piece. Columns are asked for in their order.
    pub(super) fn take(&mut self, column: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let count = self
            .chunks
            .iter()
            .take_while(|chunk| chunk.column as usize == column);
        let (taken, rest) = self
            .chunks
            .split_at_checked(count.count())
            .unwrap_or_default();
        self.chunks = rest;
        let (arena, payload) = (self.arena, self.payload);
        taken.iter().map(move |chunk| {
            let of = if chunk.in_payload { payload } else { arena };
            of.get(chunk.start as usize..chunk.end as usize)
                .unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pieces by column, start and length; whether they are taken back.
    type Run = (Vec<(usize, prop::sample::Index, usize)>, bool);

    fn run() -> impl Strategy<Value = Run> {
        let length = prop_oneof![4 => 1usize..20, 2 => 20usize..70, 1 => 900usize..1200];
        let piece = (0usize..5, any::<prop::sample::Index>(), length);
        (prop::collection::vec(piece, 0..300), any::<bool>())
    }

    proptest! {
        #[test]
        fn columns_have_what_was_pushed_and_not_taken_back(runs in prop::collection::vec(run(), 1..8)) {
            let payload: Vec<u8> = (0..70_000u32).map(|at| ((at * 7919) >> 5) as u8).collect();
            let mut gather = Gather::default();
            for _ in 0..2 {
                gather.clear(payload.len());
                gather.columns(5);
                let mut expected = vec![Vec::new(); 5];
                for (pieces, back) in &runs {
                    let mark = gather.mark();
                    for (column, place, length) in pieces {
                        let start = place.index(payload.len() - length + 1);
                        gather.push(*column as u32, &payload, start, *length).unwrap();
                        if !back {
                            expected[*column].extend_from_slice(&payload[start..start + length]);
                        }
                    }
                    if *back {
                        gather.take_back(mark);
                    }
                }
                let mut gathered = gather.finish(&payload);
                let mut lengths = vec![0; 5];
                gathered.add_lengths(&mut lengths);
                for (column, expected) in expected.iter().enumerate() {
                    let found: Vec<u8> = gathered.take(column).flatten().copied().collect();
                    prop_assert_eq!(&found, expected);
                    prop_assert_eq!(lengths[column], expected.len());
                }
            }
        }
    }

    #[test]
    fn more_than_may_be_taken_is_refused() {
        let payload = vec![1; 1000];
        let mut gather = Gather::default();
        gather.clear(payload.len());
        gather.columns(1);
        let pushed = (0..1_000_000).take_while(|_| gather.push(0, &payload, 0, 30).is_some());
        let pushed = pushed.count() * 30;
        assert!(pushed > SURPLUS / 4 && pushed < SURPLUS + 2000, "{pushed}");
        assert!(gather.arena.len() <= SURPLUS + 2000);
    }
}
