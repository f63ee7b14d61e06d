//! Settling: a copy of a locked member's data becomes a replica set of one member, which mongod starts on.
//!
//! The copy holds user data as of the last stable checkpoint, and the oplog up to the optime read under the
//! lock. We touch local collections only. The first start as a replica set then replays the oplog
//! from the checkpoint to its end, and that is the state at that optime, exactly. See `doc/mongodb.md`.

use std::fs;
use std::path::Path;
use std::time::Instant;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, Timestamp, doc};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::binary::{MongodBinary, ServerVersion};
use super::owner::{self, Owner};
use super::server::{PrivateMongod, Purpose};
use super::{RestoreError, target};
use crate::ids::{MemberAddr, OpTime, ShardName};
use crate::manifest::{MemberState, Role};
use crate::mongo::oplog::entry_optime;
use crate::mongo::{MongoError, Mongod};

/// What the member knew of its old replica set, and what would steer recovery by it.
const OF_THE_OLD_SET: [&str; 3] = [
    "replset.minvalid",
    "replset.election",
    "replset.initialSyncId",
];
const REPLSET: &str = "system.replset";
const TRUNCATE_POINT: &str = "replset.oplogTruncateAfterPoint";

/// Entries of dbPath that only encrypted data has: MongoDB Enterprise's local key store, Percona's key database.
const SIGNS_OF_ENCRYPTION: [&str; 2] = ["key.store", "key.db"];

/// What is to be settled, and as what.
#[derive(Debug, Clone, Copy)]
pub struct Settling<'a> {
    /// The unpacked data directory.
    pub db_path: &'a Path,
    /// What the manifest says of it.
    pub record: MemberState<'a>,
    /// Where the mongod will listen that is started on it. Nothing need listen there now.
    pub member: &'a MemberAddr,
    /// The new replica set's name; none keeps the old one.
    pub replset: Option<&'a ShardName>,
    /// The mongod to settle it with.
    pub binary: &'a MongodBinary,
}

/// What came of it; part of `restore --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SettleReport {
    /// The replica set's name, for `--replSet`.
    pub replset: ShardName,
    /// Its only member.
    pub member: MemberAddr,
    /// Its new `settings.replicaSetId`.
    pub replica_set_id: String,
    /// The state mongod recovers to at its first start.
    pub optime: OpTime,
    /// Version of the mongod that settled it.
    pub mongod: String,
    /// How long it took.
    pub seconds: f64,
}

