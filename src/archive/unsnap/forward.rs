//! From a plain block to a transformed one.

use std::ops::Range;

use super::control::{LONGEST_RUN, Run, TRAILER};
use super::shape::{PREFIX, Shape};
use super::snappy::{Encoder, WINDOW, Workspace};
use super::walk::{Found, Walk};
use super::zlib::Zlib;
use super::{FileKind, Kind, Method, Span, Statistics};

/// After so many units in a row that no encoder makes, fewer are tried.
const PATIENCE: u32 = 8;
/// Then every so many-th.
const LOOK_AGAIN: u32 = 16;

/// Transforms blocks. It holds nothing but buffers that are used again.
#[derive(Debug, Default)]
pub(crate) struct Forward {
    control: Vec<u8>,
    leaves: Vec<Range<usize>>,
    workspace: Workspace,
    /// Where zlib's streams are tried too.
    zlib: Option<Zlib>,
}

impl Forward {
    /// One that tries zlib's streams too, which takes a hundred times as long as snappy's.
    pub(crate) fn with_zlib() -> Self {
        Self {
            zlib: Some(Zlib::default()),
            ..Self::default()
        }
    }

    /// Transforms `plain`, which `spans` describe, into `content`, whose old bytes go. No more than `content_limit` bytes come
    /// out and its capacity grows to no more than [`WINDOW`] bytes beyond, as long as the limit is at least [`SMALLEST_SURPLUS`](super::SMALLEST_SURPLUS) more than `plain` is long.
    /// `found` is told what became of the units of each span.
    pub(crate) fn transform(
        &mut self,
        plain: &[u8],
        spans: &[Span],
        content_limit: usize,
        content: &mut Vec<u8>,
        found: &mut dyn FnMut(FileKind, &Statistics),
    ) {
        self.control.clear();
        self.leaves.clear();
        if let Some(zlib) = &mut self.zlib {
            zlib.begin(plain.len());
        }
        let mut block = Block {
            plain,
            limit: content_limit,
            control: &mut self.control,
            content,
            made: 0,
            done: 0,
            run: Run::default(),
            statistics: Statistics::default(),
        };
        let mut likely = Encoder::ALL;
        for span in spans {
            let mut failures = 0;
            let mut walk = Walk::new(plain, span);
            while let Some(unit) = walk.next() {
                if !unit.complete || unit.start < block.done {
                    continue;
                }
                if !unit.header.compressed {
                    self.leaves.extend(block.leaf(&unit));
                    continue;
                }
                block.statistics.compressed += 1;
                failures += 1;
                if failures > PATIENCE && failures % LOOK_AGAIN != 0 {
                    continue;
                }
                let zlib = &mut self.zlib;
                if block.snappy(&unit, &mut likely, &mut self.workspace)
                    || zlib
                        .as_mut()
                        .is_some_and(|zlib| block.deflated(&unit, zlib))
                {
                    failures = 0;
                } else {
                    // Its size may mean nothing.
                    walk.reject(&unit);
                }
            }
            found(span.kind, &std::mem::take(&mut block.statistics));
        }
        block.finish();
    }

    /// Where in the payload of the block that was transformed last the cells of leaf pages lie that WiredTiger did not compress, in their order.
    pub(crate) fn leaves(&self) -> &[Range<usize>] {
        &self.leaves
    }
}

/// A block in the making.
struct Block<'a> {
    plain: &'a [u8],
    limit: usize,
    control: &'a mut Vec<u8>,
    /// Longer than `made` while the block is in the making: it is written in place, and bytes of old blocks need no clearing.
    content: &'a mut Vec<u8>,
    /// How much of `content` is made.
    made: usize,
    /// How much of `plain` is in it.
    done: usize,
    /// The run that is not written yet.
    run: Run,
    /// Of the span in which it is made.
    statistics: Statistics,
}

impl<'a> Block<'a> {
    /// Tries one unit, and stores it decompressed if an encoder of `likely` makes it, which is then the first of them.
    fn snappy(
        &mut self,
        found: &Found,
        likely: &mut [Encoder; 4],
        workspace: &mut Workspace,
    ) -> bool {
        let Some((head, packed)) = self.parts(found) else {
            return false;
        };
        let Some((stream, padding)) = stream_of(packed) else {
            return false;
        };
        // How many plain bytes the unit stands for.
        let covered = match found.shape {
            Shape::Page if is_zero(padding) => found.header.total,
            Shape::Page => return false,
            Shape::Record => found.header.total - padding.len(),
        };
        if snap::raw::decompress_len(stream).ok() != Some(found.header.content) {
            return false;
        }
        self.statistics.tried += 1;
        let length = found.header.content;
        let Some((head_room, room)) = self.room(found, covered) else {
            return false;
        };
        head_room.copy_from_slice(head);
        let content = room.get_mut(..length).unwrap_or_default();
        if snap::raw::Decoder::new().decompress(stream, content) != Ok(length) {
            return false;
        }
        let makes = |encoder: &Encoder| encoder.makes(workspace, stream, room, length);
        let Some(place) = likely.iter().position(makes) else {
            return false;
        };
        if let Some(tried) = likely.get_mut(..=place) {
            tried.rotate_right(1);
        }
        let [encoder, ..] = *likely;
        let kind = Kind::new(found.shape, Method::Snappy(encoder));
        self.accept(found, covered, kind);
        true
    }

