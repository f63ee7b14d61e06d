//! `pack` and `unpack`: the archive engine by hand. Neither needs a configuration.

use std::fs;
use std::path::Path;

use snapbox::{assert_data_eq, str};

use crate::scene::{Scene, keys};

/// A small data directory in the scene's `data`, and no configuration.
fn scene() -> Scene {
    let scene = Scene::new("");
    fs::remove_file(scene.path("freezeframe.toml")).unwrap();
    fs::create_dir_all(scene.path("data/journal")).unwrap();
    fs::write(scene.path("data/WiredTiger"), "WiredTiger 10.0.2").unwrap();
    fs::write(scene.path("data/collection.wt"), vec![b'c'; 20_000]).unwrap();
    fs::write(scene.path("data/journal/log"), vec![b'j'; 300]).unwrap();
    fs::write(scene.path("data/mongod.lock"), "").unwrap();
    scene
}

fn same(scene: &Scene, unpacked: &str) {
    for file in ["WiredTiger", "collection.wt", "journal/log"] {
        let read = |folder: &str| fs::read(scene.path(folder).join(file)).unwrap();
        assert_eq!(read(unpacked), read("data"), "{file}");
    }
    assert!(!scene.path(unpacked).join("mongod.lock").exists());
    let left = scene.names(unpacked);
    assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
}

