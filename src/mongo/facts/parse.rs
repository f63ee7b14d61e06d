//! From the server's replies to facts: which field means what, and what an absent one means.

use std::path::PathBuf;

use jiff::Timestamp;
use mongodb::bson::{Bson, Document};

use super::{
    Cache, Hello, MemberState, ReplicaSet, SetMember, ShardIdentity, StartOptions, StorageEngine,
    Truncated,
};
use crate::ids::OpTime;
use crate::manifest::Role;

pub(crate) fn hello_facts(hello: &Document) -> Hello {
    let flag = |name| hello.get_bool(name).unwrap_or(false);
    let text = |name| hello.get_str(name).ok();
    Hello {
        set: text("setName").and_then(|name| name.parse().ok()),
        me: text("me").and_then(|me| me.parse().ok()),
        is_writable_primary: flag("isWritablePrimary"),
        secondary: flag("secondary"),
        hidden: flag("hidden"),
        arbiter: flag("arbiterOnly"),
    }
}

pub(crate) fn replica_set(status: &Document, config: &Document) -> Option<ReplicaSet> {
    let seen: Vec<&Document> = documents(status, "members");
    let members: Vec<SetMember> = documents(config, "members")
        .into_iter()
        .map(|member| {
            let id = integer(member, "_id");
            let status = seen.iter().find(|s| integer(s, "_id") == id);
            set_member(member, status.copied())
        })
        .collect();
    // Before 4.2.1 the status does not count for us; then a majority of the voters.
    let voters = members.iter().filter(|member| member.votes > 0).count();
    let majority = u32::try_from(voters / 2).ok()?.checked_add(1)?;
    Some(ReplicaSet {
        id: config
            .get_document("settings")
            .ok()
            .and_then(|settings| settings.get_object_id("replicaSetId").ok())
            .and_then(|id| id.to_hex().parse().ok()),
        my_state: integer(status, "myState")?.into(),
        initial_sync: status.contains_key("initialSyncStatus"),
        write_majority: integer(status, "writeMajorityCount")
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(majority),
        members,
        config: serde_json::to_value(config).ok()?,
    })
}

fn set_member(config: &Document, status: Option<&Document>) -> SetMember {
    let from_status = |name| status.and_then(|status| integer(status, name));
    SetMember {
        host: config.get_str("host").unwrap_or_default().to_owned(),
        this: status.is_some_and(|status| status.get_bool("self").unwrap_or(false)),
        state: from_status("state").map_or(MemberState::Unknown, MemberState::from),
        healthy: from_status("health") == Some(1),
        votes: unsigned(config, "votes")
            .and_then(|votes| u32::try_from(votes).ok())
            .unwrap_or(1),
        priority: match config.get("priority") {
            Some(Bson::Double(priority)) => *priority,
            _ => integer(config, "priority").map_or(1.0, |priority| priority as f64),
        },
        hidden: config.get_bool("hidden").unwrap_or(false),
        arbiter: config.get_bool("arbiterOnly").unwrap_or(false),
        // Called slaveDelay before 5.0.
        delay_secs: unsigned(config, "secondaryDelaySecs")
            .or_else(|| unsigned(config, "slaveDelay"))
            .unwrap_or(0),
        optime_date: status.and_then(|status| instant(status, "optimeDate")),
    }
}

pub(crate) fn storage_engine(status: &Document) -> Option<StorageEngine> {
    let engine = status.get_document("storageEngine").ok()?;
    Some(StorageEngine {
        name: engine.get_str("name").ok()?.to_owned(),
        persistent: engine.get_bool("persistent").unwrap_or(false),
        backup_cursor_open: engine.get_bool("backupCursorOpen").unwrap_or(false),
    })
}

pub(crate) fn start_options(reply: &Document) -> Option<StartOptions> {
    let parsed = reply.get_document("parsed").ok()?;
    let text = |path: &str| nested(parsed, path).and_then(Bson::as_str);
    let flag = |path: &str| nested(parsed, path).and_then(truth);
    Some(StartOptions {
        db_path: text("storage.dbPath").unwrap_or("/data/db").into(),
        directory_per_db: flag("storage.directoryPerDB").unwrap_or(false),
        directory_for_indexes: flag("storage.wiredTiger.engineConfig.directoryForIndexes")
            .unwrap_or(false),
        log_path: text("systemLog.path").map(PathBuf::from),
        role: match text("sharding.clusterRole") {
            Some("shardsvr") => Role::Shard,
            Some("configsvr") => Role::ConfigServer,
            _ => Role::ReplicaSet,
        },
        journal_enabled: flag("storage.journal.enabled"),
        encrypted: flag("security.enableEncryption").unwrap_or(false),
    })
}

/// What the window does that no reading shows to be allowed: a backup that may lock and not unlock must never begin.
const WINDOW_ACTIONS: [&str; 3] = ["fsync", "unlock", "inprog"];

