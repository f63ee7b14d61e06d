//! Decoding one block: out of its frame, its documents put together, then WiredTiger's compression back in place.

use zstd::bulk::Decompressor;

use super::{AS_IT_IS, SHREDDED, frame};
use crate::archive::ArchiveError;
use crate::archive::container::{Block, Frame};
use crate::archive::shred::Rebuild;
use crate::archive::unsnap::{self, Inverse};

/// Decodes blocks; its buffers are used again.
pub(in crate::archive) struct Decoder {
    zstd: Decompressor<'static>,
    rebuild: Rebuild,
    inverse: Inverse,
    content: Vec<u8>,
}

impl Decoder {
    pub(in crate::archive) fn new() -> Result<Self, ArchiveError> {
        Ok(Self {
            zstd: Decompressor::new().map_err(ArchiveError::Zstd)?,
            rebuild: Rebuild::default(),
            inverse: Inverse::default(),
            content: Vec::new(),
        })
    }

    /// Restores into `plain` the content of `block`, whose bytes in the object are `raw`. `coded` is what
    /// the index says of it.
    pub(in crate::archive) fn decode(
        &mut self,
        block: &Block,
        coded: Frame,
        raw: &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<(), ArchiveError> {
        frame::check(raw, coded.content).map_err(|what| block.damaged(what))?;
        // zstd goes on with a second frame behind the first, and passes over skippable ones.
        let frame_size = zstd::zstd_safe::find_frame_compressed_size(raw)
            .map_err(|code| block.damaged(zstd::zstd_safe::get_error_name(code)))?;
        if frame_size != raw.len() {
            return Err(block.damaged("its frame ends before it should"));
        }
        let size = |bytes: u64| {
            usize::try_from(bytes).map_err(|_| block.damaged("it is larger than memory"))
        };
        let (content, plain_size) = (size(coded.content)?, size(block.length)?);
        self.content.clear();
        self.content.reserve(content);
        let found = self
            .zstd
            .decompress_to_buffer(raw, &mut self.content)
            .map_err(|error| block.damaged(error))?;
        if found != content {
            return Err(block.damaged("its frame does not hold what it says"));
        }
        let limit = usize::try_from(coded.limit).unwrap_or(usize::MAX);
        let restored = match coded.marked.then(|| self.content.pop()) {
            None | Some(Some(AS_IT_IS)) => self
                .inverse
                .restore(&self.content, plain_size, plain)
                .map_err(|damage| block.damaged(damage)),
            Some(Some(SHREDDED)) => self
                .restore_shredded(limit, plain_size, plain)
                .map_err(|what| block.damaged(what)),
            Some(_) => Err(block.damaged("it does not say how it is made")),
        };
        restored?;
        if crc32fast::hash(plain) != coded.checksum {
            return Err(block.damaged("its content does not match the checksum in the index"));
        }
        Ok(())
    }

    /// Restores the content, whose payload is shredded and must be no longer than `limit` with what stands behind it.
    fn restore_shredded(
        &mut self,
        limit: usize,
        plain_size: usize,
        plain: &mut Vec<u8>,
    ) -> Result<(), String> {
        let (shredded, control) =
            unsnap::split_payload(&self.content).map_err(|damage| damage.to_string())?;
        let payload = self
            .rebuild
            .rebuild(shredded, limit.saturating_sub(control.len()))
            .map_err(|damage| format!("its payload is shredded, and {damage}"))?;
        self.inverse
            .restore_payload(payload, control, plain_size, plain)
            .map_err(|damage| damage.to_string())
    }
}
