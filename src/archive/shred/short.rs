//! Short pieces of bytes, which are most of what is moved: a call for each would take longer than the bytes do.

/// What is moved at once: a piece that is no longer, whatever it is, without a branch on its length.
pub(super) const STRIDE: usize = 32;

/// Where the first zero is; most texts are short.
#[inline(always)]
pub(super) fn find_zero(bytes: &[u8]) -> Option<usize> {
    const LOWEST: u64 = 0x0101_0101_0101_0101;
    const HIGHEST: u64 = 0x8080_8080_8080_8080;
    if let Some(first) = bytes.first_chunk::<STRIDE>() {
        for (number, eight) in first.as_chunks::<8>().0.iter().enumerate() {
            let word = u64::from_le_bytes(*eight);
            // The lowest bit that is set is that of the first zero; those above it mean nothing.
            let zeros = word.wrapping_sub(LOWEST) & !word & HIGHEST;
            if zeros != 0 {
                return Some(8 * number + zeros.trailing_zeros() as usize / 8);
            }
        }
    }
    memchr::memchr(0, bytes)
}

/// Copies `from` to the front of `to`, as much as there is room.
#[inline(always)]
pub(super) fn copy(to: &mut [u8], from: &[u8]) {
    /// Both ends, which overlap in the middle.
    #[inline(always)]
    fn ends<const N: usize>(to: &mut [u8], from: &[u8]) {
        if let (Some(place), Some(bytes)) = (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
            *place = *bytes;
        }
        if let (Some(place), Some(bytes)) = (to.last_chunk_mut::<N>(), from.last_chunk::<N>()) {
            *place = *bytes;
        }
    }
    let length = from.len().min(to.len());
    let (Some(to), Some(from)) = (to.get_mut(..length), from.get(..length)) else {
        return;
    };
    match length {
        0 => {}
        1 => ends::<1>(to, from),
        2..4 => ends::<2>(to, from),
        4..8 => ends::<4>(to, from),
        8..=16 => ends::<8>(to, from),
        17..=32 => ends::<16>(to, from),
        _ => to.copy_from_slice(from),
    }
}

/// Bytes in the making, and no more than so many.
#[derive(Debug)]
pub(super) struct Output<'a> {
    /// Never longer than the limit by more than [`STRIDE`], so that what there is room for needs no other check.
    bytes: &'a mut Vec<u8>,
    made: usize,
    limit: usize,
}

/// More than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMuch;

impl<'a> Output<'a> {
    /// Writes over what `bytes` hold; what they are does not matter, but growing takes time.
    pub(super) fn new(bytes: &'a mut Vec<u8>, limit: usize) -> Self {
        bytes.truncate(limit + STRIDE);
        Self {
            bytes,
            made: 0,
            limit,
        }
    }

    /// How many bytes are made; the last ones may be beyond the limit.
    #[inline(always)]
    pub(super) fn made(&self) -> usize {
        self.made
    }

    /// How many bytes were made.
    pub(super) fn finish(self) -> Result<usize, TooMuch> {
        if self.made > self.limit {
            return Err(TooMuch);
        }
        Ok(self.made)
    }

    /// What is made from `start` on.
    pub(super) fn from(&self, start: usize) -> &[u8] {
        self.bytes.get(start..self.made).unwrap_or_default()
    }

    /// Where the next `N` bytes go, if there is room for them.
    #[inline(always)]
    fn place<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.bytes.get_mut(self.made..)?.first_chunk_mut()
    }

    /// Makes room for `count` bytes, if they may come.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, count: usize) -> Result<(), TooMuch> {
        let end = self.made.checked_add(count).ok_or(TooMuch)?;
        if end > self.limit {
            return Err(TooMuch);
        }
        let ample = end.max(self.bytes.len().saturating_mul(2)).min(self.limit) + STRIDE;
        let more = ample.saturating_sub(self.bytes.len());
        self.bytes.reserve_exact(more);
        self.bytes.resize(self.bytes.len() + more, 0);
        Ok(())
    }

    /// Appends the first `count` bytes of `from`, which has as many; it is faster where it has more.
    #[inline(always)]
    pub(super) fn push_first(&mut self, from: &[u8], count: usize) -> Result<(), TooMuch> {
        if count <= STRIDE
            && let Some(from) = from.first_chunk::<STRIDE>()
            && let Some(place) = self.place()
        {
            *place = *from;
            self.made += count;
            return Ok(());
        }
        self.push_long(from.get(..count).unwrap_or_default())
    }

    /// Appends `bytes`, be they as many as they may.
    #[inline(never)]
    fn push_long(&mut self, bytes: &[u8]) -> Result<(), TooMuch> {
        if self.bytes.len().saturating_sub(self.made) < bytes.len() {
            self.grow(bytes.len())?;
        }
        copy(self.bytes.get_mut(self.made..).unwrap_or_default(), bytes);
        self.made += bytes.len();
        Ok(())
    }

    /// Appends `bytes`.
    #[inline(always)]
    pub(super) fn push<const N: usize>(&mut self, bytes: [u8; N]) -> Result<(), TooMuch> {
        let Some(place) = self.place() else {
            return self.push_long(&bytes);
        };
        *place = bytes;
        self.made += N;
        Ok(())
    }

    /// Writes over four bytes that were made.
    #[inline(always)]
    pub(super) fn set(&mut self, at: usize, bytes: [u8; 4]) {
        let place = self.bytes.get_mut(at..self.made);
        if let Some(place) = place.and_then(<[u8]>::first_chunk_mut) {
            *place = bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn zeros_are_found(bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0x80), any::<u8>()], 0..80), zeros in 0usize..80) {
            let mut bytes = bytes;
            for byte in bytes.iter_mut().take(zeros) {
                *byte = (*byte).max(1);
            }
            prop_assert_eq!(find_zero(&bytes), bytes.iter().position(|byte| *byte == 0));
        }

        #[test]
        fn copies_are_as_long_as_they_should(from in prop::collection::vec(any::<u8>(), 0..80), room in 0usize..80) {
            let mut to = vec![7; room];
            copy(&mut to, &from);
            let length = room.min(from.len());
            prop_assert_eq!(&to[..length], &from[..length]);
            prop_assert!(to[length..].iter().all(|byte| *byte == 7));
        }

        #[test]
        fn what_is_pushed_is_made_up_to_the_limit(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..10),
            behind in 0usize..40, limit in 0usize..600, old in 0usize..100,
        ) {
            let mut bytes = vec![3; old];
            let mut output = Output::new(&mut bytes, limit);
            let mut expected = Vec::new();
            for piece in &pieces {
                let mut longer = piece.clone();
                longer.resize(piece.len() + behind, 9);
                let pushed = output.push_first(&longer, piece.len());
                expected.extend_from_slice(piece);
                expected.extend_from_slice(&[1, 2]);
                if pushed.and_then(|()| output.push([1, 2])).is_err() {
                    prop_assert!(expected.len() > limit);
                    return Ok(());
                }
            }
            prop_assert_eq!(output.from(0), &expected[..]);
            prop_assert_eq!(output.finish().is_ok(), expected.len() <= limit);
            prop_assert!(bytes.len() <= limit + STRIDE);
        }
    }
}
