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

pub const PRIMARY: usize = 0;
pub const HIDDEN: usize = 1;

pub async fn replica_set() -> ReplicaSet {
    let members = vec![Member::primary(), Member::hidden()];
    ReplicaSet::start(Options {
        members,
        ..Options::default()
    })
    .await
}

/// The configuration of a backup of `member`, compressed at `level`.
pub fn backing_up(set: &ReplicaSet, member: usize, level: u32) -> String {
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
pub fn steady(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, with) in [
        // A busy machine tells how far it is.
        (r"(?m)^TIME  INFO archive \w+: .* of .*\n", ""),
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
    let status = scene.json("freezeframe status --json", 9);
    assert_eq!(status["last_run"]["exit"], 3);

    let figures = scene.path("freezeframe.prom");
    scene.configure(&format!(
        "{}\n[metrics]\ntextfile = \"{}\"\n",
        backing_up(&set, HIDDEN, 1),
        figures.display()
    ));
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
SET  SIZE archived to SIZE in SECONDS, database held DURATION
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
not settled: it holds the old replica set's configuration (--member HOST:PORT settles it); to look into it, start it alone with
  mongod --dbpath DIR/restored --setParameter recoverFromOplogAsStandalone=true
=> 0

"#]]
    );
    // It is watched from then on: what failed before is past.
    let status = scene.json("freezeframe status --json", 0);
    assert_eq!(status["last_run"]["exit"], 0);
    assert_eq!(
        status["last_run"]["backup"],
        status["series"][0]["newest"]["id"]
    );
    let told = std::fs::read_to_string(figures).unwrap();
    assert!(
        told.contains("\nfreezeframe_last_run_success 1\n")
            && told.contains("replica_sets=\"rs0\",state=\"good\"} 1\n"),
        "{told}"
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

/// As [`in_the_window`], and waits until the archive is being written, so that the lock was answered.
async fn archiving(set: &ReplicaSet, scene: &Scene) -> Child {
    let run = in_the_window(set, scene).await;
    until("an archive is begun", async || {
        let sets = scene.names("store").into_iter();
        let mut objects = sets.flat_map(|set| scene.names(&format!("store/{set}")));
        objects.any(|name| name.starts_with(".rs0.tar.xz"))
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
    // What tells that a lease is free again stays.
    let mut stored = scene.names("store");
    stored.retain(|name| !name.starts_with("lease-"));
    assert_eq!(stored, Vec::<String>::new());
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
async fn a_running_backup_is_no_leftover() {
    let set = replica_set().await;
    fill(&set).await;
    let scene = Scene::new(&backing_up(&set, HIDDEN, 6));
    let run = archiving(&set, &scene).await;
    let pid = Pid::from_raw(run.id() as i32);
    // Its guard and its locks stay as they are.
    kill(pid, Signal::SIGSTOP).unwrap();
    let check = scene.run("freezeframe check");
    // However its lines are broken.
    let check = check.split_whitespace().collect::<Vec<_>>().join(" ") + "\n";
    for told in [
        "REFUSED running the running backup RUN (pid PID, since DATE) is at work",
        "rs0 at 127.0.0.1:PORT is held by the running backup RUN (pid PID, since DATE); wait until it has ended",
        "=> 3\n",
    ] {
        assert!(check.contains(told), "no {told:?} in {check}");
    }
    assert!(!check.contains("died and left"), "{check}");
    assert_data_eq!(
        steady(&scene.transcript(
            "freezeframe unlock
            freezeframe unlock --yes
            freezeframe unlock --force
            freezeframe list
            freezeframe backup"
        )),
        str![[r#"
$ freezeframe unlock
127.0.0.1:PORT  LOCKED, held by the running backup RUN (pid PID, since DATE), which gives it back by itself; to break into it, so that it fails: freezeframe unlock --member 127.0.0.1:PORT --force --yes
=> 3
$ freezeframe unlock --yes
127.0.0.1:PORT  LOCKED, held by the running backup RUN (pid PID, since DATE), which gives it back by itself; to break into it, so that it fails: freezeframe unlock --member 127.0.0.1:PORT --force --yes
=> 3
$ freezeframe unlock --force
127.0.0.1:PORT  LOCKED, held by the running backup RUN (pid PID, since DATE): would be taken off, and that backup would fail
nothing was done; add --yes to do it
=> 3
$ freezeframe list
BACKUP  AGE  SIZE  LOCK  STATE  MEMBERS
SET  DURATION  SIZE  -  running  rs0
SET: being made by the running backup RUN (pid PID, since DATE)
=> 0
$ freezeframe backup
error: another backup is at work on this host
  hint: wait until it has ended
=> 3

"#]]
    );
    let recovered = scene.run("freezeframe recover");
    assert!(recovered.contains("nothing to recover"), "{recovered}");
    assert!(locked(&set).await);
    let unlock = scene.json("freezeframe unlock --json", 3);
    assert_eq!(unlock[0]["at_work"]["pid"], run.id());
    assert_data_eq!(
        scene.run("freezeframe unlock --force --yes"),
        str![[r#"
$ freezeframe unlock --force --yes
127.0.0.1:PORT  not locked  (1 lock taken off)
TIME  WARN breaking into the running backup RUN (pid PID, since DATE), which will fail member=127.0.0.1:PORT
=> 0

"#]]
    );
    assert!(!locked(&set).await);
    // What was broken into knows it at once and is no backup.
    kill(pid, Signal::SIGCONT).unwrap();
    let output = run.wait_with_output().unwrap();
    assert_data_eq!(
        steady(&scene.shown(&output)),
        str![[r#"
error: 127.0.0.1:PORT was not locked any more before it was to be unlocked: somebody else unlocked it
  hint: find who restarted or unlocked the member; run the backup again
=> 4

"#]]
    );
    nothing_is_left(&scene);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_member_dies_while_it_is_held_ends_at_once() {
    let mut set = replica_set().await;
    fill(&set).await;
    let scene = Scene::new(&backing_up(&set, HIDDEN, 6));
    let run = archiving(&set, &scene).await;
    set.members[HIDDEN].kill();
    let output = run.wait_with_output().unwrap();
    assert_data_eq!(
        steady(&scene.shown(&output)),
        str![[r#"
error: 127.0.0.1:PORT was not locked any more before it was to be unlocked: mongod has ended
  hint: find who restarted or unlocked the member; run the backup again
=> 4

"#]]
    );
    nothing_is_left(&scene);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_known_to_last_too_long_is_refused() {
    let set = replica_set().await;
    let scene = Scene::new("");
    let holding = |max_hold: &str| {
        backing_up(&set, HIDDEN, 1)
            .replace("max_hold = \"5m\"", &format!("max_hold = \"{max_hold}\""))
    };
    scene.configure(&holding("1ms"));
    let guessed = scene.run("freezeframe check");
    assert!(
        guessed.contains("warning  max_hold ") && guessed.ends_with("=> 0\n"),
        "{guessed}"
    );
    scene.configure(&holding("5m"));
    let made = scene.run("freezeframe backup");
    assert!(made.ends_with("=> 0\n"), "{made}");
    let known = scene.run("freezeframe check");
    assert!(known.ends_with("=> 0\n"), "{known}");
    scene.configure(&holding("1ms"));
    let known = scene.run("freezeframe check");
    assert!(
        known.contains("REFUSED  max_hold ") && known.ends_with("=> 3\n"),
        "{known}"
    );
    assert!(known.contains("set max_hold = \""), "{known}");
    // What took its time with one level tells nothing of another.
    let faster = holding("1ms").replace("level = 1\n", "level = 0\n");
    assert_ne!(faster, holding("1ms"));
    scene.configure(&faster);
    let guessed = scene.run("freezeframe check");
    assert!(
        guessed.contains("warning  max_hold ") && guessed.ends_with("=> 0\n"),
        "{guessed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_and_calls_are_told_to_who_asks() {
    let set = replica_set().await;
    let scene = Scene::new(&backing_up(&set, HIDDEN, 1));
    let quiet = scene.run("freezeframe backup");
    let steps = scene.run("freezeframe -v backup");
    let calls = scene.run("freezeframe -vv backup");
    for (step, call) in [
        ("read the configuration", "asked 127.0.0.1:PORT: hello ("),
        ("took the lease on", "asked 127.0.0.1:PORT: fsync ("),
        (
            "lock 127.0.0.1:PORT: ",
            "asked 127.0.0.1:PORT: find local.oplog.rs (",
        ),
        (
            "wrote the manifest of",
            "asked 127.0.0.1:PORT: replSetGetStatus (",
        ),
    ] {
        assert!(
            steps.contains(step) && calls.contains(step),
            "no {step:?} in {steps}{calls}"
        );
        assert!(calls.contains(call), "no {call:?} in {calls}");
        assert!(
            !quiet.contains(step) && !steps.contains(call),
            "{quiet}{steps}"
        );
    }
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

    // At night there may be no configuration.
    admin
        .run_command(doc! { "fsync": 1, "lock": true })
        .await
        .unwrap();
    let nowhere = format!(
        "freezeframe unlock --config nowhere.toml --force --yes --member {}",
        set.addr(HIDDEN)
    );
    assert_data_eq!(
        scene.run(&nowhere),
        str![[r#"
$ freezeframe unlock --config nowhere.toml --force --yes --member 127.0.0.1:PORT
127.0.0.1:PORT  not locked  (1 lock taken off)
TIME  WARN there is no configuration nowhere.toml: going on with the defaults, without a user and without TLS
=> 0

"#]]
    );
    assert!(!locked(&set).await);
    let whom = scene.run("freezeframe unlock --config nowhere.toml");
    assert!(
        whom.contains("cannot read the configuration") && whom.ends_with("=> 2\n"),
        "{whom}"
    );
}

/// As one that was just started is, and one whose host was off for a night.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_will_be_fit_is_waited_for() {
    let set = replica_set().await;
    let scene = Scene::new(&backing_up(&set, HIDDEN, 1));
    let admin = set.admin(HIDDEN).await.database("admin");
    let recovering = async |on: bool| {
        let reply = admin.run_command(doc! { "replSetMaintenance": on }).await;
        reply.unwrap();
    };
    recovering(true).await;
    let refused = scene.run("freezeframe backup --wait 1s");
    assert!(
        refused.contains("INFO waiting for what passes: rs0 at 127.0.0.1:PORT is RECOVERING")
            && refused.ends_with("=> 3\n"),
        "{refused}"
    );
    let ended = scene.start_until("freezeframe backup --wait 10m", "is RECOVERING");
    recovering(false).await;
    let made = ended();
    assert!(made.ends_with("=> 0\n"), "{made}");
    // What does not pass is told at once.
    scene.configure(&backing_up(&set, PRIMARY, 1));
    let refused = scene.run("freezeframe backup --wait 10m");
    assert!(
        refused.contains("is PRIMARY") && !refused.contains("waiting"),
        "{refused}"
    );
}
