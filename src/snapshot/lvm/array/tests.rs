use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::snapshot::lvm::facts::{LogicalVolume, VolumeGroup};
use crate::volume::fake::FakeHost;

/// md0, a raid1 of two volumes of group "data", as sysfs shows it.
fn host() -> FakeHost {
    let host = FakeHost::default();
    host.disk("sda", 8, 0, 1 << 22);
    host.lv(1, "data", "one");
    host.lv(2, "data", "two");
    host.md("md0", 9, 0, "raid1", &["dm-1", "dm-2"]);
    let md = host.sys().join("block/md0/md");
    for (name, value) in [
        ("raid_disks", "2"),
        ("chunk_size", "0"),
        ("layout", "0"),
        ("metadata_version", "1.2"),
        ("array_state", "active"),
        ("sync_action", "idle"),
        ("resync_start", "none"),
        ("reshape_position", "none"),
        ("degraded", "0"),
    ] {
        fs::write(md.join(name), format!("{value}\n")).unwrap();
    }
    for (slot, device) in ["dm-1", "dm-2"].iter().enumerate() {
        let member = md.join(format!("dev-{device}"));
        fs::create_dir(&member).unwrap();
        for (name, value) in [
            ("slot", slot.to_string().as_str()),
            ("state", "in_sync"),
            ("offset", "2048"),
            ("size", "1048576"),
            ("bad_blocks", ""),
        ] {
            fs::write(member.join(name), format!("{value}\n")).unwrap();
        }
        symlink(host.sys().join("block").join(device), member.join("block")).unwrap();
    }
    host
}

const MD0: DevNumber = DevNumber { major: 9, minor: 0 };

fn volume(minor: u32, lv: &str, attr: &str) -> LogicalVolume {
    LogicalVolume {
        vg: "data".into(),
        lv: lv.into(),
        size: 1 << 30,
        attr: attr.into(),
        layout: vec!["linear".into()],
        tags: Vec::new(),
        origin: None,
        origin_size: None,
        percent: None,
        pool: None,
        device: Some(DevNumber { major: 254, minor }),
    }
}

fn lvm(attrs: [&str; 2]) -> LvmFacts {
    LvmFacts {
        arrays: Arrays::new(),
        pools: Vec::new(),
        groups: vec![VolumeGroup {
            name: "data".into(),
            attr: "wz--n-".into(),
            free: 1 << 30,
            extent: 4 << 20,
            missing: 0,
            lock_type: String::new(),
        }],
        volumes: vec![volume(1, "one", attrs[0]), volume(2, "two", attrs[1])],
    }
}

fn layout(host: &FakeHost) -> DataLayout {
    let device = crate::volume::sysfs::layers(&host.sys(), MD0)
        .unwrap()
        .unwrap();
    DataLayout {
        db_path: "/data/db".into(),
        filesystem: 0,
        grafts: Vec::new(),
        filesystems: vec![Filesystem {
            mount_point: "/data".into(),
            root: "/".into(),
            kind: "xfs".into(),
            device,
            external: Vec::new(),
        }],
    }
}

#[test]
fn an_array_is_read_as_the_kernel_shows_it() {
    let facts = facts::read(&host().sys(), MD0).unwrap();
    assert_eq!(
        (facts.name.as_str(), facts.level.as_str()),
        ("md0", "raid1")
    );
    assert_eq!((facts.slots, facts.degraded), (2, 0));
    let second = &facts.members[1];
    assert_eq!((second.slot, second.offset), (Some(1), 2048));
    assert_eq!(second.sectors, 2_097_152);
    assert!(second.has_everything());
}

#[test]
fn a_spare_has_no_place_and_what_is_odd_is_an_error() {
    let host = host();
    let md = host.sys().join("block/md0/md");
    fs::write(md.join("dev-dm-2/slot"), "none\n").unwrap();
    fs::write(md.join("dev-dm-2/state"), "spare\n").unwrap();
    fs::write(md.join("dev-dm-1/bad_blocks"), "8 16\n").unwrap();
    let facts = facts::read(&host.sys(), MD0).unwrap();
    assert!(facts.members.iter().all(|one| !one.has_everything()));
    assert!(facts.members.iter().any(|one| one.slot.is_none()));
    fs::write(md.join("raid_disks"), "two\n").unwrap();
    assert!(facts::read(&host.sys(), MD0).is_err());
}

#[test]
fn the_first_member_that_can_be_snapshotted_stands_for_the_array() {
    let host = host();
    let layout = layout(&host);
    // "one" has a snapshot already.
    let arrays = survey(&host.sys(), &[&layout], &lvm(["owi-aos---", "-wi-ao----"]));
    let expanded = expand(&layout, &arrays);
    let names: Vec<_> = expanded
        .filesystems
        .iter()
        .map(|one| (one.device.name.as_str(), one.mount_point.to_str().unwrap()))
        .collect();
    assert_eq!(names, [("dm-2", "/data")]);
    assert_eq!(members(&arrays).len(), 1);
    // Nor is anything of a group that lacks a disk.
    let mut lacking = lvm(["-wi-ao----", "-wi-ao----"]);
    lacking.groups[0].missing = 1;
    assert!(members(&survey(&host.sys(), &[&layout], &lacking)).is_empty());
}

#[test]
fn an_array_without_such_a_member_stays_and_is_told_of() {
    let host = host();
    let layout = layout(&host);
    let arrays = survey(&host.sys(), &[&layout], &lvm(["owi-aos---", "Vwi-aotz--"]));
    assert!(
        matches!(arrays.get(&MD0).map(|array| &array.assembly), Some(Err(reason)) if reason.contains("no member in slot 0 or 1"))
    );
    assert_eq!(expand(&layout, &arrays), layout);
    assert!(members(&arrays).is_empty());
}

#[test]
fn snapshots_of_members_are_put_together_to_their_array() {
    let host = host();
    let layout = layout(&host);
    let arrays = survey(&host.sys(), &[&layout], &lvm(["-wi-ao----", "-wi-ao----"]));
    let run: RunId = "0000abcd".parse().unwrap();
    let planned = |minor: u32| Planned {
        snapshot: crate::snapshot::LvmSnapshot {
            origin: crate::snapshot::Origin {
                vg: "data".into(),
                lv: format!("{minor}"),
            },
            lv: format!("freezeframe-{run}-{minor}"),
            space: crate::snapshot::Space::Prepared { prepared_bytes: 1 },
            run,
        },
        device: DevNumber { major: 254, minor },
        kind: "xfs".into(),
        origin_size: 1,
        extent: 1,
    };
    let (others, gathered) = gather(
        vec![planned(7), planned(1)],
        &[&layout, &layout],
        &arrays,
        run,
    )
    .unwrap();
    assert_eq!(others, [planned(7)]);
    assert_eq!(gathered.len(), 1);
    assert_eq!(gathered[0].device, MD0);
    assert_eq!(gathered[0].members, [planned(1)]);
    assert_eq!(gathered[0].picture.array_device, "freezeframe-0000abcd-md0");
    gathered[0].holds(&host.sys()).unwrap();
    assert!(gather(vec![planned(7)], &[&layout], &arrays, run).is_err());
    let text = serde_json::to_string(&crate::snapshot::Snapshot::Array(
        gathered[0].picture.clone(),
    ))
    .unwrap();
    assert!(matches!(
        serde_json::from_str(&text).unwrap(),
        crate::snapshot::Snapshot::Array(picture) if picture == gathered[0].picture
    ));
}
