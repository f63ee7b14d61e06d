use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::Size;
use crate::snapshot::lvm::facts::{parse_groups, parse_volumes};
use crate::snapshot::lvm::status::{Blocks, PoolStatus};
use crate::volume::{Layer, resolve};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn recorded() -> LvmFacts {
    LvmFacts {
        arrays: Default::default(),
        groups: parse_groups(include_str!("../testdata/plain-vgs.json")).unwrap(),
        volumes: parse_volumes(include_str!("../testdata/plain-lvs.json")).unwrap(),
        pools: Vec::new(),
    }
}

fn filesystem(kind: LayerKind, minor: u32) -> Filesystem {
    let device = Layer {
        name: "dm".into(),
        number: DevNumber { major: 254, minor },
        size: GIB,
        kind,
        below: Vec::new(),
    };
    Filesystem {
        mount_point: "/data".into(),
        root: "/".into(),
        kind: "xfs".into(),
        device,
        external: Vec::new(),
    }
}

fn lv(lv: &str, minor: u32) -> Filesystem {
    filesystem(
        LayerKind::LogicalVolume {
            vg: "data-1".into(),
            lv: lv.into(),
        },
        minor,
    )
}

fn layout(filesystems: Vec<Filesystem>) -> DataLayout {
    DataLayout {
        db_path: "/data/db".into(),
        filesystem: 0,
        grafts: Vec::new(),
        filesystems,
    }
}

fn sizing(setting: SnapshotSize) -> Sizing {
    Sizing {
        rates: BTreeMap::new(),
        expected: Duration::from_secs(600),
        setting,
        floor: 100 * MIB,
        window: LvmWindow::Lvm,
        together: Default::default(),
    }
}

fn run() -> RunId {
    "0000abcd".parse().unwrap()
}

#[test]
fn every_volume_is_snapshotted_once() {
    let (one, two) = (
        layout(vec![lv("mongo-db", 0), lv("logs", 1)]),
        layout(vec![lv("mongo-db", 0)]),
    );
    let planned = plan(
        &recorded(),
        &[&one, &two],
        run(),
        &sizing(SnapshotSize::Auto),
    )
    .unwrap();
    let names: Vec<_> = planned
        .iter()
        .map(|one| (one.snapshot.origin.to_string(), one.snapshot.lv.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            ("data-1/mongo-db".to_owned(), "freezeframe-0000abcd-1"),
            ("data-1/logs".to_owned(), "freezeframe-0000abcd-2")
        ]
    );
    assert_eq!(planned[0].snapshot.space.from_group(), 100 * MIB);
    assert_eq!(
        planned[0].device,
        DevNumber {
            major: 254,
            minor: 0
        }
    );
    assert_eq!(needed_in("data-1", &planned), 200 * MIB);
}

#[test]
fn all_snapshots_of_a_group_must_fit_together() {
    let mut facts = recorded();
    let layout = layout(vec![lv("mongo-db", 0), lv("logs", 1)]);
    let sizing = sizing(SnapshotSize::Bytes(Size(100 * MIB)));
    facts.groups[0].free = 200 * MIB;
    assert!(plan(&facts, &[&layout], run(), &sizing).is_ok());
    facts.groups[0].free = 200 * MIB - 1;
    let error = plan(&facts, &[&layout], run(), &sizing).unwrap_err();
    assert!(
        matches!(error, SnapshotError::NoSpace { needed, free, .. } if needed == 200 * MIB && free == needed - 1)
    );
}

