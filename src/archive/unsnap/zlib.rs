//! The streams of WiredTiger's zlib compressor: deflate at level 6, which is what MongoDB sets, by the C library as everybody has it.
//!
//! There is no following here: the stream is made again, which takes as long as it took mongod.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// MongoDB leaves WiredTiger's default.
const LEVEL: u32 = 6;
/// What a stream of that level begins with.
const MAGIC: [u8; 2] = [0x78, 0x9C];
/// Bytes that are made before they are compared.
const STEP: usize = 1 << 12;
/// How many bytes of what turned out to be no such stream are read, for each byte of a block.
const PATIENCE: u64 = 4;
/// To make a byte takes as long as to read so many.
const MAKING: u64 = 8;

/// What making and reading such streams takes: made where the first is met.
#[derive(Debug, Default)]
pub(super) struct Zlib {
    compress: Option<Compress>,
    decompress: Option<Decompress>,
    /// Bytes that may still be read in vain.
    patience: u64,
}

impl Zlib {
    /// A block of that length begins.
    pub(super) fn begin(&mut self, block: usize) {
        self.patience = (block as u64).saturating_mul(PATIENCE);
    }

    /// How long the stream at the beginning of `packed` is, if it is one of exactly as many bytes as `content` has room for, which are there then.
    pub(super) fn decode(&mut self, packed: &[u8], content: &mut [u8]) -> Option<usize> {
        if !packed.starts_with(&MAGIC) || self.patience == 0 {
            return None;
        }
        let decompress = self.decompress.get_or_insert_with(|| Decompress::new(true));
        decompress.reset(true);
        let status = decompress.decompress(packed, content, FlushDecompress::Finish);
        let whole = decompress.total_out() == content.len() as u64;
        if !matches!(status, Ok(Status::StreamEnd)) || !whole {
            self.patience = self.patience.saturating_sub(decompress.total_out() + 1);
            return None;
        }
        usize::try_from(decompress.total_in()).ok()
    }

    /// Whether `stream` is what is made of `content`.
    pub(super) fn makes(&mut self, stream: &[u8], content: &[u8]) -> bool {
        let mut rest = stream;
        let same = self.make(content, |bytes| match rest.strip_prefix(bytes) {
            Some(behind) => {
                rest = behind;
                true
            }
            None => false,
        });
        let made = same && rest.is_empty();
        if !made {
            let read = (content.len() as u64).saturating_mul(MAKING);
            self.patience = self.patience.saturating_sub(read);
        }
        made
    }

    /// Appends what is made of `content`. False where `out` would become longer than `most`.
    pub(super) fn encode(&mut self, content: &[u8], out: &mut Vec<u8>, most: usize) -> bool {
        self.make(content, |bytes| {
            let fits = bytes.len() <= most.saturating_sub(out.len());
            if fits {
                out.extend_from_slice(bytes);
            }
            fits
        })
    }

    /// Makes the stream and gives it to `take`, piece by piece, until that says no; whether it never did.
    fn make(&mut self, content: &[u8], mut take: impl FnMut(&[u8]) -> bool) -> bool {
        let compress = self
            .compress
            .get_or_insert_with(|| Compress::new(Compression::new(LEVEL), true));
        compress.reset();
        let mut piece = [0; STEP];
        loop {
            let (read, made) = (compress.total_in(), compress.total_out());
            let rest = content.get(read as usize..).unwrap_or_default();
            let status = compress.compress(rest, &mut piece, FlushCompress::Finish);
            let made = (compress.total_out() - made) as usize;
            if !take(piece.get(..made).unwrap_or_default()) {
                return false;
            }
            match status {
                Ok(Status::StreamEnd) => return true,
                Ok(Status::Ok | Status::BufError) if made > 0 => {}
                _ => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn streams_are_read_and_made_again(
            words in prop::collection::vec(0u8..20, 0..30_000), noise in prop::collection::vec(any::<u8>(), 0..5000), behind in 0usize..20,
        ) {
            let content = [&words[..], &noise, &words].concat();
            let (mut zlib, mut stream) = (Zlib::default(), Vec::new());
            zlib.begin(1 << 20);
            prop_assert!(zlib.encode(&content, &mut stream, usize::MAX));
            let length = stream.len();
            prop_assert!(zlib.makes(&stream, &content));
            prop_assert!(!zlib.encode(&content, &mut Vec::new(), length - 1));
            stream.resize(length + behind, 0);
            let mut decoded = vec![1; content.len()];
            prop_assert_eq!(zlib.decode(&stream, &mut decoded), Some(length));
            prop_assert_eq!(&decoded, &content);
            decoded.push(0);
            prop_assert_eq!(zlib.decode(&stream, &mut decoded), None);
            decoded.truncate(content.len().saturating_sub(1));
            prop_assert!(content.is_empty() || zlib.decode(&stream, &mut decoded).is_none());
            prop_assert_eq!(zlib.makes(&stream, &content), behind == 0);
        }
    }
    #[test]
    fn the_bytes_of_streams_are_those_of_all_archives_there_are() {
        let mut state = 1u32;
        let content: Vec<u8> = (0..300_000u32)
            .map(|at| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = (state >> 24) as u8;
                if at % 5000 < 4000 { noise % 7 } else { noise }
            })
            .collect();
        let mut stream = Vec::new();
        assert!(Zlib::default().encode(&content, &mut stream, usize::MAX));
        // As zlib 1.2.13 makes it. Should another library make something else, archives that `small` made could not be read.
        assert_eq!(stream.len(), 171_679);
        assert_eq!(crc32fast::hash(&stream), 2_800_041_030);
    }

    #[test]
    fn no_more_is_read_in_vain_than_a_block_is_worth() {
        let content = vec![7; 100_000];
        let (mut zlib, mut stream) = (Zlib::default(), Vec::new());
        assert!(zlib.encode(&content, &mut stream, usize::MAX));
        zlib.begin(100_000);
        let mut room = vec![0; 100_001];
        assert_eq!(
            zlib.decode(&stream, &mut room[..100_000]),
            Some(stream.len())
        );
        for _ in 0..4 {
            assert_eq!(zlib.decode(&stream, &mut room), None);
        }
        assert_eq!(zlib.decode(&stream, &mut room[..100_000]), None);
        zlib.begin(100_000);
        assert_eq!(
            zlib.decode(&stream, &mut room[..100_000]),
            Some(stream.len())
        );
    }
}
