//! From gathered values to the shredded form: column behind column, each in the form that suits it.

use super::columns::{self, Column, Form};
use super::fields::{Fields, Id, ROOT, Value};
use super::gather::Gathered;
use super::place;

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
    /// Those that a run of cells and the gap before it are written into.
    pub(super) fn cells(&mut self) -> [&mut Vec<u8>; 4] {
        [
            &mut self.gaps,
            &mut self.descriptors,
            &mut self.prefixes,
            &mut self.extras,
        ]
    }

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

/// Bytes of a column in the directory, at most, and for all of them what ends it.
const LONGEST_ENTRY: usize = 12;

/// Lays columns out. It holds nothing but buffers that are used again.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// The values of a column of some width, before they are put into their form.
    staged: Vec<u8>,
    steps: Vec<u8>,
}

impl Layout {
    /// Replaces what `out` holds by the columns and their directory.
    pub(super) fn lay_out(
        &mut self,
        mut values: Gathered<'_>,
        written: &mut Written,
        fields: &Fields,
        out: &mut Vec<u8>,
    ) {
        let mut lengths = vec![0; fields.columns()];
        values.add_lengths(&mut lengths);
        for (place, column) in written.columns() {
            if let Some(length) = lengths.get_mut(place) {
                *length += column.len();
            }
        }
        // All of it is written below, so what it holds need not be cleared.
        let total = lengths.iter().sum::<usize>();
        let directory_room = lengths.len() * LONGEST_ENTRY;
        out.reserve_exact((total + directory_room).saturating_sub(out.len()));
        out.resize(total, 0);
        let mut rest = out.as_mut_slice();
        let mut directory = Vec::with_capacity(lengths.len());
        let mut written = written.columns().into_iter().peekable();
        for ((place, length), width) in lengths.into_iter().enumerate().zip(widths(fields)) {
            let Some((room, behind)) = rest.split_at_mut_checked(length) else {
                return;
            };
            rest = behind;
            let mut column = Column {
                length,
                form: Form::Plain,
                width: 0,
            };
            if let Some((_, bytes)) = written.next_if(|(at, _)| *at == place) {
                room.copy_from_slice(bytes);
            } else if length == 0 {
            } else if width > 1 {
                self.staged.clear();
                self.staged.reserve_exact(length);
                for piece in values.take(place) {
                    self.staged.extend_from_slice(piece);
                }
                column = columns::encode(&self.staged, width, room, &mut self.steps);
            } else {
                let mut room = room;
                for piece in values.take(place) {
                    let Some((here, behind)) = room.split_at_mut_checked(piece.len()) else {
                        return;
                    };
                    here.copy_from_slice(piece);
                    room = behind;
                }
            }
            directory.push(column);
        }
        columns::push_directory(&directory, out);
    }
}

/// The width of each column's values; 0 where they have none.
fn widths(fields: &Fields) -> Vec<usize> {
    let mut widths: Vec<usize> = (0..place::FIRST_FIELD).map(place::width).collect();
    for id in 0..fields.len() {
        match fields.get(id as Id).map(|field| field.value) {
            Some(Value::Fixed(width)) => widths.push(width.into()),
            Some(value) if id as Id != ROOT => widths.resize(widths.len() + value.columns(), 0),
            _ => {}
        }
    }
    widths
}
