//! Whole backup sets, changed by somebody who may write the store and keeps every hash, size and seal in accord: restored
//! beside files that must not change, and verified.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use fastrand::Rng;
use freezeframe::archive::{Level, Method, PackOptions, SourceTree, pack};
use freezeframe::catalog;
use freezeframe::error::{Exit, Explain};
use freezeframe::hostile::forge::{self, Forged};
use freezeframe::hostile::{reseal, table_of};
use freezeframe::ids::{BackupId, ShardName};
use freezeframe::manifest::{FileEntry, Manifest, seal};
use freezeframe::progress::{Meter, Silent};
use freezeframe::restore::fetch::Fetch;
use freezeframe::restore::target::INCOMPLETE;
use freezeframe::restore::{Order, restore};
use freezeframe::store::SharedStore;
use freezeframe::store::memory::MemoryStore;
use freezeframe::verify::verify;
use tokio_util::sync::CancellationToken;

use super::bounds::{Case, alone, bounded, of_rounds, seed};
use super::corpus;
use super::mutate::mutated;

const ATTACKS: u64 = 1000;
/// Two threads, each with at most three blocks.
const MEMORY: usize = 128 << 20;

const ID: &str = "mongo_backup-20260131_020000";
const OBJECTS: [&str; 4] = [
    "manifest.json",
    "intent.json",
    "files.jsonl.zst",
    "rs0.tar.xz",
];

fn id() -> BackupId {
    ID.parse().unwrap()
}

fn rs0() -> ShardName {
    "rs0".parse().unwrap()
}

/// The parts of a sound set, before they are stored.
pub struct Parts {
    pub manifest: Manifest,
    pub intent: Vec<u8>,
    pub archive: Forged,
    /// The table, uncompressed.
    pub table: Vec<u8>,
}

impl Parts {
    /// Made by the real packer and the frozen documents.
    pub fn sound() -> Self {
        let source = tempfile::tempdir().unwrap();
        let place = |name: &str| source.path().join(name);
        fs::create_dir_all(place("journal/deeper")).unwrap();
        fs::write(place("WiredTiger"), "WiredTiger 10.0.2").unwrap();
        fs::write(place("journal/deeper/log"), vec![b'l'; 3000]).unwrap();
        fs::write(place(&"n".repeat(180)), "long name").unwrap();
        fs::write(place("sp ace\tü"), "").unwrap();
        let sparse = fs::File::create(place("sparse.wt")).unwrap();
        sparse.set_len(1 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 300_000).unwrap();
        sparse.sync_all().unwrap();
        xattr::set(place("WiredTiger"), "user.odd=%", b"a\0b").unwrap();
        let tree = SourceTree {
            root: source.path().to_path_buf(),
            grafts: Vec::new(),
            exclude: Vec::new(),
            include_diagnostics: false,
            live: false,
        };
        let options = PackOptions {
            method: Method::Portable(Level::new(0).unwrap()),
            threads: NonZeroUsize::MIN,
        };
        let mut object = Vec::new();
        pack(
            &tree,
            &rs0(),
            &options,
            &mut object,
            &mut |_| Ok(()),
            &Meter::default(),
            &CancellationToken::new(),
        )
        .unwrap();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("integration/fixtures/format-1")
            .join(ID);
        let frozen = fs::read(fixture.join(OBJECTS[0])).unwrap();
        let mut manifest: Manifest = seal::open(&frozen).unwrap();
        manifest.members.truncate(1);
        let intent = fs::read_to_string(fixture.join(OBJECTS[1])).unwrap();
        let mut parts = Self {
            manifest,
            intent: intent.into_bytes(),
            archive: forge::accept(object, &rs0()),
            table: Vec::new(),
        };
        parts.keep_the_members();
        parts.write_table();
        parts
    }

    /// The intent with the members that the manifest still has.
    fn keep_the_members(&mut self) {
        let mut intent: freezeframe::manifest::Intent = seal::open(&self.intent).unwrap();
        intent.members.truncate(1);
        self.intent = seal::seal(&intent).unwrap();
    }

    pub fn take(&mut self, archive: Forged) {
        self.archive = archive;
        self.write_table();
    }

    fn write_table(&mut self) {
        let line = |entry: &FileEntry| format!("{}\n", serde_json::to_string(entry).unwrap());
        self.table = self
            .archive
            .entries
            .iter()
            .map(line)
            .collect::<String>()
            .into_bytes();
    }

    /// A manifest in accord with `archive` and the table `stored`, sealed.
    pub fn manifest(&self, stored: &[u8]) -> Vec<u8> {
        let mut manifest = self.manifest.clone();
        let lines = self.table.iter().filter(|byte| **byte == b'\n').count() as u64;
        let record = &mut manifest.members[0].archive;
        record.size = self.archive.expected.size;
        record.tar_size = self.archive.expected.tar_size;
        record.data_size = self.archive.expected.data_size;
        record.hash = self.archive.expected.hash;
        record.blocks = self.archive.expected.blocks;
        record.files = lines;
        manifest.files.entries = lines;
        manifest.files.size = stored.len() as u64;
        manifest.files.hash = blake3::hash(stored).into();
        seal::seal(&manifest).unwrap()
    }

