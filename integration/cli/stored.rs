//! What a store holds, and what is said where something is not there.

use serde_json::json;
use snapbox::{assert_data_eq, str};

use crate::scene::{SET, Scene, keys};

#[test]
fn a_stored_backup_is_listed_shown_verified_and_restored() {
    let scene = Scene::with_set();
    assert_data_eq!(
        scene.transcript(
            "freezeframe list
            freezeframe show latest
            freezeframe verify 20260131_020000
            freezeframe restore latest --to restored --shard rs1
            freezeframe restore latest --to restored --shard rs1
            freezeframe restore latest --to elsewhere
            freezeframe restore latest --to elsewhere --shard rs9
            freezeframe restore latest --to no/parent --shard rs1"
        ),
        str![[r#"
$ freezeframe list
BACKUP                        AGE  SIZE     LOCK      STATE     MEMBERS
mongo_backup-20260131_020000  AGE  5.3 KiB  184.1 ms  verified  rs0, rs1
=> 0
$ freezeframe show latest
backup      mongo_backup-20260131_020000
state       verified
started     2026-01-31T02:00:00.25Z
finished    2026-01-31T02:11:40Z
host        db3.example.net
run         0badcafe
tool        freezeframe 0.1.0, format 1
deployment  65b9a1f0c3d2e4f5a6b7c8d9 (sharded cluster)
lock        184.1 ms, snapshots by lvm
size        5.3 KiB
verified    2026-02-01T00:00:00Z

rs0 from db3.example.net:27018
  mongod      6.0.5, feature compatibility 6.0
  optime      (1769824801, 7) t=3
  lock        181.2 ms
  archive     rs0.tar.xz (portable), 436 B of 4.1 KiB in 3 files

rs1 from db3.example.net:27018
  mongod      6.0.5, feature compatibility 6.0
  optime      (1769824801, 7) t=3
  lock        181.2 ms
  archive     rs1.tar.xz (portable), 436 B of 4.1 KiB in 3 files

window
  -0.812 s  790.5 ms  flush     db3.example.net:27018
  +0.000 s  20.0 ms   lock      db3.example.net:27018
  +0.020 s  120.0 ms  snapshot  vg0/mongo
  +0.150 s  34.1 ms   unlock    db3.example.net:27018
=> 0
$ freezeframe verify 20260131_020000
mongo_backup-20260131_020000  every hash is right (2 archives, 6 files, 1.3 KiB read in SECONDS)
=> 0
$ freezeframe restore latest --to restored --shard rs1
rs1 of mongo_backup-20260131_020000 restored to DIR/restored: 3 files, 4.1 KiB, every hash right, in SECONDS
the data is as of 2026-01-31T02:00:01Z, optime (1769824801, 7) t=3
not settled: it holds the old replica set's configuration (--member HOST:PORT settles it)
=> 0
$ freezeframe restore latest --to restored --shard rs1
error: DIR/restored is not empty: it holds journal
  hint: name a new or an empty directory: a restore never overwrites
=> 7
$ freezeframe restore latest --to elsewhere
error: the backup holds several replica sets: rs0, rs1
  hint: name one with --shard NAME
=> 2
$ freezeframe restore latest --to elsewhere --shard rs9
error: the backup holds no rs9, but rs0, rs1
  hint: name one with --shard NAME
=> 2
$ freezeframe restore latest --to no/parent --shard rs1
error: DIR/no does not exist, so DIR/no/parent cannot be created
  hint: create DIR/no (or mount what belongs there) first
=> 7

"#]]
    );
    let log = std::fs::read(scene.path("restored/journal/WiredTigerLog.0000000001")).unwrap();
    assert!(log.starts_with(b"rs1/journal/WiredTigerLog.0000000001\nrs1/"));
    assert!(!scene.path("elsewhere").exists());
}

#[test]
fn json_is_for_programs() {
    let scene = Scene::with_set();
    let list = scene.json("freezeframe list --json", 0);
    let set = &list[0];
    assert_eq!(
        keys(set),
        [
            "deployment",
            "finished",
            "held_us",
            "id",
            "members",
            "provider",
            "reason",
            "size",
            "started",
            "state",
            "verification"
        ]
    );
    assert_eq!(
        (&set["id"], &set["state"]),
        (&json!(SET), &json!("complete"))
    );

    let manifest = scene.json("freezeframe show latest --json", 0);
    assert_eq!(
        keys(&manifest),
        [
            "deployment",
            "files",
            "finished",
            "format",
            "host",
            "id",
            "members",
            "run",
            "started",
            "tool",
            "window"
        ]
    );
    assert_eq!(manifest["members"][1]["archive"]["object"], "rs1.tar.xz");

    let verified = scene.json("freezeframe verify latest --json", 0);
    assert_eq!(
        keys(&verified),
        [
            "archives", "bytes", "entries", "findings", "id", "proof", "seconds", "strays"
        ]
    );
    assert_eq!(
        (&verified["archives"], &verified["entries"]),
        (&json!(2), &json!(6))
    );
    assert_eq!(
        scene.json("freezeframe list --json", 0)[0]["verification"]["verdict"],
        "verified"
    );

    let restored = scene.json("freezeframe restore latest --to to --shard rs0 --json", 0);
    assert_eq!(
        keys(&restored),
        [
            "data_bytes",
            "files",
            "id",
            "optime",
            "seconds",
            "settled",
            "shard",
            "to"
        ]
    );
    assert_eq!(restored["files"], 3);

    scene.damage("rs0.tar.xz", |bytes| bytes[100] ^= 1);
    let verified = scene.json("freezeframe verify latest --json", 6);
    assert_eq!(keys(&verified["findings"][0]), ["object", "problem"]);
    assert_eq!(verified["findings"][0]["object"], "rs0.tar.xz");
    assert_eq!(
        scene.json("freezeframe list --json", 0)[0]["verification"]["verdict"],
        "damaged"
    );
}

#[test]
fn what_is_not_there_is_said() {
    let scene = Scene::new("");
    assert_data_eq!(
        scene.transcript(
            "freezeframe list
            freezeframe show latest
            freezeframe show 20260131_020000
            freezeframe show monday"
        ),
        str![[r#"
$ freezeframe list
no backups
=> 0
$ freezeframe show latest
error: file://DIR/store holds no sound backup
  hint: make one with `freezeframe backup`; where `freezeframe list` shows a damaged one it can be named by its date
=> 5
$ freezeframe show 20260131_020000
error: file://DIR/store holds no backup mongo_backup-20260131_020000
  hint: `freezeframe list` shows what the store holds
=> 5
$ freezeframe show monday
error: "monday" names no backup
  hint: name a backup as `freezeframe list` shows it, by its date and time (20260131_020000), or `latest`
=> 2

"#]]
    );
    assert_eq!(scene.json("freezeframe list --json", 0), json!([]));
    std::fs::remove_dir(scene.path("store")).unwrap();
    assert_data_eq!(
        scene.run("freezeframe list"),
        str![[r#"
$ freezeframe list
error: store "file://DIR/store": there is no such folder; create it, or mount the disk it is on
  hint: set [store] url to an existing folder, such as file:///var/backups/freezeframe, or to s3://bucket/prefix
=> 2

"#]]
    );
}

#[test]
fn recover_and_unlock_without_servers() {
    let scene = Scene::new("[mongodb]\nmembers = [\"127.0.0.1:1\"]\n");
    assert_data_eq!(
        scene.transcript(
            "freezeframe recover
            freezeframe unlock
            freezeframe unlock --force --yes"
        ),
        str![[r#"
$ freezeframe recover
nothing to recover
=> 0
$ freezeframe unlock
127.0.0.1:1  UNKNOWN: cannot talk to mongod at 127.0.0.1:1: Connection refused (os error 111) (a mongod that does not run holds no lock)
=> 8
$ freezeframe unlock --force --yes
127.0.0.1:1  UNKNOWN: cannot talk to mongod at 127.0.0.1:1: Connection refused (os error 111) (a mongod that does not run holds no lock)
=> 8

"#]]
    );
    assert_eq!(scene.json("freezeframe recover --json", 0), json!([]));
    let unlock = scene.json("freezeframe unlock --json", 8);
    assert_eq!(keys(&unlock[0]), ["error", "locked", "member", "run"]);

    // Refusals are told in whole sentences, by `check` and by `backup`.
    let check = scene.run("freezeframe check");
    assert!(check.ends_with("=> 3\n"), "{check}");
    let told = "\n  cannot talk to mongod at 127.0.0.1:1: Connection refused";
    assert!(
        check.contains("\nREFUSED: no backup can be made") && check.contains(told),
        "{check}"
    );
    assert_data_eq!(
        scene.run("freezeframe backup"),
        str![[r#"
$ freezeframe backup
error: no backup can be made, and nothing was touched:
  cannot talk to mongod at 127.0.0.1:1: Connection refused (os error 111); see that mongod runs and listens there, and that [mongodb] tls agrees with net.tls of mongod
  hint: `freezeframe check` shows everything that was looked at
=> 3

"#]]
    );
    let check = scene.json("freezeframe check --json", 3);
    assert_eq!(
        keys(&check),
        [
            "data_bytes",
            "expected_seconds",
            "findings",
            "layouts",
            "snapshot_bytes"
        ]
    );
    assert_eq!(
        keys(&check["findings"][0]),
        ["check", "detail", "subject", "todo", "verdict"]
    );

    // One damaged journal keeps no other run from being recovered.
    let runs = scene.path("state/runs");
    std::fs::write(runs.join("00000001.journal"), "garbage\n").unwrap();
    std::fs::create_dir_all(scene.path("run/x")).unwrap();
    let owner = r#"{"record":"begin","owner":{"run":"00000002","verb":"backup","pid":1,"boot":"b","started":"2026-01-31T02:00:00Z"}}"#;
    let plan = format!(
        r#"{{"record":"plan","entry":0,"resource":{{"kind":"directory","path":"{}"}}}}"#,
        scene.path("run/x").display()
    );
    std::fs::write(runs.join("00000002.journal"), format!("{owner}\n{plan}\n")).unwrap();
    assert_data_eq!(
        scene.transcript("freezeframe recover\nfreezeframe recover"),
        str![[r#"
$ freezeframe recover
TIME  INFO recovered; given back: directory DIR/run/x run=00000002 failed=0
error: the run journal DIR/state/runs/00000001.journal is damaged in line 1: no owner is named
  hint: look for leftovers by hand (`lvs @freezeframe`, `findmnt`), then remove DIR/state/runs/00000001.journal
=> 1
$ freezeframe recover
error: the run journal DIR/state/runs/00000001.journal is damaged in line 1: no owner is named
  hint: look for leftovers by hand (`lvs @freezeframe`, `findmnt`), then remove DIR/state/runs/00000001.journal
=> 1

"#]]
    );
    assert!(!scene.path("run/x").exists());
    assert_eq!(scene.names("state/runs"), ["00000001.journal"]);
}
