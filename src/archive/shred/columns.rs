//! Columns as they are stored: data one behind the other, then a directory that says of each how long it is and in which form.

use std::sync::LazyLock;

use super::inverse::Damage;
use super::lanes::{from_lanes, to_lanes};
use super::{MOST_FIELDS, place};
use crate::archive::integer;

/// Bytes of the directory's length, which end the shredded form.
const TRAILER: usize = 4;
/// Those that every payload has, and two a field.
const MOST_COLUMNS: usize = place::FIRST_FIELD + 2 * MOST_FIELDS;
/// Bytes that are looked at to choose a form.
const SAMPLE: usize = 4096;
/// Of fewer values nothing is expected.
const FEWEST: usize = 16;

/// How the bytes of a column stand. The numbers are the format's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Form {
    /// As they are.
    Plain = 0,
    /// All first bytes of the values, then all second bytes, and so on.
    Lanes = 1,
    /// The same, each byte less the one of the value before.
    ByteSteps = 2,
    /// The same, each value a little-endian number, less the one before, and its sign in the lowest bit.
    NumberSteps = 3,
}

impl Form {
    fn of(number: u8) -> Option<Self> {
        [Self::Plain, Self::Lanes, Self::ByteSteps, Self::NumberSteps]
            .into_iter()
            .find(|form| *form as u8 == number)
    }
}

/// What the directory says of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub length: usize,
    pub form: Form,
    /// Bytes of a value; 0 for [`Form::Plain`].
    pub width: usize,
}

/// Appends the directory of `columns` and its length.
pub(super) fn push_directory(columns: &[Column], out: &mut Vec<u8>) {
    let start = out.len();
    for column in columns {
        integer::push(out, column.length as u64);
        if column.length > 0 {
            out.push(column.form as u8);
        }
        if column.form != Form::Plain {
            integer::push(out, column.width as u64);
        }
    }
    let length = (out.len() - start) as u32;
    out.extend_from_slice(&length.to_le_bytes());
}

/// The data of a shredded payload and its directory.
pub(super) fn split(shredded: &[u8]) -> Result<(&[u8], Vec<Column>), Damage> {
    let (rest, length) = shredded
        .split_last_chunk::<TRAILER>()
        .ok_or(Damage::Directory)?;
    let (data, mut directory) = usize::try_from(u32::from_le_bytes(*length))
        .ok()
        .and_then(|length| rest.len().checked_sub(length))
        .and_then(|data| rest.split_at_checked(data))
        .ok_or(Damage::Directory)?;
    let mut columns = Vec::new();
    let mut left = data.len();
    while !directory.is_empty() {
        let number = |directory: &mut &[u8]| {
            let number = integer::take(directory).ok_or(Damage::Directory)?;
            usize::try_from(number).map_err(|_| Damage::Directory)
        };
        let length = number(&mut directory)?;
        let mut column = Column {
            length,
            form: Form::Plain,
            width: 0,
        };
        if length > 0 {
            let (form, behind) = directory.split_first().ok_or(Damage::Directory)?;
            directory = behind;
            column.form = Form::of(*form).ok_or(Damage::Form(*form))?;
        }
        if column.form != Form::Plain {
            column.width = number(&mut directory)?;
            let sound = (2..=64).contains(&column.width)
                && length.is_multiple_of(column.width)
                && (column.form != Form::NumberSteps || matches!(column.width, 4 | 8));
            if !sound {
                return Err(Damage::Directory);
            }
        }
        left = left.checked_sub(length).ok_or(Damage::Directory)?;
        // An empty one takes a byte here, and many times that where it is read.
        if columns.len() == MOST_COLUMNS {
            return Err(Damage::Directory);
        }
        columns.push(column);
    }
    if left != 0 {
        return Err(Damage::Directory);
    }
    Ok((data, columns))
}

/// Writes the values of `plain`, `width` bytes each, into `out`, which is as long, in the form that seems the best.
pub(super) fn encode(plain: &[u8], width: usize, out: &mut [u8], steps: &mut Vec<u8>) -> Column {
    let form = choose(plain, width, steps);
    let column = Column {
        length: plain.len(),
        form,
        width: if form == Form::Plain { 0 } else { width },
    };
    match form {
        Form::Plain => out.copy_from_slice(plain),
        Form::Lanes => to_lanes(plain, width, out),
        Form::ByteSteps | Form::NumberSteps => {
            to_steps(plain, width, form, steps);
            to_lanes(steps, width, out);
        }
    }
    column
}

