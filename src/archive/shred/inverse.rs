//! From the shredded form to the payload.

use thiserror::Error;

use super::cells::{Cell, Holds, is_prefixed, is_short};
use super::columns;
use super::fields::{CELLS, Digits, Fields, Id, ROOT, Value};
use super::{DEEPEST, MOST_FIELDS, place};
use crate::archive::integer;

/// Why a shredded payload is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Damage {
    /// The directory does not fit the data.
    #[error("the directory of its columns is not sound")]
    Directory,
    /// A form that this version does not know.
    #[error("a column has form {0}, which this version does not know")]
    Form(u8),
    /// The list of fields.
    #[error("the list of its fields is not sound")]
    Fields,
    /// The structure names what is not there.
    #[error("the structure of its documents is not sound")]
    Structure,
    /// A column ends too early.
    #[error("a column ends before what the structure tells of")]
    Truncated,
    /// A column goes on.
    #[error("a column goes on behind what the structure tells of")]
    Surplus,
    /// More comes of it than may.
    #[error("it gives more bytes than a block may have")]
    TooLarge,
}

/// Rebuilds payloads. It holds nothing but buffers that are used again.
#[derive(Debug)]
pub(crate) struct Rebuild {
    fields: Fields,
    /// The columns' values, one column behind the other.
    plain: Vec<u8>,
    cursors: Vec<Cursor>,
    /// Documents that are not complete.
    open: Vec<Open>,
}

/// What is left of a column.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    at: usize,
    end: usize,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    field: Id,
    previous: Id,
    /// Where its length is.
    start: usize,
    digits: Digits,
}

impl Default for Rebuild {
    fn default() -> Self {
        Self {
            fields: Fields::new(place::FIRST_FIELD),
            plain: Vec::new(),
            cursors: Vec::new(),
            open: Vec::new(),
        }
    }
}

impl Rebuild {
    /// Replaces what `payload` holds by the payload of which `shredded` is the form, at most `limit` bytes. After an error what it
    /// holds means nothing.
    ///
    /// # Errors
    /// [`Damage`] where `shredded` is nothing that [`Shredder`](super::Shredder) makes of such a payload.
    pub(crate) fn rebuild(
        &mut self,
        shredded: &[u8],
        limit: usize,
        payload: &mut Vec<u8>,
    ) -> Result<(), Damage> {
        self.columns(shredded)?;
        self.read_fields()?;
        payload.clear();
        payload.reserve(limit.min(shredded.len().saturating_mul(2)));
        let mut making = Making {
            plain: &self.plain,
            cursors: &mut self.cursors,
            fields: &mut self.fields,
            payload,
            limit,
            expected: 0,
        };
        making.expected = making.number(place::STRUCTURE)?;
        loop {
            let gap = making.number(place::GAPS)?;
            making.piece(place::GAP, gap)?;
            if making.is_at_end(place::GAPS) {
                break;
            }
            making.item(&mut self.open)?;
        }
        if making.expected != 0 {
            return Err(Damage::Surplus);
        }
        if self.cursors.iter().any(|cursor| cursor.at != cursor.end) {
            return Err(Damage::Surplus);
        }
        Ok(())
    }

    /// Takes all columns out of their forms.
    fn columns(&mut self, shredded: &[u8]) -> Result<(), Damage> {
        let (mut data, columns) = columns::split(shredded)?;
        self.plain.clear();
        self.plain.reserve_exact(data.len());
        self.cursors.clear();
        for column in &columns {
            let (stored, rest) = data
                .split_at_checked(column.length)
                .ok_or(Damage::Directory)?;
            data = rest;
            let at = self.plain.len();
            columns::decode(column, stored, &mut self.plain);
            self.cursors.push(Cursor {
                at,
                end: self.plain.len(),
            });
        }
        Ok(())
    }

