use super::super::{Verdict, worst};
use super::*;
use crate::ids::OpTime;
use crate::manifest::Role;
use crate::mongo::ServerProcess;
use crate::mongo::facts::{
    Cache, Hello, OplogEnds, SetMember, StartOptions, StorageEngine, Truncated,
};

const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Option<Timestamp> {
    Timestamp::from_second(second).ok()
}

fn member(id: u16, state: MemberState) -> SetMember {
    SetMember {
        host: format!("db{id}:27017"),
        this: false,
        state,
        healthy: true,
        votes: 1,
        priority: 1.0,
        hidden: false,
        arbiter: false,
        delay_secs: 0,
        optime_date: at(NOW),
    }
}

fn optime(seconds: i64) -> OpTime {
    OpTime {
        seconds: u32::try_from(seconds).unwrap(),
        increment: 1,
        term: 1,
    }
}

/// A hidden secondary without a vote beside a primary and a secondary, all well.
pub(in crate::backup::preflight) fn fit() -> MemberFacts {
    let this = SetMember {
        this: true,
        votes: 0,
        priority: 0.0,
        hidden: true,
        optime_date: at(NOW - 2),
        ..member(3, MemberState::Secondary)
    };
    MemberFacts {
        addr: "127.0.0.1:27018".parse().unwrap(),
        process: ServerProcess::from_bytes([7; 12]),
        pid: 4711,
        read_at: Timestamp::from_second(NOW).unwrap(),
        server_version: "6.0.5".into(),
        feature_compatibility: "6.0".into(),
        hello: Hello {
            set: Some("rs0".parse().unwrap()),
            me: Some("db3:27017".parse().unwrap()),
            is_writable_primary: false,
            secondary: true,
            hidden: true,
            arbiter: false,
        },
        replica_set: Some(ReplicaSet {
            id: None,
            my_state: MemberState::Secondary,
            initial_sync: false,
            write_majority: 2,
            members: vec![
                member(1, MemberState::Primary),
                member(2, MemberState::Secondary),
                this,
            ],
            config: serde_json::Value::Null,
        }),
        storage_engine: StorageEngine {
            name: "wiredTiger".into(),
            persistent: true,
            backup_cursor_open: false,
        },
        options: StartOptions {
            db_path: "/var/lib/mongodb".into(),
            directory_per_db: false,
            directory_for_indexes: false,
            log_path: None,
            role: Role::ReplicaSet,
            journal_enabled: None,
            encrypted: false,
        },
        oplog: Some(OplogEnds {
            first: optime(NOW - 86_400),
            last: optime(NOW),
            truncated: Truncated::Perhaps,
        }),
        missing_actions: Vec::new(),
        fsync_locked: false,
        cache: Cache {
            dirty_bytes: 0,
            written_bytes: 0,
            uptime_ms: 0,
        },
        shard_identity: None,
    }
}

fn set(facts: &mut MemberFacts) -> &mut ReplicaSet {
    facts.replica_set.as_mut().unwrap()
}

fn this(facts: &mut MemberFacts) -> &mut SetMember {
    &mut set(facts).members[2]
}

fn limits() -> MemberLimits {
    MemberLimits {
        max_lag: Duration::from_secs(10),
        min_oplog_window: Duration::from_secs(3600),
        allow_visible_secondary: false,
    }
}

fn judged(facts: &MemberFacts, limits: &MemberLimits) -> Vec<Finding> {
    judge(facts, limits, None, Timestamp::from_second(NOW).unwrap())
}

#[test]
fn a_fit_member_is_fit_in_every_check() {
    let findings = judged(&fit(), &limits());
    assert_eq!(worst(&findings), Verdict::Ok, "{findings:#?}");
    let checks: Vec<&str> = findings.iter().map(|finding| finding.check).collect();
    let expected = [
        "storage_engine",
        "journal",
        "privileges",
        "fsync_lock",
        "backup_cursor",
        "state",
        "hidden",
        "initial_sync",
        "delay",
        "lag",
        "majority",
        "oplog_window",
    ];
    assert_eq!(checks, expected);
}

