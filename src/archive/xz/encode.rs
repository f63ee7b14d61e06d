//! The xz side of packing: liblzma's multi-threaded encoder for the tar stream, a single-threaded one for the file
//! index, and one container around both.
//!
//! The file index must be one block however long it is, and pixz tells it from data, when it cannot seek, by a
//! block header without sizes. Both follow from encoding it apart from the rest.

use std::num::NonZeroUsize;

use tokio_util::sync::CancellationToken;
use xz2::stream::{Action, Check, MtStreamBuilder, Status, Stream};

use super::{EDGE, Record, footer, index, parse_index};
use crate::archive::{ArchiveError, Level};

/// Bytes given out at a time.
const CHUNK: usize = 256 << 10;
/// How long liblzma may block before it lets us look for a cancellation, in milliseconds.
const PATIENCE_MS: u32 = 200;

/// Where compressed bytes go; an error ends the encoding.
pub(in crate::archive) type Out<'a> = dyn FnMut(Vec<u8>) -> Result<(), ArchiveError> + 'a;

/// Encodes one archive.
pub(in crate::archive) struct Encoder<'a> {
    tar: Driver<'a>,
    level: Level,
    out: &'a mut Out<'a>,
}

impl<'a> Encoder<'a> {
    pub(in crate::archive) fn new(
        level: Level,
        threads: NonZeroUsize,
        cancel: &'a CancellationToken,
        out: &'a mut Out<'a>,
    ) -> Result<Self, ArchiveError> {
        let stream = builder(level, threads)
            .encoder()
            .map_err(ArchiveError::Compress)?;
        Ok(Self {
            tar: Driver::new(stream, cancel),
            level,
            out,
        })
    }

    /// Compresses a piece of the tar stream.
    pub(in crate::archive) fn write(&mut self, input: &[u8]) -> Result<(), ArchiveError> {
        self.tar.run(input, Action::Run, self.out)
    }

    /// Ends the tar stream and writes file index, xz index and footer; returns the number of blocks.
    pub(in crate::archive) fn finish(self, file_index: &[u8]) -> Result<u64, ArchiveError> {
        let Self {
            mut tar,
            level,
            out,
        } = self;
        let cancel = tar.cancel;
        tar.run(b"", Action::FullFlush, out)?;
        // With all blocks out, what liblzma still has to say is its own index and footer, which are replaced.
        let mut records = tar.records()?;

        let stream = Stream::new_easy_encoder(level.preset(), Check::Crc64)
            .map_err(ArchiveError::Compress)?;
        let mut single = Driver::new(stream, cancel);
        let mut header_left = EDGE;
        let mut skip_header = |mut bytes: Vec<u8>| {
            let skipped = header_left.min(bytes.len());
            header_left -= skipped;
            bytes.drain(..skipped);
            out(bytes)
        };
        single.run(file_index, Action::Run, &mut skip_header)?;
        single.run(b"", Action::FullFlush, &mut skip_header)?;
        records.extend(single.records()?);

        let mut tail = index(&records);
        tail.extend_from_slice(&footer(tail.len()));
        out(tail)?;
        Ok(records.len() as u64)
    }
}

fn builder(level: Level, threads: NonZeroUsize) -> MtStreamBuilder {
    let mut builder = MtStreamBuilder::new();
    builder
        .threads(u32::try_from(threads.get()).unwrap_or(u32::MAX))
        .block_size(level.block_size())
        .preset(level.preset())
        .check(Check::Crc64)
        .timeout_ms(PATIENCE_MS);
    builder
}

/// One of liblzma's encoders and the output it has not yet given out.
struct Driver<'a> {
    stream: Stream,
    buffer: Vec<u8>,
    cancel: &'a CancellationToken,
}

impl<'a> Driver<'a> {
    fn new(stream: Stream, cancel: &'a CancellationToken) -> Self {
        Self {
            stream,
            buffer: Vec::with_capacity(CHUNK),
            cancel,
        }
    }

    /// Goes on until `input` is taken or, with any action but `Run`, that action is complete and its output given out.
    fn run(
        &mut self,
        mut input: &[u8],
        action: Action,
        out: &mut Out<'_>,
    ) -> Result<(), ArchiveError> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(ArchiveError::Cancelled);
            }
            let before = self.stream.total_in();
            let status = self
                .stream
                .process_vec(input, &mut self.buffer, action)
                .map_err(ArchiveError::Compress)?;
            let taken = usize::try_from(self.stream.total_in() - before).unwrap_or(input.len());
            input = input.get(taken..).unwrap_or_default();
            let complete = match action {
                Action::Run => None,
                _ => Some(matches!(status, Status::StreamEnd)),
            };
            if self.buffer.len() == self.buffer.capacity() || complete == Some(true) {
                let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
                out(full)?;
            }
            if complete.unwrap_or(input.is_empty()) {
                return Ok(());
            }
        }
    }

    /// Ends a stream whose blocks are all out and returns what it says of them.
    fn records(mut self) -> Result<Vec<Record>, ArchiveError> {
        let mut tail = Vec::new();
        self.run(b"", Action::Finish, &mut |bytes| {
            tail.extend_from_slice(&bytes);
            Ok(())
        })?;
        let body = tail.len().checked_sub(EDGE).and_then(|end| tail.get(..end));
        parse_index(body.unwrap_or_default(), u64::MAX).map_err(|what| ArchiveError::Container {
            offset: 0,
            what: format!("as the compressor wrote it: {what}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Method;

    #[test]
    fn stated_memory_covers_what_liblzma_says_it_takes() {
        for level in (0..=9).filter_map(Level::new) {
            let said = |threads: usize| {
                let threads = NonZeroUsize::new(threads).unwrap();
                builder(level, threads).memusage()
            };
            let each = (said(17) - said(1)) / 16;
            let method = Method::Portable(level);
            let stated = method.thread_memory();
            assert!(
                each <= stated && stated - each < 3 << 20,
                "{level:?}: liblzma says {each}, we state {stated}"
            );
            assert!(said(1) <= method.base_memory() + stated);
        }
    }
}
