//! Whether chunks are moving in a sharded cluster, read from the config servers' primary.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use serde::Serialize;

use super::{Access, MemberFacts, MongoError, Mongod, connect};
use crate::ids::{DeploymentId, MemberAddr};
use crate::manifest::Role;

/// What the config servers say about the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterFacts {
    /// `config.version.clusterId`.
    pub cluster_id: Option<DeploymentId>,
    /// Names of the shards.
    pub shards: Vec<String>,
    /// The balancer may move chunks.
    pub balancer_on: bool,
    /// Migrations under way, as `collection: from -> to`.
    pub migrations: Vec<String>,
}

/// Why a cluster's state cannot be told.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClusterError {
    /// The member does not say where its config servers are.
    #[error("{addr} does not say where its config servers are: it has no shardIdentity")]
    NoConfigServers {
        /// The member.
        addr: MemberAddr,
    },
    /// None of the config servers is a primary that can be read.
    #[error("no primary among the config servers {servers} could be read: {detail}")]
    NoPrimary {
        /// All that were tried.
        servers: String,
        /// What the last of them said.
        detail: String,
    },
    /// A read failed.
    #[error(transparent)]
    Mongo(#[from] MongoError),
}

/// The state of the cluster that a shard or config server belongs to; none for a plain replica set.
///
/// The config servers are asked directly with the same access: of a config server its own set, of a
/// shard those that its `shardIdentity` names. The member's own unfinished migrations count too.
///
/// # Errors
/// [`ClusterError`]: then it must be taken for moving.
pub async fn cluster_facts(
    member: &Mongod,
    facts: &MemberFacts,
    access: &Access,
    app_name: &str,
    timeout: Duration,
) -> Result<Option<ClusterFacts>, ClusterError> {
    let servers = match facts.options.role {
        Role::ReplicaSet => return Ok(None),
        Role::ConfigServer => own_set(facts),
        Role::Shard => match &facts.shard_identity {
            Some(identity) => members_of(&identity.config_servers),
            None => {
                return Err(ClusterError::NoConfigServers {
                    addr: facts.addr.clone(),
                });
            }
        },
    };
    let primary = find_primary(&servers, access, app_name, timeout).await?;
    let mut cluster = read_cluster(&primary).await?;
    if facts.options.role == Role::Shard {
        let unfinished = read(member, "migrationCoordinators", COORDINATORS).await?;
        cluster.migrations.extend(
            unfinished
                .iter()
                .map(|migration| migration_name(migration, "donorShardId", "recipientShardId")),
        );
    }
    Ok(Some(cluster))
}

const COORDINATORS: &str = "find config.migrationCoordinators";

fn own_set(facts: &MemberFacts) -> Vec<MemberAddr> {
    let set = facts.replica_set.as_ref();
    set.into_iter()
        .flat_map(|set| &set.members)
        .filter(|member| !member.arbiter)
        .filter_map(|member| member.host.parse().ok())
        .collect()
}

/// The members in `set/host:port,host:port`.
pub(crate) fn members_of(connection_string: &str) -> Vec<MemberAddr> {
    let hosts = connection_string
        .split_once('/')
        .map_or(connection_string, |(_, hosts)| hosts);
    hosts
        .split(',')
        .filter_map(|host| host.trim().parse().ok())
        .collect()
}

async fn find_primary(
    servers: &[MemberAddr],
    access: &Access,
    app_name: &str,
    timeout: Duration,
) -> Result<Mongod, ClusterError> {
    let mut detail = "there is none".to_owned();
    for addr in servers {
        match connect(addr, access, app_name, timeout).await {
            Ok(server) => match server.run("hello", doc! { "hello": 1 }).await {
                Ok(hello) if hello.get_bool("isWritablePrimary").unwrap_or(false) => {
                    return Ok(server);
                }
                Ok(_) => {}
                Err(error) => detail = error.to_string(),
            },
            Err(error) => detail = error.to_string(),
        }
    }
    let names: Vec<String> = servers.iter().map(ToString::to_string).collect();
    Err(ClusterError::NoPrimary {
        servers: names.join(", "),
        detail,
    })
}

async fn read_cluster(config: &Mongod) -> Result<ClusterFacts, MongoError> {
    let settings = read(config, "settings", "find config.settings").await?;
    let shards = read(config, "shards", "find config.shards").await?;
    let versions = read(config, "version", "find config.version").await?;
    let migrations = read(config, "migrations", "find config.migrations").await?;
    Ok(ClusterFacts {
        cluster_id: versions
            .first()
            .and_then(|version| version.get_object_id("clusterId").ok())
            .and_then(|id| id.to_hex().parse().ok()),
        shards: shards
            .iter()
            .filter_map(|shard| shard.get_str("_id").ok().map(str::to_owned))
            .collect(),
        balancer_on: balancer_on(&settings),
        migrations: migrations
            .iter()
            .map(|migration| migration_name(migration, "fromShard", "toShard"))
            .collect(),
    })
}

async fn read(
    server: &Mongod,
    collection: &str,
    name: &'static str,
) -> Result<Vec<Document>, MongoError> {
    // More than a batch of any of these would be a cluster of thousands of shards.
    let command = doc! { "find": collection, "batchSize": 10_000, "singleBatch": true };
    server.find("config", name, command).await
}

/// A balancer is on unless `config.settings` says that it is stopped or its mode moves nothing.
pub(crate) fn balancer_on(settings: &[Document]) -> bool {
    let balancer = settings
        .iter()
        .find(|setting| setting.get_str("_id").is_ok_and(|id| id == "balancer"));
    let Some(balancer) = balancer else {
        return true;
    };
    let stopped = balancer.get_bool("stopped").unwrap_or(false);
    // autoSplitOnly (until 6.0) splits chunks and moves none.
    let moves = balancer
        .get_str("mode")
        .is_ok_and(|mode| mode == "full" || mode.is_empty());
    let has_mode = balancer.contains_key("mode");
    !stopped && (moves || !has_mode)
}

pub(crate) fn migration_name(migration: &Document, from: &str, to: &str) -> String {
    let text = |name| migration.get_str(name).unwrap_or("?");
    let collection = ["ns", "nss"]
        .into_iter()
        .find_map(|name| migration.get_str(name).ok())
        .unwrap_or("a collection");
    format!("{collection}: {} -> {}", text(from), text(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balancer_is_on_unless_settings_say_otherwise() {
        for (setting, expected) in [
            (None, true),
            (Some(doc! {}), true),
            (Some(doc! { "activeWindow": { "start": "1:00" } }), true),
            (Some(doc! { "mode": "full", "stopped": false }), true),
            (Some(doc! { "mode": "full", "stopped": true }), false),
            (Some(doc! { "mode": "off" }), false),
            (
                Some(doc! { "mode": "autoSplitOnly", "stopped": false }),
                false,
            ),
            (Some(doc! { "stopped": true }), false),
        ] {
            let mut settings = vec![doc! { "_id": "chunksize", "value": 64 }];
            settings.extend(setting.clone().map(|mut setting| {
                setting.insert("_id", "balancer");
                setting
            }));
            assert_eq!(balancer_on(&settings), expected, "{setting:?}");
        }
    }

    #[test]
    fn config_servers_are_read_from_the_connection_string() {
        let hosts = members_of("cfg/db1:27019,db2:27019");
        let names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["db1:27019", "db2:27019"]);
        assert!(members_of("").is_empty());
    }
}
