//! The .xz container around the blocks: stream header, index and stream footer.
//!
//! After "The .xz File Format", version 1.2.1: integers, section 1.2; stream header and footer, 2.1; index, 4.
//! The blocks themselves are liblzma's. Reading trusts nothing: an index may not tell of more blocks than fit in front of it.

mod decode;
mod encode;
mod layout;

pub(super) use decode::{decode, stream_block};
pub(super) use encode::Encoder;
pub(super) use layout::layout;

use super::integer;

/// Bytes of a stream header and of a stream footer.
pub(super) const EDGE: usize = 12;
/// The stream header of every archive: magic, flags (CRC64), CRC32 of the flags.
///
/// CRC64 because the table's BLAKE3 already proves the content; this is what `xz` and `pixz` check by themselves.
pub(super) const HEADER: [u8; EDGE] = [
    0xFD, b'7', b'z', b'X', b'Z', 0, 0, 4, 0xE6, 0xD6, 0xB4, 0x46,
];
const FLAGS: [u8; 2] = [0, 4];
const FOOTER_MAGIC: [u8; 2] = *b"YZ";
/// Block header of 8 bytes, one of data, CRC64.
const SMALLEST_BLOCK: u64 = 17;

/// One block, as the index has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// Bytes of header, data and check, without the padding to a multiple of four.
    pub unpadded: u64,
    /// Bytes of its content.
    pub uncompressed: u64,
}

impl Record {
    /// Bytes the block takes in the file.
    pub(super) fn total(&self) -> u64 {
        self.unpadded.saturating_add(3) & !3
    }
}

/// The index of `records`, complete with padding and checksum.
pub(super) fn index(records: &[Record]) -> Vec<u8> {
    let mut out = vec![0];
    integer::push(&mut out, records.len() as u64);
    for record in records {
        integer::push(&mut out, record.unpadded);
        integer::push(&mut out, record.uncompressed);
    }
    while !out.len().is_multiple_of(4) {
        out.push(0);
    }
    let checksum = crc32fast::hash(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// The inverse of [`index`]: exactly the bytes between the last block and the footer. `room` is what the blocks take in
/// the file: a record may cost two bytes and eight times as much memory, but not without a block of its own.
pub(super) fn parse_index(bytes: &[u8], room: u64) -> Result<Vec<Record>, &'static str> {
    let (body, checksum) = bytes
        .split_last_chunk::<4>()
        .ok_or("the index is too short")?;
    if !bytes.len().is_multiple_of(4) || crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Err("the index does not match its checksum");
    }
    let mut rest = match body.split_first() {
        Some((0, rest)) => rest,
        _ => return Err("there is no index where it should be"),
    };
    let number = |rest: &mut &[u8]| {
        integer::take(rest).ok_or("the index holds no sound number where one must be")
    };
    let count = number(&mut rest)?;
    let mut records = Vec::new();
    let mut left = room;
    for _ in 0..count {
        let record = Record {
            unpadded: number(&mut rest)?,
            uncompressed: number(&mut rest)?,
        };
        if record.unpadded < SMALLEST_BLOCK || record.unpadded > integer::MAX - 3 {
            return Err("the index holds an impossible block size");
        }
        if record.uncompressed == 0 {
            return Err("the index holds an empty block");
        }
        left = left
            .checked_sub(record.total())
            .ok_or("the index tells of more blocks than there are")?;
        records.push(record);
    }
    if rest.len() > 3 || rest.iter().any(|b| *b != 0) {
        return Err("the index does not end after its last record");
    }
    Ok(records)
}

/// The stream footer after an index of `index_size` bytes, padding and checksum included.
pub(super) fn footer(index_size: usize) -> [u8; EDGE] {
    let backward = (index_size as u64 / 4).saturating_sub(1) as u32;
    let mut body = [0; 6];
    body[..4].copy_from_slice(&backward.to_le_bytes());
    body[4..].copy_from_slice(&FLAGS);
    let mut out = [0; EDGE];
    out[..4].copy_from_slice(&crc32fast::hash(&body).to_le_bytes());
    out[4..10].copy_from_slice(&body);
    out[10..].copy_from_slice(&FOOTER_MAGIC);
    out
}

/// The size of the index in front of this footer.
pub(super) fn parse_footer(bytes: &[u8; EDGE]) -> Result<u64, &'static str> {
    let [c0, c1, c2, c3, b0, b1, b2, b3, f0, f1, m0, m1] = *bytes;
    if [m0, m1] != FOOTER_MAGIC {
        return Err("it does not end as an xz file does");
    }
    if crc32fast::hash(&[b0, b1, b2, b3, f0, f1]) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err("the stream footer does not match its checksum");
    }
    if [f0, f1] != FLAGS {
        return Err("the stream footer names another check than CRC64");
    }
    Ok((u64::from(u32::from_le_bytes([b0, b1, b2, b3])) + 1) * 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let record =
            (SMALLEST_BLOCK..1 << 40, 1u64..integer::MAX).prop_map(|(unpadded, uncompressed)| {
                Record {
                    unpadded,
                    uncompressed,
                }
            });
        prop::collection::vec(record, 0..50)
    }

    proptest! {
        #[test]
        fn index_round_trips(records in records()) {
            let bytes = index(&records);
            prop_assert_eq!(parse_index(&bytes, u64::MAX).unwrap(), records);
            let backward = parse_footer(&footer(bytes.len())).unwrap();
            prop_assert_eq!(backward, bytes.len() as u64);
        }

        #[test]
        fn a_changed_bit_is_noticed(records in records(), place: prop::sample::Index, bit in 0..8u8) {
            let mut bytes = index(&records);
            *place.get_mut(&mut bytes[..]) ^= 1 << bit;
            prop_assert!(parse_index(&bytes, u64::MAX).is_err());
            let mut bytes = footer(1024);
            *place.get_mut(&mut bytes[..]) ^= 1 << bit;
            prop_assert!(parse_footer(&bytes).is_err());
        }

        #[test]
        fn nonsense_with_a_good_checksum_never_panics(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut bytes = vec![0];
            bytes.extend(body);
            while bytes.len() % 4 != 0 {
                bytes.push(0);
            }
            let checksum = crc32fast::hash(&bytes);
            bytes.extend(checksum.to_le_bytes());
            if let Ok(records) = parse_index(&bytes, u64::MAX) {
                prop_assert_eq!(index(&records), bytes);
            }
        }
    }

    #[test]
    fn the_header_is_liblzmas() {
        let mut encoder =
            xz2::stream::Stream::new_easy_encoder(1, xz2::stream::Check::Crc64).unwrap();
        let mut out = Vec::with_capacity(1000);
        encoder
            .process_vec(b"", &mut out, xz2::stream::Action::Finish)
            .unwrap();
        assert_eq!(out[..EDGE], HEADER);
        assert_eq!(out[EDGE..], [index(&[]), footer(8).to_vec()].concat());
    }
}
