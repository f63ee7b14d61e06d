//! HTTP/1.1 messages on the wire, as far as a proxy must understand them: heads, and where bodies end.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// The start line and the headers of a message.
pub struct Head {
    /// As they came, to be passed on so: requests are signed.
    pub bytes: Vec<u8>,
    /// With names in lower case.
    pub headers: Vec<(String, String)>,
    start_line: String,
}

impl Head {
    /// The head of the next message, none where the peer ended the connection before it.
    pub async fn read(source: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        if source.fill_buf().await?.is_empty() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        while read_line(source, &mut bytes).await? > LINE_END.len() {}
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines();
        let start_line = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Some(Self {
            start_line,
            headers,
            bytes,
        }))
    }

    /// The bytes without the headers of this lower-case name.
    pub fn without(&self, name: &str) -> Vec<u8> {
        let lines = self.bytes.split_inclusive(|byte| *byte == b'\n');
        let other = |line: &&[u8]| {
            let line = String::from_utf8_lossy(line).to_ascii_lowercase();
            !line.starts_with(&format!("{name}:"))
        };
        lines.filter(other).collect::<Vec<_>>().concat()
    }

    /// The method of a request.
    pub fn method(&self) -> &str {
        self.word(0)
    }

    /// The path and query of a request.
    pub fn target(&self) -> &str {
        self.word(1)
    }

    /// Whether this is not yet the answer, but a `100 Continue` or the like before it.
    pub fn is_interim(&self) -> bool {
        self.word(1).starts_with('1')
    }

    /// Whether the sender closes the connection after this message.
    pub fn ends_connection(&self) -> bool {
        let connection = self.header("connection").to_ascii_lowercase();
        let old = self.start_line.contains("HTTP/1.0");
        connection.contains("close") || old && !connection.contains("keep-alive")
    }

    /// Whether the client waits for leave to send the body.
    pub fn waits_for_continue(&self) -> bool {
        self.header("expect").eq_ignore_ascii_case("100-continue")
    }

    /// How the body of this request ends.
    pub fn request_framing(&self) -> Framing {
        self.declared_framing().unwrap_or(Framing::Length(0))
    }

    /// How the body of this answer to a request of this method ends.
    pub fn response_framing(&self, method: &str) -> Framing {
        if method == "HEAD" || matches!(self.word(1), "204" | "304") {
            return Framing::Length(0);
        }
        self.declared_framing().unwrap_or(Framing::UntilClose)
    }

    fn declared_framing(&self) -> Option<Framing> {
        let encoding = self.header("transfer-encoding").to_ascii_lowercase();
        if encoding.ends_with("chunked") {
            return Some(Framing::Chunked);
        }
        self.header("content-length")
            .parse()
            .ok()
            .map(Framing::Length)
    }

    fn header(&self, name: &str) -> &str {
        find(&self.headers, name).unwrap_or_default()
    }

    fn word(&self, number: usize) -> &str {
        self.start_line.split(' ').nth(number).unwrap_or_default()
    }
}

/// The value of the first header of this lower-case name.
pub fn find<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers
        .iter()
        .find_map(|(found, value)| (found == name).then_some(value.as_str()))
}

/// How the end of a body is known.
#[derive(Clone, Copy)]
pub enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Framing {
    /// The length of the body if it is known beforehand.
    pub fn length(self) -> Option<u64> {
        match self {
            Self::Length(length) => Some(length),
            Self::Chunked | Self::UntilClose => None,
        }
    }
}

/// A stretch of a body as it is on the wire.
pub enum Piece<'p> {
    /// What only tells the lengths of chunks, and trailers.
    Framing(&'p [u8]),
    /// What the message is about.
    Content(&'p [u8]),
}

/// A body that is read piece by piece; all its pieces together are what came over the wire.
pub struct Body<'s, S> {
    source: &'s mut S,
    framing: Framing,
    /// Content up to the end of the body or of the current chunk.
    left: u64,
    /// What was handed out of the source's buffer and not yet taken from it.
    lent: usize,
    /// The framing before the current chunk.
    chunk_head: Vec<u8>,
}

impl<'s, S: AsyncBufRead + Unpin> Body<'s, S> {
    /// The body that follows the head just read from `source`.
    pub fn new(source: &'s mut S, framing: Framing) -> Self {
        let left = match framing {
            Framing::Length(length) => length,
            Framing::Chunked => 0,
            Framing::UntilClose => u64::MAX,
        };
        Self {
            source,
            framing,
            left,
            lent: 0,
            chunk_head: Vec::new(),
        }
    }

    /// The next piece, with at most `most` bytes of content; none at the end of the body.
    pub async fn next(&mut self, most: u64) -> io::Result<Option<Piece<'_>>> {
        self.source.consume(self.lent);
        self.lent = 0;
        if self.left == 0 {
            return match self.framing {
                Framing::Chunked => self.next_chunk().await.map(Some),
                Framing::Length(_) | Framing::UntilClose => Ok(None),
            };
        }
        let buffered = self.source.fill_buf().await?;
        if buffered.is_empty() {
            return match self.framing {
                Framing::UntilClose => Ok(None),
                Framing::Length(_) | Framing::Chunked => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        let most = usize::try_from(self.left.min(most)).unwrap_or(usize::MAX);
        let piece = &buffered[..buffered.len().min(most)];
        self.lent = piece.len();
        self.left -= piece.len() as u64;
        Ok(Some(Piece::Content(piece)))
    }

    /// Whether there is no connection after this body.
    pub fn ended_with_connection(&self) -> bool {
        matches!(self.framing, Framing::UntilClose)
    }

    async fn next_chunk(&mut self) -> io::Result<Piece<'_>> {
        let is_first = self.chunk_head.is_empty();
        self.chunk_head.clear();
        if !is_first {
            read_line(self.source, &mut self.chunk_head).await?;
        }
        let size_at = self.chunk_head.len();
        read_line(self.source, &mut self.chunk_head).await?;
        self.left = chunk_size(&self.chunk_head[size_at..])?;
        if self.left == 0 {
            while read_line(self.source, &mut self.chunk_head).await? > LINE_END.len() {}
            self.framing = Framing::Length(0);
        }
        Ok(Piece::Framing(&self.chunk_head))
    }
}

const LINE_END: &[u8] = b"\r\n";

/// Appends the next line with its end; its length.
async fn read_line(
    source: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> io::Result<usize> {
    let length = source.read_until(b'\n', line).await?;
    if line.last() != Some(&b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(length)
}

fn chunk_size(line: &[u8]) -> io::Result<u64> {
    let line = String::from_utf8_lossy(line);
    let digits = line.split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(digits, 16)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
