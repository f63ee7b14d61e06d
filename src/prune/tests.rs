use std::io::ErrorKind;
use std::sync::Arc;

use jiff::ToSpan;
use proptest::prelude::*;

use super::*;
use crate::catalog::hold::{HOLD, Hold, hold};
use crate::catalog::reader::Reader;
use crate::catalog::summary::{SetState, SetSummary};
use crate::catalog::verification::{Outcome as Found, Verification, VerificationKind};
use crate::catalog::{key, list, sample, write_verification};
use crate::config::RetentionConfig;
use crate::ids::RunId;
use crate::manifest::MANIFEST;
use crate::store::fault::{Call, Fault, FaultStore};
use crate::store::memory::MemoryStore;

fn ours() -> DeploymentId {
    sample::intent().deployment.id
}

fn theirs() -> DeploymentId {
    "0123456789abcdef01234567".parse().unwrap()
}

fn rules() -> Rules {
    let config = RetentionConfig {
        keep_last: 1,
        keep_within: Some("1s".parse().unwrap()),
        ..RetentionConfig::default()
    };
    config.rules(false)
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn day(day: i64) -> Timestamp {
    at("2026-01-01T02:00:00Z") + (24 * day).hours()
}

fn both() -> Vec<Scope> {
    let scope = |name| Scope {
        deployment: ours(),
        shard: sample::shard(name),
    };
    sample::SHARDS.map(scope).into()
}

/// Prunes what is in `store` by the rules, with the leases that are wanted for that in hand.
async fn swept(store: &SharedStore, rules: &Rules, now: Timestamp) -> Result<Pruned, PruneError> {
    let home = tempfile::tempdir().unwrap();
    let mut run = Run::begin(home.path(), PRUNE).unwrap();
    for scope in both() {
        lease::take_for(store.as_ref(), &scope, run.id(), COUNTS, Work::Prune).await?;
    }
    let (ours, cancel) = (ours(), CancellationToken::new());
    let order = Order {
        store,
        ours: &ours,
        rules,
        copies: &[],
        state_dir: Path::new("/nonexistent"),
        cancel: &cancel,
    };
    let mut pruned = prune_of_nothing();
    let tools = Tools::for_tests();
    sweep(&mut run, &mut pruned, &order, &tools, &both(), now).await?;
    Ok(pruned)
}

fn prune_of_nothing() -> Pruned {
    Pruned {
        plan: None,
        outcomes: BTreeMap::new(),
        ended: Ok(()),
    }
}

/// Takes the leases of [`swept`] away, as their time would.
async fn without_leases(memory: &MemoryStore) {
    for object in memory.list("lease-").await.unwrap() {
        memory.delete(&object.key).await.unwrap();
    }
}

async fn of_days(days: &[i64]) -> (MemoryStore, SharedStore) {
    let memory = MemoryStore::new();
    for number in days {
        let id = BackupId::at(day(*number));
        sample::write_as(&memory, id, &ours(), &["rs0"], true).await;
    }
    (memory.clone(), Arc::new(memory))
}

async fn states(store: &dyn Store) -> Vec<(BackupId, SetState)> {
    let sets = list(store).await.unwrap().into_iter();
    sets.map(|set| (set.id, set.state)).collect()
}

#[tokio::test]
async fn a_crash_at_any_call_leaves_whole_backups_or_none_and_the_next_prune_clears_up() {
    let newest = BackupId::at(day(9));
    for call in Call::ALL {
        for nth in 1.. {
            let (memory, _) = of_days(&[1, 2, 9]).await;
            let faulty = FaultStore::new(Arc::new(memory.clone()));
            let store: SharedStore = Arc::new(faulty.clone());
            faulty.fail(call, nth, ErrorKind::TimedOut);
            let pruned = swept(&store, &rules(), day(10)).await;
            let failed = faulty.all_failed();
            for (id, state) in states(&memory).await {
                match id == newest {
                    true => assert_eq!(state, SetState::Complete),
                    false => assert!(
                        matches!(state, SetState::Complete | SetState::Unfinished),
                        "{call:?} {nth}: {id} is {state:?}"
                    ),
                }
            }
            if failed && call == Call::Delete {
                assert_eq!(pruned.unwrap().exit().unwrap(), Exit::Store);
            }
            without_leases(&memory).await;
            let store: SharedStore = Arc::new(memory.clone());
            let pruned = swept(&store, &rules(), day(10)).await.unwrap();
            assert_eq!(pruned.exit().unwrap(), Exit::Done);
            assert_eq!(states(&memory).await, [(newest, SetState::Complete)]);
            let left = memory.list(BackupId::PREFIX).await.unwrap();
            assert!(left.iter().all(|one| one.key.starts_with(&key(newest, ""))));
            if !failed {
                assert!(nth > 1 || !matches!(call, Call::Delete | Call::List));
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_may_not_be_removed_keeps_nothing_else() {
    for (kind, second) in [
        (ErrorKind::PermissionDenied, true),
        (ErrorKind::TimedOut, false),
    ] {
        let (memory, _) = of_days(&[1, 2, 9]).await;
        let faulty = FaultStore::new(Arc::new(memory.clone()));
        faulty.fail(Call::Delete, 1, kind);
        let store: SharedStore = Arc::new(faulty);
        let pruned = swept(&store, &rules(), day(10)).await.unwrap();
        let outcomes: Vec<_> = pruned.outcomes.values().collect();
        assert!(matches!(outcomes[0], Outcome::Failed(_)), "{outcomes:?}");
        match second {
            true => assert!(matches!(outcomes[1], Outcome::Removed), "{outcomes:?}"),
            false => assert!(matches!(outcomes[1], Outcome::Later), "{outcomes:?}"),
        }
        assert_eq!(pruned.exit().unwrap(), Exit::Store);
        // Nothing of the first was touched.
        assert_eq!(
            states(&memory).await[0],
            (BackupId::at(day(1)), SetState::Complete)
        );
    }
}

#[tokio::test]
async fn who_comes_while_a_backup_is_removed_still_has_it() {
    let id = BackupId::at(day(1));
    let reader = Reader::new(RunId::random(), day(11));
    for object in [HOLD.to_owned(), reader.object()] {
        let (memory, _) = of_days(&[1, 9]).await;
        let before = memory.list("").await.unwrap();
        memory.put(&key(id, &object), b"{}").await.unwrap();
        let faulty = FaultStore::new(Arc::new(memory.clone()));
        let gone = |store: FaultStore| async move { remove(&store, id, true, day(10)).await };
        assert_eq!(gone(faulty.clone()).await.unwrap(), Removed::Spared);
        // It came a moment after the first look.
        faulty.add(Fault::Unlisted {
            ending: object.clone(),
        });
        assert_eq!(gone(faulty.clone()).await.unwrap(), Removed::Spared);
        // The same, and the second look fails.
        faulty.add(Fault::Unlisted {
            ending: object.clone(),
        });
        faulty.fail(Call::List, 2, ErrorKind::TimedOut);
        gone(faulty.clone()).await.unwrap_err();
        assert!(faulty.all_failed());
        memory.delete(&key(id, &object)).await.unwrap();
        assert_eq!(memory.list("").await.unwrap(), before, "{object}");
        assert_eq!(gone(faulty).await.unwrap(), Removed::Gone);
    }
}

#[tokio::test]
async fn what_was_never_finished_goes_with_what_is_half_written_of_it() {
    let (memory, store) = of_days(&[9]).await;
    let id = BackupId::at(day(1));
    sample::write_as(&memory, id, &ours(), &["rs0"], false).await;
    let half = key(id, "half.tar.xz");
    let _writer = memory.create(&half, None).await.unwrap();
    // It was finished a moment ago: then it stays.
    assert_eq!(
        remove(&memory, BackupId::at(day(9)), false, day(10))
            .await
            .unwrap(),
        Removed::Spared
    );
    let pruned = swept(&store, &rules(), day(10)).await.unwrap();
    assert!(matches!(pruned.outcomes[&id], Outcome::Removed));
    assert!(memory.list(&key(id, "")).await.unwrap().is_empty());
    assert!(memory.unfinished(&key(id, "")).await.unwrap().is_empty());
}

#[tokio::test]
async fn nothing_is_pruned_beside_a_backup_that_is_written() {
    let home = tempfile::tempdir().unwrap();
    let (state, folder) = (home.path().join("state"), home.path().join("store"));
    std::fs::create_dir(&folder).unwrap();
    let url = folder.to_str().unwrap();
    let store = crate::store::open(url, &Default::default(), &Default::default()).unwrap();
    for number in [1, 9] {
        let id = BackupId::at(day(number));
        sample::write_as(store.as_ref(), id, &ours(), &["rs0"], true).await;
    }
    let (ours, rules, cancel) = (ours(), rules(), CancellationToken::new());
    let order = Order {
        store: &store,
        ours: &ours,
        rules: &rules,
        copies: &[],
        state_dir: &state,
        cancel: &cancel,
    };
    let tools = Tools::for_tests();
    let (scope, writer) = (both().remove(0), RunId::random());
    lease::take(store.as_ref(), &scope, writer, COUNTS)
        .await
        .unwrap();
    let refused = prune(&order, &tools, day(10)).await.ended.unwrap_err();
    assert_eq!(refused.exit(), Exit::Refused);
    assert!(
        refused.to_string().contains("is writing a backup of rs0"),
        "{refused}"
    );
    assert_eq!(states(store.as_ref()).await.len(), 2);
    lease::give_back(store.as_ref(), &scope, writer)
        .await
        .unwrap();

    // A lease that somebody took over is noticed before anything goes.
    let mut other = Run::begin(home.path(), PRUNE).unwrap();
    let mut none = prune_of_nothing();
    let lost = sweep(&mut other, &mut none, &order, &tools, &both(), day(10))
        .await
        .unwrap_err();
    assert!(
        matches!(lost, PruneError::Lease(LeaseError::Lost { .. })),
        "{lost}"
    );
    assert_eq!(states(store.as_ref()).await.len(), 2);

    // Asked to end: what was to go is told all the same.
    cancel.cancel();
    let ended = prune(&order, &tools, day(10)).await;
    assert_eq!(ended.plan.as_ref().unwrap().dropped().count(), 1);
    let outcomes: Vec<_> = ended.outcomes.values().collect();
    assert!(matches!(outcomes[..], [Outcome::Later]), "{outcomes:?}");
    assert_eq!(ended.exit().unwrap_err().exit(), Exit::Interrupted);

    let cancel = CancellationToken::new();
    let order = Order {
        cancel: &cancel,
        ..order
    };
    let pruned = prune(&order, &tools, day(10)).await;
    assert!(matches!(
        pruned.outcomes[&BackupId::at(day(1))],
        Outcome::Removed
    ));
    assert_eq!(pruned.exit().unwrap(), Exit::Done);
    assert_eq!(states(store.as_ref()).await.len(), 1);
    assert!(!folder.join(BackupId::at(day(1)).to_string()).exists());
    // Lease and journal are given back.
    assert_eq!(lease::holder(store.as_ref(), &scope).await.unwrap(), None);
    assert_eq!(std::fs::read_dir(state.join("runs")).unwrap().count(), 0);
}

/// What can happen to a store.
#[derive(Debug, Clone)]
enum Event {
    Backup {
        both: bool,
        finished: bool,
        other: bool,
    },
    /// An archive of a set is lost.
    Rot(prop::sample::Index),
    /// A manifest becomes garbage.
    Spoil(prop::sample::Index),
    Verify(prop::sample::Index, bool),
    Hold(prop::sample::Index),
    Release(prop::sample::Index),
    Read(prop::sample::Index),
    /// Time goes on, or a clock jumps, by so many hours.
    Clock(i64),
    /// A prune; the nth such call fails.
    Prune {
        fault: Option<(usize, u32)>,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (prop::bool::weighted(0.3), prop::bool::weighted(0.8), prop::bool::weighted(0.15))
            .prop_map(|(both, finished, other)| Event::Backup { both, finished, other }),
        2 => index().prop_map(Event::Rot),
        1 => index().prop_map(Event::Spoil),
        2 => (index(), any::<bool>()).prop_map(|(which, passed)| Event::Verify(which, passed)),
        1 => index().prop_map(Event::Hold),
        1 => index().prop_map(Event::Release),
        1 => index().prop_map(Event::Read),
        4 => (1i64..100).prop_map(Event::Clock),
        1 => (-20_000i64..20_000).prop_map(Event::Clock),
        2 => (-500i64..500).prop_map(Event::Clock),
        5 => prop::option::of((0..Call::ALL.len(), 1u32..12)).prop_map(|fault| Event::Prune { fault }),
    ]
}

struct World {
    memory: MemoryStore,
    now: Timestamp,
    rules: Rules,
}

/// A set as it was before a prune, with the names of its objects.
type Before = (SetSummary, Vec<String>);

impl World {
    async fn sets(&self) -> Vec<SetSummary> {
        list(&self.memory).await.unwrap()
    }

    async fn chosen(&self, index: prop::sample::Index) -> Option<SetSummary> {
        let sets = self.sets().await;
        (!sets.is_empty()).then(|| sets[index.index(sets.len())].clone())
    }

    async fn objects(&self, id: BackupId) -> Vec<String> {
        let found = self.memory.list(&key(id, "")).await.unwrap();
        found.into_iter().map(|object| object.key).collect()
    }

    async fn happens(&mut self, event: Event) {
        match event {
            Event::Backup {
                both,
                finished,
                other,
            } => {
                let id = BackupId::at(self.now);
                if self.objects(id).await.is_empty() {
                    let names: &[&str] = if both { &["rs0", "rs1"] } else { &["rs0"] };
                    let of = if other { theirs() } else { ours() };
                    sample::write_as(&self.memory, id, &of, names, finished).await;
                }
            }
            Event::Rot(index) => {
                if let Some(set) = self.chosen(index).await {
                    let archive = key(set.id, "rs0.tar.xz");
                    self.memory.delete(&archive).await.unwrap();
                }
            }
            Event::Spoil(index) => {
                if let Some(set) = self.chosen(index).await {
                    self.memory
                        .replace(&key(set.id, MANIFEST), b"garbage".to_vec());
                }
            }
            Event::Verify(index, passed) => {
                if let Some(set) = self.chosen(index).await {
                    let outcome = if passed {
                        Found::Passed
                    } else {
                        Found::Damaged
                    };
                    let record = self.verification(set.id, outcome);
                    let _ = write_verification(&self.memory, &record).await;
                }
            }
            Event::Hold(index) => {
                if let Some(set) = self.chosen(index).await {
                    // One that is no backup cannot be held, which is well.
                    let _ = hold(&self.memory, set.id, Hold::default()).await;
                }
            }
            Event::Release(index) => {
                if let Some(set) = self.chosen(index).await {
                    crate::catalog::hold::release(&self.memory, set.id)
                        .await
                        .unwrap();
                }
            }
            Event::Read(index) => {
                if let Some(set) = self.chosen(index).await {
                    let mark = Reader::new(RunId::random(), self.now + 24.hours());
                    let mark = key(set.id, &mark.object());
                    self.memory.put(&mark, b"{}").await.unwrap();
                }
            }
            Event::Clock(hours) => self.now += hours.hours(),
            Event::Prune { fault } => self.prune(fault).await,
        }
    }

    fn verification(&self, id: BackupId, outcome: Found) -> Verification {
        Verification {
            format: crate::manifest::FORMAT_FIRST,
            id,
            kind: VerificationKind::Hashes,
            outcome,
            at: self.now,
            tool: "test".into(),
            host: "test".into(),
            bytes: 0,
            seconds: 0,
            findings: Vec::new(),
            details: serde_json::Value::Null,
        }
    }

    async fn prune(&self, fault: Option<(usize, u32)>) {
        let mut before: Vec<Before> = Vec::new();
        for set in self.sets().await {
            let objects = self.objects(set.id).await;
            before.push((set, objects));
        }
        let faulty = FaultStore::new(Arc::new(self.memory.clone()));
        if let Some((call, nth)) = fault {
            faulty.fail(Call::ALL[call], nth, ErrorKind::TimedOut);
        }
        let store: SharedStore = Arc::new(faulty);
        let _ = swept(&store, &self.rules, self.now).await;
        without_leases(&self.memory).await;
        for (set, objects) in &before {
            let untouched = self.objects(set.id).await == *objects;
            if self.must_stay(set, &before) {
                assert!(untouched, "{set:?} of {before:#?} at {}", self.now);
            } else if !untouched && let Some(left) = self.find(set.id).await {
                // What is left of it is no backup to anybody.
                let rest = [SetState::Unfinished, SetState::Unreadable];
                assert!(rest.contains(&left.state), "{left:?}");
            }
        }
    }

    async fn find(&self, id: BackupId) -> Option<SetSummary> {
        self.sets().await.into_iter().find(|set| set.id == id)
    }

    /// The promises, told without the rules.
    fn must_stay(&self, set: &SetSummary, all: &[Before]) -> bool {
        let shards = |set: &SetSummary| -> Vec<_> {
            set.members.iter().map(|one| one.shard.clone()).collect()
        };
        let good = |set: &SetSummary| set.state == SetState::Complete && set.started <= self.now;
        let newer_good = all.iter().any(|(other, _)| {
            good(other)
                && other.id > set.id
                && shards(other) == shards(set)
                && other.deployment == set.deployment
        });
        set.deployment != Some(ours())
            || set.hold.is_some()
            || set.readers.iter().any(|reader| reader.until > self.now)
            || set.started > self.now
            || !newer_good
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn nothing_loses_the_last_good_backup(
        events in prop::collection::vec(event(), 1..30),
        keep_last in 1u32..3,
        daily in 0u32..3,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let rules = Rules { keep_last, daily, ..rules() };
            let mut world = World { memory: MemoryStore::new(), now: day(100), rules };
            for event in events {
                world.happens(event).await;
            }
        });
    }
}