    fn read_fields(&mut self) -> Result<(), Damage> {
        self.fields.clear(place::FIRST_FIELD);
        let cursor = self
            .cursors
            .get_mut(place::FIELDS)
            .ok_or(Damage::Directory)?;
        let mut list = self.plain.get(cursor.at..cursor.end).unwrap_or_default();
        cursor.at = cursor.end;
        while !list.is_empty() {
            let number = integer::take(&mut list).ok_or(Damage::Fields)?;
            let (parent, numbered) = (number >> 1, number & 1 == 1);
            let bson_type = *list.first().ok_or(Damage::Fields)?;
            let value = Value::of(bson_type).ok_or(Damage::Fields)?;
            let length = match (value, numbered) {
                (Value::End | Value::Cells, false) => 1,
                (Value::End | Value::Cells, true) => return Err(Damage::Fields),
                (_, true) => 1,
                (_, false) => {
                    let name = list.get(1..).unwrap_or_default();
                    2 + memchr::memchr(0, name).ok_or(Damage::Fields)?
                }
            };
            let (head, rest) = list.split_at_checked(length).ok_or(Damage::Fields)?;
            list = rest;
            // A document or array that came before, and for cells nothing but the root.
            let parent = usize::try_from(parent).map_err(|_| Damage::Fields)?;
            let sound = parent < self.fields.len()
                && self.fields.len() < MOST_FIELDS
                && (bson_type != CELLS || parent == 0);
            if !sound {
                return Err(Damage::Fields);
            }
            self.fields.add(head, numbered, value);
        }
        if self.fields.columns() != self.cursors.len() {
            return Err(Damage::Directory);
        }
        Ok(())
    }
}

/// A payload in the making.
struct Making<'a> {
    plain: &'a [u8],
    cursors: &'a mut [Cursor],
    fields: &'a mut Fields,
    payload: &'a mut Vec<u8>,
    limit: usize,
    /// So many fields come as expected.
    expected: u64,
}

