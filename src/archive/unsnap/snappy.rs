//! The compressors that made the streams: which bytes each version of the C++ snappy library makes of a content.
//!
//! All versions cut the content into fragments of 64 KiB and look for matches through a table of what lay where; they differ in the
//! hash and the size of that table only. [`Encoder::makes`] follows an encoder along a stream it may have made, which takes
//! less time than encoding and stops at the first difference; [`Encoder::encode`] makes the stream.

mod encode;
mod follow;
mod hash;

#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
use hash::CrcInstruction;
use hash::{Classic, Crc, Hash, Masked};

/// Bytes that are compressed with one table.
const FRAGMENT: usize = 1 << 16;
/// Closer to the end of a fragment no match is looked for.
const MARGIN: usize = 15;
/// The longest copy that one element holds.
const LONGEST_COPY: usize = 64;
/// At the beginning of a literal every position is looked at, after 32 without a match every second, and so on.
const FIRST_SKIP: usize = 32;
/// Where in the fragment bytes of a hash were last seen. The largest of all versions.
type Table = [u16; 1 << 15];
/// A fragment with room behind it, so that it may be read in words. What is behind it is nothing that counts.
type Window = [u8; WINDOW];
/// Bytes of a [`Window`].
pub(crate) const WINDOW: usize = FRAGMENT + 16;
/// The stream of one fragment.
type Packed = [u8; PACKED];
/// The library's own bound, of which its authors say why, and room to write in words.
const PACKED: usize = FRAGMENT + FRAGMENT / 6 + 32 + 16;

/// A version of the library, as far as its output differs. The numbers are the format's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Encoder {
    /// Up to 1.1.8: a multiplication, its highest bits.
    Classic = 1,
    /// From 1.1.10 where the processor has CRC32C, which MongoDB's builds for x86-64 and ARM take for granted.
    Crc = 2,
    /// From 1.1.10 elsewhere: a multiplication, its middle bits.
    Multiplied = 3,
    /// 1.1.9: the same with a smaller table.
    Multiplied14 = 4,
}

impl Encoder {
    /// All of them, the likeliest first.
    pub(crate) const ALL: [Self; 4] = [
        Self::Classic,
        Self::Crc,
        Self::Multiplied,
        Self::Multiplied14,
    ];

    /// Whether this encoder makes `stream` of the first `length` bytes of `content`, given that the stream decodes to them.
    ///
    /// It is fastest where [`WINDOW`] bytes more follow; what they are does not matter.
    pub(crate) fn makes(
        self,
        workspace: &mut Workspace,
        stream: &[u8],
        content: &[u8],
        length: usize,
    ) -> bool {
        match self {
            Self::Classic => follow::follow::<Classic>(workspace, stream, content, length),
            #[cfg(target_arch = "x86_64")]
            Self::Crc if CrcInstruction::there() => {
                follow::follow::<CrcInstruction>(workspace, stream, content, length)
            }
            Self::Crc => follow::follow::<Crc>(workspace, stream, content, length),
            Self::Multiplied => follow::follow::<Masked<15>>(workspace, stream, content, length),
            Self::Multiplied14 => follow::follow::<Masked<14>>(workspace, stream, content, length),
        }
    }

    /// Appends the stream this encoder makes of the first `length` bytes of `content`; what follows them is as in [`Self::makes`].
    /// False where `out` would become longer than `most`; then what was appended means nothing, and is not much longer.
    pub(crate) fn encode(
        self,
        workspace: &mut Workspace,
        content: &[u8],
        length: usize,
        out: &mut Vec<u8>,
        most: usize,
    ) -> bool {
        match self {
            Self::Classic => encode::encode::<Classic>(workspace, content, length, out, most),
            #[cfg(target_arch = "x86_64")]
            Self::Crc if CrcInstruction::there() => {
                encode::encode::<CrcInstruction>(workspace, content, length, out, most)
            }
            Self::Crc => encode::encode::<Crc>(workspace, content, length, out, most),
            Self::Multiplied => encode::encode::<Masked<15>>(workspace, content, length, out, most),
            Self::Multiplied14 => {
                encode::encode::<Masked<14>>(workspace, content, length, out, most)
            }
        }
    }
}

/// What encoders need beside their input.
#[derive(Debug)]
pub(crate) struct Workspace {
    table: Box<Table>,
    spare: Box<Window>,
    packed: Box<Packed>,
}

impl Default for Workspace {
    fn default() -> Self {
        Self {
            table: Box::new([0; 1 << 15]),
            spare: Box::new([0; WINDOW]),
            packed: Box::new([0; PACKED]),
        }
    }
}

/// The table for a fragment, emptied, and its hash.
fn prepare<H: Hash>(table: &mut Table, fragment: usize) -> H {
    let size = fragment.next_power_of_two().clamp(1 << 8, H::LARGEST);
    if let Some(used) = table.get_mut(..size) {
        used.fill(0);
    }
    H::new(size)
}

/// Puts `position` where bytes of that hash are kept; what was there before.
#[inline(always)]
#[allow(
    clippy::indexing_slicing,
    reason = "the remainder of the array's own length; this is the innermost loop"
)]
fn exchange(table: &mut Table, slot: usize, position: usize) -> usize {
    let place = &mut table[slot % (1 << 15)];
    let before = usize::from(*place);
    *place = position as u16;
    before
}

/// Four bytes of a fragment as a number.
#[inline(always)]
fn load32(window: &Window, at: usize) -> u32 {
    // So the compiler sees that they are in the window.
    let at = usize::from(at as u16);
    let four = window.get(at..).and_then(<[u8]>::first_chunk);
    four.map_or(0, |four| u32::from_le_bytes(*four))
}

/// How many bytes of the fragment, which is `length` long, are the same from `from` and from `at` on, which is the later one.
#[inline(always)]
fn common(window: &Window, length: usize, from: usize, at: usize) -> usize {
    let eight = |at: usize| {
        let at = usize::from(at as u16);
        let eight = window.get(at..).and_then(<[u8]>::first_chunk);
        eight.map_or(0, |eight| u64::from_le_bytes(*eight))
    };
    let most = length.saturating_sub(at);
    let mut same = 0;
    while same < most {
        let difference = eight(from + same) ^ eight(at + same);
        if difference != 0 {
            return most.min(same + difference.trailing_zeros() as usize / 8);
        }
        same += 8;
    }
    most
}

/// Calls `visit` with each fragment of `length` bytes at the beginning of `bytes`, and with how long it is. `spare` is for the
/// last ones, where `bytes` end before a window does.
#[inline(always)]
fn fragments(
    bytes: &[u8],
    length: usize,
    spare: &mut Window,
    mut visit: impl FnMut(&Window, usize) -> bool,
) -> bool {
    let mut done = 0;
    while done < length {
        let here = bytes.get(done..).unwrap_or_default();
        let size = FRAGMENT.min(length - done);
        let window = match here.first_chunk() {
            Some(window) => window,
            None => {
                if let Some((place, from)) = spare.get_mut(..size).zip(here.get(..size)) {
                    place.copy_from_slice(from);
                }
                &*spare
            }
        };
        if !visit(window, size) {
            return false;
        }
        done += size;
    }
    true
}
