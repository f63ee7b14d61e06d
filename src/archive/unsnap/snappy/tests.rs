//! The encoders against real ones: the `snap` crate, and what C++ snappy made of the same contents once.

use proptest::prelude::*;

use super::*;

/// Words of a small vocabulary: matches near and far, literals short and long. The same whenever and wherever it runs.
fn words(length: usize, vocabulary: u64) -> Vec<u8> {
    let mut state = length as u64;
    let mut text = Vec::new();
    while text.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.extend(format!("{} ", (state >> 33) % vocabulary * 7919).bytes());
    }
    text.truncate(length);
    text
}

fn encoded(encoder: Encoder, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(encoder.encode(
        &mut Workspace::default(),
        content,
        content.len(),
        &mut out,
        usize::MAX
    ));
    out
}

/// Checksums of what C++ snappy made, by program: 1.1.8; 1.1.10, 1.2.1, 1.2.2 and 1.3.1 built with SSE 4.2; 1.1.10 and 1.3.1
/// without; 1.1.9. Those in a row made the same bytes.
const REAL: [(Encoder, u32); 4] = [
    (Encoder::Classic, 0xCB5F_AC72),
    (Encoder::Crc, 0x6CD3_F451),
    (Encoder::Multiplied, 0x1EE9_B4B0),
    (Encoder::Multiplied14, 0xEFD5_098B),
];

#[test]
fn streams_are_those_of_the_real_library() {
    let mut told = Vec::new();
    for (encoder, _) in REAL {
        let mut checksum = crc32fast::Hasher::new();
        for length in (0..300).chain([511, 513, 9000, 16385, 32769, 65536, 65537, 65551, 200_000]) {
            for vocabulary in [3, 500, 1 << 20] {
                checksum.update(&encoded(encoder, &words(length, vocabulary)));
            }
        }
        told.push((encoder, checksum.finalize()));
    }
    assert_eq!(told, REAL);
}

/// Bytes with matches of all lengths and distances in them.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        (any::<u8>(), 0..300usize).prop_map(|(byte, length)| vec![byte; length]),
        (0..70_000usize, 1..2000u64).prop_map(|(length, vocabulary)| words(length, vocabulary)),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn the_classic_one_is_the_snap_crates(content in contents()) {
        let real = snap::raw::Encoder::new().compress_vec(&content).unwrap();
        prop_assert!(encoded(Encoder::Classic, &content) == real);
    }

    #[test]
    fn following_tells_what_encoding_would(content in contents(), tail in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut workspace = Workspace::default();
        // What follows the content must not matter.
        let mut longer = content.clone();
        longer.extend(tail);
        longer.resize(longer.len() + WINDOW, 7);
        for made_by in Encoder::ALL {
            let stream = encoded(made_by, &content);
            prop_assert!(snap::raw::Decoder::new().decompress_vec(&stream).unwrap() == content);
            for encoder in Encoder::ALL {
                let same = encoded(encoder, &content) == stream;
                prop_assert_eq!(encoder.makes(&mut workspace, &stream, &content, content.len()), same);
                prop_assert_eq!(encoder.makes(&mut workspace, &stream, &longer, content.len()), same);
            }
        }
    }

    #[test]
    fn another_stream_of_the_same_content_is_told(content in contents(), place: prop::sample::Index, byte: u8) {
        let mut stream = encoded(Encoder::Classic, &content);
        *place.get_mut(&mut stream[..]) = byte;
        if snap::raw::Decoder::new().decompress_vec(&stream).is_ok_and(|decoded| decoded == content) {
            let mut workspace = Workspace::default();
            for encoder in Encoder::ALL {
                let same = encoded(encoder, &content) == stream;
                prop_assert_eq!(encoder.makes(&mut workspace, &stream, &content, content.len()), same);
            }
        }
    }
}

/// The table serves where the instruction is not; both must say the same.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_crc_instruction_makes_what_the_table_makes() {
    assert!(CrcInstruction::there(), "this processor cannot show it");
    for length in [0, 14, 100, 300, 9000, 70_000] {
        let content = words(length, 500);
        let (mut by_table, mut by_instruction) = (Vec::new(), Vec::new());
        let workspace = &mut Workspace::default();
        encode::encode::<Crc>(workspace, &content, length, &mut by_table, usize::MAX);
        encode::encode::<CrcInstruction>(
            workspace,
            &content,
            length,
            &mut by_instruction,
            usize::MAX,
        );
        assert_eq!(by_table, by_instruction);
        assert!(follow::follow::<Crc>(
            workspace, &by_table, &content, length
        ));
        assert!(follow::follow::<CrcInstruction>(
            workspace, &by_table, &content, length
        ));
    }
}

/// One literal where a match is possible: valid, and nothing an encoder makes.
#[test]
fn a_stream_without_matches_is_nobodys() {
    let content = words(100, 3);
    let mut stream = vec![100, 60 << 2, 99];
    stream.extend(&content);
    let decoded = snap::raw::Decoder::new().decompress_vec(&stream);
    assert_eq!(decoded.unwrap(), content);
    for encoder in Encoder::ALL {
        assert!(!encoder.makes(&mut Workspace::default(), &stream, &content, 100));
    }
}
