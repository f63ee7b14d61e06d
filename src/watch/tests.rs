use std::time::Duration;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::exposition::text;
use super::judge::{Check, Checked, Verdict, is_alarming, judge};
use super::look::{Told, Unreached};
use super::*;
use crate::backup::journal::survey::Seen;
use crate::backup::resource::Resource;
use crate::catalog::sample;
use crate::catalog::summary::{SetState, Verdict as Verified, VerificationState};
use crate::config::{Period, WatchConfig};
use crate::error::Exit;

const HOST: &str = "db3.example.net";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Noon of the day on which the sample was made.
fn noon() -> Timestamp {
    at("2026-01-31T12:00:00Z")
}

/// A good backup of the sample's members, of that day at two o'clock.
fn set(day: u32) -> SetSummary {
    let id: BackupId = format!("mongo_backup-202601{day:02}_020000")
        .parse()
        .unwrap();
    SetSummary {
        id,
        started: id.started(),
        host: Some(HOST.into()),
        ..sample::summary()
    }
}

fn unfinished(day: u32) -> SetSummary {
    SetSummary {
        state: SetState::Unfinished,
        data_size: None,
        ..set(day)
    }
}

fn seen(sets: Vec<SetSummary>) -> StoreSeen {
    StoreSeen {
        url: "file:///b".into(),
        told: Some(Told {
            asked: noon(),
            sets,
        }),
        failed: None,
    }
}

fn run(verb: &str, alive: bool, outstanding: Vec<Resource>) -> Seen {
    Seen {
        owner: Owner {
            run: "0badcafe".parse().unwrap(),
            verb: verb.into(),
            pid: 4711,
            boot: "b".into(),
            started: at("2026-01-31T11:00:00Z"),
        },
        outstanding,
        alive,
    }
}

fn host(runs: Vec<Seen>) -> HostSeen {
    HostSeen {
        runs,
        boot: "b".into(),
        ..HostSeen::default()
    }
}

fn ours() -> Scope {
    Scope::Host(HOST.into())
}

fn standing(sets: Vec<SetSummary>, runs: Vec<Seen>) -> Standing {
    Standing::of(&seen(sets), &[], &host(runs), &ours(), noon())
}

/// What is alarming of `standing`.
fn alarms(standing: &Standing) -> Vec<(Check, String)> {
    let all = judge(standing, &WatchConfig::default()).into_iter();
    all.filter(|one| one.verdict == Verdict::Alarm)
        .map(|one| (one.check, one.detail))
        .collect()
}

fn alarming(standing: &Standing) -> Vec<Check> {
    alarms(standing)
        .into_iter()
        .map(|(check, _)| check)
        .collect()
}

#[test]
fn a_backup_of_last_night_is_well_and_one_of_the_night_before_is_not() {
    assert_eq!(alarms(&standing(vec![set(30), set(31)], vec![])), []);
    let late = standing(vec![set(29), set(30)], vec![]);
    assert_eq!(alarming(&late), [Check::Age]);
    // The next one is being made: nobody is told, for as long again at the most.
    let mut backup = run("backup", true, vec![]);
    assert_eq!(alarms(&standing(vec![set(30)], vec![backup.clone()])), []);
    let verify = run("verify", true, vec![]);
    assert_eq!(
        alarming(&standing(vec![set(30)], vec![verify])),
        [Check::Age]
    );
    backup.owner.started = at("2026-01-30T10:00:00Z");
    let hanging = standing(vec![set(30)], vec![backup]);
    assert_eq!(alarming(&hanging), [Check::Age, Check::Run]);
}

#[test]
fn a_nightly_timer_passes_though_it_is_late_and_the_backup_is_long() {
    // A minute late, and the last backup is as old as the night before.
    let next = Standing::of(
        &seen(vec![set(30)]),
        &[],
        &host(vec![]),
        &ours(),
        at("2026-01-31T02:59:00Z"),
    );
    assert_eq!(alarms(&next), []);
}

