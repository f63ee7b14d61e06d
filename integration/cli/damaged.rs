//! Stored backups that are not what was written.

use snapbox::{assert_data_eq, str};

use crate::scene::Scene;

#[test]
fn a_damaged_archive_is_named_and_restores_nothing() {
    let scene = Scene::with_set();
    scene.damage("rs0.tar.xz", |bytes| bytes[100] ^= 1);
    std::fs::write(scene.object("notes.txt"), "mine").unwrap();
    assert_data_eq!(
        scene.transcript(
            "freezeframe verify latest
            freezeframe list
            freezeframe restore latest --to to --shard rs0
            freezeframe restore 20260131_020000 --to to --shard rs0
            freezeframe restore 20260131_020000 --to to --shard rs0
            freezeframe restore 20260131_020000 --to other --shard rs1"
        ),
        str![[r#"
$ freezeframe verify latest
mongo_backup-20260131_020000  DAMAGED (2 archives, 6 files, 1.3 KiB read in SECONDS)
  rs0.tar.xz: damaged archive, byte 12: the block that begins there: lzma data error
  notes.txt: not part of the backup, does no harm
error: backup mongo_backup-20260131_020000 is damaged: rs0.tar.xz: damaged archive, byte 12: the block that begins there: lzma data error
  hint: do not rely on this backup: make a new one now, and check the store's disks
=> 6
$ freezeframe list
BACKUP                        AGE  SIZE     LOCK      STATE    MEMBERS
mongo_backup-20260131_020000  AGE  5.7 KiB  184.1 ms  DAMAGED  rs0, rs1
backup mongo_backup-20260131_020000: its last verification found damage
=> 0
$ freezeframe restore latest --to to --shard rs0
TIME ERROR not `latest`, because it cannot be used: backup mongo_backup-20260131_020000: its last verification found damage
error: file://DIR/store holds no sound backup
  hint: make one with `freezeframe backup`; where `freezeframe list` shows a damaged one it can be named by its date
=> 5
$ freezeframe restore 20260131_020000 --to to --shard rs0
error: cannot unpack rs0: damaged archive, byte 12: the block that begins there: lzma data error
  hint: what is stored is damaged: restore from another backup, and check the store's disks
=> 6
$ freezeframe restore 20260131_020000 --to to --shard rs0
error: DIR/to holds an earlier restore that was not finished
  hint: it is no good copy; remove DIR/to and restore again
=> 7
$ freezeframe restore 20260131_020000 --to other --shard rs1
rs1 of mongo_backup-20260131_020000 restored to DIR/other: 3 files, 4.1 KiB, every hash right, in SECONDS
the data is as of 2026-01-31T02:00:01Z, optime (1769824801, 7) t=3
not settled: it holds the old replica set's configuration (--member HOST:PORT settles it); to look into it, start it alone with
  mongod --dbpath DIR/other --setParameter recoverFromOplogAsStandalone=true
=> 0

"#]]
    );
}

#[test]
fn a_manifest_that_is_damaged_torn_or_of_the_future_is_told_apart() {
    let scene = Scene::with_set();
    let whole = std::fs::read(scene.object("manifest.json")).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    let edited = text.replace("\"0badcafe\"", "\"0badc0de\"");
    let future = text.replacen("\"format\": 1", "\"format\": 4", 1);
    // A seal that is right: the format is really another.
    let body = &future[..future.len() - 81];
    let future = format!(
        "{body},\n  \"seal\": \"{}\"\n}}\n",
        blake3::hash(body.as_bytes())
    );
    let mut said = String::new();
    for (name, manifest) in [
        ("edited", edited.as_str()),
        ("torn", &text[..1000]),
        ("empty", ""),
        ("of a later version", &future),
    ] {
        std::fs::write(scene.object("manifest.json"), manifest).unwrap();
        said += &format!("# {name}\n");
        said += &scene.transcript(
            "freezeframe list
            freezeframe restore latest --to to --shard rs0
            freezeframe restore 20260131_020000 --to to --shard rs0",
        );
        assert!(scene.run("freezeframe verify 20260131_020000").ends_with(
            if name == "of a later version" {
                "=> 3\n"
            } else {
                "=> 6\n"
            }
        ));
    }
    assert_data_eq!(
        said,
        str![[r#"
# edited
$ freezeframe list
BACKUP                        AGE  SIZE     LOCK  STATE    MEMBERS
mongo_backup-20260131_020000  AGE  5.3 KiB  -     DAMAGED  rs0, rs1
backup mongo_backup-20260131_020000: manifest.json: it was changed after it was written: its seal says 9ac15c1a44eb70b34a650be48668713c2358528bb388d488f984ba176dcf535b, its bytes give 3cdd4f4368ed4b1d3de193c9b47e13dacb5683adf325a00e3e960fc234d82e47
=> 0
$ freezeframe restore latest --to to --shard rs0
TIME ERROR not `latest`, because it cannot be used: backup mongo_backup-20260131_020000: manifest.json: it was changed after it was written: its seal says 9ac15c1a44eb70b34a650be48668713c2358528bb388d488f984ba176dcf535b, its bytes give 3cdd4f4368ed4b1d3de193c9b47e13dacb5683adf325a00e3e960fc234d82e47
error: file://DIR/store holds no sound backup
  hint: make one with `freezeframe backup`; where `freezeframe list` shows a damaged one it can be named by its date
=> 5
$ freezeframe restore 20260131_020000 --to to --shard rs0
error: backup mongo_backup-20260131_020000: manifest.json: it was changed after it was written: its seal says 9ac15c1a44eb70b34a650be48668713c2358528bb388d488f984ba176dcf535b, its bytes give 3cdd4f4368ed4b1d3de193c9b47e13dacb5683adf325a00e3e960fc234d82e47
  hint: the stored object is damaged: use another backup, or a copy of this one
=> 6
# torn
$ freezeframe list
BACKUP                        AGE  SIZE     LOCK  STATE    MEMBERS
mongo_backup-20260131_020000  AGE  3.6 KiB  -     DAMAGED  rs0, rs1
backup mongo_backup-20260131_020000: manifest.json: line 46, column 35: EOF while parsing a string
=> 0
$ freezeframe restore latest --to to --shard rs0
TIME ERROR not `latest`, because it cannot be used: backup mongo_backup-20260131_020000: manifest.json: line 46, column 35: EOF while parsing a string
error: file://DIR/store holds no sound backup
  hint: make one with `freezeframe backup`; where `freezeframe list` shows a damaged one it can be named by its date
=> 5
$ freezeframe restore 20260131_020000 --to to --shard rs0
error: backup mongo_backup-20260131_020000: manifest.json: line 46, column 35: EOF while parsing a string
  hint: the stored object is damaged: use another backup, or a copy of this one
=> 6
# empty
$ freezeframe list
BACKUP                        AGE  SIZE     LOCK  STATE    MEMBERS
mongo_backup-20260131_020000  AGE  3.1 KiB  -     DAMAGED  rs0, rs1
backup mongo_backup-20260131_020000: manifest.json: line 1, column 0: EOF while parsing a value
=> 0
$ freezeframe restore latest --to to --shard rs0
TIME ERROR not `latest`, because it cannot be used: backup mongo_backup-20260131_020000: manifest.json: line 1, column 0: EOF while parsing a value
error: file://DIR/store holds no sound backup
  hint: make one with `freezeframe backup`; where `freezeframe list` shows a damaged one it can be named by its date
=> 5
$ freezeframe restore 20260131_020000 --to to --shard rs0
error: backup mongo_backup-20260131_020000: manifest.json: line 1, column 0: EOF while parsing a value
  hint: the stored object is damaged: use another backup, or a copy of this one
=> 6
# of a later version
$ freezeframe list
BACKUP                        AGE  SIZE     LOCK  STATE         MEMBERS
mongo_backup-20260131_020000  AGE  6.8 KiB  -     newer format  rs0, rs1
backup mongo_backup-20260131_020000: manifest.json: made by a newer freezeframe (format 4; this one reads up to 3)
=> 0
$ freezeframe restore latest --to to --shard rs0
TIME ERROR not `latest`, because it cannot be used: backup mongo_backup-20260131_020000: manifest.json: made by a newer freezeframe (format 4; this one reads up to 3)
error: file://DIR/store holds no sound backup
  hint: make one with `freezeframe backup`; where `freezeframe list` shows a damaged one it can be named by its date
=> 5
$ freezeframe restore 20260131_020000 --to to --shard rs0
error: backup mongo_backup-20260131_020000: manifest.json: made by a newer freezeframe (format 4; this one reads up to 3)
  hint: upgrade freezeframe on this host
=> 3

"#]]
    );
    assert!(!scene.path("to").exists());
    std::fs::remove_file(scene.object("manifest.json")).unwrap();
    assert_data_eq!(
        scene.transcript("freezeframe list\nfreezeframe show 20260131_020000"),
        str![[r#"
$ freezeframe list
BACKUP                        AGE  SIZE     LOCK  STATE       MEMBERS
mongo_backup-20260131_020000  AGE  3.6 KiB  -     unfinished  rs0, rs1
=> 0
$ freezeframe show 20260131_020000
error: backup mongo_backup-20260131_020000 has no manifest: it is still being made, or failed
  hint: wait for the run that makes it; if none does, `freezeframe recover` cleans up
=> 5

"#]]
    );
}
