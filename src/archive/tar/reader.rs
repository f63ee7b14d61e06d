//! Reads the tar stream back, one entry at a time. Trusts nothing in it.

use super::super::ArchiveError;
use super::super::extents::{self, Segment};
use super::header::{BLOCK, Header, entry_path};
use super::{Entry, LONGEST_PAX, Xattr, padding, pax};
use crate::manifest::EntryKind;

/// Where the stream comes from.
pub(in crate::archive) trait Source {
    /// Some bytes that follow; empty only at the end.
    fn fill(&mut self) -> Result<&[u8], ArchiveError>;
    /// Goes on behind `count` of the bytes that [`Self::fill`] gave.
    fn consume(&mut self, count: usize);
}

/// A piece of an entry's content, in order.
pub(in crate::archive) enum Piece<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// This many zeros that are not stored.
    Hole(u64),
}

/// A position in the stream.
pub(in crate::archive) struct Reader<S> {
    source: S,
    offset: u64,
}

impl<S: Source> Reader<S> {
    /// Reads `source`, whose first byte is at `offset` of the stream.
    pub(in crate::archive) fn new(source: S, offset: u64) -> Self {
        Self { source, offset }
    }

    /// Offset of the next byte.
    pub(in crate::archive) fn offset(&self) -> u64 {
        self.offset
    }

    /// What the stream is read from.
    pub(in crate::archive) fn into_source(self) -> S {
        self.source
    }

    fn damaged(&self, what: impl Into<String>) -> ArchiveError {
        ArchiveError::Tar {
            offset: self.offset,
            what: what.into(),
        }
    }

    fn read(
        &mut self,
        mut length: u64,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        while length > 0 {
            let bytes = self.source.fill()?;
            let count = bytes
                .len()
                .min(usize::try_from(length).unwrap_or(usize::MAX));
            if count == 0 {
                return Err(self.damaged("the stream ends too early"));
            }
            visit(bytes.get(..count).unwrap_or_default())?;
            self.source.consume(count);
            self.offset += count as u64;
            length -= count as u64;
        }
        Ok(())
    }

    fn block(&mut self) -> Result<[u8; BLOCK], ArchiveError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        self.read(BLOCK as u64, &mut |bytes| {
            for (to, from) in block.iter_mut().skip(filled).zip(bytes) {
                *to = *from;
            }
            filled += bytes.len();
            Ok(())
        })?;
        Ok(block)
    }

    fn zeros(&mut self, length: u64) -> Result<(), ArchiveError> {
        let offset = self.offset;
        self.read(length, &mut |bytes| {
            if bytes.iter().any(|b| *b != 0) {
                return Err(ArchiveError::Tar {
                    offset,
                    what: "padding is not zero".into(),
                });
            }
            Ok(())
        })
    }

    /// The next entry's headers, or none at the trailer, which is checked as far as `end`, the stream's length.
    pub(in crate::archive) fn entry(&mut self, end: u64) -> Result<Option<Entry>, ArchiveError> {
        let mut block = self.block()?;
        if block == [0; BLOCK] {
            let rest = end.saturating_sub(self.offset);
            if rest < BLOCK as u64 {
                return Err(self.damaged("the trailer is too short"));
            }
            self.zeros(rest)?;
            return Ok(None);
        }
        let mut attributes = pax::Attributes::default();
        let first = Header::parse(&block).map_err(|what| self.damaged(what))?;
        if first.typeflag == b'x' {
            let size = first.size;
            if size > LONGEST_PAX {
                return Err(self.damaged("a pax header is too long"));
            }
            let mut body = Vec::new();
            self.read(size, &mut |bytes| {
                body.extend_from_slice(bytes);
                Ok(())
            })?;
            self.zeros(padding(size) as u64)?;
            attributes = pax::parse(&body).map_err(|what| self.damaged(what))?;
            block = self.block()?;
        }
        // Others mean something to the host (capabilities, labels, lists of who may), and no archive of ours holds them.
        let foreign = |(name, _): &Xattr| !name.starts_with(b"user.");
        if attributes.xattrs.iter().any(foreign) {
            return Err(self.damaged("an extended attribute that is none of a user's"));
        }
        let header = Header::parse(&block).map_err(|what| self.damaged(what))?;
        let kind = match header.typeflag {
            b'0' => EntryKind::File,
            b'5' => EntryKind::Directory,
            other => {
                return Err(self.damaged(format!("an entry of the type {:?}", char::from(other))));
            }
        };
        let name = attributes
            .sparse_name
            .or(attributes.path)
            .unwrap_or_else(|| header.full_name());
        let (mtime, mtime_ns) = attributes
            .mtime
            .unwrap_or((i64::try_from(header.mtime).unwrap_or(i64::MAX), 0));
        let (mode, uid, gid, stored) = (header.mode, header.uid, header.gid, header.size);
        let narrow =
            |id| u32::try_from(id).map_err(|_| self.damaged("an owner is no 32-bit number"));
        let mut entry = Entry {
            path: entry_path(&name, kind)?,
            kind,
            size: attributes.sparse_size.unwrap_or(stored),
            mode,
            uid: narrow(uid)?,
            gid: narrow(gid)?,
            mtime,
            mtime_ns,
            xattrs: attributes.xattrs,
            segments: None,
        };
        if kind == EntryKind::Directory && (stored > 0 || attributes.sparse_size.is_some()) {
            return Err(self.damaged("a directory with content"));
        }
        if let Some(size) = attributes.sparse_size {
            entry.segments = Some(self.map(stored, size)?);
        }
        Ok(Some(entry))
    }

    /// The map at the head of a sparse file's stored bytes.
    fn map(&mut self, stored: u64, size: u64) -> Result<Vec<Segment>, ArchiveError> {
        let begin = self.offset;
        let mut parser = extents::MapParser::default();
        loop {
            let block = self.block()?;
            let taken = self.offset - begin;
            if taken > stored {
                return Err(self.damaged("a sparse file's map is longer than its entry"));
            }
            if let Some(segments) = parser
                .feed(&block, size)
                .map_err(|what| self.damaged(what))?
            {
                let data: u64 = segments.iter().map(|s| s.length).sum();
                if data != stored - taken {
                    return Err(self.damaged("a sparse file's map and its data differ in length"));
                }
                return Ok(segments);
            }
        }
    }

    /// The content of the entry whose headers were just read, and the padding after it.
    pub(in crate::archive) fn content(
        &mut self,
        entry: &Entry,
        visit: &mut dyn FnMut(Piece<'_>) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        match &entry.segments {
            None => self.read(entry.size, &mut |bytes| visit(Piece::Data(bytes)))?,
            Some(segments) => {
                let mut at = 0;
                for segment in segments {
                    if segment.offset > at {
                        visit(Piece::Hole(segment.offset - at))?;
                    }
                    self.read(segment.length, &mut |bytes| visit(Piece::Data(bytes)))?;
                    at = segment.offset + segment.length;
                }
                if entry.size > at {
                    visit(Piece::Hole(entry.size - at))?;
                }
            }
        }
        self.zeros(padding(entry.data_size()) as u64)
    }
}