#[test]
fn no_backup_at_all_is_told_of() {
    for sets in [
        vec![],
        vec![SetSummary {
            host: Some("other".into()),
            ..set(31)
        }],
    ] {
        let none = standing(sets, vec![]);
        assert_eq!(alarming(&none), [Check::Age]);
        assert!(
            text(&none, &WatchConfig::default())
                .contains("\nfreezeframe_backup_timestamp_seconds 0\n")
        );
    }
    let first = standing(vec![], vec![run("backup", true, vec![])]);
    assert_eq!(alarms(&first), []);
}

#[test]
fn data_that_come_or_go_are_told_of_whatever_is_stored() {
    let of = |old: u64, new: u64| {
        let sized = |set: SetSummary, data: u64| SetSummary {
            data_size: Some(data),
            // The profile was changed.
            size: 5,
            ..set
        };
        alarming(&standing(
            vec![sized(set(30), old), sized(set(31), new)],
            vec![],
        ))
    };
    for (old, new) in [(100, 100), (100, 150), (100, 50), (0, 7)] {
        assert_eq!(of(old, new), [], "{old} {new}");
    }
    for (old, new) in [(100, 151), (100, 49), (100, 0), (1, u64::MAX)] {
        assert_eq!(of(old, new), [Check::Size], "{old} {new}");
    }
    let half = SetSummary {
        data_size: Some(4 << 20),
        ..set(31)
    };
    let half = standing(vec![set(30), half], vec![]);
    assert_eq!(half.series.unwrap()[0].size_change, Some(-0.5));
}

#[test]
fn damage_is_told_of_whether_it_is_in_the_newest_or_not() {
    let damaged = |day| SetSummary {
        state: SetState::Damaged,
        ..set(day)
    };
    let old = standing(vec![damaged(30), set(31)], vec![]);
    assert_eq!(alarming(&old), [Check::Damage]);
    let newest = standing(vec![set(30), damaged(31)], vec![]);
    assert_eq!(alarming(&newest), [Check::Age, Check::Damage]);
    // One of which nobody knows whose it is.
    let strange = SetSummary {
        state: SetState::Damaged,
        deployment: None,
        members: vec![],
        ..set(30)
    };
    let strange = standing(vec![strange, set(31)], vec![]);
    assert_eq!(alarming(&strange), [Check::Damage]);
    assert_eq!(strange.strange.len(), 1);
}

#[test]
fn a_run_that_comes_to_nothing_is_told_of() {
    assert_eq!(
        alarming(&standing(vec![set(30), unfinished(31)], vec![])),
        [Check::Age, Check::Run]
    );
    // It is older than the newest good one.
    assert_eq!(alarms(&standing(vec![unfinished(30), set(31)], vec![])), []);
    // It is being made.
    let upload = Resource::Upload {
        store: "file:///b".into(),
        server: None,
        set: set(31).id,
        run: "0badcafe".parse().unwrap(),
    };
    let made = standing(
        vec![set(30), unfinished(31)],
        vec![run("backup", true, vec![upload])],
    );
    assert_eq!(alarms(&made), []);
    // It is said to have failed, and nothing is in the store.
    let mut failed = host(vec![]);
    failed.last_run = Some(LastRun {
        began: at("2026-01-31T04:00:00Z"),
        ended: at("2026-01-31T04:00:01Z"),
        exit: Exit::BackupFailed as i32,
        backup: None,
        error: Some("the snapshot overflowed".into()),
        unprotected: None,
        not_copied: Default::default(),
        hook_failed: None,
    });
    let of = |sets, now| Standing::of(&seen(sets), &[], &failed, &ours(), now);
    let told = alarms(&of(vec![set(31)], noon()));
    assert_eq!(told.len(), 1);
    assert!(
        told[0].1.contains("exit code 4: the snapshot overflowed"),
        "{told:?}"
    );
    // It is made, and something about it is not as it was to be.
    let mut amiss = host(vec![]);
    let (began, ended) = (at("2026-01-31T04:00:00Z"), at("2026-01-31T04:00:01Z"));
    let made = LastRun::new(began, ended, Ok(set(31).id));
    amiss.last_run =
        Some(made.with_amiss(set(31).id, &["not all snapshots are locked".to_owned()]));
    let standing = Standing::of(&seen(vec![set(31)]), &[], &amiss, &ours(), noon());
    let told = alarms(&standing);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].1.contains("not all snapshots are locked"),
        "{told:?}"
    );
    // It is made, and its run could not give something back.
    let mut held = host(vec![]);
    let (before, after) = (at("2026-01-31T01:00:00Z"), at("2026-01-31T04:00:01Z"));
    held.last_run = Some(LastRun {
        exit: Exit::StillHeld as i32,
        backup: None,
        error: Some("a mount could not be given back".into()),
        ..LastRun::new(before, after, Ok(set(31).id))
    });
    let standing = Standing::of(&seen(vec![set(31)]), &[], &held, &ours(), noon());
    let told = alarms(&standing);
    assert_eq!(told.len(), 1);
    assert!(told[0].1.starts_with("a backup was made"), "{told:?}");
    // Unless there was a good one since, by whomever.
    let later = SetSummary {
        started: at("2026-01-31T05:00:00Z"),
        ..set(31)
    };
    assert_eq!(alarms(&of(vec![later], noon())), []);
}

