//! The figures for Prometheus.

use proptest::prelude::*;

use super::*;

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
fn names_are_escaped() {
    let mut odd = set(31);
    odd.members.truncate(1);
    odd.members[0].shard = r#"a"b\c"#.parse().unwrap();
    let page = text(&standing(vec![odd], vec![]), &WatchConfig::default());
    assert!(page.contains(r#",replica_sets="a\"b\\c"} "#), "{page}");
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
