//! From a transformed block to the plain one.

use thiserror::Error;

use super::super::integer;
use super::control::Run;
use super::{MAX_CONTENT, MAX_PLAIN};

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
pub(crate) struct Inverse {}

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
        if plain_size > MAX_PLAIN || content.len() > MAX_CONTENT {
            return Err(Damage::TooLarge);
        }
        let mut payload = content;
        let length = integer::take(&mut payload).ok_or(Damage::Control)?;
        let mut control = take(&mut payload, length)?;
        plain.clear();
        plain.reserve(plain_size);
        while !control.is_empty() {
            let run = Run::take(&mut control)?;
            let literal = take(&mut payload, run.literal)?;
            if literal.len() > plain_size - plain.len() {
                return Err(Damage::PlainSize);
            }
            plain.extend_from_slice(literal);
            if run.units > 0 {
                return Err(Damage::Kind(run.kind));
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
}

/// Takes `length` bytes off the front.
fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], Damage> {
    let (taken, rest) = usize::try_from(length)
        .ok()
        .and_then(|length| bytes.split_at_checked(length))
        .ok_or(Damage::Truncated)?;
    *bytes = rest;
    Ok(taken)
}
