use super::*;
use crate::exec::scripted::ScriptedExec;
use crate::snapshot::Origin;
use std::sync::Arc;

const SNAPSHOTS: &str = include_str!("testdata/snapshots-lvs.json");
const STATES: &str = include_str!("testdata/states-lvs.json");
const NONE: &str = r#"{"report":[{"lv":[]}]}"#;
const ACTIVE: &str = "data--1-mongo--db:Active:1:Live\n";

pub(super) fn snapshot(n: usize, lv: &str) -> LvmSnapshot {
    let run = "0000abcd".parse().unwrap();
    LvmSnapshot {
        origin: Origin {
            vg: "data-1".into(),
            lv: lv.into(),
        },
        lv: LvmSnapshot::name(run, n),
        space: Space::Own {
            cow_bytes: 64 << 20,
        },
        run,
    }
}

pub(super) fn lvm(exec: ScriptedExec) -> (Lvm, Arc<ScriptedExec>) {
    let exec = Arc::new(exec);
    (Lvm::new(exec.clone()), exec)
}

pub(super) fn seen(exec: &ScriptedExec, prefix: &str) -> Vec<String> {
    exec.seen
        .lock()
        .unwrap()
        .iter()
        .filter(|line| line.starts_with(prefix))
        .cloned()
        .collect()
}

#[test]
fn space_is_made_before_and_taking_is_one_command() {
    let exec = ScriptedExec::default()
        .on("lvcreate", "")
        .on("lvchange", "")
        .on("lvconvert", "");
    let (lvm, exec) = lvm(exec);
    lvm.prepare(&snapshot(1, "mongo-db")).unwrap();
    lvm.take(&snapshot(1, "mongo-db"), Purpose::ToRead).unwrap();
    assert_eq!(
        *exec.seen.lock().unwrap(),
        [
            "lvcreate --yes --autobackup n --zero y --wipesignatures y --permission rw --size 67108864b \
             --name freezeframe-0000abcd-1 --addtag freezeframe --addtag freezeframe_run_0000abcd data-1",
            "lvchange --activate n --autobackup n data-1/freezeframe-0000abcd-1",
            "lvconvert --yes --noudevsync --config backup/backup=0 backup/archive=0 activation/monitoring=0 --type snapshot --zero n --chunksize 4096b \
             data-1/mongo-db data-1/freezeframe-0000abcd-1"
        ]
    );
}

fn thin(n: usize) -> LvmSnapshot {
    LvmSnapshot {
        space: Space::Pool {
            pool: "pool".into(),
        },
        ..snapshot(n, "thin1")
    }
}

#[test]
fn a_thin_snapshot_has_nothing_to_prepare_and_is_active_at_once() {
    let (lvm, exec) = lvm(ScriptedExec::default().on("lvcreate", ""));
    lvm.prepare(&thin(1)).unwrap();
    lvm.take(&thin(1), Purpose::ToRead).unwrap();
    assert_eq!(
        *exec.seen.lock().unwrap(),
        [
            "lvcreate --yes --noudevsync --config backup/backup=0 backup/archive=0 activation/monitoring=0 --snapshot --permission rw --setactivationskip y \
             --ignoreactivationskip --activate y \
             --name freezeframe-0000abcd-1 --addtag freezeframe --addtag freezeframe_run_0000abcd data-1/thin1"
        ]
    );
}

#[test]
fn a_thin_snapshot_is_deactivated_where_it_is_active() {
    let (active, exec) = lvm(ScriptedExec::default()
        .on(
            "dmsetup info",
            "data--1-freezeframe--0000abcd--1:Active:0:Live\n",
        )
        .on("lvchange", ""));
    active.deactivate(&thin(1)).unwrap();
    assert_eq!(
        seen(&exec, "lvchange"),
        ["lvchange --activate n --autobackup n data-1/freezeframe-0000abcd-1"]
    );
    let none = ScriptedExec::default().on("dmsetup info", "data--1-thin1:Active:1:Live\n");
    lvm(none).0.deactivate(&thin(1)).unwrap();
}

