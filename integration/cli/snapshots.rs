//! A backup that is a set of EBS snapshots: listed and shown as what it is, and refused where archives are needed.

use snapbox::{assert_data_eq, str};

use crate::scene::{SET, Scene};

#[test]
fn a_set_of_snapshots_says_what_it_is() {
    let scene = Scene::with_set_of(3);
    scene.configure("[ebs]\nendpoint = \"http://127.0.0.1:1\"\n");
    assert_data_eq!(
        scene.transcript(
            "freezeframe list
            freezeframe show latest
            freezeframe show latest --files
            freezeframe restore latest --to to --only sizeStorer.wt
            freezeframe verify latest
            freezeframe verify latest --deep --mongod /bin/true"
        ),
        str![[r#"
$ freezeframe list
BACKUP                        AGE  SIZE         LOCK      STATE       MEMBERS
mongo_backup-20260131_020000  AGE  3 snapshots  184.1 ms  unverified  rs0, rs1
=> 0
$ freezeframe show latest
backup      mongo_backup-20260131_020000
state       unverified
started     2026-01-31T02:00:00Z
tool        freezeframe 0.1.0, format 3
lock        184.1 ms
deployment  65b9a1f0c3d2e4f5a6b7c8d9
host        db3.example.net
run         0badcafe
finished    2026-01-31T02:11:40Z
kind        EBS snapshots; nothing is archived
place       eu-central-1
instance    i-0123456789abcdef0

rs0 from db3.example.net:27018
  mongod      6.0.5, feature compatibility 6.0
  optime      (1769824801, 7) t=3
  data        80.0 GiB
  .           db0 in the file system of /data
  journal     journal0 in the file system of /journal

rs1 from db3.example.net:27018
  mongod      6.0.5, feature compatibility 6.0
  optime      (1769824801, 7) t=3
  data        80.0 GiB
  .           db1 in the file system of /data
  journal     journal1 in the file system of /journal

/data  xfs
└─ md raid0  200 GiB  (md0)

/journal  ext4
└─ disk nvme3n1  100 GiB

snapshots
  snap-00000000000000001  vol-00000000000000001  /dev/sdf  100.0 GiB
  snap-00000000000000002  vol-00000000000000002  /dev/sdg  100.0 GiB
  snap-00000000000000003  vol-00000000000000003  /dev/sdh  100.0 GiB

window
  -0.812 s  790.5 ms  flush     db3.example.net:27018
  +0.000 s  20 ms     lock      db3.example.net:27018
  +0.020 s  120 ms    snapshot  i-0123456789abcdef0
  +0.150 s  34.1 ms   unlock    db3.example.net:27018
=> 0
$ freezeframe show latest --files
error: backup mongo_backup-20260131_020000 is a set of EBS snapshots in eu-central-1, and holds no archives
  hint: `freezeframe show mongo_backup-20260131_020000` names the snapshots, `freezeframe verify mongo_backup-20260131_020000` asks whether they are there, `freezeframe restore mongo_backup-20260131_020000` brings up volumes made of them
=> 3
$ freezeframe restore latest --to to --only sizeStorer.wt
error: --only names files of archives, and this backup is of EBS snapshots
  hint: restore it without --only, and copy the files
=> 2
$ freezeframe verify latest
error: the snapshots are in eu-central-1, and [ebs] leads to eu-central-1 at http://127.0.0.1:1
  hint: set [ebs] endpoint (for copies copy_endpoint) to that of eu-central-1, or remove it where there is none, and ask again
=> 3
$ freezeframe verify latest --deep --mongod /bin/true
error: backup mongo_backup-20260131_020000 is a set of EBS snapshots in eu-central-1, and holds no archives
  hint: `freezeframe show mongo_backup-20260131_020000` names the snapshots, `freezeframe verify mongo_backup-20260131_020000` asks whether they are there, `freezeframe restore mongo_backup-20260131_020000` brings up volumes made of them
=> 3

"#]]
    );
    assert!(!scene.path("to").exists());
    let sets = scene.json("freezeframe list --json", 0);
    assert_eq!(
        (&sets[0]["snapshots"], &sets[0]["provider"]),
        (&3.into(), &"ebs".into())
    );
    let manifest = scene.json(&format!("freezeframe show {SET} --json"), 0);
    assert_eq!(
        manifest["snapshots"]["volumes"][0]["attached_as"],
        "/dev/sdf"
    );
}
