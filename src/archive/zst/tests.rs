//! The bytes around the blocks.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    plain: 4 << 20,
    content: 32 << 20,
};

fn records() -> impl Strategy<Value = Vec<Record>> {
    let record = (
        SMALLEST_BLOCK..1 << 30,
        1..=LIMITS.content,
        1..=LIMITS.plain,
        any::<u32>(),
    );
    let record = record.prop_map(|(stored, content, plain, checksum)| Record {
        stored,
        content,
        plain,
        checksum,
    });
    prop::collection::vec(record, 0..50)
}

fn room(records: &[Record]) -> u64 {
    records.iter().map(|record| record.stored).sum()
}

proptest! {
    #[test]
    fn index_and_footer_round_trip(records in records()) {
        let bytes = index(&records);
        prop_assert_eq!(parse_index(&bytes, LIMITS, room(&records)).unwrap(), records);
        let behind = footer(bytes.len());
        prop_assert_eq!(behind.len(), FOOTER);
        prop_assert_eq!(parse_footer(&behind).unwrap(), bytes.len() as u64);
    }

    #[test]
    fn a_changed_bit_is_noticed(records in records(), place: prop::sample::Index, bit in 0..8u8) {
        let change = |mut bytes: Vec<u8>| {
            *place.get_mut(&mut bytes[..]) ^= 1 << bit;
            bytes
        };
        let room = room(&records);
        prop_assert!(parse_index(&change(index(&records)), LIMITS, room).is_err());
        prop_assert!(parse_footer(&change(footer(1024))).is_err());
        prop_assert!(parse_head(&change(head(&SMALL))).is_err());
    }

    #[test]
    fn another_room_is_refused(records in records(), more in 1u64..100) {
        let bytes = index(&records);
        let room = room(&records);
        prop_assert!(parse_index(&bytes, LIMITS, room + more).is_err());
        if room >= more {
            prop_assert!(parse_index(&bytes, LIMITS, room - more).is_err());
        }
    }

    #[test]
    fn nonsense_with_a_good_checksum_never_panics(body in prop::collection::vec(any::<u8>(), 0..64), room in 0u64..1000) {
        let bytes = skippable(&with_checksum(body));
        if let Ok(records) = parse_index(&bytes, LIMITS, room) {
            prop_assert_eq!(index(&records), bytes);
        }
    }
}

#[test]
fn heads_say_what_profile_it_is_and_bound_its_blocks() {
    for parameters in [FAST, SMALL] {
        let bytes = head(&parameters);
        assert_eq!(bytes.len(), HEAD);
        let (profile, marked, limits) = parse_head(&bytes).unwrap();
        assert!(marked);
        assert_eq!(profile, parameters.profile);
        assert_eq!(limits, parameters.limits());
    }
    let larger = Parameters {
        block: 1 << 30,
        ..FAST
    };
    assert!(parse_head(&head(&larger)).is_err());
    let mut later = head(&FAST);
    later[FRAME + MAGIC.len()] = VERSION + 1;
    assert!(parse_head(&later).unwrap_err().contains("later version"));
}

#[test]
fn a_block_larger_than_the_head_allows_is_refused() {
    let record = Record {
        stored: 100,
        content: LIMITS.content,
        plain: LIMITS.plain,
        checksum: 0,
    };
    let refused = |record: Record| parse_index(&index(&[record]), LIMITS, record.stored).is_err();
    assert!(!refused(record));
    let plain = LIMITS.plain + 1;
    assert!(refused(Record { plain, ..record }));
    let content = LIMITS.content + 1;
    assert!(refused(Record { content, ..record }));
    for stored in [0, SMALLEST_BLOCK - 1] {
        assert!(refused(Record { stored, ..record }));
    }
    assert!(refused(Record { plain: 0, ..record }));
    assert!(refused(Record {
        content: 0,
        ..record
    }));
}

#[test]
fn only_frames_as_blocks_have_them_are_taken() {
    let compress = |set: &dyn Fn(&mut zstd::bulk::Compressor<'_>), data: &[u8]| {
        let mut zstd = zstd::bulk::Compressor::new(3).unwrap();
        set(&mut zstd);
        zstd.compress(data).unwrap()
    };
    use zstd::zstd_safe::CParameter::{ChecksumFlag, ContentSizeFlag};
    let sound = |zstd: &mut zstd::bulk::Compressor<'_>| {
        zstd.set_parameter(ChecksumFlag(true)).unwrap();
    };
    for length in [1usize, 255, 256, 65_791, 65_792, 3 << 20] {
        let frame = compress(&sound, &vec![7; length]);
        assert_eq!(frame::check(&frame, length as u64), Ok(()), "{length}");
        assert!(frame::check(&frame, length as u64 + 1).is_err());
        for cut in 0..6 {
            assert!(frame::check(&frame[..cut], length as u64).is_err());
        }
    }
    let told = |frame: &[u8]| frame::check(frame, 1000).unwrap_err();
    let data = vec![7; 1000];
    assert!(told(&compress(&|_| {}, &data)).contains("no checksum"));
    let unsized_frame = compress(
        &|zstd| {
            sound(zstd);
            zstd.set_parameter(ContentSizeFlag(false)).unwrap();
        },
        &data,
    );
    assert!(told(&unsized_frame).contains("does not say how long"));
    let good = compress(&sound, &data);
    let with = |place: usize, bits: u8| {
        let mut frame = good.clone();
        frame[place] |= bits;
        frame
    };
    assert!(told(&with(4, 1)).contains("dictionary"));
    assert!(told(&with(4, 0b1_0000)).contains("means nothing"));
    assert!(told(&skippable(b"12345678")).contains("no zstd frame"));
    // Magic, descriptor with checksum and eight bytes of size, window of 2^28 bytes.
    let mut wide = vec![0x28, 0xB5, 0x2F, 0xFD, 0b1100_0100, 18 << 3];
    wide.extend_from_slice(&1000u64.to_le_bytes());
    assert!(told(&wide).contains("larger window"));
    wide[5] = 17 << 3;
    assert_eq!(frame::check(&wide, 1000), Ok(()));
}
