//! From a payload to its shredded form.
//!
//! Once over the payload: what is found goes behind the other values of its column ([`Gather`]); then the columns are laid out.

use super::bson::{Extent, candidate, head_of, length_at};
use super::cells::{Holds, Located};
use super::fields::{CELLS, Digits, Expected, Fields, Id, ROOT, Value};
use super::gather::{self, Gather};
use super::inverse::Rebuild;
use super::known::Known;
use super::layout::{Layout, Written};
use super::short::STRIDE;
use super::{DEEPEST, Leaf, place};
use crate::archive::integer;

/// How many bytes of what turned out to be no document are read, for each byte of the payload.
const PATIENCE: usize = 4;
/// The shortest run of cells that is taken as one.
const SHORTEST_RUN: u64 = 4;
/// The most fields of a document that may not be the likely one; one with more has nothing to gain.
const MOST_SURPRISES: usize = 1 << 16;
/// Of a payload of which no more than a part is taken apart, not worth the time of who reads it.
const LEAST_PART: usize = 16;
/// What the directory of a small form takes, at most.
const MOST_DIRECTORY: usize = 1 << 11;

/// Shreds payloads. It holds nothing but buffers that are used again; the form of a payload depends on that payload alone.
#[derive(Debug)]
pub(crate) struct Shredder {
    fields: Fields,
    known: Known,
    values: Gather,
    /// Length and subtype of a binary value.
    binary: Vec<u8>,
    /// Fields that came as expected since the last that did not.
    expected: u64,
    written: Written,
    /// What was expected before the document that is being read: parent, previous field, and what.
    before: Vec<(Id, Id, Expected)>,
    open: Vec<Open>,
    layout: Layout,
    rebuild: Rebuild,
}

/// A document that is being read.
#[derive(Debug, Clone, Copy)]
struct Open {
    field: Id,
    previous: Id,
    end: usize,
    /// How many fields came before the one that is read.
    position: u32,
}

/// What is to be as it was, should something turn out to be no document.
#[derive(Debug, Clone, Copy)]
struct Mark {
    values: gather::Mark,
    structure: usize,
    expected: u64,
    fields: usize,
    field_list: usize,
}

impl Default for Shredder {
    fn default() -> Self {
        Self {
            fields: Fields::new(place::FIRST_FIELD),
            known: Known::default(),
            values: Gather::default(),
            binary: Vec::new(),
            expected: 0,
            written: Written::default(),
            before: Vec::new(),
            open: Vec::new(),
            layout: Layout::default(),
            rebuild: Rebuild::default(),
        }
    }
}

impl Shredder {
    /// Replaces what `out` holds by the shredded form of `payload`, the cells of whose uncompressed leaf pages are in `leaves`, in
    /// their order. False, and `out` means nothing, where there is little to take apart, or where the form does not give the payload again.
    pub(crate) fn shred(&mut self, payload: &[u8], leaves: &[Leaf], out: &mut Vec<u8>) -> bool {
        self.fields.clear(place::FIRST_FIELD);
        self.known.clear();
        self.values.clear(payload.len());
        self.values.columns(self.fields.columns());
        self.expected = 0;
        for (_, column) in self.written.columns() {
            column.clear();
        }
        if u32::try_from(payload.len()).is_err() {
            return false;
        }
        if self.find(payload, leaves).is_none() {
            return false;
        }
        integer::push(&mut self.written.structure, self.expected);
        let values = self.values.finish(payload);
        self.layout
            .lay_out(values, &mut self.written, &self.fields, out);
        // Cells are only sorted. But where documents take more than before, of their fields there was too much to say.
        if out.len() > payload.len() + payload.len() / LEAST_PART + MOST_DIRECTORY {
            return false;
        }
        // Not its length, which differs from one to the next: the buffer would be cleared anew for each.
        let limit = payload.len().next_multiple_of(1 << 20);
        let proven = self.rebuild.rebuild(out, limit) == Ok(payload);
        debug_assert!(proven, "a form that does not give its payload again");
        proven
    }

