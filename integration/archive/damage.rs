//! No damage goes unnoticed, and none is worse than an error.

use std::fs;

use freezeframe::archive::*;
use freezeframe::error::{Exit, Explain};
use freezeframe::ids::Hash;
use freezeframe::manifest::{EntryKind, FileEntry};

use super::support::*;

/// Some kilobytes of archive with every kind of entry, by each profile.
fn smalls() -> impl Iterator<Item = Packed> {
    methods().into_iter().map(small)
}

fn small(method: Method) -> Packed {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("journal")).unwrap();
    fs::write(source.path().join("WiredTiger"), "WiredTiger 10.0.2").unwrap();
    fs::write(source.path().join("noise"), &bytes(64, 5)[..40]).unwrap();
    write_sparse(
        &source.path().join("journal/log"),
        1 << 20,
        &[(5000, bytes(900, 2))],
    );
    // Some blocks of a portable archive, two of a fast one.
    let length = match method {
        Method::Fast => 1_200_000,
        _ => 300_000,
    };
    fs::write(source.path().join("collection.wt"), b"page".repeat(length)).unwrap();
    try_pack(&tree(source.path()), method).unwrap()
}

fn must_fail(packed: &Packed, what: &str) {
    let error = packed
        .check()
        .err()
        .unwrap_or_else(|| panic!("check took {what}"));
    assert_eq!(error.exit(), Exit::Damaged, "{what}: {error}");
    let target = tempfile::tempdir().unwrap();
    let error = packed
        .unpack(target.path(), &[])
        .err()
        .unwrap_or_else(|| panic!("unpack took {what}"));
    assert_eq!(error.exit(), Exit::Damaged, "{what}: {error}");
}

#[test]
fn every_changed_byte_is_found() {
    for packed in smalls() {
        packed.check().unwrap();
        let least = [4, 2, 1][packed.summary.profile as usize];
        assert!(packed.summary.blocks >= least);
        for place in 0..packed.object.len() {
            for flip in [0x01, 0xFF] {
                let mut damaged = packed.clone();
                damaged.object[place] ^= flip;
                let found = damaged.check();
                assert!(found.is_err(), "byte {place} ^ {flip:#x}");
                assert_eq!(found.unwrap_err().exit(), Exit::Damaged);
            }
        }
        for place in (0..packed.object.len()).step_by(7) {
            let mut damaged = packed.clone();
            damaged.object[place] ^= 0x10;
            must_fail(&damaged, &format!("byte {place}"));
        }
    }
}

#[test]
fn every_truncation_and_every_addition_is_found() {
    for packed in smalls() {
        for length in 0..packed.object.len() {
            let mut damaged = packed.clone();
            damaged.object.truncate(length);
            let error = damaged.check().unwrap_err();
            assert!(matches!(error, ArchiveError::Size { .. }), "{error}");
            // Also where the manifest was changed to match.
            damaged.summary.size = length as u64;
            assert_eq!(
                damaged.check().unwrap_err().exit(),
                Exit::Damaged,
                "{length}"
            );
        }
        let mut longer = packed.clone();
        longer.object.extend([0; 4]);
        must_fail(&longer, "four bytes more");
        longer.summary.size += 4;
        must_fail(&longer, "stream padding");
    }
}

#[test]
fn every_changed_field_of_the_table_is_found() {
    for packed in smalls() {
        type Change = (&'static str, fn(&mut FileEntry));
        let changes: [Change; 11] = [
            ("path", |e| e.path.push('x')),
            ("kind", |e| {
                e.kind = match e.kind {
                    EntryKind::File => EntryKind::Directory,
                    EntryKind::Directory => EntryKind::File,
                };
            }),
            ("size", |e| e.size += 1),
            ("mode", |e| e.mode ^= 1),
            ("uid", |e| e.uid ^= 1),
            ("gid", |e| e.gid ^= 1),
            ("mtime", |e| e.mtime += 1),
            ("mtime_ns", |e| e.mtime_ns ^= 1),
            ("hash", |e| e.hash = Some(Hash([7; 32]))),
            ("tar_offset", |e| e.tar_offset += 512),
            ("tar_length", |e| e.tar_length += 512),
        ];
        for number in 0..packed.entries.len() {
            for (what, change) in changes {
                let mut damaged = packed.clone();
                change(&mut damaged.entries[number]);
                must_fail(&damaged, &format!("{what} of line {number}"));
                let path = damaged.entries[number].path.clone();
                let target = tempfile::tempdir().unwrap();
                assert!(
                    damaged.unpack(target.path(), &[&path]).is_err(),
                    "{what} of only {path}"
                );
            }
            let mut less = packed.clone();
            less.entries.remove(number);
            must_fail(&less, "a line less");
            let mut more = packed.clone();
            more.entries.insert(number, packed.entries[number].clone());
            must_fail(&more, "a line twice");
        }
        let mut more = packed.clone();
        more.entries.push(packed.entries[0].clone());
        must_fail(&more, "a line more");
    }
}

#[test]
fn every_changed_number_of_the_manifest_is_found() {
    for packed in smalls() {
        let changes: [fn(&mut PackSummary); 4] = [
            |s| s.size -= 1,
            |s| s.tar_size += 512,
            |s| s.blocks += 1,
            |s| s.hash = Hash([1; 32]),
        ];
        for change in changes {
            let mut damaged = packed.clone();
            change(&mut damaged.summary);
            must_fail(&damaged, "a changed manifest");
        }
    }
}
