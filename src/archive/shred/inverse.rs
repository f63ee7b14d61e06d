//! From the shredded form to the payload.

use thiserror::Error;

use super::cells::{Cell, Holds, is_prefixed, is_short};
use super::columns;
use super::fields::{CELLS, Digits, Fields, Id, ROOT, Value};
use super::short::{Output, TooMuch, find_zero};
use super::{DEEPEST, LONGEST_NAME, MOST_FIELDS, place};
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

impl From<TooMuch> for Damage {
    fn from(_: TooMuch) -> Self {
        Self::TooLarge
    }
}

/// Rebuilds payloads. It holds nothing but buffers that are used again.
#[derive(Debug)]
pub(crate) struct Rebuild {
    fields: Fields,
    /// The values of columns that are not stored as they are, one column behind the other.
    values: Vec<u8>,
    /// Documents that are not complete.
    open: Vec<Open>,
    payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    field: Id,
    previous: Id,
    /// Where its length is.
    start: usize,
    /// How many fields came before the one that is read.
    position: u32,
}

impl Default for Rebuild {
    fn default() -> Self {
        Self {
            fields: Fields::new(place::FIRST_FIELD),
            values: Vec::new(),
            open: Vec::new(),
            payload: Vec::new(),
        }
    }
}

impl Rebuild {
    /// The payload of which `shredded` is the form, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// [`Damage`] where `shredded` is nothing that [`Shredder`](super::Shredder) makes of such a payload.
    pub(crate) fn rebuild(&mut self, shredded: &[u8], limit: usize) -> Result<&[u8], Damage> {
        let (data, columns) = columns::split(shredded)?;
        columns::decode_all(data, &columns, &mut self.values);
        let mut columns = columns::contents(data, &columns, &self.values)?;
        read_fields(&mut columns, &mut self.fields)?;
        let mut making = Making {
            columns,
            fields: &mut self.fields,
            payload: Output::new(&mut self.payload, limit),
            expected: 0,
        };
        making.expected = making.number(place::STRUCTURE)?;
        loop {
            let gap = making.number(place::GAPS)?;
            making.piece(place::GAP, gap)?;
            if making.rest(place::GAPS).is_empty() {
                break;
            }
            making.item(&mut self.open)?;
        }
        let all_taken = making.columns.iter().all(|column| column.is_empty());
        if making.expected != 0 || !all_taken {
            return Err(Damage::Surplus);
        }
        let made = making.payload.finish()?;
        Ok(self.payload.get(..made).unwrap_or_default())
    }
}

/// Reads the list of fields out of its column.
fn read_fields(columns: &mut [&[u8]], fields: &mut Fields) -> Result<(), Damage> {
    let count = columns.len();
    fields.clear(place::FIRST_FIELD);
    let list = columns.get_mut(place::FIELDS).ok_or(Damage::Directory)?;
    while !list.is_empty() {
        let number = integer::take(list).ok_or(Damage::Fields)?;
        let (parent, numbered) = (number >> 1, number & 1 == 1);
        let bson_type = *list.first().ok_or(Damage::Fields)?;
        let value = Value::of(bson_type).ok_or(Damage::Fields)?;
        let length = match (value, numbered) {
            (Value::End | Value::Cells, false) => 1,
            (Value::End | Value::Cells, true) => return Err(Damage::Fields),
            (_, true) => 1,
            (_, false) => {
                let name = list.get(1..).unwrap_or_default();
                let name = name.get(..=LONGEST_NAME).unwrap_or(name);
                2 + memchr::memchr(0, name).ok_or(Damage::Fields)?
            }
        };
        let (head, rest) = list.split_at_checked(length).ok_or(Damage::Fields)?;
        *list = rest;
        // A field that came before, and for cells nothing but the root.
        let parent = usize::try_from(parent).map_err(|_| Damage::Fields)?;
        let sound = parent < fields.len()
            && fields.len() < MOST_FIELDS
            && (bson_type != CELLS || parent == 0);
        if !sound {
            return Err(Damage::Fields);
        }
        fields.add(head, numbered, value);
    }
    if fields.columns() != count {
        return Err(Damage::Directory);
    }
    Ok(())
}

/// A payload in the making.
struct Making<'a> {
    /// What is left of each column.
    columns: Vec<&'a [u8]>,
    fields: &'a mut Fields,
    payload: Output<'a>,
    /// So many fields come as expected.
    expected: u64,
}

impl<'a> Making<'a> {
    /// What is left of the column.
    fn rest(&self, column: usize) -> &'a [u8] {
        self.columns.get(column).copied().unwrap_or_default()
    }

    /// Takes a number out of the column.
    #[inline(always)]
    fn number(&mut self, column: usize) -> Result<u64, Damage> {
        let rest = self.columns.get_mut(column).ok_or(Damage::Truncated)?;
        match rest.split_first() {
            Some((byte, behind)) if *byte < 0x80 => {
                *rest = behind;
                Ok(u64::from(*byte))
            }
            _ => integer::take(rest).ok_or(Damage::Truncated),
        }
    }

    /// Moves `count` bytes of the column to the payload.
    #[inline(always)]
    fn copy(&mut self, column: usize, count: usize) -> Result<(), Damage> {
        let rest = self.columns.get_mut(column).ok_or(Damage::Truncated)?;
        let (_, behind) = rest.split_at_checked(count).ok_or(Damage::Truncated)?;
        self.payload.push_first(rest, count)?;
        *rest = behind;
        Ok(())
    }

    /// A gap or the data of a cell.
    #[inline(always)]
    fn piece(&mut self, base: usize, length: u64) -> Result<(), Damage> {
        let length = usize::try_from(length).map_err(|_| Damage::TooLarge)?;
        if length == 0 {
            return Ok(());
        }
        self.copy(place::of(base, length), length)
    }

    /// The field that comes behind `previous` in `parent`.
    #[inline(always)]
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
            start: self.payload.made(),
            position: 0,
        };
        let mut id = self.next(ROOT, ROOT)?;
        if self
            .fields
            .get(id)
            .is_some_and(|field| field.value == Value::Cells)
        {
            return self.cells();
        }
        self.payload.push([0; 4])?;
        loop {
            let field = self.fields.get(id).ok_or(Damage::Structure)?;
            let (value, column, numbered) = (field.value, field.column as usize, field.numbered);
            let (head, length) = self.fields.head_and_behind(field);
            self.payload.push_first(head, length)?;
            if numbered {
                let digits = Digits::of(open.position);
                let (digits, length) = digits.and_behind();
                self.payload.push_first(digits, length)?;
            }
            open.previous = id;
            open.position += 1;
            match value {
                Value::Fixed(width) => self.copy(column, width.into())?,
                Value::Text => {
                    let length = find_zero(self.rest(column)).ok_or(Damage::Truncated)? + 1;
                    self.payload.push((length as u32).to_le_bytes())?;
                    self.copy(column, length)?;
                }
                Value::Binary => {
                    let length = self.number(column)?;
                    let length = u32::try_from(length).map_err(|_| Damage::TooLarge)?;
                    self.payload.push(length.to_le_bytes())?;
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
                        start: self.payload.made(),
                        position: 0,
                    };
                    self.payload.push([0; 4])?;
                }
                Value::End => {
                    let length = (self.payload.made() - open.start) as u32;
                    self.payload.set(open.start, length.to_le_bytes());
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
            let before = self.payload.made();
            self.piece(place::EXTRA, extra)?;
            let extras = self.payload.from(before);
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