#[test]
fn what_dead_runs_left_is_told_of_and_what_living_ones_hold_is_not() {
    let scratch = || vec![Resource::Scratch { path: "/s".into() }];
    assert_eq!(
        alarms(&standing(
            vec![set(31)],
            vec![run("verify", true, scratch())]
        )),
        []
    );
    let left = standing(vec![set(31)], vec![run("verify", false, scratch())]);
    let told = alarms(&left);
    assert_eq!(told[0].0, Check::Leftovers);
    assert!(
        told[0].1.contains("died and left temporary directory /s"),
        "{told:?}"
    );
    assert!(text(&left, &WatchConfig::default()).contains("\nfreezeframe_leftovers 1\n"));
    let lock = Resource::Lock {
        member: "db3:27018".parse().unwrap(),
        process: crate::mongo::ServerProcess::from_bytes([1; 12]),
        comment: "c".into(),
        host: None,
    };
    let locked = |boot: &str| {
        let mut run = run("backup", false, vec![lock.clone()]);
        run.owner.boot = boot.into();
        text(&standing(vec![set(31)], vec![run]), &WatchConfig::default())
    };
    assert!(locked("b").contains("\nfreezeframe_leftover_locks 1\n"));
    // Its server process ended with that boot.
    assert!(locked("before").contains("\nfreezeframe_leftover_locks 0\n"));
    let mut blind = host(vec![]);
    blind.unreadable.push("the run journal x is damaged".into());
    let blind = Standing::of(&seen(vec![set(31)]), &[], &blind, &ours(), noon());
    assert_eq!(alarming(&blind), [Check::Leftovers]);
}

#[test]
fn a_store_that_does_not_answer_is_told_of_and_what_it_told_before_stays() {
    let mut store = seen(vec![set(31)]);
    store.failed = Some(Unreached {
        error: "connection refused".into(),
        hint: None,
    });
    let known = Standing::of(&store, &[], &host(vec![]), &ours(), noon());
    assert_eq!(alarming(&known), [Check::Store]);
    let page = text(&known, &WatchConfig::default());
    assert!(
        page.contains("\nfreezeframe_store_up 0\n")
            && page.contains("freezeframe_backup_size_bytes{")
    );
    store.told = None;
    let unknown = Standing::of(&store, &[], &host(vec![]), &ours(), noon());
    assert_eq!(alarming(&unknown), [Check::Store]);
    assert!(!text(&unknown, &WatchConfig::default()).contains("backup_timestamp"));
}

#[test]
fn verifications_are_wanted_only_where_that_is_configured() {
    let verified = |day: u32| SetSummary {
        verification: VerificationState {
            verdict: Verified::Proven,
            last: Some(at("2026-01-20T12:00:00Z")),
            proven: Some(at("2026-01-10T12:00:00Z")),
            unreadable: 0,
        },
        ..set(day)
    };
    let limits = WatchConfig {
        max_verify_age: Some(Period(Duration::from_secs(10 * 86_400))),
        ..WatchConfig::default()
    };
    let never = standing(vec![set(31)], vec![]);
    assert!(!is_alarming(&judge(&never, &WatchConfig::default())));
    assert!(is_alarming(&judge(&never, &limits)));
    let late = standing(vec![verified(20), set(31)], vec![]);
    let told = judge(&late, &limits);
    let verify: Vec<&Checked> = told
        .iter()
        .filter(|one| one.check == Check::Verify)
        .collect();
    assert_eq!(verify[0].verdict, Verdict::Alarm);
    assert_eq!(
        verify[0].detail,
        "verified 11 d ago, proven by restoring one 21 d ago (limit 10 d)"
    );
    let in_time = WatchConfig {
        max_verify_age: Some(Period(Duration::from_secs(12 * 86_400))),
        ..limits
    };
    assert!(!is_alarming(&judge(&late, &in_time)));
}