    /// The same with zlib.
    fn deflated(&mut self, found: &Found, zlib: &mut Zlib) -> bool {
        let Some((head, packed)) = self.parts(found) else {
            return false;
        };
        // How long the stream is, and with that how much the unit covers, only decoding tells.
        let Some((head_room, room)) = self.room(found, head.len()) else {
            return false;
        };
        head_room.copy_from_slice(head);
        let content = room.get_mut(..found.header.content).unwrap_or_default();
        let Some(length) = zlib.decode(packed, content) else {
            return false;
        };
        let Some((stream, padding)) = packed.split_at_checked(length) else {
            return false;
        };
        let made = zlib.makes(stream, content);
        self.statistics.tried += 1;
        let covered = match found.shape {
            Shape::Page if is_zero(padding) => found.header.total,
            Shape::Page => return false,
            Shape::Record => found.header.total - padding.len(),
        };
        if made {
            self.accept(found, covered, Kind::new(found.shape, Method::Zlib));
        }
        made
    }

    /// Head of a unit, and what follows it.
    fn parts(&self, found: &Found) -> Option<(&'a [u8], &'a [u8])> {
        let bytes = self.plain.get(found.start..)?;
        bytes
            .get(..found.header.total)?
            .split_at_checked(found.shape.head())
    }

    /// Where the cells of a page that stays as it is will be in the payload, if it is a leaf of a row store.
    fn leaf(&self, found: &Found) -> Option<Range<usize>> {
        let page = self.plain.get(found.start..)?;
        let cells = super::shape::leaf(page.first_chunk()?)?;
        let start = self.made + (found.start - self.done);
        (found.shape == Shape::Page).then_some(start + cells.start..start + cells.end)
    }

    /// Where head and content of a unit go, behind the literal bytes before it, with [`WINDOW`] bytes behind the content. None where the
    /// limit does not allow it.
    fn room(&mut self, found: &Found, covered: usize) -> Option<(&mut [u8], &mut [u8])> {
        let literal = found.start.checked_sub(self.done)?;
        let start = self.made.checked_add(literal)?;
        let head = found.shape.head();
        let end = start.checked_add(head)?.checked_add(found.header.content)?;
        let behind = self
            .plain
            .len()
            .checked_sub(found.start)?
            .checked_sub(covered)?;
        let rest = behind + self.control.len() + 2 * LONGEST_RUN + TRAILER;
        if end.checked_add(rest)? > self.limit {
            return None;
        }
        self.grow(end);
        self.content.get_mut(start..)?.split_at_mut_checked(head)
    }

    /// Makes `content` long enough to be written up to `end`, with [`WINDOW`] bytes behind it; never much longer than the limit.
    fn grow(&mut self, end: usize) {
        if self.content.len() < end + WINDOW {
            let ample = (end + self.plain.len()).min(self.limit).max(end) + WINDOW;
            self.content.reserve_exact(ample - self.content.len());
            self.content.resize(ample, 0);
        }
    }

    /// Takes the unit whose content is in its place.
    fn accept(&mut self, found: &Found, covered: usize, kind: Kind) {
        let literal = found.start.saturating_sub(self.done);
        if literal > 0 || self.run.kind != Some(kind) {
            self.literals(found.start);
            self.flush();
            self.run = Run {
                literal: literal as u64,
                units: 0,
                kind: Some(kind),
            };
        }
        self.run.units += 1;
        self.made += found.shape.head() + found.header.content;
        self.done = found.start + covered;
        self.statistics
            .add(kind, covered as u64, found.header.content as u64);
    }

    /// Copies the plain bytes up to `end` as they are.
    fn literals(&mut self, end: usize) {
        let literal = self.plain.get(self.done..end).unwrap_or_default();
        let made = self.made + literal.len();
        self.grow(made);
        if let Some(place) = self.content.get_mut(self.made..made) {
            place.copy_from_slice(literal);
        }
        self.made = made;
        self.done += literal.len();
    }

    /// Writes the run.
    fn flush(&mut self) {
        self.run.push(self.control);
    }

    fn finish(mut self) {
        let literal = (self.plain.len() - self.done) as u64;
        self.literals(self.plain.len());
        self.flush();
        self.run = Run {
            literal,
            units: 0,
            kind: None,
        };
        self.flush();
        self.content.truncate(self.made);
        self.content.reserve_exact(self.control.len() + TRAILER);
        let length = self.control.len() as u32;
        self.content.append(self.control);
        self.content.extend_from_slice(&length.to_le_bytes());
    }
}

/// The stream behind a head, which its length precedes, and what follows it.
fn stream_of(packed: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = packed.split_first_chunk::<PREFIX>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    rest.split_at_checked(length)
}

fn is_zero(bytes: &[u8]) -> bool {
    // All of it, without a branch for each byte.
    bytes.iter().fold(0, |all, byte| all | byte) == 0
}
