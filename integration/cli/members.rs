//! Backups of a real replica set, also such as are ended in their window.

use std::process::Child;

use mongodb::bson::{Binary, Document, doc, spec::BinarySubtype};
use mongodb::options::{Acknowledgment, WriteConcern};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use regex::Regex;
use serde_json::json;
use snapbox::{assert_data_eq, str};

use crate::scene::{Scene, keys};
use crate::support::mongod::{Member, Options, ReplicaSet, until};

const PRIMARY: usize = 0;
const HIDDEN: usize = 1;

async fn replica_set() -> ReplicaSet {
    let members = vec![Member::primary(), Member::hidden()];
    ReplicaSet::start(Options {
        members,
        ..Options::default()
    })
    .await
}

/// The configuration of a backup of `member`, compressed at `level`.
fn backing_up(set: &ReplicaSet, member: usize, level: u32) -> String {
    format!(
        "[mongodb]\nmembers = [\"{}\"]\nmin_oplog_window = \"1ms\"\n\
         [window]\nprovider = \"hold\"\nmax_hold = \"5m\"\n[archive]\nlevel = {level}\nthreads = 1\n",
        set.addr(member)
    )
}

async fn locked(set: &ReplicaSet) -> bool {
    let admin = set.admin(HIDDEN).await.database("admin");
    let reply = admin.run_command(doc! { "currentOp": 1 }).await.unwrap();
    reply.get_bool("fsyncLock").unwrap_or(false)
}