/// Those of [`WINDOW_ACTIONS`] that the reply to `connectionStatus` with `showPrivileges` does not grant. Without a user
/// there is no access control, or nothing else could have been read.
pub(crate) fn missing_actions(reply: &Document) -> Vec<String> {
    let list = |name: &str| {
        reply
            .get_document("authInfo")
            .and_then(|info| info.get_array(name))
            .map(Vec::as_slice)
            .unwrap_or_default()
    };
    if list("authenticatedUsers").is_empty() {
        return Vec::new();
    }
    let of_cluster = |privilege: &&Document| {
        privilege.get_document("resource").is_ok_and(|resource| {
            ["cluster", "anyResource"]
                .iter()
                .any(|kind| resource.get_bool(kind).unwrap_or(false))
        })
    };
    let granted: Vec<&str> = list("authenticatedUserPrivileges")
        .iter()
        .filter_map(Bson::as_document)
        .filter(of_cluster)
        .filter_map(|privilege| privilege.get_array("actions").ok())
        .flatten()
        .filter_map(Bson::as_str)
        .collect();
    WINDOW_ACTIONS
        .into_iter()
        .filter(|action| !granted.contains(action))
        .map(str::to_owned)
        .collect()
}

pub(crate) fn cache(status: &Document) -> Cache {
    let counter = |name: &str| {
        status
            .get_document("wiredTiger")
            .and_then(|engine| engine.get_document("cache"))
            .ok()
            .and_then(|cache| unsigned(cache, name))
            .unwrap_or(0)
    };
    Cache {
        dirty_bytes: counter("tracked dirty bytes in the cache"),
        written_bytes: counter("bytes written from cache"),
        uptime_ms: unsigned(status, "uptimeMillis").unwrap_or(0),
    }
}

pub(crate) fn feature_compatibility(versions: &[Document]) -> String {
    let by_id = |id: &str| {
        versions
            .iter()
            .find(|doc| doc.get_str("_id").is_ok_and(|found| found == id))
    };
    by_id("featureCompatibilityVersion")
        .and_then(|version| version.get_str("version").ok())
        .unwrap_or("unknown")
        .to_owned()
}

pub(crate) fn shard_identity(versions: &[Document]) -> Option<ShardIdentity> {
    let identity = versions
        .iter()
        .find(|doc| doc.get_str("_id").is_ok_and(|id| id == "shardIdentity"))?;
    Some(ShardIdentity {
        shard_name: identity.get_str("shardName").ok()?.to_owned(),
        config_servers: identity
            .get_str("configsvrConnectionString")
            .ok()?
            .to_owned(),
        cluster_id: identity
            .get_object_id("clusterId")
            .ok()?
            .to_hex()
            .parse()
            .ok()?,
    })
}

/// A whole number, whichever type the server chose to send it in.
pub(crate) fn integer(document: &Document, name: &str) -> Option<i64> {
    match document.get(name)? {
        Bson::Int32(value) => Some(i64::from(*value)),
        Bson::Int64(value) => Some(*value),
        Bson::Double(value) if value.fract() == 0.0 && value.abs() < 9e15 => Some(*value as i64),
        _ => None,
    }
}

fn unsigned(document: &Document, name: &str) -> Option<u64> {
    integer(document, name).and_then(|value| u64::try_from(value).ok())
}

pub(crate) fn instant(document: &Document, name: &str) -> Option<Timestamp> {
    match document.get(name)? {
        Bson::DateTime(at) => Timestamp::from_millisecond(at.timestamp_millis()).ok(),
        _ => None,
    }
}

fn documents<'a>(document: &'a Document, name: &str) -> Vec<&'a Document> {
    document
        .get_array(name)
        .map(|items| items.iter().filter_map(Bson::as_document).collect())
        .unwrap_or_default()
}

fn nested<'a>(document: &'a Document, path: &str) -> Option<&'a Bson> {
    match path.split_once('.') {
        Some((head, rest)) => nested(document.get_document(head).ok()?, rest),
        None => document.get(path),
    }
}

