//! How large the parts of an object are, so that it fits into the parts a server allows. Pure.
//!
//! A part that failed is sent again from memory or from a file, so parts are as small as the size to come allows. That
//! size is a guess (an archive is mostly smaller than its data, and may be larger), so nine tenths of the parts
//! hold an eighth more than what is expected, and the last tenth grow: each hundredth of the parts is twice the size of the one before.

use crate::config::s3::MIN_PART;

/// S3's largest part.
pub const MAX_PART: u64 = 5 << 30;
/// Parts are whole multiples of this.
const GRAIN: u64 = 1 << 20;

/// The sizes of an object's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartSizes {
    base: u64,
    uniform: u64,
    step: u64,
    max_parts: u64,
}

impl PartSizes {
    /// For an object of about `expected` bytes in at most `max_parts` parts.
    pub fn new(expected: Option<u64>, max_parts: u32) -> Self {
        let max_parts = u64::from(max_parts.max(2));
        let uniform = (max_parts * 9 / 10).max(1);
        let step = ((max_parts - uniform) / 10).max(1);
        let wanted = expected.unwrap_or(0);
        let wanted = wanted.saturating_add(wanted / 8).div_ceil(uniform);
        let base = wanted.clamp(MIN_PART, MAX_PART).next_multiple_of(GRAIN);
        Self {
            base,
            uniform,
            step,
            max_parts,
        }
    }

    /// The size of part `number`, counted from 1; none where there are no more parts.
    pub fn size(&self, number: u64) -> Option<u64> {
        if number == 0 || number > self.max_parts {
            return None;
        }
        let beyond = number.saturating_sub(self.uniform);
        let doublings = u32::try_from(beyond.div_ceil(self.step)).unwrap_or(u32::MAX);
        let grown = self.base.saturating_mul(2u64.saturating_pow(doublings));
        Some(grown.min(MAX_PART))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Parts used, and the largest of them; none where it does not fit.
    fn cut(sizes: &PartSizes, mut object: u64) -> Option<(u64, u64)> {
        let (mut number, mut largest) = (0, 0);
        while object > 0 || number == 0 {
            number += 1;
            let size = sizes.size(number)?;
            largest = largest.max(size.min(object));
            object = object.saturating_sub(size);
        }
        Some((number, largest))
    }

    const TB: u64 = 1_000_000_000_000;

    #[test]
    fn ten_terabytes_fit_and_small_objects_have_small_parts() {
        for (expected, object, largest) in [
            (Some(0), 0, 0),
            (Some(1000), 1000, 1000),
            (Some(1 << 30), 1 << 30, MIN_PART),
            (Some(TB), TB, 120 << 20),
            (Some(10 * TB), 10 * TB, 1195 << 20),
            // What comes is four times what was expected.
            (Some(TB), 4 * TB, MAX_PART),
            (None, 300 << 30, 2 << 30),
        ] {
            let (parts, seen) = cut(&PartSizes::new(expected, 10_000), object).unwrap();
            assert!(parts <= 10_000);
            assert!(seen <= largest, "{expected:?} {object}: {seen}");
        }
    }

    #[test]
    fn there_is_an_end() {
        let sizes = PartSizes::new(None, 1000);
        assert!(sizes.size(1000).is_some());
        assert_eq!((sizes.size(1001), sizes.size(0)), (None, None));
    }

    proptest! {
        #[test]
        fn what_is_expected_fits_with_room(expected in 0u64..40 * TB, max_parts in 100u32..=10_000) {
            let sizes = PartSizes::new(Some(expected), max_parts);
            let possible = u64::from(max_parts) * MAX_PART;
            prop_assume!(expected.saturating_add(expected / 8) < possible * 8 / 10);
            let (parts, largest) = cut(&sizes, expected).unwrap();
            prop_assert!(parts <= u64::from(max_parts) && largest <= MAX_PART);
        }

        #[test]
        fn parts_never_shrink_and_are_never_too_small(expected: Option<u64>, max_parts in 2u32..=10_000) {
            let sizes = PartSizes::new(expected, max_parts);
            let mut before = MIN_PART;
            for number in 1..=u64::from(max_parts) {
                let size = sizes.size(number).unwrap();
                prop_assert!(size >= before && size <= MAX_PART);
                before = size;
            }
        }
    }
}
