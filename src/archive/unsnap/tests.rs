//! Round trips of blocks.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn any_bytes_come_back(plain in prop::collection::vec(any::<u8>(), 0..4096), offset in 0..1u64 << 40) {
        let span = Span { start: 0, length: plain.len(), file_offset: offset, kind: FileKind::Data };
        let mut content = Vec::new();
        Forward::default().transform(&plain, &[span], MAX_CONTENT, &mut content);
        let mut back = Vec::new();
        Inverse::default().restore(&content, plain.len(), &mut back).unwrap();
        prop_assert_eq!(back, plain);
    }
}
