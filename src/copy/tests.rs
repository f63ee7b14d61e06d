use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::backup::lease::{self, Scope, Work};
use crate::backup::run::Run;
use crate::backup::set::plan_lease;
use crate::catalog::summary::{SetState, Verdict, VerificationState};
use crate::catalog::{key, sample};
use crate::config::{Period, RetentionConfig};
use crate::manifest::INTENT;
use crate::manifest::check::VERIFIED_PREFIX;
use crate::progress::Silent;
use crate::retention::{Backup, plan};
use crate::store::ObjectInfo;
use crate::store::fault::{Call, Fault, FaultStore};

/// Two folders, the first of which holds the sample.
struct Stores {
    home: tempfile::TempDir,
    first: SharedStore,
    other: SharedStore,
    tools: Tools,
    cancel: CancellationToken,
}

impl Stores {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let folder = home.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            let url = folder.to_str().unwrap();
            crate::store::open(url, &Default::default(), &Default::default()).unwrap()
        };
        let (first, other) = (open("first"), open("other"));
        sample::write(&first).await;
        Self {
            home,
            first,
            other,
            tools: Tools::for_tests(),
            cancel: CancellationToken::new(),
        }
    }

    async fn copy(&self, from: &SharedStore, to: &SharedStore) -> Result<Placed, CopyError> {
        let state_dir = self.home.path().join("state");
        let order = Order {
            from,
            to,
            read_back: true,
            state_dir: &state_dir,
            tools: &self.tools,
            progress: &Silent,
            cancel: &self.cancel,
        };
        let done = copy_one(&order, sample::id()).await;
        let journals = std::fs::read_dir(state_dir.join("runs")).unwrap();
        assert_eq!(journals.count(), 0, "{done:?}");
        done
    }
}

