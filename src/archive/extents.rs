//! Where a sparse file has data, asked of the file system, and written as GNU tar's sparse map.

use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::tar::BLOCK;

/// A run of bytes that are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// The most segments a file is stored in. It bounds memory here and in every reader of the map; a file in more pieces has
/// its smallest holes stored as the zeros they are.
pub(super) const MOST_SEGMENTS: usize = 1 << 16;

/// The data of `file`, or none if it has no holes. Preallocated, unwritten space counts as a hole where the file system says so.
pub(super) fn of_file(file: &File, size: u64) -> Result<Option<Vec<Segment>>, std::io::Error> {
    let mut segments = Merging::default();
    let mut at = 0;
    while at < size {
        let Some(start) = seek(file, at, Whence::SeekData)? else {
            break;
        };
        let start = start.min(size);
        let end = seek(file, start, Whence::SeekHole)?
            .unwrap_or(size)
            .min(size);
        if end <= start {
            break;
        }
        segments.push(Segment {
            offset: start,
            length: end - start,
        });
        at = end;
    }
    let mut segments = segments.0;
    let whole = matches!(segments.as_slice(), [only] if only.offset == 0 && only.length == size);
    if whole || size == 0 {
        return Ok(None);
    }
    // GNU tar takes the file's end from the map's.
    if segments
        .last()
        .is_none_or(|last| last.offset + last.length < size)
    {
        segments.push(Segment {
            offset: size,
            length: 0,
        });
    }
    Ok(Some(segments))
}

fn seek(file: &File, at: u64, whence: Whence) -> Result<Option<u64>, std::io::Error> {
    let at = i64::try_from(at).map_err(std::io::Error::other)?;
    let seeks_data = matches!(whence, Whence::SeekData);
    match lseek(file.as_fd(), at, whence) {
        Ok(found) => Ok(u64::try_from(found).ok()),
        Err(Errno::ENXIO) => Ok(None),
        // A file system that knows no holes has none.
        Err(Errno::EINVAL) => Ok(seeks_data.then_some(at as u64)),
        Err(errno) => Err(errno.into()),
    }
}

/// Segments, merged across their smallest holes when they become too many.
#[derive(Default)]
struct Merging(Vec<Segment>);

impl Merging {
    fn push(&mut self, segment: Segment) {
        let mut smallest = 2 * BLOCK as u64;
        while self.0.len() + 2 > MOST_SEGMENTS {
            smallest = smallest.saturating_mul(2);
            self.merge(smallest);
        }
        self.0.push(segment);
    }

    fn merge(&mut self, smallest_hole: u64) {
        self.0.dedup_by(|next, kept| {
            let end = kept.offset + kept.length;
            let near = next.offset - end < smallest_hole;
            if near {
                kept.length = next.offset + next.length - kept.offset;
            }
            near
        });
    }
}

/// The map as GNU's sparse format 1.0 has it: the number of segments, then offset and length of each, one number a
/// line, zeros to the end of the block.
pub(super) fn map_text(segments: &[Segment]) -> Vec<u8> {
    let mut text = format!("{}\n", segments.len());
    for segment in segments {
        text.push_str(&format!("{}\n{}\n", segment.offset, segment.length));
    }
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// The inverse of [`map_text`], a block at a time.
#[derive(Default)]
pub(super) struct MapParser {
    line: Vec<u8>,
    count: Option<u64>,
    offset: Option<u64>,
    segments: Vec<Segment>,
}

impl MapParser {
    /// Takes a block; gives the segments when that was the last. `size` is the file's.
    pub(super) fn feed(
        &mut self,
        block: &[u8; BLOCK],
        size: u64,
    ) -> Result<Option<Vec<Segment>>, &'static str> {
        const BAD: &str = "a sparse file's map is malformed";
        let mut bytes = block.iter();
        while self.count != Some(self.segments.len() as u64) {
            match bytes.next() {
                None => return Ok(None),
                Some(b'\n') => {}
                Some(digit) if self.line.len() < 20 => {
                    self.line.push(*digit);
                    continue;
                }
                Some(_) => return Err(BAD),
            }
            let number = super::tar::decimal(&self.line).ok_or(BAD)?;
            self.line.clear();
            if self.count.is_none() {
                if number > MOST_SEGMENTS as u64 {
                    return Err("a sparse file's map has too many segments");
                }
                self.count = Some(number);
            } else if let Some(offset) = self.offset.take() {
                let floor = self
                    .segments
                    .last()
                    .map_or(0, |last| last.offset + last.length);
                let end = offset.checked_add(number).ok_or(BAD)?;
                if offset < floor || end > size {
                    return Err("a sparse file's map overlaps or leaves the file");
                }
                self.segments.push(Segment {
                    offset,
                    length: number,
                });
            } else {
                self.offset = Some(number);
            }
        }
        if bytes.any(|b| *b != 0) {
            return Err(BAD);
        }
        Ok(Some(std::mem::take(&mut self.segments)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn too_many_segments_merge_across_the_smallest_holes() {
        let mut merging = Merging::default();
        let mut at = 0;
        for i in 0..200_000u64 {
            let hole = if i % 3 == 0 { 1 << 20 } else { 4096 };
            merging.push(Segment {
                offset: at,
                length: 4096,
            });
            at += 4096 + hole;
        }
        assert!(merging.0.len() < MOST_SEGMENTS);
        assert!(
            merging
                .0
                .windows(2)
                .all(|w| w[0].offset + w[0].length < w[1].offset)
        );
        assert_eq!(
            merging.0.last().map(|s| s.offset + s.length),
            Some(at - 4096)
        );
    }

    fn parse(bytes: &[u8], size: u64) -> Result<Option<Vec<Segment>>, &'static str> {
        let mut parser = MapParser::default();
        for block in bytes.chunks_exact(BLOCK) {
            if let Some(found) = parser.feed(block.try_into().unwrap(), size)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    proptest! {
        #[test]
        fn maps_round_trip(pairs in prop::collection::vec((1u64..1 << 40, 1u64..1 << 30), 0..200)) {
            let mut at = 0;
            let segments: Vec<_> = pairs.into_iter().map(|(hole, length)| {
                let segment = Segment { offset: at + hole, length };
                at += hole + length;
                segment
            }).collect();
            prop_assert_eq!(parse(&map_text(&segments), at).unwrap(), Some(segments));
        }

        #[test]
        fn a_changed_map_never_panics(place in 0usize..BLOCK, byte: u8) {
            let mut text = map_text(&[Segment { offset: 5, length: 7 }, Segment { offset: 100, length: 0 }]);
            text[place] = byte;
            if let Ok(Some(found)) = parse(&text, 100) {
                prop_assert_eq!(map_text(&found), text);
            }
        }
    }
}
