//! Blocks there and back: made ones, real ones, damaged ones.

use proptest::prelude::*;

use super::inverse::Damage;
use super::snappy::Workspace;
use super::zlib::Zlib;
use super::*;

/// Pages of a real mongod 6.0.5, one behind the other: compressed leaves of collections (allocation sizes 4 KiB and 512 bytes), of the
/// history store and the catalog; an internal page, a block manager's page and a leaf of an index, which are not compressed.
const PAGES: &[u8] = include_bytes!("../../../integration/fixtures/unsnap/pages.bin");
/// The beginning of a log of a real mongod 4.4.2.
const RECORDS: &[u8] = include_bytes!("../../../integration/fixtures/unsnap/records.bin");

const CLASSIC: Method = Method::Snappy(Encoder::Classic);
const CRC: Method = Method::Snappy(Encoder::Crc);

fn span(kind: FileKind, length: usize) -> Span {
    Span {
        start: 0,
        length,
        file_offset: 0,
        kind,
    }
}

fn forward(plain: &[u8], spans: &[Span], limit: usize) -> (Vec<u8>, Statistics) {
    let mut content = vec![0xEE; 7];
    let mut statistics = Statistics::default();
    Forward::with_zlib().transform(plain, spans, limit, &mut content, &mut |_, found| {
        statistics += found;
    });
    (content, statistics)
}

fn inverse(content: &[u8], plain_size: usize) -> Result<Vec<u8>, Damage> {
    let mut plain = vec![0xDD; 7];
    Inverse::default().restore(content, plain_size, &mut plain)?;
    Ok(plain)
}

/// There and back; what was found.
fn round_trip(plain: &[u8], spans: &[Span]) -> Statistics {
    let (content, statistics) = forward(plain, spans, MAX_CONTENT);
    assert!(inverse(&content, plain.len()) == Ok(plain.to_vec()));
    statistics
}

/// Text that compresses.
fn text(length: usize) -> Vec<u8> {
    let words = (0..).flat_map(|n: u32| format!("{:x} ", n.wrapping_mul(n) % 977).into_bytes());
    words.take(length).collect()
}

/// A compressed page as WiredTiger writes it.
fn page(content: &[u8], method: Method, allocation: usize) -> Vec<u8> {
    let mut page = vec![0; 64];
    page[0..8].copy_from_slice(&[0; 8]);
    page[8..12].copy_from_slice(&77u32.to_le_bytes());
    page[16..20].copy_from_slice(&(content.len() as u32 + 64).to_le_bytes());
    page[24] = 7;
    page[25] = 5;
    page[27] = 1;
    page[36] = 1;
    page[40..64].copy_from_slice(b"the first of the content");
    append_stream(&mut page, content, method);
    page.resize(page.len().next_multiple_of(allocation), 0);
    let total = page.len() as u32;
    page[28..32].copy_from_slice(&total.to_le_bytes());
    page
}

fn append_stream(unit: &mut Vec<u8>, content: &[u8], method: Method) {
    let (mut stream, length) = (Vec::new(), content.len());
    let made = match method {
        Method::Snappy(encoder) => {
            let workspace = &mut Workspace::default();
            encoder.encode(workspace, content, length, &mut stream, usize::MAX)
        }
        Method::Zlib => Zlib::default().encode(content, &mut stream, usize::MAX),
    };
    assert!(made);
    if method != Method::Zlib {
        unit.extend((stream.len() as u64).to_le_bytes());
    }
    unit.extend(stream);
}

/// A compressed record of the log.
fn record(content: &[u8], method: Method) -> Vec<u8> {
    let mut record = vec![0; 16];
    record[8] = 1;
    record[12..16].copy_from_slice(&(content.len() as u32 + 16).to_le_bytes());
    append_stream(&mut record, content, method);
    // As it was seen: the padding of a record need not be zeros.
    record.resize(record.len().next_multiple_of(128) - 1, 0);
    record.push(0xAB);
    let length = record.len() as u32;
    record[0..4].copy_from_slice(&length.to_le_bytes());
    record
}

#[test]
fn every_kind_of_unit_is_found_and_comes_back() {
    for kind in Kind::all() {
        let (file, unit) = match kind.shape {
            // Shorter than 8 KiB, else two of the encoders have tables of one size and make the same.
            Shape::Page => (FileKind::Data, page(&text(7000), kind.method, 4096)),
            Shape::Record => (FileKind::Journal, record(&text(7000), kind.method)),
        };
        let plain = [unit.clone(), vec![0; 1024], unit.clone(), unit.clone()].concat();
        let statistics = round_trip(&plain, &[span(file, plain.len())]);
        assert_eq!(statistics.tried, 3);
        for (known, tally) in Kind::all().zip(statistics.proven) {
            assert_eq!(tally.units, if known == kind { 3 } else { 0 }, "{kind:?}");
        }
        let (content, _) = forward(&plain, &[span(file, plain.len())], MAX_CONTENT);
        assert!(content.len() > 21_000, "the units are stored decompressed");
    }
}