/// Replaces what `values` hold by those of all columns that are not stored as they are, one column behind the other. `data` is as long as
/// `columns` say.
pub(super) fn decode_all(data: &[u8], columns: &[Column], values: &mut Vec<u8>) {
    let formed = |column: &&Column| column.form != Form::Plain;
    let length = columns.iter().filter(formed).map(|column| column.length);
    let length = length.sum::<usize>();
    // All of it is written over.
    values.reserve_exact(length.saturating_sub(values.len()));
    values.resize(length, 0);
    let (mut at, mut made) = (0, 0);
    for column in columns {
        let end = at + column.length;
        if column.form != Form::Plain {
            let room = values.get_mut(made..made + column.length);
            if let (Some(stored), Some(room)) = (data.get(at..end), room) {
                decode(column, stored, room);
            }
            made += column.length;
        }
        at = end;
    }
}

/// What each of `columns` holds, of `data` or of what [`decode_all`] made of it.
pub(super) fn contents<'a>(
    mut data: &'a [u8],
    columns: &[Column],
    mut values: &'a [u8],
) -> Result<Vec<&'a [u8]>, Damage> {
    let take = |bytes: &mut &'a [u8], length| {
        let (taken, rest) = bytes.split_at_checked(length).ok_or(Damage::Directory)?;
        *bytes = rest;
        Ok(taken)
    };
    let content = |column: &Column| {
        let stored = take(&mut data, column.length)?;
        match column.form {
            Form::Plain => Ok(stored),
            Form::Lanes | Form::ByteSteps | Form::NumberSteps => take(&mut values, column.length),
        }
    };
    columns.iter().map(content).collect()
}

/// Undoes [`encode`]: writes the values into `values`, which is as long as `stored`.
fn decode(column: &Column, stored: &[u8], values: &mut [u8]) {
    from_lanes(stored, column.width, values);
    match (column.form, column.width) {
        // Those two have kinds of BSON values, and rows of a constant width are added many bytes at a time.
        (Form::ByteSteps, 12) => add_rows::<12>(values),
        (Form::ByteSteps, 16) => add_rows::<16>(values),
        (Form::ByteSteps, width) => {
            for at in width..values.len() {
                let before = values.get(at - width).copied().unwrap_or_default();
                if let Some(byte) = values.get_mut(at) {
                    *byte = byte.wrapping_add(before);
                }
            }
        }
        (Form::NumberSteps, 4) => {
            let mut before = 0u32;
            for place in values.as_chunks_mut::<4>().0 {
                let step = u32::from_le_bytes(*place);
                before = before.wrapping_add(step >> 1 ^ (step & 1).wrapping_neg());
                *place = before.to_le_bytes();
            }
        }
        (Form::NumberSteps, _) => {
            let mut before = 0u64;
            for place in values.as_chunks_mut::<8>().0 {
                let step = u64::from_le_bytes(*place);
                before = before.wrapping_add(step >> 1 ^ (step & 1).wrapping_neg());
                *place = before.to_le_bytes();
            }
        }
        (Form::Plain | Form::Lanes, _) => {}
    }
}

/// Adds to each byte the one at its place in the row before.
fn add_rows<const WIDTH: usize>(values: &mut [u8]) {
    let mut before = [0; WIDTH];
    for row in values.as_chunks_mut::<WIDTH>().0 {
        for (byte, before) in row.iter_mut().zip(&mut before) {
            *byte = byte.wrapping_add(*before);
            *before = *byte;
        }
    }
}

/// The form in which the bytes of each lane, taken alone, tell the least, by a sample of the values.
fn choose(plain: &[u8], width: usize, steps: &mut Vec<u8>) -> Form {
    let values = plain.len() / width.max(1);
    if width < 2 || values < FEWEST {
        return Form::Plain;
    }
    let sampled = values.min(SAMPLE / width);
    let start = (values - sampled) / 2 * width;
    let sample = plain
        .get(start..start + sampled * width)
        .unwrap_or_default();
    let stepped = if matches!(width, 4 | 8) {
        Form::NumberSteps
    } else {
        Form::ByteSteps
    };
    let before = bits(sample, width);
    to_steps(sample, width, stepped, steps);
    // The first step is from 0 and says nothing of the others.
    let after = bits(steps.get(width..).unwrap_or_default(), width);
    if after < before * 0.97 {
        stepped
    } else {
        Form::Lanes
    }
}

/// Of each number up to [`SAMPLE`] its product with its own binary logarithm.
static TOLD: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let told = |count: usize| {
        let count = count as f64;
        count * count.max(1.0).log2()
    };
    (0..=SAMPLE).map(told).collect()
});

