mod figures;
mod room;

use std::time::Duration;

use jiff::SignedDuration;

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
            free: None,
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