#[test]
fn real_pages_and_records_are_all_proven() {
    let pages = round_trip(PAGES, &[span(FileKind::Data, PAGES.len())]);
    assert_eq!(
        (pages.tried, pages.proven[0].units),
        (COMPRESSED_PAGES, COMPRESSED_PAGES)
    );
    let records = round_trip(RECORDS, &[span(FileKind::Journal, RECORDS.len())]);
    assert_eq!(
        (records.tried, records.proven[5].units),
        (COMPRESSED_RECORDS, COMPRESSED_RECORDS)
    );
}
/// The first pages of a collection of a real mongod 6.0.5, created with `block_compressor=zlib`; the last one is torn.
const DEFLATED: &[u8] = include_bytes!("../../../integration/fixtures/unsnap/deflated.bin");

#[test]
fn real_pages_of_zlib_are_all_proven() {
    let spans = [span(FileKind::Collection, DEFLATED.len())];
    let found = round_trip(DEFLATED, &spans);
    let proven = Kind::all().zip(found.proven);
    let deflated = proven.filter(|(kind, _)| kind.method == Method::Zlib);
    let deflated: u64 = deflated.map(|(_, tally)| tally.units).sum();
    assert_eq!((found.compressed, found.tried, deflated), (3, 3, 3));
    let mut content = Vec::new();
    Forward::default().transform(
        DEFLATED,
        &spans,
        MAX_CONTENT,
        &mut content,
        &mut |_, found| {
            assert_eq!(found.total().units, 0, "nobody asked for zlib");
        },
    );
}

const COMPRESSED_PAGES: u64 = 4;
const COMPRESSED_RECORDS: u64 = 7;

#[test]
fn a_page_of_which_any_byte_is_different_still_comes_back() {
    let good = page(&text(3000), CLASSIC, 512);
    for place in 0..good.len() {
        for byte in [0, 1, 0x40, 0x80, 0xFF, good[place] ^ 1] {
            let mut plain = [&good[..], &good, &good].concat();
            plain[good.len() + place] = byte;
            let statistics = round_trip(&plain, &[span(FileKind::Data, plain.len())]);
            // Its neighbours are found all the same, unless its size reaches over the next one.
            assert!(statistics.total().units >= 1);
        }
    }
}

#[test]
fn sizes_that_contradict_the_stream_are_not_believed() {
    let good = page(&text(3000), CLASSIC, 512);
    let changed = |place: usize, value: u32| {
        let mut plain = good.clone();
        plain[place..place + 4].copy_from_slice(&value.to_le_bytes());
        round_trip(&plain, &[span(FileKind::Data, plain.len())]).total()
    };
    let total = good.len() as u32;
    assert_eq!(changed(16, 3064).units, 1, "as it is");
    for memory in [0, 63, 64, 3063, 3065, 1 << 30, u32::MAX] {
        assert_eq!(changed(16, memory).units, 0, "memory size {memory}");
    }
    for disk in [
        0,
        512,
        total - 1,
        total - 512,
        total + 512,
        1 << 30,
        u32::MAX,
    ] {
        assert_eq!(changed(28, disk).units, 0, "disk size {disk}");
    }
    for length in [0, 1, total - 72, total, u32::MAX] {
        assert_eq!(changed(64, length).units, 0, "stream length {length}");
    }
}

/// A page whose stream no encoder makes: it has no matches.
fn foreign_page(content: &[u8]) -> Vec<u8> {
    let mut page = page(content, CLASSIC, 512);
    let length = page.len().max(content.len() + 1024).next_multiple_of(512);
    page.truncate(64);
    let mut stream = Vec::new();
    super::super::integer::push(&mut stream, content.len() as u64);
    stream.extend([
        61 << 2,
        (content.len() - 1) as u8,
        ((content.len() - 1) >> 8) as u8,
    ]);
    stream.extend(content);
    page.extend((stream.len() as u64).to_le_bytes());
    page.extend(stream);
    page.resize(length, 0);
    page[28..32].copy_from_slice(&(length as u32).to_le_bytes());
    page
}