#[test]
fn other_hosts_backups_are_watched_only_where_that_is_wanted() {
    let others = SetSummary {
        host: Some("db9".into()),
        members: set(1).members.into_iter().take(1).collect(),
        ..set(10)
    };
    let sets = vec![others, set(31)];
    assert_eq!(alarms(&standing(sets.clone(), vec![])), []);
    let all = Standing::of(&seen(sets), &[], &host(vec![]), &Scope::Store, noon());
    assert_eq!(all.series.as_ref().map(Vec::len), Some(2));
    assert_eq!(alarming(&all), [Check::Age]);
    // What another host went on with is a backup of the same replica sets.
    let by_another = SetSummary {
        host: Some("db9".into()),
        ..set(31)
    };
    assert_eq!(alarms(&standing(vec![set(29), by_another], vec![])), []);
}

#[test]
fn a_replica_set_that_is_backed_up_no_more_is_told_of() {
    let alone = |day| SetSummary {
        members: set(1).members.into_iter().take(1).collect(),
        ..set(day)
    };
    // The other one has been left out since.
    let left_out = standing(vec![set(28), alone(31)], vec![]);
    assert_eq!(alarming(&left_out), [Check::Age]);
    // Another one has come in since.
    assert_eq!(alarms(&standing(vec![alone(28), set(31)], vec![])), []);
}

