//! The header of a block's zstd frame: what must be known before anything is allocated for it.
//!
//! After RFC 8878, section 3.1.1.1.

use crate::archive::container::LARGEST_BLOCK;

const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// Checks that `frame` begins as a block's does: checksum and content size there, no dictionary, a bounded window, and
/// `content` bytes in it.
pub(super) fn check(frame: &[u8], content: u64) -> Result<(), &'static str> {
    let cut = "its frame is cut short";
    let (magic, rest) = frame.split_first_chunk::<4>().ok_or(cut)?;
    if *magic != MAGIC {
        return Err("it is no zstd frame");
    }
    let (descriptor, rest) = rest.split_first().ok_or(cut)?;
    if descriptor & 0b11 != 0 {
        return Err("its frame wants a dictionary");
    }
    if descriptor & 0b100 == 0 {
        return Err("its frame has no checksum");
    }
    // zstd passes over the unused bit; nothing is to be changed unnoticed.
    if descriptor & 0b11000 != 0 {
        return Err("its frame has a bit set that means nothing");
    }
    let single = descriptor & 0b10_0000 != 0;
    let (window, rest) = match (single, rest.split_first()) {
        (true, _) => (None, rest),
        (false, Some((window, rest))) => (Some(window), rest),
        (false, None) => return Err(cut),
    };
    let size = match (descriptor >> 6, single, rest) {
        (0, true, [a, ..]) => u64::from(*a),
        (0, false, _) => return Err("its frame does not say how long its content is"),
        (1, _, [a, b, ..]) => u64::from(u16::from_le_bytes([*a, *b])) + 256,
        (2, _, [a, b, c, d, ..]) => u64::from(u32::from_le_bytes([*a, *b, *c, *d])),
        (3, _, [a, b, c, d, e, f, g, h, ..]) => {
            u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h])
        }
        _ => return Err(cut),
    };
    if size != content {
        return Err("its frame holds another number of bytes than the index says");
    }
    let window = match window {
        None => size,
        Some(byte) => {
            let base = 1u64 << (10 + (byte >> 3));
            base + base / 8 * u64::from(byte & 7)
        }
    };
    if window > LARGEST_BLOCK {
        return Err("its frame wants a larger window than any program makes");
    }
    Ok(())
}
