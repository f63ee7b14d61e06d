//! From unit to unit through the pieces of files in a block.

use super::shape::{Header, Shape};
use super::{FileKind, Span};

/// A place where a unit seems to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Where in the block.
    pub start: usize,
    /// What it seems to be.
    pub shape: Shape,
    /// What its header says.
    pub header: Header,
    /// Whether all of it lies in the span.
    pub complete: bool,
}

/// The units of one span, by their headers alone.
///
/// From a unit that is complete it goes on behind it; elsewhere it looks at every place where one may begin.
pub(super) struct Walk<'a> {
    /// The block as far as the span goes.
    bytes: &'a [u8],
    /// Where in the block to look next.
    at: usize,
    shape: Option<Shape>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(plain: &'a [u8], span: &Span) -> Self {
        let shape = match span.kind {
            FileKind::Collection | FileKind::Index | FileKind::History | FileKind::Data => {
                Some(Shape::Page)
            }
            FileKind::Journal => Some(Shape::Record),
            FileKind::Other => None,
        };
        let end = span.start.saturating_add(span.length).min(plain.len());
        // Places are counted from the beginning of the file.
        let unit = shape.map_or(1, Shape::unit) as u64;
        let ahead = (unit - span.file_offset % unit) % unit;
        Self {
            bytes: plain.get(..end).unwrap_or(plain),
            at: span.start.saturating_add(ahead as usize),
            shape,
        }
    }

    /// Looks again right behind where `found` begins: it was none.
    pub(super) fn reject(&mut self, found: &Found) {
        self.at = found.start.saturating_add(found.shape.unit());
    }
}

impl Iterator for Walk<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let shape = self.shape?;
        loop {
            let start = self.at;
            let here = self.bytes.get(start..).filter(|here| !here.is_empty())?;
            let Some(header) = shape.header(here) else {
                self.at = start.saturating_add(shape.unit());
                continue;
            };
            let complete = header.total <= here.len();
            let step = if complete { header.total } else { shape.unit() };
            self.at = start.saturating_add(step);
            return Some(Found {
                start,
                shape,
                header,
                complete,
            });
        }
    }
}
