//! Archives as they are made by somebody who may write the store: the container sound, manifest and table in accord, and
//! inside whatever was put there. Tests of [`crate::hostile`] use it; the program does not.

use std::num::NonZeroUsize;
use std::ops::Range;

use tokio_util::sync::CancellationToken;

use super::container::Layout;
use super::decode::with_blocks;
use super::file_index::FileIndex;
use super::read::ArchiveRead;
use super::stream::hash_zeros;
use super::tar::{BLOCK, Entry, Piece, Reader, Source};
use super::xz::{self, EDGE, Encoder, HEADER};
use super::{ArchiveError, ExpectedArchive, Level, Profile, zst};
use crate::ids::ShardName;
use crate::manifest::{EntryKind, FileEntry};
use crate::store::StoreError;

/// Zeros of holes that are hashed to make a table; the hash of a file with more is left wrong.
const MOST_ZEROS: u64 = 64 << 20;
/// The longest stream that is taken out of an object.
const LONGEST_STREAM: u64 = 16 << 20;

/// An archive, and what manifest and table say that agrees with it.
#[derive(Debug, Clone)]
pub struct Forged {
    /// The object.
    pub object: Vec<u8>,
    /// Size, hash and lengths, as they are.
    pub expected: ExpectedArchive,
    /// A line for every entry that could be read.
    pub entries: Vec<FileEntry>,
}

/// An archive in memory.
impl ArchiveRead for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let place = |at| usize::try_from(at).unwrap_or(usize::MAX);
        self.get(place(range.start)..place(range.end))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| StoreError::Truncated {
                store: "memory".into(),
                key: "archive".into(),
                size: self.size(),
                wanted: range.end,
            })
    }
}

/// A sound container around `stream`, whatever it is, with the table and file index of what can be read of it.
///
/// # Errors
/// [`ArchiveError::Compress`] where liblzma cannot begin.
pub fn forge(stream: &[u8], shard: &ShardName) -> Result<Forged, ArchiveError> {
    let (entries, file_index) = believe(stream, shard);
    let (object, mut expected) = contain(stream, &file_index)?;
    expected.data_size = data_size(&entries);
    Ok(Forged {
        object,
        expected,
        entries,
    })
}

/// `object` as it is, with the manifest's numbers and the table of what can be read of it.
pub fn accept(object: Vec<u8>, shard: &ShardName) -> Forged {
    let mut expected = promised(&object);
    let stream = stream_of(&object).unwrap_or_default();
    let (entries, _) = believe(&stream, shard);
    expected.data_size = data_size(&entries);
    Forged {
        object,
        expected,
        entries,
    }
}

/// The tar stream of an object that says of itself what it is; none where it is unreadable or long.
pub fn unwrap(object: &Vec<u8>) -> Option<Vec<u8>> {
    stream_of(object)
}

/// `stream` with the checksum of every header mended, so that what was changed in one is read.
pub fn mend_checksums(mut stream: Vec<u8>) -> Vec<u8> {
    for block in stream.chunks_exact_mut(BLOCK) {
        if block.get(257..262) != Some(b"ustar") {
            continue;
        }
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let own = block.get(148..156).map_or(0, sum);
        let text = format!("{:06o}\0 ", sum(block) - own + 8 * u32::from(b' '));
        if let Some(field) = block.get_mut(148..156) {
            field.copy_from_slice(text.as_bytes());
        }
    }
    stream
}

/// `object` with the container's own checksums mended: edges, index, and of an .xz object the headers of the blocks that the
/// index names. What a block holds keeps its own.
pub fn mend_container(object: Vec<u8>) -> Vec<u8> {
    match object.get(1..4) {
        Some([0x2A, 0x4D, 0x18]) => zst::mend(object),
        _ => mend_xz(object),
    }
}

fn mend_xz(mut object: Vec<u8>) -> Vec<u8> {
    let size = object.len();
    let Some(footer_at) = size.checked_sub(EDGE).filter(|at| *at >= EDGE) else {
        return object;
    };
    let Some([_, _, _, _, b0, b1, b2, b3, ..]) = object.last_chunk::<EDGE>().copied() else {
        return object;
    };
    let backward = u32::from_le_bytes([b0, b1, b2, b3]) as usize;
    let index_size = backward.saturating_add(1).saturating_mul(4);
    put(&mut object, 0, &HEADER);
    put(&mut object, footer_at, &xz::footer(index_size));
    let Some(index_at) = footer_at.checked_sub(index_size) else {
        return object;
    };
    put_checksum(&mut object, index_at, index_size);
    let index = object.get(index_at..footer_at).unwrap_or_default();
    let records = xz::parse_index(index, index_at as u64).unwrap_or_default();
    let mut block_at = EDGE;
    for record in records {
        let units = object.get(block_at).copied().unwrap_or_default();
        put_checksum(&mut object, block_at, (usize::from(units) + 1) * 4);
        block_at = block_at.saturating_add(usize::try_from(record.total()).unwrap_or(usize::MAX));
    }
    object
}