    pub fn objects(&self) -> [Vec<u8>; 4] {
        let table = table_of(&self.table);
        [
            self.manifest(&table),
            self.intent.clone(),
            table,
            self.archive.object.clone(),
        ]
    }
}

/// One set, changed in one way, and in accord again where the way allows it.
fn attack(random: &mut Rng, sound: &Parts, stream: &[u8]) -> (&'static str, [Vec<u8>; 4]) {
    let mut parts = Parts {
        manifest: sound.manifest.clone(),
        intent: sound.intent.clone(),
        archive: sound.archive.clone(),
        table: sound.table.clone(),
    };
    let others = [sound.table.clone(), sound.intent.clone()];
    let kind = random.u8(0..9);
    let mut change = |bytes: &[u8]| mutated(random, bytes, &others);
    match kind {
        0 => {
            let object = change(&parts.archive.object);
            parts.take(forge::accept(object, &rs0()));
            ("object", parts.objects())
        }
        1 | 2 => {
            let stream = change(stream);
            parts.take(forge::forge(&stream, &rs0()).unwrap());
            ("stream", parts.objects())
        }
        3 | 4 => {
            let stream = forge::mend_checksums(change(stream));
            parts.take(forge::forge(&stream, &rs0()).unwrap());
            ("stream with checksums", parts.objects())
        }
        5 => {
            parts.table = change(&parts.table);
            ("table", parts.objects())
        }
        6 => {
            let table = change(&table_of(&parts.table));
            let [_, intent, _, archive] = parts.objects();
            (
                "compressed table",
                [parts.manifest(&table), intent, table, archive],
            )
        }
        7 => {
            let [manifest, intent, table, archive] = parts.objects();
            (
                "manifest",
                [reseal(&change(&manifest)), intent, table, archive],
            )
        }
        _ => {
            let [manifest, intent, table, archive] = parts.objects();
            (
                "intent",
                [manifest, reseal(&change(&intent)), table, archive],
            )
        }
    }
}

/// The objects of a set in one file, for the corpus.
fn joined(objects: &[Vec<u8>; 4]) -> Vec<u8> {
    let lengths = objects
        .iter()
        .flat_map(|object| (object.len() as u32).to_le_bytes());
    lengths.chain(objects.iter().flatten().copied()).collect()
}

fn apart(mut joined: &[u8]) -> [Vec<u8>; 4] {
    let mut take = |count: usize| {
        let (taken, rest) = joined.split_at(count);
        joined = rest;
        taken.to_vec()
    };
    let lengths: [usize; 4] =
        std::array::from_fn(|_| u32::from_le_bytes(take(4).try_into().unwrap()) as usize);
    lengths.map(take)
}

/// Where restores write: in memory where the host has such a place, so that no disk waits for thousands of syncs.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

/// A directory to restore into, and around it what must stay as it is.
struct Neighbours {
    home: tempfile::TempDir,
    before: BTreeMap<PathBuf, (u64, u32, i64, Vec<u8>)>,
}

impl Neighbours {
    fn new() -> Self {
        let home = scratch();
        let place = |name: &str| home.path().join(name);
        fs::create_dir(place("beside")).unwrap();
        fs::create_dir(place("around")).unwrap();
        for name in [
            "escape",
            "beside/escape",
            "around/WiredTiger",
            "around/mongod.lock",
        ] {
            fs::write(place(name), name).unwrap();
        }
        symlink("../beside", place("around/link")).unwrap();
        let mut neighbours = Self {
            before: BTreeMap::new(),
            home,
        };
        neighbours.before = neighbours.look();
        neighbours
    }

    fn target(&self) -> PathBuf {
        self.home.path().join("around/target")
    }

    /// Inode, mode, time of change and content of everything but the target. Directories that the target lies in change.
    fn look(&self) -> BTreeMap<PathBuf, (u64, u32, i64, Vec<u8>)> {
        let mut seen = BTreeMap::new();
        let mut ahead = vec![self.home.path().to_path_buf()];
        while let Some(path) = ahead.pop() {
            if path == self.target() {
                continue;
            }
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = match () {
                () if metadata.is_dir() => {
                    ahead.extend(
                        fs::read_dir(&path)
                            .unwrap()
                            .map(|entry| entry.unwrap().path()),
                    );
                    Vec::new()
                }
                () if metadata.is_symlink() => Vec::new(),
                () => fs::read(&path).unwrap(),
            };
            let changed = if metadata.is_dir() {
                0
            } else {
                metadata.ctime()
            };
            seen.insert(path, (metadata.ino(), metadata.mode(), changed, content));
        }
        seen
    }

    fn assert_untouched(&self) {
        assert!(
            self.before == self.look(),
            "something outside the target changed"
        );
        assert_plain(&self.target());
    }
}

/// Nothing but files and directories, each with one name.
fn assert_plain(path: &Path) {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return;
    };
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            assert_plain(&entry.unwrap().path());
        }
    } else {
        assert!(
            metadata.is_file() && metadata.nlink() == 1,
            "{}",
            path.display()
        );
    }
}

