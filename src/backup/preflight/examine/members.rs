//! Which members are to be backed up, and whether they are fit.

use futures_util::future::join_all;
use jiff::Timestamp;

use super::super::Finding;
use super::super::cluster::{judge_cluster, judge_completeness};
use super::super::discovery;
use super::super::member::{MemberLimits, judge, judge_together, judge_unreadable};
use crate::backup::Environment;
use crate::backup::journal::survey::Seen;
use crate::error::Explain;
use crate::ids::{DeploymentId, RunId};
use crate::manifest::{Deployment, Role};
use crate::mongo::balancer::cluster_facts;
use crate::mongo::topology::{Found, choose, discover};
use crate::mongo::{self, MemberFacts, Mongod};

/// A member that answered, with the cluster it belongs to.
pub(super) struct Member {
    pub(super) mongod: Mongod,
    pub(super) facts: MemberFacts,
    pub(super) cluster_id: Option<DeploymentId>,
}

pub(super) async fn look_at_members(
    env: &Environment,
    run: RunId,
    at_work: &[Seen],
    findings: &mut Vec<Finding>,
) -> Vec<Member> {
    let app_name = format!("freezeframe-{run}");
    let mongodb = &env.config.mongodb;
    let found = discover(
        &env.tools.access,
        &app_name,
        &mongodb.exclude,
        env.tools.timeout,
    )
    .await;
    let found = found.unwrap_or_else(|error| {
        let todo = error.hint().unwrap_or_default();
        findings.push(Finding::warning(
            "host",
            "discovery",
            error.to_string(),
            todo,
        ));
        Found::default()
    });
    let choice = choose(found.mongods, &mongodb.members);
    let reading = choice.members.iter().map(|addr| async {
        let mongod = mongo::connect(addr, &env.tools.access, &app_name, env.tools.timeout).await?;
        let facts = mongod.facts().await?;
        let cluster = cluster_facts(
            &mongod,
            &facts,
            &env.tools.access,
            &app_name,
            env.tools.timeout,
        )
        .await;
        Ok((mongod, facts, cluster))
    });
    let limits = MemberLimits {
        max_lag: mongodb.max_lag.0,
        min_oplog_window: mongodb.min_oplog_window.0,
        allow_visible_secondary: mongodb.allow_visible_secondary,
    };
    let mut members = Vec::new();
    let mut whole = None;
    for read in join_all(reading).await {
        match read {
            Ok((mongod, facts, cluster)) => {
                let holder = at_work.iter().find(|seen| seen.holds(facts.process));
                let holder = holder.map(|seen| seen.owner.at_work());
                let now = Timestamp::now();
                findings.extend(judge(&facts, &limits, holder.as_deref(), now));
                if facts.options.role != Role::ReplicaSet {
                    findings.extend(judge_cluster(&facts, &cluster));
                }
                let cluster = cluster.ok().flatten();
                let cluster_id = cluster
                    .as_ref()
                    .and_then(|cluster| cluster.cluster_id.clone());
                whole = whole.or(cluster);
                members.push(Member {
                    mongod,
                    facts,
                    cluster_id,
                });
            }
            Err(error) => findings.push(judge_unreadable(&error)),
        }
    }
    let all: Vec<_> = members.iter().map(|member| &member.facts).collect();
    let (others, excluded) = (&choice.others, &found.excluded);
    findings.extend(discovery::judge(&choice.members, &all, others, excluded));
    findings.extend(judge_together(&all));
    findings.extend(whole.and_then(|cluster| judge_completeness(&all, &cluster)));
    members
}

/// The one deployment that all members belong to.
pub(super) fn identify(members: &[Member], findings: &mut Vec<Finding>) -> Option<Deployment> {
    let mut found: Vec<Deployment> = Vec::new();
    for member in members {
        let sharded = member.facts.options.role != Role::ReplicaSet;
        let id = match sharded {
            true => member.cluster_id.clone(),
            false => member
                .facts
                .replica_set
                .as_ref()
                .and_then(|set| set.id.clone()),
        };
        match id {
            Some(id) => found.push(Deployment { id, sharded }),
            None if member.facts.replica_set.is_some() => findings.push(Finding::refused(
                member.mongod.addr().to_string(),
                "deployment",
                "does not tell which deployment it belongs to (settings.replicaSetId, or the cluster id)",
                "give freezeframe's user the privileges of mongodb-role.js",
            )),
            None => {}
        }
    }
    found.dedup();
    if found.len() > 1 {
        findings.push(Finding::refused(
            "host",
            "deployment",
            "the members belong to different deployments, and one backup holds one",
            "name the members of one in [mongodb] members, and back the others up with a configuration of their own",
        ));
        return None;
    }
    found.pop()
}