#[test]
fn a_thin_snapshot_is_as_full_as_its_pool_and_its_origin_goes_on_with_it() {
    let lvs = SNAPSHOTS
        .replace("\"mongo-db\"", "\"thin1\"")
        .replace("swi-a-s---", "Vwi-a-tz--");
    let fill = |mode: &str| {
        let status = format!("0 2097152 thin-pool 1 512/1024 4096/16384 - {mode} discard_passdown");
        let exec = ScriptedExec::default()
            .on("lvs", lvs.clone())
            .on("dmsetup status data--1-pool-tpool", status);
        lvm(exec).0.fill(&thin(1))
    };
    assert_eq!(fill("rw").unwrap(), 0.5);
    // As a kept one is.
    let lvs = lvs.replace("Vwi-a-tz--", "Vwi---tz-k");
    let status = "0 2097152 thin-pool 1 512/1024 4096/16384 - rw discard_passdown";
    let exec = ScriptedExec::default()
        .on("lvs", lvs)
        .on("dmsetup status data--1-pool-tpool", status);
    assert_eq!(lvm(exec).0.fill(&thin(1)).unwrap(), 0.5);
    let error = fill("out_of_data_space").unwrap_err();
    assert!(
        matches!(&error, SnapshotError::PoolFull { pool } if pool == "data-1/pool"),
        "{error}"
    );
    let states = "data--1-pool-tpool:Suspended:1:Live\ndata--1-thin1:Suspended:1:Live\ndata--1-other:Suspended:1:Live\n";
    let (lvm, exec) = lvm(ScriptedExec::default()
        .on("dmsetup info", states)
        .on("dmsetup resume", ""));
    lvm.resume_stuck(&thin(1)).unwrap();
    assert_eq!(
        seen(&exec, "dmsetup resume"),
        [
            "dmsetup resume --noudevsync data--1-pool-tpool",
            "dmsetup resume --noudevsync data--1-thin1"
        ]
    );
}

#[test]
fn what_a_journal_says_of_a_snapshot_is_read_as_it_was_written() {
    for snapshot in [snapshot(1, "mongo-db"), thin(2)] {
        let text = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(
            serde_json::from_str::<LvmSnapshot>(&text).unwrap(),
            snapshot
        );
    }
    // By a version that knew classic snapshots alone.
    let old = r#"{"origin":{"vg":"data-1","lv":"mongo-db"},"lv":"freezeframe-0000abcd-1","cow_bytes":67108864,"run":"0000abcd"}"#;
    assert_eq!(
        serde_json::from_str::<LvmSnapshot>(old).unwrap(),
        snapshot(1, "mongo-db")
    );
}

#[test]
fn removes_its_own_and_is_idempotent() {
    let (own, exec) = lvm(ScriptedExec::default()
        .on("dmsetup info", ACTIVE)
        .on("lvs", SNAPSHOTS)
        .on("lvremove", ""));
    assert_eq!(
        own.remove(&snapshot(1, "mongo-db")).unwrap(),
        Removal::Removed
    );
    assert_eq!(
        seen(&exec, "lvremove"),
        ["lvremove --yes data-1/freezeframe-0000abcd-1"]
    );
    assert!(
        seen(&exec, "lvchange").is_empty(),
        "an origin in use is not reloaded without need"
    );

    let (absent, exec) = lvm(ScriptedExec::default()
        .on("dmsetup info", "No devices found\n")
        .on("lvs", NONE));
    assert_eq!(
        absent.remove(&snapshot(1, "mongo-db")).unwrap(),
        Removal::WasAbsent
    );
    assert!(seen(&exec, "lvremove").is_empty());
}

#[test]
fn after_a_removal_that_fails_the_origin_is_looked_at_again() {
    let (lvm, exec) = lvm(ScriptedExec::default()
        .on("dmsetup info", ACTIVE)
        .on("lvs", SNAPSHOTS)
        .fail("lvremove", "killed"));
    assert!(lvm.remove(&snapshot(1, "mongo-db")).is_err());
    let last = seen(&exec, "").pop().unwrap();
    assert!(last.starts_with("dmsetup info"), "{last}");
}

#[test]
fn what_a_killed_lvcreate_left_goes_and_the_origin_is_tidied() {
    let (lvm, exec) = lvm(ScriptedExec::default()
        .on("dmsetup info", ACTIVE)
        .on("lvs", STATES)
        .on("lvremove", "")
        .on("lvchange", ""));
    assert_eq!(
        lvm.remove(&snapshot(2, "mongo-db")).unwrap(),
        Removal::Removed
    );
    assert_eq!(
        seen(&exec, "lvchange"),
        ["lvchange --refresh --config global/wait_for_locks=0 data-1/mongo-db"]
    );
}