/// A boolean option, which the command line may give as a string.
fn truth(value: &Bson) -> Option<bool> {
    match value {
        Bson::Boolean(value) => Some(*value),
        Bson::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// What was removed from the oplog since the server started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Truncations {
    count: i64,
    /// When the server started, in seconds since the epoch.
    started: i64,
    /// For how many seconds it has run.
    uptime: i64,
}

impl Truncations {
    /// What was removed since `first`, the oldest entry, was written: an older one can only have been removed before the server
    /// started.
    pub(super) fn since(self, first: OpTime) -> Truncated {
        match self.count {
            0 if i64::from(first.seconds) >= self.started => Truncated::Never,
            0 => Truncated::NotFor(self.uptime.try_into().unwrap_or(0)),
            _ => Truncated::Perhaps,
        }
    }
}

/// From `serverStatus`; none where the server does not tell.
pub(super) fn truncations(status: &Document) -> Option<Truncations> {
    let oplog = status.get_document("oplogTruncation").ok()?;
    let uptime = integer(status, "uptimeMillis")? / 1000;
    Some(Truncations {
        count: integer(oplog, "truncateCount")?,
        // A second of grace: the uptime is cut.
        started: instant(status, "localTime")?.as_second() - uptime - 1,
        uptime,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_before_the_server_started_nobody_knows() {
        let since = |count: i64, uptime_ms: i64, first: u32| {
            let status = doc! {
                "oplogTruncation": { "truncateCount": count },
                "uptimeMillis": uptime_ms,
                "localTime": DateTime::from_millis(10_000_000),
            };
            let first = OpTime {
                seconds: first,
                increment: 1,
                term: 1,
            };
            truncations(&status).map(|truncations| truncations.since(first))
        };
        // It started 600 s before 10,000 s.
        assert_eq!(since(0, 600_900, 9_500), Some(Truncated::Never));
        assert_eq!(since(0, 600_900, 9_400), Some(Truncated::Never));
        assert_eq!(since(0, 600_900, 9_000), Some(Truncated::NotFor(600)));
        assert_eq!(since(1, 600_900, 9_500), Some(Truncated::Perhaps));
        assert_eq!(since(0, -5_000, 9_000), Some(Truncated::NotFor(0)));
        assert_eq!(truncations(&doc! { "uptimeMillis": 1 }), None);
    }

    #[test]
    fn a_user_that_may_lock_and_not_unlock_is_seen() {
        let reply = |users: Vec<Document>, resource: Document, actions: Vec<&str>| {
            let privileges = vec![doc! { "resource": resource, "actions": actions }];
            doc! { "authInfo": { "authenticatedUsers": users, "authenticatedUserPrivileges": privileges } }
        };
        let us = || vec![doc! { "user": "freezeframe", "db": "admin" }];
        let cluster = || doc! { "cluster": true };
        let all = vec!["fsync", "inprog", "unlock"];
        assert!(missing_actions(&reply(us(), cluster(), all.clone())).is_empty());
        assert!(
            missing_actions(&reply(us(), doc! { "anyResource": true }, all.clone())).is_empty()
        );
        let two = vec!["fsync", "inprog"];
        assert_eq!(
            missing_actions(&reply(us(), cluster(), two.clone())),
            ["unlock"]
        );
        let elsewhere = doc! { "db": "config", "collection": "" };
        assert_eq!(missing_actions(&reply(us(), elsewhere, all)).len(), 3);
        // No access control.
        assert!(missing_actions(&reply(Vec::new(), cluster(), two)).is_empty());
    }

    use mongodb::bson::{DateTime, doc};

    #[test]
    fn options_of_every_kind_are_read_from_parsed() {
        let reply = doc! { "parsed": {
            "storage": {
                "dbPath": "/srv/db",
                "directoryPerDB": true,
                "wiredTiger": { "engineConfig": { "directoryForIndexes": "true" } },
                "journal": { "enabled": false },
            },
            "systemLog": { "destination": "file", "path": "/srv/db/mongod.log" },
            "sharding": { "clusterRole": "shardsvr" },
            "security": { "enableEncryption": true },
        } };
        let expected = StartOptions {
            db_path: "/srv/db".into(),
            directory_per_db: true,
            directory_for_indexes: true,
            log_path: Some("/srv/db/mongod.log".into()),
            role: Role::Shard,
            journal_enabled: Some(false),
            encrypted: true,
        };
        assert_eq!(start_options(&reply), Some(expected));
        let bare = start_options(&doc! { "parsed": {} }).unwrap();
        assert_eq!(bare.db_path, PathBuf::from("/data/db"));
        assert_eq!((bare.role, bare.journal_enabled), (Role::ReplicaSet, None));
    }

    #[test]
    fn status_and_configuration_are_joined_by_member_id() {
        let at = DateTime::from_millis(1_800_000_000_000);
        let status = doc! { "myState": 2, "members": [
            { "_id": 7, "state": 2, "health": 1.0, "self": true, "optimeDate": at },
            { "_id": 3, "state": 1, "health": 1.0, "optimeDate": at },
        ] };
        let config = doc! { "_id": "rs0", "members": [
            { "_id": 3, "host": "a:1", "votes": 1, "priority": 2.5 },
            { "_id": 5, "host": "b:1" },
            { "_id": 7, "host": "c:1", "votes": 0, "hidden": true, "slaveDelay": 60_i64 },
        ] };
        let set = replica_set(&status, &config).unwrap();
        assert_eq!(set.this().unwrap().host, "c:1");
        assert_eq!(set.this().unwrap().delay_secs, 60);
        let [primary, unseen, _] = &set.members[..] else {
            panic!("three members");
        };
        assert_eq!(
            (primary.state, primary.priority),
            (MemberState::Primary, 2.5)
        );
        // Not in the status: not healthy, and its defaults are the server's.
        assert_eq!((unseen.healthy, unseen.votes), (false, 1));
        assert_eq!(set.write_majority, 2);
    }

    #[test]
    fn a_number_is_whole_whatever_its_type() {
        let reply = doc! { "a": 1_i32, "b": 2_i64, "c": 3.0, "d": 3.5, "e": "4", "f": f64::NAN };
        let read: Vec<Option<i64>> = ["a", "b", "c", "d", "e", "f", "g"]
            .into_iter()
            .map(|name| integer(&reply, name))
            .collect();
        assert_eq!(read, [Some(1), Some(2), Some(3), None, None, None, None]);
    }
}