    /// Finds documents and cells. None where there is little to take apart, or where that would take too much memory.
    fn find(&mut self, payload: &[u8], leaves: &[Leaf]) -> Option<()> {
        let mut patience = payload.len().saturating_mul(PATIENCE);
        let mut leaves = leaves.iter().peekable();
        let (mut at, mut gap, mut taken) = (0, 0, 0);
        while at < payload.len() && patience > 0 {
            let ahead = leaves.peek().map_or(payload.len(), |leaf| leaf.start);
            let end = if at > ahead {
                leaves.next();
                continue;
            } else if at == ahead {
                leaves
                    .next()
                    .and_then(|leaf| self.cells(payload, gap, leaf.clone()))
            } else if let Some(found) = candidate(payload, at, ahead) {
                at = found;
                match self.try_document(payload, at) {
                    Ok(end) => {
                        self.values.mark();
                        self.gap(payload, gap, at)?;
                        Some(end)
                    }
                    Err(read) => {
                        patience = patience.saturating_sub(read);
                        None
                    }
                }
            } else {
                at = ahead;
                continue;
            };
            match end {
                Some(end) => {
                    // A form that is longer than the payload is no gain.
                    if self.written.structure.len() > payload.len() {
                        return None;
                    }
                    taken += end - at;
                    (at, gap) = (end, end);
                }
                None => at += 1,
            }
        }
        if taken <= payload.len() / LEAST_PART {
            return None;
        }
        self.gap(payload, gap, payload.len())
    }

    /// Bytes that stay as they are.
    fn gap(&mut self, payload: &[u8], start: usize, end: usize) -> Option<()> {
        integer::push(&mut self.written.gaps, (end - start) as u64);
        self.piece(place::GAP, payload, start, end - start)
    }

    /// A piece that goes into the column for its length.
    #[inline(always)]
    fn piece(&mut self, base: usize, payload: &[u8], start: usize, length: usize) -> Option<()> {
        if length == 0 {
            return Some(());
        }
        let column = place::of(base, length) as u32;
        self.values.push(column, payload, start, length)
    }

    /// The gap from `gap` on and the cells at the beginning of `leaf` behind it; where they end. None where they are few.
    fn cells(&mut self, payload: &[u8], gap: usize, leaf: Leaf) -> Option<usize> {
        self.before.clear();
        let values = self.values.mark();
        let lengths = self.written.cells().map(|column| column.len());
        // Before the cells, with which it shares the column of what is long: a reader takes it first.
        let end = self
            .gap(payload, gap, leaf.start)
            .and_then(|()| self.run(payload.get(..leaf.end)?, leaf.start));
        if end.is_none() {
            self.values.take_back(values);
            for (column, length) in self.written.cells().into_iter().zip(lengths) {
                column.truncate(length);
            }
        }
        end
    }

    /// The same for those at `at` of `leaf`, with what is to be taken back where there is none.
    fn run(&mut self, leaf: &[u8], mut at: usize) -> Option<usize> {
        let mut count = 0;
        while let Some(cell) = Located::at(leaf, at) {
            self.cell(leaf, at, &cell)?;
            count += 1;
            at = cell.end;
        }
        if count < SHORTEST_RUN {
            return None;
        }
        self.comes(ROOT, ROOT, &[CELLS], 1, 0)?;
        integer::push(&mut self.written.runs, count);
        Some(at)
    }

    /// The cell at `at` of `leaf`.
    #[inline(always)]
    fn cell(&mut self, leaf: &[u8], at: usize, located: &Located) -> Option<()> {
        let &Located {
            cell,
            extra_at,
            data_at,
            ..
        } = located;
        let base = match cell.holds {
            Holds::Key => place::KEY,
            Holds::Value => place::VALUE,
        };
        // A reader takes the extra first, and both may be in the column of what is long.
        if cell.extra > 0 {
            self.piece(place::EXTRA, leaf, extra_at, cell.extra)?;
            integer::push(&mut self.written.extras, cell.extra as u64);
        }
        self.piece(base, leaf, data_at, cell.data)?;
        self.written.descriptors.extend(leaf.get(at));
        if extra_at > at + 1 {
            self.written.prefixes.extend(leaf.get(at + 1));
        }
        Some(())
    }

    /// The document at `at`: where it ends, or how many bytes of it were read before it turned out to be none.
    fn try_document(&mut self, payload: &[u8], at: usize) -> Result<usize, usize> {
        let mark = Mark {
            values: self.values.mark(),
            structure: self.written.structure.len(),
            expected: self.expected,
            fields: self.fields.len(),
            field_list: self.written.fields.len(),
        };
        self.before.clear();
        self.open.clear();
        let mut reached = at;
        if let Some(end) = self.document(payload, at, &mut reached) {
            return Ok(end);
        }
        self.values.take_back(mark.values);
        self.written.structure.truncate(mark.structure);
        self.expected = mark.expected;
        while let Some((parent, previous, field)) = self.before.pop() {
            self.fields.expect(parent, previous, field);
        }
        self.known.forget(
            mark.fields,
            mark.field_list,
            &mut self.fields,
            &mut self.written.fields,
        );
        self.values.columns(self.fields.columns());
        Err(reached - at + 1)
    }