#[test]
fn devices_that_lvm_forgot_go_too() {
    let states = "data--1-freezeframe--0000abcd--1-cow:Active:1:Live\ndata--1-freezeframe--0000abcd--1:Active:1:Live\n\
                  data--1-freezeframe--0000abcd--11-cow:Active:1:Live\ndata--1-mongo--db:Active:1:Live\n";
    let (lvm, exec) = lvm(ScriptedExec::default()
        .on("dmsetup info", states)
        .on("lvs", NONE)
        .on("dmsetup remove", ""));
    assert_eq!(
        lvm.remove(&snapshot(1, "mongo-db")).unwrap(),
        Removal::Removed
    );
    assert_eq!(
        seen(&exec, "dmsetup remove"),
        [
            "dmsetup remove --retry data--1-freezeframe--0000abcd--1",
            "dmsetup remove --retry data--1-freezeframe--0000abcd--1-cow"
        ]
    );
}

#[test]
fn what_lies_below_no_origin_any_more_goes_unresumed_and_what_is_in_use_stays() {
    let linear = "0 2048 linear 8:16 2048\n";
    for (open, table, removed) in [
        (
            "Suspended:0",
            linear,
            vec!["dmsetup remove --retry data--1-mongo--db-real"],
        ),
        ("Active:2", "0 2048 snapshot-origin 254:2\n", vec![]),
    ] {
        let states =
            format!("data--1-mongo--db-real:{open}:Live\ndata--1-mongo--db:Active:1:Live\n");
        let (lvm, exec) = lvm(ScriptedExec::default()
            .on("dmsetup info", &states)
            .on("dmsetup table data--1-mongo--db", table)
            .on("lvs", NONE)
            .on("dmsetup remove", ""));
        lvm.remove(&snapshot(1, "mongo-db")).unwrap();
        let unique: std::collections::BTreeSet<_> =
            seen(&exec, "dmsetup remove").into_iter().collect();
        assert_eq!(unique.into_iter().collect::<Vec<_>>(), removed);
        assert!(seen(&exec, "dmsetup resume").is_empty());
    }
}

#[test]
fn a_snapshot_that_the_origin_is_not_below_loses_its_devices_before_lvm_removes_it() {
    let states = "data--1-freezeframe--0000abcd--1:Active:0:Live\ndata--1-freezeframe--0000abcd--1-cow:Active:1:Live\n\
                  data--1-mongo--db-real:Active:1:Live\ndata--1-mongo--db:Active:1:Live\n";
    let (lvm, exec) = lvm(ScriptedExec::default()
        .on("dmsetup info", states)
        .on("dmsetup table", "0 2048 linear 8:16 2048\n")
        .on("dmsetup remove", "")
        .on("lvs", SNAPSHOTS)
        .on("lvremove", ""));
    lvm.remove(&snapshot(1, "mongo-db")).unwrap();
    let seen = exec.seen.lock().unwrap();
    let at = |line: &str| seen.iter().position(|one| one.starts_with(line));
    let dropped = at("dmsetup remove --retry data--1-freezeframe--0000abcd--1").unwrap();
    assert!(dropped < at("lvremove").unwrap(), "{seen:?}");
}

#[test]
fn foreign_volumes_stay_whatever_they_are_called() {
    let found = |attr: &str, origin: Option<&str>, size: u64, tags: &[&str]| LogicalVolume {
        pool: Some("pool".into()).filter(|_| attr.starts_with('V')),
        vg: "data-1".into(),
        lv: "freezeframe-0000abcd-1".into(),
        size,
        attr: attr.into(),
        layout: vec!["linear".into()],
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        origin: origin.map(str::to_owned),
        origin_size: None,
        percent: None,
        device: None,
    };
    let (ours, planned) = (["freezeframe", "freezeframe_run_0000abcd"], 64 << 20);
    let snap = "swi-a-s---";
    let cases = [
        (
            found(snap, Some("mongo-db"), planned, &ours),
            Ok(Claimed::Snapshot),
        ),
        // It may have been extended.
        (
            found(snap, Some("mongo-db"), 2 * planned, &ours),
            Ok(Claimed::Snapshot),
        ),
        (found(snap, Some("mongo-db"), planned, &[]), Err("tags")),
        (
            found(snap, Some("mongo-db"), planned, &["freezeframe"]),
            Err("tags"),
        ),
        (
            found(
                snap,
                Some("mongo-db"),
                planned,
                &["freezeframe", "freezeframe_run_00000000"],
            ),
            Err("tags"),
        ),
        (
            found(snap, Some("logs"), planned, &ours),
            Err("snapshot of logs"),
        ),
        (
            found("-wi-i-----", None, planned, &ours),
            Ok(Claimed::Unattached),
        ),
        (
            found("-wi-a-----", None, planned, &[]),
            Ok(Claimed::Unattached),
        ),
        (
            found("-wi-a-----", None, planned + 1, &[]),
            Err("another size"),
        ),
        (found("-wi-ao----", None, planned, &ours), Err("in use")),
        (found("owi-a-s---", None, planned, &ours), Err("kind")),
        (found("Vwi-a-tz--", None, planned, &ours), Err("kind")),
    ];
    for (found, expected) in cases {
        match (claim(&found, &snapshot(1, "mongo-db")), expected) {
            (Ok(claimed), Ok(expected)) => assert_eq!(claimed, expected, "{found:?}"),
            (Err(reason), Err(expected)) => assert!(reason.contains(expected), "{reason}"),
            (claimed, _) => panic!("{found:?}: {claimed:?}"),
        }
    }
    let foreign = SNAPSHOTS.replace("freezeframe,freezeframe_run_0000abcd", "someone");
    let (lvm, exec) = lvm(ScriptedExec::default()
        .on("dmsetup info", ACTIVE)
        .on("lvs", foreign));
    assert!(matches!(
        lvm.remove(&snapshot(1, "mongo-db")),
        Err(SnapshotError::NotOurs { .. })
    ));
    assert!(seen(&exec, "lvremove").is_empty());
}

