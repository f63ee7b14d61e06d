//! tar, xz, pixz and Python read what we write.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use freezeframe::archive::Method;

use super::support::*;

struct Lab {
    scratch: tempfile::TempDir,
    packed: Packed,
}

impl Lab {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("source");
        fs::create_dir(&root).unwrap();
        awkward_tree(&root);
        let packed = packed(&tree(&root));
        fs::write(scratch.path().join("a.tar.xz"), &packed.object).unwrap();
        fs::create_dir(scratch.path().join("out")).unwrap();
        Self { scratch, packed }
    }

    fn source(&self) -> PathBuf {
        self.scratch.path().join("source")
    }

    fn out(&self) -> PathBuf {
        self.scratch.path().join("out")
    }

    fn sh(&self, script: &str) -> String {
        let output = shell(script, self.scratch.path());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn allocated(path: PathBuf) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn gnu_tar_restores_all_of_it() {
    let lab = Lab::new();
    lab.sh("tar --xattrs --numeric-owner -xJpf a.tar.xz -C out");
    assert_eq!(look(&lab.out()), look(&lab.source()));
    assert!(allocated(lab.out().join("journal/WiredTigerPreplog.0000000001")) < 100_000);
    assert!(allocated(lab.out().join("sparse-many.wt")) <= 300 * 4096 + 100_000);
}

#[test]
fn xz_finds_it_sound_with_sizes_in_the_block_headers() {
    let lab = Lab::new();
    lab.sh("xz -t a.tar.xz");
    let list = lab.sh("xz --robot -lvv a.tar.xz");
    let blocks: Vec<Vec<&str>> = list
        .lines()
        .filter(|line| line.starts_with("block"))
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(blocks.len() as u64, lab.packed.summary.blocks);
    let (file_index, data) = blocks.split_last().unwrap();
    assert!(data.len() > 3);
    // Column 12 is the header's flags: c and u when it holds the compressed and uncompressed size.
    assert!(data.iter().all(|block| block[12] == "cu"), "{list}");
    assert_eq!(file_index[12], "--", "pixz knows its index by this");
    assert!(list.contains("CRC64"));
}

#[test]
fn pixz_lists_every_file() {
    let lab = Lab::new();
    let list = lab.sh("pixz -l a.tar.xz");
    let expected: Vec<String> = lab
        .packed
        .entries
        .iter()
        .filter(|e| e.path != "._apple")
        .map(|e| match e.kind {
            freezeframe::manifest::EntryKind::Directory => format!("{}/", e.path),
            freezeframe::manifest::EntryKind::File => e
                .path
                .replace("%09", "\t")
                .replace("%0A", "\n")
                .replace("%25", "%"),
        })
        .collect();
    assert_eq!(list, expected.join("\n") + "\n");
}

#[test]
fn pixz_unpacks_seekable_and_streamed() {
    for how in [
        "pixz -d < a.tar.xz | tar -x --xattrs -p --numeric-owner -C out",
        "cat a.tar.xz | pixz -d | tar -x --xattrs -p --numeric-owner -C out",
        "cat a.tar.xz | xz -dc | tar -x --xattrs -p --numeric-owner -C out",
    ] {
        let lab = Lab::new();
        lab.sh(how);
        assert_eq!(look(&lab.out()), look(&lab.source()), "{how}");
    }
}

#[test]
fn pixz_extracts_single_files() {
    let lab = Lab::new();
    for name in [
        "WiredTiger",
        "collection-0.wt",
        "journal/WiredTigerLog.0000000001",
        "journal/WiredTigerPreplog.0000000001",
        "sparse-many.wt",
        "ümlaut/日本",
    ] {
        // tar may stop reading at the trailer, and pixz then dies of SIGPIPE: that is between the two of them.
        lab.sh(&format!(
            "set +o pipefail; pixz -x '{name}' < a.tar.xz | tar -xp -C out"
        ));
        assert_eq!(
            blake3::hash(&fs::read(lab.out().join(name)).unwrap()),
            blake3::hash(&fs::read(lab.source().join(name)).unwrap()),
            "{name}"
        );
    }
    lab.sh("rm -r out/journal; pixz -x journal < a.tar.xz | tar -xp -C out");
    assert_eq!(fs::read_dir(lab.out().join("journal")).unwrap().count(), 2);
}

#[test]
fn python_reads_it() {
    let lab = Lab::new();
    let script = r#"
import sys, tarfile, hashlib
with tarfile.open("a.tar.xz") as tar:
    for member in tar:
        data = tar.extractfile(member).read() if member.isfile() else b""
        print(repr(member.name), member.size, oct(member.mode), member.mtime, hashlib.sha256(data).hexdigest())
"#;
    fs::write(lab.scratch.path().join("list.py"), script).unwrap();
    let list = lab.sh("PYTHONUTF8=1 python3 list.py > list; wc -l < list; cat list");
    assert_eq!(
        list.lines().next().unwrap().trim(),
        lab.packed.entries.len().to_string()
    );
    let zeros = lab.sh("head -c 8388608 /dev/zero | sha256sum | cut -d' ' -f1");
    assert!(
        list.lines()
            .any(|l| l.contains("Preplog") && l.contains(zeros.trim())),
        "{list}"
    );
    let many = lab.sh("sha256sum < source/sparse-many.wt | cut -d' ' -f1");
    assert!(list.contains(many.trim()));
    assert!(
        list.contains("-4.75") || list.contains("-5.25"),
        "times before 1970: {list}"
    );
}

#[test]
fn a_second_reader_and_zstd_understand_fast_and_small() {
    for method in [Method::Fast, Method::Small] {
        let lab = Lab::new();
        let packed = try_pack(&tree(&lab.source()), method).unwrap();
        fs::write(lab.scratch.path().join("a.tar.ffz"), &packed.object).unwrap();
        lab.sh("zstd -t a.tar.ffz");
        let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/unpack-reference.py");
        lab.sh(&format!(
            "{reference} a.tar.ffz | tar --xattrs --numeric-owner -xpf - -C out"
        ));
        assert_eq!(look(&lab.out()), look(&lab.source()));

        // It is a reader that checks.
        let mut damaged = packed.object.clone();
        let place = damaged.len() / 2;
        damaged[place] ^= 1;
        fs::write(lab.scratch.path().join("b.tar.ffz"), damaged).unwrap();
        lab.sh(&format!("! {reference} b.tar.ffz >/dev/null 2>&1"));
    }
}