    /// Reads the document at `at`, and notes in `reached` how far it came.
    fn document(&mut self, payload: &[u8], at: usize, reached: &mut usize) -> Option<usize> {
        let mut open = Open {
            field: ROOT,
            previous: ROOT,
            end: at.checked_add(length_at(payload, at)?)?,
            position: 0,
        };
        let mut at = at + 4;
        loop {
            *reached = at;
            // What is left of the document, its end included.
            let room = open.end.checked_sub(at)?;
            let rest = payload.get(at..)?;
            let (id, head) = self.comes(open.field, open.previous, rest, room, open.position)?;
            at += head;
            let field = self.fields.get(id)?;
            open.previous = id;
            open.position += 1;
            match field.value {
                Value::End => {
                    if at != open.end {
                        return None;
                    }
                    match self.open.pop() {
                        None => return Some(at),
                        Some(outer) => open = outer,
                    }
                }
                Value::Document => {
                    let length = length_at(payload, at)?;
                    let end = at.checked_add(length)?;
                    if length < 5 || end >= open.end || self.open.len() >= DEEPEST {
                        return None;
                    }
                    self.open.push(open);
                    open = Open {
                        field: id,
                        previous: ROOT,
                        end,
                        position: 0,
                    };
                    at += 4;
                }
                Value::Cells => return None,
                value => {
                    let column = field.column;
                    let within = payload.get(..open.end - 1)?;
                    let Extent { start, length, end } = match Extent::of(value, within, at) {
                        Ok(extent) => extent,
                        Err(scanned) => {
                            *reached = at + scanned;
                            return None;
                        }
                    };
                    at = end;
                    if value == Value::Binary {
                        self.binary(payload, column, start, length)?;
                    } else if length > 0 {
                        self.values.push(column, payload, start, length)?;
                    }
                }
            }
        }
    }

    /// A binary value, whose subtype stands before it.
    fn binary(&mut self, payload: &[u8], column: u32, start: usize, length: usize) -> Option<()> {
        self.binary.clear();
        integer::push(&mut self.binary, length as u64);
        self.binary.push(*payload.get(start.checked_sub(1)?)?);
        let head = self.binary.len();
        self.binary.resize(head + STRIDE, 0);
        self.values.push(column, &self.binary, 0, head)?;
        if length == 0 {
            return Some(());
        }
        self.values.push(column + 1, payload, start, length)
    }

    /// The field at the beginning of `rest`, of which the first `room` bytes are the document's, and how long its head is.
    #[inline(always)]
    fn comes(
        &mut self,
        parent: Id,
        previous: Id,
        rest: &[u8],
        room: usize,
        position: u32,
    ) -> Option<(Id, usize)> {
        let expected = self.fields.expected(parent, previous);
        if let Some(head) = self.is(expected.likely, rest, room, position) {
            self.expected += 1;
            return Some((expected.likely, head));
        }
        self.comes_unlikely(parent, previous, expected, rest, room, position)
    }

    /// The same where it is not the likely one.
    #[inline(never)]
    fn comes_unlikely(
        &mut self,
        parent: Id,
        previous: Id,
        expected: Expected,
        rest: &[u8],
        room: usize,
        position: u32,
    ) -> Option<(Id, usize)> {
        if self.before.len() == MOST_SURPRISES {
            return None;
        }
        self.before.push((parent, previous, expected));
        let (id, head) = match self.is(expected.other, rest, room, position) {
            Some(head) => {
                self.note(ROOT);
                (expected.other, head)
            }
            None => {
                let rest = rest.get(..room)?;
                let (name, numbered) = head_of(rest, &Digits::of(position))?;
                let list = &mut self.written.fields;
                let fields = &mut self.fields;
                let id = self
                    .known
                    .find_or_add(parent, name, numbered, fields, list)?;
                self.values.columns(self.fields.columns());
                self.note(id);
                (id, name.len())
            }
        };
        self.fields.expect(parent, previous, expected.after(id));
        Some((id, head))
    }

    /// How long the head of `id` is, if that comes next.
    #[inline(always)]
    fn is(&self, id: Id, rest: &[u8], room: usize, position: u32) -> Option<usize> {
        if id == ROOT {
            return None;
        }
        let field = self.fields.get(id)?;
        let mut head = self.fields.begins(field, rest)?;
        if field.numbered {
            head += Digits::of(position).begin(rest.get(1..)?)?;
        }
        (head <= room).then_some(head)
    }

    /// Notes a field that was not the likely one: its number, or [`ROOT`] for the other one that was expected.
    fn note(&mut self, id: Id) {
        integer::push(&mut self.written.structure, self.expected);
        integer::push(&mut self.written.structure, u64::from(id));
        self.expected = 0;
    }
}