/// Device states that change as commands run.
#[derive(Debug)]
struct Suspended {
    /// What ends the suspension: the beginning of a command line.
    cure: &'static str,
    cured: std::sync::atomic::AtomicBool,
    seen: std::sync::Mutex<Vec<String>>,
}

impl crate::exec::Exec for Suspended {
    fn run(&self, command: &Command) -> Result<String, crate::exec::ExecError> {
        use std::sync::atomic::Ordering;
        let line = command.to_string();
        self.seen.lock().unwrap().push(line.clone());
        if line.starts_with(self.cure) {
            self.cured.store(true, Ordering::SeqCst);
        }
        let state = if self.cured.load(Ordering::SeqCst) {
            "Active"
        } else {
            "Suspended"
        };
        Ok(match command.program.as_ref() {
            "dmsetup" => format!(
                "data--1-mongo--db-real:Active:1:Live\ndata--1-mongo--db:{state}:1:Live\nother:Suspended:1:Live\n"
            ),
            "lvs" => NONE.into(),
            _ => String::new(),
        })
    }
}

#[test]
fn an_origin_left_suspended_is_resumed_first() {
    for (cure, ok) in [
        ("dmsetup resume --noudevsync data--1-mongo--db", true),
        ("never", false),
    ] {
        let exec = Arc::new(Suspended {
            cure,
            cured: false.into(),
            seen: Default::default(),
        });
        let outcome = Lvm::new(exec.clone()).remove(&snapshot(1, "mongo-db"));
        assert_eq!(outcome.is_ok(), ok, "{cure}: {outcome:?}");
        assert!(ok || matches!(outcome, Err(SnapshotError::Suspended { .. })));
        let seen = exec.seen.lock().unwrap();
        assert!(
            !seen.iter().any(|line| line.contains("resume other")),
            "{seen:?}"
        );
    }
}

#[test]
fn what_is_stuck_goes_on_without_lvm() {
    let resume = "dmsetup resume --noudevsync data--1-mongo--db";
    let exec = Arc::new(Suspended {
        cure: resume,
        cured: false.into(),
        seen: Default::default(),
    });
    Lvm::new(exec.clone())
        .resume_stuck(&snapshot(1, "mongo-db"))
        .unwrap();
    let seen = exec.seen.lock().unwrap();
    assert!(seen.iter().any(|line| line == resume), "{seen:?}");
    assert!(
        !seen.iter().any(|line| line.starts_with("lvchange")),
        "{seen:?}"
    );
}

#[test]
fn tells_how_full_and_whether_valid() {
    let status = "0 2097152 snapshot 32768/65536 16\n";
    let fill = |lvs: String, status: &str| {
        lvm(ScriptedExec::default()
            .on("lvs", lvs)
            .on("dmsetup status", status.to_owned()))
        .0
        .fill(&snapshot(1, "mongo-db"))
    };
    let overflowed = |lvs: &str, status| {
        matches!(
            fill(lvs.into(), status),
            Err(SnapshotError::Overflowed { .. })
        )
    };
    assert_eq!(fill(SNAPSHOTS.into(), status).unwrap(), 0.5);
    assert!(overflowed(SNAPSHOTS, "0 2097152 snapshot Invalid\n"));
    assert!(overflowed(STATES, status));
    assert!(matches!(
        fill(NONE.into(), status),
        Err(SnapshotError::Gone { .. })
    ));
    let other = SNAPSHOTS.replace("\"origin\":\"mongo-db\"", "\"origin\":\"another\"");
    assert!(matches!(
        fill(other, status),
        Err(SnapshotError::Gone { .. })
    ));
}
