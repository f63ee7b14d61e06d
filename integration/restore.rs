//! The way back on a real mongod: a member locked under load is copied, settled, proven, and damaged.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(missing_docs)]

#[path = "restore/proof.rs"]
mod proof;
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use freezeframe::error::{Exit, Explain};
use freezeframe::ids::{MemberAddr, OpTime};
use freezeframe::manifest::MemberRecord;
use freezeframe::restore::owner::Owner;
use freezeframe::restore::server::{PrivateMongod, Purpose};
use freezeframe::restore::settle::{SettleReport, Settling, settle};
use freezeframe::restore::{MongodBinary, RestoreError};
use mongodb::bson::{Document, Timestamp, doc};
use support::locked_copy::{LockedCopy, client, contents};
use support::mongod::until;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

async fn binary() -> MongodBinary {
    let path = std::env::var_os("FREEZEFRAME_TEST_MONGOD")
        .expect("FREEZEFRAME_TEST_MONGOD must name a mongod binary");
    MongodBinary::find(Some(Path::new(&path))).await.unwrap()
}

fn free_addr() -> MemberAddr {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    MemberAddr {
        host: "127.0.0.1".into(),
        port: listener.local_addr().unwrap().port(),
    }
}

async fn settle_it(
    db_path: &Path,
    record: &MemberRecord,
    member: &MemberAddr,
    binary: &MongodBinary,
) -> Result<SettleReport, RestoreError> {
    let settling = Settling {
        db_path,
        record: record.state(),
        member,
        replset: None,
        binary,
    };
    settle(settling, &CancellationToken::new()).await
}

/// A mongod started as an operator would start it on what was settled; killed when dropped.
struct Restored {
    child: std::process::Child,
    client: mongodb::Client,
}

impl Restored {
    async fn start(db_path: &Path, replset: &str, member: &MemberAddr) -> Self {
        let child = Command::new(std::env::var_os("FREEZEFRAME_TEST_MONGOD").unwrap())
            .args([
                "--bind_ip",
                "127.0.0.1",
                "--nounixsocket",
                "--replSet",
                replset,
            ])
            .args(["--setParameter", "ttlMonitorEnabled=false"])
            .args(["--port", &member.port.to_string(), "--dbpath"])
            .arg(db_path)
            .arg("--logpath")
            .arg(db_path.with_extension("log"))
            .spawn()
            .unwrap();
        let restored = Self {
            child,
            client: client(member),
        };
        until("the restored member is primary", async || {
            let admin = restored.client.database("admin");
            let hello = admin.run_command(doc! { "hello": 1 }).await;
            hello.is_ok_and(|reply| reply.get_bool("isWritablePrimary").unwrap_or(false))
        })
        .await;
        restored
    }

    /// The entry that follows `optime` in its oplog: where the restored state ends and the new set begins.
    async fn entry_after(&self, optime: OpTime) -> Document {
        let after = Timestamp {
            time: optime.seconds,
            increment: optime.increment,
        };
        let oplog = self
            .client
            .database("local")
            .collection::<Document>("oplog.rs");
        oplog
            .find_one(doc! { "ts": { "$gt": after } })
            .sort(doc! { "$natural": 1 })
            .await
            .unwrap()
            .expect("an entry after the optime")
    }
}

/// The first thing a new set writes; anything else is the old oplog, which goes on after the optime.
fn assert_new_set(entry: &Document) {
    let message = entry.get_document("o").and_then(|o| o.get_str("msg"));
    assert_eq!(message.ok(), Some("new primary"), "{entry}");
}

impl Drop for Restored {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settling_gives_exactly_the_state_at_the_optime() {
    let locked = LockedCopy::get().await;
    let (dir, db_path) = locked.fresh();
    let (member, binary) = (free_addr(), binary().await);
    // Once more, as after an interruption: nothing of the first time may be in the way.
    settle_it(&db_path, &locked.record, &member, &binary)
        .await
        .unwrap();
    let report = settle_it(&db_path, &locked.record, &member, &binary)
        .await
        .unwrap();
    assert_eq!(report.optime, locked.record.optime);
    assert_eq!(report.member, member);