#[test]
fn refuses_with_reason_and_drawing() {
    type Spoil = fn(&mut LvmFacts, &mut Filesystem);
    let cases: [(&str, Spoil); 18] = [
        ("md array", |_, fs| {
            fs.device.kind = LayerKind::Md {
                level: "raid0".into(),
            }
        }),
        ("not lie on a logical volume", |_, fs| {
            fs.device.kind = LayerKind::Partition
        }),
        ("no block device", |_, fs| {
            fs.device.kind = LayerKind::NotABlockDevice { source: "x".into() }
        }),
        ("partition inside", |_, fs| {
            fs.device.kind = LayerKind::DeviceMapper {
                name: "vg-lv1".into(),
                uuid: "part1-LVM-abc".into(),
            };
        }),
        ("no logical volume", |_, fs| {
            fs.device.kind = LayerKind::DeviceMapper {
                name: "luks".into(),
                uuid: "CRYPT-LUKS2-abc".into(),
            };
        }),
        ("root file system", |_, fs| fs.mount_point = "/".into()),
        ("this is btrfs", |_, fs| fs.kind = "btrfs".into()),
        ("does not list", |facts, _| facts.volumes.clear()),
        ("another device", |_, fs| fs.device.number.minor = 9),
        ("read-only", |facts, _| {
            facts.groups[0].attr = "rz--n-".into()
        }),
        ("exported", |facts, _| {
            facts.groups[0].attr = "wzx-n-".into()
        }),
        ("lacks a physical volume", |facts, _| {
            facts.groups[0].attr = "wz-pn-".into()
        }),
        ("shared between hosts", |facts, _| {
            facts.groups[0].attr = "wz--ns".into()
        }),
        ("does not show the thin pool", |facts, _| {
            facts.volumes[1].attr = "Vwi-aotz--".into();
            facts.volumes[1].pool = Some("pool".into());
        }),
        ("\"writecache\"", |facts, _| {
            facts.volumes[1].attr = "Cwi-aoC---".into();
            facts.volumes[1].layout = vec!["writecache".into()];
        }),
        ("itself a snapshot", |facts, _| {
            facts.volumes[1].attr = "swi-aos---".into()
        }),
        ("suspended", |facts, _| {
            facts.volumes[1].attr = "-wi-so----".into()
        }),
        ("\"cache\"", |facts, _| {
            facts.volumes[1].layout = vec!["cache".into()]
        }),
    ];
    for (expected, spoil) in cases {
        let (mut facts, mut filesystem) = (recorded(), lv("mongo-db", 0));
        spoil(&mut facts, &mut filesystem);
        let error = plan(
            &facts,
            &[&layout(vec![filesystem])],
            run(),
            &sizing(SnapshotSize::Auto),
        )
        .unwrap_err();
        let SnapshotError::Unfit {
            reason, drawing, ..
        } = error
        else {
            panic!("{expected}: {error}")
        };
        assert!(reason.contains(expected), "{expected}: {reason}");
        assert!(drawing.contains("└─"), "{drawing}");
    }
}

#[test]
fn recorded_kinds_are_judged_by_lvms_own_words() {
    let facts = LvmFacts {
        arrays: Default::default(),
        groups: parse_groups(include_str!("../testdata/kinds-vgs.json")).unwrap(),
        volumes: parse_volumes(include_str!("../testdata/kinds-lvs.json")).unwrap(),
        pools: vec![pool(0.0)],
    };
    let cases = [
        ("mongo-db", true),
        ("mixed", true),
        ("logs", true),
        ("thin1", true),
        ("mirrored", true),
        ("pool", false),
        ("big2", false),
    ];
    for (name, fits) in cases {
        let minor = facts.volume("data-1", name).unwrap().device.unwrap().minor;
        assert_eq!(origin(&lv(name, minor), &facts).is_ok(), fits, "{name}");
    }
}

#[test]
fn linear_and_striped_volumes_alone_are_prepared_and_only_where_asked_for() {
    let facts = LvmFacts {
        arrays: Default::default(),
        groups: parse_groups(include_str!("../testdata/kinds-vgs.json")).unwrap(),
        volumes: parse_volumes(include_str!("../testdata/kinds-lvs.json")).unwrap(),
        pools: vec![pool(0.0)],
    };
    let space = |name: &str, window| {
        let minor = facts.volume("data-1", name).unwrap().device.unwrap().minor;
        let sizing = Sizing {
            floor: 4 * MIB,
            window,
            ..sizing(SnapshotSize::Auto)
        };
        let planned = plan(&facts, &[&layout(vec![lv(name, minor)])], run(), &sizing);
        planned.unwrap().remove(0).snapshot.space
    };
    for (name, can_be) in [
        ("mixed", true),
        ("logs", true),
        ("mirrored", false),
        ("thin1", false),
    ] {
        let (asked, not) = (
            space(name, LvmWindow::Prepared),
            space(name, LvmWindow::Lvm),
        );
        assert_eq!(
            matches!(asked, Space::Prepared { .. }),
            can_be,
            "{name}: {asked:?}"
        );
        // The same space by the same rules.
        assert_eq!(asked.from_group(), not.from_group(), "{name}");
        assert!(!matches!(not, Space::Prepared { .. }), "{name}");
    }
}

