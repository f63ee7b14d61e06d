//! The judgement of members, on members that really are what they are refused for.

use std::time::Duration;

use freezeframe::backup::preflight::cluster::judge_cluster;
use freezeframe::backup::preflight::member::{MemberLimits, judge, judge_unreadable};
use freezeframe::backup::preflight::{Finding, Verdict, discovery, worst};
use freezeframe::mongo::balancer::cluster_facts;
use freezeframe::mongo::process::{NotHere, data_directory};
use freezeframe::mongo::topology::{Discovered, choose, discover};
use freezeframe::mongo::{Access, MongoError, Secret, connect};
use mongodb::bson::{Document, doc};

use crate::support::mongod::{Member, Options, ReplicaSet, Running, until};
use crate::{TIMEOUT, open};

const LIMITS: MemberLimits = MemberLimits {
    max_lag: Duration::from_secs(10),
    min_oplog_window: Duration::ZERO,
    allow_visible_secondary: false,
};

async fn judged(set: &ReplicaSet, i: usize, limits: &MemberLimits) -> Vec<Finding> {
    let facts = open(set, i, &set.access()).await.facts().await.unwrap();
    judge(&facts, limits, None, jiff::Timestamp::now())
}

fn refusals(findings: &[Finding]) -> Vec<&'static str> {
    let refused = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Refused);
    refused.map(|finding| finding.check).collect()
}

#[tokio::test]
async fn the_hidden_secondary_is_fit_and_each_other_member_is_refused() {
    let members = vec![
        Member::primary(),
        Member::secondary(),
        Member::hidden(),
        Member::arbiter(),
        Member::delayed(3600),
    ];
    let set = ReplicaSet::start(Options {
        members,
        ..Options::default()
    })
    .await;
    // Every member has seen every other's heartbeat, else its view is not yet whole.
    until("the hidden member is fit", async || {
        refusals(&judged(&set, 2, &LIMITS).await).is_empty()
    })
    .await;
    assert_eq!(refusals(&judged(&set, 0, &LIMITS).await), ["state"]);
    // Of three voters one is an arbiter: locking the visible one would stall majority writes.
    assert_eq!(
        refusals(&judged(&set, 1, &LIMITS).await),
        ["hidden", "majority"]
    );
    let arbiter = connect(set.addr(3), &set.access(), "freezeframe-test", TIMEOUT)
        .await
        .unwrap_err();
    assert_eq!(refusals(&[judge_unreadable(&arbiter)]), ["state"]);
    let delayed = refusals(&judged(&set, 4, &LIMITS).await);
    assert!(delayed.contains(&"delay"), "{delayed:?}");
    let long = MemberLimits {
        min_oplog_window: Duration::from_secs(86_400),
        ..LIMITS
    };
    let young = judged(&set, 2, &long).await;
    assert_eq!(refusals(&young), Vec::<&str>::new());
    let young = young
        .iter()
        .find(|finding| finding.check == "oplog_window")
        .unwrap();
    // A larger one would reach back no further.
    assert!(young.detail.contains("because it is young"), "{young:?}");
    assert!(
        !young.todo.as_deref().unwrap().contains("enlarge"),
        "{young:?}"
    );

    let hidden = open(&set, 2, &set.access()).await;
    hidden.lock("test").await.unwrap();
    assert_eq!(refusals(&judged(&set, 2, &LIMITS).await), ["fsync_lock"]);
    hidden.unlock().await.unwrap();

    // Started again nobody can tell what was removed before.
    let mut set = set;
    set.members[2].kill();
    set.members[2].restart();
    until("the restarted member is fit", async || {
        let open = connect(set.addr(2), &set.access(), "freezeframe-test", TIMEOUT).await;
        let Ok(member) = open else {
            return false;
        };
        let facts = member.facts().await;
        facts.is_ok_and(|facts| facts.oplog.is_some())
            && refusals(&judged(&set, 2, &LIMITS).await).is_empty()
    })
    .await;
    let restarted = judged(&set, 2, &long).await;
    assert_eq!(refusals(&restarted), Vec::<&str>::new());
    let finding = restarted
        .iter()
        .find(|finding| finding.check == "oplog_window")
        .unwrap();
    assert!(finding.detail.contains("young or small"), "{finding:?}");
}