#[test]
fn the_figures_are_written_as_prometheus_reads_them() {
    let one = standing(vec![set(30), set(31)], vec![]);
    snapbox::assert_data_eq!(
        text(&one, &WatchConfig::default()),
        snapbox::str![[r##"
# HELP freezeframe_info Which freezeframe tells this; always 1.
# TYPE freezeframe_info gauge
freezeframe_info{version="0.1.0"} 1
# HELP freezeframe_told_timestamp_seconds When these figures were put together.
# TYPE freezeframe_told_timestamp_seconds gauge
freezeframe_told_timestamp_seconds 1769860800
# HELP freezeframe_store_up Whether the store told what it holds.
# TYPE freezeframe_store_up gauge
freezeframe_store_up 1
# HELP freezeframe_store_asked_timestamp_seconds When the store told what is said of backups here.
# TYPE freezeframe_store_asked_timestamp_seconds gauge
freezeframe_store_asked_timestamp_seconds 1769860800
# HELP freezeframe_backup_timestamp_seconds The moment that the newest good backup is of; 0: there is none.
# TYPE freezeframe_backup_timestamp_seconds gauge
freezeframe_backup_timestamp_seconds{deployment="65b9a1f0c3d2e4f5a6b7c8d9",replica_sets="rs0, rs1"} 1769824800
# HELP freezeframe_backup_duration_seconds How long the newest good backup took to make.
# TYPE freezeframe_backup_duration_seconds gauge
freezeframe_backup_duration_seconds{deployment="65b9a1f0c3d2e4f5a6b7c8d9",replica_sets="rs0, rs1"} 700
# HELP freezeframe_backup_lock_seconds How long the database was held for the newest good backup; 0 where it was not locked.
# TYPE freezeframe_backup_lock_seconds gauge
freezeframe_backup_lock_seconds{deployment="65b9a1f0c3d2e4f5a6b7c8d9",replica_sets="rs0, rs1"} 0.1841
# HELP freezeframe_backup_size_bytes Size of the newest good backup in the store.
# TYPE freezeframe_backup_size_bytes gauge
freezeframe_backup_size_bytes{deployment="65b9a1f0c3d2e4f5a6b7c8d9",replica_sets="rs0, rs1"} 6291456
# HELP freezeframe_backup_data_bytes Size of the files that the newest good backup is of.
# TYPE freezeframe_backup_data_bytes gauge
freezeframe_backup_data_bytes{deployment="65b9a1f0c3d2e4f5a6b7c8d9",replica_sets="rs0, rs1"} 8388608
# HELP freezeframe_backup_size_change_ratio By how much the data are more than those of the good backup before, as a share of those.
# TYPE freezeframe_backup_size_change_ratio gauge
freezeframe_backup_size_change_ratio{deployment="65b9a1f0c3d2e4f5a6b7c8d9",replica_sets="rs0, rs1"} 0
# HELP freezeframe_verified_timestamp_seconds When a good backup was last verified and nothing found; 0: never.
# TYPE freezeframe_verified_timestamp_seconds gauge
freezeframe_verified_timestamp_seconds{deployment="65b9a1f0c3d2e4f5a6b7c8d9",replica_sets="rs0, rs1"} 0
# HELP freezeframe_proven_timestamp_seconds When a good backup was last proven by restoring it; 0: never.
# TYPE freezeframe_proven_timestamp_seconds gauge
freezeframe_proven_timestamp_seconds{deployment="65b9a1f0c3d2e4f5a6b7c8d9",replica_sets="rs0, rs1"} 0
# HELP freezeframe_failed_backups Backups that were begun after the newest good one, and never finished.
# TYPE freezeframe_failed_backups gauge
freezeframe_failed_backups{deployment="65b9a1f0c3d2e4f5a6b7c8d9",replica_sets="rs0, rs1"} 0
# HELP freezeframe_ahead_backups Good backups of moments that are yet to come, because a clock was ahead when they were made.
# TYPE freezeframe_ahead_backups gauge
freezeframe_ahead_backups{deployment="65b9a1f0c3d2e4f5a6b7c8d9",replica_sets="rs0, rs1"} 0
# HELP freezeframe_backups How many backups the store holds, by state.
# TYPE freezeframe_backups gauge
freezeframe_backups{deployment="65b9a1f0c3d2e4f5a6b7c8d9",replica_sets="rs0, rs1",state="good"} 2
freezeframe_backups{deployment="65b9a1f0c3d2e4f5a6b7c8d9",replica_sets="rs0, rs1",state="damaged"} 0
freezeframe_backups{deployment="65b9a1f0c3d2e4f5a6b7c8d9",replica_sets="rs0, rs1",state="unfinished"} 0
freezeframe_backups{deployment="65b9a1f0c3d2e4f5a6b7c8d9",replica_sets="rs0, rs1",state="future"} 0
freezeframe_backups{deployment="65b9a1f0c3d2e4f5a6b7c8d9",replica_sets="rs0, rs1",state="unreadable"} 0
# HELP freezeframe_strange_backups Backups that cannot be read, and of which nobody can tell whose they are.
# TYPE freezeframe_strange_backups gauge
freezeframe_strange_backups 0
# HELP freezeframe_dead_runs Runs that died and left something, or of which nobody can tell.
# TYPE freezeframe_dead_runs gauge
freezeframe_dead_runs 0
# HELP freezeframe_leftovers What they left: snapshots, mounts, unfinished objects and more.
# TYPE freezeframe_leftovers gauge
freezeframe_leftovers 0
# HELP freezeframe_leftover_locks Locks on members among that.
# TYPE freezeframe_leftover_locks gauge
freezeframe_leftover_locks 0

"##]]
    );
}

#[test]
fn a_backup_of_a_moment_to_come_hides_no_other() {
    let now = at("2026-01-20T12:00:00Z");
    let judged = |days: &[u32], now| {
        let sets = days.iter().map(|day| set(*day)).collect();
        let standing = Standing::of(&seen(sets), &[], &host(vec![]), &ours(), now);
        let newest = standing.series.as_ref().unwrap()[0].newest.clone();
        (newest.unwrap().id, alarms(&standing))
    };
    // The clock was eleven days ahead for one of them.
    let (newest, told) = judged(&[19, 20, 31], now);
    assert_eq!(newest, set(20).id);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].1.contains(&format!(
            "of a moment to come, because a clock was ahead: {}",
            set(31).id
        )),
        "{told:?}"
    );
    // That it is there does not make the others any younger.
    let (newest, told) = judged(&[17, 18, 31], now);
    assert_eq!(newest, set(18).id);
    assert!(told[0].1.contains("is the newest good backup"), "{told:?}");
    // Alone it is what there is.
    let (newest, told) = judged(&[31], now);
    assert_eq!(newest, set(31).id);
    assert!(told[0].1.contains("in the future"), "{told:?}");
    // When its moment has come it is one like any other.
    assert_eq!(judged(&[19, 20, 31], noon()).0, set(31).id);
}

