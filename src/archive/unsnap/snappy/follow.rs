//! Following an encoder along a stream it may have made, element by element.
//!
//! That the stream decodes to the content is known, so bytes of literals and of matches need not be compared: only where each
//! element ends is the encoder's choice.

use super::super::super::integer;
use super::hash::Hash;
use super::{
    FIRST_SKIP, LONGEST_COPY, MARGIN, Table, Window, Workspace, common, exchange, fragments,
    load32, prepare,
};

/// Whether an encoder with that hash makes `stream` of the first `length` bytes of `content`.
pub(super) fn follow<H: Hash>(
    workspace: &mut Workspace,
    mut stream: &[u8],
    content: &[u8],
    length: usize,
) -> bool {
    if integer::take(&mut stream) != Some(length as u64) {
        return false;
    }
    let table = &mut *workspace.table;
    let all = fragments(content, length, &mut workspace.spare, |window, length| {
        let hash = prepare::<H>(table, length);
        match hash.follow(table, window, length, stream) {
            Some(rest) => {
                stream = rest;
                true
            }
            None => false,
        }
    });
    all && stream.is_empty()
}

/// What of the stream lies behind this fragment; none where the encoder would have made something else.
#[inline(always)]
pub(super) fn fragment<'a, H: Hash>(
    table: &mut Table,
    hash: H,
    window: &Window,
    length: usize,
    mut stream: &'a [u8],
) -> Option<&'a [u8]> {
    let Some(limit) = length.checked_sub(MARGIN) else {
        return take_rest(stream, length);
    };
    let mut done = 0;
    loop {
        // The stream tells where the encoder found a match; so did it find none before, and one there?
        let end = done + take_literal(&mut stream)?;
        let mut at = done + 1;
        let mut skip = FIRST_SKIP;
        while at < end {
            let step = skip >> 5;
            skip += step;
            if at + step > limit {
                return (end == length).then_some(stream);
            }
            let bytes = load32(window, at);
            let candidate = exchange(table, hash.slot(bytes), at);
            if load32(window, candidate) == bytes {
                return None;
            }
            at += step;
        }
        if at != end || at + (skip >> 5) > limit {
            return (end == length && at + (skip >> 5) > limit).then_some(stream);
        }
        let bytes = load32(window, at);
        let mut candidate = exchange(table, hash.slot(bytes), at);
        // That they match is known once the copy's distance turns out to be this one.
        loop {
            at += take_copy(&mut stream, window, length, candidate, at)?;
            if at >= limit {
                return take_rest(stream, length.checked_sub(at)?);
            }
            exchange(table, hash.slot(load32(window, at - 1)), at - 1);
            let bytes = load32(window, at);
            candidate = exchange(table, hash.slot(bytes), at);
            if load32(window, candidate) != bytes {
                break;
            }
        }
        done = at;
    }
}

/// The end of a fragment: a literal of that length, or nothing.
fn take_rest(mut stream: &[u8], length: usize) -> Option<&[u8]> {
    if length > 0 && take_literal(&mut stream)? != length {
        return None;
    }
    Some(stream)
}

/// Takes a literal as an encoder writes it off the front; its length.
#[inline(always)]
fn take_literal(stream: &mut &[u8]) -> Option<usize> {
    let (tag, rest) = stream.split_first()?;
    let tag = usize::from(*tag);
    if tag & 3 == 0 && tag < 60 << 2 {
        let length = (tag >> 2) + 1;
        *stream = rest.get(length..)?;
        return Some(length);
    }
    let (length, shortest, rest) = match tag {
        0xF0 => {
            let (low, rest) = rest.split_first()?;
            (usize::from(*low), 60, rest)
        }
        0xF4 => {
            let (number, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_le_bytes(*number)), 256, rest)
        }
        _ => return None,
    };
    *stream = rest.get(length + 1..)?;
    (length >= shortest).then_some(length + 1)
}

/// Takes the copies that an encoder makes where `at` matches `candidate` off the front; how many bytes they cover.
#[inline(always)]
fn take_copy(
    stream: &mut &[u8],
    window: &Window,
    length: usize,
    candidate: usize,
    at: usize,
) -> Option<usize> {
    let offset = at - candidate;
    let copied = take_one_copy(stream, offset)?;
    if copied < 60 {
        // The decoder has proven that many bytes: is the match no longer than that?
        let byte = |at: usize| window.get(usize::from(at as u16));
        let ends = at + copied == length || byte(at + copied) != byte(candidate + copied);
        return ends.then_some(copied);
    }
    take_long_copy(stream, window, length, candidate, at, copied)
}

/// The same for a match that may take several copies, of which the first is taken.
#[cold]
fn take_long_copy(
    stream: &mut &[u8],
    window: &Window,
    length: usize,
    candidate: usize,
    at: usize,
    mut copied: usize,
) -> Option<usize> {
    let matched = 4 + common(window, length, candidate + 4, at + 4);
    let mut left = matched;
    loop {
        let expected = match left {
            ..=LONGEST_COPY => left,
            65..68 => 60,
            _ => LONGEST_COPY,
        };
        if copied != expected {
            return None;
        }
        left -= expected;
        if left == 0 {
            return Some(matched);
        }
        copied = take_one_copy(stream, at - candidate)?;
    }
}

/// Takes one copy of that offset off the front, in the one writing an encoder has for it; its length.
#[inline(always)]
fn take_one_copy(stream: &mut &[u8], offset: usize) -> Option<usize> {
    // Which of the two it is cannot be foreseen, so neither is branched on.
    let (first, second, third) = match **stream {
        [first, second, third, ..] => (first, second, third),
        [first, second] => (first, second, 0),
        _ => return None,
    };
    let (tag, low) = (usize::from(first), usize::from(second));
    let short = tag & 3 == 1;
    let near = (tag & 0xE0) << 3 | low;
    let far = usize::from(third) << 8 | low;
    let told = if short { near } else { far };
    let copied = if short {
        4 + (tag >> 2 & 7)
    } else {
        1 + (tag >> 2)
    };
    let taken = if short { 2 } else { 3 };
    let kind = if copied < 12 && offset < 2048 { 1 } else { 2 };
    *stream = stream.get(taken..)?;
    (tag & 3 == kind && told == offset && copied >= 4).then_some(copied)
}