/// How many bits a value takes, each lane by itself, after Shannon. No more than [`SAMPLE`] bytes are counted.
fn bits(values: &[u8], width: usize) -> f64 {
    let told = |count: u32| TOLD.get(count as usize).copied().unwrap_or_default();
    let count = values.len() / width.max(1);
    let mut bits = 0.0;
    for lane in 0..width {
        let mut seen = [0u32; 256];
        for byte in values.iter().skip(lane).step_by(width) {
            if let Some(seen) = seen.get_mut(usize::from(*byte)) {
                *seen += 1;
            }
        }
        bits += told(count as u32) - seen.into_iter().map(told).sum::<f64>();
    }
    bits / count.max(1) as f64
}

fn to_steps(values: &[u8], width: usize, form: Form, steps: &mut Vec<u8>) {
    steps.clear();
    steps.reserve_exact(values.len());
    match (form, width) {
        (Form::NumberSteps, 4) => {
            let mut before = 0u32;
            for value in values.as_chunks::<4>().0 {
                let value = u32::from_le_bytes(*value);
                let step = value.wrapping_sub(before) as i32;
                steps.extend_from_slice(&(step << 1 ^ step >> 31).to_le_bytes());
                before = value;
            }
        }
        (Form::NumberSteps, _) => {
            let mut before = 0u64;
            for value in values.as_chunks::<8>().0 {
                let value = u64::from_le_bytes(*value);
                let step = value.wrapping_sub(before) as i64;
                steps.extend_from_slice(&(step << 1 ^ step >> 63).to_le_bytes());
                before = value;
            }
        }
        _ => {
            let (first, _) = values.split_at_checked(width).unwrap_or((values, &[]));
            steps.extend_from_slice(first);
            let after = values.get(first.len()..).unwrap_or_default();
            steps.extend(
                after
                    .iter()
                    .zip(values)
                    .map(|(at, before)| at.wrapping_sub(*before)),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_form_round_trips(width in 2usize..=64, values in 0usize..200, seed: u64, step in 0u64..1000, form in 1u8..4) {
            let form = Form::of(form).unwrap();
            prop_assume!(form != Form::NumberSteps || matches!(width, 4 | 8));
            let mut state = seed;
            let plain: Vec<u8> = (0..values * width).map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(step);
                (state >> 56) as u8
            }).collect();
            let (mut steps, mut out) = (Vec::new(), vec![0; plain.len()]);
            match form {
                Form::Lanes => to_lanes(&plain, width, &mut out),
                _ => {
                    to_steps(&plain, width, form, &mut steps);
                    to_lanes(&steps, width, &mut out);
                }
            }
            let mut again = vec![1; plain.len()];
            decode(&Column { length: out.len(), form, width }, &out, &mut again);
            prop_assert_eq!(&again, &plain);
        }

        #[test]
        fn directories_round_trip_and_changed_ones_never_panic(
            lengths in prop::collection::vec((0usize..50, 0u8..4, 2usize..=64), 0..20),
            place: prop::sample::Index, bit in 0..8u8,
        ) {
            let columns: Vec<_> = lengths.into_iter().map(|(count, form, width)| {
                let form = if count == 0 { Form::Plain } else { Form::of(form).unwrap() };
                let width = match form { Form::Plain => 0, Form::NumberSteps => 4 + 4 * (width % 2), _ => width };
                Column { length: count * width.max(1), form, width }
            }).collect();
            let mut shredded = vec![7; columns.iter().map(|column| column.length).sum()];
            push_directory(&columns, &mut shredded);
            prop_assert_eq!(split(&shredded).unwrap().1, columns);
            *place.get_mut(&mut shredded[..]) ^= 1 << bit;
            let _ = split(&shredded);
        }
    }

    #[test]
    fn what_grows_evenly_is_stored_as_steps() {
        let numbers: Vec<u8> = (0..1000u64)
            .flat_map(|n| (n * 40 + n % 7).to_le_bytes())
            .collect();
        let mut out = vec![0; numbers.len()];
        let column = encode(&numbers, 8, &mut out, &mut Vec::new());
        assert_eq!(column.form, Form::NumberSteps);
        let few: Vec<u8> = (0..1000u64)
            .flat_map(|n| (n * n * 7919 % 3).to_le_bytes())
            .collect();
        assert_eq!(encode(&few, 8, &mut out, &mut Vec::new()).form, Form::Lanes);
    }
}
