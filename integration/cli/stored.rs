//! What a store holds, and what is said where something is not there.

use serde_json::json;
use snapbox::{assert_data_eq, str};

use crate::scene::{SET, Scene, keys};

#[test]
fn one_file_is_found_and_fetched() {
    let scene = Scene::with_set();
    assert_data_eq!(
        scene.transcript(
            "freezeframe show latest --files
            freezeframe show latest --files --shard rs1
            freezeframe show latest --shard rs1
            freezeframe restore latest --shard rs1 --to part --only journal
            freezeframe restore latest --shard rs1 --to other --only no/such.wt
            freezeframe restore latest --shard rs1 --to other --only sizeStorer.wt
            freezeframe restore latest --shard rs1 --to other --only journal --member 127.0.0.1:1"
        ),
        str![[r#"
$ freezeframe show latest --files
              0  2026-01-31T02:00:00Z  rs0  journal/
            100  2026-01-31T02:00:00Z  rs0  journal/WiredTigerLog.0000000001
           4096  2026-01-31T02:00:00Z  rs0  sizeStorer.wt
              0  2026-01-31T02:00:00Z  rs1  journal/
            100  2026-01-31T02:00:00Z  rs1  journal/WiredTigerLog.0000000001
           4096  2026-01-31T02:00:00Z  rs1  sizeStorer.wt
=> 0
$ freezeframe show latest --files --shard rs1
              0  2026-01-31T02:00:00Z  rs1  journal/
            100  2026-01-31T02:00:00Z  rs1  journal/WiredTigerLog.0000000001
           4096  2026-01-31T02:00:00Z  rs1  sizeStorer.wt
=> 0
$ freezeframe show latest --shard rs1
error: the following required arguments were not provided:
  --files

Usage: freezeframe show --files --shard <NAME> --config <FILE> <ID>

For more information, try '--help'.
=> 2
$ freezeframe restore latest --shard rs1 --to part --only journal
rs1 of mongo_backup-20260131_020000 restored to DIR/part: 2 files, 100 B, every hash right, in SECONDS
the data is as of 2026-01-31T02:00:01Z, optime (1769824801, 7) t=3
=> 0
$ freezeframe restore latest --shard rs1 --to other --only no/such.wt
error: cannot unpack rs1: the backup holds no no/such.wt
  hint: `freezeframe show ID --files` tells what the backup holds
=> 2
$ freezeframe restore latest --shard rs1 --to other --only sizeStorer.wt
rs1 of mongo_backup-20260131_020000 restored to DIR/other: 1 files, 4.0 KiB, every hash right, in SECONDS
the data is as of 2026-01-31T02:00:01Z, optime (1769824801, 7) t=3
=> 0
$ freezeframe restore latest --shard rs1 --to other --only journal --member 127.0.0.1:1
error: the argument '--only <PATH>' cannot be used with '--member <HOST:PORT>'

Usage: freezeframe restore --to <DIR> --shard <NAME> --only <PATH> --config <FILE> <ID>

For more information, try '--help'.
=> 2

"#]]
    );
}

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
  +0.000 s  20 ms     lock      db3.example.net:27018
  +0.020 s  120 ms    snapshot  vg0/mongo
  +0.150 s  34.1 ms   unlock    db3.example.net:27018
=> 0
$ freezeframe verify 20260131_020000
mongo_backup-20260131_020000  every hash is right (2 archives, 6 files, 1.3 KiB read in SECONDS)
=> 0
$ freezeframe restore latest --to restored --shard rs1
rs1 of mongo_backup-20260131_020000 restored to DIR/restored: 3 files, 4.1 KiB, every hash right, in SECONDS
the data is as of 2026-01-31T02:00:01Z, optime (1769824801, 7) t=3
not settled: it holds the old replica set's configuration (--member HOST:PORT settles it); to look into it, start it alone with
  mongod --dbpath DIR/restored --setParameter recoverFromOplogAsStandalone=true
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
            "at_work",
            "data_size",
            "deployment",
            "finished",
            "held_us",
            "hold",
            "host",
            "id",
            "members",
            "provider",
            "readers",
            "reason",
            "size",
            "started",
            "state",
            "took_us",
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
            "optime_exact",
            "seconds",
            "settled",
            "shard",
            "start",
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
  hint: name a backup as `freezeframe list` shows it, by its date and time (20260131_020000 or 2026-01-31T02:00:00Z), or `latest`
=> 2

"#]]
    );
    assert_eq!(scene.json("freezeframe list --json", 0), json!([]));
    std::fs::remove_dir(scene.path("store")).unwrap();
    // For `check` it is a line among others.
    let check = scene.run("freezeframe check");
    assert!(
        check.contains("REFUSED  store  ") && check.contains("there is no such folder"),
        "{check}"
    );
    assert!(
        check.contains("\nsystemd\n") && check.contains("\nhost\n") && check.ends_with("=> 5\n"),
        "{check}"
    );
    assert_data_eq!(
        scene.run("freezeframe list"),
        str![[r#"
$ freezeframe list
error: store "file://DIR/store": there is no such folder; create it, or mount the disk it is on
  hint: where the disk is there and the folder is another one, see [store] url and [[copy]] url
=> 5

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
    assert_eq!(
        keys(&unlock[0]),
        ["at_work", "error", "locked", "member", "run"]
    );

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
error: the run journal DIR/state/runs/00000001.journal is damaged in line 1: expected value at line 1 column 1
  hint: see whether a member is locked (`freezeframe unlock`; `freezeframe unlock --force --yes` unlocks it), look for other leftovers by hand (`lvs @freezeframe`, `findmnt`), then remove DIR/state/runs/00000001.journal
=> 8
$ freezeframe recover
error: the run journal DIR/state/runs/00000001.journal is damaged in line 1: expected value at line 1 column 1
  hint: see whether a member is locked (`freezeframe unlock`; `freezeframe unlock --force --yes` unlocks it), look for other leftovers by hand (`lvs @freezeframe`, `findmnt`), then remove DIR/state/runs/00000001.journal
=> 8

"#]]
    );
    assert!(!scene.path("run/x").exists());
    assert_eq!(scene.names("state/runs"), ["00000001.journal"]);
}

#[test]
fn a_backup_is_restored_where_nobody_has_the_databases_password() {
    let scene = Scene::with_set();
    scene.configure("[mongodb]\nmembers = [\"127.0.0.1:1\"]\nusername = \"backup\"\n");
    for command in [
        "list",
        "recover",
        "config",
        "restore latest --to restored --shard rs0",
    ] {
        let done = scene.run(&format!("freezeframe {command}"));
        assert!(done.ends_with("=> 0\n"), "{done}");
    }
    for command in ["check", "backup", "unlock"] {
        let refused = scene.run(&format!("freezeframe {command}"));
        assert!(
            refused.contains("user backup is configured, but no password")
                && refused.ends_with("=> 2\n"),
            "{refused}"
        );
    }
}

#[test]
fn a_state_directory_that_cannot_be_written_refuses_check_and_backup_alike() {
    let scene = Scene::new("");
    std::fs::write(scene.path("state"), "a file").unwrap();
    let check = scene.run("freezeframe check");
    assert!(
        check.contains("REFUSED  state_dir") && check.ends_with("=> 3\n"),
        "{check}"
    );
    assert_data_eq!(
        scene.run("freezeframe backup"),
        str![[r#"
$ freezeframe backup
error: cannot create the directory of the run journal DIR/state/runs: Not a directory (os error 20)
  hint: [host] state_dir must be a directory this user can write to; until it is, `freezeframe unlock` tells whether a member is locked, and `freezeframe unlock --force --yes` unlocks it
=> 3

"#]]
    );
}

#[test]
fn what_a_killed_proof_left_keeps_no_backup_from_being_made() {
    let scene = Scene::new("[mongodb]\nmembers = [\"127.0.0.1:1\"]\n");
    let runs = scene.path("state/runs");
    std::fs::create_dir_all(&runs).unwrap();
    std::fs::create_dir_all(scene.path("state/scratch/00000003")).unwrap();
    let owner = r#"{"record":"begin","owner":{"run":"00000003","verb":"verify","pid":1,"boot":"b","started":"2026-01-31T02:00:00Z"}}"#;
    let plan = format!(
        r#"{{"record":"plan","entry":0,"resource":{{"kind":"scratch","path":"{}"}}}}"#,
        scene.path("state/scratch/00000003").display()
    );
    std::fs::write(runs.join("00000003.journal"), format!("{owner}\n{plan}\n")).unwrap();
    let check = scene.run("freezeframe check");
    assert!(
        check.contains("warning  leftovers") && check.contains("run RUN died and left"),
        "{check}"
    );
    let backup = scene.run("freezeframe backup");
    assert!(
        backup.contains("WARN run RUN died and left") && backup.contains("127.0.0.1:1"),
        "{backup}"
    );
    assert!(!backup.contains("\n  DIR/state"), "{backup}");
    let recovered = scene.run("freezeframe recover");
    assert!(
        recovered.contains("given back  temporary directory"),
        "{recovered}"
    );
    assert!(!scene.path("state/scratch/00000003").exists());
}

#[test]
fn a_proof_looks_for_its_mongod_before_it_reads() {
    let scene = Scene::with_set();
    let before = scene.names(&format!("store/{SET}")).len();
    assert_data_eq!(
        scene.run("freezeframe verify latest --deep --mongod /nonexistent/mongod"),
        str![[r#"
$ freezeframe verify latest --deep --mongod /nonexistent/mongod
error: no mongod found at /nonexistent/mongod
  hint: give --mongod PATH to a mongod binary
=> 7

"#]]
    );
    // Nothing was read, so nothing was recorded.
    assert_eq!(scene.names(&format!("store/{SET}")).len(), before);
}

/// Files of root in a store of root: what an ordinary user meets.
#[test]
fn what_may_not_be_read_hides_nothing_else() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::with_set();
    let close = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let shut = scene.path("store/mongo_backup-20260201_020000");
    std::fs::create_dir(&shut).unwrap();
    std::fs::write(shut.join("intent.json"), "{}").unwrap();
    close(&shut, 0o700);
    let locked = scene.path("store/mongo_backup-20260202_020000");
    std::fs::create_dir(&locked).unwrap();
    std::fs::write(locked.join("manifest.json"), "{}").unwrap();
    close(&locked.join("manifest.json"), 0o600);
    close(&scene.path(""), 0o755);
    if !nix::unistd::geteuid().is_root() {
        // Our own files: the same, as long as nobody at all may read them.
        close(&shut, 0o000);
        close(&locked.join("manifest.json"), 0o000);
    }
    let said = scene.run_as_nobody("freezeframe list");
    close(&shut, 0o700);
    assert_data_eq!(
        said,
        str![[r#"
$ freezeframe list
BACKUP                        AGE  SIZE     LOCK      STATE       MEMBERS
mongo_backup-20260131_020000  AGE  5.3 KiB  184.1 ms  verified    rs0, rs1
mongo_backup-20260201_020000  AGE  0 B      -         UNREADABLE  -
mongo_backup-20260202_020000  AGE  2 B      -         UNREADABLE  -
cannot list mongo_backup-20260201_020000 in file://DIR/store: Permission denied (os error 13)
cannot read mongo_backup-20260202_020000/manifest.json in file://DIR/store: Permission denied (os error 13)
=> 5

"#]]
    );
    let secret = scene.path("freezeframe.toml");
    close(&secret, 0o000);
    assert_data_eq!(
        scene.run_as_nobody("freezeframe list"),
        str![[r#"
$ freezeframe list
error: cannot read the configuration DIR/freezeframe.toml: Permission denied (os error 13)
  hint: run freezeframe as root (sudo), or let this user's group read it: chgrp GROUP DIR/freezeframe.toml; chmod 640 DIR/freezeframe.toml
=> 2

"#]]
    );
}

#[test]
fn a_snapshot_that_is_not_kept_is_told_as_such() {
    let scene = Scene::new("");
    assert_data_eq!(
        [
            "freezeframe snapshot list",
            "freezeframe snapshot list --json",
            "freezeframe snapshot remove before-upgrade --yes",
            "freezeframe rollback latest",
            "freezeframe backup --from before-upgrade",
            "freezeframe snapshot --label 0badcafe",
        ]
        .map(|line| scene.run(line))
        .concat(),
        str![[r#"
$ freezeframe snapshot list
no snapshots are kept
=> 0
$ freezeframe snapshot list --json
[]
=> 0
$ freezeframe snapshot remove before-upgrade --yes
error: no kept snapshot is called before-upgrade
  hint: none is kept; `freezeframe snapshot` takes one
=> 2
$ freezeframe rollback latest
error: no kept snapshot is called latest
  hint: none is kept; `freezeframe snapshot` takes one
=> 2
$ freezeframe backup --from before-upgrade
error: no kept snapshot is called before-upgrade
  hint: none is kept; `freezeframe snapshot` takes one
=> 2
$ freezeframe snapshot --label 0badcafe
error: invalid value '0badcafe' for '--label <LABEL>': "0badcafe" is not a label (1 to 40 letters, digits, `.`, `_` and `-`; not "latest" and no run id)

For more information, try '--help'.
=> 2

"#]]
    );
}