/// A page that another compressor made stays as it is, and the pages behind it are still found.
#[test]
fn unknown_compressors_are_passed_over() {
    let foreign = foreign_page(&text(3000));
    let alone = round_trip(&foreign, &[span(FileKind::Data, foreign.len())]);
    assert_eq!((alone.tried, alone.total().units), (1, 0));
    let good = page(&text(3000), CRC, 512);
    let plain = [foreign.repeat(40), good.repeat(40)].concat();
    let statistics = round_trip(&plain, &[span(FileKind::Data, plain.len())]);
    // One in sixteen is looked at until the first is proven.
    assert!(statistics.total().units >= 24);
    assert!(statistics.tried < 60, "{}", statistics.tried);
}

/// What only looks like the header of a page must not hide the pages it claims to cover.
#[test]
fn a_header_by_accident_hides_nothing() {
    let good = page(&text(3000), CLASSIC, 512);
    let mut accident = good[..512].to_vec();
    let claimed = (good.len() * 3 + 512) as u32;
    accident[28..32].copy_from_slice(&claimed.to_le_bytes());
    // A stream that ends in the next page.
    accident[64..72].copy_from_slice(&600u64.to_le_bytes());
    accident[76..].fill(0);
    let plain = [accident, good.repeat(4)].concat();
    let statistics = round_trip(&plain, &[span(FileKind::Data, plain.len())]);
    assert_eq!(statistics.total().units, 4);
}

#[test]
fn content_stays_within_its_limit() {
    let plain = page(&text(100_000), CLASSIC, 4096).repeat(8);
    let spans = [span(FileKind::Data, plain.len())];
    let (all, statistics) = forward(&plain, &spans, MAX_CONTENT);
    assert_eq!(statistics.total().units, 8);
    for limit in [
        plain.len() + SMALLEST_SURPLUS,
        plain.len() + 150_000,
        all.len() - 1,
        all.len() + 100,
    ] {
        let (content, statistics) = forward(&plain, &spans, limit);
        assert!(content.len() <= limit);
        assert!(content.capacity() <= limit + super::snappy::WINDOW);
        assert!(inverse(&content, plain.len()) == Ok(plain.clone()));
        assert_eq!(statistics.total().units == 8, limit > all.len());
    }
}

#[test]
fn a_block_ends_where_a_page_begins() {
    let one = page(&text(20_000), CLASSIC, 4096);
    let file = one.repeat(20);
    let block = one.len() * 5 + 100;
    let mut at = 0;
    let mut proven = 0;
    while at < file.len() {
        let window = &file[at..file.len().min(at + block)];
        let mut here = span(FileKind::Data, window.len());
        here.file_offset = at as u64;
        let taken = cut(window, &[here], MAX_CONTENT);
        assert_eq!(taken % one.len(), 0);
        here.length = taken;
        proven += round_trip(&window[..taken], &[here]).total().units;
        at += taken;
    }
    assert_eq!(proven, 20);
    // By the limit of the content as well.
    let limit = (20_000 + 64) * 2 + 1000;
    assert_eq!(
        cut(&file, &[span(FileKind::Data, file.len())], limit),
        one.len() * 2
    );
    // Nothing to go by.
    assert_eq!(
        cut(&file, &[span(FileKind::Other, file.len())], limit),
        file.len()
    );
    // A page longer than half a block is torn rather than half a block left.
    let torn = cut(
        &file[..one.len() * 7 / 4],
        &[span(FileKind::Data, file.len())],
        MAX_CONTENT,
    );
    assert_eq!(torn, one.len());
    let torn = cut(
        &file[..one.len() - 1],
        &[span(FileKind::Data, file.len())],
        MAX_CONTENT,
    );
    assert_eq!(torn, one.len() - 1);
}

/// Pieces of a block: good units, real ones, junk.
fn pieces() -> impl Strategy<Value = Vec<(Vec<u8>, FileKind, u64)>> {
    let kind = prop_oneof![
        Just(FileKind::Data),
        Just(FileKind::Journal),
        Just(FileKind::Other)
    ];
    let method = prop::sample::select(&Method::ALL[..]);
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000),
        (0..9000usize).prop_map(|length| vec![0; length]),
        (any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(|(a, b)| {
            let (a, b) = (a.index(PAGES.len()), b.index(PAGES.len()));
            PAGES[a.min(b) / 512 * 512..a.max(b)].to_vec()
        }),
        (1..40_000usize, method.clone()).prop_map(|(length, method)| page(
            &text(length),
            method,
            512
        )),
        (1..9000usize, method).prop_map(|(length, method)| record(&text(length), method).repeat(2)),
    ];
    prop::collection::vec((bytes, kind, (0..9u64).prop_map(|n| n * 128)), 0..6)
}

