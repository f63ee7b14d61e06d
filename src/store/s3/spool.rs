//! One part on its way: in memory, or in a file without a name where it is too large for that.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use aws_sdk_s3::primitives::{ByteStream, Length};
use md5::{Digest, Md5};
use tokio::sync::OwnedSemaphorePermit;

use crate::blocking::off_thread;

/// A part being filled or sent. It holds its share of memory, or its place in the spool, until it is dropped.
#[derive(Debug)]
pub(super) struct Part {
    content: Content,
    hash: Md5,
    len: u64,
    _share: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Content {
    Memory(Vec<u8>),
    /// Unlinked from the beginning: whatever becomes of us, the kernel frees it.
    File(Arc<File>),
}

impl Part {
    pub(super) fn in_memory(size: u64, share: OwnedSemaphorePermit) -> Self {
        let size = usize::try_from(size).unwrap_or_default();
        Self::of(Content::Memory(Vec::with_capacity(size)), share)
    }

    /// In a new file in `folder`.
    pub(super) async fn in_file(
        folder: &Path,
        share: OwnedSemaphorePermit,
    ) -> std::io::Result<Self> {
        let folder = folder.to_owned();
        let making = move || {
            std::fs::create_dir_all(&folder)?;
            tempfile::tempfile_in(&folder)
        };
        let file = off_thread(making).await?;
        Ok(Self::of(Content::File(Arc::new(file)), share))
    }

    fn of(content: Content, share: OwnedSemaphorePermit) -> Self {
        Self {
            content,
            hash: Md5::new(),
            len: 0,
            _share: share,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) async fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hash.update(bytes);
        self.len = self.len.saturating_add(bytes.len() as u64);
        match &mut self.content {
            Content::Memory(content) => content.extend_from_slice(bytes),
            Content::File(file) => {
                let (file, bytes) = (file.clone(), bytes.to_vec());
                off_thread(move || (&*file).write_all(&bytes)).await?;
            }
        }
        Ok(())
    }

    /// No more is appended: its hash, and what can be sent as often as need be.
    pub(super) fn seal(self) -> SealedPart {
        SealedPart {
            digest: self.hash.finalize().into(),
            len: self.len,
            content: match self.content {
                Content::Memory(content) => Sealed::Memory(content.into()),
                Content::File(file) => Sealed::File(file),
            },
            _share: self._share,
        }
    }
}

/// A whole part.
#[derive(Debug)]
pub(super) struct SealedPart {
    pub digest: [u8; 16],
    pub len: u64,
    content: Sealed,
    _share: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Sealed {
    Memory(bytes::Bytes),
    File(Arc<File>),
}

impl SealedPart {
    /// The content from its first byte, for one try.
    pub(super) async fn body(&self) -> Result<ByteStream, String> {
        match &self.content {
            Sealed::Memory(content) => Ok(ByteStream::from(content.clone())),
            // By its descriptor's path, which opens it anew with a position of its own.
            Sealed::File(file) => ByteStream::read_from()
                .path(format!("/proc/self/fd/{}", file.as_raw_fd()))
                .length(Length::Exact(self.len))
                .buffer_size(1 << 20)
                .build()
                .await
                .map_err(|error| super::retry::chain(&error)),
        }
    }
}
