//! From a payload to its shredded form.
//!
//! Twice over the payload: first everything is found and counted, then every value is written in its place.

use std::collections::HashMap;

use super::cells::{Cell, Holds, is_prefixed};
use super::fields::{CELLS, Digits, Expected, Fields, Id, ROOT, Value};
use super::inverse::Rebuild;
use super::layout::{BINARY, Layout, Piece, Written};
use super::short::find_zero;
use super::{DEEPEST, Leaf, MOST_FIELDS, place};
use crate::archive::integer;

/// The shortest document that is looked for: a field with a short name and a value of eight bytes.
const SHORTEST: usize = 16;
/// How many bytes of what turned out to be no document are read, for each byte of the payload.
const PATIENCE: usize = 4;
/// Values that are told apart, at most: one for so many bytes of the payload.
const BYTES_A_VALUE: usize = 8;
/// The shortest run of cells that is taken as one.
const SHORTEST_RUN: usize = 4;
/// Of a payload of which no more than a part is taken apart, not worth the time of who reads it.
const LEAST_PART: usize = 16;
/// The longest name of a field.
const LONGEST_NAME: usize = 255;

/// Shreds payloads. It holds nothing but buffers that are used again; the form of a payload depends on that payload alone.
#[derive(Debug)]
pub(crate) struct Shredder {
    fields: Fields,
    /// The number of each field, by its parent, whether it is numbered, and its head.
    known: HashMap<Vec<u8>, Id>,
    key: Vec<u8>,
    values: Vec<Piece>,
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
    digits: Digits,
}

/// What is to be as it was, should something turn out to be no document.
#[derive(Debug, Clone, Copy)]
struct Mark {
    values: usize,
    structure: usize,
    expected: u64,
    fields: usize,
    field_list: usize,
}

/// What a [`Value`] has in the payload.
struct Extent {
    /// Where its bytes begin, and how many there are.
    start: usize,
    length: usize,
    /// Where the next field begins.
    end: usize,
}

impl Default for Shredder {
    fn default() -> Self {
        Self {
            fields: Fields::new(place::FIRST_FIELD),
            known: HashMap::new(),
            key: Vec::new(),
            values: Vec::new(),
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
        self.values.clear();
        self.expected = 0;
        for (_, column) in self.written.columns() {
            column.clear();
        }
        if u32::try_from(payload.len()).is_err() {
            return false;
        }
        let taken = self.find(payload, leaves);
        if taken <= payload.len() / LEAST_PART {
            return false;
        }
        integer::push(&mut self.written.structure, self.expected);
        self.layout
            .lay_out(payload, &self.values, &mut self.written, &self.fields, out);
        self.rebuild.rebuild(out, payload.len()) == Ok(payload)
    }

    /// Finds documents and cells; how many bytes they take.
    fn find(&mut self, payload: &[u8], leaves: &[Leaf]) -> usize {
        let most_values = payload.len() / BYTES_A_VALUE;
        self.values.reserve_exact(most_values);
        let mut patience = payload.len().saturating_mul(PATIENCE);
        let mut leaves = leaves.iter().peekable();
        let (mut at, mut gap, mut taken) = (0, 0, 0);
        while at < payload.len() && patience > 0 && self.values.len() < most_values {
            let ahead = leaves.peek().map_or(payload.len(), |leaf| leaf.start);
            let end = if at > ahead {
                leaves.next();
                continue;
            } else if at == ahead {
                let leaf = leaves.next().and_then(|leaf| payload.get(leaf.clone()));
                leaf.and_then(|cells| self.cells(cells, at))
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
                    self.gap(gap, at);
                    taken += end - at;
                    (at, gap) = (end, end);
                }
                None => at += 1,
            }
        }
        self.gap(gap, payload.len());
        taken
    }

    /// Bytes that stay as they are.
    fn gap(&mut self, start: usize, end: usize) {
        integer::push(&mut self.written.gaps, (end - start) as u64);
        self.piece(place::GAP, start, end - start);
    }

