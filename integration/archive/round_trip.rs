//! What comes out is what went in.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use freezeframe::archive::*;
use freezeframe::progress::Meter;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::support::*;

#[test]
fn everything_awkward_comes_back() {
    let source = tempfile::tempdir().unwrap();
    awkward_tree(source.path());
    for method in methods().into_iter().chain([portable(6)]) {
        let packed = try_pack(&tree(source.path()), method).unwrap();
        let alone = tempfile::tempdir().unwrap();
        let found = packed.unpack_alone(alone.path()).unwrap();
        assert_eq!(look(alone.path()), look(source.path()));
        let target = tempfile::tempdir().unwrap();
        let read = packed.unpack(target.path(), &[]).unwrap();
        assert_eq!(look(target.path()), look(source.path()));
        assert_eq!(found, read);
        let described = describe(&Memory(packed.object.clone())).unwrap();
        assert_eq!(described.profile, method.profile());
        assert_eq!(described.tar_size, packed.summary.tar_size);
        assert_eq!(packed.check().unwrap(), read);
        assert_eq!(read.files, packed.summary.files);
        assert_eq!(read.data_size, packed.summary.data_size);
        let hash = blake3::hash(&packed.object);
        assert_eq!(packed.summary.hash, hash.into());
        assert_eq!(packed.summary.size, packed.object.len() as u64);
        let estimate = estimate(&tree(source.path())).unwrap();
        assert_eq!(
            (estimate.files, estimate.data_size),
            (read.files, read.data_size)
        );
        assert!(estimate.allocated < estimate.data_size);
        let sparse =
            fs::metadata(target.path().join("journal/WiredTigerPreplog.0000000001")).unwrap();
        assert!(sparse.blocks() * 512 < 100_000, "holes stay holes");
    }
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let source = tempfile::tempdir().unwrap();
    awkward_tree(source.path());
    for method in methods() {
        let [one, two] = [(); 2].map(|()| try_pack(&tree(source.path()), method).unwrap());
        assert!(one.object == two.object, "{method:?}");
        assert_eq!(one.entries, two.entries);
    }
}

#[test]
fn preallocated_zeros_cost_nothing() {
    let source = tempfile::tempdir().unwrap();
    let path = source.path().join("WiredTigerPreplog.0000000001");
    let file = fs::File::create(&path).unwrap();
    nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, 100 << 20).unwrap();
    drop(file);
    write_sparse(&source.path().join("hole"), 100 << 20, &[]);
    let hash = blake3::hash(&vec![0; 100 << 20]).into();
    for method in methods() {
        let packed = try_pack(&tree(source.path()), method).unwrap();
        assert_eq!(packed.summary.data_size, 200 << 20);
        let size = packed.object.len();
        assert!(size < 40_000, "{method:?}: {size} bytes");
        let hole = packed.entries.iter().find(|e| e.path == "hole").unwrap();
        assert_eq!(hole.hash, Some(hash));
        packed.check().unwrap();
    }
}