/// The recorded pool of 100 MiB, filled to that share.
fn pool(fill: f64) -> ThinPool {
    ThinPool {
        vg: "data-1".into(),
        lv: "pool".into(),
        size: 100 * MIB,
        threshold: 100,
        status: PoolStatus {
            data: Blocks {
                used: (1600.0 * fill) as u64,
                total: 1600,
            },
            metadata: Blocks {
                used: 1,
                total: 1024,
            },
            healthy: true,
        },
    }
}

#[test]
fn a_thin_volume_is_snapshotted_where_its_pool_stays_below_the_mark() {
    let mut facts = LvmFacts {
        arrays: Default::default(),
        groups: parse_groups(include_str!("../testdata/kinds-vgs.json")).unwrap(),
        volumes: parse_volumes(include_str!("../testdata/kinds-lvs.json")).unwrap(),
        pools: vec![pool(0.5)],
    };
    facts.groups[0].free = 0;
    let thin = lv("thin1", 9);
    let mut sizing = sizing(SnapshotSize::Auto);
    sizing.expected = Duration::from_secs(9);
    let planned = |facts: &LvmFacts, sizing: &Sizing| {
        plan(facts, &[&layout(vec![thin.clone()])], run(), sizing)
    };
    // Ten seconds, twice what is written: 40 of the 50 MiB that are free, then 46.
    sizing.rates = BTreeMap::from([(thin.device.number, 2 * MIB)]);
    let snapshot = &planned(&facts, &sizing).unwrap()[0].snapshot;
    assert_eq!(
        snapshot.space,
        Space::Pool {
            pool: "pool".into()
        }
    );
    let refused = |facts: &LvmFacts, sizing: &Sizing| {
        let error = planned(facts, sizing).unwrap_err();
        matches!(error, SnapshotError::PoolSpace { .. })
    };
    sizing.rates = BTreeMap::from([(thin.device.number, 23 * MIB / 10)]);
    assert!(refused(&facts, &sizing));
    sizing.rates.clear();
    assert!(planned(&facts, &sizing).is_ok());
    let closed = |facts: &LvmFacts| {
        let error = planned(facts, &sizing).unwrap_err();
        matches!(error, SnapshotError::PoolClosed { .. })
    };
    // Of 4 MiB a quarter must be free.
    facts.pools[0].status.metadata.used = 768;
    assert!(planned(&facts, &sizing).is_ok());
    facts.pools[0].status.metadata.used = 769;
    assert!(closed(&facts));
    facts.pools[0].status.metadata.used = 1;
    facts.pools[0].threshold = 50;
    assert!(planned(&facts, &sizing).is_ok());
    facts.pools[0].threshold = 49;
    assert!(closed(&facts));
    facts.pools[0].threshold = 100;
    facts.pools[0].status.healthy = false;
    assert!(refused(&facts, &sizing));
}

#[test]
fn a_host_with_another_snapshot_of_the_origin_is_planned() {
    // As on the recorded host: origin -> -real -> disk.
    let host = crate::volume::fake::FakeHost::default();
    host.disk("sda", 8, 0, 1 << 22);
    let ids = "b".repeat(64);
    host.dm(
        "dm-2",
        254,
        2,
        "data--1-mongo--db-real",
        &format!("LVM-{ids}-real"),
        &["sda"],
    );
    host.dm(
        "dm-0",
        254,
        0,
        "data--1-mongo--db",
        &format!("LVM-{ids}"),
        &["dm-2"],
    );
    host.mount(0, "/", &host.dir("data"), "ext4");
    let layout = resolve(&host.dir("data/db"), &host.view()).unwrap();
    let facts = LvmFacts {
        arrays: Default::default(),
        groups: parse_groups(include_str!("../testdata/snapshots-vgs.json")).unwrap(),
        volumes: parse_volumes(include_str!("../testdata/snapshots-lvs.json")).unwrap(),
        pools: Vec::new(),
    };
    let planned = plan(&facts, &[&layout], run(), &sizing(SnapshotSize::Auto)).unwrap();
    assert_eq!(
        planned[0].snapshot.device(),
        Path::new("/dev/data-1/freezeframe-0000abcd-1")
    );
    assert_eq!(planned[0].kind, "ext4");
}

