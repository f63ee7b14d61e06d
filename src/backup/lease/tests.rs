use std::io::ErrorKind;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::*;
use crate::error::{Exit, Explain};
use crate::store::fault::{Call, FaultStore};
use crate::store::memory::MemoryStore;
use crate::store::{ObjectInfo, ObjectWriter, SharedStore};

const HOUR: Duration = Duration::from_secs(3600);

fn scope() -> Scope {
    Scope {
        deployment: "0123456789abcdef01234567".parse().unwrap(),
        shard: "rs0".parse().unwrap(),
    }
}

fn run(number: u32) -> RunId {
    format!("{number:08}").parse().unwrap()
}

async fn try_take(store: &dyn Store, number: u32) -> Result<(), LeaseError> {
    take(store, &scope(), run(number), HOUR).await
}

async fn give(store: &dyn Store, number: u32) {
    give_back(store, &scope(), run(number)).await.unwrap();
}

async fn objects(store: &dyn Store) -> Vec<String> {
    let listed = store.list(&scope().folder()).await.unwrap();
    listed.into_iter().map(|object| object.key).collect()
}

#[tokio::test]
async fn one_run_has_it_until_it_gives_it_back() {
    let store = MemoryStore::new();
    try_take(&store, 1).await.unwrap();
    let error = try_take(&store, 2).await.unwrap_err();
    let told = holder(&store, &scope()).await.unwrap().unwrap();
    assert!(error.to_string().contains(&told.to_string()), "{error}");
    assert_eq!((told.run, told.host), (run(1), host::name()));
    assert!(told.ends.duration_since(told.since) >= SignedDuration::from_hours(24));
    assert_eq!(error.exit(), Exit::Refused);
    let hint = error.hint().unwrap();
    let names = "lease-0123456789abcdef01234567/rs0/00000001.json";
    assert!(hint.contains(names), "{hint}");
    // Another deployment is another matter, so is another shard, and another's lease is not given back.
    let mut other = scope();
    other.shard = "rs1".parse().unwrap();
    take(&store, &other, run(2), HOUR).await.unwrap();
    other.deployment = "89abcdef0123456701234567".parse().unwrap();
    take(&store, &other, run(2), HOUR).await.unwrap();
    give(&store, 2).await;
    assert!(try_take(&store, 2).await.is_err());
    give(&store, 1).await;
    give(&store, 1).await;
    try_take(&store, 2).await.unwrap();
    give(&store, 2).await;
}

#[tokio::test]
async fn what_stays_in_the_store_does_not_grow() {
    let store = MemoryStore::new();
    for number in 1..=20 {
        try_take(&store, number).await.unwrap();
        give(&store, number).await;
    }
    assert_eq!(objects(&store).await.len(), 4);
    assert!(store.get(&scope().key(20)).is_some());
}

#[tokio::test]
async fn where_nothing_may_be_deleted_a_marker_does() {
    let store = FaultStore::new(Arc::new(MemoryStore::new()));
    for number in 1..=5 {
        try_take(&store, number).await.unwrap();
        assert!(try_take(&store, 9).await.is_err());
        store.fail(Call::Delete, 1, ErrorKind::PermissionDenied);
        give(&store, number).await;
    }
    assert_eq!(objects(&store).await.len(), 10);
}

