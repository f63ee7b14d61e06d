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

/// What making and reading such streams takes: made where the first is met.
#[derive(Debug, Default)]
pub(super) struct Zlib {
    compress: Option<Compress>,
    decompress: Option<Decompress>,
}

impl Zlib {
    /// How long the stream at the beginning of `packed` is, if it is one of exactly as many bytes as `content` has room for, which are there then.
    pub(super) fn decode(&mut self, packed: &[u8], content: &mut [u8]) -> Option<usize> {
        if !packed.starts_with(&MAGIC) {
            return None;
        }
        let decompress = self.decompress.get_or_insert_with(|| Decompress::new(true));
        decompress.reset(true);
        let status = decompress.decompress(packed, content, FlushDecompress::Finish);
        let whole = decompress.total_out() == content.len() as u64;
        let length = usize::try_from(decompress.total_in()).ok()?;
        (matches!(status, Ok(Status::StreamEnd)) && whole).then_some(length)
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
        same && rest.is_empty()
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
}
