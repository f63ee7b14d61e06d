//! What bytes say of documents, by BSON's own structure.

use super::LONGEST_NAME;
use super::fields::{CELLS, Digits, Value};
use super::short::find_zero;

/// The shortest document that is looked for: a field with a short name and a value of eight bytes.
const SHORTEST: usize = 16;

/// What a [`Value`] has in the payload.
pub(super) struct Extent {
    /// Where its bytes begin, and how many there are.
    pub start: usize,
    pub length: usize,
    /// Where the next field begins.
    pub end: usize,
}

impl Extent {
    /// Where the bytes of a value lie that follows a name which ends at `at`, all of it in `bytes`; where there is none such, how many were
    /// looked through for that.
    #[inline(always)]
    pub(super) fn of(value: Value, bytes: &[u8], at: usize) -> Result<Self, usize> {
        let (start, length) = match value {
            Value::Fixed(width) => (at, width.into()),
            Value::Text => {
                let length = length_at(bytes, at).ok_or(0usize)?;
                let text = bytes.get(at + 4..).and_then(|bytes| bytes.get(..length));
                // Its own end is its only zero, or a reader could not tell where it ends.
                match text.map(find_zero) {
                    Some(Some(zero)) if zero + 1 == length => {}
                    Some(zero) => return Err(zero.unwrap_or(length)),
                    None => return Err(0),
                }
                (at + 4, length)
            }
            Value::Binary => (at + 5, length_at(bytes, at).ok_or(0usize)?),
            Value::Nothing | Value::End | Value::Document | Value::Cells => (at, 0),
        };
        match start.checked_add(length) {
            Some(end) if end <= bytes.len() => Ok(Self { start, length, end }),
            _ => Err(0),
        }
    }
}

/// The first place in `at..end` where a document may begin, by its length, its first type and its last byte.
pub(super) fn candidate(payload: &[u8], at: usize, end: usize) -> Option<usize> {
    let here = payload.get(at..)?;
    for (offset, bytes) in here.windows(5).enumerate().take(end.saturating_sub(at)) {
        let &[l0, l1, l2, 0, first] = bytes else {
            continue;
        };
        if first == 0 || first == CELLS || Value::of(first).is_none() {
            continue;
        }
        let length = u32::from_le_bytes([l0, l1, l2, 0]) as usize;
        if length >= SHORTEST && here.get(offset + length - 1) == Some(&0) {
            return Some(at + offset);
        }
    }
    None
}

/// The length of the document or string at `at`.
#[inline]
pub(super) fn length_at(payload: &[u8], at: usize) -> Option<usize> {
    let bytes = payload.get(at..)?.first_chunk::<4>()?;
    usize::try_from(i32::from_le_bytes(*bytes)).ok()
}

/// Type, name and zero at the beginning of `rest`, and whether the name is the number.
pub(super) fn head_of<'a>(rest: &'a [u8], digits: &Digits) -> Option<(&'a [u8], bool)> {
    let (first, name) = rest.split_first()?;
    if matches!(*first, 0 | CELLS) {
        return Some((rest.get(..1)?, false));
    }
    Value::of(*first)?;
    let name = name.get(..name.len().min(LONGEST_NAME + 1))?;
    let end = memchr::memchr(0, name)?;
    let numbered = name.get(..end) == Some(digits.name());
    Some((rest.get(..end + 2)?, numbered))
}