/// Every object of the sample's set in `store`, with its bytes.
async fn content(store: &SharedStore) -> Vec<(ObjectInfo, Vec<u8>)> {
    let mut all = Vec::new();
    for info in store.list(&key(sample::id(), "")).await.unwrap() {
        let bytes = store.read(&info.key, 0..info.size).await.unwrap();
        all.push((info, bytes));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_the_same_backup_byte_for_byte() {
    let stores = Stores::new().await;
    let done = stores.copy(&stores.first, &stores.other).await.unwrap();
    assert_eq!(done, Placed::Copied);
    let there = content(&stores.other).await;
    assert_eq!(there.len(), 2 + sample::SHARDS.len() + 1);
    assert_eq!(there, content(&stores.first).await);
    let sets = catalog::list(stores.other.as_ref()).await.unwrap();
    assert_eq!(sets[0].state, SetState::Complete);
    let again = stores.copy(&stores.first, &stores.other).await.unwrap();
    assert_eq!(again, Placed::WasThere);
    assert_eq!(there, content(&stores.other).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_there_is_a_whole_copy_or_none_and_the_next_try_makes_it() {
    let mut failed = 0;
    for call in Call::ALL {
        for nth in 1.. {
            let stores = Stores::new().await;
            let faulty = FaultStore::new(stores.other.clone());
            faulty.fail(call, nth, ErrorKind::ConnectionReset);
            let to: SharedStore = Arc::new(faulty.clone());
            let copied = stores.copy(&stores.first, &to).await;
            let sets = catalog::list(stores.other.as_ref()).await.unwrap();
            let states: Vec<_> = sets.iter().map(|set| set.state).collect();
            let complete = states == [SetState::Complete];
            match &copied {
                Ok(_) => assert!(complete, "{call:?} {nth}: {states:?}"),
                // The manifest may have come before the failure that was told.
                Err(CopyError::Catalog(_)) => {}
                Err(error) => assert!(!complete, "{call:?} {nth}: {error}"),
            }
            failed += u32::from(copied.is_err());
            stores.copy(&stores.first, &stores.other).await.unwrap();
            assert_eq!(content(&stores.other).await, content(&stores.first).await);
            if !faulty.all_failed() {
                break;
            }
        }
    }
    assert!(failed > 10, "{failed} failures");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_those_of_the_manifest_are_no_copy() {
    let stores = Stores::new().await;
    let faulty = FaultStore::new(stores.first.clone());
    faulty.add(Fault::Flip {
        key: key(sample::id(), "rs1.tar.xz"),
        offset: 100,
        mask: 4,
    });
    let from: SharedStore = Arc::new(faulty);
    let error = stores.copy(&from, &stores.other).await.unwrap_err();
    assert!(
        matches!(&error, CopyError::Damaged { object, .. } if object == "rs1.tar.xz"),
        "{error}"
    );
    let sets = catalog::list(stores.other.as_ref()).await.unwrap();
    assert_eq!(sets[0].state, SetState::Unfinished);
    let sets = catalog::list(stores.first.as_ref()).await.unwrap();
    assert_eq!(sets[0].verification.verdict, Verdict::Damaged);
    // The same bytes once more, and the rest, but what was found of the first.
    stores.copy(&stores.first, &stores.other).await.unwrap();
    let mut first = content(&stores.first).await;
    first.retain(|(info, _)| !info.key.contains(VERIFIED_PREFIX));
    assert_eq!(content(&stores.other).await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_backup_of_that_name_is_left_alone_and_what_a_dead_copy_left_is_not() {
    let stores = Stores::new().await;
    let mut others = sample::intent();
    others.run = "deadbeef".parse().unwrap();
    let intent = key(sample::id(), INTENT);
    catalog::write_intent(stores.other.as_ref(), &others)
        .await
        .unwrap();
    let before = content(&stores.other).await;
    let error = stores.copy(&stores.first, &stores.other).await.unwrap_err();
    assert!(matches!(error, CopyError::NameTaken { .. }), "{error}");
    assert_eq!(content(&stores.other).await, before);
    stores.other.delete(&intent).await.unwrap();

    catalog::write_intent(stores.other.as_ref(), &sample::intent())
        .await
        .unwrap();
    let half = key(sample::id(), "rs0.tar.xz");
    stores.other.put(&half, b"half").await.unwrap();
    stores.copy(&stores.first, &stores.other).await.unwrap();
    assert_eq!(content(&stores.other).await, content(&stores.first).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_copy_has_left_is_given_back_before_the_next() {
    let stores = Stores::new().await;
    let (state_dir, rules) = (stores.home.path().join("state"), rules(30));
    let manifest = catalog::read_manifest(stores.first.as_ref(), sample::id()).await;
    let mut dead = Run::begin(&state_dir, COPY).unwrap();
    for member in &manifest.unwrap().members {
        let scope = Scope {
            deployment: sample::intent().deployment.id,
            shard: member.shard.clone(),
        };
        plan_lease(&mut dead, &scope, stores.other.as_ref()).unwrap();
        let (store, work) = (stores.other.as_ref(), (dead.id(), Work::Copy));
        lease::take_after_prune(store, &scope, work, Duration::ZERO, &stores.cancel)
            .await
            .unwrap();
    }
    drop(dead);
    let order = Order {
        from: &stores.first,
        to: &stores.other,
        read_back: true,
        state_dir: &state_dir,
        tools: &stores.tools,
        progress: &Silent,
        cancel: &stores.cancel,
    };
    let copied = bring_up_to_date(&order, &rules, &Whose::Everybodys, None).await;
    assert!(copied.by_others.is_some(), "{copied:?}");
    clear_up_after_dead(&state_dir, &stores.tools).await;
    let copied = bring_up_to_date(&order, &rules, &Whose::Everybodys, None).await;
    assert_eq!(copied.copied, [sample::id()], "{copied:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_brought_up_to_date_once_and_a_copy_that_is_no_good_is_told_of() {
    let stores = Stores::new().await;
    let (state_dir, rules) = (stores.home.path().join("state"), rules(30));
    let order = Order {
        from: &stores.first,
        to: &stores.other,
        read_back: true,
        state_dir: &state_dir,
        tools: &stores.tools,
        progress: &Silent,
        cancel: &stores.cancel,
    };
    let copied = bring_up_to_date(&order, &rules, &Whose::Everybodys, None).await;
    assert_eq!(copied.copied, [sample::id()]);
    assert!(
        copied.failed.is_empty() && copied.ended.is_none(),
        "{copied:?}"
    );
    let copied = bring_up_to_date(&order, &rules, &Whose::Everybodys, None).await;
    assert!(
        copied.copied.is_empty() && copied.failed.is_empty(),
        "{copied:?}"
    );
    let archive = key(sample::id(), "rs0.tar.xz");
    stores.other.delete(&archive).await.unwrap();
    let copied = bring_up_to_date(&order, &rules, &Whose::Everybodys, None).await;
    let [(id, CopyError::NotGood { .. })] = copied.failed.as_slice() else {
        panic!("{copied:?}");
    };
    assert_eq!(*id, sample::id());
    let theirs = Whose::Series("0123456789abcdef01234567".parse().unwrap(), BTreeSet::new());
    let copied = bring_up_to_date(&order, &rules, &theirs, None).await;
    assert!(copied.failed.is_empty(), "{copied:?}");
}

fn rules(days: u64) -> Rules {
    Rules {
        keep_last: 1,
        keep_within: Period(Duration::from_secs(days * 86_400)),
        ..RetentionConfig::default().rules(true)
    }
}

fn set(day: u32) -> SetSummary {
    let id: BackupId = format!("mongo_backup-202601{day:02}_020000")
        .parse()
        .unwrap();
    SetSummary {
        id,
        started: id.started(),
        ..sample::summary()
    }
}

fn days(due: Vec<BackupId>) -> Vec<i8> {
    let day = |id: BackupId| id.started().to_zoned(jiff::tz::TimeZone::UTC).day();
    due.into_iter().map(day).collect()
}

#[test]
fn what_lacks_is_due_newest_first_as_far_as_the_rules_there_would_keep_it() {
    let now = "2026-02-01T00:00:00Z".parse().unwrap();
    let first = [set(1), set(20), set(29), set(30), set(31)];
    assert_eq!(days(due(&first, &[], &rules(2), now)), [31, 30, 29]);
    assert_eq!(days(due(&first, &[set(30)], &rules(2), now)), [31, 29]);
    assert_eq!(days(due(&first, &first, &rules(2), now)), [] as [i8; 0]);
    // It has newer ones than the first store: then the old ones there are not wanted any more.
    assert_eq!(
        days(due(&first[..2], &[set(30)], &rules(2), now)),
        [] as [i8; 0]
    );
    assert_eq!(days(due(&first, &[], &rules(11), now)), [31, 30, 29, 20]);
}

#[test]
fn only_good_ones_are_due_and_only_good_copies_count() {
    let now = "2026-02-01T00:00:00Z".parse().unwrap();
    let in_state = |state, day| SetSummary { state, ..set(day) };
    let first = [
        in_state(SetState::Damaged, 27),
        in_state(SetState::Unfinished, 28),
        SetSummary {
            snapshots: 3,
            ..set(29)
        },
        set(30),
        set(31),
    ];
    assert_eq!(days(due(&first, &[], &rules(30), now)), [31, 30]);
    for state in [
        SetState::Damaged,
        SetState::Unfinished,
        SetState::Unreadable,
    ] {
        let other = [in_state(state, 30), set(31)];
        assert_eq!(
            days(due(&first, &other, &rules(30), now)),
            [30],
            "{state:?}"
        );
    }
    // Another backup of the same name.
    let others = SetSummary {
        run: Some("deadbeef".parse().unwrap()),
        ..set(31)
    };
    assert_eq!(days(due(&first, &[others, set(30)], &rules(30), now)), [31]);
}

/// What may happen to two stores.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A backup is made, so many hours after the one before.
    Backup(u32),
    /// The oldest or the newest of what is due is copied, and then something fails.
    CopyOne(bool),
    /// Everything that is due is copied.
    Copy,
    PruneFirst,
    PruneOther,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1u32..60).prop_map(Event::Backup),
        2 => any::<bool>().prop_map(Event::CopyOne),
        1 => Just(Event::Copy),
        2 => Just(Event::PruneFirst),
        2 => Just(Event::PruneOther),
    ]
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let counts = (1u32..4, 0u32..4, 0u32..4, 0u32..3);
    (counts, 1u64..200).prop_map(|((keep_last, daily, weekly, monthly), hours)| Rules {
        keep_last,
        keep_within: Period(Duration::from_secs(hours * 3600)),
        daily,
        weekly,
        monthly,
        ..rules(1)
    })
}

/// The ids of what `rules` keep of `sets` at `now`, but for those that are awaited elsewhere.
fn kept(
    sets: &[SetSummary],
    rules: &Rules,
    awaited: &[BackupId],
    now: Timestamp,
) -> BTreeSet<BackupId> {
    let backups = sets.iter().map(|set| Backup {
        awaits_copy: awaited.contains(&set.id),
        ..Backup::of(set, now)
    });
    let ours = sample::summary().deployment.unwrap();
    let dropped: BTreeSet<_> = plan(backups.collect(), &ours, rules, now)
        .dropped()
        .map(|(backup, _)| backup.id)
        .collect();
    let ids = sets.iter().map(|set| set.id);
    ids.filter(|id| !dropped.contains(id)).collect()
}

/// A set that nobody has verified.
fn unverified(set: &SetSummary) -> SetSummary {
    SetSummary {
        verification: VerificationState {
            verdict: Verdict::Unverified,
            last: None,
            proven: None,
            unreadable: 0,
        },
        ..set.clone()
    }
}

proptest! {
    #[test]
    fn nothing_that_a_store_is_to_keep_is_lost_whatever_is_copied_or_fails_or_is_pruned(
        events in prop::collection::vec(event(), 1..80),
        here in any_rules(),
        there in any_rules(),
    ) {
        let mut now: Timestamp = "2026-01-01T00:30:00Z".parse().unwrap();
        let (mut made, mut first, mut other) = (Vec::new(), Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::Backup(hours) => {
                    now = now.checked_add(jiff::SignedDuration::from_hours(hours.into())).unwrap();
                    let id = BackupId::at(now);
                    let set = SetSummary { id, started: id.started(), ..sample::summary() };
                    made.push(set.clone());
                    first.push(set);
                }
                // Whoever verified it has verified it in the first store.
                Event::CopyOne(newest) => {
                    let due = due(&first, &other, &there, now);
                    let one = if newest { due.first() } else { due.last() };
                    other.extend(first.iter().filter(|set| Some(&set.id) == one).map(unverified));
                }
                Event::Copy => {
                    let due = due(&first, &other, &there, now);
                    other.extend(first.iter().filter(|set| due.contains(&set.id)).map(unverified));
                    let stays = kept(&other, &there, &[], now);
                    prop_assert!(due.iter().all(|id| stays.contains(id)), "copied for nothing");
                }
                Event::PruneFirst => {
                    let awaited = due(&first, &other, &there, now);
                    let stays = kept(&first, &here, &awaited, now);
                    first.retain(|set: &SetSummary| stays.contains(&set.id));
                }
                Event::PruneOther => {
                    let stays = kept(&other, &there, &[], now);
                    other.retain(|set| stays.contains(&set.id));
                }
            }
            let has = |store: &[SetSummary], id| store.iter().any(|set| set.id == id);
            if let Some(newest) = made.last() {
                prop_assert!(has(&first, newest.id), "the newest is gone");
            }
            // What one store would keep that had had every backup.
            for id in kept(&made, &there, &[], now) {
                prop_assert!(has(&first, id) || has(&other, id), "{id} is in neither");
            }
        }
    }
}
