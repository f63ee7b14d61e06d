//! Backups in more than one store.

use serde_json::json;
use snapbox::{assert_data_eq, str};

use crate::scene::{SET, Scene, keys};

const COPY: &str = "[[copy]]\nurl = \"file://DIR/other\"\n[copy.retention]\nkeep_last = 1\nkeep_within = \"3d\"\n[retention]\nkeep_last = 1\nkeep_within = \"1h\"\n";

/// Four backups, and a second store to which they are to be copied.
fn scene() -> Scene {
    let scene = Scene::with_set();
    for day in ["01", "29", "30"] {
        scene.add_set(&format!("mongo_backup-202601{day}_020000"));
    }
    std::fs::create_dir(scene.path("other")).unwrap();
    std::fs::create_dir(scene.path("disk")).unwrap();
    let dir = scene.path("");
    let dir = dir.to_str().unwrap().trim_end_matches('/');
    scene.configure(&COPY.replace("DIR", dir));
    scene
}

#[test]
fn what_lacks_in_another_store_is_copied_and_stays_until_it_is() {
    let scene = scene();
    let told = scene.transcript(
        "freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9
        freezeframe copy
        freezeframe copy
        freezeframe list --store DIR/other
        freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9 --yes
        freezeframe list
        freezeframe hold latest --store DIR/other
        freezeframe verify latest --store DIR/other
        freezeframe restore latest --store DIR/other --shard rs0 --to restored
        freezeframe copy 20260130 --to DIR/disk
        freezeframe copy 20260130_020000 --store DIR/other --to DIR/disk
        freezeframe copy 20260130_020000 --store DIR/other --to DIR/disk",
    );
    assert_data_eq!(
        told,
        str![[r#"
$ freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9
file://DIR/store, deployment 65b9a1f0c3d2e4f5a6b7c8d9
stays: the newest 1, what is within 1 h of the newest (days and weeks of UTC)

BACKUP                        AGE  SIZE           WHY
mongo_backup-20260101_020000  AGE  5.0 KiB  DROP  no rule keeps it
mongo_backup-20260129_020000  AGE  5.0 KiB  keep  not copied yet
mongo_backup-20260130_020000  AGE  5.0 KiB  keep  not copied yet
mongo_backup-20260131_020000  AGE  5.3 KiB  keep  not copied yet, newest good one, newest verified one, one of the newest 1, within 1 h of the newest

1 of 4 to go, 5.0 KiB freed by that
nothing was done; add --yes to do it

file://DIR/other, deployment 65b9a1f0c3d2e4f5a6b7c8d9
stays: the newest 1, what is within 3 d of the newest (days and weeks of UTC)

BACKUP  AGE  SIZE    WHY

nothing is to be removed
=> 3
$ freezeframe copy
file://DIR/other
  copied    mongo_backup-20260131_020000
  copied    mongo_backup-20260130_020000
  copied    mongo_backup-20260129_020000
TIME  INFO copied id=mongo_backup-20260131_020000 store="file://DIR/other"
TIME  INFO copied id=mongo_backup-20260130_020000 store="file://DIR/other"
TIME  INFO copied id=mongo_backup-20260129_020000 store="file://DIR/other"
=> 0
$ freezeframe copy
file://DIR/other
  nothing lacks
=> 0
$ freezeframe list --store DIR/other
BACKUP                        AGE  SIZE     LOCK      STATE       MEMBERS
mongo_backup-20260129_020000  AGE  5.0 KiB  184.1 ms  unverified  rs0, rs1
mongo_backup-20260130_020000  AGE  5.0 KiB  184.1 ms  unverified  rs0, rs1
mongo_backup-20260131_020000  AGE  5.0 KiB  184.1 ms  unverified  rs0, rs1
=> 0
$ freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9 --yes
file://DIR/store, deployment 65b9a1f0c3d2e4f5a6b7c8d9
stays: the newest 1, what is within 1 h of the newest (days and weeks of UTC)

BACKUP                        AGE  SIZE              WHY
mongo_backup-20260101_020000  AGE  5.0 KiB  removed  no rule keeps it
mongo_backup-20260129_020000  AGE  5.0 KiB  removed  no rule keeps it
mongo_backup-20260130_020000  AGE  5.0 KiB  removed  no rule keeps it
mongo_backup-20260131_020000  AGE  5.3 KiB  keep     newest good one, newest verified one, one of the newest 1, within 1 h of the newest

removed 3 of 4, 14.9 KiB freed

file://DIR/other, deployment 65b9a1f0c3d2e4f5a6b7c8d9
stays: the newest 1, what is within 3 d of the newest (days and weeks of UTC)

BACKUP                        AGE  SIZE           WHY
mongo_backup-20260129_020000  AGE  5.0 KiB  keep  within 3 d of the newest
mongo_backup-20260130_020000  AGE  5.0 KiB  keep  within 3 d of the newest
mongo_backup-20260131_020000  AGE  5.0 KiB  keep  newest good one, one of the newest 1, within 3 d of the newest

nothing is to be removed
TIME  INFO pruned id=mongo_backup-20260101_020000
TIME  INFO pruned id=mongo_backup-20260129_020000
TIME  INFO pruned id=mongo_backup-20260130_020000
=> 0
$ freezeframe list
BACKUP                        AGE  SIZE     LOCK      STATE     MEMBERS
mongo_backup-20260131_020000  AGE  5.3 KiB  184.1 ms  verified  rs0, rs1
=> 0
$ freezeframe hold latest --store DIR/other
mongo_backup-20260131_020000 is not pruned until `freezeframe hold mongo_backup-20260131_020000 --store file://DIR/other --release`
=> 0
$ freezeframe verify latest --store DIR/other
mongo_backup-20260131_020000  every hash is right (2 archives, 6 files, 1.3 KiB read in SECONDS)
=> 0
$ freezeframe restore latest --store DIR/other --shard rs0 --to restored
rs0 of mongo_backup-20260131_020000 restored to DIR/restored: 3 files, 4.1 KiB, every hash right, in SECONDS
the data is as of 2026-01-31T02:00:01Z, optime (1769824801, 7) t=3
not settled: it holds the old replica set's configuration (--member HOST:PORT settles it); to look into it, start it alone with
  mongod --dbpath DIR/restored --setParameter recoverFromOplogAsStandalone=true
=> 0
$ freezeframe copy 20260130 --to DIR/disk
error: "20260130" names no backup
  hint: name a backup as `freezeframe list` shows it, by its date and time (20260131_020000 or 2026-01-31T02:00:00Z), or `latest`
=> 2
$ freezeframe copy 20260130_020000 --store DIR/other --to DIR/disk
file://DIR/disk
  copied    mongo_backup-20260130_020000
=> 0
$ freezeframe copy 20260130_020000 --store DIR/other --to DIR/disk
file://DIR/disk
  there     mongo_backup-20260130_020000
=> 0

"#]]
    );
}

#[test]
fn what_cannot_be_copied_is_told() {
    let scene = scene();
    std::fs::write(scene.object("rs0.tar.xz"), vec![0; 436]).unwrap();
    let told = scene.transcript(
        "freezeframe copy
        freezeframe list --store DIR/other
        freezeframe copy --to DIR/disk
        freezeframe copy latest --to DIR/store
        freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9 --store DIR/disk",
    );
    assert_data_eq!(
        told,
        str![[r#"
$ freezeframe copy
file://DIR/other
  copied    mongo_backup-20260130_020000
  copied    mongo_backup-20260129_020000
  FAILED    mongo_backup-20260131_020000: rs0.tar.xz of mongo_backup-20260131_020000 in file://DIR/store is damaged: its bytes have another hash than the manifest says
            -> `freezeframe verify mongo_backup-20260131_020000` tells what else is; make a new backup, and see to the store's disks
TIME  INFO what another run has begun stays set=mongo_backup-20260131_020000 other=0badcafe
TIME  INFO copied id=mongo_backup-20260130_020000 store="file://DIR/other"
TIME  INFO copied id=mongo_backup-20260129_020000 store="file://DIR/other"
=> 6
$ freezeframe list --store DIR/other
BACKUP                        AGE  SIZE     LOCK      STATE       MEMBERS
mongo_backup-20260129_020000  AGE  5.0 KiB  184.1 ms  unverified  rs0, rs1
mongo_backup-20260130_020000  AGE  5.0 KiB  184.1 ms  unverified  rs0, rs1
mongo_backup-20260131_020000  AGE  497 B    -         unfinished  rs0, rs1
=> 0
$ freezeframe copy --to DIR/disk
error: file://DIR/disk is no [[copy]] of the configuration, and nobody knows which backups are to be there
  hint: name a backup as well, such as `latest`
=> 2
$ freezeframe copy latest --to DIR/store
TIME ERROR not `latest`, because it cannot be used: backup mongo_backup-20260131_020000: its last verification found damage
error: file://DIR/store is where the backups are
  hint: name another one with --to, or with --store where they are to come from
=> 2
$ freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9 --store DIR/disk
error: file://DIR/disk is no store of the configuration, and nobody knows what is to stay there
  hint: name the one of [store] or of a [[copy]], as it is written there
=> 2

"#]]
    );
    std::fs::remove_dir_all(scene.path("other")).unwrap();
    let told = scene.transcript(
        "freezeframe copy
        freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9 --yes",
    );
    assert_data_eq!(
        told,
        str![[r#"
$ freezeframe copy
file://DIR/other
  FAILED    store "file://DIR/other": there is no such folder; create it, or mount the disk it is on
            -> where the disk is there and the folder is another one, see [store] url and [[copy]] url
=> 5
$ freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9 --yes
file://DIR/store, deployment 65b9a1f0c3d2e4f5a6b7c8d9
stays: the newest 1, what is within 1 h of the newest (days and weeks of UTC)

NOT DONE: store "file://DIR/other": there is no such folder; create it, or mount the disk it is on

file://DIR/other, deployment 65b9a1f0c3d2e4f5a6b7c8d9
stays: the newest 1, what is within 3 d of the newest (days and weeks of UTC)

NOT DONE: store "file://DIR/other": there is no such folder; create it, or mount the disk it is on
error: store "file://DIR/other": there is no such folder; create it, or mount the disk it is on
  hint: where the disk is there and the folder is another one, see [store] url and [[copy]] url
=> 5

"#]]
    );
    scene.configure("");
    let told = scene.transcript("freezeframe copy");
    assert_data_eq!(
        told,
        str![[r#"
$ freezeframe copy
error: there is no store to copy to
  hint: write a [[copy]] with its url into the configuration, or name a backup and --to STORE
=> 2

"#]]
    );
}

#[test]
fn what_programs_read_of_copies_is_stable() {
    let scene = scene();
    let copied = scene.json("freezeframe copy --json", 0);
    let first = &copied[0];
    assert_eq!(
        keys(first),
        [
            "copied",
            "copied_by",
            "error",
            "failed",
            "hint",
            "store",
            "was_there"
        ]
    );
    assert_eq!(first["copied"][0], json!(SET));
    assert_eq!(first["copied"].as_array().unwrap().len(), 3);
    let standing = scene.json("freezeframe status --json", 9);
    assert_eq!(
        keys(&standing["copies"][0]),
        [
            "asked",
            "damaged",
            "error",
            "free_bytes",
            "hint",
            "lacking",
            "reached",
            "url"
        ]
    );
}

#[test]
fn the_first_store_by_whatever_way_is_no_further_one() {
    let scene = Scene::with_set();
    for folder in ["store/inner", "bound"] {
        std::fs::create_dir(scene.path(folder)).unwrap();
    }
    std::os::unix::fs::symlink("store/inner", scene.path("link")).unwrap();
    let refused = |folder: &str, before: &str| {
        let path = scene.path(folder);
        scene.configure(&format!("[[copy]]\nurl = \"file://{}\"\n", path.display()));
        let copy = "freezeframe --config freezeframe.toml copy";
        let told = scene.shell(&format!("{before} {copy}'"));
        assert!(told.contains("it is the folder of [store]"), "{told}");
        assert!(told.ends_with("=> 2\n"), "{told}");
    };
    refused("store/inner", "sh -c '");
    refused("link", "sh -c '");
    // A bind mount, where we may make one.
    if nix::unistd::geteuid().is_root() {
        refused("bound", "unshare -m sh -c 'mount --bind store bound &&");
    }
}