    /// A piece that goes into the column for its length.
    fn piece(&mut self, base: usize, start: usize, length: usize) {
        if length > 0 {
            self.values.push(Piece {
                start: start as u32,
                length: length as u32,
                column: place::of(base, length) as u32,
            });
        }
    }

    /// The cells at the beginning of `leaf`, which begins at `start` of the payload; where they end. None where they are few.
    fn cells(&mut self, leaf: &[u8], start: usize) -> Option<usize> {
        let (values, prefixes) = (self.values.len(), self.written.prefixes.len());
        let (descriptors, extras) = (self.written.descriptors.len(), self.written.extras.len());
        let mut at = 0;
        let mut count = 0;
        while let Some(descriptor) = leaf.get(at).copied() {
            let prefix = usize::from(is_prefixed(descriptor));
            let Some(extra_at) = leaf.get(at + 1 + prefix..) else {
                break;
            };
            let Some(cell) = Cell::of(descriptor, extra_at) else {
                break;
            };
            let data_at = at + 1 + prefix + cell.extra;
            let end = data_at.saturating_add(cell.data);
            if end > leaf.len() {
                break;
            }
            self.written.descriptors.push(descriptor);
            let prefixed = leaf.get(at + 1..at + 1 + prefix);
            self.written
                .prefixes
                .extend_from_slice(prefixed.unwrap_or_default());
            if cell.extra > 0 {
                integer::push(&mut self.written.extras, cell.extra as u64);
                let extra_at = start + at + 1 + prefix;
                self.piece(place::EXTRA, extra_at, cell.extra);
            }
            let base = match cell.holds {
                Holds::Key => place::KEY,
                Holds::Value => place::VALUE,
            };
            self.piece(base, start + data_at, cell.data);
            count += 1;
            at = end;
        }
        let field = if count < SHORTEST_RUN {
            None
        } else {
            self.comes(ROOT, ROOT, &[CELLS], &Digits::ZERO)
        };
        if field.is_none() {
            self.values.truncate(values);
            self.written.prefixes.truncate(prefixes);
            self.written.descriptors.truncate(descriptors);
            self.written.extras.truncate(extras);
            return None;
        }
        integer::push(&mut self.written.runs, count as u64);
        Some(start + at)
    }

    /// The document at `at`: where it ends, or how many bytes of it were read before it turned out to be none.
    fn try_document(&mut self, payload: &[u8], at: usize) -> Result<usize, usize> {
        let mark = Mark {
            values: self.values.len(),
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
        self.values.truncate(mark.values);
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
        Err(reached - at + 1)
    }

    /// Reads the document at `at`, and notes in `reached` how far it came.
    fn document(&mut self, payload: &[u8], at: usize, reached: &mut usize) -> Option<usize> {
        let mut open = Open {
            field: ROOT,
            previous: ROOT,
            end: at.checked_add(length_at(payload, at)?)?,
            digits: Digits::ZERO,
        };
        let mut at = at + 4;
        loop {
            *reached = at;
            // What is left of the document, its end included.
            let rest = payload.get(at..open.end)?;
            let (id, head) = self.comes(open.field, open.previous, rest, &open.digits)?;
            at += head;
            let field = self.fields.get(id)?;
            open.previous = id;
            open.digits.increase();
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
                        digits: Digits::ZERO,
                    };
                    at += 4;
                }
                Value::Cells => return None,
                value => {
                    let column = field.column;
                    let extent = extent(value, payload, at)?;
                    if extent.end >= open.end {
                        return None;
                    }
                    let binary = value == Value::Binary;
                    if extent.length > 0 || binary {
                        self.values.push(Piece {
                            start: extent.start as u32,
                            length: extent.length as u32,
                            column: column as u32 + if binary { BINARY + 1 } else { 0 },
                        });
                    }
                    at = extent.end;
                }
            }
        }
    }

    /// The field at the beginning of `rest`, and how long its head is.
    #[inline]
    fn comes(
        &mut self,
        parent: Id,
        previous: Id,
        rest: &[u8],
        digits: &Digits,
    ) -> Option<(Id, usize)> {
        let expected = self.fields.expected(parent, previous);
        if let Some(head) = self.is(expected.likely, rest, digits) {
            self.expected += 1;
            return Some((expected.likely, head));
        }
        self.before.push((parent, previous, expected));
        let (id, head) = match self.is(expected.other, rest, digits) {
            Some(head) => {
                self.note(ROOT);
                (expected.other, head)
            }
            None => {
                let (name, numbered) = head_of(rest, digits)?;
                let id = self.find_or_add(parent, name, numbered)?;
                self.note(id);
                (id, name.len())
            }
        };
        self.fields.expect(parent, previous, expected.after(id));
        Some((id, head))
    }

    /// How long the head of `id` is, if that comes next.
    #[inline]
    fn is(&self, id: Id, rest: &[u8], digits: &Digits) -> Option<usize> {
        if id == ROOT {
            return None;
        }
        let field = self.fields.get(id)?;
        let head = self.fields.head(field);
        if !begins(rest, head) {
            return None;
        }
        if !field.numbered {
            return Some(head.len());
        }
        let name = digits.as_bytes();
        let behind = rest.get(1..)?.strip_prefix(name)?;
        (behind.first() == Some(&0)).then_some(2 + name.len())
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
        self.known.insert(self.key.clone(), id);
        Some(id)
    }
}