#[test]
fn grafts_take_the_place_of_links() {
    let outside = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    let (root, other) = (source.path(), outside.path());
    for directory in ["journal", "mydb", "index", "mydb/lost+found", "mounted"] {
        fs::create_dir(other.join(directory)).unwrap();
    }
    fs::write(other.join("journal/log"), "j").unwrap();
    fs::write(other.join("mydb/collection.wt"), "c").unwrap();
    fs::write(other.join("index/index.wt"), "i").unwrap();
    fs::write(other.join("mounted/x"), "m").unwrap();
    symlink(other.join("journal"), root.join("journal")).unwrap();
    symlink(other.join("mydb"), root.join("mydb")).unwrap();
    symlink(other.join("index"), other.join("mydb/index")).unwrap();
    fs::write(root.join("WiredTiger"), "w").unwrap();
    let graft = |at: &str, path: &str| SourceGraft {
        at: at.into(),
        path: other.join(path),
    };
    let mut with = tree(root);
    with.grafts = vec![
        graft("mydb/index", "index"),
        graft("journal", "journal"),
        graft("mydb", "mydb"),
        graft("mounted", "mounted"),
    ];
    let whole = packed(&with);
    assert_eq!(
        whole.paths(),
        [
            "WiredTiger",
            "journal",
            "journal/log",
            "mounted",
            "mounted/x",
            "mydb",
            "mydb/collection.wt",
            "mydb/index",
            "mydb/index/index.wt",
        ]
    );
    whole.check().unwrap();

    with.grafts.push(graft("nowhere/index", "index"));
    let error = try_pack(&with, portable(0)).err().unwrap();
    assert!(
        matches!(error, ArchiveError::GraftUnplaced { .. }),
        "{error}"
    );
    with.grafts.retain(|graft| graft.at == Path::new("journal"));
    let error = try_pack(&with, portable(0)).err().unwrap();
    assert!(
        matches!(&error, ArchiveError::Symlink { path } if path.ends_with("mydb")),
        "{error}"
    );
}

#[test]
fn what_mongod_must_not_find_is_left_out() {
    let source = tempfile::tempdir().unwrap();
    let root = source.path();
    for directory in [
        "diagnostic.data",
        "lost+found",
        "_tmp",
        "logs",
        "sub",
        "sub/_tmp",
    ] {
        fs::create_dir(root.join(directory)).unwrap();
        fs::write(root.join(directory).join("x"), "x").unwrap();
    }
    for file in [
        "mongod.lock",
        "WiredTiger.lock",
        "storage.bson",
        "mongod.log",
        "sub/mongod.lock",
    ] {
        fs::write(root.join(file), "x").unwrap();
    }
    nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("mongodb.sock")).unwrap();
    let mut tree = tree(root);
    tree.exclude = vec!["logs".into(), "mongod.log".into()];
    let kept = [
        "storage.bson",
        "sub",
        "sub/_tmp",
        "sub/_tmp/x",
        "sub/mongod.lock",
        "sub/x",
    ];
    assert_eq!(packed(&tree).paths(), kept);
    tree.include_diagnostics = true;
    let with_diagnostics = packed(&tree);
    assert_eq!(
        with_diagnostics.paths()[..2],
        ["diagnostic.data", "diagnostic.data/x"]
    );
    assert_eq!(
        estimate(&tree).unwrap().files,
        with_diagnostics.summary.files
    );
}

#[test]
fn only_some_paths_from_only_their_blocks() {
    let source = tempfile::tempdir().unwrap();
    awkward_tree(source.path());
    let mut packed = packed(&tree(source.path()));
    // Damage in a block that is not needed does not matter: it is not read.
    let place = packed.object.len() / 3;
    packed.object[place] ^= 1;
    assert!(packed.check().is_err());
    let target = tempfile::tempdir().unwrap();
    let read = packed
        .unpack(target.path(), &["journal", "ümlaut/日本"])
        .unwrap();
    let (all, some) = (look(source.path()), look(target.path()));
    assert_eq!(read.files, 5);
    assert_eq!(some.len(), 5);
    for (path, seen) in &some {
        assert_eq!(seen, &all[path], "{}", path.display());
    }
    let target = tempfile::tempdir().unwrap();
    assert!(packed.unpack(target.path(), &["collection-0.wt"]).is_err());
    let error = packed
        .unpack(tempfile::tempdir().unwrap().path(), &["journ"])
        .unwrap_err();
    assert!(matches!(error, ArchiveError::NoSuchPath { .. }), "{error}");
}

