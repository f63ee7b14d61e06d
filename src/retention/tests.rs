use std::time::Duration;

use jiff::ToSpan;
use jiff::civil::date;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::catalog::sample::shard;

fn ours() -> DeploymentId {
    "65b9a1f0c3d2e4f5a6b7c8d9".parse().unwrap()
}

fn theirs() -> DeploymentId {
    "0123456789abcdef01234567".parse().unwrap()
}

fn rules() -> Rules {
    Rules {
        keep_last: 1,
        keep_within: Period(Duration::from_secs(1)),
        hourly: 0,
        daily: 0,
        weekly: 0,
        monthly: 0,
        yearly: 0,
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn good(begun: Timestamp) -> Backup {
    Backup {
        id: BackupId::at(begun),
        deployment: Some(ours()),
        shards: BTreeSet::from([shard("rs0")]),
        snapshots: 0,
        condition: Condition::Good { verified: false },
        held: false,
        read: false,
        locked: false,
        awaits_copy: false,
        bytes: 10,
    }
}

/// The verdict on each, in the order in which they are given, which is that of their names.
fn verdicts(backups: &[Backup], rules: &Rules, now: &str) -> Vec<Verdict> {
    let plan = plan(backups.to_vec(), &ours(), rules, at(now));
    plan.0.into_iter().map(|decided| decided.verdict).collect()
}

fn keep<const N: usize>(reasons: [KeepReason; N]) -> Verdict {
    Verdict::Keep(BTreeSet::from(reasons))
}

const NEWEST: [KeepReason; 3] = [
    KeepReason::NewestGood,
    KeepReason::KeepLast,
    KeepReason::KeepWithin,
];

/// Nightly backups from 2025 on, pruned after each: the days that are left on the morning of `last`.
fn after_nights(last: jiff::civil::Date, rules: &Rules) -> Vec<String> {
    let mut left: Vec<Backup> = Vec::new();
    let mut night = date(2025, 1, 1);
    while night <= last {
        let begun = night.at(2, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap();
        left.push(good(begun.timestamp()));
        let now = begun.timestamp() + 1.hour();
        let plan = plan(std::mem::take(&mut left), &ours(), rules, now);
        let kept = plan.0.into_iter().filter(|decided| match decided.verdict {
            Verdict::Keep(_) => true,
            Verdict::Drop(reason) => {
                assert_eq!(reason, DropReason::Outlived);
                false
            }
        });
        left = kept.map(|decided| decided.backup).collect();
        night = night.tomorrow().unwrap();
    }
    let day = |backup: Backup| backup.id.started().strftime("%Y-%m-%d").to_string();
    left.into_iter().map(day).collect()
}

#[test]
fn a_year_of_nights_is_pruned_exactly_as_the_rules_say() {
    let last = date(2026, 1, 5);
    let rules = Rules {
        keep_last: 3,
        keep_within: Period(Duration::from_secs(2 * 86_400)),
        hourly: 0,
        daily: 7,
        weekly: 5,
        monthly: 12,
        yearly: 2,
    };
    assert_eq!(
        after_nights(last, &rules),
        [
            // The last of each of twelve months with this one.
            "2025-02-28",
            "2025-03-31",
            "2025-04-30",
            "2025-05-31",
            "2025-06-30",
            "2025-07-31",
            "2025-08-31",
            "2025-09-30",
            "2025-10-31",
            "2025-11-30",
            // Sundays: five weeks with this one, which begins on the 5th.
            "2025-12-14",
            "2025-12-21",
            "2025-12-28",
            // Seven days; the last of a year among them.
            "2025-12-30",
            "2025-12-31",
            "2026-01-01",
            "2026-01-02",
            "2026-01-03",
            "2026-01-04",
            "2026-01-05",
        ]
    );
}

#[test]
fn a_year_of_nights_by_the_defaults() {
    let of = |in_s3| crate::config::RetentionConfig::default().rules(in_s3);
    let days = |days: std::ops::RangeInclusive<i8>| -> Vec<String> {
        days.map(|day| format!("2025-12-{day:02}")).collect()
    };
    let last = date(2025, 12, 31);
    assert_eq!(after_nights(last, &of(false)), days(24..=31));
    assert_eq!(after_nights(last, &of(true)), days(1..=31));
}

#[test]
fn hours_are_counted_that_have_a_backup() {
    let rules = Rules {
        hourly: 3,
        ..rules()
    };
    let begun = ["00:10", "00:50", "07:00", "07:59", "08:00", "08:20"];
    let backups = begun.map(|time| good(at(&format!("2025-06-01T{time}:00Z"))));
    let kept: Vec<_> = verdicts(&backups, &rules, "2025-06-01T09:00:00Z")
        .into_iter()
        .map(|verdict| matches!(verdict, Verdict::Keep(_)))
        .collect();
    assert_eq!(kept, [false, true, false, true, false, true]);
}

#[test]
fn the_newest_good_one_stays_behind_newer_ones_that_are_not() {
    let backups = [
        good(at("2025-01-01T00:00:00Z")),
        good(at("2025-01-02T00:00:00Z")),
        Backup {
            condition: Condition::Damaged,
            ..good(at("2025-06-01T00:00:00Z"))
        },
        Backup {
            condition: Condition::Unfinished { at_work: false },
            ..good(at("2025-06-02T00:00:00Z"))
        },
        // Fewer replica sets are another series.
        Backup {
            shards: BTreeSet::from([shard("rs1")]),
            ..good(at("2025-06-03T00:00:00Z"))
        },
        Backup {
            condition: Condition::NotUnderstood,
            deployment: None,
            ..good(at("2025-06-04T00:00:00Z"))
        },
    ];
    assert_eq!(
        verdicts(&backups, &rules(), "2025-07-01T00:00:00Z"),
        [
            Verdict::Drop(DropReason::Outlived),
            keep(NEWEST),
            keep([KeepReason::NothingNewer]),
            keep([KeepReason::NothingNewer]),
            keep(NEWEST),
            keep([KeepReason::NotUnderstood]),
        ]
    );
}

#[test]
fn what_is_no_good_backup_goes_when_a_newer_one_is_good() {
    let unfinished = |begun, at_work| Backup {
        condition: Condition::Unfinished { at_work },
        ..good(at(begun))
    };
    let damaged = |begun| Backup {
        condition: Condition::Damaged,
        ..good(at(begun))
    };
    let backups = [
        damaged("2025-06-20T00:00:00Z"),
        unfinished("2025-06-21T00:00:00Z", false),
        unfinished("2025-06-22T00:00:00Z", true),
        damaged("2025-06-29T10:00:00Z"),
        unfinished("2025-06-29T11:00:00Z", false),
        good(at("2025-06-30T00:00:00Z")),
    ];
    let rules = Rules {
        keep_within: Period(Duration::from_secs(86_400)),
        ..rules()
    };
    assert_eq!(
        verdicts(&backups, &rules, "2025-07-01T00:00:00Z"),
        [
            Verdict::Drop(DropReason::Damaged),
            Verdict::Drop(DropReason::NeverFinished),
            keep([KeepReason::MayBeMade]),
            keep([KeepReason::KeepWithin]),
            keep([KeepReason::MayBeMade]),
            keep(NEWEST),
        ]
    );
}

#[test]
fn what_is_held_read_or_anothers_stays_and_snapshots_count_apart() {
    let old = |day: u8| good(at(&format!("2025-01-{day:02}T00:00:00Z")));
    let backups = [
        Backup {
            held: true,
            ..old(1)
        },
        Backup {
            read: true,
            ..old(2)
        },
        Backup {
            deployment: Some(theirs()),
            ..old(3)
        },
        Backup {
            snapshots: 2,
            ..old(4)
        },
        Backup {
            snapshots: 2,
            ..old(5)
        },
        old(6),
        Backup {
            condition: Condition::Good { verified: true },
            ..old(7)
        },
        old(8),
        old(9),
    ];
    let newest_verified = keep([KeepReason::NewestVerified]);
    assert_eq!(
        verdicts(&backups, &rules(), "2025-07-01T00:00:00Z"),
        [
            keep([KeepReason::Held]),
            keep([KeepReason::BeingRead]),
            keep([KeepReason::OtherDeployment]),
            Verdict::Drop(DropReason::Outlived),
            keep(NEWEST),
            Verdict::Drop(DropReason::Outlived),
            newest_verified,
            Verdict::Drop(DropReason::Outlived),
            keep(NEWEST),
        ]
    );
}

#[test]
fn a_backup_from_the_future_stays_and_takes_nobodys_place() {
    let backups = [
        good(at("2025-01-01T00:00:00Z")),
        good(at("2025-01-02T00:00:00Z")),
        good(at("2035-01-01T00:00:00Z")),
    ];
    let decided = verdicts(&backups, &rules(), "2025-01-03T00:00:00Z");
    assert_eq!(
        decided,
        [
            Verdict::Drop(DropReason::Outlived),
            keep(NEWEST),
            keep([KeepReason::FromTheFuture]),
        ]
    );
    // And a clock that is ahead, or backups that are made no more, let nothing vanish: what counts is the newest.
    let rules = Rules {
        keep_within: Period(Duration::from_secs(2 * 86_400)),
        ..rules()
    };
    for now in ["2025-01-03T00:00:00Z", "2034-12-31T00:00:00Z"] {
        let decided = verdicts(&backups, &rules, now);
        assert!(
            decided.iter().all(|one| matches!(one, Verdict::Keep(_))),
            "{now}"
        );
    }
}

/// Whether `backup` stays, told for each backup by itself and in another way.
fn stays(backup: &Backup, all: &[Backup], rules: &Rules, now: Timestamp) -> bool {
    let begun = |backup: &Backup| backup.id.started();
    let counts = |other: &&Backup| {
        matches!(other.condition, Condition::Good { .. })
            && other.deployment == Some(ours())
            && begun(other) <= now
    };
    let same = |other: &&Backup| other.shards == backup.shards;
    let newer = |other: &&Backup| other.id > backup.id;
    if backup.deployment != Some(ours())
        || backup.condition == Condition::NotUnderstood
        || backup.held
        || backup.read
        || begun(backup) > now
    {
        return true;
    }
    let newest = all
        .iter()
        .filter(counts)
        .filter(same)
        .max_by_key(|one| one.id);
    let within = |newest: &Backup| {
        let seconds = begun(newest).as_second() - begun(backup).as_second();
        seconds <= i64::try_from(rules.keep_within.0.as_secs()).unwrap()
    };
    match backup.condition {
        Condition::Unfinished { at_work } => {
            let age = now.as_second() - begun(backup).as_second();
            return at_work || age < 48 * 3600 || newest.is_none_or(|one| one.id < backup.id);
        }
        Condition::Damaged => {
            return newest.is_none_or(|one| one.id < backup.id || within(one));
        }
        Condition::Good { .. } | Condition::NotUnderstood => {}
    }
    let series = || {
        let kind = |other: &&Backup| other.is_in_snapshots() == backup.is_in_snapshots();
        all.iter().filter(counts).filter(same).filter(kind)
    };
    let newest_of_series = series().max_by_key(|one| one.id).unwrap();
    let rank = series().filter(newer).count();
    let verified = |one: &&Backup| one.condition == Condition::Good { verified: true };
    if rank == 0
        || rank < usize::try_from(rules.keep_last).unwrap()
        || within(newest_of_series)
        || (verified(&backup) && !series().filter(newer).any(|one| verified(&one)))
    {
        return true;
    }
    [
        ("%Y-%m-%d %H", rules.hourly),
        ("%Y-%m-%d", rules.daily),
        ("%G-%V", rules.weekly),
        ("%Y-%m", rules.monthly),
        ("%Y", rules.yearly),
    ]
    .into_iter()
    .any(|(format, wanted)| {
        let name = |one: &Backup| {
            let begun = begun(one).to_zoned(TimeZone::UTC);
            begun.strftime(format).to_string()
        };
        let later: BTreeSet<String> = series().filter(newer).map(name).collect();
        !later.contains(&name(backup)) && later.len() < usize::try_from(wanted).unwrap()
    })
}

prop_compose! {
    fn any_backup()(
        hours in 0i64..20_000,
        minutes in 0i64..60,
        condition in prop_oneof![
            6 => any::<bool>().prop_map(|verified| Condition::Good { verified }),
            1 => Just(Condition::Damaged),
            1 => any::<bool>().prop_map(|at_work| Condition::Unfinished { at_work }),
            1 => Just(Condition::NotUnderstood),
        ],
        other_deployment in prop::bool::weighted(0.1),
        both in prop::bool::weighted(0.3),
        snapshots in prop_oneof![9 => Just(0u64), 1 => 1u64..4],
        held in prop::bool::weighted(0.1),
        read in prop::bool::weighted(0.1),
    ) -> Backup {
        let names: &[&str] = if both { &["rs0", "rs1"] } else { &["rs0"] };
        Backup {
            deployment: Some(if other_deployment { theirs() } else { ours() }),
            shards: names.iter().copied().map(shard).collect(),
            snapshots,
            condition,
            held,
            read,
            ..good(at("2024-01-01T00:00:00Z") + hours.hours() + minutes.minutes())
        }
    }
}

prop_compose! {
    fn any_rules()(
        keep_last in 1u32..4,
        hours in 1u64..2000,
        hourly in 0u32..4,
        daily in 0u32..4,
        weekly in 0u32..4,
        monthly in 0u32..4,
        yearly in 0u32..3,
    ) -> Rules {
        let keep_within = Period(Duration::from_secs(hours * 3600));
        Rules { keep_last, keep_within, hourly, daily, weekly, monthly, yearly }
    }
}

proptest! {
    #[test]
    fn the_plan_is_that_of_an_oracle(
        backups in prop::collection::vec(any_backup(), 0..40),
        rules in any_rules(),
        hours in 0i64..24_000,
    ) {
        let mut names = BTreeSet::new();
        let backups: Vec<_> = backups.into_iter().filter(|one| names.insert(one.id)).collect();
        let now = at("2024-01-01T00:00:00Z") + hours.hours();
        let plan = plan(backups.clone(), &ours(), &rules, now);
        prop_assert_eq!(plan.0.len(), backups.len());
        for decided in &plan.0 {
            let kept = match &decided.verdict {
                Verdict::Keep(reasons) => {
                    prop_assert!(!reasons.is_empty());
                    true
                }
                Verdict::Drop(_) => false,
            };
            let expected = stays(&decided.backup, &backups, &rules, now);
            prop_assert_eq!(kept, expected, "{:?}", decided);
        }
    }

    /// Whatever the rules and the clock, a series that has a good backup keeps a good one.
    #[test]
    fn no_series_loses_its_last_good_backup(
        backups in prop::collection::vec(any_backup(), 0..20),
        rules in any_rules(),
        hours in -10_000i64..40_000,
    ) {
        let now = at("2024-01-01T00:00:00Z") + hours.hours();
        let plan = plan(backups, &ours(), &rules, now);
        for (gone, _) in plan.dropped().filter(|(gone, _)| gone.is_good()) {
            let left = plan.0.iter().any(|other| {
                other.backup.is_good()
                    && other.backup.shards == gone.shards
                    && other.backup.is_in_snapshots() == gone.is_in_snapshots()
                    && other.backup.deployment == gone.deployment
                    && matches!(other.verdict, Verdict::Keep(_))
            });
            prop_assert!(left, "{gone:?}");
        }
    }
}
