//! How fast it is, beside its floor: decoding and encoding the same pages and nothing else. Processor time of one thread, the best of five
//! for each block. Run by hand, in release:
//! `FREEZEFRAME_TEST_DATA=DIR cargo test --release --lib unsnap::measure -- --ignored --nocapture`

use std::path::{Path, PathBuf};

use nix::time::{ClockId, clock_gettime};

use super::shape::PREFIX;
use super::snappy::Workspace;
use super::walk::Walk;
use super::*;

const BLOCK: usize = 4 << 20;

fn seconds() -> f64 {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    now.tv_sec() as f64 + now.tv_nsec() as f64 * 1e-9
}

fn best(mut run: impl FnMut()) -> f64 {
    let once = |_| {
        let start = seconds();
        run();
        seconds() - start
    };
    (0..5).map(once).fold(f64::MAX, f64::min)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Streams in a block and what they hold.
pub(crate) fn streams(plain: &[u8], span: &Span) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    for unit in Walk::new(plain, span) {
        if !unit.complete || !unit.header.compressed {
            continue;
        }
        let start = unit.start + unit.shape.head();
        let (length, rest) = plain[start..].split_first_chunk::<PREFIX>().unwrap();
        let stream = rest.get(..u64::from_le_bytes(*length) as usize);
        let decoded = stream.and_then(|bytes| snap::raw::Decoder::new().decompress_vec(bytes).ok());
        if let (Some(stream), Some(content)) = (stream, decoded)
            && content.len() == unit.header.content
        {
            found.push((stream.to_vec(), content));
        }
    }
    found
}

#[derive(Default)]
struct Times {
    forward: f64,
    inverse: f64,
    decode: f64,
    encode: f64,
    own: [f64; 4],
    follow: [f64; 4],
}

#[test]
#[ignore = "a measurement: needs a data directory and a release build"]
fn measure() {
    let directory = PathBuf::from(std::env::var("FREEZEFRAME_TEST_DATA").unwrap());
    let mut times = Times::default();
    let (mut to, mut back) = (Forward::default(), Inverse::default());
    let (mut content, mut again) = (Vec::new(), Vec::new());
    let mut snap = snap::raw::Encoder::new();
    let mut workspace = Workspace::default();
    let mut scratch = vec![0; 64 << 20];
    let mut whole = Statistics::default();
    let (mut plain_bytes, mut streams_seen) = (0, 0);
    let mut by_kind: Vec<(String, u64, Statistics)> = Vec::new();
    for path in files(&directory) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let kind = FileKind::of(name.as_bytes());
        let file = std::fs::read(&path).unwrap();
        let mut of_file = Statistics::default();
        let mut at = 0;
        while at < file.len() && kind != FileKind::Other {
            let window = &file[at..file.len().min(at + BLOCK)];
            let mut span = Span {
                start: 0,
                length: window.len(),
                file_offset: at as u64,
                kind,
            };
            let plain = &window[..cut(window, &[span], 4 * BLOCK)];
            span.length = plain.len();
            at += plain.len();
            let spans = [span];
            to.transform(plain, &spans, 4 * BLOCK, &mut content, &mut |_, found| {
                of_file += found;
            });
            back.restore(&content, plain.len(), &mut again).unwrap();
            assert!(again == plain, "{name}");
            // The zeros of a log are not what is measured.
            if kind == FileKind::Journal {
                continue;
            }
            plain_bytes += plain.len();
            times.inverse += best(|| back.restore(&content, plain.len(), &mut again).unwrap());
            times.forward += best(|| {
                to.transform(plain, &spans, 4 * BLOCK, &mut content, &mut |_, _| ());
            });
            let pairs = streams(plain, &span);
            streams_seen += pairs.len();
            // A block at a time: one page again and again would be learnt by heart.
            times.decode += best(|| {
                for (stream, _) in &pairs {
                    snap::raw::Decoder::new()
                        .decompress(stream, &mut scratch)
                        .unwrap();
                }
            });
            let lengths = pairs.iter().map(|(_, content)| content.len());
            let lengths: Vec<usize> = lengths.collect();
            let mut windows: Vec<_> = pairs.into_iter().map(|(_, content)| content).collect();
            times.encode += best(|| {
                for content in &windows {
                    snap.compress(content, &mut scratch).unwrap();
                }
            });
            for content in &mut windows {
                content.resize(content.len() + super::snappy::WINDOW, 0);
            }
            for (place, encoder) in Encoder::ALL.into_iter().enumerate() {
                let mut out = vec![Vec::new(); windows.len()];
                let work = &mut workspace;
                times.own[place] += best(|| {
                    for ((content, length), out) in windows.iter().zip(&lengths).zip(&mut out) {
                        out.clear();
                        assert!(encoder.encode(work, content, *length, out, usize::MAX));
                    }
                });
                times.follow[place] += best(|| {
                    for ((content, length), out) in windows.iter().zip(&lengths).zip(&out) {
                        assert!(encoder.makes(work, out, content, *length));
                    }
                });
            }
        }
        let class = ["collection-", "index-", "WiredTigerHS", "WiredTigerLog"]
            .into_iter()
            .find(|start| name.starts_with(start))
            .unwrap_or("other");
        whole += &of_file;
        match by_kind.iter_mut().find(|(known, ..)| known == class) {
            Some((_, bytes, sum)) => {
                *bytes += file.len() as u64;
                *sum += &of_file;
            }
            None => by_kind.push((class.to_owned(), file.len() as u64, of_file)),
        }
    }
    for (class, bytes, sum) in by_kind {
        println!(
            "{class}: {bytes} bytes, tried {}, proven {:?}",
            sum.tried,
            sum.total()
        );
    }
    let megabytes = plain_bytes as f64 / 1e6;
    let floor = times.decode + times.encode;
    println!(
        "{megabytes:.0} MB of data files, {streams_seen} streams, {:?}",
        whole.total()
    );
    println!(
        "forward {:.3} s, {:.0} MB/s",
        times.forward,
        megabytes / times.forward
    );
    println!(
        "inverse {:.3} s, {:.0} MB/s",
        times.inverse,
        megabytes / times.inverse
    );
    println!(
        "floor: decode {:.3} s, encode {:.3} s, both {floor:.3} s",
        times.decode, times.encode
    );
    println!("encode, {:?}: {:.3?} s", Encoder::ALL, times.own);
    println!("follow: {:.3?} s", times.follow);
}
