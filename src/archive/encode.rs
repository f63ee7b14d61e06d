//! The xz side of packing: liblzma's multi-threaded encoder for the tar stream, a single-threaded one for the file
//! index, and one container around both.
//!
//! The file index must be one block however long it is, and pixz tells it from data, when it cannot seek, by a
//! block header without sizes. Both follow from encoding it apart from the rest.

use xz2::stream::{Action, Check, MtStreamBuilder, Status, Stream};

use super::xz::{self, EDGE, Record};
use super::{ArchiveError, PackOptions};

/// Bytes given out at a time.
const CHUNK: usize = 256 << 10;
/// How long liblzma may block before it lets us look for a cancellation, in milliseconds.
const PATIENCE_MS: u32 = 200;

/// Where compressed bytes go; an error ends the encoding.
pub(super) type Out<'a> = dyn FnMut(Vec<u8>) -> Result<(), ArchiveError> + 'a;

/// Encodes one archive.
pub(super) struct Encoder<'a> {
    stream: Stream,
    options: &'a PackOptions,
    out: &'a mut Out<'a>,
    buffer: Vec<u8>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(
        options: &'a PackOptions,
        out: &'a mut Out<'a>,
    ) -> Result<Self, ArchiveError> {
        let stream = MtStreamBuilder::new()
            .threads(u32::try_from(options.threads.get()).unwrap_or(u32::MAX))
            .block_size(options.level.block_size())
            .preset(options.level.preset())
            .check(Check::Crc64)
            .timeout_ms(PATIENCE_MS)
            .encoder()
            .map_err(ArchiveError::Compress)?;
        Ok(Self {
            stream,
            options,
            out,
            buffer: Vec::with_capacity(CHUNK),
        })
    }

    /// Compresses a piece of the tar stream.
    pub(super) fn write(&mut self, mut input: &[u8]) -> Result<(), ArchiveError> {
        while !input.is_empty() {
            let before = self.stream.total_in();
            self.stream
                .process_vec(input, &mut self.buffer, Action::Run)
                .map_err(ArchiveError::Compress)?;
            let taken = usize::try_from(self.stream.total_in() - before).unwrap_or(input.len());
            input = input.get(taken..).unwrap_or_default();
            // Given out even when not full: a timeout passes here, and the receiver notices a cancellation.
            if self.buffer.len() == self.buffer.capacity() {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ArchiveError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        (self.out)(full)
    }

    /// Ends the tar stream and writes file index, xz index and footer; returns the number of blocks.
    pub(super) fn finish(mut self, file_index: &[u8]) -> Result<u64, ArchiveError> {
        // With all blocks out, what liblzma still has to say is its own index and footer, which are replaced.
        run(
            &mut self.stream,
            b"",
            Action::FullFlush,
            &mut self.buffer,
            self.out,
        )?;
        self.flush()?;
        let mut records = records_of(&mut self.stream)?;

        let mut single = Stream::new_easy_encoder(self.options.level.preset(), Check::Crc64)
            .map_err(ArchiveError::Compress)?;
        let mut header_left = EDGE;
        let out = &mut *self.out;
        let mut skip_header = |mut bytes: Vec<u8>| {
            let skipped = header_left.min(bytes.len());
            header_left -= skipped;
            bytes.drain(..skipped);
            out(bytes)
        };
        run(
            &mut single,
            file_index,
            Action::Run,
            &mut self.buffer,
            &mut skip_header,
        )?;
        run(
            &mut single,
            b"",
            Action::FullFlush,
            &mut self.buffer,
            &mut skip_header,
        )?;
        skip_header(std::mem::take(&mut self.buffer))?;
        records.extend(records_of(&mut single)?);

        let mut tail = xz::index(&records);
        tail.extend_from_slice(&xz::footer(tail.len()));
        (self.out)(tail)?;
        Ok(records.len() as u64)
    }
}

/// Drives `stream` until it has taken `input` and, for any action but `Run`, reached that action's end.
fn run(
    stream: &mut Stream,
    mut input: &[u8],
    action: Action,
    buffer: &mut Vec<u8>,
    out: &mut Out<'_>,
) -> Result<(), ArchiveError> {
    loop {
        if buffer.capacity() == buffer.len() {
            out(std::mem::replace(buffer, Vec::with_capacity(CHUNK)))?;
        }
        let before = stream.total_in();
        let status = stream
            .process_vec(input, buffer, action)
            .map_err(ArchiveError::Compress)?;
        let taken = usize::try_from(stream.total_in() - before).unwrap_or(input.len());
        input = input.get(taken..).unwrap_or_default();
        let done = match action {
            Action::Run => input.is_empty(),
            _ => matches!(status, Status::StreamEnd),
        };
        if done {
            return Ok(());
        }
    }
}

/// Ends a stream whose blocks are all out and returns what it says of them.
fn records_of(stream: &mut Stream) -> Result<Vec<Record>, ArchiveError> {
    let mut tail = Vec::new();
    let mut buffer = Vec::with_capacity(CHUNK);
    let mut keep = |bytes: Vec<u8>| {
        tail.extend_from_slice(&bytes);
        Ok(())
    };
    run(stream, b"", Action::Finish, &mut buffer, &mut keep)?;
    keep(buffer)?;
    let index = tail.len().checked_sub(EDGE).and_then(|end| tail.get(..end));
    xz::parse_index(index.unwrap_or_default()).map_err(|what| ArchiveError::Container {
        offset: 0,
        what: format!("as the compressor wrote it: {what}"),
    })
}
