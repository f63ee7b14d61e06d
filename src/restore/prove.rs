//! Proof: every archive is unpacked to a scratch place, mongod is started on it, and every collection is validated.

mod examine;

use std::path::Path;
use std::time::Instant;

use async_trait::async_trait;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use examine::{Database, Validated, hash, list, validate};

use super::binary::MongodBinary;
use super::server::{PrivateMongod, Purpose};
use super::{RestoreError, settle, target};
use crate::error::Explain;
use crate::ids::{OpTime, ShardName};
use crate::manifest::{Manifest, MemberRecord};
use crate::mongo::MongoError;
use crate::progress::Progress;

/// Gets an archive out of the store and into a directory, hashes checked on the way.
#[async_trait]
pub trait Unpack: Send + Sync {
    /// Unpacks the archive of `member` into the empty directory `into`.
    ///
    /// # Errors
    /// Whatever stood in the way.
    async fn unpack(
        &self,
        member: &MemberRecord,
        into: &Path,
    ) -> Result<(), Box<dyn Explain + Send + Sync>>;
}

/// What a proof found; the data of `verify --deep --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proof {
    /// Version of the mongod that validated.
    pub mongod: String,
    /// One for every member of the backup.
    pub shards: Vec<ShardProof>,
}

/// What was found in one archive.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShardProof {
    /// The replica set.
    pub shard: ShardName,
    /// The end of the oplog, up to which the data was recovered; none when that was not reached.
    pub optime: Option<OpTime>,
    /// Collections validated, those with failures included.
    pub collections: u64,
    /// Documents counted while validating.
    pub documents: u64,
    /// The same for each database.
    pub databases: Vec<DatabaseProof>,
    /// What is wrong; empty when the archive is proven.
    pub failures: Vec<Failure>,
    /// From the first byte unpacked to the last collection validated.
    pub seconds: f64,
}

/// What was found in one database.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatabaseProof {
    /// Its name.
    pub name: String,
    /// Collections validated.
    pub collections: u64,
    /// Documents counted.
    pub documents: u64,
    /// MongoDB's own hash of its replicated collections (`dbHash`); none for `local` and where it failed.
    pub hash: Option<String>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The collection or database; none when it concerns all of them.
    pub namespace: Option<String>,
    /// What mongod says.
    pub problem: String,
}

impl Proof {
    /// Whether everything is in order.
    ///
    /// # Errors
    /// [`RestoreError::NotProven`] otherwise.
    pub fn verdict(&self) -> Result<(), RestoreError> {
        let mut failures = self
            .shards
            .iter()
            .flat_map(|shard| shard.failures.iter().map(move |failure| (shard, failure)));
        let Some((shard, first)) = failures.next() else {
            return Ok(());
        };
        Err(RestoreError::NotProven {
            shard: shard.shard.clone(),
            first: match &first.namespace {
                Some(namespace) => format!("{namespace}: {}", first.problem),
                None => first.problem.clone(),
            },
            others: failures.count(),
        })
    }
}

/// What is to be proven, and where.
#[derive(Clone, Copy)]
pub struct Proving<'a> {
    /// The backup.
    pub manifest: &'a Manifest,
    /// Gets its archives.
    pub source: &'a dyn Unpack,
    /// Where the copies go, one at a time: an existing directory with room for the largest.
    pub scratch: &'a Path,
    /// The mongod that validates.
    pub binary: &'a MongodBinary,
}

/// Proves a backup: unpacks each archive, starts mongod on it and validates all it holds.
///
/// Damage does not end it: it is all in the [`Proof`], see [`Proof::verdict`]. The copies are removed in every outcome.
///
/// # Errors
/// [`RestoreError`] when the proof could not be made: no space, no fit binary, an archive that
/// cannot be unpacked, cancelled.
pub async fn prove(
    proving: Proving<'_>,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Proof, RestoreError> {
    let members = &proving.manifest.members;
    for member in members {
        proving.binary.fit_for(&member.server_version)?;
    }
    let largest = members.iter().map(|m| m.archive.data_size).max();
    target::check_space(proving.scratch, with_room(largest.unwrap_or(0)))?;
    let mut shards = Vec::new();
    for member in members {
        shards.push(prove_member(proving, member, progress, cancel).await?);
    }
    Ok(Proof {
        mongod: proving.binary.version().to_string(),
        shards,
    })
}

