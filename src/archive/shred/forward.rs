//! From a payload to its shredded form.
//!
//! Once over the payload: what is found goes behind the other values of its column ([`Gather`]); then the columns are laid out.

use std::collections::HashMap;

use super::bson::{Extent, candidate, head_of, length_at};
use super::cells::{Holds, Located};
use super::fields::{CELLS, Digits, Expected, Fields, Id, ROOT, Value};
use super::gather::{self, Gather};
use super::inverse::Rebuild;
use super::layout::{Layout, Written};
use super::short::STRIDE;
use super::{DEEPEST, Leaf, MOST_FIELDS, place};
use crate::archive::integer;

/// How many bytes of what turned out to be no document are read, for each byte of the payload.
const PATIENCE: usize = 4;
/// The shortest run of cells that is taken as one.
const SHORTEST_RUN: u64 = 4;
/// Of a payload of which no more than a part is taken apart, not worth the time of who reads it.
const LEAST_PART: usize = 16;

/// Shreds payloads. It holds nothing but buffers that are used again; the form of a payload depends on that payload alone.
#[derive(Debug)]
pub(crate) struct Shredder {
    fields: Fields,
    /// The number of each field, by its parent, whether it is numbered, and its head.
    known: HashMap<Vec<u8>, Id>,
    key: Vec<u8>,
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
            known: HashMap::new(),
            key: Vec::new(),
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
        // Not its length, which differs from one to the next: the buffer would be cleared anew for each.
        let limit = payload.len().next_multiple_of(1 << 20);
        self.rebuild.rebuild(out, limit) == Ok(payload)
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
                    .and_then(|leaf| self.cells(payload, leaf.clone()))
            } else if let Some(found) = candidate(payload, at, ahead) {
                at = found;
                match self.try_document(payload, at) {
                    Ok(end) => Some(end),
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
                    self.gap(payload, gap, at)?;
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

    /// The cells at the beginning of `leaf`; where they end. None where they are few.
    fn cells(&mut self, payload: &[u8], leaf: Leaf) -> Option<usize> {
        let (values, prefixes) = (self.values.mark(), self.written.prefixes.len());
        let (descriptors, extras) = (self.written.descriptors.len(), self.written.extras.len());
        let end = self.run(payload.get(..leaf.end)?, leaf.start);
        if end.is_none() {
            self.values.take_back(values);
            self.written.prefixes.truncate(prefixes);
            self.written.descriptors.truncate(descriptors);
            self.written.extras.truncate(extras);
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
        self.piece(base, leaf, data_at, cell.data)?;
        if cell.extra > 0 {
            self.piece(place::EXTRA, leaf, extra_at, cell.extra)?;
            integer::push(&mut self.written.extras, cell.extra as u64);
        }
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
        self.written.fields.truncate(mark.field_list);
        self.expected = mark.expected;
        while let Some((parent, previous, field)) = self.before.pop() {
            self.fields.expect(parent, previous, field);
        }
        if self.fields.len() > mark.fields {
            let fields = mark.fields as Id;
            self.known.retain(|_, id| *id < fields);
        }
        while self.fields.len() > mark.fields {
            self.fields.remove_last();
        }
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
                    let extent = Extent::of(value, payload, at)?;
                    if extent.end >= open.end {
                        return None;
                    }
                    let Extent { start, length, end } = extent;
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
        self.before.push((parent, previous, expected));
        let (id, head) = match self.is(expected.other, rest, room, position) {
            Some(head) => {
                self.note(ROOT);
                (expected.other, head)
            }
            None => {
                let rest = rest.get(..room)?;
                let (name, numbered) = head_of(rest, &Digits::of(position))?;
                let id = self.find_or_add(parent, name, numbered)?;
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

    /// The number of a field. None where there are too many.
    fn find_or_add(&mut self, parent: Id, head: &[u8], numbered: bool) -> Option<Id> {
        let head = if numbered { head.get(..1)? } else { head };
        self.key.clear();
        self.key.extend_from_slice(&parent.to_le_bytes());
        self.key.push(numbered.into());
        self.key.extend_from_slice(head);
        if let Some(id) = self.known.get(&self.key) {
            return Some(*id);
        }
        let value = Value::of(*head.first()?)?;
        if self.fields.len() >= MOST_FIELDS {
            return None;
        }
        let parent = u64::from(parent) << 1 | u64::from(numbered);
        integer::push(&mut self.written.fields, parent);
        self.written.fields.extend_from_slice(head);
        let id = self.fields.add(head, numbered, value);
        self.values.columns(self.fields.columns());
        self.known.insert(self.key.clone(), id);
        Some(id)
    }
}
