//! The fields of the documents in a payload, and which of them is expected next. Both directions keep the same ones.

use super::short::STRIDE;

/// What is behind a field's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// The end of the document: no name, no value.
    End,
    /// Nothing: null, and the ends of the order.
    Nothing,
    /// So many bytes.
    Fixed(u8),
    /// Length, characters, a zero. None of the characters is zero.
    Text,
    /// Length, subtype, bytes.
    Binary,
    /// A document or an array.
    Document,
    /// No field of a document: a run of WiredTiger's cells.
    Cells,
}

/// The number by which the list of fields names a run of cells. BSON has no such type.
pub(super) const CELLS: u8 = 0xF0;

impl Value {
    /// What a field of that BSON type has, after the BSON specification, version 1.1. None for what is rare (regular expressions, code
    /// with a scope, pointers): documents that have it stay as they are.
    #[inline]
    pub(super) fn of(bson_type: u8) -> Option<Self> {
        Some(match bson_type {
            0x00 => Self::End,
            0x01 | 0x09 | 0x11 | 0x12 => Self::Fixed(8),
            0x02 | 0x0D | 0x0E => Self::Text,
            0x03 | 0x04 => Self::Document,
            0x05 => Self::Binary,
            0x06 | 0x0A | 0x7F | 0xFF => Self::Nothing,
            0x07 => Self::Fixed(12),
            0x08 => Self::Fixed(1),
            0x10 => Self::Fixed(4),
            0x13 => Self::Fixed(16),
            CELLS => Self::Cells,
            _ => return None,
        })
    }

    /// How many columns it takes.
    pub(super) fn columns(self) -> usize {
        match self {
            Self::Fixed(_) | Self::Text => 1,
            // Lengths with subtypes, and bytes.
            Self::Binary => 2,
            Self::End | Self::Nothing | Self::Document | Self::Cells => 0,
        }
    }
}

/// A field by its number. 0 is the root, whose fields are those of the outermost documents.
pub(super) type Id = u32;

/// The outermost documents.
pub(super) const ROOT: Id = 0;

/// What came the last time, and what came before that was something else; [`ROOT`] where nothing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Expected {
    pub likely: Id,
    pub other: Id,
}

impl Expected {
    /// After `id` came, which was not the likely one.
    #[inline]
    pub(super) fn after(self, id: Id) -> Self {
        Self {
            likely: id,
            other: self.likely,
        }
    }
}

/// A field of documents: what has the same type and name in the same parent.
#[derive(Debug, Clone)]
pub(super) struct Field {
    /// The first bytes of its head, then zeros.
    begin: u128,
    /// Which bits of `begin` are the head's.
    mask: u128,
    /// Type, name and its zero as they stand in a document; of a numbered one the type alone.
    head: (u32, u32),
    /// What comes first in it, where it is a document.
    first: Expected,
    /// What comes behind it.
    next: Expected,
    /// Its first column.
    pub column: u32,
    /// What follows its name.
    pub value: Value,
    /// Whether its name is its number in the document, from 0 on, as in arrays: elements of the same type are one field then.
    pub numbered: bool,
}

impl Field {
    /// Bytes of its head.
    #[inline(always)]
    pub(super) fn head_length(&self) -> usize {
        (self.head.1 - self.head.0) as usize
    }
}

/// Bytes of a head that are compared at once.
const BEGIN: usize = size_of::<u128>();

/// All of them.
#[derive(Debug)]
pub(super) struct Fields {
    list: Vec<Field>,
    /// With [`STRIDE`] zeros behind the last one, so that each is moved at once.
    heads: Vec<u8>,
    /// What comes behind the last field's columns.
    columns: usize,
}

impl Fields {
    /// Only the root; the first field's columns are from `first_column` on.
    pub(super) fn new(first_column: usize) -> Self {
        let mut fields = Self {
            list: Vec::new(),
            heads: Vec::new(),
            columns: first_column,
        };
        fields.clear(first_column);
        fields
    }

    /// Leaves only the root.
    pub(super) fn clear(&mut self, first_column: usize) {
        self.list.clear();
        self.heads.clear();
        self.columns = first_column;
        self.list.push(Field {
            begin: 0,
            mask: 0,
            head: (0, 0),
            first: Expected::default(),
            next: Expected::default(),
            column: 0,
            value: Value::Document,
            numbered: false,
        });
    }

    /// How many there are, the root among them.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// How many columns come before and with them.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The field of that number.
    #[inline]
    pub(super) fn get(&self, id: Id) -> Option<&Field> {
        self.list.get(id as usize)
    }