#[test]
fn for_some_paths_no_other_blocks_are_read() {
    let source = tempfile::tempdir().unwrap();
    let names = ["a.wt", "b.wt", "c.wt", "d.wt"];
    for (seed, name) in (1..).zip(names) {
        fs::write(source.path().join(name), bytes(40_000_000, seed)).unwrap();
    }
    for method in methods() {
        let packed = try_pack(&tree(source.path()), method).unwrap();
        let read = Counting {
            object: Memory(packed.object.clone()),
            read: Default::default(),
        };
        let target = tempfile::tempdir().unwrap();
        let options = UnpackOptions {
            threads: threads(2),
            owners: Owners::Restore,
            only: vec!["c.wt".to_owned()],
        };
        unpack(
            &read,
            &packed.expected(),
            &mut packed.entries.iter().cloned().map(Ok),
            target.path(),
            &options,
            &Meter::default(),
            &CancellationToken::new(),
        )
        .unwrap();
        let path = Path::new("c.wt");
        assert_eq!(look(target.path())[path], look(source.path())[path]);
        // A quarter, and what of two blocks more is not of the file.
        let most = match method {
            Method::Small => 0.5,
            _ => 0.35,
        };
        let share = read.read.into_inner() as f64 / packed.object.len() as f64;
        assert!(share < most, "{method:?}: {share}");
    }
}

/// Counts the bytes that are read of it.
struct Counting {
    object: Memory,
    read: std::sync::atomic::AtomicU64,
}

impl ArchiveRead for Counting {
    fn size(&self) -> u64 {
        self.object.size()
    }

    fn read_at(
        &self,
        range: std::ops::Range<u64>,
    ) -> Result<Vec<u8>, freezeframe::store::StoreError> {
        let length = range.end - range.start;
        self.read
            .fetch_add(length, std::sync::atomic::Ordering::Relaxed);
        self.object.read_at(range)
    }
}

#[test]
fn a_target_in_use_is_refused() {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("a"), "a").unwrap();
    let error = packed(&tree(source.path()))
        .unpack(source.path(), &[])
        .unwrap_err();
    assert!(matches!(error, ArchiveError::NotEmpty { .. }), "{error}");
}