#[test]
fn each_unfitness_is_refused_by_its_own_check_alone() {
    type Change = fn(&mut MemberFacts);
    let cases: [(&str, &str, Change); 24] = [
        ("storage_engine", "stores with inMemory", |f| {
            f.storage_engine.name = "inMemory".into();
        }),
        ("storage_engine", "not with persistent", |f| {
            f.storage_engine.persistent = false
        }),
        ("journal", "without a journal", |f| {
            f.options.journal_enabled = Some(false)
        }),
        ("state", "rs0 at 127.0.0.1:27018 is an ARBITER", |f| {
            f.hello.arbiter = true;
            f.hello.secondary = false;
            f.oplog = None;
            set(f).my_state = MemberState::Arbiter;
        }),
        ("state", "rs0 at 127.0.0.1:27018 is PRIMARY", |f| {
            f.hello.is_writable_primary = true;
            f.hello.secondary = false;
            set(f).my_state = MemberState::Primary;
        }),
        // Between the two answers it was elected.
        ("state", "is PRIMARY", |f| {
            set(f).my_state = MemberState::Primary
        }),
        ("state", "is RECOVERING", |f| {
            set(f).my_state = MemberState::Recovering
        }),
        ("state", "is ROLLBACK", |f| {
            set(f).my_state = MemberState::Rollback
        }),
        ("state", "is STARTUP2", |f| {
            set(f).my_state = MemberState::Startup2
        }),
        ("state", "is REMOVED", |f| {
            set(f).my_state = MemberState::Removed
        }),
        ("state", "standalone", |f| f.replica_set = None),
        ("hidden", "is not hidden", |f| f.hello.hidden = false),
        ("initial_sync", "in initial sync", |f| {
            set(f).initial_sync = true
        }),
        ("delay", "1 h behind on purpose", |f| {
            this(f).delay_secs = 3600
        }),
        ("lag", "11 s behind its primary, more than 10 s", |f| {
            this(f).optime_date = at(NOW - 11);
        }),
        ("lag", "sees no primary", |f| {
            set(f).members[0].state = MemberState::Down
        }),
        ("privileges", "unlock on the cluster", |f| {
            f.missing_actions = vec!["unlock".into()];
        }),
        ("fsync_lock", "already fsyncLocked", |f| {
            f.fsync_locked = true
        }),
        ("backup_cursor", "another backup", |f| {
            f.storage_engine.backup_cursor_open = true
        }),
        ("majority", "only 1 other", |f| {
            // Two voters: the trap.
            this(f).votes = 1;
            set(f).members[1].votes = 0;
        }),
        ("majority", "only 1 other", |f| {
            // Primary, secondary, arbiter with a hidden voter and the secondary down.
            this(f).votes = 1;
            set(f).members[1].healthy = false;
            let mut arbiter = member(4, MemberState::Arbiter);
            arbiter.arbiter = true;
            set(f).members.push(arbiter);
        }),
        ("majority", "only 1 other", |f| {
            // A delayed voter acknowledges too late.
            this(f).votes = 1;
            set(f).members[1].delay_secs = 60;
        }),
        ("oplog_window", "59 min 59 s, less than 1 h", |f| {
            f.oplog.as_mut().unwrap().first = optime(NOW - 3599);
        }),
        ("oplog_window", "empty oplog", |f| f.oplog = None),
    ];
    for (check, message, change) in cases {
        let mut facts = fit();
        change(&mut facts);
        let findings = judged(&facts, &limits());
        let refused: Vec<&Finding> = findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Refused)
            .collect();
        assert_eq!(refused.len(), 1, "{check}, {message}: {findings:#?}");
        assert_eq!(refused[0].check, check);
        assert!(refused[0].detail.contains(message), "{}", refused[0].detail);
        assert!(refused[0].todo.is_some());
    }
}

#[test]
fn limits_are_allowed_up_to_the_limit_itself() {
    let mut facts = fit();
    this(&mut facts).optime_date = at(NOW - 10);
    facts.oplog.as_mut().unwrap().first = optime(NOW - 3600);
    assert_eq!(worst(&judged(&facts, &limits())), Verdict::Ok);
    // Heartbeats may show the primary as it was before.
    this(&mut facts).optime_date = at(NOW + 2);
    assert_eq!(worst(&judged(&facts, &limits())), Verdict::Ok);
}

#[test]
fn a_hidden_voter_among_enough_others_may_be_locked() {
    let mut facts = fit();
    this(&mut facts).votes = 1;
    assert_eq!(worst(&judged(&facts, &limits())), Verdict::Ok);
}