/// A tenth more than the data: recovery writes what it replays and a journal besides.
fn with_room(data: u64) -> u64 {
    data.saturating_add(data / 10)
}

async fn prove_member(
    proving: Proving<'_>,
    member: &MemberRecord,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<ShardProof, RestoreError> {
    let started = Instant::now();
    let scratch = tempfile::Builder::new()
        .prefix("freezeframe-prove-")
        .tempdir_in(proving.scratch)
        .map_err(RestoreError::io("create a directory in", proving.scratch))?;
    let unpacked = tokio::select! {
        outcome = proving.source.unpack(member, scratch.path()) => outcome,
        () = cancel.cancelled() => return Err(RestoreError::Cancelled),
    };
    unpacked.map_err(|cause| RestoreError::Unpack {
        shard: member.shard.clone(),
        cause,
    })?;
    settle::refuse_encrypted(scratch.path())?;
    progress.say(&format!(
        "{}: unpacked; starting mongod on it",
        member.shard
    ));

    let mut inspection = Inspection {
        db_path: scratch.path(),
        logs: proving.scratch,
        member,
        binary: proving.binary,
        cancel,
        proof: ShardProof {
            shard: member.shard.clone(),
            optime: None,
            collections: 0,
            documents: 0,
            databases: Vec::new(),
            failures: Vec::new(),
            seconds: 0.0,
        },
    };
    let outcome = tokio::select! {
        outcome = inspection.run(progress) => outcome,
        () = cancel.cancelled() => Err(RestoreError::Cancelled),
    };
    let mut proof = inspection.proof;
    let path = scratch.path().to_owned();
    let removed = scratch.close().map_err(RestoreError::io("remove", path));
    outcome?;
    removed?;
    proof.seconds = started.elapsed().as_secs_f64();
    Ok(proof)
}

/// One archive being looked at.
struct Inspection<'a> {
    db_path: &'a Path,
    logs: &'a Path,
    member: &'a MemberRecord,
    binary: &'a MongodBinary,
    cancel: &'a CancellationToken,
    proof: ShardProof,
}