#[test]
fn a_sink_that_fails_a_table_that_fails_and_a_cancellation_end_it() {
    /// Has room for so many bytes.
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    /// Cancels when it has so many bytes.
    struct Cancels(CancellationToken, usize);
    impl std::io::Write for Cancels {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1 = self.1.saturating_sub(bytes.len());
            if self.1 == 0 {
                self.0.cancel();
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("a"), bytes(40_000_000, 1)).unwrap();
    let (tree, shard) = (tree(source.path()), "rs0".parse().unwrap());
    for method in methods() {
        let options = PackOptions {
            method,
            threads: threads(2),
        };
        let (meter, cancel) = (Meter::default(), CancellationToken::new());
        let try_pack =
            |sink: &mut dyn std::io::Write,
             on_entry: &mut dyn FnMut(_) -> Result<(), ArchiveError>| {
                pack(&tree, &shard, &options, sink, on_entry, &meter, &cancel).unwrap_err()
            };
        let error = try_pack(&mut Full(0), &mut |_| Ok(()));
        assert!(matches!(error, ArchiveError::Sink { .. }), "{error}");
        // When blocks are on their way.
        let error = try_pack(&mut Full(1_000_000), &mut |_| Ok(()));
        assert!(matches!(error, ArchiveError::Sink { .. }), "{error}");
        let refuse = &mut |_| {
            Err(ArchiveError::NoSuchPath {
                path: "mark".into(),
            })
        };
        let error = try_pack(&mut Vec::new(), refuse);
        assert!(matches!(error, ArchiveError::NoSuchPath { .. }), "{error}");
        // Asked to end by what is written, in the middle.
        let error = try_pack(&mut Cancels(cancel.clone(), 1_000_000), &mut |_| Ok(()));
        assert!(matches!(error, ArchiveError::Cancelled), "{error}");
        let error = try_pack(&mut Vec::new(), &mut |_| Ok(()));
        assert!(matches!(error, ArchiveError::Cancelled), "{error}");
    }
}

/// Packs a file that gets one byte longer while it is read; gives its path and what came of it.
fn pack_growing(source: &Path, live: bool) -> (PathBuf, Result<PackSummary, ArchiveError>) {
    let path = source.join("growing");
    fs::write(&path, bytes(30_000_000, 1)).unwrap();
    // The sink blocks the pipeline until the file has grown, so it is certainly still being read.
    struct Grow(PathBuf, bool);
    impl std::io::Write for Grow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if !std::mem::replace(&mut self.1, true) {
                let file = fs::OpenOptions::new().append(true).open(&self.0)?;
                std::io::Write::write_all(&mut &file, b"x")?;
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let options = PackOptions {
        method: Method::Portable(Level::new(0).unwrap()),
        threads: threads(1),
    };
    let packed = pack(
        &SourceTree {
            live,
            ..tree(source)
        },
        &"rs0".parse().unwrap(),
        &options,
        &mut Grow(path.clone(), false),
        &mut |_| Ok(()),
        &Meter::default(),
        &CancellationToken::new(),
    );
    (path, packed)
}

#[test]
fn a_file_that_changes_underneath_is_an_error() {
    let source = tempfile::tempdir().unwrap();
    let (path, packed) = pack_growing(source.path(), false);
    let error = packed.unwrap_err();
    assert!(
        matches!(&error, ArchiveError::Changed { path: p, .. } if *p == path),
        "{error}"
    );
}

#[test]
fn a_live_file_is_archived_at_the_size_it_had_when_it_was_opened() {
    let source = tempfile::tempdir().unwrap();
    let (path, packed) = pack_growing(source.path(), true);
    assert_eq!(packed.unwrap().data_size, 30_000_000);
    assert_eq!(fs::metadata(path).unwrap().len(), 30_000_001);
}

/// A small tree: names to content; content is data at places in a file of some size, or a directory.
type Plan = BTreeMap<String, Option<(u64, Vec<(u64, u16)>, u32)>>;

fn plan() -> impl Strategy<Value = Plan> {
    let name = prop_oneof![
        8 => "[a-c._ %-]{1,3}",
        1 => "[a-z]{90,120}",
        1 => "[éß日]{1,40}",
    ];
    let file = (
        0u64..300_000,
        prop::collection::vec((0u64..300_000, 1u16..9000), 0..4),
        0u32..0o1000,
    );
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    prop::collection::btree_map(path, prop::option::weighted(0.8, file), 0..12)
}

fn make(root: &Path, plan: &Plan) {
    for (path, file) in plan {
        let path = root.join(path);
        // A name may already be a file where this one needs a directory, or be `.`: then the plan has one entry less.
        match file {
            None => drop(fs::create_dir_all(&path)),
            Some((size, pieces, mode)) => {
                let parent = fs::create_dir_all(path.parent().unwrap());
                if parent.is_err() || path.exists() || !path.starts_with(root) {
                    continue;
                }
                let data: Vec<_> = pieces
                    .iter()
                    .map(|(at, length)| (*at, bytes(usize::from(*length), *at)))
                    .collect();
                write_sparse(&path, *size, &data);
                fs::set_permissions(&path, fs::Permissions::from_mode(0o400 | mode)).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn any_tree_comes_back(plan in plan().prop_filter("no way out", |p| p.keys().all(|k| k.split('/').all(|c| c != ".." && c != ".")))) {
        let source = tempfile::tempdir().unwrap();
        make(source.path(), &plan);
        let _ = fs::remove_dir_all(source.path().join("_tmp"));
        for method in methods() {
            let packed = try_pack(&tree(source.path()), method).unwrap();
            let target = tempfile::tempdir().unwrap();
            packed.unpack(target.path(), &[]).unwrap();
            prop_assert_eq!(look(target.path()), look(source.path()));
        }
    }
}
