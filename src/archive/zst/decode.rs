//! Decoding one block: out of its frame, then WiredTiger's compression back in place.

use zstd::bulk::Decompressor;

use super::frame;
use crate::archive::ArchiveError;
use crate::archive::container::Block;
use crate::archive::unsnap::{Damage, Inverse};

/// Decodes blocks; its buffers are used again.
pub(in crate::archive) struct Decoder {
    zstd: Decompressor<'static>,
    inverse: Inverse,
    content: Vec<u8>,
}

impl Decoder {
    pub(in crate::archive) fn new() -> Result<Self, ArchiveError> {
        Ok(Self {
            zstd: Decompressor::new().map_err(ArchiveError::Zstd)?,
            inverse: Inverse::default(),
            content: Vec::new(),
        })
    }

    /// Restores into `plain` the content of `block`, whose bytes in the object are `raw`. `content` and `checksum` are what
    /// the index says of it.
    pub(in crate::archive) fn decode(
        &mut self,
        block: &Block,
        content: u64,
        checksum: u32,
        raw: &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<(), ArchiveError> {
        frame::check(raw, content).map_err(|what| block.damaged(what))?;
        // zstd goes on with a second frame behind the first, and passes over skippable ones.
        let frame_size = zstd::zstd_safe::find_frame_compressed_size(raw)
            .map_err(|code| block.damaged(zstd::zstd_safe::get_error_name(code)))?;
        if frame_size != raw.len() {
            return Err(block.damaged("its frame ends before it should"));
        }
        let size = |bytes: u64| {
            usize::try_from(bytes).map_err(|_| block.damaged("it is larger than memory"))
        };
        let (content, plain_size) = (size(content)?, size(block.length)?);
        self.content.clear();
        self.content.reserve(content);
        let found = self
            .zstd
            .decompress_to_buffer(raw, &mut self.content)
            .map_err(|error| block.damaged(error))?;
        if found != content {
            return Err(block.damaged("its frame does not hold what it says"));
        }
        self.inverse
            .restore(&self.content, plain_size, plain)
            .map_err(|damage: Damage| block.damaged(damage))?;
        if crc32fast::hash(plain) != checksum {
            return Err(block.damaged("its content does not match the checksum in the index"));
        }
        Ok(())
    }
}
