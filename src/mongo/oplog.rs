//! The ends of the oplog, read by natural order: no index, no forward scan, works under the lock.

use mongodb::bson::{Bson, Document, doc};

use super::facts::integer;
use super::{MongoError, Mongod};
use crate::ids::OpTime;

const FIND: &str = "find local.oplog.rs";

impl Mongod {
    /// The newest entry.
    ///
    /// # Errors
    /// [`MongoError`]; an empty oplog is an unexpected reply.
    pub async fn oplog_top(&self) -> Result<OpTime, MongoError> {
        self.oplog_end(-1)
            .await?
            .ok_or_else(|| self.odd_reply(FIND, "the oplog is empty"))
    }

    /// Up to where everything is in the journal on disk, without holes: `optimes.durableOpTime` of `replSetGetStatus`. A snapshot that is
    /// taken later holds it (`doc/mongodb.md`, "Without the lock").
    ///
    /// # Errors
    /// [`MongoError`].
    pub async fn durable_optime(&self) -> Result<OpTime, MongoError> {
        const STATUS: &str = "replSetGetStatus";
        let status = self.run(STATUS, doc! { STATUS: 1 }).await?;
        let optimes = status.get_document("optimes").ok();
        let durable = optimes.and_then(|optimes| optimes.get_document("durableOpTime").ok());
        durable
            .and_then(entry_optime)
            .filter(|found| found.seconds > 0)
            .ok_or_else(|| self.odd_reply(STATUS, "it tells no optimes.durableOpTime"))
    }

    /// The oldest (1) or newest (-1) entry; none in an empty oplog.
    pub(super) async fn oplog_end(&self, direction: i32) -> Result<Option<OpTime>, MongoError> {
        let command = doc! {
            "find": "oplog.rs",
            "sort": { "$natural": direction },
            "limit": 1,
            "singleBatch": true,
            "projection": { "_id": 0, "ts": 1, "t": 1 },
        };
        match self.find("local", FIND, command).await?.first() {
            None => Ok(None),
            Some(entry) => entry_optime(entry)
                .map(Some)
                .ok_or_else(|| self.odd_reply(FIND, "an entry has no timestamp")),
        }
    }
}

/// `{ts, t}` of an oplog entry or of an optime in a status document.
pub(crate) fn entry_optime(entry: &Document) -> Option<OpTime> {
    match entry.get("ts") {
        Some(Bson::Timestamp(ts)) => Some(OpTime {
            seconds: ts.time,
            increment: ts.increment,
            term: integer(entry, "t").unwrap_or(-1),
        }),
        _ => None,
    }
}