impl Inspection<'_> {
    async fn run(&mut self, progress: &dyn Progress) -> Result<(), RestoreError> {
        let Some(mut mongod) = self.start().await? else {
            return Ok(());
        };
        let listed = match list(mongod.connection()).await {
            Ok(listed) => listed,
            Err(error) => {
                let error = mongod.explain(error).await;
                return self.note(None, error);
            }
        };
        for Database { name, collections } in listed {
            progress.say(&format!(
                "{}: validating {name}, collections: {}",
                self.member.shard,
                collections.len()
            ));
            let mut database = DatabaseProof {
                name,
                collections: 0,
                documents: 0,
                hash: None,
            };
            for collection in collections {
                let namespace = format!("{}.{collection}", database.name);
                let validated = validate(mongod.connection(), &database.name, &collection).await;
                match validated {
                    Ok(Validated {
                        documents,
                        problems,
                    }) => {
                        database.documents += documents;
                        self.proof
                            .failures
                            .extend(problems.into_iter().map(|problem| Failure {
                                namespace: Some(namespace.clone()),
                                problem,
                            }));
                    }
                    Err(error) => match self.survive(mongod, namespace, error).await? {
                        Some(restarted) => mongod = restarted,
                        None => return Ok(()),
                    },
                }
                database.collections += 1;
            }
            if database.name != "local" {
                match hash(mongod.connection(), &database.name).await {
                    Ok(hash) => database.hash = Some(hash),
                    Err(error) => match self.survive(mongod, database.name.clone(), error).await? {
                        Some(restarted) => mongod = restarted,
                        None => return Ok(()),
                    },
                }
            }
            self.proof.collections += database.collections;
            self.proof.documents += database.documents;
            self.proof.databases.push(database);
        }
        // The copy is thrown away: how mongod leaves it does not matter, so it is ended, not stopped.
        Ok(())
    }

    /// Starts mongod on the copy and compares where its oplog ends; none when it cannot start.
    async fn start(&mut self) -> Result<Option<PrivateMongod>, RestoreError> {
        let layout = &self.member.layout;
        let mut mongod = match PrivateMongod::start(
            self.binary,
            self.db_path,
            layout,
            Purpose::Inspect,
            self.logs,
            self.cancel,
        )
        .await
        {
            Ok(mongod) => mongod,
            Err(error) => return self.note(None, error).map(|()| None),
        };
        match mongod.connection().oplog_top().await {
            Ok(top) => {
                if !self.member.ends_at(top) && self.proof.optime.is_none() {
                    self.proof.failures.push(Failure {
                        namespace: None,
                        problem: format!(
                            "the oplog ends at {top}, and the manifest promises {}",
                            self.member.promise()
                        ),
                    });
                }
                self.proof.optime = Some(top);
                Ok(Some(mongod))
            }
            Err(error) => {
                let error = mongod.explain(error).await;
                self.note(None, error).map(|()| None)
            }
        }
    }

    /// Notes a failure of `namespace`. WiredTiger may end the whole process when it reads a damaged page, so
    /// mongod is started again for the collections that are left; none when it does not start any more.
    async fn survive(
        &mut self,
        mut mongod: PrivateMongod,
        namespace: String,
        error: MongoError,
    ) -> Result<Option<PrivateMongod>, RestoreError> {
        let error = match error {
            MongoError::Command { .. } | MongoError::Reply { .. } => RestoreError::from(error),
            broken => mongod.explain(broken).await,
        };
        let died = matches!(error, RestoreError::Died { .. });
        self.note(Some(namespace), error)?;
        if died {
            drop(mongod);
            return self.start().await;
        }
        Ok(Some(mongod))
    }

    /// What is the data's fault becomes a failure; what is not stays an error.
    fn note(&mut self, namespace: Option<String>, error: RestoreError) -> Result<(), RestoreError> {
        match error {
            RestoreError::DiedAtStart { .. }
            | RestoreError::Died { .. }
            | RestoreError::Mongo(MongoError::Command { .. } | MongoError::Reply { .. }) => {
                self.proof.failures.push(Failure {
                    namespace,
                    problem: error.to_string(),
                });
                Ok(())
            }
            other => Err(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    fn proof(failures: Vec<Failure>) -> Proof {
        let shard = ShardProof {
            shard: "rs0".parse().unwrap(),
            optime: None,
            collections: 2,
            documents: 3,
            databases: Vec::new(),
            failures,
            seconds: 1.5,
        };
        Proof {
            mongod: "6.0.5".into(),
            shards: vec![shard],
        }
    }

    #[test]
    fn one_failure_is_damage() {
        proof(Vec::new()).verdict().unwrap();
        let failure = |problem: &str| Failure {
            namespace: Some("app.items".into()),
            problem: problem.into(),
        };
        let error = proof(vec![failure("a hole"), failure("a crack")])
            .verdict()
            .unwrap_err();
        assert_eq!(error.exit(), Exit::Damaged);
        assert_eq!(
            error.to_string(),
            "the data of rs0 is damaged: app.items: a hole (and 1 more)"
        );
    }

    #[test]
    fn the_report_keeps_its_form() {
        let failure = Failure {
            namespace: None,
            problem: "p".into(),
        };
        let json = serde_json::to_value(proof(vec![failure])).unwrap();
        let expected = serde_json::json!({
            "mongod": "6.0.5",
            "shards": [{
                "shard": "rs0", "optime": null, "collections": 2, "documents": 3, "databases": [],
                "failures": [{ "namespace": null, "problem": "p" }], "seconds": 1.5,
            }],
        });
        assert_eq!(json, expected);
    }
}
