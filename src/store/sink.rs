//! Writing an object from a thread: `std::io::Write` onto an [`ObjectWriter`].

use std::io::{self, Write};

use tokio::runtime::Handle;

use super::{ObjectWriter, StoreError, Stored};

/// Bytes gathered before they are handed to the store.
const CHUNK: usize = 1 << 20;

/// An object as a blocking writer, for threads that move bytes.
///
/// Each write waits while the store is slower: the store's own bounded queue is the only buffer
/// besides one chunk here. Dropped before [`BlockingSink::finish`], it leaves nothing visible.
///
/// Use it on a thread of its own or in `spawn_blocking`; inside an async task it panics, since waiting there would stall the runtime.
pub struct BlockingSink {
    writer: Box<dyn ObjectWriter>,
    runtime: Handle,
    gathered: Vec<u8>,
}

impl BlockingSink {
    /// Writes to `writer`, whose store lives on `runtime`.
    pub fn new(writer: Box<dyn ObjectWriter>, runtime: Handle) -> Self {
        Self {
            writer,
            runtime,
            gathered: Vec::new(),
        }
    }

    /// Hands over the last bytes. What comes holds nothing that writers of other objects wait for.
    pub fn seal(mut self) -> Result<SealedSink, StoreError> {
        self.hand_over()?;
        self.runtime.block_on(self.writer.seal())?;
        Ok(SealedSink {
            writer: self.writer,
            runtime: self.runtime,
        })
    }

    /// Makes the object visible, durable, with exactly the bytes written.
    pub fn finish(self) -> Result<Stored, StoreError> {
        self.seal()?.finish()
    }

    /// Gives the object up.
    pub fn abort(self) -> Result<(), StoreError> {
        self.runtime.block_on(self.writer.abort())
    }

    fn hand_over(&mut self) -> Result<(), StoreError> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.gathered);
        self.runtime.block_on(self.writer.write(chunk))
    }
}

/// An object whose last byte was handed over, and which is not visible yet. Dropped, it leaves nothing visible.
pub struct SealedSink {
    writer: Box<dyn ObjectWriter>,
    runtime: Handle,
}

impl SealedSink {
    /// Makes the object visible, durable, with exactly the bytes written.
    pub fn finish(self) -> Result<Stored, StoreError> {
        self.runtime.block_on(self.writer.finish())
    }
}

impl Write for BlockingSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK.saturating_sub(self.gathered.len());
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or(bytes);
        if self.gathered.capacity() == 0 {
            self.gathered.reserve_exact(CHUNK);
        }
        self.gathered.extend_from_slice(taken);
        if self.gathered.len() >= CHUNK {
            self.hand_over().map_err(StoreError::into_io)?;
        }
        Ok(taken.len())
    }

    /// Does nothing: a store shows an object only when it is whole, so there is nothing to flush it to.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StoreError {
    /// The error as a thread that reads or writes through `std::io` sees it; [`StoreError::from_io`] gets it back.
    pub fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::Exists { .. } => io::ErrorKind::AlreadyExists,
            Self::NotFound { .. } | Self::NoFolder { .. } => io::ErrorKind::NotFound,
            Self::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            Self::InvalidKey { .. } | Self::InvalidUrl { .. } | Self::OtherServer { .. } => {
                io::ErrorKind::InvalidInput
            }
            Self::Denied { .. }
            | Self::NoAccess { .. }
            | Self::Untrusted { .. }
            | Self::LockRefused { .. } => io::ErrorKind::PermissionDenied,
            Self::Unavailable { .. } => io::ErrorKind::TimedOut,
            // Not `Interrupted`, which callers of `write_all` would retry for ever.
            Self::Refused { .. } | Self::Interrupted { .. } => io::ErrorKind::Other,
            // Callers of `write_all` would retry it for ever.
            Self::Io { source, .. } if source.kind() == io::ErrorKind::Interrupted => {
                io::ErrorKind::Other
            }
            Self::Io { source, .. } => source.kind(),
        };
        io::Error::new(kind, self)
    }

    /// The store's error inside `error`, if it came from [`StoreError::into_io`].
    pub fn from_io(error: io::Error) -> Result<Self, io::Error> {
        error.downcast::<Self>()
    }
}