#[test]
fn sizes() {
    let demand = Demand {
        rate: 0,
        expected: Duration::from_secs(99),
        origin: 100 * GIB,
        extent: 4 * MIB,
        floor: GIB,
        setting: SnapshotSize::Auto,
    };
    let cases = [
        (demand, GIB, "the floor"),
        (
            Demand {
                rate: 10 * MIB,
                ..demand
            },
            2008 * MIB,
            "twice 10 MiB a second for 100 s, its table, whole extents",
        ),
        (
            Demand {
                rate: u64::MAX,
                ..demand
            },
            most_usable(100 * GIB, 4 * MIB),
            "no more than usable",
        ),
        (
            Demand {
                setting: SnapshotSize::Bytes(Size(5 * MIB)),
                ..demand
            },
            8 * MIB,
            "as given, in whole extents",
        ),
        (
            Demand {
                setting: SnapshotSize::Percent(20),
                ..demand
            },
            20 * GIB,
            "a share",
        ),
        (
            Demand {
                setting: SnapshotSize::Percent(100),
                ..demand
            },
            100 * GIB,
            "all, without room for the table",
        ),
        (
            Demand {
                setting: SnapshotSize::Bytes(Size(u64::MAX)),
                ..demand
            },
            most_usable(100 * GIB, 4 * MIB),
            "cut",
        ),
    ];
    for (demand, expected, why) in cases {
        assert_eq!(cow_size(&demand), expected, "{why}");
    }
}

#[test]
fn the_most_a_snapshot_can_use_is_what_lvm_says() {
    // "Reducing COW size 100.00 GiB down to maximum usable size", seen with LVM 2.03.16 and extents of 4 MiB.
    assert_eq!(most_usable(GIB, 4 * MIB), 1_082_130_432);
    assert_eq!(most_usable(200 * MIB, 4 * MIB), 213_909_504);
}

#[test]
fn durations() {
    assert_eq!(
        expected_duration(100 * MIB, 10 * MIB),
        Duration::from_secs(10)
    );
    assert_eq!(expected_duration(0, 0), Duration::ZERO);
    assert_eq!(expected_duration(5, 0), Duration::from_secs(5));
}

proptest! {
    #[test]
    fn any_size_is_whole_extents_and_usable(
        rate: u64, seconds: u64, origin in 1u64..1 << 60, shift in 12u32..34, floor: u64, percent in 0u8..=100, which in 0..3,
    ) {
        let extent = 1u64 << shift;
        let setting = match which {
            0 => SnapshotSize::Auto,
            1 => SnapshotSize::Bytes(Size(floor)),
            _ => SnapshotSize::Percent(percent),
        };
        let size = cow_size(&Demand { rate, expected: Duration::from_secs(seconds), origin, extent, floor, setting });
        prop_assert!(size > 0 && size.is_multiple_of(extent));
        prop_assert!(size <= most_usable(origin, extent));
    }

    #[test]
    fn more_writes_never_mean_less_space(rate in 0u64..1 << 40, more in 0u64..1 << 40, seconds in 0u64..1 << 20) {
        let demand = Demand { rate, expected: Duration::from_secs(seconds), origin: 1 << 50, extent: 4 * MIB, floor: GIB, setting: SnapshotSize::Auto };
        let larger = Demand { rate: rate + more, ..demand };
        prop_assert!(cow_size(&demand) <= cow_size(&larger));
    }
}

#[test]
fn a_file_system_with_a_part_elsewhere_is_refused() {
    let mut apart = lv("mongo-db", 0);
    apart.external = vec!["log on /dev/sdb1".into()];
    let facts = recorded();
    assert!(origin(&lv("mongo-db", 0), &facts).is_ok());
    let error = origin(&apart, &facts).unwrap_err();
    assert!(
        error.to_string().contains("its log on /dev/sdb1"),
        "{error}"
    );
}