/// What is not the same in every backup.
fn steady(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, with) in [
        (r"mongo_backup-\d{8}_\d{6}", "SET"),
        (r"\b\d+(\.\d+)? ([KMG]i)?B\b", "SIZE"),
        (
            r"\b\d+(\.\d+)?( ?(ns|µs|us|ms|s|m))+\b( \d+(ms|us|ns|s))*",
            "DURATION",
        ),
        (r"\(\d+, \d+\) t=\d+", "OPTIME"),
        (r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", "DATE"),
        (r"\d+ files", "N files"),
        (r" {3,}", "  "),
    ] {
        text = Regex::new(pattern)
            .unwrap()
            .replace_all(&text, with)
            .into_owned();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_from_check_to_restore() {
    let set = replica_set().await;
    let scene = Scene::new(&backing_up(&set, PRIMARY, 1));
    let refused = scene.run("freezeframe check");
    let sentence = "\n  rs0 at 127.0.0.1:PORT is PRIMARY; name a hidden secondary of rs0 in [mongodb] members\n";
    assert!(
        refused.contains(sentence) && refused.ends_with("=> 3\n"),
        "{refused}"
    );
    let refused = scene.run("freezeframe backup");
    assert!(
        refused.contains(sentence) && refused.ends_with("=> 3\n"),
        "{refused}"
    );

    scene.configure(&backing_up(&set, HIDDEN, 1));
    let check = scene.run("freezeframe check");
    assert!(check.contains("\nrs0 at 127.0.0.1:PORT\n  ok "), "{check}");
    assert!(check.contains("\nREADY: a backup can be made"), "{check}");
    assert!(check.ends_with("=> 0\n"), "{check}");
    let said = scene.transcript(
        "freezeframe backup
        freezeframe list
        freezeframe verify latest
        freezeframe restore latest --to restored",
    );
    assert_data_eq!(
        steady(&said),
        str![[r#"
$ freezeframe backup
SET  SIZE archived to SIZE in DURATION, database held DURATION
TIME  INFO the database was held for DURATION
=> 0
$ freezeframe list
BACKUP  AGE  SIZE  LOCK  STATE  MEMBERS
SET  DURATION  SIZE  DURATION  unverified  rs0
=> 0
$ freezeframe verify latest
SET  every hash is right (1 archive, N files, SIZE read in SECONDS)
=> 0
$ freezeframe restore latest --to restored
rs0 of SET restored to DIR/restored: N files, SIZE, every hash right, in SECONDS
the data is as of DATE, optime OPTIME
not settled: it holds the old replica set's configuration (--member HOST:PORT settles it)
=> 0

"#]]
    );
    assert!(scene.path("restored/WiredTiger.wt").exists());
    assert!(!locked(&set).await);

    let manifest = scene.json("freezeframe backup --json", 0);
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
    assert_eq!(manifest["members"][0]["shard"], "rs0");
    assert_eq!(
        scene
            .json("freezeframe list --json", 0)
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

/// Starts a backup and waits until it holds the member.
async fn in_the_window(set: &ReplicaSet, scene: &Scene) -> Child {
    let mut run = scene.start("freezeframe backup");
    until("the member is locked", async || {
        let ended = run.try_wait().unwrap();
        assert!(ended.is_none(), "it ended before: {ended:?}");
        locked(set).await
    })
    .await;
    run
}

/// Enough that does not compress to keep an archive busy for seconds.
async fn fill(set: &ReplicaSet) {
    let mut random = blake3::Hasher::new().finalize_xof();
    let everywhere = WriteConcern::builder().w(Acknowledgment::Nodes(2)).build();
    let data = set
        .admin(PRIMARY)
        .await
        .database("shop")
        .collection::<Document>("noise");
    for _ in 0..2 {
        let mut bytes = vec![0; 8 << 20];
        random.fill(&mut bytes);
        let subtype = BinarySubtype::Generic;
        let noise = doc! { "noise": Binary { subtype, bytes } };
        data.insert_one(noise)
            .write_concern(everywhere.clone())
            .await
            .unwrap();
    }
}

fn nothing_is_left(scene: &Scene) {
    assert_eq!(scene.names("store"), Vec::<String>::new());
    assert_eq!(scene.names("state/runs"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_in_its_window_a_backup_leaves_no_lock() {
    let set = replica_set().await;
    fill(&set).await;
    let scene = Scene::new(&backing_up(&set, HIDDEN, 6));

    let run = in_the_window(&set, &scene).await;
    kill(Pid::from_raw(run.id() as i32), Signal::SIGTERM).unwrap();
    let output = run.wait_with_output().unwrap();
    assert!(!locked(&set).await);
    assert_data_eq!(
        steady(&scene.shown(&output)),
        str![[r#"
TIME  WARN asked to end: giving back what is held
error: interrupted: no backup was made
=> 130

"#]]
    );
    nothing_is_left(&scene);

    let mut run = in_the_window(&set, &scene).await;
    run.kill().unwrap();
    run.wait().unwrap();
    until("the guard has unlocked", async || !locked(&set).await).await;
    assert!(!scene.names("store").is_empty());
    let check = scene.run("freezeframe check");
    assert!(
        check.contains("run RUN died and left") && check.ends_with("=> 3\n"),
        "{check}"
    );
    let recovered = scene.run("freezeframe recover");
    for told in [
        "backup, begun",
        "unfinished objects of",
        "lock on 127.0.0.1:PORT",
        "=> 0\n",
    ] {
        assert!(recovered.contains(told), "{recovered}");
    }
    nothing_is_left(&scene);

    scene.configure(&backing_up(&set, HIDDEN, 1));
    let made = scene.run("freezeframe backup");
    assert!(made.ends_with("=> 0\n"), "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_somebody_else_goes_only_when_asked_twice() {
    let set = replica_set().await;
    let scene = Scene::new(&backing_up(&set, HIDDEN, 1));
    let admin = set.admin(HIDDEN).await.database("admin");
    for _ in 0..2 {
        admin
            .run_command(doc! { "fsync": 1, "lock": true })
            .await
            .unwrap();
    }
    assert_data_eq!(
        scene.transcript(
            "freezeframe unlock
            freezeframe unlock --yes
            freezeframe unlock --force"
        ),
        str![[r#"
$ freezeframe unlock
127.0.0.1:PORT  LOCKED by no run of freezeframe: not ours; to take it off all the same: freezeframe unlock --member 127.0.0.1:PORT --force --yes
=> 3
$ freezeframe unlock --yes
127.0.0.1:PORT  STILL LOCKED, by no run of freezeframe; to take it off all the same: freezeframe unlock --member 127.0.0.1:PORT --force --yes
=> 8
$ freezeframe unlock --force
127.0.0.1:PORT  LOCKED by no run of freezeframe: every lock would be taken off
nothing was done; add --yes to do it
=> 3

"#]]
    );
    assert!(locked(&set).await);
    // A member that is down keeps no other locked.
    let down = format!(
        "freezeframe unlock --force --yes --member 127.0.0.1:1 --member {}",
        set.addr(HIDDEN)
    );
    assert_data_eq!(
        scene.run(&down),
        str![[r#"
$ freezeframe unlock --force --yes --member 127.0.0.1:1 --member 127.0.0.1:PORT
127.0.0.1:1  UNKNOWN: cannot talk to mongod at 127.0.0.1:1: Connection refused (os error 111) (a mongod that does not run holds no lock)
127.0.0.1:PORT  not locked  (2 locks taken off)
=> 8

"#]]
    );
    assert!(!locked(&set).await);
    assert_eq!(
        scene.json("freezeframe unlock --json", 0)[0]["locked"],
        json!(false)
    );
}
