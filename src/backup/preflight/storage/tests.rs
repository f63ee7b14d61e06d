use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{Verdict, worst};
use super::*;
use crate::backup::journal::Owner;
use crate::config::SnapshotSize;
use crate::snapshot::lvm::facts::{parse_groups, parse_volumes};
use crate::snapshot::lvm::plan::{Sizing, plan};
use crate::volume::fake::FakeHost;
use crate::volume::resolve;

#[test]
fn a_store_without_room_for_one_more_backup_is_warned_of() {
    let judged = |free, before| judge_room(Path::new("/srv/store"), free, before, 1000);
    assert_eq!(judged(400, Some(400)).verdict, Verdict::Ok);
    assert_eq!(judged(399, Some(400)).verdict, Verdict::Warning);
    // Of the first one it is known that it is not more than its data.
    assert_eq!(judged(1000, None).verdict, Verdict::Ok);
    assert_eq!(judged(999, None).verdict, Verdict::Warning);
}

#[test]
fn too_little_room_for_the_spool_is_refused() {
    let spool = Spool {
        folder: "/var/lib/freezeframe/spool".into(),
        bytes: 3 << 30,
    };
    assert_eq!(judge_spool(&spool, 3 << 30).verdict, Verdict::Ok);
    let short = judge_spool(&spool, (3 << 30) - 1);
    assert_eq!(short.verdict, Verdict::Refused);
    assert!(
        short.sentence().contains("take 3.0 GiB of 3.0 GiB free"),
        "{}",
        short.sentence()
    );
    assert!(short.sentence().contains("state_dir"));
}

/// The recorded host: data-1/mongo-db on /data, data-1/logs beside it, a root disk of its own.
struct Host {
    fake: FakeHost,
    facts: LvmFacts,
    floor: u64,
    at_work: Vec<Seen>,
}

impl Host {
    fn new(lvs: &str) -> Self {
        let fake = FakeHost::default();
        fake.disk("sda", 8, 0, 1 << 24);
        fake.lv(0, "data-1", "mongo-db");
        fake.lv(1, "data-1", "logs");
        fake.mount(0, "/", &fake.dir("data"), "xfs");
        fake.mount(1, "/", &fake.dir("logs"), "ext4");
        let groups = parse_groups(include_str!(
            "../../../snapshot/lvm/testdata/plain-vgs.json"
        ))
        .unwrap();
        Self {
            fake,
            facts: LvmFacts {
                arrays: Default::default(),
                groups,
                volumes: parse_volumes(lvs).unwrap(),
                pools: Vec::new(),
            },
            floor: 1 << 28,
            at_work: Vec::new(),
        }
    }

    fn plain() -> Self {
        Self::new(include_str!(
            "../../../snapshot/lvm/testdata/plain-lvs.json"
        ))
    }

    fn judge(&self, own: &[(Place, &str)]) -> Vec<Finding> {
        let view = self.fake.view();
        let layout = resolve(&self.fake.dir("data/db"), &view).unwrap();
        let own: Vec<_> = own
            .iter()
            .map(|(place, path)| OwnPath::locate(*place, self.fake.dir(path), &view).unwrap())
            .collect();
        let sizing = Sizing {
            together: Default::default(),
            rates: BTreeMap::new(),
            expected: Duration::from_secs(60),
            setting: SnapshotSize::Auto,
            floor: self.floor,
            window: crate::config::LvmWindow::Lvm,
        };
        let planned = plan(
            &self.facts,
            &[&layout],
            "0000abcd".parse().unwrap(),
            &sizing,
        );
        let others = Others {
            at_work: self.at_work.clone(),
            ..Others::default()
        };
        judge(
            &[&layout, &layout],
            &self.facts,
            planned.as_deref(),
            &own,
            &others,
        )
    }
}

fn checks(findings: &[Finding], verdict: Verdict) -> Vec<&'static str> {
    findings
        .iter()
        .filter(|finding| finding.verdict == verdict)
        .map(|finding| finding.check)
        .collect()
}

#[test]
fn a_volume_of_its_own_is_fit() {
    let findings = Host::plain().judge(&[(Place::State, "var"), (Place::Store, "logs/backups")]);
    assert_eq!(
        checks(&findings, Verdict::Ok),
        ["volume", "snapshot_space", "own_paths"]
    );
    assert_eq!(worst(&findings), Verdict::Ok);
    assert!(
        findings[0].detail.contains("data-1/mongo-db, striped, xfs"),
        "{}",
        findings[0].detail
    );
    assert!(
        findings[1].detail.contains("256.0 MiB of 6.8 GiB"),
        "{}",
        findings[1].detail
    );
}