#[tokio::test]
async fn a_marker_that_is_left_alone_voids_no_other_lease() {
    for present in 1..=3 {
        let store = MemoryStore::new();
        for number in 1..=present {
            let marker = format!("{}{RELEASED}", scope().key(number));
            store.put(&marker, b"").await.unwrap();
        }
        try_take(&store, 1).await.unwrap();
        assert!(try_take(&store, 2).await.is_err());
        give(&store, 1).await;
        try_take(&store, 2).await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_give_back_leaves_a_lease_that_works() {
    for call in [Call::List, Call::Size, Call::Read, Call::Put, Call::Delete] {
        for nth in 1..=4 {
            let store = MemoryStore::new();
            for number in 1..=4 {
                try_take(&store, number).await.unwrap();
                give(&store, number).await;
            }
            try_take(&store, 5).await.unwrap();
            let broken = FaultStore::new(Arc::new(store.clone()));
            broken.fail(call, nth, ErrorKind::TimedOut);
            if give_back(&broken, &scope(), run(5)).await.is_err() {
                assert!(try_take(&store, 6).await.is_err(), "{call:?} {nth}");
                give(&store, 5).await;
            }
            try_take(&store, 7).await.unwrap();
            assert!(try_take(&store, 8).await.is_err(), "{call:?} {nth}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_backup_waits_for_a_prune_and_for_nothing_else() {
    let store = MemoryStore::new();
    let cancel = CancellationToken::new();
    let backup = |number| {
        let (store, cancel) = (store.clone(), cancel.clone());
        async move {
            take_after_prune(&store, &scope(), (run(number), Work::Backup), HOUR, &cancel).await
        }
    };
    let prune = async |number| {
        take_for(&store, &scope(), run(number), HOUR, Work::Prune)
            .await
            .unwrap();
    };
    prune(1).await;
    let ends = async {
        tokio::time::sleep(PRUNE_IS_WAITED_FOR / 2).await;
        give(&store, 1).await;
    };
    let (taken, ()) = tokio::join!(backup(2), ends);
    taken.unwrap();
    // Of a backup it is told at once.
    let began = Instant::now();
    let error = backup(3).await.unwrap_err();
    assert!(matches!(error, LeaseError::Held { .. }), "{error}");
    assert_eq!(began.elapsed(), Duration::ZERO);
    give(&store, 2).await;
    // Of a prune that does not end after a time.
    prune(4).await;
    let error = backup(5).await.unwrap_err();
    assert!(matches!(error, LeaseError::Held { .. }), "{error}");
    assert!(began.elapsed() >= PRUNE_IS_WAITED_FOR);
    cancel.cancel();
    let error = backup(6).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Interrupted, "{error}");
}

#[tokio::test]
async fn what_a_lease_is_for_is_told() {
    let store = MemoryStore::new();
    take_for(&store, &scope(), run(1), HOUR, Work::Prune)
        .await
        .unwrap();
    let told = holder(&store, &scope()).await.unwrap().unwrap();
    assert_eq!(told.work, Work::Prune);
    assert!(
        told.to_string().contains("is pruning backups of rs0"),
        "{told}"
    );
    // A newer program's is held as well, and an older one's is for a backup.
    for (number, work, found) in [
        (2, serde_json::json!("audit"), Work::Other),
        (4, serde_json::json!("copy"), Work::Copy),
        (5, serde_json::Value::Null, Work::Backup),
    ] {
        let mut document = serde_json::to_value(lease(run(number), HOUR, Work::Prune)).unwrap();
        let fields = document.as_object_mut().unwrap();
        match work.is_null() {
            true => fields.remove("work"),
            false => fields.insert("work".into(), work),
        };
        let document = serde_json::to_vec(&document).unwrap();
        let key = scope().key(number.into());
        store.put(&key, &document).await.unwrap();
        let told = holder(&store, &scope()).await.unwrap().unwrap();
        assert_eq!(told.work, found);
    }
}

async fn put_lease(store: &MemoryStore, number: u64, change: impl FnOnce(&mut Lease)) {
    let mut lease = lease(run(1), HOUR, Work::Backup);
    change(&mut lease);
    let document = serde_json::to_vec(&lease).unwrap();
    store.put(&scope().key(number), &document).await.unwrap();
}

#[tokio::test]
async fn one_past_its_time_counts_no_more() {
    let store = MemoryStore::new();
    put_lease(&store, 7, |lease| {
        lease.ends = "2026-01-02T00:00:00Z".parse().unwrap()
    })
    .await;
    assert_eq!(holder(&store, &scope()).await.unwrap(), None);
    try_take(&store, 2).await.unwrap();
    assert!(store.size(&scope().key(8)).await.is_ok());
}

#[tokio::test]
async fn one_that_another_run_has_taken_meanwhile_is_lost() {
    let store = MemoryStore::new();
    let still = async |number| still_ours(&store, &scope(), run(number)).await;
    assert!(matches!(still(1).await, Err(LeaseError::Lost { .. })));
    // Past its time, and still nobody else's.
    put_lease(&store, 1, |lease| {
        lease.run = run(1);
        lease.ends = "2026-01-02T00:00:00Z".parse().unwrap();
    })
    .await;
    still(1).await.unwrap();
    try_take(&store, 2).await.unwrap();
    let error = still(1).await.unwrap_err();
    assert!(matches!(error, LeaseError::Lost { .. }), "{error}");
    assert_eq!(error.exit(), Exit::BackupFailed);
    still(2).await.unwrap();
    give(&store, 2).await;
    assert!(matches!(still(2).await, Err(LeaseError::Lost { .. })));
}

#[tokio::test]
async fn one_that_cannot_be_read_is_held_until_somebody_says_otherwise() {
    for document in ["", "{}", "[1]", "no lease", r#"{"format":1,"run":"x"}"#] {
        let store = MemoryStore::new();
        let key = scope().key(3);
        store.put(&key, document.as_bytes()).await.unwrap();
        let error = try_take(&store, 2).await.unwrap_err();
        assert!(matches!(error, LeaseError::Unreadable { .. }), "{error}");
        assert_eq!(error.exit(), Exit::Refused);
        assert!(error.hint().unwrap().contains(&key));
        give(&store, 2).await;
        assert!(try_take(&store, 2).await.is_err());
        store.put(&format!("{key}{RELEASED}"), b"").await.unwrap();
        try_take(&store, 2).await.unwrap();
    }
    let store = MemoryStore::new();
    put_lease(&store, 1, |lease| lease.format = 2).await;
    let error = try_take(&store, 2).await.unwrap_err();
    assert!(error.to_string().contains("format is 2"), "{error}");
    let large = vec![b' '; usize::try_from(LARGEST).unwrap() + 1];
    store.replace(&scope().key(1), large);
    assert!(matches!(
        try_take(&store, 2).await,
        Err(LeaseError::Unreadable { .. })
    ));
}

/// Waits for a random time before each call and after it, and does not always delete: with tokio's time
/// stopped, an order of calls that the seed alone decides.
#[derive(Debug)]
struct Hesitant {
    inner: MemoryStore,
    random: Mutex<fastrand::Rng>,
}

impl Hesitant {
    async fn hesitate(&self) {
        let pause = {
            let mut random = self.random.lock().unwrap();
            // Now and then somebody sleeps through all that the others do.
            let long = random.u8(0..12) == 0;
            random.u64(0..if long { 2000 } else { 20 })
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

#[async_trait]
impl Store for Hesitant {
    fn url(&self) -> String {
        self.inner.url()
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.hesitate().await;
        let listed = self.inner.list(prefix).await;
        self.hesitate().await;
        listed
    }

    async fn put(&self, key: &str, content: &[u8]) -> Result<ObjectInfo, StoreError> {
        self.hesitate().await;
        let put = self.inner.put(key, content).await;
        self.hesitate().await;
        put
    }

    async fn create(
        &self,
        key: &str,
        expected: Option<u64>,
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        self.inner.create(key, expected).await
    }

    async fn size(&self, key: &str) -> Result<u64, StoreError> {
        self.hesitate().await;
        self.inner.size(key).await
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.hesitate().await;
        self.inner.read(key, range).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.hesitate().await;
        if self.random.lock().unwrap().u8(0..4) == 0 {
            return Err(StoreError::Denied {
                action: "delete",
                store: self.url(),
                key: key.to_owned(),
                detail: "by chance".into(),
            });
        }
        self.inner.delete(key).await
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.inner.unfinished(prefix).await
    }

    async fn discard_unfinished(&self, id: &str) -> Result<(), StoreError> {
        self.inner.discard_unfinished(id).await
    }
}

#[tokio::test(start_paused = true)]
async fn however_hosts_come_and_go_never_two_have_it() {
    let seed = std::env::var("FREEZEFRAME_TEST_SEED")
        .map_or_else(|_| fastrand::u64(..1 << 32), |seed| seed.parse().unwrap());
    println!("FREEZEFRAME_TEST_SEED={seed}");
    let mut taken_in_all = 0;
    for round in 0..200 {
        let random = fastrand::Rng::with_seed(seed.wrapping_add(round));
        let store: SharedStore = Arc::new(Hesitant {
            inner: MemoryStore::new(),
            random: Mutex::new(random),
        });
        let (holders, taken) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let hosts = (0..6).map(|host| {
            let (store, holders, taken) = (store.clone(), holders.clone(), taken.clone());
            tokio::spawn(async move {
                for turn in 0..8 {
                    let number = host * 100 + turn;
                    match try_take(store.as_ref(), number).await {
                        Ok(()) => {
                            let others = holders.fetch_add(1, Ordering::SeqCst);
                            assert_eq!(others, 0, "seed {seed}, round {round}: two hold the lease");
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            holders.fetch_sub(1, Ordering::SeqCst);
                            taken.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(LeaseError::Held { .. }) => {}
                        Err(error) => panic!("seed {seed}, round {round}: {error}"),
                    }
                    give(store.as_ref(), number).await;
                }
            })
        });
        for host in futures_util::future::join_all(hosts).await {
            host.unwrap();
        }
        // And it is free in the end.
        try_take(store.as_ref(), 999).await.unwrap();
        taken_in_all += taken.load(Ordering::SeqCst);
    }
    println!("taken {taken_in_all} times");
    assert!(taken_in_all > 200);
}

#[tokio::test]
async fn of_many_that_try_at_once_one_has_it() {
    for _ in 0..50 {
        let store: SharedStore = Arc::new(MemoryStore::new());
        let trying = (1..=8).map(|number| {
            let store = store.clone();
            tokio::spawn(async move { try_take(store.as_ref(), number).await.is_ok() })
        });
        let taken = futures_util::future::join_all(trying).await;
        let winners = taken.into_iter().filter(|taken| *taken.as_ref().unwrap());
        assert_eq!(winners.count(), 1);
    }
}
