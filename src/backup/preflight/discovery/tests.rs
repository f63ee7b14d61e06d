use super::super::member::tests::fit;
use super::super::{Verdict, worst};
use super::*;
use crate::mongo::ServerProcess;

fn found(facts: Option<Result<MemberFacts, MongoError>>) -> Discovered {
    Discovered {
        addr: facts.as_ref().map(|_| "127.0.0.1:27019".parse().unwrap()),
        pid: Some(4711),
        facts,
        concealed: false,
    }
}

/// Another mongod of `set`.
fn member_of(set: &str, hidden: bool) -> MemberFacts {
    let mut facts = fit();
    facts.process = ServerProcess::from_bytes([9; 12]);
    facts.hello.set = Some(set.parse().unwrap());
    facts.hello.hidden = hidden;
    facts
}

fn failed(error: MongoError) -> Discovered {
    found(Some(Err(error)))
}

fn addr() -> MemberAddr {
    "127.0.0.1:27019".parse().unwrap()
}

/// What is said where nothing is to be backed up.
fn refusal(others: &[Discovered], excluded: &[MemberAddr]) -> String {
    let findings = judge(&[], &[], others, excluded);
    let refused = findings
        .iter()
        .find(|finding| finding.verdict == Verdict::Refused);
    refused.unwrap().sentence()
}

#[test]
fn why_there_is_no_member_is_told_by_its_cause() {
    let concealed = Discovered {
        concealed: true,
        ..found(None)
    };
    let authentication = MongoError::Authentication {
        addr: addr(),
        user: "user u".into(),
        detail: "Authentication failed.".into(),
    };
    let no_credential = MongoError::NoCredential { addr: addr() };
    let hangs = MongoError::TimedOut {
        addr: addr(),
        command: "hello",
        timeout: std::time::Duration::from_secs(10),
    };
    let cases = [
        (
            vec![],
            "no mongod runs on this host; start that of the hidden secondary, or run freezeframe where",
        ),
        (
            vec![concealed],
            "process 4711 could not be asked; run freezeframe as root",
        ),
        (
            vec![found(None)],
            "process 4711 could not be asked; have it listen",
        ),
        (
            vec![failed(authentication)],
            "could not be asked; check user, password",
        ),
        (
            vec![failed(no_credential)],
            "could not be asked; `freezeframe setup` makes the user",
        ),
        (
            vec![failed(hangs)],
            "could not be asked; it is overloaded, stopped or stuck",
        ),
        (
            vec![found(Some(Ok(member_of("rs0", false))))],
            "no mongod of this host is a hidden secondary; hide a secondary",
        ),
    ];
    let mut down = member_of("rs0", false);
    let set = down.replica_set.as_mut().unwrap();
    let mut hidden = set.members[0].clone();
    (hidden.host, hidden.hidden) = ("db3:27017".into(), true);
    (hidden.healthy, hidden.this) = (false, false);
    set.members.push(hidden);
    let said = refusal(&[found(Some(Ok(down)))], &[]);
    assert!(
        said.contains("do not hear of db3:27017 of rs0; start its mongod"),
        "{said}"
    );
    for (others, expected) in cases {
        let said = refusal(&others, &[]);
        assert!(said.contains(expected), "{said}");
    }
    let said = refusal(&[], &[addr()]);
    assert!(
        said.contains("exclude leaves out 127.0.0.1:27019; remove"),
        "{said}"
    );
}

#[test]
fn other_members_of_a_set_that_is_backed_up_are_no_warning() {
    let member = fit();
    let chosen = [member.addr.clone()];
    let judge = |other: MemberFacts| judge(&chosen, &[&member], &[found(Some(Ok(other)))], &[]);
    let of_set = judge(member_of(
        member.hello.set.as_ref().unwrap().as_str(),
        false,
    ));
    assert_eq!(worst(&of_set), Verdict::Ok, "{of_set:?}");
    assert!(
        of_set[0].detail.contains("whose data is backed up from"),
        "{of_set:?}"
    );
    // Another set of the same name is another set.
    let mut namesake = member_of(member.hello.set.as_ref().unwrap().as_str(), false);
    namesake.replica_set.as_mut().unwrap().id = Some("0123456789abcdef01234567".parse().unwrap());
    assert_eq!(worst(&judge(namesake)), Verdict::Warning);
    let visible = judge(member_of("other", false));
    let todo = visible[0].todo.as_deref().unwrap();
    // To name it would only lead to its refusal.
    assert!(
        visible[0].verdict == Verdict::Warning && !todo.contains("members"),
        "{visible:?}"
    );
    let hidden = judge(member_of("other", true));
    assert!(
        hidden[0]
            .todo
            .as_deref()
            .unwrap()
            .contains("[mongodb] members"),
        "{hidden:?}"
    );
    // The chosen one by another of its names.
    assert!(judge(member.clone()).is_empty());
}