#[test]
fn nothing_of_ours_may_lie_on_an_origin() {
    let places = [
        Place::Store,
        Place::State,
        Place::Log,
        Place::Runtime,
        Place::Program,
        Place::Root,
    ];
    for place in places {
        let findings = Host::plain().judge(&[(Place::State, "var"), (place, "data/ours")]);
        assert_eq!(
            checks(&findings, Verdict::Refused),
            ["own_paths"],
            "{place}"
        );
        let refused = findings
            .iter()
            .find(|finding| finding.verdict == Verdict::Refused)
            .unwrap();
        assert!(
            refused.detail.contains("data/ours") && refused.subject == "data-1/mongo-db",
            "{refused:?}"
        );
    }
}

#[test]
fn a_place_on_a_device_made_of_the_origin_counts_too() {
    let host = Host::plain();
    host.fake
        .dm("dm-9", 254, 9, "secret", "CRYPT-LUKS2-x", &["dm-0"]);
    host.fake.mount(9, "/", &host.fake.dir("crypt"), "ext4");
    let findings = host.judge(&[(Place::Store, "crypt/store")]);
    assert_eq!(checks(&findings, Verdict::Refused), ["own_paths"]);
}

#[test]
fn too_little_space_is_refused_with_both_numbers() {
    let mut host = Host::plain();
    host.facts.groups[0].free = 100 << 20;
    let findings = host.judge(&[]);
    let refused: Vec<_> = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Refused)
        .collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (refused[0].check, refused[0].subject.as_str()),
        ("snapshot_space", "data-1")
    );
    assert!(
        refused[0].detail.contains("100.0 MiB") && refused[0].detail.contains("256.0 MiB"),
        "{:?}",
        refused[0]
    );
    assert!(
        refused[0].todo.as_deref().unwrap().contains("156.0 MiB"),
        "{:?}",
        refused[0]
    );
}

#[test]
fn a_layout_that_is_not_understood_is_drawn_once() {
    let host = Host::plain();
    host.fake.md("md0", 9, 0, "raid0", &["sda"]);
    let md = "9:0".parse().unwrap();
    host.fake
        .mount_device(md, "/", &host.fake.dir("data/db"), "xfs");
    let findings = host.judge(&[(Place::State, "data/db/state")]);
    assert_eq!(checks(&findings, Verdict::Refused), ["volume"]);
    let refused = findings
        .iter()
        .find(|finding| finding.verdict == Verdict::Refused)
        .unwrap();
    assert!(refused.detail.contains("└─ md raid0"), "{}", refused.detail);
}

#[test]
fn snapshots_that_are_there_already() {
    let mut host = Host::new(include_str!(
        "../../../snapshot/lvm/testdata/snapshots-lvs.json"
    ));
    let findings = host.judge(&[]);
    // Ours on this origin; the foreign one is on another volume.
    assert_eq!(checks(&findings, Verdict::Refused), ["leftovers"]);
    assert!(checks(&findings, Verdict::Warning).is_empty());
    let leftover = findings
        .iter()
        .find(|finding| finding.check == "leftovers")
        .unwrap();
    assert_eq!(leftover.subject, "data-1/freezeframe-0000abcd-1");
    assert!(
        leftover.detail.contains("run 0000abcd")
            && leftover.todo.as_deref().unwrap().contains("recover")
    );

    // The same while its run is at work is no leftover, and nobody is told to remove it.
    let owner = Owner {
        run: "0000abcd".parse().unwrap(),
        verb: "backup".into(),
        pid: 4711,
        boot: String::new(),
        started: "2026-01-31T02:00:00Z".parse().unwrap(),
    };
    host.at_work = vec![Seen {
        owner,
        outstanding: Vec::new(),
        alive: true,
    }];
    let findings = host.judge(&[]);
    assert_eq!(checks(&findings, Verdict::Refused), ["running"]);
    let running = findings.iter().find(|finding| finding.check == "running");
    assert!(
        running
            .unwrap()
            .detail
            .contains("the running backup 0000abcd (pid 4711, since 2026-01-31T02:00:00Z)"),
        "{running:?}"
    );

    let foreign = include_str!("../../../snapshot/lvm/testdata/snapshots-lvs.json")
        .replace("freezeframe,freezeframe_run_0000abcd", "nightly");
    let findings = Host::new(&foreign).judge(&[]);
    assert_eq!(checks(&findings, Verdict::Warning), ["other_snapshots"]);
    assert!(checks(&findings, Verdict::Refused).is_empty());
}
