//! Values of a width, and the same with all first bytes first, then all second bytes, and so on.

/// Eight values of eight bytes.
type Square = [u64; 8];

/// Makes of the bytes that stand at one place in the eight numbers the number at that place. Undoes itself.
#[inline(always)]
fn transpose(mut square: Square) -> Square {
    // Squares of 4, of 2 and of 1 byte change places across the diagonal.
    for (distance, shift, mask) in [
        (4, 32, 0x0000_0000_FFFF_FFFF_u64),
        (2, 16, 0x0000_FFFF_0000_FFFF),
        (1, 8, 0x00FF_00FF_00FF_00FF),
    ] {
        for place in 0..8 {
            if place & distance != 0 {
                continue;
            }
            let (Some(upper), Some(lower)) = (
                square.get(place).copied(),
                square.get(place + distance).copied(),
            ) else {
                continue;
            };
            let change = (upper >> shift ^ lower) & mask;
            if let Some(one) = square.get_mut(place) {
                *one = upper ^ change << shift;
            }
            if let Some(one) = square.get_mut(place + distance) {
                *one = lower ^ change;
            }
        }
    }
    square
}

/// Writes the values of `width` bytes into `lanes`, which is as long.
pub(super) fn to_lanes(values: &[u8], width: usize, lanes: &mut [u8]) {
    let count = values.len().checked_div(width).unwrap_or_default();
    let Some((groups, rest)) = lanes.split_at_mut_checked(width / 8 * 8 * count) else {
        return;
    };
    if count == 0 {
        return;
    }
    for (group, lanes) in groups.chunks_exact_mut(8 * count).enumerate() {
        let mut eight = lanes.chunks_exact_mut(count);
        let mut lanes: [&mut [u8]; 8] = std::array::from_fn(|_| eight.next().unwrap_or_default());
        let mut done = 0;
        for some in values.chunks_exact(8 * width) {
            let mut square = Square::default();
            for (number, value) in square.iter_mut().zip(some.chunks_exact(width)) {
                let bytes = value.get(8 * group..).and_then(<[u8]>::first_chunk);
                *number = bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
            }
            for (lane, number) in lanes.iter_mut().zip(transpose(square)) {
                let place = lane.get_mut(done..).and_then(<[u8]>::first_chunk_mut);
                if let Some(place) = place {
                    *place = number.to_le_bytes();
                }
            }
            done += 8;
        }
        for (at, value) in values.chunks_exact(width).enumerate().skip(done) {
            let bytes = value.get(8 * group..).unwrap_or_default();
            for (lane, byte) in lanes.iter_mut().zip(bytes) {
                if let Some(place) = lane.get_mut(at) {
                    *place = *byte;
                }
            }
        }
    }
    let first = width / 8 * 8;
    for (number, lane) in rest.chunks_mut(count).enumerate() {
        let bytes = values.iter().skip(first + number).step_by(width.max(1));
        for (place, byte) in lane.iter_mut().zip(bytes) {
            *place = *byte;
        }
    }
}

/// Undoes [`to_lanes`].
pub(super) fn from_lanes(lanes: &[u8], width: usize, values: &mut [u8]) {
    let count = lanes.len().checked_div(width).unwrap_or_default();
    let Some((groups, rest)) = lanes.split_at_checked(width / 8 * 8 * count) else {
        return;
    };
    if count == 0 {
        return;
    }
    for (group, lanes) in groups.chunks_exact(8 * count).enumerate() {
        let mut eight = lanes.chunks_exact(count);
        let lanes: [&[u8]; 8] = std::array::from_fn(|_| eight.next().unwrap_or_default());
        let mut done = 0;
        for some in values.chunks_exact_mut(8 * width) {
            let mut square = Square::default();
            for (number, lane) in square.iter_mut().zip(&lanes) {
                let bytes = lane.get(done..).and_then(<[u8]>::first_chunk);
                *number = bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
            }
            for (value, number) in some.chunks_exact_mut(width).zip(transpose(square)) {
                let place = value.get_mut(8 * group..);
                if let Some(place) = place.and_then(<[u8]>::first_chunk_mut) {
                    *place = number.to_le_bytes();
                }
            }
            done += 8;
        }
        for (at, value) in values.chunks_exact_mut(width).enumerate().skip(done) {
            let places = value.get_mut(8 * group..).unwrap_or_default();
            for (place, lane) in places.iter_mut().zip(&lanes) {
                *place = lane.get(at).copied().unwrap_or_default();
            }
        }
    }
    let first = width / 8 * 8;
    for (number, lane) in rest.chunks(count).enumerate() {
        let places = values.iter_mut().skip(first + number).step_by(width.max(1));
        for (place, byte) in places.zip(lane) {
            *place = *byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lanes_are_the_bytes_of_a_place_and_back(width in 1usize..=64, count in 0usize..50, seed: u64) {
            let mut state = seed;
            let values: Vec<u8> = (0..width * count).map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                (state >> 56) as u8
            }).collect();
            let mut lanes = vec![0; values.len()];
            to_lanes(&values, width, &mut lanes);
            let expected: Vec<u8> = (0..width)
                .flat_map(|byte| values.chunks(width).map(move |value| value[byte]))
                .collect();
            prop_assert_eq!(&lanes, &expected);
            let mut again = vec![0; values.len()];
            from_lanes(&lanes, width, &mut again);
            prop_assert_eq!(again, values);
        }
    }
}
