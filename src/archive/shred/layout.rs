//! Every value into its place: the second pass over the payload.

use super::columns::{self, Column, Form};
use super::fields::{Fields, Id, ROOT, Value};
use super::{place, short};
use crate::archive::integer;

/// The columns that are written while the payload is read.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub structure: Vec<u8>,
    pub gaps: Vec<u8>,
    pub fields: Vec<u8>,
    pub runs: Vec<u8>,
    pub descriptors: Vec<u8>,
    pub prefixes: Vec<u8>,
    pub extras: Vec<u8>,
}

impl Written {
    /// With their places in the directory.
    pub(super) fn columns(&mut self) -> [(usize, &mut Vec<u8>); 7] {
        [
            (place::STRUCTURE, &mut self.structure),
            (place::GAPS, &mut self.gaps),
            (place::FIELDS, &mut self.fields),
            (place::RUNS, &mut self.runs),
            (place::DESCRIPTORS, &mut self.descriptors),
            (place::PREFIXES, &mut self.prefixes),
            (place::EXTRAS, &mut self.extras),
        ]
    }
}

/// A value in the payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub start: u32,
    pub length: u32,
    pub column: u32,
}

/// Set in a piece's column where its length, and the byte before it, go into the column before.
pub(super) const BINARY: u32 = 1 << 31;

/// Lays columns out. It holds nothing but buffers that are used again.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// How long each column is; later where its next value goes.
    ends: Vec<usize>,
    /// Values of a width, before they are put into their form.
    staged: Vec<u8>,
    steps: Vec<u8>,
}

impl Layout {
    /// Replaces what `out` holds by the columns and their directory.
    pub(super) fn lay_out(
        &mut self,
        payload: &[u8],
        values: &[Piece],
        written: &mut Written,
        fields: &Fields,
        out: &mut Vec<u8>,
    ) {
        self.ends.clear();
        self.ends.resize(fields.columns(), 0);
        let mut add = |place: usize, length: usize| {
            if let Some(end) = self.ends.get_mut(place) {
                *end += length;
            }
        };
        for (place, column) in written.columns() {
            add(place, column.len());
        }
        for value in values {
            let column = (value.column & !BINARY) as usize;
            add(column, value.length as usize);
            if value.column & BINARY != 0 {
                add(column - 1, integer::length(value.length.into()) + 1);
            }
        }
        // From lengths to where each begins.
        let mut total = 0;
        let mut directory = Vec::with_capacity(self.ends.len());
        for end in &mut self.ends {
            directory.push(Column {
                length: *end,
                form: Form::Plain,
                width: 0,
            });
            total += std::mem::replace(end, total);
        }
        // All of it is written below.
        out.reserve_exact(total.saturating_sub(out.len()));
        out.resize(total, 0);
        let staged = total.saturating_sub(self.staged.len());
        self.staged.reserve_exact(staged);
        self.staged.resize(self.staged.len() + staged, 0);
        let widths = widths(fields);
        for (place, column) in written.columns() {
            put(out, &mut self.ends, place, column);
        }
        let mut head = Vec::with_capacity(10);
        for value in values {
            let (start, column) = (value.start as usize, (value.column & !BINARY) as usize);
            let end = start + value.length as usize;
            let bytes = payload.get(start..end).unwrap_or_default();
            if value.column & BINARY != 0 {
                head.clear();
                integer::push(&mut head, value.length.into());
                head.extend(start.checked_sub(1).and_then(|at| payload.get(at)));
                put(out, &mut self.ends, column - 1, &head);
            }
            let to = match widths.get(column) {
                Some(2..) => &mut self.staged,
                _ => &mut *out,
            };
            put(to, &mut self.ends, column, bytes);
        }
        let mut start = 0;
        for (column, width) in directory.iter_mut().zip(&widths) {
            let end = start + column.length;
            if *width > 1
                && let (Some(plain), Some(place)) =
                    (self.staged.get(start..end), out.get_mut(start..end))
            {
                *column = columns::encode(plain, *width, place, &mut self.steps);
            }
            start = end;
        }
        columns::push_directory(&directory, out);
    }
}

/// The width of each column's values; 0 where they have none.
fn widths(fields: &Fields) -> Vec<usize> {
    let mut widths: Vec<usize> = (0..place::FIRST_FIELD).map(place::width).collect();
    for id in 0..fields.len() {
        match fields.get(id as Id).map(|field| field.value) {
            Some(Value::Fixed(width)) => widths.push(width),
            Some(value) if id as Id != ROOT => widths.resize(widths.len() + value.columns(), 0),
            _ => {}
        }
    }
    widths
}

/// Writes `bytes` where the next value of the column goes.
#[inline]
fn put(to: &mut [u8], ends: &mut [usize], column: usize, bytes: &[u8]) {
    let Some(at) = ends.get_mut(column) else {
        return;
    };
    let Some(place) = to.get_mut(*at..) else {
        return;
    };
    *at += bytes.len();
    short::copy(place, bytes);
}