#[tokio::test]
async fn an_arbiter_under_authentication_is_known_as_one() {
    let members = vec![Member::primary(), Member::arbiter()];
    let set = ReplicaSet::start(Options {
        auth: true,
        members,
        ..Options::default()
    })
    .await;
    let access = set.minimum_access().await;
    let error = connect(set.addr(1), &access, "freezeframe-test", TIMEOUT)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, MongoError::Arbiter { set: Some(set), .. } if set == "rs0"),
        "{error:?}"
    );
    assert_eq!(judge_unreadable(&error).check, "state");
}

/// Such a user would lock the member and leave it so.
#[tokio::test]
async fn a_user_that_may_not_unlock_is_refused_before_it_locks() {
    let set = ReplicaSet::start(Options {
        auth: true,
        members: vec![Member::primary(), Member::hidden()],
        ..Options::default()
    })
    .await;
    let access = set.minimum_access().await;
    let read = async || open(&set, 1, &access).await.facts().await.unwrap();
    assert!(read().await.missing_actions.is_empty());
    let revoke = doc! {
        "revokePrivilegesFromRole": "freezeframe",
        "privileges": [{ "resource": { "cluster": true }, "actions": ["unlock"] }],
        "writeConcern": { "w": 2 },
    };
    set.admin(0)
        .await
        .database("admin")
        .run_command(revoke)
        .await
        .unwrap();
    until("the member knows of it", async || {
        read().await.missing_actions == ["unlock"]
    })
    .await;
    let findings = judge(&read().await, &LIMITS, None, jiff::Timestamp::now());
    assert!(refusals(&findings).contains(&"privileges"), "{findings:#?}");
}

#[tokio::test]
async fn a_hidden_voter_of_two_is_the_majority_trap() {
    let members = vec![Member::primary(), Member::hidden_voter()];
    let set = ReplicaSet::start(Options {
        members,
        ..Options::default()
    })
    .await;
    until("only the trap is left", async || {
        refusals(&judged(&set, 1, &LIMITS).await) == ["majority"]
    })
    .await;
    // And it is one: under the lock a majority write does not come back.
    let hidden = open(&set, 1, &set.access()).await;
    let data = set.admin(0).await.database("shop");
    let insert = |id: i32| {
        data.run_command(doc! {
            "insert": "orders",
            "documents": [{ "_id": id }],
            "writeConcern": { "w": "majority", "wtimeout": 2000 },
        })
    };
    assert!(!insert(1).await.unwrap().contains_key("writeConcernError"));
    hidden.lock("test").await.unwrap();
    let stalled = insert(2).await.unwrap();
    hidden.unlock().await.unwrap();
    assert!(stalled.contains_key("writeConcernError"), "{stalled}");
}