/// The first place in `at..end` where a document may begin, by its length, its first type and its last byte.
fn candidate(payload: &[u8], at: usize, end: usize) -> Option<usize> {
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

/// Whether `bytes` begin with `head`, which is short for the most part.
#[inline]
fn begins(bytes: &[u8], head: &[u8]) -> bool {
    match (bytes.first_chunk::<8>(), head.first_chunk::<8>()) {
        (Some(bytes_8), Some(head_8)) => bytes_8 == head_8 && bytes.starts_with(head),
        _ => {
            bytes.len() >= head.len() && bytes.iter().zip(head).all(|(byte, wanted)| byte == wanted)
        }
    }
}

/// The length of the document or string at `at`.
#[inline]
fn length_at(payload: &[u8], at: usize) -> Option<usize> {
    let bytes = payload.get(at..)?.first_chunk::<4>()?;
    usize::try_from(i32::from_le_bytes(*bytes)).ok()
}

/// Type, name and zero at the beginning of `rest`, and whether the name is the number.
fn head_of<'a>(rest: &'a [u8], digits: &Digits) -> Option<(&'a [u8], bool)> {
    let (first, name) = rest.split_first()?;
    if *first == 0 {
        return Some((rest.get(..1)?, false));
    }
    if *first == CELLS {
        return Some((rest.get(..1)?, false));
    }
    Value::of(*first)?;
    let name = name.get(..name.len().min(LONGEST_NAME + 1))?;
    let end = memchr::memchr(0, name)?;
    let numbered = name.get(..end) == Some(digits.as_bytes());
    Some((rest.get(..end + 2)?, numbered))
}

/// Where the bytes of a value lie that follows a name which ends at `at`.
#[inline]
fn extent(value: Value, payload: &[u8], at: usize) -> Option<Extent> {
    let (start, length) = match value {
        Value::Fixed(width) => (at, width),
        Value::Text => {
            let length = length_at(payload, at)?;
            let text = payload.get(at + 4..)?.get(..length)?;
            // Its own end is its only zero, or a reader could not tell where it ends.
            if find_zero(text)? + 1 != length {
                return None;
            }
            (at + 4, length)
        }
        Value::Binary => (at + 5, length_at(payload, at)?),
        Value::Nothing | Value::End | Value::Document | Value::Cells => (at, 0),
    };
    Some(Extent {
        start,
        length,
        end: start.checked_add(length)?,
    })
}
