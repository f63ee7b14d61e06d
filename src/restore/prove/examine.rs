//! What is asked of a mongod that runs on a copy: its databases, and whether each collection is sound.

use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};

use crate::mongo::facts::integer;
use crate::mongo::{MongoError, Mongod};

/// How long validating one collection may take; bounded only so that a hang ends.
const VALIDATE_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// A database and its collections.
pub(super) struct Database {
    pub(super) name: String,
    pub(super) collections: Vec<String>,
}

/// All databases with all their collections; views hold nothing of their own.
pub(super) async fn list(mongod: &Mongod) -> Result<Vec<Database>, MongoError> {
    const LIST: &str = "listDatabases";
    let reply = mongod
        .run_on("admin", LIST, doc! { "listDatabases": 1, "nameOnly": true })
        .await?;
    let names = reply
        .get_array("databases")
        .map_err(|error| mongod.odd_reply(LIST, error.to_string()))?;
    let mut databases = Vec::new();
    for name in names.iter().filter_map(name_of) {
        let mut collections = collections_of(mongod, &name).await?;
        collections.sort();
        databases.push(Database { name, collections });
    }
    Ok(databases)
}

async fn collections_of(mongod: &Mongod, database: &str) -> Result<Vec<String>, MongoError> {
    const LIST: &str = "listCollections";
    // In one batch: a second one would have to come over the same session. 16 MB hold more than 100,000 names.
    let command = doc! {
        "listCollections": 1,
        "nameOnly": true,
        "filter": { "type": "collection" },
        "cursor": { "batchSize": i32::MAX },
    };
    let odd = |detail: &str| mongod.odd_reply(LIST, detail);
    let reply = mongod.run_on(database, LIST, command).await?;
    let cursor = reply.get_document("cursor").map_err(|_| odd("no cursor"))?;
    if integer(cursor, "id") != Some(0) {
        return Err(odd("more collections than one reply holds"));
    }
    let batch = cursor
        .get_array("firstBatch")
        .map_err(|_| odd("no batch"))?;
    Ok(batch.iter().filter_map(name_of).collect())
}

fn name_of(item: &Bson) -> Option<String> {
    item.as_document()?.get_str("name").ok().map(str::to_owned)
}

/// What `validate` says of one collection.
pub(super) struct Validated {
    pub(super) documents: u64,
    pub(super) problems: Vec<String>,
}

pub(super) async fn validate(
    mongod: &Mongod,
    database: &str,
    collection: &str,
) -> Result<Validated, MongoError> {
    let command = doc! { "validate": collection, "full": true };
    let reply = mongod
        .with_timeout(VALIDATE_LIMIT)
        .run_on(database, "validate", command)
        .await?;
    let mut problems: Vec<String> = reply
        .get_array("errors")
        .map(|errors| errors.iter().map(text_of).collect())
        .unwrap_or_default();
    if problems.is_empty() && !reply.get_bool("valid").unwrap_or(false) {
        problems.push("validate calls it not valid and gives no reason".into());
    }
    Ok(Validated {
        documents: integer(&reply, "nrecords")
            .and_then(|count| u64::try_from(count).ok())
            .unwrap_or(0),
        problems,
    })
}

fn text_of(value: &Bson) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// MongoDB's own hash of a database.
pub(super) async fn hash(mongod: &Mongod, database: &str) -> Result<String, MongoError> {
    const HASH: &str = "dbHash";
    let reply: Document = mongod
        .with_timeout(VALIDATE_LIMIT)
        .run_on(database, HASH, doc! { "dbHash": 1 })
        .await?;
    reply
        .get_str("md5")
        .map(str::to_owned)
        .map_err(|error| mongod.odd_reply(HASH, error.to_string()))
}
