//! Packing takes the memory that is stated, however much there is to pack. Not about hostile input: here is the allocator that counts.

use std::num::NonZeroUsize;
use std::path::Path;

use freezeframe::archive::{Method, PackOptions, SourceTree, pack};
use freezeframe::progress::Meter;
use tokio_util::sync::CancellationToken;

use super::bounds::{alone, measured};

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

#[test]
fn packing_takes_what_is_stated_and_no_more_for_more_data() {
    let _alone = alone();
    let mut random = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = (0..1 << 20).map(|_| random.u8(..)).collect();
    holds("noise", &noise);
    holds("documents", &documents(&mut random));
}

fn holds(what: &str, piece: &[u8]) {
    for method in [Method::Fast, Method::Small] {
        for count in [1, 3] {
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
    }
}
