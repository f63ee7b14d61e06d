use super::*;
use crate::backup::window::Locking;
use crate::catalog::sample;
use crate::manifest::WindowRecord;
use crate::snapshot::{LvmSnapshot, Origin, Space, lvm};
use crate::volume::DevNumber;

/// One of a volume, to be kept for a day.
pub(super) fn kept(label: &str) -> Kept {
    let run: RunId = "0badcafe".parse().unwrap();
    let snapshot = LvmSnapshot {
        origin: Origin {
            vg: "vg0".into(),
            lv: "mongo".into(),
        },
        lv: LvmSnapshot::name(run, 1),
        space: Space::Own { cow_bytes: 1 << 30 },
        run,
    };
    let of = Taken {
        taken: "2026-01-31T02:00:00Z".parse().unwrap(),
        contents: Contents {
            in_snapshots: false,
            deployment: sample::intent().deployment,
            locking: Locking::Locked,
            members: Vec::new(),
        },
        window: Closed {
            record: WindowRecord {
                provider: "lvm".into(),
                held_us: 1,
                steps: Vec::new(),
            },
            optimes: Default::default(),
            locked_us: Default::default(),
            value: (),
        },
        pictures: vec![PlannedPicture::Lvm(lvm::Planned {
            snapshot,
            device: DevNumber {
                major: 254,
                minor: 3,
            },
            kind: "xfs".into(),
            origin_size: 8 << 30,
            extent: 4 << 20,
        })],
        expected: Duration::from_secs(60),
    };
    Kept::new(run, label.parse().unwrap(), Duration::from_secs(86_400), of)
}

#[test]
fn a_record_is_found_by_label_and_run_and_hides_none_when_it_is_damaged() {
    let state = tempfile::tempdir().unwrap();
    assert_eq!(Kept::all(state.path()).unwrap().len(), 0);
    let error = Kept::find(state.path(), "latest").unwrap_err();
    assert!(matches!(error, KeptError::NoSuch { .. }), "{error}");

    let first = kept("before-upgrade");
    let second = Kept {
        run: "0badcaff".parse().unwrap(),
        label: "later".parse().unwrap(),
        taken: first.taken + jiff::SignedDuration::from_hours(1),
        ..first.clone()
    };
    second.write(state.path()).unwrap();
    first.write(state.path()).unwrap();
    // Not kept yet: the run that makes it has its directory, and no record.
    fs::create_dir(Kept::folder(state.path()).join("0badcafd")).unwrap();
    let all: Vec<_> = Kept::all(state.path())
        .unwrap()
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(all, [first.clone(), second.clone()]);
    for (which, expected) in [
        ("before-upgrade", &first),
        ("0badcaff", &second),
        ("latest", &second),
    ] {
        assert_eq!(Kept::find(state.path(), which).unwrap(), *expected);
    }
    let error = Kept::find(state.path(), "befor").unwrap_err();
    assert!(matches!(&error, KeptError::NoSuch { there_are, .. } if there_are.len() == 2));

    let record = Kept::place(state.path(), first.run).join(RECORD);
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("vg0", "vg1")).unwrap();
    assert_eq!(Kept::find(state.path(), "later").unwrap(), second);
    let error = Kept::find(state.path(), "before-upgrade").unwrap_err();
    assert!(matches!(error, KeptError::Damaged { .. }), "{error}");
}

#[test]
fn what_a_run_still_has_to_give_back_is_not_kept() {
    let state = tempfile::tempdir().unwrap();
    let kept = kept("before-upgrade");
    kept.write(state.path()).unwrap();
    let mut run = crate::backup::run::Run::begin(state.path(), "snapshot").unwrap();
    let entries = run.plan_one(kept.record(state.path())).unwrap();
    assert_eq!(Kept::all(state.path()).unwrap().len(), 0);
    run.settled(&entries).unwrap();
    assert_eq!(Kept::all(state.path()).unwrap().len(), 1);
}
