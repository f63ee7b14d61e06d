use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::exec::scripted::ScriptedExec;
use crate::snapshot::Origin;

fn snapshot() -> LvmSnapshot {
    let run = "0000abcd".parse().unwrap();
    LvmSnapshot {
        origin: Origin {
            vg: "data-1".into(),
            lv: "mongo".into(),
        },
        lv: LvmSnapshot::name(run, 1),
        space: Space::Prepared {
            prepared_bytes: 64 << 20,
        },
        run,
    }
}

/// Device-mapper with the origin's tables as given, and devices of ours if `ours`.
fn host(live: &str, waiting: &str, ours: bool) -> (Lvm, Arc<ScriptedExec>) {
    let mut states = "data--1-mongo:Active:1:Live\n".to_owned();
    if ours {
        states += "freezeframe-0000abcd-1-real:Active:1:Live\nfreezeframe-0000abcd-1-picture:Active:1:Live\n";
    }
    let locks = std::env::temp_dir();
    let exec = ScriptedExec::default()
        .on(
            "dmsetup info --columns --noheadings --separator : --options name,suspended,open,tables_loaded",
            states,
        )
        .on(
            "dmsetup info --columns --noheadings --separator : --options major,minor",
            "254:7\n",
        )
        .on("dmsetup table data--1-mongo", live)
        .on(
            "dmsetup table freezeframe-0000abcd-1-real",
            "0 8 linear 8:0 2048\n8 8 linear 8:16 2048\n",
        )
        .on("dmsetup table --inactive", waiting)
        .on("dmsetup load", "")
        .on("dmsetup clear", "")
        .on("dmsetup resume", "")
        .on(
            "lvmconfig",
            format!("locking_dir=\"{}\"\n", locks.display()),
        )
        .on("dmsetup remove", "");
    let exec = Arc::new(exec);
    (Lvm::new(exec.clone()), exec)
}

fn changes(exec: &ScriptedExec) -> Vec<String> {
    let seen = exec.seen.lock().unwrap();
    let is_change = |line: &&String| {
        !["dmsetup info", "dmsetup table", "lvmconfig"]
            .iter()
            .any(|read| line.starts_with(read))
    };
    seen.iter().filter(is_change).cloned().collect()
}

const OWN: &str = "0 8 linear 8:0 2048\n8 8 linear 8:16 2048\n";
const OURS: &str = "0 16 snapshot-origin 254:7\n";
const REMOVED: [&str; 2] = [
    "dmsetup remove --retry freezeframe-0000abcd-1-picture",
    "dmsetup remove --retry freezeframe-0000abcd-1-real",
];

#[test]
fn the_origin_gets_its_own_table_back() {
    let (lvm, exec) = host(OURS, "", true);
    lvm.take_apart(&snapshot()).unwrap();
    let mut wanted = vec![
        "dmsetup load data--1-mongo --table 0 8 linear 8:0 2048\n8 8 linear 8:16 2048",
        "dmsetup resume --nolockfs --noudevsync data--1-mongo",
    ];
    wanted.extend(REMOVED);
    assert_eq!(changes(&exec), wanted);
}

#[test]
fn a_table_that_never_came_into_force_is_cleared() {
    let (lvm, exec) = host(OWN, OURS, true);
    lvm.take_apart(&snapshot()).unwrap();
    let mut wanted = vec!["dmsetup clear data--1-mongo"];
    wanted.extend(REMOVED);
    assert_eq!(changes(&exec), wanted);
}

#[test]
fn what_lvm_or_somebody_else_put_there_stays() {
    for (live, waiting) in [
        ("0 24 linear 8:0 2048\n", ""),
        // of another device
        (
            "0 16 snapshot-origin 254:70\n",
            "0 16 snapshot-origin 254:77\n",
        ),
    ] {
        let (lvm, exec) = host(live, waiting, true);
        lvm.take_apart(&snapshot()).unwrap();
        assert_eq!(changes(&exec), REMOVED);
        let error = lvm.is_in_place(&snapshot()).unwrap_err();
        assert!(matches!(error, SnapshotError::Reloaded { .. }), "{error}");
    }
}

#[test]
fn after_a_reboot_there_is_nothing_to_take_apart() {
    let (lvm, exec) = host(OWN, "", false);
    lvm.take_apart(&snapshot()).unwrap();
    assert!(changes(&exec).is_empty());
}

#[test]
fn a_table_in_place_is_known_by_the_device_it_writes_to() {
    host(OURS, "", true).0.is_in_place(&snapshot()).unwrap();
}

#[test]
fn linear_and_striped_tables_alone_may_be_in_force_twice() {
    assert!(may_be_doubled(OWN));
    assert!(may_be_doubled("0 16 striped 2 128 8:0 0 8:16 0\n"));
    for other in [
        "",
        "0 16 raid raid1 3 0 region_size 4096 2 254:0 254:1 254:2 254:3\n",
        "0 8 linear 8:0 2048\n8 8 error\n",
        "0 16 snapshot-origin 254:3\n",
        "0 16 thin 254:4 1\n",
    ] {
        assert!(!may_be_doubled(other), "{other}");
    }
    assert_eq!(sectors(OWN), Some(16));
    assert_eq!(
        sectors("0 18446744073709551615 linear 8:0 0\n1 1 linear 8:0 0"),
        None
    );
    assert_eq!(sectors("0 x linear"), None);
}

