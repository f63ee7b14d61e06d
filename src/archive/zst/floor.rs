//! What packing with `fast` takes at least: reading, decoding and encoding snappy streams, and zstd on what comes of them, each by itself,
//! on all threads at once, and nothing else. `scripts/bench pack` runs it, in release:
//! `FREEZEFRAME_TEST_DATA=DIR FREEZEFRAME_TEST_THREADS=N cargo test --release --lib zst::floor -- --ignored --nocapture`

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use zstd::bulk::Compressor;

use super::FAST;
use crate::archive::shred::Shredder;
use crate::archive::unsnap::{self, FileKind, Forward, Span, streams};

/// Blocks that are measured at once.
const BATCH: usize = 64;

/// A block, and what compressors get of it.
struct Block {
    place: u64,
    plain: Vec<u8>,
    /// Snappy streams, and what they hold.
    streams: Vec<(Vec<u8>, Vec<u8>)>,
    /// Without snappy, and the documents in it taken apart.
    transformed: Vec<u8>,
    /// Without snappy.
    unsnapped: Vec<u8>,
}

/// Wall seconds that `threads` take for all `jobs`, each thread with a state of its own.
fn parallel<S>(
    threads: usize,
    jobs: usize,
    state: impl Fn() -> S + Sync,
    job: impl Fn(&mut S, usize) + Sync,
) -> f64 {
    let (next, start) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut state = state();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= jobs {
                        break;
                    }
                    job(&mut state, number);
                }
            });
        }
    });
    start.elapsed().as_secs_f64()
}

#[derive(Default)]
struct Seconds {
    read: f64,
    snappy: f64,
    zstd: f64,
    zstd_unshredded: f64,
    bytes: usize,
    bytes_unshredded: usize,
}

impl Seconds {
    fn add(&mut self, file: &File, blocks: &[Block], threads: usize) {
        self.read += parallel(
            threads,
            blocks.len(),
            || vec![0; FAST.block],
            |buffer, number| {
                let block = &blocks[number];
                let buffer = &mut buffer[..block.plain.len()];
                file.read_exact_at(buffer, block.place).unwrap();
            },
        );
        self.snappy += parallel(
            threads,
            blocks.len(),
            || (snap::raw::Encoder::new(), vec![0; 64 << 20]),
            |(encoder, scratch), number| {
                for (stream, content) in &blocks[number].streams {
                    let mut decoder = snap::raw::Decoder::new();
                    decoder.decompress(stream, scratch).unwrap();
                    encoder.compress(content, scratch).unwrap();
                }
            },
        );
        let compress = |content: fn(&Block) -> &[u8]| {
            let bytes = AtomicUsize::new(0);
            let state = || (Compressor::new(FAST.level).unwrap(), Vec::new());
            let taken = parallel(threads, blocks.len(), state, |(zstd, out), number| {
                let content = content(&blocks[number]);
                out.clear();
                out.reserve(zstd::zstd_safe::compress_bound(content.len()));
                zstd.compress_to_buffer(content, out).unwrap();
                bytes.fetch_add(out.len(), Ordering::Relaxed);
            });
            (taken, bytes.into_inner())
        };
        let (taken, bytes) = compress(|block| &block.transformed);
        self.zstd += taken;
        self.bytes += bytes;
        let (taken, bytes) = compress(|block| &block.unsnapped);
        self.zstd_unshredded += taken;
        self.bytes_unshredded += bytes;
    }
}

fn blocks(bytes: &[u8], kind: FileKind) -> Vec<Block> {
    let (mut forward, mut shredder) = (Forward::default(), Shredder::default());
    let mut blocks = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let window = &bytes[at..bytes.len().min(at + FAST.block)];
        let mut span = Span {
            start: 0,
            length: window.len(),
            file_offset: at as u64,
            kind,
        };
        let keep = unsnap::cut(window, &[span], FAST.content).clamp(1, window.len());
        let plain = &window[..keep];
        span.length = keep;
        let mut unsnapped = Vec::new();
        forward.transform(plain, &[span], FAST.content, &mut unsnapped, &mut |_, _| ());
        let (payload, _) = unsnap::split_payload(&unsnapped).unwrap();
        let mut transformed = Vec::new();
        if !shredder.shred(payload, forward.leaves(), &mut transformed) {
            transformed = unsnapped.clone();
        }
        blocks.push(Block {
            place: at as u64,
            plain: plain.to_vec(),
            streams: streams(plain, &span),
            transformed,
            unsnapped,
        });
        at += keep;
    }
    blocks
}

fn walk(directory: &Path, seconds: &mut Seconds, threads: usize) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, seconds, threads);
            continue;
        }
        let kind = FileKind::of(path.file_name().unwrap().as_encoded_bytes());
        let file = File::open(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for batch in blocks(&bytes, kind).chunks(BATCH) {
            seconds.add(&file, batch, threads);
        }
    }
}

#[test]
#[ignore = "a measurement: needs a data directory and a release build"]
fn measure() {
    let of = |name| std::env::var(name).unwrap();
    let threads = of("FREEZEFRAME_TEST_THREADS").parse().unwrap();
    let mut seconds = Seconds::default();
    walk(
        Path::new(&of("FREEZEFRAME_TEST_DATA")),
        &mut seconds,
        threads,
    );
    let Seconds {
        read,
        snappy,
        zstd,
        zstd_unshredded,
        bytes,
        bytes_unshredded,
    } = seconds;
    println!(
        r#"{{"read": {read}, "snappy": {snappy}, "zstd": {zstd}, "bytes": {bytes}, "zstd_unshredded": {zstd_unshredded}, "bytes_unshredded": {bytes_unshredded}}}"#
    );
}
