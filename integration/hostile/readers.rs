//! Every target over its corpus and over mutations of it.

use fastrand::Rng;
use freezeframe::hostile::TARGETS;

use super::bounds::{Case, alone, bounded, of_rounds, seed};
use super::corpus;
use super::mutate::mutated;

/// What a reader of `length` bytes may take. A value of JSON or TOML of two bytes takes some thirty; the archives' targets
/// hold the stream, its blocks and a forged object.
fn memory(target: &str, length: usize) -> usize {
    match target {
        "archive" | "tar" => (64 << 20) + 64 * length,
        // A block and its content at their largest, which an index may promise in a few bytes, as much to copy them, and the same
        // for the columns of a shredded one and what comes of them.
        "frames" => (768 << 20) + 64 * length,
        _ => (2 << 20) + 128 * length,
    }
}

fn mutations(target: &str) -> u64 {
    match target {
        "archive" | "frames" | "tar" => 1200,
        _ => 6000,
    }
}

#[test]
fn every_reader_bears_its_corpus_and_its_mutations() {
    let _alone = alone();
    let seed = seed();
    for (name, target) in TARGETS {
        let inputs = corpus::of(name);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        let run = |case: Case| {
            bounded(&case, memory(name, case.input.len()), || {
                target(&case.input)
            })
        };
        let mut understood = 0;
        for (file, input) in &inputs {
            understood += run(Case {
                target: name,
                origin: file.clone(),
                input: input.clone(),
            });
        }
        // A corpus that every reader refuses in its first line would show nothing.
        assert!(understood > 0, "{name} understands nothing of its corpus");
        let contents: Vec<Vec<u8>> = inputs.iter().map(|(_, input)| input.clone()).collect();
        let count = of_rounds(mutations(name));
        let mut deep = 0;
        for number in 0..count {
            let mut random = Rng::with_seed(seed.wrapping_add(number));
            let (file, entry) = &inputs[random.usize(0..inputs.len())];
            let read = run(Case {
                target: name,
                origin: format!("seed {seed}, mutation {number} of {file}"),
                input: mutated(&mut random, entry, &contents),
            });
            deep += u64::from(read > 0);
        }
        assert!(
            deep > count / 200,
            "{name}: {deep} of {count} mutations got past the first check"
        );
        println!(
            "{name}: {} inputs, {count} mutations, {deep} of them understood in part",
            inputs.len()
        );
    }
}

#[test]
fn every_reader_has_its_fuzz_target() {
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        let source = fuzz.join(format!("fuzz_targets/{name}.rs"));
        let text = std::fs::read_to_string(&source)
            .unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        assert!(text.contains(&format!("target(\"{name}\")")), "{name}");
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "{name}"
        );
    }
    let there = std::fs::read_dir(fuzz.join("fuzz_targets"))
        .unwrap()
        .count();
    assert_eq!(there, TARGETS.len());
}