    let restored = Restored::start(&db_path, "rs0", &member).await;
    let entry = restored.entry_after(locked.record.optime).await;
    assert_new_set(&entry);
    let seen = contents(&restored.client, None).await;
    for (collection, expected) in &locked.expected {
        let seen = &seen[collection];
        assert_eq!(seen.len(), expected.len(), "documents in {collection}");
        assert!(seen == expected, "{collection} differs");
    }
    let items = restored
        .client
        .database("app")
        .collection::<Document>("seq");
    items.insert_one(doc! { "_id": "after" }).await.unwrap();
    drop((restored, dir));
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_ends_elsewhere_than_promised_is_not_settled() {
    let locked = LockedCopy::get().await;
    let (_dir, db_path) = locked.fresh();
    let mut record = locked.record.clone();
    record.optime.increment += 1;
    let error = settle_it(&db_path, &record, &free_addr(), &binary().await)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, RestoreError::OtherOptime { found, .. } if *found == Some(locked.record.optime)),
        "{error}"
    );
    assert_eq!(error.exit(), Exit::Damaged);
    // Nothing was changed: it can still be settled as what it is.
    settle_it(&db_path, &locked.record, &free_addr(), &binary().await)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_being_written_is_cut_off() {
    let locked = LockedCopy::get().await;
    let (_dir, db_path) = locked.fresh();
    let binary = binary().await;
    let point = cut_short(&db_path, &locked.record, &binary).await;

    // What lies after the point has holes, so the data does not reach the promised optime.
    let member = free_addr();
    let error = settle_it(&db_path, &locked.record, &member, &binary)
        .await
        .unwrap_err();
    assert!(matches!(error, RestoreError::OtherOptime { .. }), "{error}");

    // And one that was promised up to the point is restored up to there.
    let mut record = locked.record.clone();
    record.optime = point;
    settle_it(&db_path, &record, &member, &binary)
        .await
        .unwrap();
    let restored = Restored::start(&db_path, "rs0", &member).await;
    let entry = restored.entry_after(record.optime).await;
    assert_new_set(&entry);
}

/// Makes the end of the copy's oplog look as in the middle of a batch: what comes after the optime that this gives may have holes.
async fn cut_short(db_path: &Path, record: &MemberRecord, binary: &MongodBinary) -> OpTime {
    let mongod = start_private(db_path, record, binary).await.unwrap();
    let local = client(mongod.connection().addr()).database("local");
    let mut newest = local
        .collection::<Document>("oplog.rs")
        .find(doc! {})
        .sort(doc! { "$natural": -1 })
        .limit(20)
        .await
        .unwrap();
    let mut earlier = None;
    while newest.advance().await.unwrap() {
        earlier = Some(newest.deserialize_current().unwrap());
    }
    let earlier = earlier.unwrap();
    let point = earlier.get_timestamp("ts").unwrap();
    local
        .collection::<Document>("replset.oplogTruncateAfterPoint")
        .replace_one(
            doc! { "_id": "oplogTruncateAfterPoint" },
            doc! { "oplogTruncateAfterPoint": point },
        )
        .upsert(true)
        .await
        .unwrap();
    mongod.stop().await.unwrap();
    OpTime {
        seconds: point.time,
        increment: point.increment,
        term: earlier.get_i64("t").unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_not_locked_is_recovered_before_it_is_settled() {
    let locked = LockedCopy::get().await;
    let (_dir, db_path) = locked.fresh();
    let (member, binary) = (free_addr(), binary().await);
    let point = cut_short(&db_path, &locked.record, &binary).await;
    let mut record = locked.record.clone();
    record.locked = false;
    // What was durable before the snapshot must be there, whatever else is.
    let error = settle_it(&db_path, &record, &member, &binary).await;
    assert!(
        matches!(&error, Err(RestoreError::OtherOptime { found, .. }) if *found == Some(point)),
        "{error:?}"
    );
    record.optime.seconds = point.seconds - 1;
    let report = settle_it(&db_path, &record, &member, &binary)
        .await
        .unwrap();
    assert_eq!(report.optime, point);
    // Settling alone would leave it to the first start to cut off what comes after a hole.
    let mongod = start_private(&db_path, &record, &binary).await.unwrap();
    assert_eq!(mongod.connection().oplog_top().await.unwrap(), point);
    mongod.stop().await.unwrap();
    let restored = Restored::start(&db_path, "rs0", &member).await;
    assert_new_set(&restored.entry_after(point).await);
}

async fn start_private(
    db_path: &Path,
    record: &MemberRecord,
    binary: &MongodBinary,
) -> Result<PrivateMongod, RestoreError> {
    let cancel = CancellationToken::new();
    PrivateMongod::start(
        binary,
        db_path,
        &record.layout,
        Purpose::Maintain,
        &std::env::temp_dir(),
        &cancel,
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_use_is_left_alone() {
    let locked = LockedCopy::get().await;
    let (_dir, db_path) = locked.fresh();
    let binary = binary().await;
    for lock in ["mongod.lock", "WiredTiger.lock"] {
        let _ = fs::remove_file(db_path.join(lock));
    }
    let mongod = start_private(&db_path, &locked.record, &binary)
        .await
        .unwrap();
    let error = settle_it(&db_path, &locked.record, &free_addr(), &binary)
        .await
        .unwrap_err();
    assert!(matches!(error, RestoreError::TargetInUse { .. }), "{error}");
    let pid = mongod.pid();
    assert!(alive(pid));
    drop(mongod);
    assert!(!alive(pid), "a dropped private mongod lives on");
}

#[tokio::test]
async fn another_version_is_refused_before_anything_is_touched() {
    let locked = LockedCopy::get().await;
    let dir = TempDir::new().unwrap();
    let old = dir.path().join("mongod");
    fs::write(&old, "#!/bin/sh\necho 'db version v4.2.24'\n").unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).unwrap();
    let old = MongodBinary::find(Some(&old)).await.unwrap();
    let error = settle_it(&locked.db_path, &locked.record, &free_addr(), &old)
        .await
        .unwrap_err();
    let series = locked.record.server_version.rsplit_once('.').unwrap().0;
    assert_eq!(
        error.to_string(),
        format!(
            "backup was made by mongod {}; the mongod found ({}) is 4.2.24",
            locked.record.server_version,
            old.path().display()
        )
    );
    assert_eq!(
        error.hint(),
        Some(format!("give --mongod PATH to a {series} binary"))
    );
    assert_eq!(error.exit(), Exit::Restore);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mongod_that_dies_at_start_says_why() {
    let locked = LockedCopy::get().await;
    let (_dir, db_path) = locked.fresh();
    fs::write(db_path.join("WiredTiger.turtle"), "no turtle").unwrap();
    let error = settle_it(&db_path, &locked.record, &free_addr(), &binary().await)
        .await
        .unwrap_err();
    let RestoreError::DiedAtStart { telling, .. } = &error else {
        panic!("{error}");
    };
    assert!(
        telling.contains("WiredTiger") || telling.contains("WT_"),
        "{telling}"
    );
    assert_eq!(error.exit(), Exit::Restore);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_files_belong_to_the_owner_of_the_data() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: everything is ours anyway");
        return;
    }
    let locked = LockedCopy::get().await;
    let (_dir, db_path) = locked.fresh();
    let owner = Owner {
        uid: 12345,
        gid: 23456,
    };
    freezeframe::restore::owner::give(&db_path, owner).unwrap();
    settle_it(&db_path, &locked.record, &free_addr(), &binary().await)
        .await
        .unwrap();
    let mut open = vec![db_path];
    while let Some(path) = open.pop() {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert_eq!(
            (metadata.uid(), metadata.gid()),
            (12345, 23456),
            "{}",
            path.display()
        );
        if metadata.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
}

/// Not a test of its own: the process that [`a_private_mongod_dies_with_us`] kills.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by a_private_mongod_dies_with_us"]
async fn holds_a_private_mongod() {
    let db_path = PathBuf::from(std::env::var_os("TEST_DB_PATH").unwrap());
    let layout = freezeframe::manifest::StorageLayout {
        db_path: db_path.clone(),
        directory_per_db: true,
        directory_for_indexes: true,
        grafts: Vec::new(),
    };
    let (binary, cancel) = (binary().await, CancellationToken::new());
    let mongod = PrivateMongod::start(
        &binary,
        &db_path,
        &layout,
        Purpose::Maintain,
        &std::env::temp_dir(),
        &cancel,
    )
    .await
    .unwrap();
    println!("\nprivate mongod {}", mongod.pid());
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_mongod_dies_with_us() {
    let dir = TempDir::new().unwrap();
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "holds_a_private_mongod",
            "--ignored",
            "--nocapture",
        ])
        .env("TEST_DB_PATH", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid: u32 = BufReader::new(holder.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("private mongod ")?.parse().ok())
        .expect("the holder tells the pid");
    assert!(alive(pid));
    // Directories as the layout says: the empty database has them already.
    assert!(
        dir.path().join("admin/collection").is_dir() || dir.path().join("local/index").is_dir()
    );
    holder.kill().unwrap();
    holder.wait().unwrap();
    until("the private mongod is dead", async || !alive(pid)).await;
}

/// Whether the process runs; one that only waits to be reaped does not.
fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with('Z'))
}

/// A member that is not in its set's configuration closes all connections at some moment of its start.
#[tokio::test(flavor = "multi_thread")]
async fn a_mongod_that_closes_connections_is_asked_again() {
    let locked = LockedCopy::get().await;
    let (dir, db_path) = locked.fresh();
    let gate = dir.path().join("mongod");
    let real = binary().await.path().display().to_string();
    fs::write(
        &gate,
        include_str!("restore/gate.py").replace("REAL", &real),
    )
    .unwrap();
    fs::set_permissions(&gate, fs::Permissions::from_mode(0o755)).unwrap();
    let gate = MongodBinary::find(Some(&gate)).await.unwrap();
    // Recovered as what was taken without the lock: three starts of mongod.
    let record = MemberRecord {
        locked: false,
        ..locked.record.clone()
    };
    let report = settle_it(&db_path, &record, &free_addr(), &gate)
        .await
        .unwrap();
    assert_eq!(report.optime, locked.record.optime);
    let cut = fs::read_to_string(dir.path().join("cut")).unwrap();
    assert_eq!(
        cut,
        "serverStatus\nshutdown\n".repeat(3),
        "cut off once each"
    );
}
