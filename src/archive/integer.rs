//! Integers of seven bits a byte, lowest first, as .xz has them ("The .xz File Format", section 1.2) and our own containers too.

/// The largest number that can be written: nine bytes.
pub(super) const MAX: u64 = u64::MAX / 2;

/// Appends `value`, which is at most [`MAX`].
pub(super) fn push(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number off the front. None where the bytes end within it, where it is longer than nine bytes, or where it could
/// be written shorter: a number has one writing only.
pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for position in 0..9 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7F) << (7 * position);
        if first & 0x80 == 0 {
            return (*first != 0 || position == 0).then_some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips_and_has_one_writing_only(value in 0..=MAX, bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut written = Vec::new();
            push(&mut written, value);
            let mut rest = &written[..];
            prop_assert_eq!(take(&mut rest), Some(value));
            prop_assert!(rest.is_empty());

            let mut rest = &bytes[..];
            if let Some(read) = take(&mut rest) {
                let mut again = Vec::new();
                push(&mut again, read);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - rest.len()]);
            }
        }
    }
}
