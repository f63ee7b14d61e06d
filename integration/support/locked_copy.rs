//! One data directory for all tests of the way back: a hidden member locked under load, with the commit point
//! held behind the oplog's top, and what a restore of it must give.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use freezeframe::ids::{BackupId, Hash, MemberAddr, OpTime, RunId};
use freezeframe::manifest::{
    ArchiveRecord, Deployment, FORMAT_FIRST, FileTableRecord, Manifest, MemberRecord, Role,
    StorageLayout, WindowRecord,
};
use mongodb::Client;
use mongodb::bson::{Document, Timestamp, doc};
use mongodb::options::{Acknowledgment, ClientOptions, ServerAddress, WriteConcern};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::mongod::{Options, ReplicaSet, until};

/// Collections of database `app`, all of them.
const COLLECTIONS: [&str; 5] = ["accounts", "cold", "items", "seq", "transfers"];
const ACCOUNTS: i64 = 200;
/// So many changes at least must be in the oplog only, not in the stable checkpoint.
const AHEAD: u64 = 500;

static LOCKED: OnceCell<LockedCopy> = OnceCell::const_new();

/// Documents of each collection, by `_id`.
pub type Contents = BTreeMap<String, Vec<Document>>;

/// The copy and what is known about it.
pub struct LockedCopy {
    /// The copied data directory; never started on.
    pub db_path: PathBuf,
    /// The manifest of a backup that holds it.
    pub manifest: Manifest,
    /// Its only member.
    pub record: MemberRecord,
    /// What the primary's own history says about the moment of the optime.
    pub expected: Contents,
    /// File of the collection `app.cold`, which is not written while locked.
    pub cold_file: String,
}

impl LockedCopy {
    /// The copy, made when first asked for.
    pub async fn get() -> &'static Self {
        LOCKED.get_or_init(Self::make).await
    }

    /// A copy of the copy, to be worked on.
    pub fn fresh(&self) -> (TempDir, PathBuf) {
        let dir = TempDir::new().unwrap();
        let db_path = dir.path().join("db");
        fs::create_dir(&db_path).unwrap();
        copy_tree(&self.db_path, &db_path);
        (dir, db_path)
    }

    async fn make() -> Self {
        let set = ReplicaSet::start(Options::default()).await;
        let (primary, hidden) = (set.admin(0).await, set.admin(2).await);
        let voter = Pid::from_raw(set.members[1].pid() as i32);
        stand_a_stopped_voter(&primary).await;
        fill(&primary).await;

        // The default would be majority, and nobody would write while the voter is stopped.
        let one = WriteConcern::from(Acknowledgment::Nodes(1));
        let writer = client_with(set.addr(0), Some(one));
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = tokio::task::JoinSet::new();
        for i in 0..3 {
            writers.spawn(insert_in_order(writer.clone(), i, stop.clone()));
            writers.spawn(transfer(writer.clone(), i.into(), stop.clone()));
            writers.spawn(churn(writer.clone(), i, stop.clone()));
        }
        until("all writers have begun", async || {
            count(&primary, "seq").await > 100
        })
        .await;

        // With the other voter stopped nothing commits, so the stable checkpoint stays behind what the hidden
        // member applies: part of the state at the optime is only in the oplog.
        kill(voter, Signal::SIGSTOP).unwrap();
        until(
            "the hidden member is ahead of the commit point",
            async || {
                let status = admin(&hidden, doc! { "replSetGetStatus": 1 }).await;
                let optimes = status.get_document("optimes").unwrap();
                let committed = optimes.get_document("lastCommittedOpTime").unwrap();
                entries_after(&hidden, committed.get_timestamp("ts").unwrap()).await >= AHEAD
            },
        )
        .await;
        admin(&hidden, doc! { "fsync": 1, "lock": true }).await;
        let top = newest_entry(&hidden).await;
        let status = admin(&hidden, doc! { "replSetGetStatus": 1 }).await;
        let ts = top.get_timestamp("ts").unwrap();
        let stable = status.get_timestamp("lastStableRecoveryTimestamp");
        let ahead = entries_after(&hidden, stable.unwrap()).await;
        assert!(ahead >= AHEAD, "the commit point was not behind: {ahead}");
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("locked-copy");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        copy_tree(&set.members[2].db_path, &dir);
        admin(&hidden, doc! { "fsyncUnlock": 1 }).await;
        kill(voter, Signal::SIGCONT).unwrap();

        let expected = contents(&primary, Some(ts)).await;
        stop.store(true, Ordering::Relaxed);
        while let Some(writer) = writers.join_next().await {
            writer.unwrap();
        }
        let total: i64 = expected["accounts"]
            .iter()
            .map(|a| a.get_i64("v").unwrap())
            .sum();
        assert_eq!(total, ACCOUNTS * 1000, "the expectation itself is torn");
        let stats = hidden
            .database("app")
            .run_command(doc! { "collStats": "cold" })
            .await
            .unwrap();
        let uri = stats
            .get_document("wiredTiger")
            .unwrap()
            .get_str("uri")
            .unwrap();
        let version = admin(&hidden, doc! { "buildInfo": 1 }).await;
        let record = record(
            set.addr(2).clone(),
            version.get_str("version").unwrap(),
            &set.members[2].db_path,
            OpTime {
                seconds: ts.time,
                increment: ts.increment,
                term: top.get_i64("t").unwrap(),
            },
        );
        Self {
            db_path: dir,
            manifest: manifest(record.clone()),
            record,
            expected,
            cold_file: format!("{}.wt", uri.rsplit_once(':').unwrap().1),
        }
    }
}