#[test]
fn some_things_are_only_warned_of() {
    type Change = fn(&mut MemberFacts, &mut MemberLimits);
    let cases: [(&str, Change); 3] = [
        ("hidden", |facts, limits| {
            facts.hello.hidden = false;
            limits.allow_visible_secondary = true;
        }),
        ("encryption_at_rest", |facts, _| {
            facts.options.encrypted = true
        }),
        ("clock", |facts, _| {
            facts.read_at = Timestamp::from_second(NOW - 61).unwrap()
        }),
    ];
    for (check, change) in cases {
        let (mut facts, mut limits) = (fit(), limits());
        change(&mut facts, &mut limits);
        let findings = judged(&facts, &limits);
        let odd: Vec<&Finding> = findings
            .iter()
            .filter(|finding| finding.verdict != Verdict::Ok)
            .collect();
        assert_eq!(odd.len(), 1, "{findings:#?}");
        assert_eq!((odd[0].check, odd[0].verdict), (check, Verdict::Warning));
    }
}

#[test]
fn no_option_allows_a_primary() {
    let mut facts = fit();
    facts.hello.is_writable_primary = true;
    facts.hello.hidden = false;
    set(&mut facts).my_state = MemberState::Primary;
    let limits = MemberLimits {
        allow_visible_secondary: true,
        ..limits()
    };
    let findings = judged(&facts, &limits);
    assert_eq!(worst(&findings), Verdict::Refused, "{findings:#?}");
}

#[test]
fn two_members_of_one_set_are_refused_and_one_of_each_is_not() {
    let (one, mut two) = (fit(), fit());
    two.addr = "127.0.0.1:27019".parse().unwrap();
    let findings = judge_together(&[&one, &two]);
    assert_eq!(findings.len(), 1);
    assert!(
        findings[0]
            .detail
            .contains("127.0.0.1:27018 and 127.0.0.1:27019")
    );
    two.hello.set = Some("rs1".parse().unwrap());
    assert!(judge_together(&[&one, &two]).is_empty());
}

#[test]
fn an_unreadable_member_is_refused_with_what_to_do() {
    let finding = judge_unreadable(&MongoError::Arbiter {
        addr: "127.0.0.1:27018".parse().unwrap(),
        set: Some("rs0".into()),
    });
    assert_eq!(
        (finding.check, finding.verdict),
        ("state", Verdict::Refused)
    );
    assert!(finding.detail.contains("arbiter of rs0"));
    assert!(finding.todo.is_some());
}

#[test]
fn a_young_oplog_is_told_of_and_a_small_one_refused() {
    let mut facts = fit();
    let told = |facts: &MemberFacts| {
        let findings = judged(facts, &limits());
        let found = findings.iter().find(|one| one.check == "oplog_window");
        found
            .map(|one| (one.verdict, one.todo.clone().unwrap()))
            .unwrap()
    };
    let mut ends = OplogEnds {
        first: optime(NOW - 600),
        last: optime(NOW),
        truncated: Truncated::Never,
    };
    facts.oplog = Some(ends);
    assert_eq!(told(&facts).0, Verdict::Warning);
    // Restarted; whether it was small before nobody knows for an hour.
    ends.truncated = Truncated::NotFor(300);
    facts.oplog = Some(ends);
    assert_eq!(told(&facts).0, Verdict::Warning);
    for small in [Truncated::NotFor(3600), Truncated::Perhaps] {
        ends.truncated = small;
        facts.oplog = Some(ends);
        let (verdict, todo) = told(&facts);
        assert_eq!(verdict, Verdict::Refused);
        assert!(todo.starts_with("enlarge its oplog"), "{todo}");
    }
}

#[test]
fn a_lock_of_a_run_that_lives_is_told_by_its_name() {
    let mut facts = fit();
    facts.fsync_locked = true;
    let holder = "the running backup 0000abcd (pid 4711, since 2026-01-31T02:00:00Z)";
    let now = Timestamp::from_second(NOW).unwrap();
    let findings = judge(&facts, &limits(), Some(holder), now);
    let refused = findings
        .iter()
        .find(|finding| finding.verdict == Verdict::Refused)
        .unwrap();
    assert!(
        refused.detail.ends_with(&format!("is held by {holder}")),
        "{refused:?}"
    );
}
