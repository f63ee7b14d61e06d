use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::exec::{Command, Exec, ExecError};
use crate::snapshot::Origin;
use crate::snapshot::lvm::status::Blocks;

const MIB: u64 = 1 << 20;
const LIMITS: Limits = Limits {
    growth: 100 * MIB,
    ceiling: 1000 * MIB,
    extent: 4 * MIB,
};
const SOON: Duration = Duration::from_secs(9);

#[test]
fn steps() {
    let reading = |used: u64, total: u64, rate: u64| Reading {
        used: used * MIB,
        total: total * MIB,
        rate: rate * MIB,
    };
    let cases = [
        (reading(0, 100, 0), 500, Step::Wait, "empty"),
        (reading(69, 100, 0), 500, Step::Wait, "not full enough"),
        (
            reading(70, 100, 0),
            500,
            Step::Extend(100 * MIB),
            "by its planned growth",
        ),
        (
            reading(70, 100, 0),
            50,
            Step::Extend(48 * MIB),
            "by what there is",
        ),
        (reading(70, 100, 0), 3, Step::NoRoom, "not one extent"),
        (reading(20, 100, 1), 500, Step::Wait, "fills, slowly"),
        (
            reading(20, 100, 8),
            500,
            Step::Extend(160 * MIB),
            "full within the horizon: at once, and by more",
        ),
        (
            reading(950, 996, 0),
            500,
            Step::Extend(4 * MIB),
            "no further than it can use",
        ),
        (reading(999, 1000, 100), 500, Step::Wait, "cannot overflow"),
        (
            reading(5, 4, 0),
            500,
            Step::Extend(100 * MIB),
            "more used than there is",
        ),
    ];
    for (now, free, expected, why) in cases {
        assert_eq!(next_step(now, LIMITS, free * MIB, SOON), expected, "{why}");
    }
}

proptest! {
    #[test]
    fn an_extension_is_whole_extents_and_there(
        used: u64, total: u64, rate: u64, growth: u64, ceiling: u64, extent: u64, free: u64, seconds: u64,
    ) {
        let now = Reading { used, total, rate };
        let limits = Limits { growth, ceiling, extent };
        if let Step::Extend(by) = next_step(now, limits, free, Duration::from_secs(seconds)) {
            prop_assert!(by > 0 && by <= free && by.is_multiple_of(extent.max(1)));
        }
    }
}

/// Plays a list of dmsetup states; the last one stays. An extension goes on to the next.
#[derive(Debug)]
struct Script {
    states: Mutex<VecDeque<&'static str>>,
    free: u64,
    seen: Mutex<Vec<String>>,
    /// A message for each command that was answered.
    ran: std::sync::mpsc::SyncSender<String>,
}

impl Exec for Script {
    fn run(&self, command: &Command) -> Result<String, ExecError> {
        let line = command.to_string();
        self.seen.lock().unwrap().push(line.clone());
        let mut states = self.states.lock().unwrap();
        let state = states[0];
        let advances =
            states.len() > 1 && (line.starts_with("dmsetup") || line.starts_with("lvextend"));
        if advances {
            states.pop_front();
        }
        drop(states);
        let reply = match command.program.as_ref() {
            "dmsetup" if state == "gone" => {
                return Err(ExecError::Failed {
                    command: line,
                    status: "exit status: 1".into(),
                    stderr: "Device does not exist.".into(),
                });
            }
            "dmsetup" => format!("0 2097152 snapshot {state}\n"),
            "lvs" if state == "gone" => r#"{"report":[{"lv":[]}]}"#.into(),
            "lvs" => {
                let attr = if state == "Invalid" {
                    "swi-I-s---"
                } else {
                    "swi-a-s---"
                };
                include_str!("../testdata/snapshots-lvs.json").replace("swi-a-s---", attr)
            }
            "vgs" => include_str!("../testdata/snapshots-vgs.json")
                .replace("7189037056", &self.free.to_string()),
            _ => String::new(),
        };
        // A test that has seen enough does not listen any more.
        let _ = self.ran.try_send(line);
        Ok(reply)
    }
}

fn planned() -> Planned {
    let run = "0000abcd".parse().unwrap();
    Planned {
        snapshot: LvmSnapshot {
            origin: Origin {
                vg: "data-1".into(),
                lv: "mongo-db".into(),
            },
            lv: LvmSnapshot::name(run, 1),
            space: Space::Own {
                cow_bytes: 32 * MIB,
            },
            run,
        },
        device: "254:0".parse().unwrap(),
        kind: "xfs".into(),
        origin_size: 1 << 30,
        extent: 4 * MIB,
    }
}

