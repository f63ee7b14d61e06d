//! Headers written and read back, and headers that nobody should believe.

use proptest::prelude::*;

use super::*;
use crate::archive::{ArchiveError, ArchivePath};

struct Bytes<'a>(&'a [u8]);

impl Source for Bytes<'_> {
    fn fill(&mut self) -> Result<&[u8], ArchiveError> {
        // Small pieces, so that every boundary is crossed somewhere.
        Ok(&self.0[..self.0.len().min(61)])
    }
    fn consume(&mut self, count: usize) {
        self.0 = &self.0[count..];
    }
}

fn read(bytes: &[u8]) -> Result<Option<Entry>, ArchiveError> {
    Reader::new(Bytes(bytes), 0).entry(bytes.len() as u64)
}

fn entry() -> impl Strategy<Value = Entry> {
    let path = "([a-z]{1,120}|[é%=]{1,30})(/[a-z]{1,100}){0,4}";
    let xattrs = prop::collection::btree_map(
        "user\\.[a-z=%]{1,9}",
        prop::collection::vec(any::<u8>(), 0..40),
        0..3,
    );
    let segments = prop::option::of(prop::collection::vec(
        (1u64..1 << 35, 1u64..1 << 35),
        0..100,
    ));
    (
        path,
        any::<bool>(),
        0u64..1 << 50,
        0u32..0o10000,
        any::<(u32, u32)>(),
        any::<i32>(),
        0u32..1_000_000_000,
        xattrs,
        segments,
    )
        .prop_map(
            |(path, is_dir, size, mode, (uid, gid), mtime, mtime_ns, xattrs, segments)| {
                let kind = if is_dir {
                    EntryKind::Directory
                } else {
                    EntryKind::File
                };
                let mut at = 0;
                let segments: Option<Vec<_>> = segments.filter(|_| !is_dir).map(|pairs| {
                    pairs
                        .into_iter()
                        .map(|(hole, length)| {
                            let segment = Segment {
                                offset: at + hole,
                                length,
                            };
                            at += hole + length;
                            segment
                        })
                        .collect()
                });
                Entry {
                    path: ArchivePath::new(path.as_bytes()).unwrap(),
                    kind,
                    size: match (is_dir, &segments) {
                        (true, _) => 0,
                        (_, Some(_)) => at + size,
                        _ => size,
                    },
                    mode,
                    uid,
                    gid,
                    mtime: i64::from(mtime) * 8,
                    mtime_ns,
                    xattrs: xattrs
                        .into_iter()
                        .map(|(k, v)| (k.into_bytes(), v))
                        .collect(),
                    segments,
                }
            },
        )
}

proptest! {
    #[test]
    fn headers_round_trip(entry in entry()) {
        let bytes = headers(&entry).unwrap();
        prop_assert_eq!(bytes.len() % BLOCK, 0);
        prop_assert_eq!(read(&bytes).unwrap(), Some(entry));
    }

    #[test]
    fn changed_headers_never_panic(entry in entry(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = headers(&entry).unwrap();
        for (place, byte) in changes {
            *place.get_mut(&mut bytes[..]) = byte;
        }
        // With checksums that fit, so that the parser gets to see the change.
        let blocks: Vec<usize> = (0..bytes.len()).step_by(BLOCK).filter(|at| &bytes[at + 257..at + 262] == b"ustar").collect();
        for at in blocks {
            bytes[at + 148..at + 156].fill(b' ');
            let sum: u32 = bytes[at..at + BLOCK].iter().map(|b| u32::from(*b)).sum();
            bytes[at + 148..at + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let _ = read(&bytes);
    }

    #[test]
    fn truncated_headers_are_errors(entry in entry(), place: prop::sample::Index) {
        let bytes = headers(&entry).unwrap();
        prop_assert!(read(&bytes[..place.index(bytes.len())]).is_err());
    }
}

#[test]
fn a_trailer_ends_the_stream() {
    assert_eq!(read(&[0; 1024]).unwrap(), None);
    assert!(read(&[0; 512]).is_err());
    let mut dirty = [0; 10240];
    dirty[9000] = 1;
    assert!(read(&dirty).is_err());
}