#[test]
fn every_profile_is_packed_and_unpacked_whatever_its_name() {
    let scene = scene();
    assert_data_eq!(
        scene.transcript(
            "freezeframe pack data -o a
             freezeframe pack --profile fast --threads 1 data -o b
             freezeframe pack --profile small data -o c
             freezeframe unpack a -C from-a
             freezeframe unpack b --directory from-b
             freezeframe unpack c -C from-c --threads 3"
        ),
        str![[r#"
$ freezeframe pack data -o a
a: 4 files, 30.0 KiB in SIZE, portable, in SECONDS
BLAKE3 HASH
=> 0
$ freezeframe pack --profile fast --threads 1 data -o b
b: 4 files, 30.0 KiB in SIZE, fast, in SECONDS
BLAKE3 HASH
=> 0
$ freezeframe pack --profile small data -o c
c: 4 files, 30.0 KiB in SIZE, small, in SECONDS
BLAKE3 HASH
=> 0
$ freezeframe unpack a -C from-a
DIR/from-a: 4 files, 19.8 KiB, portable, in SECONDS
=> 0
$ freezeframe unpack b --directory from-b
DIR/from-b: 4 files, 19.8 KiB, fast, in SECONDS
=> 0
$ freezeframe unpack c -C from-c --threads 3
DIR/from-c: 4 files, 19.8 KiB, small, in SECONDS
=> 0

"#]]
    );
    for unpacked in ["from-a", "from-b", "from-c"] {
        same(&scene, unpacked);
    }
    let packed = scene.json("freezeframe pack --profile fast data -o d --json", 0);
    assert_eq!(
        keys(&packed),
        [
            "blocks",
            "data_size",
            "file",
            "files",
            "hash",
            "profile",
            "seconds",
            "size",
            "tar_size",
            "unsnapped"
        ]
    );
    assert_eq!(
        keys(&packed["unsnapped"]),
        [
            "collections",
            "history_store",
            "indexes",
            "journal",
            "other_tables",
            "proven",
            "proven_bytes",
            "tried"
        ]
    );
    assert_eq!(
        keys(&packed["unsnapped"]["indexes"]["proven"]),
        [
            "snappy_1_1_9",
            "snappy_from_1_1_10",
            "snappy_from_1_1_10_crc32c",
            "snappy_to_1_1_8",
            "zlib"
        ]
    );
    assert_eq!(packed["files"], 4);
    assert_eq!(packed["size"], fs::read(scene.path("d")).unwrap().len());
    let unpacked = scene.json("freezeframe unpack d -C from-d --json", 0);
    assert_eq!(
        keys(&unpacked),
        ["data_size", "directory", "files", "profile", "seconds"]
    );
    assert_eq!(unpacked["profile"], "fast");
    assert_eq!(unpacked["data_size"], 20_317);
}

#[test]
fn pipes_do() {
    let scene = scene();
    assert_data_eq!(
        scene.shell(
            "freezeframe pack data -o - | tee a.tar.xz | freezeframe unpack - -C from-pipe && \
             freezeframe unpack - -C from-file < a.tar.xz && \
             mkdir from-tar && tar -xJf a.tar.xz -C from-tar && \
             freezeframe pack --profile small -o - data 2>/dev/null | freezeframe unpack - -C from-small && \
             freezeframe pack --profile fast -o - data 2>/dev/null | zstd -t 2>/dev/null"
        ),
        str![[r#"
$ freezeframe pack data -o - | tee a.tar.xz | freezeframe unpack - -C from-pipe && freezeframe unpack - -C from-file < a.tar.xz && mkdir from-tar && tar -xJf a.tar.xz -C from-tar && freezeframe pack --profile small -o - data 2>/dev/null | freezeframe unpack - -C from-small && freezeframe pack --profile fast -o - data 2>/dev/null | zstd -t 2>/dev/null
DIR/from-pipe: 4 files, 19.8 KiB, portable, in SECONDS
DIR/from-file: 4 files, 19.8 KiB, portable, in SECONDS
DIR/from-small: 4 files, 19.8 KiB, small, in SECONDS
standard output: 4 files, 30.0 KiB in SIZE, portable, in SECONDS
BLAKE3 HASH
=> 0

"#]]
    );
    for unpacked in ["from-pipe", "from-file", "from-tar", "from-small"] {
        same(&scene, unpacked);
    }
}

#[test]
fn what_a_mongod_has_open_is_packed_only_when_told_that_it_is_locked() {
    let scene = scene();
    // As a mongod that runs holds it.
    let lock = fs::File::open(scene.path("data/mongod.lock")).unwrap();
    let _held = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).unwrap();
    assert_data_eq!(
        scene.transcript("freezeframe pack data -o x"),
        str![[r#"
$ freezeframe pack data -o x
error: data is the data directory of a mongod that runs
  hint: what is packed while mongod writes can be worthless: stop it, or pack a snapshot; where it is held by fsyncLock, pack with --live
=> 3

"#]]
    );
    assert!(!scene.path("x").exists());
    scene.run("freezeframe pack --live data -o x");
    scene.run("freezeframe unpack x -C from-x");
    same(&scene, "from-x");
}

#[test]
fn what_cannot_be_done_is_refused_and_leaves_nothing() {
    let scene = scene();
    fs::create_dir(scene.path("full")).unwrap();
    fs::write(scene.path("full/file"), "x").unwrap();
    fs::write(scene.path("nothing"), "neither xz nor zstd").unwrap();
    scene.run("freezeframe pack --profile fast data -o good");
    let mut bytes = fs::read(scene.path("good")).unwrap();
    bytes[40] ^= 1;
    fs::write(scene.path("damaged"), bytes).unwrap();
    assert_data_eq!(
        scene.transcript(
            "freezeframe pack --profile fast --level 3 data -o x
             freezeframe pack --level 10 data -o x
             freezeframe pack --profile tiny data -o x
             freezeframe pack nowhere -o x
             freezeframe pack data -o nothing
             freezeframe pack data -o nowhere/x
             freezeframe pack data -o data/x
             freezeframe pack full/file -o x
             freezeframe unpack good -C full
             freezeframe unpack good -C nowhere/deep
             freezeframe unpack nowhere -C to
             freezeframe unpack nothing -C to
             freezeframe unpack damaged -C half"
        ),
        str![[r#"
$ freezeframe pack --profile fast --level 3 data -o x
error: the profile fast knows no levels
  hint: leave --level out, or pack with --profile portable
=> 2
$ freezeframe pack --level 10 data -o x
error: invalid value '10' for '--level <N>': 10 is not in 0..=9

For more information, try '--help'.
=> 2
$ freezeframe pack --profile tiny data -o x
error: invalid value 'tiny' for '--profile <PROFILE>'
  [possible values: portable, fast, small]

For more information, try '--help'.
=> 2
$ freezeframe pack nowhere -o x
error: cannot look at nowhere: No such file or directory (os error 2)
=> 2
$ freezeframe pack data -o nothing
error: nothing exists
  hint: name a file that is not there yet
=> 3
$ freezeframe pack data -o nowhere/x
error: cannot create nowhere/x: No such file or directory (os error 2)
=> 2
$ freezeframe pack data -o data/x
error: data/x lies in DIR/data, and would be packed into itself
  hint: name a file outside of the directory
=> 3
$ freezeframe pack full/file -o x
error: cannot look at full/file: not a directory
=> 2
$ freezeframe unpack good -C full
error: DIR/full is not empty: it holds file
  hint: name a new or an empty directory: a restore never overwrites
=> 7
$ freezeframe unpack good -C nowhere/deep
error: DIR/nowhere does not exist, so DIR/nowhere/deep cannot be created
  hint: create DIR/nowhere (or mount what belongs there) first
=> 7
$ freezeframe unpack nowhere -C to
error: cannot open nowhere: No such file or directory (os error 2)
=> 2
$ freezeframe unpack nothing -C to
error: nothing is no archive of freezeframe's, or its beginning is damaged
  hint: what xz and pixz made is opened by `tar xJf`; the command `file` tells what else it may be
=> 6
$ freezeframe unpack damaged -C half
error: damaged archive, byte 32: the block that begins there: Src size is incorrect
  hint: what is stored is damaged: restore from another backup, and check the store's disks
=> 6

"#]]
    );
    assert!(!Path::new(&scene.path("x")).exists());
    assert!(!scene.path("to").exists());
    // What could not be unpacked whole says so.
    assert_eq!(scene.names("half"), [".freezeframe-restore-incomplete"]);
}
