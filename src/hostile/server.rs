//! What a mongod says: replies in BSON, and its log.

use std::time::Duration;

use jiff::Timestamp;
use mongodb::bson::{Document, RawDocument};

use crate::backup::preflight::member::{MemberLimits, judge, judge_together};
use crate::ids::MemberAddr;
use crate::manifest::Role;
use crate::mongo::balancer::{balancer_on, members_of, migration_name};
use crate::mongo::facts::parse;
use crate::mongo::facts::{MemberFacts, OplogEnds, StartOptions, StorageEngine, Truncated};
use crate::mongo::oplog::entry_optime;
use crate::mongo::process::ServerProcess;
use crate::restore::log::most_telling;

/// The most replies that are read: each is taken for the answer to every command.
const MOST_REPLIES: usize = 8;

/// Replies one after the other, each taken for the answer to every command; then what they say is judged.
pub(super) fn server(mut data: &[u8]) -> usize {
    let mut replies = Vec::new();
    while replies.len() < MOST_REPLIES
        && let Some((reply, rest)) = first_reply(data)
    {
        replies.push(reply);
        data = rest;
    }
    let _ = balancer_on(&replies);
    for (number, reply) in replies.iter().enumerate() {
        let _ = migration_name(reply, "fromShard", "toShard");
        let next = replies.get(number + 1).unwrap_or(reply);
        let facts = facts(reply, next, &replies);
        let limits = MemberLimits {
            max_lag: Duration::from_secs(60),
            min_oplog_window: Duration::from_secs(3600),
            allow_visible_secondary: false,
        };
        let _ = judge(&facts, &limits, None, Timestamp::UNIX_EPOCH);
        let _ = judge_together(&[&facts, &facts]);
    }
    replies.len()
}

/// As the driver decodes what a message holds: no more bytes than there are.
fn first_reply(data: &[u8]) -> Option<(Document, &[u8])> {
    let length = usize::try_from(i32::from_le_bytes(*data.first_chunk()?)).ok()?;
    let (document, rest) = data.split_at_checked(length)?;
    let document = RawDocument::from_bytes(document).ok()?;
    Some((Document::try_from(document).ok()?, rest))
}

fn facts(reply: &Document, next: &Document, all: &[Document]) -> MemberFacts {
    let identity = parse::shard_identity(all);
    if let Some(identity) = &identity {
        let _ = members_of(&identity.config_servers);
    }
    let ends = entry_optime(reply).zip(entry_optime(next));
    MemberFacts {
        addr: MemberAddr {
            host: "db1".into(),
            port: 27017,
        },
        process: ServerProcess::from_bytes([7; 12]),
        pid: 1,
        read_at: parse::instant(reply, "localTime").unwrap_or(Timestamp::MAX),
        server_version: "6.0.5".into(),
        feature_compatibility: parse::feature_compatibility(all),
        hello: parse::hello_facts(reply),
        replica_set: parse::replica_set(reply, next),
        storage_engine: parse::storage_engine(reply).unwrap_or(StorageEngine {
            name: "wiredTiger".into(),
            persistent: true,
            backup_cursor_open: false,
        }),
        options: parse::start_options(reply).unwrap_or(StartOptions {
            db_path: "/data/db".into(),
            directory_per_db: false,
            directory_for_indexes: false,
            log_path: None,
            role: Role::ReplicaSet,
            journal_enabled: None,
            encrypted: false,
        }),
        oplog: ends.map(|(first, last)| OplogEnds {
            first,
            last,
            truncated: Truncated::Perhaps,
        }),
        missing_actions: parse::missing_actions(reply),
        fsync_locked: false,
        cache: parse::cache(reply),
        shard_identity: identity,
    }
}

/// The log of the mongod that a restore starts.
pub(super) fn server_log(data: &[u8]) -> usize {
    most_telling(&String::from_utf8_lossy(data)).map_or(0, |line| line.len())
}
