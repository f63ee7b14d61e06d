//! What is looked for: WiredTiger's pages and the records of its log, by their headers.
//!
//! Nothing in a header is believed: it says what to try, and where to look next.

use super::MAX_CONTENT;

/// A kind of unit. The numbers are the format's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Shape {
    /// A block of a data file: page header of 28 bytes, block header of 12, content. The first 64 bytes are never compressed.
    Page = 0x10,
    /// A record of the log: header of 16 bytes, content.
    Record = 0x20,
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes the unit takes in the file.
    pub total: usize,
    /// Whether what follows the head is compressed.
    pub compressed: bool,
    /// Bytes that follow the head once they are decompressed.
    pub content: usize,
}

impl Shape {
    /// Both of them.
    pub(crate) const ALL: [Self; 2] = [Self::Page, Self::Record];

    /// Bytes at the beginning that are stored as they are.
    pub(super) fn head(self) -> usize {
        match self {
            Self::Page => 64,
            Self::Record => 16,
        }
    }

    /// What places and sizes are multiples of.
    pub(super) fn unit(self) -> usize {
        match self {
            // The smallest allocation size there is.
            Self::Page => 512,
            Self::Record => 128,
        }
    }

    /// What the head says that begins here, if it is one.
    pub(super) fn header(self, bytes: &[u8]) -> Option<Header> {
        let header = match self {
            Self::Page => page(bytes.first_chunk()?),
            Self::Record => record(bytes.first_chunk()?),
        }?;
        let sound = header.total > 0
            && header.total.is_multiple_of(self.unit())
            && (header.content <= MAX_CONTENT || !header.compressed)
            && header.total >= self.head() + if header.compressed { PREFIX } else { 0 };
        sound.then_some(header)
    }
}

/// Bytes of the stream's length, between head and stream.
pub(super) const PREFIX: usize = 8;

/// Of a page header: `recno`, 8 bytes; `write_gen`, 8; `mem_size`, 4; `entries`, 4; `type`, `flags`, unused, `version`, a byte each.
/// Of a block header: `disk_size`, 4 bytes; `checksum`, 4; `flags`, 1; unused, 3.
fn page(head: &[u8; 64]) -> Option<Header> {
    const COMPRESSED: u8 = 1;
    const ENCRYPTED: u8 = 8;
    let [
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        m0,
        m1,
        m2,
        m3,
        _,
        _,
        _,
        _,
        kind,
        flags,
        unused,
        version,
        d0,
        d1,
        d2,
        d3,
        _,
        _,
        _,
        _,
        block,
        u0,
        u1,
        u2,
        ..,
    ] = *head;
    let memory = size([m0, m1, m2, m3])?;
    let total = size([d0, d1, d2, d3])?;
    let likely = matches!(kind, 1..=7)
        && flags & ENCRYPTED == 0
        && version <= 1
        && block <= 1
        && [unused, u0, u1, u2] == [0; 4];
    let compressed = flags & COMPRESSED != 0;
    let fits = if compressed {
        memory > head.len()
    } else {
        memory <= total
    };
    (likely && fits).then_some(Header {
        total,
        compressed,
        content: memory.saturating_sub(head.len()),
    })
}

/// Where in an uncompressed page the cells lie, if it is a leaf of a row store: behind both headers, as far as `mem_size` says.
pub(super) fn leaf(head: &[u8; 64]) -> Option<std::ops::Range<usize>> {
    const ROW_LEAF: u8 = 7;
    const HEADERS: usize = 40;
    let memory = size(*head.get(16..)?.first_chunk()?)?;
    (head.get(24) == Some(&ROW_LEAF) && memory > HEADERS).then_some(HEADERS..memory)
}

/// `len`, 4 bytes; `checksum`, 4; `flags`, 2; unused, 2; `mem_len`, 4.
fn record(head: &[u8; 16]) -> Option<Header> {
    const COMPRESSED: u16 = 1;
    let [l0, l1, l2, l3, _, _, _, _, f0, f1, u0, u1, m0, m1, m2, m3] = *head;
    let length = size([l0, l1, l2, l3])?;
    let memory = size([m0, m1, m2, m3])?;
    let flags = u16::from_le_bytes([f0, f1]);
    let compressed = flags & COMPRESSED != 0;
    let likely = flags & !COMPRESSED == 0 && [u0, u1] == [0; 2] && length >= head.len();
    let fits = if compressed {
        memory > head.len()
    } else {
        memory == 0
    };
    (likely && fits).then_some(Header {
        total: length.next_multiple_of(Shape::Record.unit()),
        compressed,
        content: memory.saturating_sub(head.len()),
    })
}

/// A size that is not out of the question.
fn size(bytes: [u8; 4]) -> Option<usize> {
    const LARGEST: usize = 1 << 30;
    usize::try_from(u32::from_le_bytes(bytes))
        .ok()
        .filter(|size| *size <= LARGEST)
}
