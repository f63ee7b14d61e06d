//! Fields by their names, while a payload is searched; the list of them that the form has grows with it.

use std::collections::HashMap;

use super::MOST_FIELDS;
use super::fields::{Fields, Id, Value};
use crate::archive::integer;

/// The number of each field.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By parent and whether it is numbered, as the list of fields has them, and head.
    numbers: HashMap<Vec<u8>, Id>,
    key: Vec<u8>,
}

impl Known {
    /// Nothing is known.
    pub(super) fn clear(&mut self) {
        self.numbers.clear();
    }

    /// The number of a field, which is added to `fields` and `list` where it is new. None where there are too many.
    pub(super) fn find_or_add(
        &mut self,
        parent: Id,
        head: &[u8],
        numbered: bool,
        fields: &mut Fields,
        list: &mut Vec<u8>,
    ) -> Option<Id> {
        let head = if numbered { head.get(..1)? } else { head };
        let parent = u64::from(parent) << 1 | u64::from(numbered);
        self.set_key(parent, head);
        if let Some(id) = self.numbers.get(&self.key) {
            return Some(*id);
        }
        let value = Value::of(*head.first()?)?;
        if fields.len() >= MOST_FIELDS {
            return None;
        }
        integer::push(list, parent);
        list.extend_from_slice(head);
        let id = fields.add(head, numbered, value);
        self.numbers.insert(self.key.clone(), id);
        Some(id)
    }

    /// Takes the fields from number `first` on back, and what `list` has from `length` on, which is them. It costs what those cost, not
    /// what all of them would: documents that turn out to be none may be many.
    pub(super) fn forget(
        &mut self,
        first: usize,
        length: usize,
        fields: &mut Fields,
        list: &mut Vec<u8>,
    ) {
        let mut rest = list.get(length..).unwrap_or_default();
        for field in (first..fields.len()).map_while(|id| fields.get(id as Id)) {
            let Some(parent) = integer::take(&mut rest) else {
                break;
            };
            let Some((head, behind)) = rest.split_at_checked(field.head_length()) else {
                break;
            };
            rest = behind;
            self.set_key(parent, head);
            self.numbers.remove(&self.key);
        }
        list.truncate(length);
        while fields.len() > first {
            fields.remove_last();
        }
    }

    fn set_key(&mut self, parent: u64, head: &[u8]) {
        self.key.clear();
        self.key.extend_from_slice(&parent.to_le_bytes());
        self.key.extend_from_slice(head);
    }
}
