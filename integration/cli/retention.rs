//! What goes and what stays, and why.

use std::time::Duration;

use freezeframe::backup::lease::{self, Scope};
use freezeframe::ids::RunId;
use freezeframe::store::local::LocalStore;
use serde_json::json;
use snapbox::{assert_data_eq, str};

use crate::scene::{SET, Scene, keys};

/// Whose the frozen set is.
const OURS: &str = "65b9a1f0c3d2e4f5a6b7c8d9";

fn with_a_month() -> Scene {
    let scene = Scene::with_set();
    for day in ["01", "02", "15", "27", "29", "30"] {
        scene.add_set(&format!("mongo_backup-202601{day}_020000"));
    }
    scene
}

#[test]
fn a_plan_is_shown_explained_and_carried_out() {
    let scene = with_a_month();
    std::fs::remove_file(scene.path("store/mongo_backup-20260129_020000/rs1.tar.xz")).unwrap();
    std::fs::remove_file(scene.path("store/mongo_backup-20260102_020000/manifest.json")).unwrap();
    let told = scene.transcript(
        "freezeframe hold 20260101_020000 --note before-the-upgrade
        freezeframe hold 20260101_020000
        freezeframe hold 20260103_020000
        freezeframe list
        freezeframe show 20260101_020000
        freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9
        freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9 --yes
        freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9
        freezeframe verify 20260101_020000
        freezeframe hold 20260101_020000 --release
        freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9 --yes
        freezeframe list",
    );
    assert_data_eq!(
        told,
        str![[r#"
$ freezeframe hold 20260101_020000 --note before-the-upgrade
mongo_backup-20260101_020000 is not pruned until `freezeframe hold mongo_backup-20260101_020000 --release`
=> 0
$ freezeframe hold 20260101_020000
mongo_backup-20260101_020000 was held since TIME by HOST: before-the-upgrade; that stays as it is
=> 0
$ freezeframe hold 20260103_020000
error: file://DIR/store holds no backup mongo_backup-20260103_020000
  hint: `freezeframe list` shows what the store holds
=> 5
$ freezeframe list
BACKUP                        AGE  SIZE     LOCK      STATE       MEMBERS
mongo_backup-20260101_020000  AGE  5.2 KiB  184.1 ms  unverified  rs0, rs1
mongo_backup-20260102_020000  AGE  1.7 KiB  -         unfinished  rs0, rs1
mongo_backup-20260115_020000  AGE  5.0 KiB  184.1 ms  unverified  rs0, rs1
mongo_backup-20260127_020000  AGE  5.0 KiB  184.1 ms  unverified  rs0, rs1
mongo_backup-20260129_020000  AGE  4.5 KiB  184.1 ms  DAMAGED     rs0, rs1
mongo_backup-20260130_020000  AGE  5.0 KiB  184.1 ms  unverified  rs0, rs1
mongo_backup-20260131_020000  AGE  5.3 KiB  184.1 ms  verified    rs0, rs1
mongo_backup-20260101_020000: held since TIME by HOST: before-the-upgrade
backup mongo_backup-20260129_020000: rs1.tar.xz is missing
=> 0
$ freezeframe show 20260101_020000
backup      mongo_backup-20260101_020000
state       unverified
started     2026-01-31T02:00:00.25Z
finished    2026-01-31T02:11:40Z
host        db3.example.net
run         0badcafe
tool        freezeframe 0.1.0, format 1
deployment  65b9a1f0c3d2e4f5a6b7c8d9 (sharded cluster)
lock        184.1 ms, snapshots by lvm
size        5.2 KiB
hold        held since TIME by HOST: before-the-upgrade

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
$ freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9
file://DIR/store, deployment 65b9a1f0c3d2e4f5a6b7c8d9
stays: the newest 3, what is within 7 d of the newest (days and weeks of UTC)

BACKUP                        AGE  SIZE           WHY
mongo_backup-20260101_020000  AGE  5.2 KiB  keep  held
mongo_backup-20260102_020000  AGE  1.7 KiB  DROP  never finished, and a newer one is good
mongo_backup-20260115_020000  AGE  5.0 KiB  DROP  no rule keeps it
mongo_backup-20260127_020000  AGE  5.0 KiB  keep  one of the newest 3, within 7 d of the newest
mongo_backup-20260129_020000  AGE  4.5 KiB  keep  DAMAGED, within 7 d of the newest
mongo_backup-20260130_020000  AGE  5.0 KiB  keep  one of the newest 3, within 7 d of the newest
mongo_backup-20260131_020000  AGE  5.3 KiB  keep  newest good one, newest verified one, one of the newest 3, within 7 d of the newest

2 of 7 to go, 6.7 KiB freed by that
nothing was done; add --yes to do it
=> 3
$ freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9 --yes
file://DIR/store, deployment 65b9a1f0c3d2e4f5a6b7c8d9
stays: the newest 3, what is within 7 d of the newest (days and weeks of UTC)

BACKUP                        AGE  SIZE              WHY
mongo_backup-20260101_020000  AGE  5.2 KiB  keep     held
mongo_backup-20260102_020000  AGE  1.7 KiB  removed  never finished, and a newer one is good
mongo_backup-20260115_020000  AGE  5.0 KiB  removed  no rule keeps it
mongo_backup-20260127_020000  AGE  5.0 KiB  keep     one of the newest 3, within 7 d of the newest
mongo_backup-20260129_020000  AGE  4.5 KiB  keep     DAMAGED, within 7 d of the newest
mongo_backup-20260130_020000  AGE  5.0 KiB  keep     one of the newest 3, within 7 d of the newest
mongo_backup-20260131_020000  AGE  5.3 KiB  keep     newest good one, newest verified one, one of the newest 3, within 7 d of the newest

removed 2 of 7, 6.7 KiB freed
TIME  INFO pruned id=mongo_backup-20260102_020000
TIME  INFO pruned id=mongo_backup-20260115_020000
=> 0
$ freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9
file://DIR/store, deployment 65b9a1f0c3d2e4f5a6b7c8d9
stays: the newest 3, what is within 7 d of the newest (days and weeks of UTC)

BACKUP                        AGE  SIZE           WHY
mongo_backup-20260101_020000  AGE  5.2 KiB  keep  held
mongo_backup-20260127_020000  AGE  5.0 KiB  keep  one of the newest 3, within 7 d of the newest
mongo_backup-20260129_020000  AGE  4.5 KiB  keep  DAMAGED, within 7 d of the newest
mongo_backup-20260130_020000  AGE  5.0 KiB  keep  one of the newest 3, within 7 d of the newest
mongo_backup-20260131_020000  AGE  5.3 KiB  keep  newest good one, newest verified one, one of the newest 3, within 7 d of the newest

nothing is to be removed
=> 0
$ freezeframe verify 20260101_020000
mongo_backup-20260101_020000  every hash is right (2 archives, 6 files, 1.3 KiB read in SECONDS)
=> 0
$ freezeframe hold 20260101_020000 --release
mongo_backup-20260101_020000 is held no more: the rules of [retention] say how long it stays
=> 0
$ freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9 --yes
file://DIR/store, deployment 65b9a1f0c3d2e4f5a6b7c8d9
stays: the newest 3, what is within 7 d of the newest (days and weeks of UTC)

BACKUP                        AGE  SIZE              WHY
mongo_backup-20260101_020000  AGE  5.3 KiB  removed  no rule keeps it
mongo_backup-20260127_020000  AGE  5.0 KiB  keep     one of the newest 3, within 7 d of the newest
mongo_backup-20260129_020000  AGE  4.5 KiB  keep     DAMAGED, within 7 d of the newest
mongo_backup-20260130_020000  AGE  5.0 KiB  keep     one of the newest 3, within 7 d of the newest
mongo_backup-20260131_020000  AGE  5.3 KiB  keep     newest good one, newest verified one, one of the newest 3, within 7 d of the newest

removed 1 of 5, 5.3 KiB freed
TIME  INFO pruned id=mongo_backup-20260101_020000
=> 0
$ freezeframe list
BACKUP                        AGE  SIZE     LOCK      STATE       MEMBERS
mongo_backup-20260127_020000  AGE  5.0 KiB  184.1 ms  unverified  rs0, rs1
mongo_backup-20260129_020000  AGE  4.5 KiB  184.1 ms  DAMAGED     rs0, rs1
mongo_backup-20260130_020000  AGE  5.0 KiB  184.1 ms  unverified  rs0, rs1
mongo_backup-20260131_020000  AGE  5.3 KiB  184.1 ms  verified    rs0, rs1
backup mongo_backup-20260129_020000: rs1.tar.xz is missing
=> 0

"#]]
    );
    assert!(scene.names("state/runs").is_empty());
    let mut left = scene.names("store");
    left.retain(|name| !name.starts_with("lease-"));
    left.sort_unstable();
    assert_eq!(left[left.len() - 1], SET);
    assert!(
        !left.iter().any(|name| name.contains("20260101")),
        "{left:?}"
    );
}

#[test]
fn whose_backups_they_are_must_be_known() {
    let scene = with_a_month();
    scene.configure("[mongodb]\nmembers = [\"127.0.0.1:1\"]\n");
    assert_data_eq!(
        scene.transcript(
            "freezeframe prune --yes
            freezeframe prune --deployment 0123456789abcdef01234567 --yes
            freezeframe prune --deployment mine"
        ),
        str![[r#"
$ freezeframe prune --yes
error: cannot tell whose backups to prune: no member of this host says
  cannot talk to mongod at 127.0.0.1:1: Connection refused (os error 111); see that mongod runs and listens there, and that [mongodb] tls agrees with net.tls of mongod
  hint: start the member, or name the deployment with --deployment ID; the store holds backups of 65b9a1f0c3d2e4f5a6b7c8d9
=> 3
$ freezeframe prune --deployment 0123456789abcdef01234567 --yes
file://DIR/store, deployment 0123456789abcdef01234567
stays: the newest 3, what is within 7 d of the newest (days and weeks of UTC)

BACKUP                        AGE  SIZE           WHY
mongo_backup-20260101_020000  AGE  5.0 KiB  keep  another deployment's
mongo_backup-20260102_020000  AGE  5.0 KiB  keep  another deployment's
mongo_backup-20260115_020000  AGE  5.0 KiB  keep  another deployment's
mongo_backup-20260127_020000  AGE  5.0 KiB  keep  another deployment's
mongo_backup-20260129_020000  AGE  5.0 KiB  keep  another deployment's
mongo_backup-20260130_020000  AGE  5.0 KiB  keep  another deployment's
mongo_backup-20260131_020000  AGE  5.3 KiB  keep  another deployment's

nothing is to be removed
=> 0
$ freezeframe prune --deployment mine
error: invalid value 'mine' for '--deployment <ID>': "mine" is not a deployment id (24 hexadecimal digits)

For more information, try '--help'.
=> 2

"#]]
    );
    assert_eq!(scene.names("store").len(), 7);
}

#[test]
fn the_rules_are_those_of_the_configuration() {
    let scene = with_a_month();
    scene.configure("[retention]\nkeep_last = 1\nkeep_within = \"1h\"\nweekly = 2\nmonthly = 5\n");
    assert_data_eq!(
        scene.run("freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9"),
        str![[r#"
$ freezeframe prune --deployment 65b9a1f0c3d2e4f5a6b7c8d9
file://DIR/store, deployment 65b9a1f0c3d2e4f5a6b7c8d9
stays: the newest 1, what is within 1 h of the newest, the newest of each of 2 weeks, the newest of each of 5 months (days and weeks of UTC)

BACKUP                        AGE  SIZE           WHY
mongo_backup-20260101_020000  AGE  5.0 KiB  DROP  no rule keeps it
mongo_backup-20260102_020000  AGE  5.0 KiB  DROP  no rule keeps it
mongo_backup-20260115_020000  AGE  5.0 KiB  keep  newest of its week
mongo_backup-20260127_020000  AGE  5.0 KiB  DROP  no rule keeps it
mongo_backup-20260129_020000  AGE  5.0 KiB  DROP  no rule keeps it
mongo_backup-20260130_020000  AGE  5.0 KiB  DROP  no rule keeps it
mongo_backup-20260131_020000  AGE  5.3 KiB  keep  newest good one, newest verified one, one of the newest 1, within 1 h of the newest, newest of its week, newest of its month

5 of 7 to go, 24.8 KiB freed by that
nothing was done; add --yes to do it
=> 3

"#]]
    );
    let line = format!("freezeframe prune --deployment {OURS} --json");
    let printed = scene.json(&line, 3);
    assert_eq!(keys(&printed), ["stores"]);
    let plan = &printed["stores"][0];
    assert_eq!(
        keys(plan),
        [
            "backups",
            "deployment",
            "error",
            "frees",
            "hint",
            "rules",
            "store"
        ]
    );
    let newest = &plan["backups"][6];
    assert_eq!(
        keys(newest),
        [
            "action",
            "deployment",
            "drop",
            "hint",
            "id",
            "keep",
            "outcome",
            "problem",
            "shards",
            "size",
            "snapshots"
        ]
    );
    assert_eq!(
        (&newest["id"], &newest["action"]),
        (&json!(SET), &json!("keep"))
    );
    assert_eq!(
        newest["keep"],
        json!([
            "newest_good",
            "newest_verified",
            "keep_last",
            "keep_within",
            "weekly",
            "monthly"
        ])
    );
    let oldest = &plan["backups"][0];
    assert_eq!(
        (&oldest["drop"], &oldest["outcome"]),
        (&json!("outlived"), &json!(null))
    );
    let done = scene.json(&format!("{line} --yes"), 0);
    let done = &done["stores"][0];
    assert_eq!(done["backups"][0]["outcome"], "removed");
    assert_eq!(done["frees"], plan["frees"]);
    let held = scene.json("freezeframe hold latest --json --note why", 0);
    assert_eq!(keys(&held), ["hold", "id"]);
    assert_eq!(keys(&held["hold"]), ["at", "host", "note"]);
    let listed = scene.json("freezeframe list --json", 0);
    assert_eq!(
        listed[listed.as_array().unwrap().len() - 1]["hold"],
        held["hold"]
    );
}

#[test]
fn a_prune_waits_for_a_backup_that_is_at_work() {
    let scene = with_a_month();
    let store = LocalStore::open(&scene.path("store")).unwrap();
    let scope = Scope {
        deployment: OURS.parse().unwrap(),
        shard: "rs0".parse().unwrap(),
    };
    let run = RunId::random();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let hour = Duration::from_secs(3600);
    runtime
        .block_on(lease::take(&store, &scope, run, hour))
        .unwrap();
    let prune = format!("freezeframe prune --deployment {OURS} --yes");
    let refused = scene.run(&prune);
    assert!(refused.ends_with("=> 3\n"), "{refused}");
    let patient = format!("{prune} --wait 10m");
    let ended = scene.start_until(&patient, "INFO waiting: ");
    runtime
        .block_on(lease::give_back(&store, &scope, run))
        .unwrap();
    let pruned = ended();
    assert!(
        pruned.contains("\nremoved ") && pruned.ends_with("=> 0\n"),
        "{pruned}"
    );
}