/// Two origins with their layers, on a host where `dmsetup table` of all devices says `live` and `waiting`.
fn layered(live: &'static str, waiting: &'static str) -> (Layered, Arc<ScriptedExec>) {
    let exec = ScriptedExec::default()
        .on("dmsetup table --inactive", waiting)
        .on("dmsetup table", live)
        .on("dmsetup load", "")
        .on("dmsetup suspend", "")
        .on("dmsetup resume", "")
        .on("lvmconfig", "locking_dir=\"/run/lock/lvm\"\n");
    let exec = Arc::new(exec);
    let lvm = Lvm::new(exec.clone());
    let mut second = snapshot();
    second.origin.lv = "journal".into();
    let layer = |snapshot: LvmSnapshot, own: &[&str]| Layer {
        names: Names::of(&snapshot),
        snapshot,
        own: own.iter().map(|&line| line.to_owned()).collect(),
        ours: OURS.trim().to_owned(),
    };
    let layers = vec![
        layer(snapshot(), &["0 8 linear 8:0 2048", "8 8 linear 8:16 2048"]),
        layer(second, &["0 16 linear 8:0 4096"]),
    ];
    let groups = lvm.groups(std::iter::once("data-1")).unwrap();
    let layered = Layered {
        lvm,
        groups,
        layers,
    };
    (layered, exec)
}

const ALL: &str = "data--1-mongo: 0 8 linear 8:0 2048\ndata--1-mongo: 8 8 linear 8:16 2048\ndata--1-mongo2: 0 8 linear 8:0 9\ndata--1-journal: 0 16 linear 8:0 4096\nother: \n";

#[test]
fn all_origins_stand_still_by_one_command_and_go_on_by_one() {
    let (layered, exec) = layered(ALL, "data--1-mongo2: 0 8 linear 8:0 1\nother: \n");
    layered.load().unwrap();
    layered.suspend().unwrap();
    layered.go_on().unwrap();
    assert_eq!(
        changes(&exec),
        [
            "dmsetup load data--1-mongo --table 0 16 snapshot-origin 254:7",
            "dmsetup load data--1-journal --table 0 16 snapshot-origin 254:7",
            "dmsetup suspend data--1-mongo data--1-journal",
            "dmsetup resume --noudevsync data--1-mongo data--1-journal"
        ]
    );
    assert_eq!(layered.origins(), "data-1/mongo, data-1/journal");
}

#[test]
fn withdrawing_resumes_what_stands_still_and_takes_away_what_waits() {
    let exec = ScriptedExec::default()
        .on(
            "dmsetup info --columns --noheadings --separator : --options name,suspended,open,tables_loaded",
            "data--1-mongo:Active:1:Live\n",
        )
        .on(
            "dmsetup info --columns --noheadings --separator : --options major,minor",
            "254:7\n",
        )
        .on(
            "dmsetup table --inactive",
            "data--1-mongo: 0 16 snapshot-origin 254:7\ndata--1-journal: 0 8 linear 8:0 1\n",
        )
        .on("dmsetup clear", "");
    let exec = Arc::new(exec);
    let mut second = snapshot();
    second.origin.lv = "journal".into();
    Lvm::new(exec.clone()).withdraw([snapshot(), second].iter());
    assert_eq!(changes(&exec), ["dmsetup clear data--1-mongo"]);
}

#[test]
fn nothing_is_loaded_where_lvm_has_changed_an_origin_or_is_about_to() {
    for (live, waiting) in [
        (
            "data--1-mongo: 0 8 linear 8:0 2048\ndata--1-journal: 0 16 linear 8:0 4096\n",
            "",
        ),
        (
            "data--1-mongo: 0 8 linear 8:0 2048\ndata--1-mongo: 8 8 linear 8:16 2048\n",
            "",
        ),
        (ALL, "data--1-journal: 0 24 linear 8:0 4096\n"),
    ] {
        let (layered, exec) = layered(live, waiting);
        let error = layered.load().unwrap_err();
        assert!(matches!(error, SnapshotError::Reloaded { .. }), "{error}");
        assert!(changes(&exec).is_empty());
    }
}

proptest! {
    #[test]
    fn no_table_is_too_odd(table in "(0 [0-9]{1,22} (linear|striped|snapshot-origin) [ 0-9:\\n]{0,40}){0,3}", other in ".{0,40}") {
        for table in [table, other] {
            let _ = (may_be_doubled(&table), sectors(&table), is_ours(&table, "254:7"));
        }
    }
}

#[test]
fn a_journal_that_names_one_is_read_as_it_was_written() {
    let text = serde_json::to_string(&snapshot()).unwrap();
    assert_eq!(
        serde_json::from_str::<LvmSnapshot>(&text).unwrap(),
        snapshot()
    );
}