impl Making<'_> {
    /// Takes `count` bytes out of the column.
    #[inline]
    fn take(&mut self, column: usize, count: usize) -> Result<&[u8], Damage> {
        let cursor = self.cursors.get_mut(column).ok_or(Damage::Truncated)?;
        if count > cursor.end - cursor.at {
            return Err(Damage::Truncated);
        }
        let bytes = self.plain.get(cursor.at..cursor.at + count);
        cursor.at += count;
        bytes.ok_or(Damage::Truncated)
    }

    /// What is left of the column.
    fn rest(&self, column: usize) -> &[u8] {
        let cursor = self.cursors.get(column);
        cursor
            .and_then(|cursor| self.plain.get(cursor.at..cursor.end))
            .unwrap_or_default()
    }

    fn is_at_end(&self, column: usize) -> bool {
        self.rest(column).is_empty()
    }

    /// Takes a number out of the column.
    #[inline]
    fn number(&mut self, column: usize) -> Result<u64, Damage> {
        let mut rest = self.rest(column);
        let before = rest.len();
        let number = integer::take(&mut rest).ok_or(Damage::Truncated)?;
        let taken = before - rest.len();
        self.take(column, taken)?;
        Ok(number)
    }

    /// Moves `count` bytes of the column to the payload.
    #[inline]
    fn copy(&mut self, column: usize, count: usize) -> Result<(), Damage> {
        let cursor = self.cursors.get_mut(column).ok_or(Damage::Truncated)?;
        if count > cursor.end - cursor.at {
            return Err(Damage::Truncated);
        }
        let bytes = self.plain.get(cursor.at..cursor.at + count);
        cursor.at += count;
        let bytes = bytes.ok_or(Damage::Truncated)?;
        if bytes.len() > self.limit - self.payload.len() {
            return Err(Damage::TooLarge);
        }
        self.payload.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn push(&mut self, bytes: &[u8]) -> Result<(), Damage> {
        if bytes.len() > self.limit - self.payload.len() {
            return Err(Damage::TooLarge);
        }
        self.payload.extend_from_slice(bytes);
        Ok(())
    }

    /// A gap or the data of a cell.
    fn piece(&mut self, base: usize, length: u64) -> Result<(), Damage> {
        let length = usize::try_from(length).map_err(|_| Damage::TooLarge)?;
        if length == 0 {
            return Ok(());
        }
        self.copy(place::of(base, length), length)
    }

    /// The field that comes behind `previous` in `parent`.
    #[inline]
    fn next(&mut self, parent: Id, previous: Id) -> Result<Id, Damage> {
        let expected = self.fields.expected(parent, previous);
        if self.expected > 0 {
            self.expected -= 1;
            return match expected.likely {
                ROOT => Err(Damage::Structure),
                id => Ok(id),
            };
        }
        let id = match self.number(place::STRUCTURE)? {
            0 => expected.other,
            id => Id::try_from(id).map_err(|_| Damage::Structure)?,
        };
        self.expected = self.number(place::STRUCTURE)?;
        if id == ROOT {
            return Err(Damage::Structure);
        }
        self.fields.expect(parent, previous, expected.after(id));
        Ok(id)
    }

    /// A document or a run of cells.
    fn item(&mut self, outer: &mut Vec<Open>) -> Result<(), Damage> {
        outer.clear();
        let mut open = Open {
            field: ROOT,
            previous: ROOT,
            start: self.payload.len(),
            digits: Digits::ZERO,
        };
        let mut id = self.next(ROOT, ROOT)?;
        if self
            .fields
            .get(id)
            .is_some_and(|field| field.value == Value::Cells)
        {
            return self.cells();
        }
        self.push(&[0; 4])?;
        loop {
            let field = self.fields.get(id).ok_or(Damage::Structure)?;
            let (value, column, numbered) = (field.value, field.column, field.numbered);
            let head = self.fields.head(field);
            if head.len() > self.limit - self.payload.len() {
                return Err(Damage::TooLarge);
            }
            self.payload.extend_from_slice(head);
            if numbered {
                self.push(open.digits.as_bytes())?;
                self.push(&[0])?;
            }
            open.previous = id;
            open.digits.increase();
            match value {
                Value::Fixed(width) => self.copy(column, width)?,
                Value::Text => {
                    let length = memchr::memchr(0, self.rest(column)).ok_or(Damage::Truncated)? + 1;
                    self.push(&(length as u32).to_le_bytes())?;
                    self.copy(column, length)?;
                }
                Value::Binary => {
                    let length = self.number(column)?;
                    let length = u32::try_from(length).map_err(|_| Damage::TooLarge)?;
                    self.push(&length.to_le_bytes())?;
                    self.copy(column, 1)?;
                    self.copy(column + 1, length as usize)?;
                }
                Value::Nothing => {}
                Value::Cells => return Err(Damage::Structure),
                Value::Document => {
                    if outer.len() >= DEEPEST {
                        return Err(Damage::Structure);
                    }
                    outer.push(open);
                    open = Open {
                        field: id,
                        previous: ROOT,
                        start: self.payload.len(),
                        digits: Digits::ZERO,
                    };
                    self.push(&[0; 4])?;
                }
                Value::End => {
                    let length = (self.payload.len() - open.start) as u32;
                    if let Some(place) = self.payload.get_mut(open.start..open.start + 4) {
                        place.copy_from_slice(&length.to_le_bytes());
                    }
                    match outer.pop() {
                        None => return Ok(()),
                        Some(around) => open = around,
                    }
                }
            }
            id = self.next(open.field, open.previous)?;
        }
    }

    /// A run of cells.
    fn cells(&mut self) -> Result<(), Damage> {
        for _ in 0..self.number(place::RUNS)? {
            let descriptor = *self
                .rest(place::DESCRIPTORS)
                .first()
                .ok_or(Damage::Truncated)?;
            self.copy(place::DESCRIPTORS, 1)?;
            if is_prefixed(descriptor) {
                self.copy(place::PREFIXES, 1)?;
            }
            let extra = if is_short(descriptor) {
                0
            } else {
                self.number(place::EXTRAS)?
            };
            let before = self.payload.len();
            self.piece(place::EXTRA, extra)?;
            let extras = self.payload.get(before..).unwrap_or_default();
            let cell = Cell::of(descriptor, extras).ok_or(Damage::Structure)?;
            if cell.extra as u64 != extra {
                return Err(Damage::Structure);
            }
            let base = match cell.holds {
                Holds::Key => place::KEY,
                Holds::Value => place::VALUE,
            };
            self.piece(base, cell.data as u64)?;
        }
        Ok(())
    }
}
