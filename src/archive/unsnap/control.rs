//! The transformed block: payload, control bytes, and their length in the last four bytes.
//!
//! The control bytes are runs: the number of literal bytes, the number of units behind them, and, if there are units, a byte that
//! says what they are. The payload has for each run its literal bytes as they are, and for each unit its head as it is and
//! its content decompressed; how long that is the head tells.

use super::super::integer;
use super::Kind;
use super::inverse::Damage;

/// Bytes of the length of the control bytes.
pub(super) const TRAILER: usize = 4;
/// The control bytes of one run at most.
pub(super) const LONGEST_RUN: usize = 19;

/// Literal bytes, and units behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Run {
    /// Bytes that are stored as they are.
    pub literal: u64,
    /// How many units follow.
    pub units: u64,
    /// What they are, if there are any.
    pub kind: Option<Kind>,
}

impl Run {
    /// Appends the run, unless there is nothing in it.
    pub(super) fn push(self, control: &mut Vec<u8>) {
        if self.literal == 0 && self.units == 0 {
            return;
        }
        integer::push(control, self.literal);
        integer::push(control, self.units);
        if let Some(kind) = self.kind {
            control.push(kind.number());
        }
    }

    /// Takes a run off the front of the control bytes.
    pub(super) fn take(control: &mut &[u8]) -> Result<Self, Damage> {
        let mut number = || integer::take(control).ok_or(Damage::Control);
        let (literal, units) = (number()?, number()?);
        if literal == 0 && units == 0 {
            return Err(Damage::Control);
        }
        let kind = if units == 0 {
            None
        } else {
            let (number, rest) = control.split_first().ok_or(Damage::Control)?;
            *control = rest;
            Some(Kind::of(*number).ok_or(Damage::Kind(*number))?)
        };
        Ok(Self {
            literal,
            units,
            kind,
        })
    }
}

/// The payload of a transformed block, and what stands behind it: the control bytes and their length.
pub(crate) fn split_payload(content: &[u8]) -> Result<(&[u8], &[u8]), Damage> {
    let (rest, length) = content
        .split_last_chunk::<TRAILER>()
        .ok_or(Damage::Truncated)?;
    usize::try_from(u32::from_le_bytes(*length))
        .ok()
        .and_then(|length| rest.len().checked_sub(length))
        .and_then(|payload| content.split_at_checked(payload))
        .ok_or(Damage::Truncated)
}
