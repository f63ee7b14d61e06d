//! The container of `fast` and `small`: zstd frames of unsnapped pieces of the tar stream, between a head, an index and a
//! footer that are zstd's skippable frames. Described in `doc/format.md`, part 3.
//!
//! The bytes of head, index and footer are here; nothing that is read is trusted.

mod decode;
mod encode;
#[cfg(test)]
mod floor;
mod forge;
mod frame;
mod layout;
#[cfg(test)]
mod tests;

pub(super) use decode::Decoder;
pub(super) use encode::{Collector, Slot, pipeline};
pub(super) use forge::mend;
pub(super) use layout::layout;

use super::container::LARGEST_BLOCK;
use super::{Profile, integer, shred, unsnap};

/// Magic number of the skippable frames.
const SKIPPABLE: [u8; 4] = [0x5B, 0x2A, 0x4D, 0x18];
/// Magic number and size of a skippable frame.
const FRAME: usize = 8;
/// Begins the head, ends the footer. Whoever turns line ends or cuts the eighth bit spoils it.
const MAGIC: [u8; 8] = [0x89, b'f', b'f', b'z', 0x0D, 0x0A, 0x1A, 0x0A];
/// Version of the container.
const VERSION: u8 = 2;
/// The last version whose blocks are never shredded and have no [`MARK`].
const UNMARKED: u8 = 1;
/// Bytes at the end of a transformed block that say whether its payload is shredded.
const MARK: usize = 1;
const AS_IT_IS: u8 = 0;
const SHREDDED: u8 = 1;
/// Bytes of the head: frame, magic, version, profile, two zeros, two limits, CRC32.
pub(super) const HEAD: usize = FRAME + 8 + 4 + 4 + 4 + 4;
/// Bytes of the footer: frame, size of the index's frame, CRC32 of that, magic.
pub(super) const FOOTER: usize = FRAME + 8 + 4 + 8;
/// The least an index has: frame, number of blocks, CRC32.
const SMALLEST_INDEX: u64 = FRAME as u64 + 1 + 4;
/// A zstd frame with one byte of content: magic, descriptor, content size, block header, byte, checksum.
const SMALLEST_BLOCK: u64 = 4 + 1 + 1 + 3 + 1 + 4;

/// How a profile is compressed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameters {
    pub profile: Profile,
    /// zstd's level.
    pub level: i32,
    /// The most plain bytes of a block.
    pub block: usize,
    /// The most bytes of a transformed block.
    pub content: usize,
    /// zstd's window as a power of two; the level's own where there is none.
    pub window: Option<u32>,
    /// Blocks that are read or wait beside those that threads work on.
    pub spare: usize,
    /// More of those for each thread.
    pub spare_each: usize,
    /// Whether streams of zlib are made again too, at a speed of tens of megabytes a second, both ways.
    pub zlib: bool,
    /// What zstd's own state takes in one thread, in bytes.
    pub state: u64,
}

pub(super) const FAST: Parameters = Parameters {
    profile: Profile::Fast,
    // 3 makes 3 % fewer bytes in 8 % more time (doc/benchmarks.md).
    level: 2,
    block: 4 << 20,
    content: 16 << 20,
    window: None,
    spare: 1,
    spare_each: 1,
    zlib: false,
    state: 4 << 20,
};

pub(super) const SMALL: Parameters = Parameters {
    profile: Profile::Small,
    level: 12,
    block: 16 << 20,
    content: 64 << 20,
    window: Some(26),
    spare: 2,
    spare_each: 0,
    zlib: true,
    state: 72 << 20,
};

const _: () = assert!(FAST.is_sound() && SMALL.is_sound());

impl Parameters {
    /// A block without a single page fits, and a reader takes what is made.
    const fn is_sound(&self) -> bool {
        self.block <= unsnap::MAX_PLAIN
            && self.block + unsnap::SMALLEST_SURPLUS + MARK <= self.content
            && self.content <= unsnap::MAX_CONTENT
            && self.content as u64 <= LARGEST_BLOCK
    }

    #[cfg(test)]
    fn limits(&self) -> Limits {
        Limits {
            plain: self.block as u64,
            content: self.content as u64,
        }
    }

    /// A slot holds a block as it was read and as it is stored, which is never much longer.
    fn slot_memory(&self) -> u64 {
        2 * self.block as u64
    }

    /// The program, entries on their way, and the blocks that no thread works on.
    pub(super) fn base_memory(&self) -> u64 {
        (16 << 20) + self.spare as u64 * self.slot_memory()
    }

    /// The blocks of one thread, what unsnap makes of one, what zstd makes of that, zstd's own state, and what shredding takes.
    pub(super) fn thread_memory(&self) -> u64 {
        let slots = 1 + self.spare_each as u64;
        slots * self.slot_memory() + (2 + shred::CONTENTS) * self.content as u64 + self.state
    }
}

/// What a block may have at most, by the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    plain: u64,
    content: u64,
}

/// One block, as the index has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// Bytes of the frame.
    pub stored: u64,
    /// Bytes of its content.
    pub content: u64,
    /// Bytes of the piece of the tar stream.
    pub plain: u64,
    /// CRC32 of that piece.
    pub checksum: u32,
}