struct Watching {
    watch: Watch,
    script: Arc<Script>,
    ran: std::sync::mpsc::Receiver<String>,
    token: CancellationToken,
}

fn watch(states: &[&'static str], free: u64) -> Watching {
    watch_every(Duration::from_millis(1), states, free)
}

fn watch_every(interval: Duration, states: &[&'static str], free: u64) -> Watching {
    let (sender, ran) = std::sync::mpsc::sync_channel(1000);
    let states = Mutex::new(states.iter().copied().collect());
    let script = Arc::new(Script {
        states,
        free,
        seen: Mutex::default(),
        ran: sender,
    });
    let token = CancellationToken::new();
    let watch = Watch::start(
        Lvm::new(script.clone()),
        &[planned()],
        Vec::new(),
        interval,
        token.clone(),
    )
    .unwrap();
    Watching {
        watch,
        script,
        ran,
        token,
    }
}

impl Watching {
    /// Waits until a command that begins so has been run.
    fn wait_for(&self, prefix: &str) {
        while !self
            .ran
            .recv_timeout(Duration::from_secs(30))
            .unwrap()
            .starts_with(prefix)
        {}
    }

    fn wait_until_cancelled(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.token.is_cancelled() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_pool_that_is_nearly_full_ends_the_backup() {
    let pool = |data: u64, metadata: u64, healthy| PoolStatus {
        data: Blocks {
            used: data,
            total: 1000,
        },
        metadata: Blocks {
            used: metadata,
            total: 1000,
        },
        healthy,
    };
    for (status, expected) in [
        (pool(949, 949, true), false),
        (pool(950, 0, true), true),
        (pool(0, 950, true), true),
        (pool(0, 0, false), true),
    ] {
        assert_eq!(endangered(status), expected, "{status:?}");
    }
}

#[test]
fn a_snapshot_that_fills_is_extended() {
    // 75 % of 32 MiB, then of 64 MiB far less.
    let it = watch(
        &["49152/65536 16", "49152/65536 16", "49152/131072 16"],
        1 << 30,
    );
    it.wait_for("lvextend --autobackup n --size +33554432b data-1/freezeframe-0000abcd-1");
    it.wait_for("dmsetup");
    it.wait_for("dmsetup");
    let record = it.watch.finish(&planned().snapshot).unwrap();
    assert_eq!(
        (record.extensions, record.cow_bytes, record.used),
        (1, 64 * MIB, 0.375)
    );
    assert!(!record.starved && !it.token.is_cancelled() && it.watch.failure().is_none());
}

#[test]
fn a_group_without_space_is_told_and_the_backup_goes_on() {
    let it = watch(&["49152/65536 16"], MIB);
    it.wait_for("vgs");
    it.wait_for("vgs");
    let record = it.watch.finish(&planned().snapshot).unwrap();
    assert!(record.starved && record.extensions == 0 && !it.token.is_cancelled());
    assert!(
        !it.script
            .seen
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.starts_with("lvextend"))
    );
}

#[test]
fn an_overflow_ends_the_backup_at_once_and_is_not_forgotten() {
    let it = watch(&["16/65536 16", "16/65536 16", "Invalid"], 1 << 30);
    it.wait_until_cancelled();
    assert!(matches!(
        it.watch.failure(),
        Some(SnapshotError::Overflowed { .. })
    ));
    assert!(matches!(
        it.watch.finish(&planned().snapshot),
        Err(SnapshotError::Overflowed { .. })
    ));
}

#[test]
fn an_overflow_after_the_last_poll_is_seen_by_the_last_check() {
    let it = watch_every(Duration::from_secs(3600), &["16/65536 16"], 1 << 30);
    it.wait_for("dmsetup");
    it.script.states.lock().unwrap()[0] = "Invalid";
    assert!(matches!(
        it.watch.finish(&planned().snapshot),
        Err(SnapshotError::Overflowed { .. })
    ));
    assert!(!it.token.is_cancelled(), "no poll has seen it");
}

#[test]
fn a_snapshot_that_somebody_removed_ends_the_backup() {
    let it = watch(&["16/65536 16", "gone"], 1 << 30);
    it.wait_until_cancelled();
    assert!(matches!(
        it.watch.failure(),
        Some(SnapshotError::Gone { .. })
    ));
    let mut other = planned().snapshot;
    other.lv = "unknown".into();
    assert!(matches!(
        it.watch.finish(&other),
        Err(SnapshotError::Gone { .. })
    ));
}
