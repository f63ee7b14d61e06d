//! The fields of the documents in a payload, and which of them is expected next. Both directions keep the same ones.

/// What is behind a field's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// The end of the document: no name, no value.
    End,
    /// Nothing: null, and the ends of the order.
    Nothing,
    /// So many bytes.
    Fixed(usize),
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
    /// Type, name and its zero as they stand in a document; of a numbered one the type alone.
    head: (u32, u32),
    /// Whether its name is its number in the document, from 0 on, as in arrays: elements of the same type are one field then.
    pub numbered: bool,
    /// What follows its name.
    pub value: Value,
    /// Its first column.
    pub column: usize,
    /// What comes first in it, where it is a document.
    first: Expected,
    /// What comes behind it.
    next: Expected,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Fields {
    list: Vec<Field>,
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
            head: (0, 0),
            numbered: false,
            value: Value::Document,
            column: 0,
            first: Expected::default(),
            next: Expected::default(),
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

    /// Type, name and zero of `field`.
    #[inline]
    pub(super) fn head(&self, field: &Field) -> &[u8] {
        let (start, end) = field.head;
        self.heads
            .get(start as usize..end as usize)
            .unwrap_or_default()
    }

    /// The same with what lies behind it, and how long it is.
    #[inline(always)]
    pub(super) fn head_and_behind(&self, field: &Field) -> (&[u8], usize) {
        let (start, end) = field.head;
        let head = self.heads.get(start as usize..).unwrap_or_default();
        (head, (end - start) as usize)
    }

    /// Adds a field, whose head begins with its type.
    pub(super) fn add(&mut self, head: &[u8], numbered: bool, value: Value) -> Id {
        let id = self.list.len() as Id;
        let start = self.heads.len() as u32;
        self.heads.extend_from_slice(head);
        self.list.push(Field {
            head: (start, self.heads.len() as u32),
            numbered,
            value,
            column: self.columns,
            first: Expected::default(),
            next: Expected::default(),
        });
        self.columns += value.columns();
        id
    }

    /// Takes the last field away again.
    pub(super) fn remove_last(&mut self) {
        if let Some(field) = self.list.pop() {
            self.heads.truncate(field.head.0 as usize);
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

/// The digits of a number, as names of numbered fields have them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digits {
    /// Right-aligned.
    digits: [u8; 10],
    length: u8,
}

impl Digits {
    /// Of 0.
    pub(super) const ZERO: Self = Self {
        digits: *b"0000000000",
        length: 1,
    };

    /// Those of the number.
    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.digits
            .get(10 - usize::from(self.length)..)
            .unwrap_or_default()
    }

    /// Adds one. No document has more than ten digits' worth of fields.
    #[inline]
    pub(super) fn increase(&mut self) {
        let mut place = 10;
        for digit in self.digits.iter_mut().rev() {
            place -= 1;
            if *digit < b'9' {
                *digit += 1;
                self.length = self.length.max(10 - place);
                return;
            }
            *digit = b'0';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_number() {
        let mut digits = Digits::ZERO;
        for number in 0..12_345 {
            assert_eq!(digits.as_bytes(), number.to_string().as_bytes());
            digits.increase();
        }
    }
}