/// How restoring a set ended.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
pub enum Ended {
    Restored,
    Refused,
}

/// Verifies and restores the set, and looks at what must hold whatever is in it.
pub async fn suffer(objects: &[Vec<u8>; 4]) -> Ended {
    let memory = MemoryStore::new();
    for (name, object) in OBJECTS.iter().zip(objects) {
        memory.replace(&catalog::key(id(), name), object.clone());
    }
    let store: SharedStore = std::sync::Arc::new(memory);
    let cancel = CancellationToken::new();
    let threads = NonZeroUsize::new(2).unwrap();
    let verified = verify(&store, id(), threads, &Silent, &cancel).await;
    let sound = match &verified {
        Ok(report) => report
            .findings
            .iter()
            .all(|finding| finding.object == "intent.json"),
        Err(error) => {
            assert_eq!(error.exit(), Exit::Refused, "{error}");
            false
        }
    };
    let neighbours = Neighbours::new();
    let target = neighbours.target();
    let ended = match catalog::load(store.as_ref(), id()).await {
        Err(error) => {
            assert!(
                [Exit::Damaged, Exit::Refused].contains(&error.exit()),
                "{error}"
            );
            assert!(error.hint().is_some(), "{error}");
            Ended::Refused
        }
        Ok(manifest) => {
            let fetch = Fetch {
                store: &store,
                manifest: &manifest,
                threads,
                progress: &Silent,
                cancel: &cancel,
            };
            let order = Order {
                only: &[],
                to: &target,
                shard: None,
                member: None,
                replset: None,
                mongod: None,
            };
            match restore(&fetch, &order).await {
                Ok(_) => {
                    assert!(sound, "restored what verify finds damaged: {verified:?}");
                    assert!(!target.join(INCOMPLETE).exists());
                    Ended::Restored
                }
                Err(error) => {
                    let exit = error.exit();
                    // A profile of another name may be a later version's.
                    assert!(
                        [Exit::Damaged, Exit::Restore, Exit::Refused].contains(&exit),
                        "{exit:?}: {error}"
                    );
                    assert!(exit != Exit::Refused || !target.exists(), "{error}");
                    assert!(
                        !target.exists() || target.join(INCOMPLETE).exists(),
                        "{error}"
                    );
                    Ended::Refused
                }
            }
        }
    };
    neighbours.assert_untouched();
    ended
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap()
}

/// Writes inputs of the corpus that only code can make; what is there stays.
#[test]
#[ignore = "run by hand, when the corpus is to grow"]
fn plant() {
    let put = |target: &str, name: &str, bytes: &[u8]| {
        fs::create_dir_all(corpus::folder(target)).unwrap();
        fs::write(corpus::folder(target).join(name), bytes).unwrap();
    };
    let sound = Parts::sound();
    put("set", "sound", &joined(&sound.objects()));
    put("archive", "every-kind-of-entry", &sound.archive.object);
    let stream = forge::unwrap(&sound.archive.object).unwrap();
    put("tar", "every-kind-of-entry", &stream);
    for (name, stream, data_size) in super::attacks::streams() {
        let mut forged = forge::forge(&stream, &rs0()).unwrap();
        forged.expected.data_size = data_size.unwrap_or(forged.expected.data_size);
        let mut parts = Parts::sound();
        parts.take(forged);
        put("set", name, &joined(&parts.objects()));
        put("tar", name, &stream);
    }
}

#[test]
fn no_set_hurts_who_restores_it() {
    let _alone = alone();
    let seed = seed();
    let runtime = runtime();
    let sound = Parts::sound();
    let stream = forge::unwrap(&sound.archive.object).unwrap();
    assert_eq!(runtime.block_on(suffer(&sound.objects())), Ended::Restored);

    let run = |origin: String, objects: &[Vec<u8>; 4]| {
        let case = Case {
            target: "set",
            origin,
            input: joined(objects),
        };
        bounded(&case, MEMORY, || runtime.block_on(suffer(objects)))
    };
    for (name, input) in corpus::of("set") {
        run(name, &apart(&input));
    }
    let mut ended = BTreeMap::new();
    for number in 0..of_rounds(ATTACKS) {
        let mut random = Rng::with_seed(seed.wrapping_add(number));
        let (kind, objects) = attack(&mut random, &sound, &stream);
        let how = run(
            format!("seed {seed}, attack {number} on the {kind}"),
            &objects,
        );
        *ended.entry((kind, how)).or_insert(0u64) += 1;
    }
    println!("{ended:?}");
    // Were every attack refused at the door, nothing behind it would have been tried.
    let restored = |kind| ended.contains_key(&(kind, Ended::Restored));
    assert!(restored("stream with checksums"), "{ended:?}");
    // Few of those manifests still fit: a sample may have none.
    let manifests = |how| ended.get(&("manifest", how)).copied().unwrap_or(0);
    assert!(
        restored("manifest") || manifests(Ended::Refused) < ATTACKS / 20,
        "{ended:?}"
    );
}
