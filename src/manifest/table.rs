//! The per-file table: JSON lines in zstd, written and read as a stream.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};

use thiserror::Error;

use super::{EntryKind, FileEntry, Manifest};
use crate::error::{Exit, Explain};
use crate::ids::{Hash, ShardName};
use crate::store::StoreError;

/// zstd level: the table is small beside the archives, and mostly hashes.
const LEVEL: i32 = 3;
/// Window the reader accepts, as a power of two: 8 MiB. Level 3 uses 2 MiB.
const WINDOW_LOG_MAX: u32 = 23;
/// Longest line. Linux paths end at 4096 bytes, of which JSON escapes may make six times as many.
const LINE_MAX: u64 = 64 << 10;

/// Counts and hashes what passes.
struct Hashing<W> {
    inner: W,
    hasher: blake3::Hasher,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..taken).unwrap_or_default());
        self.size = self.size.saturating_add(taken as u64);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes a table to anything; memory does not grow with it.
pub struct TableWriter<W: Write> {
    encoder: zstd::stream::write::Encoder<'static, Hashing<W>>,
    entries: u64,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSummary {
    /// Compressed size in bytes.
    pub size: u64,
    /// BLAKE3 of the compressed bytes.
    pub hash: Hash,
    /// Number of lines.
    pub entries: u64,
}

impl<W: Write> TableWriter<W> {
    /// Begins a table.
    pub fn new(inner: W) -> io::Result<Self> {
        let hashing = Hashing {
            inner,
            hasher: blake3::Hasher::new(),
            size: 0,
        };
        let mut encoder = zstd::stream::write::Encoder::new(hashing, LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(Self {
            encoder,
            entries: 0,
        })
    }

    /// Appends one line.
    pub fn add(&mut self, entry: &FileEntry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.encoder.write_all(&line)?;
        self.entries = self.entries.saturating_add(1);
        Ok(())
    }

    /// Ends the table and gives back what it was written to, for the caller to finish.
    pub fn finish(self) -> io::Result<(W, TableSummary)> {
        let hashing = self.encoder.finish()?;
        let summary = TableSummary {
            size: hashing.size,
            hash: hashing.hasher.finalize().into(),
            entries: self.entries,
        };
        Ok((hashing.inner, summary))
    }
}

/// Why a table cannot be read or is not the manifest's.
#[derive(Debug, Error)]
pub enum TableError {
    /// The bytes cannot be read or decompressed.
    #[error("file table: {0}")]
    Read(#[source] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// A line is not an entry.
    #[error("file table, line {line}: {reason}")]
    Line {
        /// Line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// An archive has more or fewer entries than the manifest says.
    #[error("file table: {listed} entries of {shard}, the manifest says {expected}")]
    Count {
        /// The replica set.
        shard: ShardName,
        /// Lines in the table.
        listed: u64,
        /// What the manifest says.
        expected: u64,
    },
}

impl Explain for TableError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            _ => Some("the stored table is damaged: use another backup".into()),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
            _ => Exit::Damaged,
        }
    }
}

/// Reads a table line by line; memory is bounded whatever the bytes are.
pub struct TableReader<R: Read> {
    lines: BufReader<zstd::stream::read::Decoder<'static, BufReader<R>>>,
    line: u64,
    failed: bool,
}

impl<R: Read> TableReader<R> {
    /// Reads the compressed table from `inner`.
    pub fn new(inner: R) -> Result<Self, TableError> {
        let mut decoder = zstd::stream::read::Decoder::new(inner).map_err(read_failed)?;
        decoder
            .window_log_max(WINDOW_LOG_MAX)
            .map_err(read_failed)?;
        Ok(Self {
            lines: BufReader::new(decoder),
            line: 0,
            failed: false,
        })
    }

    fn read_line(&mut self) -> Result<Option<FileEntry>, TableError> {
        let mut text = Vec::new();
        (&mut self.lines)
            .take(LINE_MAX)
            .read_until(b'\n', &mut text)
            .map_err(read_failed)?;
        if text.is_empty() {
            return Ok(None);
        }
        self.line = self.line.saturating_add(1);
        let bad = |reason: String| TableError::Line {
            line: self.line,
            reason,
        };
        if text.last() != Some(&b'\n') {
            return Err(bad("it is too long or does not end".into()));
        }
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| bad(error.to_string()))
    }
}

fn read_failed(error: io::Error) -> TableError {
    match StoreError::from_io(error) {
        Ok(error) => TableError::Store(error),
        Err(error) => TableError::Read(error),
    }
}

impl<R: Read> Iterator for TableReader<R> {
    type Item = Result<FileEntry, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let entry = self.read_line().transpose();
        self.failed = matches!(entry, Some(Err(_)));
        entry
    }
}

/// Checks a table's entries against the manifest while they pass.
#[derive(Debug)]
pub struct TableCheck<'a> {
    archives: HashMap<&'a ShardName, Progress>,
    line: u64,
}

#[derive(Debug)]
struct Progress {
    listed: u64,
    expected: u64,
    tar_end: u64,
    tar_size: u64,
}

impl<'a> TableCheck<'a> {
    /// A check of the table of `manifest`.
    pub fn new(manifest: &'a Manifest) -> Self {
        let progress = |archive: &super::ArchiveRecord| Progress {
            listed: 0,
            expected: archive.files,
            tar_end: 0,
            tar_size: archive.tar_size,
        };
        Self {
            archives: manifest
                .members
                .iter()
                .map(|member| (&member.shard, progress(&member.archive)))
                .collect(),
            line: 0,
        }
    }

    /// Checks the next entry.
    pub fn entry(&mut self, entry: &FileEntry) -> Result<(), TableError> {
        self.line = self.line.saturating_add(1);
        let bad = |reason: &str| TableError::Line {
            line: self.line,
            reason: format!("{:?}: {reason}", entry.path),
        };
        let Some(archive) = self.archives.get_mut(&entry.shard) else {
            return Err(bad("its replica set is not in the manifest"));
        };
        if !is_path_inside(&entry.path) {
            return Err(bad("no path inside the archive"));
        }
        match (entry.kind, &entry.hash) {
            (EntryKind::File, Some(_)) => {}
            (EntryKind::Directory, None) if entry.size == 0 => {}
            _ => return Err(bad("a file has a hash; a directory has none, and no size")),
        }
        let end = entry.tar_offset.checked_add(entry.tar_length);
        if entry.tar_offset < archive.tar_end
            || entry.tar_length == 0
            || end.is_none_or(|end| end > archive.tar_size)
        {
            return Err(bad(
                "its place in the archive overlaps others or lies outside",
            ));
        }
        archive.tar_end = end.unwrap_or(u64::MAX);
        archive.listed = archive.listed.saturating_add(1);
        Ok(())
    }

    /// Checks that nothing is missing at the end.
    pub fn end(self) -> Result<(), TableError> {
        let mut wrong: Vec<_> = self
            .archives
            .into_iter()
            .filter(|(_, archive)| archive.listed != archive.expected)
            .collect();
        wrong.sort_by_key(|(shard, _)| *shard);
        match wrong.first() {
            None => Ok(()),
            Some((shard, archive)) => Err(TableError::Count {
                shard: (*shard).clone(),
                listed: archive.listed,
                expected: archive.expected,
            }),
        }
    }
}

/// Whether `path` is relative and stays where it is unpacked; "." is the data directory itself.
fn is_path_inside(path: &str) -> bool {
    path == "."
        || path
            .split('/')
            .all(|component| !matches!(component, "" | "." | "..") && !component.contains('\0'))
}

#[cfg(test)]
mod tests;