/// Makes the data directory the only member of a new replica set, and leaves user data as it is.
///
/// What mongod created while we ran it as root goes to the owner of the data.
///
/// # Errors
/// [`RestoreError`]. [`RestoreError::OtherOptime`] when the data does not end at the manifest's optime: then
/// nothing was changed. After any other error the directory may be half settled; settling it again is safe.
pub async fn settle(
    settling: Settling<'_>,
    cancel: &CancellationToken,
) -> Result<SettleReport, RestoreError> {
    let started = Instant::now();
    let Settling {
        db_path, record, ..
    } = settling;
    refuse_role(&record)?;
    refuse_encrypted(db_path)?;
    settling.binary.fit_for(record.server_version)?;
    target::refuse_running(db_path)?;
    let owner = Owner::of_data(db_path)?;
    remove_locks(db_path)?;

    let replset = settling.replset.unwrap_or(record.shard);
    let id = ObjectId::new();
    let config = single_member(replset, settling.member, id, settling.binary.version());

    if !record.locked {
        recover(&settling, cancel).await?;
    }
    let mongod = PrivateMongod::start(
        settling.binary,
        db_path,
        record.layout,
        Purpose::Maintain,
        // The target is marked as incomplete until everything is done, so whatever is left in it goes with it.
        db_path,
        cancel,
    )
    .await?;
    let connection = mongod.connection().clone();
    let replacing = replace_set(&connection, &record, replset, config);
    let optime = finish(mongod, replacing, cancel).await?;
    remove_locks(db_path)?;
    owner::give(db_path, owner)?;
    Ok(SettleReport {
        replset: replset.clone(),
        member: settling.member.clone(),
        replica_set_id: id.to_hex(),
        optime,
        mongod: settling.binary.version().to_string(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Waits for what `work` does through `mongod`, and stops it well, so that the directory can be settled again after an error.
async fn finish<T>(
    mut mongod: PrivateMongod,
    work: impl Future<Output = Result<T, Problem>>,
    cancel: &CancellationToken,
) -> Result<T, RestoreError> {
    let done = tokio::select! {
        outcome = work => outcome,
        () = cancel.cancelled() => Err(Problem::Told(RestoreError::Cancelled)),
    };
    match done {
        Ok(value) => {
            mongod.stop().await?;
            Ok(value)
        }
        Err(Problem::Told(error)) => {
            // The error is what counts.
            if let Err(stop) = mongod.stop().await {
                tracing::warn!(%stop, "the private mongod did not stop well after an error");
            }
            Err(error)
        }
        Err(Problem::Mongo(error)) => Err(mongod.explain(error).await),
    }
}

/// Has mongod recover data that was not locked as after a power cut: it cuts holes off the oplog's end and replays what is left. It
/// does so only as a member of a replica set; of one that lives elsewhere, so that nothing is elected or written.
async fn recover(settling: &Settling<'_>, cancel: &CancellationToken) -> Result<(), RestoreError> {
    let Settling {
        db_path,
        record,
        binary,
        ..
    } = *settling;
    let start =
        |purpose| PrivateMongod::start(binary, db_path, record.layout, purpose, db_path, cancel);
    let mongod = start(Purpose::Maintain).await?;
    let elsewhere = MemberAddr {
        host: "127.0.0.1".into(),
        port: 1,
    };
    let config = single_member(record.shard, &elsewhere, ObjectId::new(), binary.version());
    let connection = mongod.connection().clone();
    let replacing = write_config(&connection, record.shard, config);
    finish(mongod, replacing, cancel).await?;
    let mongod = start(Purpose::Recover(record.shard)).await?;
    mongod.stop().await
}

/// A failure we understand, or one of the connection that the end of the process may explain.
enum Problem {
    Told(RestoreError),
    Mongo(MongoError),
}

impl From<MongoError> for Problem {
    fn from(error: MongoError) -> Self {
        Self::Mongo(error)
    }
}

pub(super) fn refuse_role(record: &MemberState<'_>) -> Result<(), RestoreError> {
    match record.role {
        Role::ReplicaSet => Ok(()),
        role @ (Role::Shard | Role::ConfigServer) => Err(RestoreError::Sharded {
            shard: record.shard.clone(),
            role,
        }),
    }
}

pub(super) fn refuse_encrypted(db_path: &Path) -> Result<(), RestoreError> {
    match SIGNS_OF_ENCRYPTION
        .into_iter()
        .find(|sign| db_path.join(sign).exists())
    {
        None => Ok(()),
        Some(sign) => Err(RestoreError::Encrypted {
            path: db_path.to_owned(),
            sign: format!("it holds {sign}"),
        }),
    }
}

/// An unpacked archive has none, a copy made by other means may; nobody holds them (checked before).
fn remove_locks(db_path: &Path) -> Result<(), RestoreError> {
    for name in ["mongod.lock", "WiredTiger.lock"] {
        let lock = db_path.join(name);
        match fs::remove_file(&lock) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(RestoreError::io("remove", lock)(error)),
        }
    }
    Ok(())
}

/// The configuration of a new replica set. A new id, so that the copy can never join its source's set.
fn single_member(
    replset: &ShardName,
    member: &MemberAddr,
    id: ObjectId,
    version: ServerVersion,
) -> Document {
    let mut config = doc! {
        "_id": replset.as_str(),
        "version": 1,
        "protocolVersion": 1_i64,
        "members": [{ "_id": 0, "host": member.to_string() }],
        "settings": { "replicaSetId": id },
    };
    if version.at_least(4, 4) {
        // Older servers refuse a field they do not know.
        config.insert("term", 1_i64);
    }
    config
}

/// Gives the optime that the data ends at.
async fn replace_set(
    mongod: &Mongod,
    record: &MemberState<'_>,
    replset: &ShardName,
    config: Document,
) -> Result<OpTime, Problem> {
    let truncate_after = truncate_point(mongod).await?;
    let found = oplog_end(mongod, truncate_after).await?;
    let Some(end) = found.filter(|end| record.ends_at(*end)) else {
        return Err(Problem::Told(RestoreError::OtherOptime {
            shard: record.shard.clone(),
            found,
            expected: record.promise(),
        }));
    };
    for collection in OF_THE_OLD_SET {
        delete_all(mongod, collection).await?;
    }
    if truncate_after.is_none() {
        delete_all(mongod, TRUNCATE_POINT).await?;
    }
    // A point that is set stays: entries after it have holes, and the recovery to come cuts them off by it.
    write_config(mongod, replset, config).await?;
    Ok(end)
}

async fn write_config(
    mongod: &Mongod,
    replset: &ShardName,
    config: Document,
) -> Result<(), Problem> {
    delete_all(mongod, REPLSET).await?;
    let insert = doc! {
        "insert": REPLSET,
        "documents": [config.clone()],
        "writeConcern": { "w": 1, "j": true },
    };
    let reply = mongod
        .run_on("local", "insert local.system.replset", insert)
        .await?;
    let find = doc! { "find": REPLSET, "singleBatch": true };
    let there = mongod
        .find("local", "find local.system.replset", find)
        .await?;
    if reply.contains_key("writeErrors") || there != [config] {
        return Err(Problem::Told(RestoreError::NotSettled {
            shard: replset.clone(),
        }));
    }
    Ok(())
}

async fn delete_all(mongod: &Mongod, collection: &str) -> Result<(), Problem> {
    let delete = doc! { "delete": collection, "deletes": [{ "q": {}, "limit": 0 }] };
    mongod.run_on("local", "delete in local", delete).await?;
    Ok(())
}

/// After which timestamp recovery will cut the oplog off; none when nowhere. It is set while a batch of oplog
/// entries is being written, and always on a primary.
async fn truncate_point(mongod: &Mongod) -> Result<Option<Timestamp>, MongoError> {
    let find = doc! { "find": TRUNCATE_POINT, "singleBatch": true };
    let points = mongod
        .find("local", "find local.replset.oplogTruncateAfterPoint", find)
        .await?;
    Ok(points
        .first()
        .and_then(|point| match point.get("oplogTruncateAfterPoint") {
            Some(Bson::Timestamp(at)) if at.time > 0 => Some(*at),
            _ => None,
        }))
}

/// Where the oplog ends that recovery will replay; none when there is no entry.
async fn oplog_end(
    mongod: &Mongod,
    truncate_after: Option<Timestamp>,
) -> Result<Option<OpTime>, MongoError> {
    let filter = truncate_after.map_or_else(Document::new, |at| doc! { "ts": { "$lte": at } });
    let find = doc! {
        "find": "oplog.rs",
        "filter": filter,
        // Backwards: a scan from the front would read all of it.
        "sort": { "$natural": -1 },
        "limit": 1,
        "singleBatch": true,
        "projection": { "_id": 0, "ts": 1, "t": 1 },
    };
    let entries = mongod.find("local", "find local.oplog.rs", find).await?;
    Ok(entries.first().and_then(entry_optime))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_one_member_of_the_new_set() {
        let id = ObjectId::new();
        let (name, member) = ("rs7".parse().unwrap(), "[::1]:27018".parse().unwrap());
        let config = |version: &str| single_member(&name, &member, id, version.parse().unwrap());
        let expected = doc! {
            "_id": "rs7", "version": 1, "protocolVersion": 1_i64,
            "members": [{ "_id": 0, "host": "[::1]:27018" }],
            "settings": { "replicaSetId": id }, "term": 1_i64,
        };
        assert_eq!(config("6.0.5"), expected);
        assert!(!config("4.2.24").contains_key("term"));
    }

    #[test]
    fn encrypted_data_and_locks_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        refuse_encrypted(dir.path()).unwrap();
        remove_locks(dir.path()).unwrap();
        fs::create_dir(dir.path().join("key.db")).unwrap();
        fs::write(dir.path().join("mongod.lock"), "1").unwrap();
        assert!(matches!(
            refuse_encrypted(dir.path()),
            Err(RestoreError::Encrypted { .. })
        ));
        remove_locks(dir.path()).unwrap();
        assert!(!dir.path().join("mongod.lock").exists());
    }
}