/// The CRC32 of all but the last four of `length` bytes, into those four.
fn put_checksum(object: &mut [u8], at: usize, length: usize) {
    let end = at.saturating_add(length.saturating_sub(4));
    if let Some(body) = object.get(at..end) {
        let checksum = crc32fast::hash(body).to_le_bytes();
        put(object, end, &checksum);
    }
}

fn put(object: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in object.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

/// How many blocks the container of `forged` has, as far as it is sound.
pub fn blocks(forged: &Forged) -> usize {
    Layout::read(&forged.object, &forged.expected).map_or(0, |layout| layout.blocks.len())
}

/// A container around `stream` and `file_index`; `data_size` is left for the caller to fill in.
pub(super) fn contain(
    stream: &[u8],
    file_index: &[u8],
) -> Result<(Vec<u8>, ExpectedArchive), ArchiveError> {
    let level = Level::new(0).unwrap_or_default();
    let mut object = Vec::new();
    let mut out = |bytes: Vec<u8>| {
        object.extend(bytes);
        Ok(())
    };
    let cancel = CancellationToken::new();
    let mut encoder = Encoder::new(level, NonZeroUsize::MIN, &cancel, &mut out)?;
    encoder.write(stream)?;
    let blocks = encoder.finish(file_index)?;
    let expected = ExpectedArchive {
        profile: Profile::Portable.name().to_owned(),
        size: object.len() as u64,
        hash: blake3::hash(&object).into(),
        blocks,
        tar_size: stream.len() as u64,
        data_size: 0,
    };
    Ok((object, expected))
}

fn data_size(entries: &[FileEntry]) -> u64 {
    entries
        .iter()
        .fold(0u64, |sum, entry| sum.saturating_add(entry.size))
        .min(MOST_ZEROS)
}

/// What a manifest would say of an object, as the object has it; its files' sizes are left for the caller to fill in.
fn promised(object: &Vec<u8>) -> ExpectedArchive {
    let layout = Layout::open(object).ok();
    let profile = layout.as_ref().map_or(Profile::Portable, |it| it.profile);
    ExpectedArchive {
        profile: profile.name().to_owned(),
        size: object.len() as u64,
        hash: blake3::hash(object).into(),
        blocks: layout.as_ref().map_or(1, Layout::block_count),
        tar_size: layout.as_ref().map_or(1, |it| it.tar_size),
        data_size: 0,
    }
}

fn stream_of(object: &Vec<u8>) -> Option<Vec<u8>> {
    let layout = Layout::open(object).ok()?;
    if layout.tar_size > LONGEST_STREAM {
        return None;
    }
    let all = 0..layout.blocks.len();
    let mut stream = Vec::new();
    with_blocks(
        object,
        &layout,
        all,
        NonZeroUsize::MIN,
        None,
        &CancellationToken::new(),
        |mut blocks| {
            loop {
                let bytes = blocks.fill()?;
                let count = bytes.len();
                if count == 0 {
                    return Ok(());
                }
                stream.extend_from_slice(bytes);
                blocks.consume(count);
            }
        },
    )
    .ok()?;
    Some(stream)
}

struct Bytes<'a>(&'a [u8]);

impl Source for Bytes<'_> {
    fn fill(&mut self) -> Result<&[u8], ArchiveError> {
        Ok(self.0)
    }
    fn consume(&mut self, count: usize) {
        self.0 = self.0.get(count..).unwrap_or_default();
    }
}

/// The table's lines and the file index of `stream`, as far as it can be read.
fn believe(stream: &[u8], shard: &ShardName) -> (Vec<FileEntry>, Vec<u8>) {
    let mut reader = Reader::new(Bytes(stream), 0);
    let mut entries = Vec::new();
    let mut index = FileIndex::new(Vec::new());
    loop {
        let offset = reader.offset();
        let Ok(Some(entry)) = reader.entry(stream.len() as u64) else {
            break;
        };
        index.add(&entry.path, entry.kind, offset);
        let content = hash_of(&mut reader, &entry);
        let whole = content.is_some();
        let hash = content.unwrap_or_else(|| blake3::hash(b""));
        entries.push(FileEntry {
            shard: shard.clone(),
            path: entry.path.to_table(),
            kind: entry.kind,
            size: entry.size,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            mtime_ns: entry.mtime_ns,
            hash: (entry.kind == EntryKind::File).then(|| hash.into()),
            tar_offset: offset,
            tar_length: reader.offset() - offset,
        });
        if !whole {
            break;
        }
    }
    (entries, index.finish(stream.len() as u64))
}

fn hash_of(reader: &mut Reader<Bytes<'_>>, entry: &Entry) -> Option<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut zeros = MOST_ZEROS;
    reader
        .content(entry, &mut |piece| {
            match piece {
                Piece::Data(bytes) => {
                    hasher.update(bytes);
                }
                Piece::Hole(length) => {
                    let hashed = length.min(zeros);
                    zeros -= hashed;
                    hash_zeros(&mut hasher, hashed, &CancellationToken::new())?;
                }
            }
            Ok(())
        })
        .ok()?;
    Some(hasher.finalize())
}
