//! Shredding: the documents and index keys in a payload taken apart into columns, and put together again to the very same bytes.
//!
//! A page of a collection is documents one behind the other, each with its field names and values of every kind mixed. A
//! compressor finds more, in less time, where all values of one field stand together and the names are written once.
//! [`Shredder`] looks for documents by their own structure (BSON, and nothing about who wrote it), and takes keys out of the
//! index pages it is told of; what is neither stays as it is, in its place. Every payload is put together again and compared before
//! its shredded form is used. [`Rebuild`] undoes it. The form is described in `doc/format.md`, part 3.
//!
//! Everything here is a function of bytes. What is read is not trusted: a reader is bounded by the limit its caller names.

mod bson;
mod cells;
mod columns;
mod fields;
mod forward;
mod gather;
mod inverse;
mod known;
mod lanes;
mod layout;
mod short;

#[cfg(test)]
mod tests;

use std::ops::Range;

pub(crate) use forward::Shredder;
pub(crate) use inverse::Rebuild;

/// Documents in documents in documents; deeper ones stay as they are. MongoDB allows a hundred.
const DEEPEST: usize = 100;
/// More fields than that are not told apart in one payload.
const MOST_FIELDS: usize = 1 << 16;
/// The longest name of a field.
const LONGEST_NAME: usize = 255;
/// Gaps and cells up to this length have a column for each length.
const SHORT: usize = 64;

/// What a [`Shredder`] takes at most, in payloads: twice as much for the values as they are gathered, once for where those of one document
/// began, for the form, for a column before it is in lanes and as steps, for the columns while it is put together again, and for what comes of that.
pub(crate) const CONTENTS: u64 = 8;

/// Where in a payload the cells of a row-store leaf page lie that WiredTiger left uncompressed.
pub(crate) type Leaf = Range<usize>;

/// The columns that every payload has, by their place in the directory; those of fields follow.
mod place {
    use super::SHORT;

    /// How the fields of documents follow each other.
    pub(super) const STRUCTURE: usize = 0;
    /// How long each gap is.
    pub(super) const GAPS: usize = 1;
    /// The fields: parent, type, name.
    pub(super) const FIELDS: usize = 2;
    /// What is longer than [`SHORT`] of gaps and cells.
    pub(super) const LONG: usize = 3;
    /// How many cells each run of them has.
    pub(super) const RUNS: usize = 4;
    /// The first byte of each cell.
    pub(super) const DESCRIPTORS: usize = 5;
    /// How much of the key before each key begins with.
    pub(super) const PREFIXES: usize = 6;
    /// How long time window, count and length of each cell are that is not short.
    pub(super) const EXTRAS: usize = 7;
    /// Before the column of gaps of one byte.
    pub(super) const GAP: usize = EXTRAS;
    /// Before that of keys of one byte.
    pub(super) const KEY: usize = GAP + SHORT;
    /// Before that of values of one byte.
    pub(super) const VALUE: usize = KEY + SHORT;
    /// Before that of time window, count and length of cells, where they take one byte.
    pub(super) const EXTRA: usize = VALUE + SHORT;
    /// The first field's.
    pub(super) const FIRST_FIELD: usize = EXTRA + SHORT + 1;

    /// The column for a piece of `length` bytes, `base` being one of the four above.
    pub(super) fn of(base: usize, length: usize) -> usize {
        if length <= SHORT { base + length } else { LONG }
    }

    /// The width of the values in the column at `place`, where they have one.
    pub(super) fn width(place: usize) -> usize {
        match place {
            ..=GAP | FIRST_FIELD.. => 0,
            _ => (place - GAP - 1) % SHORT + 1,
        }
    }
}
