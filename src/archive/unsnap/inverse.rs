//! From a transformed block to the plain one.

use thiserror::Error;

use super::control::{Run, TRAILER, split_payload};
use super::shape::Shape;
use super::snappy::Workspace;
use super::zlib::Zlib;
use super::{Kind, MAX_CONTENT, MAX_PLAIN, Method};

/// Why a transformed block is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Damage {
    /// Longer than any writer makes one.
    #[error("the block is larger than a block may be")]
    TooLarge,
    /// The control bytes.
    #[error("the control bytes of the block are not sound")]
    Control,
    /// The payload is shorter than the control bytes say.
    #[error("the block ends before what its control bytes tell of")]
    Truncated,
    /// There is more than the control bytes tell of.
    #[error("the block goes on behind what its control bytes tell of")]
    Surplus,
    /// A kind of unit that this version does not know.
    #[error("the block holds units of kind {0:#04x}, which this version does not know")]
    Kind(u8),
    /// A unit that no writer makes.
    #[error("a page or record in the block contradicts itself")]
    Unit,
    /// The plain block is not as long as it should be.
    #[error("the block does not give as many bytes as it should")]
    PlainSize,
}

/// Restores blocks. It holds nothing but buffers that are used again.
#[derive(Debug, Default)]
pub(crate) struct Inverse {
    workspace: Workspace,
    zlib: Zlib,
}

impl Inverse {
    /// Restores the plain block of `plain_size` bytes from `content` into `plain`, whose old bytes go. After an error what
    /// `plain` holds means nothing.
    ///
    /// # Errors
    /// [`Damage`] where `content` is nothing that [`Forward`](super::Forward) makes of a block of that size.
    pub(crate) fn restore(
        &mut self,
        content: &[u8],
        plain_size: usize,
        plain: &mut Vec<u8>,
    ) -> Result<(), Damage> {
        let (payload, control) = split_payload(content)?;
        self.restore_payload(payload, control, plain_size, plain)
    }

    /// The same of a block whose payload and whose rest, as [`split_payload`] gives them, lie in two places.
    ///
    /// # Errors
    /// As [`Self::restore`].
    pub(crate) fn restore_payload(
        &mut self,
        mut payload: &[u8],
        control: &[u8],
        plain_size: usize,
        plain: &mut Vec<u8>,
    ) -> Result<(), Damage> {
        if plain_size > MAX_PLAIN || payload.len() + control.len() > MAX_CONTENT {
            return Err(Damage::TooLarge);
        }
        let (control, _) = control
            .split_last_chunk::<TRAILER>()
            .ok_or(Damage::Truncated)?;
        let mut control = control;
        plain.clear();
        plain.reserve_exact(plain_size);
        while !control.is_empty() {
            let run = Run::take(&mut control)?;
            let literal = usize::try_from(run.literal).map_err(|_| Damage::Truncated)?;
            let literal = take(&mut payload, literal)?;
            if literal.len() > plain_size.saturating_sub(plain.len()) {
                return Err(Damage::PlainSize);
            }
            plain.extend_from_slice(literal);
            let Some(kind) = run.kind else {
                continue;
            };
            for _ in 0..run.units {
                self.unit(kind, &mut payload, plain_size, plain)?;
            }
        }
        if !payload.is_empty() {
            return Err(Damage::Surplus);
        }
        if plain.len() != plain_size {
            return Err(Damage::PlainSize);
        }
        Ok(())
    }

    /// Takes a unit off the front of the payload and appends it as it was.
    fn unit(
        &mut self,
        kind: Kind,
        payload: &mut &[u8],
        plain_size: usize,
        plain: &mut Vec<u8>,
    ) -> Result<(), Damage> {
        let shape = kind.shape;
        let header = shape.header(payload).filter(|header| header.compressed);
        let header = header.ok_or(Damage::Unit)?;
        let head = take(payload, shape.head())?;
        let content = *payload;
        let length = take(payload, header.content)?.len();
        // A record's padding comes as literal bytes, for it is not always zeros.
        let end = plain.len().saturating_add(header.total);
        if end > plain_size {
            return Err(Damage::PlainSize);
        }
        plain.extend_from_slice(head);
        let prefix = plain.len();
        plain.resize(prefix + kind.method.prefix(), 0);
        let start = plain.len();
        let made = match kind.method {
            Method::Snappy(encoder) => {
                encoder.encode(&mut self.workspace, content, length, plain, end)
            }
            Method::Zlib => {
                let content = content.get(..length).unwrap_or_default();
                self.zlib.encode(content, plain, end)
            }
        };
        if !made {
            return Err(Damage::Unit);
        }
        let length = ((plain.len() - start) as u64).to_le_bytes();
        if let Some(place) = plain.get_mut(prefix..start) {
            for (place, byte) in place.iter_mut().zip(length) {
                *place = byte;
            }
        }
        if shape == Shape::Page {
            plain.resize(end, 0);
        }
        Ok(())
    }
}

/// Takes `length` bytes off the front.
fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Damage> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Damage::Truncated)?;
    *bytes = rest;
    Ok(taken)
}