#[test]
fn names_are_escaped() {
    let mut odd = set(31);
    odd.members.truncate(1);
    odd.members[0].shard = r#"a"b\c"#.parse().unwrap();
    let page = text(&standing(vec![odd], vec![]), &WatchConfig::default());
    assert!(page.contains(r#",replica_sets="a\"b\\c"} "#), "{page}");
}

#[test]
fn how_the_last_run_ended_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(LastRun::read(folder.path()), Ok(None));
    let failed = crate::watch::error::WatchError::NoTextFile;
    let (began, ended) = (at("2026-01-31T04:00:00Z"), noon());
    for run in [
        LastRun::new(began, ended, Ok(set(31).id)),
        LastRun::new(began, ended, Err(&failed)),
    ] {
        run.write(folder.path()).unwrap();
        assert_eq!(LastRun::read(folder.path()), Ok(Some(run)));
    }
    // What nobody can read is no news that all is well.
    let path = folder.path().join("last-backup.json");
    for spoilt in ["garbage", "", &"[".repeat(100_000)] {
        std::fs::write(&path, spoilt).unwrap();
        LastRun::read(folder.path()).unwrap_err();
        let seen = HostSeen::look(folder.path());
        assert_eq!(seen.unreadable.len(), 1, "{:?}", seen.unreadable);
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    LastRun::read(folder.path()).unwrap_err();
}

fn any_set() -> impl Strategy<Value = SetSummary> {
    let states = prop_oneof![
        4 => Just(SetState::Complete),
        1 => Just(SetState::Damaged),
        1 => Just(SetState::Unfinished),
        1 => Just(SetState::Future),
        1 => Just(SetState::Unreadable),
    ];
    let hosts = prop_oneof![Just(None), Just(Some(HOST)), Just(Some("other"))];
    (
        1u32..29,
        states,
        hosts,
        any::<Option<u64>>(),
        any::<u64>(),
        0usize..3,
    )
        .prop_map(|(day, state, host, data_size, size, members)| SetSummary {
            state,
            host: host.map(Into::into),
            data_size,
            size,
            took_us: Some(size),
            held_us: Some(size),
            members: set(day).members.into_iter().take(members).collect(),
            ..set(day)
        })
}

proptest! {
    #[test]
    fn whatever_the_store_holds_and_the_clock_says_figures_are_figures(
        mut sets in proptest::collection::vec(any_set(), 0..12),
        minutes in -60_000i64..60_000,
        whole in any::<bool>(),
    ) {
        let scope = if whole { Scope::Store } else { ours() };
        let now = at("2026-01-15T02:00:00Z") + SignedDuration::from_mins(minutes);
        let limits = WatchConfig::default();
        sets.sort_by_key(|set| set.id);
        sets.dedup_by_key(|set| set.id);
        let first = Standing::of(&seen(sets.clone()), &[], &host(vec![]), &scope, now);
        sets.reverse();
        let again = Standing::of(&seen(sets), &[], &host(vec![]), &scope, now);
        let page = text(&first, &limits);
        prop_assert_eq!(&page, &text(&again, &limits));
        prop_assert_eq!(judge(&first, &limits), judge(&again, &limits));
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            prop_assert!(value.is_finite(), "{}", line);
            prop_assert!(value >= 0.0 || name.contains("size_change_ratio"), "{}", line);
        }
        for series in first.series.iter().flatten() {
            let Some(newest) = &series.newest else { continue };
            if newest.started > now + crate::catalog::CLOCKS_DIFFER {
                prop_assert_eq!(newest.age_seconds, 0);
                let told = judge(&first, &limits).into_iter().any(|one| {
                    one.check == Check::Age
                        && one.verdict == Verdict::Alarm
                        && one.subject == series.name()
                });
                prop_assert!(told);
            }
        }
    }
}
