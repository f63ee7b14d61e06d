use super::*;
use crate::catalog::sample;
use crate::catalog::summary::VerificationState;

fn summary(state: SetState, verdict: Verdict) -> SetSummary {
    let sample = sample::summary();
    SetSummary {
        state,
        verification: VerificationState {
            verdict,
            ..sample.verification
        },
        ..sample
    }
}

fn now() -> Timestamp {
    "2026-01-31T12:00:00Z".parse().unwrap()
}

#[test]
fn the_table_of_sets() {
    let broken = SetSummary {
        id: "20260130_020000".parse().unwrap(),
        started: "2026-01-28T02:00:00Z".parse().unwrap(),
        reason: Some("rs0.tar.xz is missing".into()),
        members: vec![],
        held_us: None,
        size: 12,
        ..summary(SetState::Damaged, Verdict::Unverified)
    };
    let text = table(
        &[broken, summary(SetState::Complete, Verdict::Proven)],
        now(),
    );
    assert_eq!(
        text,
        "\
BACKUP                        AGE   SIZE     LOCK      STATE    MEMBERS
mongo_backup-20260130_020000  3 d   12 B     -         DAMAGED  -
mongo_backup-20260131_020000  10 h  6.0 MiB  184.1 ms  proven   rs0, rs1
mongo_backup-20260130_020000: rs0.tar.xz is missing
"
    );
    assert_eq!(table(&[], now()), "no backups\n");
}

#[test]
fn the_states() {
    for (set_state, verdict, shown) in [
        (SetState::Complete, Verdict::Unverified, "unverified"),
        (SetState::Complete, Verdict::Verified, "verified"),
        (SetState::Complete, Verdict::Proven, "proven"),
        (SetState::Complete, Verdict::Damaged, "DAMAGED"),
        (SetState::Damaged, Verdict::Proven, "DAMAGED"),
        (SetState::Unfinished, Verdict::Unverified, "unfinished"),
        (SetState::Future, Verdict::Unverified, "newer format"),
    ] {
        assert_eq!(state(&summary(set_state, verdict)), shown);
    }
}

#[test]
fn ages_and_lengths() {
    for (seconds, shown) in [
        (-1, "in the future"),
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (3_600, "1 h"),
        (172_799, "47 h"),
        (172_800, "2 d"),
    ] {
        assert_eq!(age(SignedDuration::from_secs(seconds)), shown);
    }
    for (us, shown) in [(0, "none"), (184_100, "184.1 ms"), (1_284_100, "1.28 s")] {
        assert_eq!(lock_length(us), shown);
    }
}

#[test]
fn one_set_in_full() {
    let mut manifest = sample::manifest();
    manifest.members.truncate(1);
    manifest.members[0].archive.size = 3000;
    let mut shown = summary(SetState::Complete, Verdict::Proven);
    shown.verification.last = Some("2026-02-02T01:00:00Z".parse().unwrap());
    shown.verification.proven = Some("2026-02-01T01:00:00Z".parse().unwrap());
    assert_eq!(
        set(&shown, &manifest),
        "\
backup      mongo_backup-20260131_020000
state       proven
started     2026-01-31T02:00:00.25Z
finished    2026-01-31T02:11:40Z
host        db3.example.net
run         0badcafe
tool        freezeframe 0.1.0, format 1
deployment  65b9a1f0c3d2e4f5a6b7c8d9 (sharded cluster)
lock        184.1 ms, snapshots by lvm
size        6.0 MiB
verified    2026-02-02T01:00:00Z
proven      2026-02-01T01:00:00Z

rs0 from db3.example.net:27018
  mongod      6.0.5, feature compatibility 6.0
  optime      (1769824801, 7) t=3
  lock        181.2 ms
  archive     rs0.tar.xz (portable), 2.9 KiB of 4.1 KiB in 3 files

window
  -0.812 s  790.5 ms  flush     db3.example.net:27018
  +0.000 s  20 ms     lock      db3.example.net:27018
  +0.020 s  120 ms    snapshot  vg0/mongo
  +0.150 s  34.1 ms   unlock    db3.example.net:27018
"
    );
}

#[test]
fn the_json_form_is_stable() {
    let value = serde_json::to_value(summary(SetState::Complete, Verdict::Verified)).unwrap();
    assert_eq!(
        value,
        serde_json::json!({
            "id": "mongo_backup-20260131_020000",
            "state": "complete",
            "reason": null,
            "started": "2026-01-31T02:00:00Z",
            "finished": "2026-01-31T02:11:40Z",
            "took_us": 700_000_000,
            "host": "db3.example.net",
            "size": 6291456,
            "data_size": 8388608,
            "deployment": "65b9a1f0c3d2e4f5a6b7c8d9",
            "members": [
                {"shard": "rs0", "address": "db3.example.net:27018"},
                {"shard": "rs1", "address": "db3.example.net:27018"}
            ],
            "provider": "lvm",
            "held_us": 184100,
            "verification": {"verdict": "verified", "last": null, "proven": null, "unreadable": 0},
            "hold": null,
            "readers": [],
            "at_work": null
        })
    );
}

#[test]
fn who_keeps_a_set_from_being_pruned_is_told() {
    let mut set = summary(SetState::Complete, Verdict::Verified);
    set.hold = Some(crate::catalog::hold::Hold {
        at: Some("2026-02-01T00:00:00Z".parse().unwrap()),
        host: Some("db3".into()),
        note: Some("before the upgrade".into()),
    });
    let until = |time: &str| {
        let run = "0badcafe".parse().unwrap();
        crate::catalog::reader::Reader::new(run, time.parse().unwrap())
    };
    set.readers = vec![until("2026-02-02T00:00:00Z"), until("2026-02-04T00:00:00Z")];
    let text = table(&[set.clone()], "2026-02-03T00:00:00Z".parse().unwrap());
    assert!(
        text.contains("020000: held since 2026-02-01T00:00:00Z by db3: before the upgrade\n"),
        "{text}"
    );
    // A mark that has ended tells nothing.
    assert_eq!(
        text.matches("being read by run 0badcafe").count(),
        1,
        "{text}"
    );
    let shown = super::set(&set, &sample::manifest());
    assert!(shown.contains("\nhold        held since 2026"), "{shown}");
}
