//! Packing takes the memory that is stated, however much there is to pack. Not about hostile input: here is the allocator that counts.

use std::num::NonZeroUsize;
use std::path::Path;

use freezeframe::archive::{Method, PackOptions, SourceTree, pack};
use freezeframe::progress::Meter;
use tokio_util::sync::CancellationToken;

use super::bounds::{Case, alone, bounded, measured, of_rounds, seed};

fn peak(root: &Path, method: Method, threads: NonZeroUsize) -> u64 {
    let source = SourceTree {
        root: root.to_path_buf(),
        grafts: Vec::new(),
        exclude: Vec::new(),
        include_diagnostics: false,
        live: false,
    };
    let (packed, peak) = measured(|| {
        pack(
            &source,
            &"rs0".parse().unwrap(),
            &PackOptions { method, threads },
            &mut std::io::sink(),
            &mut |_| Ok(()),
            &Meter::default(),
            &CancellationToken::new(),
        )
    });
    packed.unwrap();
    peak as u64
}

/// A megabyte of documents with a new number in each.
fn documents(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut piece = Vec::new();
    while piece.len() < 1 << 20 {
        let document = mongodb::bson::doc! {
            "a": random.i32(..), "b": random.i64(..), "c": random.bool(), "d": format!("{:x}", random.u16(..)),
            "e": [random.i32(..), random.i32(..)],
        };
        piece.extend(mongodb::bson::serialize_to_vec(&document).unwrap());
    }
    piece.truncate(1 << 20);
    piece
}

/// Every method and number of threads on data of two kinds, or as large a part of these as rounds are asked for.
#[test]
fn packing_takes_what_is_stated_and_no_more_for_more_data() {
    let _alone = alone();
    let mut random = fastrand::Rng::with_seed(seed());
    let noise: Vec<u8> = (0..1 << 20).map(|_| random.u8(..)).collect();
    let pieces = [("noise", noise), ("documents", documents(&mut random))];
    let mut cases = Vec::new();
    for (what, piece) in &pieces {
        for method in [Method::Fast, Method::Small] {
            cases.extend([1, 3].map(|threads| (*what, piece, method, threads)));
        }
    }
    random.shuffle(&mut cases);
    let wanted = of_rounds(cases.len() as u64) as usize;
    for (what, piece, method, threads) in cases.into_iter().take(wanted) {
        holds(what, piece, method, threads);
    }
}

fn holds(what: &str, piece: &[u8], method: Method, count: usize) {
    let threads = NonZeroUsize::new(count).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Enough that every slot goes round.
    let mut peaks = Vec::new();
    let files = match method {
        Method::Small => [4 + 4 * count, 12 + 12 * count],
        _ => [1 + count, 4 + 4 * count],
    };
    for files in files {
        for number in 0..files {
            let path = folder.path().join(format!("collection-{number}.wt"));
            std::fs::write(path, piece.repeat(16)).unwrap();
        }
        peaks.push(peak(folder.path(), method, threads));
    }
    let stated = method.memory(threads);
    println!("{what}, {method:?}, {count} threads: {peaks:?} of {stated}");
    assert!(
        peaks.iter().all(|peak| *peak <= stated),
        "{peaks:?} of {stated}"
    );
    assert!(peaks[1] < peaks[0] + peaks[0] / 10, "{peaks:?}");
}

/// A document of that many bytes at least: of its fields hardly one is what was expected behind the one before it.
fn surprises(random: &mut fastrand::Rng, size: usize) -> Vec<u8> {
    // Null, undefined, and the ends of the order: fields without a name and a value.
    let mut fields = Vec::with_capacity(size + 6);
    fields.extend([0; 4]);
    while fields.len() < size {
        let kind = [0x06, 0x0A, 0x7F, 0xFF][random.usize(..4)];
        fields.extend([kind, 0]);
    }
    fields.push(0);
    let length = fields.len() as i32;
    fields[..4].copy_from_slice(&length.to_le_bytes());
    fields
}

/// Documents with a field each that no other has, of which those behind the first `good` turn out to be none at their ends.
fn strangers(size: usize, good: u32) -> Vec<u8> {
    let mut documents = Vec::with_capacity(size + 32);
    for number in 0.. {
        if documents.len() >= size {
            break;
        }
        documents.extend([if number < good { 16 } else { 20 }, 0, 0, 0, 0x10]);
        documents.extend(format!("{number:05x}").bytes().take(5));
        documents.extend([0, 1, 2, 3, 4]);
        if number < good {
            documents.push(0);
        } else {
            // A value of twelve bytes, for which there is no room.
            documents.extend([7, 0, 0, 0, 0]);
        }
    }
    documents
}

#[test]
fn documents_that_are_made_to_cost_take_no_more_time_and_memory_than_others() {
    const SIZE: usize = 8 << 20;
    let _alone = alone();
    let mut random = fastrand::Rng::with_seed(8);
    let shred = freezeframe::hostile::target("shred").unwrap();
    let inputs = [
        ("one document of surprises", surprises(&mut random, SIZE)),
        (
            "many of them",
            surprises(&mut random, 1 << 16).repeat(SIZE >> 16),
        ),
        ("strangers", strangers(SIZE, 60_000)),
    ];
    for (origin, input) in inputs {
        let case = Case {
            target: "shred",
            origin: origin.to_owned(),
            input: Vec::new(),
        };
        // `shred::CONTENTS` payloads, and what the list of fields takes.
        bounded(&case, 8 * SIZE + (16 << 20), || shred(&input));
    }
}