/// Copies what is in `from` into the directory `into`, as it is.
pub fn copy_tree(from: &Path, into: &Path) {
    let copied = Command::new("cp")
        .arg("-a")
        .arg(from.join("."))
        .arg(into)
        .status();
    assert!(copied.unwrap().success());
}

/// A driver client of one mongod without authentication.
pub fn client(addr: &MemberAddr) -> Client {
    client_with(addr, None)
}

fn client_with(addr: &MemberAddr, write_concern: Option<WriteConcern>) -> Client {
    let mut options = ClientOptions::default();
    options.hosts = vec![ServerAddress::Tcp {
        host: addr.host.clone(),
        port: Some(addr.port),
    }];
    options.direct_connection = Some(true);
    options.write_concern = write_concern;
    Client::with_options(options).unwrap()
}

/// Everything in database `app`: now, or as it was `at` a moment.
pub async fn contents(client: &Client, at: Option<Timestamp>) -> Contents {
    let app = client.database("app");
    let mut contents = Contents::new();
    // A cursor belongs to the session it was opened in.
    let mut session = client.start_session().await.unwrap();
    for collection in COLLECTIONS {
        let mut find = doc! { "find": collection, "sort": { "_id": 1 } };
        if let Some(at) = at {
            find.insert(
                "readConcern",
                doc! { "level": "snapshot", "atClusterTime": at },
            );
        }
        let mut documents = Vec::new();
        let mut reply = app.run_command(find).session(&mut session).await.unwrap();
        loop {
            let cursor = reply.get_document("cursor").unwrap();
            let batch = cursor
                .get_array("firstBatch")
                .or_else(|_| cursor.get_array("nextBatch"));
            let batch = batch
                .unwrap()
                .iter()
                .map(|item| item.as_document().unwrap().clone());
            documents.extend(batch);
            let id = cursor.get_i64("id").unwrap();
            if id == 0 {
                break;
            }
            let more = doc! { "getMore": id, "collection": collection };
            reply = app.run_command(more).session(&mut session).await.unwrap();
        }
        contents.insert(collection.to_owned(), documents);
    }
    contents
}

async fn admin(client: &Client, command: Document) -> Document {
    client.database("admin").run_command(command).await.unwrap()
}

async fn newest_entry(client: &Client) -> Document {
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let newest = oplog.find_one(doc! {}).sort(doc! { "$natural": -1 });
    newest.await.unwrap().unwrap()
}

/// How many changes of user data follow `after` in the oplog.
async fn entries_after(client: &Client, after: Timestamp) -> u64 {
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let changes = doc! { "ts": { "$gt": after }, "op": { "$ne": "n" } };
    oplog.count_documents(changes).await.unwrap()
}

async fn count(client: &Client, collection: &str) -> u64 {
    let collection = client.database("app").collection::<Document>(collection);
    collection.estimated_document_count().await.unwrap()
}

/// So that the hidden member follows the primary while the other secondary is stopped, and the primary does
/// not step down for the lack of it.
async fn stand_a_stopped_voter(primary: &Client) {
    let reply = admin(primary, doc! { "replSetGetConfig": 1 }).await;
    let mut config = reply.get_document("config").unwrap().clone();
    let version = config.get_i32("version").unwrap();
    config.insert("version", version + 1);
    let settings = config.get_document_mut("settings").unwrap();
    settings.insert("chainingAllowed", false);
    settings.insert("electionTimeoutMillis", 300_000);
    admin(primary, doc! { "replSetReconfig": config }).await;
}

