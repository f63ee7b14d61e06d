use super::*;
use proptest::prelude::*;

// Recorded from LVM 2.03.16 on a 6.1 kernel, with more fields than are asked for.
const SNAPSHOTS_LVS: &str = include_str!("../testdata/snapshots-lvs.json");
const SNAPSHOTS_VGS: &str = include_str!("../testdata/snapshots-vgs.json");
const KINDS_LVS: &str = include_str!("../testdata/kinds-lvs.json");
const STATES_LVS: &str = include_str!("../testdata/states-lvs.json");

fn facts(lvs: &str, vgs: &str) -> LvmFacts {
    LvmFacts {
        arrays: Default::default(),
        groups: parse_groups(vgs).unwrap(),
        volumes: parse_volumes(lvs).unwrap(),
        pools: Vec::new(),
    }
}

#[test]
fn reads_recorded_reports() {
    let facts = facts(SNAPSHOTS_LVS, SNAPSHOTS_VGS);
    let group = facts.group("data-1").unwrap();
    assert_eq!(
        (group.free, group.extent, group.missing),
        (7_189_037_056, 4 << 20, 0)
    );
    let origin = facts.volume("data-1", "mongo-db").unwrap();
    assert_eq!(
        (origin.size, origin.volume_type(), origin.is_open()),
        (1 << 30, 'o', true)
    );
    assert_eq!(origin.layout, ["striped"]);
    assert_eq!(
        origin.device,
        Some(DevNumber {
            major: 254,
            minor: 0
        })
    );
    assert_eq!((&origin.origin, origin.percent), (&None, None));
    let ours: Vec<_> = facts.ours().collect();
    assert_eq!(ours.len(), 1);
    let ours = ours[0];
    assert_eq!(ours.full_name(), "data-1/freezeframe-0000abcd-1");
    assert_eq!(ours.run().unwrap().to_string(), "0000abcd");
    assert_eq!(
        (ours.origin.as_deref(), ours.origin_size, ours.percent),
        (Some("mongo-db"), Some(1 << 30), Some(0.0))
    );
    let foreign: Vec<_> = facts
        .snapshots_of("data-1", "logs")
        .map(|volume| volume.lv.as_str())
        .collect();
    assert_eq!(foreign, ["nightly"]);
}

#[test]
fn tells_the_kinds_of_volumes_apart() {
    let volumes = parse_volumes(KINDS_LVS).unwrap();
    let kind = |lv: &str| {
        let volume = volumes.iter().find(|volume| volume.lv == lv).unwrap();
        (volume.volume_type(), volume.layout.join(","))
    };
    assert_eq!(kind("thin1"), ('V', "thin,sparse".into()));
    assert_eq!(kind("pool"), ('t', "thin,pool".into()));
    assert_eq!(kind("mirrored"), ('r', "raid,raid1".into()));
    assert_eq!(kind("mixed"), ('-', "linear,striped".into()));
    assert_eq!(kind("big2"), ('s', "linear".into()));
    let thin: Vec<_> = volumes
        .iter()
        .filter_map(|one| Some((one.lv.as_str(), one.pool.as_deref()?)))
        .collect();
    assert_eq!(thin, [("thin1", "pool")]);
}

#[test]
fn sees_overflow_and_leftovers() {
    let volumes = parse_volumes(STATES_LVS).unwrap();
    let volume = |lv: &str| volumes.iter().find(|volume| volume.lv == lv).unwrap();
    let overflowed = volume("freezeframe-0000abcd-1");
    assert_eq!((overflowed.state(), overflowed.percent), ('I', Some(100.0)));
    // lvcreate killed half way leaves a plain volume that is tagged already.
    let killed = volume("freezeframe-0000abcd-2");
    assert_eq!(
        (
            killed.volume_type(),
            killed.state(),
            killed.origin.as_deref()
        ),
        ('-', 'i', None)
    );
    assert_eq!(killed.run().unwrap().to_string(), "0000abcd");
}

#[test]
fn numbers_may_be_numbers() {
    // By knowledge of the format `json_std` of LVM 2.03.17 and later; not recorded.
    let json = r#"{"report":[{"lv":[{"vg_name":"v","lv_name":"l","lv_size":4096,"lv_attr":"-wi-a-----","lv_layout":["linear"],
        "lv_tags":["a","b"],"origin":"","origin_size":null,"snap_percent":null,"pool_lv":"","lv_kernel_major":254,"lv_kernel_minor":-1}]}],"log":[]}"#;
    let volumes = parse_volumes(json).unwrap();
    assert_eq!(
        (volumes[0].size, volumes[0].tags.len(), volumes[0].device),
        (4096, 2, None)
    );
}

#[test]
fn names_the_field_that_is_wrong() {
    let json = r#"{"report":[{"vg":[{"vg_name":"v","vg_attr":"wz--n-","vg_free":"12m"}]}]}"#;
    let error = parse_groups(json).unwrap_err().to_string();
    assert!(
        error.contains("vg_free") && error.contains("12m"),
        "{error}"
    );
    assert!(parse_groups("").is_err() && parse_groups("{}").is_err());
    assert!(parse_groups(r#"{"report":[]}"#).unwrap().is_empty());
}

proptest! {
    #[test]
    fn hostile_reports_never_panic(text in ".{0,200}") {
        let _ = parse_volumes(&text);
        let _ = parse_groups(&text);
    }

    #[test]
    fn reports_with_hostile_values_never_panic(
        rows in prop::collection::vec(prop::collection::btree_map("(vg_name|lv_name|lv_size|lv_attr|lv_layout|lv_tags|origin|origin_size|snap_percent|pool_lv|lv_kernel_major|lv_kernel_minor)", ".{0,8}", 0..13), 0..3)
    ) {
        let json = serde_json::json!({"report": [{"lv": rows}]}).to_string();
        if let Ok(volumes) = parse_volumes(&json) {
            for volume in volumes {
                let _ = (volume.run(), volume.volume_type(), volume.state(), volume.is_open());
            }
        }
    }

    #[test]
    fn what_lvm_reports_comes_back(size: u64, free: u64, extent in 1u64.., vg in "[a-z]{1,8}", lv in "[a-z]{1,8}", number: bool) {
        let value = |n: u64| if number { serde_json::json!(n) } else { serde_json::json!(n.to_string()) };
        let lvs = serde_json::json!({"report": [{"lv": [{
            "vg_name": vg, "lv_name": lv, "lv_size": value(size), "lv_attr": "-wi-a-----", "lv_layout": "linear", "lv_tags": "",
            "origin": "", "origin_size": "", "snap_percent": "", "pool_lv": "", "lv_kernel_major": "254", "lv_kernel_minor": "3"}]}]});
        let vgs = serde_json::json!({"report": [{"vg": [{
            "vg_name": vg, "vg_attr": "wz--n-", "vg_free": value(free), "vg_extent_size": value(extent),
            "vg_missing_pv_count": "0", "vg_lock_type": ""}]}]});
        let facts = facts(&lvs.to_string(), &vgs.to_string());
        let volume = facts.volume(&vg, &lv).unwrap();
        prop_assert_eq!(volume.size, size);
        let group = facts.group(&vg).unwrap();
        prop_assert_eq!((group.free, group.extent), (free, extent));
    }
}
