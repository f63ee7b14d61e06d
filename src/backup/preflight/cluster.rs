//! Whether a sharded cluster stands still, and whether all of it is backed up: pure judgement, and the second look after the window.

use std::time::Duration;

use super::member::subject;
use super::{Finding, Verdict};
use crate::backup::plan::Plan;
use crate::ids::RunId;
use crate::manifest::Role;
use crate::mongo::Access;
use crate::mongo::balancer::{ClusterError, ClusterFacts, cluster_facts};
use crate::mongo::facts::MemberFacts;

/// Judges whether chunks may move while `facts`' member is held: only for shards and config servers.
pub fn judge_cluster(
    facts: &MemberFacts,
    cluster: &Result<Option<ClusterFacts>, ClusterError>,
) -> Vec<Finding> {
    let subject = subject(facts);
    let cluster = match cluster {
        Ok(None) => return Vec::new(),
        Ok(Some(cluster)) => cluster,
        Err(error) => {
            return vec![Finding::refused(
                subject,
                "balancer",
                format!("cannot tell whether the balancer is on: {error}"),
                "make the config servers reachable with the same access, and give its user the role of mongodb-role.js there too",
            )];
        }
    };
    let balancer = if cluster.balancer_on {
        Finding::refused(
            subject.clone(),
            "balancer",
            "the balancer of the cluster is on: chunks may move while the shards are copied",
            "run sh.stopBalancer() on a mongos, and sh.startBalancer() after the backup",
        )
    } else {
        Finding::ok(subject.clone(), "balancer", "the balancer is off")
    };
    let migrations = if cluster.migrations.is_empty() {
        Finding::ok(subject, "migrations", "no migration is under way")
    } else {
        Finding::refused(
            subject,
            "migrations",
            format!("under way: {}", cluster.migrations.join("; ")),
            "wait until the migrations have ended",
        )
    };
    vec![balancer, migrations]
}

/// Warns of the parts of the cluster that no member to be backed up belongs to: a cluster is restored as a whole.
pub fn judge_completeness(members: &[&MemberFacts], cluster: &ClusterFacts) -> Option<Finding> {
    let has_config = members
        .iter()
        .any(|facts| facts.options.role == Role::ConfigServer);
    let holds = |shard: &str| {
        // Since 8.0 the config servers may be a shard, of this name.
        (shard == "config" && has_config)
            || members.iter().any(|facts| {
                let identity = facts.shard_identity.as_ref();
                identity.is_some_and(|identity| identity.shard_name == shard)
            })
    };
    let shards = cluster.shards.iter().filter(|shard| !holds(shard));
    let mut missing: Vec<String> = shards.map(|shard| format!("shard {shard}")).collect();
    if !has_config {
        missing.push("the config servers".to_owned());
    }
    if missing.is_empty() {
        return None;
    }
    Some(Finding::warning(
        "cluster",
        "completeness",
        format!(
            "this backup will not hold the whole cluster: no member of {} is on this host",
            missing.join(", ")
        ),
        "back the missing parts up on their own hosts at the same time; one host with a hidden member of each gives one moment for all",
    ))
}

/// Looks once more after the window: what moved while the members were held, or has begun to, is told.
///
/// # Errors
/// What the first refusal says.
pub async fn stood_still(
    plan: &Plan,
    run: RunId,
    access: &Access,
    timeout: Duration,
) -> Result<(), String> {
    let app_name = format!("freezeframe-{run}");
    for member in &plan.members {
        let cluster =
            cluster_facts(&member.mongod, &member.facts, access, &app_name, timeout).await;
        let findings = judge_cluster(&member.facts, &cluster);
        let refused = |finding: &&Finding| finding.verdict == Verdict::Refused;
        if let Some(finding) = findings.iter().find(refused) {
            return Err(finding.detail.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::member::tests::fit;
    use super::*;
    use crate::mongo::facts::ShardIdentity;

    fn of_shard(name: &str) -> MemberFacts {
        let mut facts = fit();
        facts.options.role = Role::Shard;
        facts.shard_identity = Some(ShardIdentity {
            shard_name: name.into(),
            config_servers: "cfg/db1:27019".into(),
            cluster_id: "0123456789abcdef01234567".parse().unwrap(),
        });
        facts
    }

    #[test]
    fn a_part_of_the_cluster_that_is_not_backed_up_is_told() {
        let cluster = ClusterFacts {
            cluster_id: None,
            shards: vec!["s1".into(), "s2".into()],
            balancer_on: false,
            migrations: Vec::new(),
        };
        let (one, two, mut config) = (of_shard("s1"), of_shard("s2"), fit());
        config.options.role = Role::ConfigServer;
        let told = |members: &[&MemberFacts]| {
            judge_completeness(members, &cluster).map(|finding| finding.detail)
        };
        assert_eq!(told(&[&one, &two, &config]), None);
        let missing = told(&[&one]).unwrap();
        assert!(
            missing.contains("shard s2, the config servers is"),
            "{missing}"
        );
        // The config servers as a shard of their own.
        let cluster = ClusterFacts {
            shards: vec!["config".into(), "s1".into()],
            ..cluster.clone()
        };
        assert!(judge_completeness(&[&one, &config], &cluster).is_none());
        assert!(judge_completeness(&[&one], &cluster).is_some());
    }

    #[test]
    fn a_cluster_must_be_known_to_be_quiet() {
        let facts = of_shard("s1");
        let cluster = |balancer_on, migrations: &[&str]| {
            Ok(Some(ClusterFacts {
                cluster_id: None,
                shards: vec!["s1".into()],
                balancer_on,
                migrations: migrations.iter().map(|text| (*text).to_owned()).collect(),
            }))
        };
        let unknown = Err(ClusterError::NoConfigServers {
            addr: facts.addr.clone(),
        });
        let cases = [
            (cluster(false, &[]), None),
            (cluster(true, &[]), Some("balancer")),
            (
                cluster(false, &["shop.orders: s1 -> s2"]),
                Some("migrations"),
            ),
            (unknown, Some("balancer")),
            (Ok(None), None),
        ];
        for (cluster, expected) in cases {
            let findings = judge_cluster(&facts, &cluster);
            let refused = findings
                .iter()
                .find(|finding| finding.verdict == Verdict::Refused)
                .map(|finding| finding.check);
            assert_eq!(refused, expected, "{cluster:?}");
        }
    }
}