async fn fill(primary: &Client) {
    let app = primary.database("app");
    for collection in COLLECTIONS {
        app.create_collection(collection).await.unwrap();
    }
    let accounts = (0..ACCOUNTS).map(|id| doc! { "_id": id, "v": 1000_i64 });
    app.collection("accounts")
        .insert_many(accounts)
        .await
        .unwrap();
    // Text that does not compress away, so that the file has pages to damage.
    let cold = (0..4000).map(|id| {
        let pad: Vec<String> = (0..8).map(|_| format!("{:08x}", rand(id))).collect();
        doc! { "_id": id, "pad": pad.concat() }
    });
    app.collection("cold").insert_many(cold).await.unwrap();
    let index = doc! { "createIndexes": "items", "indexes": [{ "key": { "k": 1 }, "name": "k" }] };
    app.run_command(index).await.unwrap();
}

fn rand(_of: i32) -> u32 {
    RunId::random()
        .to_string()
        .chars()
        .fold(0, |sum, c| sum * 16 + c.to_digit(16).unwrap())
}

async fn insert_in_order(primary: Client, i: i32, stop: Arc<AtomicBool>) {
    let seq = primary.database("app").collection::<Document>("seq");
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let id = format!("{i}-{n:08}");
        seq.insert_one(doc! { "_id": id, "pad": "x".repeat(n % 200) })
            .await
            .unwrap();
        n += 1;
    }
}

/// Moves money in transactions over two collections; one that meets another gives up.
async fn transfer(primary: Client, i: i64, stop: Arc<AtomicBool>) {
    let app = primary.database("app");
    let accounts = app.collection::<Document>("accounts");
    let transfers = app.collection::<Document>("transfers");
    let mut session = primary.start_session().await.unwrap();
    let mut n = i;
    while !stop.load(Ordering::Relaxed) {
        n += 7;
        let amount = n % 10;
        session.start_transaction().await.unwrap();
        let moved = async {
            for (account, amount) in [(n * 31 % ACCOUNTS, -amount), (n * 17 % ACCOUNTS, amount)] {
                let change = doc! { "$inc": { "v": amount } };
                accounts
                    .update_one(doc! { "_id": account }, change)
                    .session(&mut session)
                    .await?;
            }
            transfers
                .insert_one(doc! { "by": i, "n": n, "amount": amount })
                .session(&mut session)
                .await
        };
        match moved.await {
            Ok(_) => session.commit_transaction().await.unwrap(),
            Err(_) => {
                let _ = session.abort_transaction().await;
            }
        }
    }
}

/// Upserts, updates and deletes over a small range of keys.
async fn churn(primary: Client, i: i32, stop: Arc<AtomicBool>) {
    let items = primary.database("app").collection::<Document>("items");
    let mut n = i;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let id = n.wrapping_mul(7919) % 500;
        let key = doc! { "_id": id };
        match n % 4 {
            0 => drop(items.delete_one(key).await),
            1 => drop(
                items
                    .update_many(doc! { "k": id % 10 }, doc! { "$inc": { "n": 1 } })
                    .await,
            ),
            _ => drop(
                items
                    .update_one(key, doc! { "$set": { "k": id % 10, "n": n } })
                    .upsert(true)
                    .await,
            ),
        }
    }
}

fn record(address: MemberAddr, version: &str, db_path: &Path, optime: OpTime) -> MemberRecord {
    MemberRecord {
        shard: "rs0".parse().unwrap(),
        address,
        role: Role::ReplicaSet,
        server_version: version.to_owned(),
        feature_compatibility: version.rsplit_once('.').unwrap().0.to_owned(),
        optime,
        locked: true,
        locked_us: 1,
        replica_set_config: serde_json::Value::Null,
        layout: StorageLayout {
            db_path: db_path.to_owned(),
            directory_per_db: false,
            directory_for_indexes: false,
            grafts: Vec::new(),
        },
        storage: Vec::new(),
        archive: ArchiveRecord {
            object: "rs0.tar.xz".into(),
            profile: "portable".into(),
            size: 1,
            tar_size: 1,
            data_size: 1,
            hash: Hash([0; 32]),
            pack_us: 1,
            made_with: None,
            proof: None,
            blocks: 1,
            files: 1,
        },
    }
}

fn manifest(record: MemberRecord) -> Manifest {
    let started = jiff::Timestamp::now();
    Manifest {
        format: FORMAT_FIRST,
        id: BackupId::at(started),
        run: RunId::random(),
        tool: "test".into(),
        host: "test".into(),
        started,
        finished: started,
        deployment: Deployment {
            id: "0123456789abcdef01234567".parse().unwrap(),
            sharded: false,
        },
        window: WindowRecord {
            provider: "hold".into(),
            held_us: 1,
            steps: Vec::new(),
        },
        members: vec![record],
        files: FileTableRecord {
            object: "files.jsonl.zst".into(),
            size: 1,
            hash: Hash([0; 32]),
            entries: 1,
            proof: None,
        },
    }
}
