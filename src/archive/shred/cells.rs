//! The cells of WiredTiger's row-store leaf pages: a key, perhaps a value, and so on.
//!
//! After WiredTiger's own `cell_inline.h` and `intpack_inline.h`; what is seen of it is in `doc/mongodb.md`. A cell begins with
//! a descriptor. Of a short one its two lowest bits say what it is and the others how long. Other cells can have a time window (a
//! byte of flags, a packed number for each) and a count, and their length is a packed number. Cells of other kinds (pages below, overflow items, what was deleted) end a run.

/// What the data of a cell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Key,
    Value,
}

/// A cell as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub holds: Holds,
    /// Bytes of time window, count and length; none of a short one.
    pub extra: usize,
    /// Bytes of data.
    pub data: usize,
}

/// A cell and where its parts are.
pub(super) struct Located {
    pub cell: Cell,
    /// Where time window, count and length begin.
    pub extra_at: usize,
    pub data_at: usize,
    pub end: usize,
}

impl Located {
    /// The cell at `at` of `leaf`.
    #[inline(always)]
    pub(super) fn at(leaf: &[u8], at: usize) -> Option<Self> {
        let descriptor = leaf.get(at).copied()?;
        let extra_at = at + 1 + usize::from(is_prefixed(descriptor));
        let cell = Cell::of(descriptor, leaf.get(extra_at..)?)?;
        let data_at = extra_at + cell.extra;
        let end = data_at.checked_add(cell.data)?;
        (end <= leaf.len()).then_some(Self {
            cell,
            extra_at,
            data_at,
            end,
        })
    }
}

/// What a short descriptor has in its two lowest bits.
const SHORT_KEY: u8 = 1;
const SHORT_PREFIXED_KEY: u8 = 2;
const SHORT_VALUE: u8 = 3;
/// The kinds of long ones, in the four highest bits.
const KEY: u8 = 5;
const PREFIXED_KEY: u8 = 7;
const VALUE: u8 = 8;
/// A time window follows.
const WINDOW: u8 = 0x08;
/// A count follows. Row stores have no use for it, and it is 0; values with a time window come with one all the same.
const COUNTED: u8 = 0x04;
/// The flags of a window that have a number each; the last one has none.
const WINDOW_NUMBERS: u8 = 0x7E;
const WINDOW_PREPARED: u8 = 0x01;
/// What is taken off the length of a cell that would be short were it less.
const ADJUSTMENT: usize = 64;

impl Cell {
    /// The cell with that descriptor; `extras` begins with its time window, count and length, if it has them. A prefix byte, which
    /// stands behind the descriptor, is not among them.
    #[inline(always)]
    pub(super) fn of(descriptor: u8, extras: &[u8]) -> Option<Self> {
        let short = |holds| {
            Some(Self {
                holds,
                extra: 0,
                data: usize::from(descriptor >> 2),
            })
        };
        match descriptor & 3 {
            SHORT_KEY | SHORT_PREFIXED_KEY => short(Holds::Key),
            SHORT_VALUE => short(Holds::Value),
            _ => Self::of_long(descriptor, extras),
        }
    }

    /// The same for one that is not short.
    fn of_long(descriptor: u8, extras: &[u8]) -> Option<Self> {
        let holds = match descriptor >> 4 {
            KEY | PREFIXED_KEY => Holds::Key,
            VALUE => Holds::Value,
            _ => return None,
        };
        let windowed = descriptor & WINDOW != 0;
        let mut extra = 0;
        if windowed {
            let flags = *extras.first()?;
            if flags & !(WINDOW_NUMBERS | WINDOW_PREPARED) != 0 {
                return None;
            }
            extra = 1;
            for _ in 0..(flags & WINDOW_NUMBERS).count_ones() {
                extra += packed(extras.get(extra..)?)?.0;
            }
        }
        let mut count = 0;
        if descriptor & COUNTED != 0 {
            let length;
            (length, count) = packed(extras.get(extra..)?)?;
            extra += length;
        }
        let (length, size) = packed(extras.get(extra..)?)?;
        let adjustment = match holds {
            Holds::Value if windowed || count > 0 => 0,
            _ => ADJUSTMENT,
        };
        Some(Self {
            holds,
            extra: extra + length,
            data: size.checked_add(adjustment)?,
        })
    }
}

/// Whether the descriptor tells how long the cell is.
#[inline]
pub(super) fn is_short(descriptor: u8) -> bool {
    descriptor & 3 != 0
}

/// Whether a byte of prefix follows the descriptor.
#[inline]
pub(super) fn is_prefixed(descriptor: u8) -> bool {
    match descriptor & 3 {
        0 => descriptor >> 4 == PREFIXED_KEY,
        short => short == SHORT_PREFIXED_KEY,
    }
}

/// How many bytes a packed number takes, and the number, where it is a size: none is above 2^32.
fn packed(bytes: &[u8]) -> Option<(usize, usize)> {
    let (first, rest) = bytes.split_first()?;
    match first >> 5 {
        // 1 0: six bits.
        4 | 5 => Some((1, usize::from(first & 0x3F))),
        // 1 1 0: thirteen bits.
        6 => {
            let low = usize::from(*rest.first()?);
            Some((2, (usize::from(first & 0x1F) << 8 | low) + 64))
        }
        // 1 1 1: so many bytes, the highest first, and none has more than eight.
        7 => {
            let length = usize::from(first & 0x0F);
            if length > 8 {
                return None;
            }
            let number = rest.get(..length)?;
            let value = number
                .iter()
                .fold(0u64, |value, byte| value << 8 | u64::from(*byte));
            let value = value.saturating_add(64 + 8192);
            Some((1 + length, usize::try_from(value).unwrap_or(usize::MAX)))
        }
        // A negative one.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_read_as_wiredtiger_writes_them() {
        let cell = |holds, extra, data| Some(Cell { holds, extra, data });
        assert_eq!(Cell::of(5 << 2 | 1, &[]), cell(Holds::Key, 0, 5));
        assert_eq!(Cell::of(63 << 2 | 2, &[]), cell(Holds::Key, 0, 63));
        assert_eq!(Cell::of(3, &[]), cell(Holds::Value, 0, 0));
        // 64 and 10 bytes of key, with a prefix.
        assert_eq!(Cell::of(0x70, &[0x8A]), cell(Holds::Key, 1, 74));
        // A value with a start timestamp of three bytes and a start transaction of one; empty.
        let extras = [0x28, 0xE2, 1, 2, 0x81, 0x80];
        assert_eq!(Cell::of(0x88, &extras), cell(Holds::Value, 6, 0));
        // 64 + 64 + 0x105 bytes.
        assert_eq!(Cell::of(0x80, &[0xC1, 5]), cell(Holds::Value, 2, 389));
        // The same with a count, as MongoDB 6.0 has them.
        let extras = [0x28, 0xE2, 1, 2, 0xC1, 0xA8, 0x80, 0x83];
        assert_eq!(Cell::of(0x8C, &extras), cell(Holds::Value, 8, 3));
        // Nine bytes.
        assert_eq!(Cell::of(0x80, &[0xE9, 0, 0, 0, 0, 0, 0, 0, 0, 1]), None);
        for other in [0x00, 0x10, 0x20, 0x40, 0x60, 0xA0] {
            assert_eq!(Cell::of(other, &[0x80; 8]), None, "{other:#x}");
        }
        assert_eq!(Cell::of(0x88, &[0x28, 0xE9, 1]), None);
    }
}
