use std::fs;

use proptest::prelude::*;

use super::*;
use crate::volume::fake::FakeHost;
use crate::volume::{DevNumber, sysfs};

const GIB: u64 = 1 << 30;

fn volume(id: &str, attached_as: &str, gib: u64) -> Volume {
    Volume {
        id: id.parse().unwrap(),
        attached_as: attached_as.into(),
        bytes: gib * GIB,
        volume_type: None,
        iops: None,
        throughput: None,
        encrypted: false,
    }
}

fn disk(name: &str, gib: u64, serial: Option<&str>) -> Disk {
    Disk {
        name: name.into(),
        bytes: gib * GIB,
        serial: serial.map(Into::into),
    }
}

fn id(id: &str) -> VolumeId {
    id.parse().unwrap()
}

#[test]
fn a_serial_number_is_certain_whatever_name_and_size_say() {
    let attached = [
        volume("vol-0000000000000000a", "/dev/sdf", 10),
        volume("vol-0000000000000000b", "/dev/xvdb", 10),
    ];
    let nvme = disk("nvme1n1", 9, Some("vol0000000000000000b"));
    assert_eq!(
        volume_of(&nvme, &attached).unwrap(),
        id("vol-0000000000000000b")
    );
    let elsewhere = disk("nvme2n1", 10, Some("vol0000000000000000c"));
    assert!(matches!(
        volume_of(&elsewhere, &attached),
        Err(DeviceError::NotAttached { .. })
    ));
    let own = disk("nvme3n1", 10, Some("AWS2F5C0A1B2C3D4E5F6"));
    assert!(matches!(
        volume_of(&own, &attached),
        Err(DeviceError::InstanceStore { .. })
    ));
    let other = disk("sda", 10, Some("S3Z8NB0K123456"));
    assert!(matches!(
        volume_of(&other, &attached),
        Err(DeviceError::Unknown { .. })
    ));
}

#[test]
fn a_xen_name_counts_only_where_ec2_agrees() {
    let attached = [
        volume("vol-0000000000000000a", "/dev/sda1", 8),
        volume("vol-0000000000000000b", "/dev/sdf", 10),
        volume("vol-0000000000000000c", "xvdg", 10),
        volume("vol-0000000000000000d", "/dev/sdh", 20),
        volume("vol-0000000000000000e", "/dev/xvdh", 20),
        volume("vol-0000000000000000f", "/dev/xvdba", 20),
    ];
    for (name, gib, expected) in [
        ("xvda", 8, Some("a")),
        ("xvda1", 8, Some("a")),
        ("xvdf", 10, Some("b")),
        ("xvdg", 10, Some("c")),
        ("xvdba", 20, Some("f")),
        // Another size: the kernel that shifts names by four.
        ("xvdf", 20, None),
        // Two fit.
        ("xvdh", 20, None),
        ("xvdz", 10, None),
        ("sdf", 10, None),
    ] {
        let found = volume_of(&disk(name, gib, None), &attached);
        let wanted = expected.map(|end| id(&format!("vol-0000000000000000{end}")));
        assert_eq!(found.ok(), wanted, "{name}");
    }
}

#[test]
fn every_disk_below_arrays_and_groups_is_found_with_its_serial() {
    let host = FakeHost::default();
    for (minor, name) in ["nvme1n1", "nvme2n1", "nvme3n1"].into_iter().enumerate() {
        host.disk(name, 259, minor as u32, 1 << 21);
        let controller = host.sys().join("block").join(name).join("device");
        fs::create_dir_all(&controller).unwrap();
        fs::write(
            controller.join("serial"),
            format!("vol0000000000000000{minor}   \n"),
        )
        .unwrap();
    }
    host.partition("nvme3n1", "nvme3n1p1", 259, 7, 1 << 20);
    host.md("md0", 9, 0, "raid0", &["nvme1n1", "nvme2n1"]);
    host.dm(
        "dm-0",
        254,
        0,
        "data-mongo",
        &format!("LVM-{}", "a".repeat(64)),
        &["md0", "nvme3n1/nvme3n1p1"],
    );
    let number = DevNumber {
        major: 254,
        minor: 0,
    };
    let filesystem = |device| Filesystem {
        mount_point: "/data".into(),
        root: "/".into(),
        kind: "xfs".into(),
        device,
        external: Vec::new(),
    };
    let on = filesystem(sysfs::layers(&host.sys(), number).unwrap().unwrap());
    let apart = Filesystem {
        external: vec!["log on /dev/sdz".into()],
        ..on.clone()
    };
    let error = disks(&host.sys(), &apart).unwrap_err();
    assert!(error.to_string().contains("its log on /dev/sdz"), "{error}");
    let found = disks(&host.sys(), &on).unwrap();
    let serials: Vec<_> = found
        .iter()
        .map(|one| (one.name.as_str(), one.serial.as_deref().unwrap()))
        .collect();
    assert_eq!(
        serials,
        [
            ("nvme1n1", "vol00000000000000000"),
            ("nvme2n1", "vol00000000000000001"),
            ("nvme3n1", "vol00000000000000002"),
        ]
    );
    let network = filesystem(Layer {
        name: "nfs".into(),
        number,
        size: 0,
        kind: LayerKind::NotABlockDevice {
            source: "server:/x".into(),
        },
        below: Vec::new(),
    });
    assert!(matches!(
        disks(&host.sys(), &network),
        Err(DeviceError::NoDisk { .. })
    ));
}

proptest! {
    /// Whatever is attached, and whatever the kernel calls the disk: what is found is attached, and either named by the serial or of
    /// the disk's own size and the only one of a fitting name.
    #[test]
    fn no_guess_is_ever_made(
        names in proptest::collection::vec("(/dev/)?(sd|xvd)[a-c][1]?", 0..6),
        sizes in proptest::collection::vec(1u64..4, 6),
        disk_name in "(xvd[a-c]1?|nvme[0-3]n1|sd[a-c])",
        gib in 1u64..4,
        serial in proptest::option::of("(vol0000000[0-7]|AWS[0-9]{4}|[A-Z]{4})"),
    ) {
        let attached: Vec<_> = names
            .iter()
            .zip(&sizes)
            .enumerate()
            .map(|(n, (name, gib))| volume(&format!("vol-0000000{n}"), name, *gib))
            .collect();
        let disk = disk(&disk_name, gib, serial.as_deref());
        if let Ok(found) = volume_of(&disk, &attached) {
            let of = attached.iter().find(|one| one.id == found);
            prop_assert!(of.is_some());
            let by_serial = serial.as_deref().and_then(VolumeId::from_serial) == Some(found.clone());
            let same_name = attached.iter().filter(|one| xen_names(&disk_name).contains(&one.attached_as)).count();
            prop_assert!(by_serial || (same_name == 1 && of.map(|one| one.bytes) == Some(disk.bytes)));
        }
    }

    #[test]
    fn any_name_can_be_asked_for(name in "\\PC{0,12}") {
        for found in xen_names(&name) {
            prop_assert!(found.contains(name.trim_start_matches("xvd")));
        }
    }
}