fn skippable(content: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME + content.len());
    frame.extend_from_slice(&SKIPPABLE);
    frame.extend_from_slice(
        &u32::try_from(content.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    frame.extend_from_slice(content);
    frame
}

/// The content of the one skippable frame that `bytes` are.
fn content(bytes: &[u8]) -> Option<&[u8]> {
    let (magic, rest) = bytes.split_first_chunk::<4>()?;
    let (size, content) = rest.split_first_chunk::<4>()?;
    let sound = *magic == SKIPPABLE && u32::from_le_bytes(*size) as usize == content.len();
    sound.then_some(content)
}

/// Splits a CRC32 off the end and compares it with that of what is before.
fn checked(content: &[u8]) -> Option<&[u8]> {
    let (body, checksum) = content.split_last_chunk::<4>()?;
    (crc32fast::hash(body) == u32::from_le_bytes(*checksum)).then_some(body)
}

fn with_checksum(mut content: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&content);
    content.extend_from_slice(&checksum.to_le_bytes());
    content
}

/// The head of an archive.
pub(super) fn head(parameters: &Parameters) -> Vec<u8> {
    let profile = match parameters.profile {
        Profile::Small => 2,
        Profile::Fast | Profile::Portable => 1,
    };
    let number = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX).to_le_bytes();
    let mut content = MAGIC.to_vec();
    content.extend_from_slice(&[VERSION, profile, 0, 0]);
    content.extend_from_slice(&number(parameters.block));
    content.extend_from_slice(&number(parameters.content));
    skippable(&with_checksum(content))
}

/// The inverse of [`head`]: profile, whether blocks have a [`MARK`], limits.
fn parse_head(bytes: &[u8]) -> Result<(Profile, bool, Limits), &'static str> {
    let content = content(bytes).ok_or("it does not begin as an archive does")?;
    let (magic, fields) = content
        .split_first_chunk::<8>()
        .ok_or("it does not begin as an archive does")?;
    if *magic != MAGIC {
        return Err("it does not begin as an archive does");
    }
    if fields.first().is_some_and(|version| *version > VERSION) {
        return Err("its container is of a later version than this program knows");
    }
    let body = checked(content).ok_or("the head does not match its checksum")?;
    let fields = body.get(MAGIC.len()..).unwrap_or_default();
    let Some([version, profile, 0, 0, p0, p1, p2, p3, c0, c1, c2, c3]) =
        fields.first_chunk::<12>().copied()
    else {
        return Err("the head is not one of this version");
    };
    let profile = match profile {
        1 => Profile::Fast,
        2 => Profile::Small,
        _ => return Err("the head names an unknown profile"),
    };
    let limits = Limits {
        plain: u32::from_le_bytes([p0, p1, p2, p3]).into(),
        content: u32::from_le_bytes([c0, c1, c2, c3]).into(),
    };
    if version < UNMARKED {
        return Err("the head is not one of this version");
    }
    if limits.plain > LARGEST_BLOCK || limits.content > LARGEST_BLOCK {
        return Err("the head allows larger blocks than any program makes");
    }
    Ok((profile, version > UNMARKED, limits))
}

/// The index of `records`.
pub(super) fn index(records: &[Record]) -> Vec<u8> {
    let mut content = Vec::new();
    integer::push(&mut content, records.len() as u64);
    for record in records {
        integer::push(&mut content, record.stored);
        integer::push(&mut content, record.content);
        integer::push(&mut content, record.plain);
        content.extend_from_slice(&record.checksum.to_le_bytes());
    }
    skippable(&with_checksum(content))
}

/// The inverse of [`index`]. `room` is what the blocks take in the object, to the byte.
fn parse_index(bytes: &[u8], limits: Limits, room: u64) -> Result<Vec<Record>, &'static str> {
    let content = content(bytes).ok_or("there is no index where it should be")?;
    let mut rest = checked(content).ok_or("the index does not match its checksum")?;
    let number = |rest: &mut &[u8]| {
        integer::take(rest).ok_or("the index holds no sound number where one must be")
    };
    let count = number(&mut rest)?;
    let mut records = Vec::new();
    let mut left = room;
    for _ in 0..count {
        let record = Record {
            stored: number(&mut rest)?,
            content: number(&mut rest)?,
            plain: number(&mut rest)?,
            checksum: match rest.split_first_chunk::<4>() {
                Some((checksum, behind)) => {
                    rest = behind;
                    u32::from_le_bytes(*checksum)
                }
                None => return Err("the index ends within a checksum"),
            },
        };
        if record.plain == 0 || record.plain > limits.plain {
            return Err("the index holds an impossible block size");
        }
        if record.content == 0 || record.content > limits.content {
            return Err("the index holds an impossible size of a frame's content");
        }
        left = left
            .checked_sub(record.stored)
            .filter(|_| record.stored >= SMALLEST_BLOCK)
            .ok_or("the index tells of more blocks than there are")?;
        records.push(record);
    }
    if !rest.is_empty() {
        return Err("the index does not end after its last record");
    }
    if left != 0 {
        return Err("the index does not account for every byte");
    }
    Ok(records)
}

/// The footer behind an index whose frame takes `index_size` bytes.
pub(super) fn footer(index_size: usize) -> Vec<u8> {
    let mut content = with_checksum((index_size as u64).to_le_bytes().to_vec());
    content.extend_from_slice(&MAGIC);
    skippable(&content)
}

/// The size of the index's frame in front of this footer.
fn parse_footer(bytes: &[u8]) -> Result<u64, &'static str> {
    let not_ours = "it does not end as an archive does";
    let content = content(bytes).ok_or(not_ours)?;
    let (body, magic) = content.split_last_chunk::<8>().ok_or(not_ours)?;
    if *magic != MAGIC {
        return Err(not_ours);
    }
    let size = checked(body).ok_or("the footer does not match its checksum")?;
    let size = size.first_chunk::<8>().filter(|_| size.len() == 8);
    Ok(u64::from_le_bytes(*size.ok_or(not_ours)?))
}