proptest! {
    #[test]
    fn any_bytes_with_any_spans_come_back(
        pieces in pieces(),
        wrong in prop::collection::vec((0..70_000usize, 0..70_000usize, any::<u64>(), any::<bool>()), 0..3),
        limit in 0..400_000usize,
    ) {
        let mut plain = Vec::new();
        let mut spans = Vec::new();
        for (bytes, kind, file_offset) in pieces {
            spans.push(Span { start: plain.len(), length: bytes.len(), file_offset, kind });
            plain.extend(bytes);
        }
        // Spans that lie, overlap, and reach out of the block.
        for (start, length, file_offset, data) in wrong {
            let kind = if data { FileKind::Data } else { FileKind::Journal };
            spans.push(Span { start, length, file_offset, kind });
        }
        let taken = cut(&plain, &spans, limit);
        prop_assert!(taken <= plain.len() && (taken > 0 || plain.is_empty()));
        let limit = limit.max(plain.len() + SMALLEST_SURPLUS);
        let (content, _) = forward(&plain, &spans, limit);
        prop_assert!(content.len() <= limit);
        prop_assert!(inverse(&content, plain.len()) == Ok(plain));
    }
}

/// Changes a few bytes, or cuts a piece out, or puts one in. Deterministic by its seed.
fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..4) {
        let place = random
            .usize(..bytes.len().max(1))
            .min(bytes.len().saturating_sub(1));
        let Some(byte) = bytes.get_mut(place) else {
            return;
        };
        match random.u8(..8) {
            0 => *byte = random.u8(..),
            1 => *byte = [0, 1, 0x7F, 0x80, 0xFF][random.usize(..5)],
            2 => *byte = byte.wrapping_add(1),
            3 => *byte ^= 1 << random.u8(..8),
            // Where headers and lengths are.
            4 | 5 => {
                let field = place / 512 * 512 + random.usize(..80);
                if let Some(byte) = bytes.get_mut(field) {
                    *byte = random.u8(..);
                }
            }
            6 => drop(bytes.drain(place..bytes.len().min(place + random.usize(..600)))),
            _ => {
                let piece: Vec<u8> =
                    bytes[place..bytes.len().min(place + random.usize(..600))].to_vec();
                bytes.splice(place..place, piece);
            }
        }
    }
}