#[tokio::test]
async fn a_member_that_does_not_apply_is_refused_for_its_lag() {
    let members = vec![Member::primary(), Member::hidden()];
    let set = ReplicaSet::start(Options {
        members,
        ..Options::default()
    })
    .await;
    let stop = doc! { "configureFailPoint": "rsSyncApplyStop", "mode": "alwaysOn" };
    let hidden = set.admin(1).await.database("admin");
    hidden.run_command(stop).await.unwrap();
    let orders = set
        .admin(0)
        .await
        .database("shop")
        .collection::<Document>("orders");
    let limits = MemberLimits {
        max_lag: Duration::from_secs(1),
        ..LIMITS
    };
    until("the lag shows", async || {
        orders.insert_one(doc! {}).await.unwrap();
        refusals(&judged(&set, 1, &limits).await) == ["lag"]
    })
    .await;
    let go = doc! { "configureFailPoint": "rsSyncApplyStop", "mode": "off" };
    hidden.run_command(go).await.unwrap();
    until("it has caught up", async || {
        refusals(&judged(&set, 1, &limits).await).is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_member_in_initial_sync_is_refused() {
    let hang = "failpoint.initialSyncHangBeforeCopyingDatabases={mode:'alwaysOn'}";
    let syncing = Member::hidden().with_args(&["--setParameter", hang]);
    let members = vec![Member::primary(), syncing];
    let options = Options {
        members,
        ..Options::default()
    };
    let set = ReplicaSet::initiate(&options).await;
    until("the initial sync hangs", async || {
        let hidden = open(&set, 1, &set.access()).await;
        let Ok(facts) = hidden.facts().await else {
            return false;
        };
        let refused = refusals(&judge(&facts, &LIMITS, None, jiff::Timestamp::now()));
        refused.contains(&"state") && refused.contains(&"initial_sync")
    })
    .await;
}

#[tokio::test]
async fn a_standalone_and_a_server_without_journal_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::start(dir.path(), "alone", &["--nojournal".into()]);
    let mongod = connect(
        &server.addr,
        &Access::default(),
        "freezeframe-test",
        TIMEOUT,
    )
    .await
    .unwrap();
    let facts = mongod.facts().await.unwrap();
    assert!(facts.replica_set.is_none() && facts.oplog.is_none());
    let findings = judge(&facts, &LIMITS, None, jiff::Timestamp::now());
    assert_eq!(refusals(&findings), ["journal", "state"]);
}

#[tokio::test]
async fn running_members_are_discovered_and_excluded_ones_are_not() {
    let set = ReplicaSet::start(Options::default()).await;
    let (primary, secondary, hidden) = (set.addr(0), set.addr(1), set.addr(2));
    let found = discover(
        &set.access(),
        "freezeframe-test",
        std::slice::from_ref(secondary),
        TIMEOUT,
    )
    .await
    .unwrap();
    assert_eq!(found.excluded, std::slice::from_ref(secondary));
    // Other tests run mongods on this host too.
    let ours: Vec<Discovered> = found
        .mongods
        .into_iter()
        .filter(|found| {
            set.members
                .iter()
                .any(|member| found.pid == Some(member.pid()))
        })
        .collect();
    let mut addrs: Vec<_> = ours.iter().filter_map(|found| found.addr.clone()).collect();
    addrs.sort();
    let mut expected = vec![primary.clone(), hidden.clone()];
    expected.sort();
    assert_eq!(addrs, expected);

    let choice = choose(ours.clone(), &[]);
    assert_eq!(choice.members, std::slice::from_ref(hidden));
    assert_eq!(choice.others.len(), 1);
    assert!(choice.others[0].is_at(primary), "{choice:?}");
    // Beside the member that is backed up, the primary of its set is nothing to warn of.
    let member = open(&set, 2, &set.access()).await.facts().await.unwrap();
    let told = discovery::judge(&choice.members, &[&member], &choice.others, &[]);
    assert_eq!(worst(&told), Verdict::Ok, "{told:?}");
    let said = format!("{primary} is a PRIMARY of rs0, whose data is backed up from {hidden}");
    assert!(told[0].detail.contains(&said), "{told:?}");
    // By another of its names it is the same.
    let named = format!("localhost:{}", primary.port).parse().unwrap();
    let choice = choose(ours, std::slice::from_ref(&named));
    assert_eq!(choice.members, [named]);
    assert_eq!(choice.others.len(), 1);
    assert!(choice.others[0].is_at(hidden), "{choice:?}");
}

/// What `check` would say, were `member` the only mongod of this host.
async fn told_of(set: &ReplicaSet, member: usize, access: &Access, timeout: Duration) -> String {
    let found = discover(access, "freezeframe-test", &[], timeout)
        .await
        .unwrap();
    let mut ours = found.mongods;
    ours.retain(|found| found.pid == Some(set.members[member].pid()));
    let choice = choose(ours, &[]);
    let told = discovery::judge(&choice.members, &[], &choice.others, &found.excluded);
    let refused = told
        .iter()
        .find(|finding| finding.verdict == Verdict::Refused);
    format!("{}\n{}", told[0].sentence(), refused.unwrap().sentence())
}

#[tokio::test]
async fn a_member_that_cannot_be_asked_is_told_by_its_cause() {
    let set = ReplicaSet::start(Options {
        auth: true,
        members: vec![Member::primary(), Member::hidden()],
        ..Options::default()
    })
    .await;
    let minimum = set.minimum_access().await;
    let told = told_of(&set, 1, &Access::default(), TIMEOUT).await;
    assert!(
        told.contains("asks for a user and a password, and none is configured"),
        "{told}"
    );
    assert!(
        told.contains("for username and password_file in [mongodb]"),
        "{told}"
    );
    let wrong = Access {
        password: Some(Secret::new("wrong")),
        ..minimum.clone()
    };
    let told = told_of(&set, 1, &wrong, TIMEOUT).await;
    assert!(
        told.contains("refused user") && told.contains("check user, password"),
        "{told}"
    );
    assert!(
        !told.contains("Kind:") && !told.contains("labels"),
        "{told}"
    );

    // Stopped it still accepts connections, and says nothing.
    let pid = nix::unistd::Pid::from_raw(set.members[1].pid() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let told = told_of(&set, 1, &minimum, Duration::from_secs(2)).await;
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    assert!(told.contains("did not answer hello within 2 s"), "{told}");
    assert!(
        told.contains("it is overloaded, stopped or stuck"),
        "{told}"
    );
    assert!(!told.contains("Topology"), "{told}");
}

#[tokio::test]
async fn the_data_directory_is_proven_by_its_lock_file() {
    let members = vec![Member::primary()];
    let set = ReplicaSet::start(Options {
        members,
        ..Options::default()
    })
    .await;
    let facts = open(&set, 0, &set.access()).await.facts().await.unwrap();
    let found = data_directory(facts.pid, &facts.options.db_path).unwrap();
    assert_eq!(found, set.members[0].db_path.canonicalize().unwrap());
    let other = data_directory(std::process::id(), &facts.options.db_path);
    assert!(
        matches!(other, Err(NotHere::AnotherServer { .. })),
        "{other:?}"
    );
}

#[tokio::test]
async fn a_shard_is_refused_while_the_balancer_is_on_or_a_migration_runs() {
    let start = |name: &str, role: &str| {
        ReplicaSet::start(Options {
            name: name.into(),
            members: vec![Member::primary(), Member::hidden()],
            auth: true,
            args: vec![role.to_owned()],
            ..Options::default()
        })
    };
    let (config, shard) = (
        start("cfg", "--configsvr").await,
        start("s1", "--shardsvr").await,
    );
    let access = config.minimum_access().await;
    shard.minimum_access().await;
    let admin = config.admin(0).await;
    admin
        .database("admin")
        .run_command(doc! {
            "_configsvrAddShard": format!("s1/{}", shard.addr(0)),
            "writeConcern": { "w": "majority" },
        })
        .await
        .unwrap();
    let config_db = admin.database("config");
    let hidden = open(&shard, 1, &access).await;
    until("the hidden member knows its cluster", async || {
        hidden.facts().await.unwrap().shard_identity.is_some()
    })
    .await;
    let facts = hidden.facts().await.unwrap();
    let config_member = open(&config, 1, &access).await;
    let config_facts = config_member.facts().await.unwrap();
    let verdict = async || {
        let of_shard = cluster_facts(&hidden, &facts, &access, "freezeframe-test", TIMEOUT).await;
        let of_config = cluster_facts(
            &config_member,
            &config_facts,
            &access,
            "freezeframe-test",
            TIMEOUT,
        )
        .await;
        let id = &of_shard.as_ref().unwrap().as_ref().unwrap().cluster_id;
        assert_eq!(
            id.as_ref(),
            Some(&facts.shard_identity.as_ref().unwrap().cluster_id)
        );
        let shard = refusals(&judge_cluster(&facts, &of_shard));
        assert_eq!(shard, refusals(&judge_cluster(&config_facts, &of_config)));
        shard
    };
    assert_eq!(verdict().await, ["balancer"]);
    let settings = config_db.collection::<Document>("settings");
    let stopped = doc! { "$set": { "stopped": true, "mode": "off" } };
    settings
        .update_one(doc! { "_id": "balancer" }, stopped)
        .upsert(true)
        .await
        .unwrap();
    assert!(verdict().await.is_empty());
    let migrations = config_db.collection::<Document>("migrations");
    let moving = doc! { "ns": "shop.orders", "fromShard": "s1", "toShard": "s2" };
    migrations.insert_one(moving).await.unwrap();
    assert_eq!(verdict().await, ["migrations"]);
    // Nobody to ask: refused, not taken for quiet.
    drop(config);
    let unknown = cluster_facts(&hidden, &facts, &access, "freezeframe-test", TIMEOUT).await;
    assert_eq!(refusals(&judge_cluster(&facts, &unknown)), ["balancer"]);
}
