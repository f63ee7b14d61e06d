//! Mutations: what decay, accident and malice make of an input.

use fastrand::Rng;

/// No mutation makes an input longer.
const LONGEST: usize = 256 << 10;

/// Numbers at which arithmetic breaks.
const NUMBERS: [u64; 22] = [
    0,
    1,
    7,
    16,
    127,
    128,
    255,
    256,
    511,
    512,
    4095,
    65_535,
    65_536,
    1 << 20,
    i32::MAX as u64,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 53,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// What means something to one reader or another.
const TOKENS: [&[u8]; 40] = [
    b"..",
    b"../",
    b"/",
    b"//",
    b"./",
    b"\0",
    b"\n",
    b"\r\n",
    b" ",
    b",",
    b":",
    b"-",
    b"--",
    b"%2F",
    b"%00",
    b"\\",
    b"\"",
    b"'",
    b"{",
    b"}",
    b"[",
    b"]",
    b"[[[[[[[[",
    b"{\"a\":",
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"1e-999",
    b"0.1",
    b"NaN",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x92\xa9",
    b"ustar\x0000",
    b"SCHILY.xattr.",
    b"\\u0000",
    b"\x1b[2J",
    b"9999999999999999999999",
    b"snapshot",
];

/// `entry` after one to five changes; `others` are what it may be spliced with.
pub fn mutated(random: &mut Rng, entry: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
    let mut input = entry.to_vec();
    // Mostly few: the more, the sooner a reader stops.
    let most = random.usize(1..=5);
    for _ in 0..random.usize(1..=most) {
        change(random, &mut input, others);
        input.truncate(LONGEST);
    }
    input
}

fn change(random: &mut Rng, input: &mut Vec<u8>, others: &[Vec<u8>]) {
    match random.u8(0..14) {
        0 | 1 => flip(random, input),
        2 => {
            let range = range(random, input.len());
            input.drain(range);
        }
        3 => input.truncate(random.usize(0..=input.len())),
        4 => {
            let range = range(random, input.len());
            let copied = input[range].to_vec();
            insert(random, input, &copied);
        }
        5 => {
            let range = range(random, input.len());
            let copied = input[range].repeat(random.usize(1..200));
            insert(random, input, &copied);
        }
        6 => {
            if let Some(other) = random.choice(others) {
                let range = range(random, other.len());
                insert(random, input, &other[range]);
            }
        }
        7 => {
            if let Some(other) = random.choice(others) {
                let from = random.usize(0..=other.len());
                input.truncate(random.usize(0..=input.len()));
                input.extend_from_slice(&other[from..]);
            }
        }
        8 => {
            let token = TOKENS[random.usize(0..TOKENS.len())];
            insert(random, input, token);
        }
        // In its place, so that what follows stays where it is.
        9 => {
            let token = TOKENS[random.usize(0..TOKENS.len())];
            let at = random.usize(0..=input.len());
            for (to, from) in input.iter_mut().skip(at).zip(token) {
                *to = *from;
            }
        }
        10..=12 => number_in_text(random, input),
        _ => number_in_bytes(random, input),
    }
}

fn flip(random: &mut Rng, input: &mut [u8]) {
    if let Some(byte) = random.choice(input) {
        *byte ^= 1 << random.u8(0..8);
    }
}

/// Mostly short, at times any.
fn range(random: &mut Rng, length: usize) -> std::ops::Range<usize> {
    let start = random.usize(0..=length);
    let longest = match random.bool() {
        true => 32.min(length - start),
        false => length - start,
    };
    start..start + random.usize(0..=longest)
}

fn insert(random: &mut Rng, input: &mut Vec<u8>, bytes: &[u8]) {
    let at = random.usize(0..=input.len());
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    input.splice(at..at, bytes.iter().copied());
}

/// Puts another number in the place of a run of digits: in decimal, in octal of the same width, near the old one.
fn number_in_text(random: &mut Rng, input: &mut Vec<u8>) {
    let start = random.usize(0..=input.len());
    let Some(start) = (start..input.len()).find(|at| input[*at].is_ascii_digit()) else {
        return;
    };
    let length = input[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let digits = input[start..start + length].to_vec();
    let number = number(random);
    let text = match random.u8(0..4) {
        0 => number.to_string(),
        1 => format!("-{number}"),
        2 => {
            let old: u64 = String::from_utf8_lossy(&digits).parse().unwrap_or(0);
            old.wrapping_add(random.u64(0..3))
                .wrapping_sub(1)
                .to_string()
        }
        _ => {
            let octal = format!("{number:0length$o}");
            octal[octal.len() - length..].to_owned()
        }
    };
    input.splice(start..start + length, text.bytes());
}

fn number_in_bytes(random: &mut Rng, input: &mut [u8]) {
    let number = number(random);
    let width = 1 << random.u8(0..4);
    let bytes = match random.bool() {
        true => number.to_le_bytes()[..width].to_vec(),
        false => number.to_be_bytes()[8 - width..].to_vec(),
    };
    let at = random.usize(0..=input.len());
    for (to, from) in input.iter_mut().skip(at).zip(bytes) {
        *to = from;
    }
}

fn number(random: &mut Rng) -> u64 {
    NUMBERS[random.usize(0..NUMBERS.len())]
        .wrapping_add(random.u64(0..3))
        .wrapping_sub(1)
}

#[test]
fn a_seed_gives_the_same_mutations() {
    let all = |seed| {
        let mut random = Rng::with_seed(seed);
        let others = [b"other".to_vec()];
        (0..200)
            .map(|_| mutated(&mut random, b"size 123, path a/b", &others))
            .collect::<Vec<_>>()
    };
    assert!(all(5) == all(5));
    assert!(all(5) != all(6));
    assert!(all(5).iter().all(|input| input.len() <= LONGEST));
}