    /// How long the head of `field` is, if `bytes` begin with it.
    #[inline(always)]
    pub(super) fn begins(&self, field: &Field, bytes: &[u8]) -> Option<usize> {
        let (start, end) = field.head;
        let length = field.head_length();
        let same = match bytes.first_chunk() {
            Some(begin) if length <= BEGIN => {
                (u128::from_le_bytes(*begin) ^ field.begin) & field.mask == 0
            }
            _ => {
                let head = self.heads.get(start as usize..end as usize);
                bytes.starts_with(head.unwrap_or_default())
            }
        };
        same.then_some(length)
    }

    /// Type, name and zero of `field` with what lies behind them, and how long they are.
    #[inline(always)]
    pub(super) fn head_and_behind(&self, field: &Field) -> (&[u8], usize) {
        let head = self.heads.get(field.head.0 as usize..);
        (head.unwrap_or_default(), field.head_length())
    }

    /// Adds a field, whose head begins with its type.
    pub(super) fn add(&mut self, head: &[u8], numbered: bool, value: Value) -> Id {
        let id = self.list.len() as Id;
        let start = self.heads.len().saturating_sub(STRIDE);
        self.heads.truncate(start);
        self.heads.extend_from_slice(head);
        let end = self.heads.len();
        self.heads.resize(end + STRIDE, 0);
        let (mut begin, mut mask) = ([0; BEGIN], [0; BEGIN]);
        for ((place, bits), byte) in begin.iter_mut().zip(&mut mask).zip(head) {
            (*place, *bits) = (*byte, 0xFF);
        }
        self.list.push(Field {
            begin: u128::from_le_bytes(begin),
            mask: u128::from_le_bytes(mask),
            head: (start as u32, end as u32),
            first: Expected::default(),
            next: Expected::default(),
            column: self.columns as u32,
            value,
            numbered,
        });
        self.columns += value.columns();
        id
    }

    /// Takes the last field away again.
    pub(super) fn remove_last(&mut self) {
        if let Some(field) = self.list.pop() {
            self.heads.truncate(field.head.0 as usize);
            self.heads.resize(self.heads.len() + STRIDE, 0);
            self.columns -= field.value.columns();
        }
    }

    /// What is expected behind `previous` in `parent`, where [`ROOT`] as `previous` means at the beginning.
    #[inline]
    pub(super) fn expected(&self, parent: Id, previous: Id) -> Expected {
        if previous == ROOT {
            self.get(parent)
                .map(|field| field.first)
                .unwrap_or_default()
        } else {
            self.get(previous)
                .map(|field| field.next)
                .unwrap_or_default()
        }
    }

    /// What is expected there from now on.
    #[inline]
    pub(super) fn expect(&mut self, parent: Id, previous: Id, expected: Expected) {
        if previous == ROOT {
            if let Some(field) = self.list.get_mut(parent as usize) {
                field.first = expected;
            }
        } else if let Some(field) = self.list.get_mut(previous as usize) {
            field.next = expected;
        }
    }
}

/// The digits of a number and a zero, as numbered fields have them for a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digits {
    /// More than there are, so that they are moved at once.
    bytes: [u8; STRIDE],
    length: usize,
}

impl Digits {
    /// Those of `number`.
    #[inline(always)]
    pub(super) fn of(number: u32) -> Self {
        if number < 10 {
            let mut bytes = [0; STRIDE];
            bytes[0] = b'0' + number as u8;
            Self { bytes, length: 2 }
        } else {
            Self::of_many(number)
        }
    }

    fn of_many(number: u32) -> Self {
        let mut bytes = [0; STRIDE];
        let length = 1 + number.checked_ilog10().unwrap_or_default() as usize;
        let mut rest = number;
        for digit in bytes.iter_mut().take(length).rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        Self {
            bytes,
            length: length + 1,
        }
    }

    /// Without the zero.
    pub(super) fn name(&self) -> &[u8] {
        self.bytes.get(..self.length - 1).unwrap_or_default()
    }

    /// With the zero and more behind it, and how many bytes they take.
    #[inline(always)]
    pub(super) fn and_behind(&self) -> (&[u8; STRIDE], usize) {
        (&self.bytes, self.length)
    }

    /// How many bytes they take with the zero, if `bytes` begin with them.
    #[inline(always)]
    pub(super) fn begin(&self, bytes: &[u8]) -> Option<usize> {
        let same = match (bytes.first_chunk(), self.bytes.first_chunk()) {
            (Some(begin), Some(digits)) => {
                let different = u128::from_le_bytes(*begin) ^ u128::from_le_bytes(*digits);
                different.trailing_zeros() as usize >= 8 * self.length
            }
            _ => bytes.starts_with(self.bytes.get(..self.length).unwrap_or_default()),
        };
        same.then_some(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_number() {
        for number in (0..12_345).chain([u32::MAX - 1, u32::MAX]) {
            assert_eq!(Digits::of(number).name(), number.to_string().as_bytes());
        }
    }
}
