//! The control bytes of a transformed block: runs of literal bytes, each followed by units of one kind.

use super::super::integer;
use super::inverse::Damage;

/// Literal bytes, and units behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Bytes that are stored as they are.
    pub literal: u64,
    /// How many units follow.
    pub units: u64,
    /// What they are; without units there is no such byte.
    pub kind: u8,
}

impl Run {
    pub(super) fn push(self, control: &mut Vec<u8>) {
        integer::push(control, self.literal);
        integer::push(control, self.units);
        if self.units > 0 {
            control.push(self.kind);
        }
    }

    /// Takes a run off the front of the control bytes.
    pub(super) fn take(control: &mut &[u8]) -> Result<Self, Damage> {
        let mut number = || integer::take(control).ok_or(Damage::Control);
        let (literal, units) = (number()?, number()?);
        let kind = match control.split_first() {
            _ if units == 0 => 0,
            Some((kind, rest)) => {
                *control = rest;
                *kind
            }
            None => return Err(Damage::Control),
        };
        if literal == 0 && units == 0 {
            return Err(Damage::Control);
        }
        Ok(Self {
            literal,
            units,
            kind,
        })
    }
}