fn random() -> (fastrand::Rng, u64) {
    let seed = std::env::var("FREEZEFRAME_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("FREEZEFRAME_TEST_SEED={seed}");
    (fastrand::Rng::with_seed(seed), seed)
}

#[test]
fn ten_thousand_mutated_real_pages_come_back() {
    let (mut random, seed) = random();
    let (mut to, mut back) = (Forward::default(), Inverse::default());
    let (mut content, mut again) = (Vec::new(), Vec::new());
    let mut proven = 0;
    for round in 0..10_000 {
        let (source, kind) = if round % 4 == 0 {
            (RECORDS, FileKind::Journal)
        } else {
            (PAGES, FileKind::Data)
        };
        let start = random.usize(..source.len()) / 4096 * 4096;
        let mut plain = source[start..source.len().min(start + 24_576)].to_vec();
        mutate(&mut plain, &mut random);
        let spans = [span(kind, plain.len())];
        to.transform(&plain, &spans, 1 << 20, &mut content, &mut |_, found| {
            proven += found.total().units;
        });
        let restored = back.restore(&content, plain.len(), &mut again);
        assert!(
            restored.is_ok() && again == plain,
            "round {round} of seed {seed}"
        );
    }
    assert!(
        proven > 5_000,
        "{proven}: most pages are not the ones that were changed"
    );
}

#[test]
fn ten_thousand_mutated_blocks_end_in_an_error_or_in_bytes_of_that_length() {
    let (mut random, seed) = random();
    let small = [page(&text(3000), CRC, 512), page(&text(700), CLASSIC, 512)].concat();
    let sources = [
        (
            forward(&small, &[span(FileKind::Data, small.len())], MAX_CONTENT).0,
            small.len(),
        ),
        (
            forward(
                RECORDS,
                &[span(FileKind::Journal, RECORDS.len())],
                MAX_CONTENT,
            )
            .0,
            RECORDS.len(),
        ),
        (
            forward(PAGES, &[span(FileKind::Data, PAGES.len())], MAX_CONTENT).0,
            PAGES.len(),
        ),
    ];
    let mut back = Inverse::default();
    let mut errors = 0;
    for round in 0..10_000 {
        let (content, plain_size) = &sources[if round % 20 == 0 { 2 } else { round % 2 }];
        let mut content = content.clone();
        // The control bytes are few and at the end.
        if random.bool() {
            let place = content.len() - 1 - random.usize(..content.len().min(40));
            content[place] = random.u8(..);
        } else {
            mutate(&mut content, &mut random);
        }
        let mut plain = Vec::new();
        match back.restore(&content, *plain_size, &mut plain) {
            Ok(()) => assert_eq!(plain.len(), *plain_size, "round {round} of seed {seed}"),
            Err(_) => errors += 1,
        }
        assert!(
            plain.capacity() <= 2 * plain_size + 200_000,
            "round {round} of seed {seed}"
        );
    }
    assert!(errors > 3_000, "{errors}");
}

/// A small page that claims to hold much: nothing grows beyond a fragment's stream.
#[test]
fn a_page_that_holds_more_than_it_can_is_stopped_early() {
    let plain = page(&text(3000), CLASSIC, 512);
    let mut payload = plain[..64].to_vec();
    let random = &mut fastrand::Rng::with_seed(1);
    payload.resize(64 + (8 << 20), 0);
    random.fill(&mut payload[64..]);
    payload[16..20].copy_from_slice(&((8u32 << 20) + 64).to_le_bytes());
    let content = [&payload[..], &[0, 1, 0x11], &3u32.to_le_bytes()].concat();
    let mut restored = Vec::new();
    let result = Inverse::default().restore(&content, plain.len(), &mut restored);
    assert_eq!(result, Err(Damage::Unit));
    assert!(restored.capacity() < 200_000, "{}", restored.capacity());
}

#[test]
fn each_damage_is_told_by_its_name() {
    let plain = page(&text(3000), CLASSIC, 512);
    let size = plain.len();
    let (good, _) = forward(&plain, &[span(FileKind::Data, size)], MAX_CONTENT);
    assert_eq!(inverse(&good, size).as_deref(), Ok(&plain[..]));
    // A run without literal bytes, one unit, its kind; their length.
    assert_eq!(good[good.len() - 7..], [0, 1, 0x11, 3, 0, 0, 0]);
    let payload = &good[..good.len() - 7];
    let damaged = |payload: &[u8], control: &[u8]| {
        let length = (control.len() as u32).to_le_bytes();
        inverse(&[payload, control, &length].concat(), size)
    };
    assert_eq!(inverse(&good, MAX_PLAIN + 1), Err(Damage::TooLarge));
    assert_eq!(inverse(&good[..3], size), Err(Damage::Truncated));
    assert_eq!(inverse(&[9, 0, 0, 0], size), Err(Damage::Truncated));
    assert_eq!(damaged(payload, &[0]), Err(Damage::Control));
    assert_eq!(damaged(payload, &[0, 1]), Err(Damage::Control));
    assert_eq!(damaged(payload, &[0x80, 0, 1, 0x11]), Err(Damage::Control));
    assert_eq!(
        damaged(payload, &[0, 0, 0, 1, 0x11]),
        Err(Damage::Control),
        "a run of nothing"
    );
    assert_eq!(damaged(payload, &[0, 1, 0x16]), Err(Damage::Kind(0x16)));
    assert_eq!(damaged(payload, &[0, 1, 0x31]), Err(Damage::Kind(0x31)));
    assert_eq!(damaged(payload, &[1, 1, 0x11]), Err(Damage::Unit));
    assert_eq!(damaged(payload, &[0, 2, 0x11]), Err(Damage::Unit));
    assert_eq!(
        damaged(&payload[..100], &[0, 1, 0x11]),
        Err(Damage::Truncated)
    );
    assert_eq!(
        damaged(&[payload, &[1]].concat(), &[0, 1, 0x11]),
        Err(Damage::Surplus)
    );
    assert_eq!(inverse(&good, size - 1), Err(Damage::PlainSize));
    assert_eq!(inverse(&good, size + 1), Err(Damage::PlainSize));
    // An encoder whose stream does not fit into the page.
    let mut wild = payload.to_vec();
    fastrand::Rng::with_seed(1).fill(&mut wild[64..]);
    assert_eq!(damaged(&wild, &[0, 1, 0x11]), Err(Damage::Unit));
    let mut uncompressed = payload.to_vec();
    uncompressed[25] = 0;
    assert_eq!(damaged(&uncompressed, &[0, 1, 0x11]), Err(Damage::Unit));
}
