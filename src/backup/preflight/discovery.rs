//! What is said of the mongods of this host that are not backed up, and of there being none that is: pure judgement.

use std::collections::BTreeSet;

use super::Finding;
use crate::error::Explain;
use crate::ids::MemberAddr;
use crate::mongo::topology::Discovered;
use crate::mongo::{MemberFacts, MongoError};

/// Judges what is not backed up. `chosen` are the members to back up, `read` those of them that answered, `others` the
/// other mongods of this host, `excluded` what the configuration leaves out.
pub fn judge(
    chosen: &[MemberAddr],
    read: &[&MemberFacts],
    others: &[Discovered],
    excluded: &[MemberAddr],
) -> Vec<Finding> {
    let others = others.iter().filter(|other| !is_one_of(read, other));
    let unasked: Vec<_> = others.clone().filter_map(unasked).collect();
    let silent: BTreeSet<_> = others.clone().flat_map(silent).collect();
    let mut findings: Vec<_> = others
        .filter_map(|other| judge_other(read, other))
        .collect();
    if chosen.is_empty() {
        findings.push(no_member(&findings, &unasked, &silent, excluded));
    }
    findings
}

/// Whether it is a member that is backed up, under another name.
fn is_one_of(read: &[&MemberFacts], other: &Discovered) -> bool {
    let Some(Ok(facts)) = &other.facts else {
        return false;
    };
    read.iter().any(|member| member.process == facts.process)
}

/// The hidden members that it does not hear of any more, and of which set.
fn silent(other: &Discovered) -> Vec<(String, String)> {
    let Some(Ok(facts)) = &other.facts else {
        return Vec::new();
    };
    let set = facts.hello.set.iter().zip(&facts.replica_set);
    let silent = set.flat_map(|(name, set)| {
        let members = set.members.iter();
        let silent = members.filter(|member| member.hidden && !member.healthy && !member.this);
        silent.map(|member| (name.to_string(), member.host.clone()))
    });
    silent.collect()
}

/// Its name, and what to do so that it can be asked; none where it was.
fn unasked(other: &Discovered) -> Option<(String, String)> {
    let todo = match &other.facts {
        Some(Ok(_) | Err(MongoError::Arbiter { .. })) => return None,
        Some(Err(error)) => error.hint().unwrap_or_else(|| "see its log".into()),
        None if other.concealed => AS_ROOT.into(),
        None => IN_REACH.into(),
    };
    Some((other.name(), todo))
}

const AS_ROOT: &str = "run freezeframe as root, or name the member in [mongodb] members";
const IN_REACH: &str =
    "have it listen where this host reaches it, and name that address in [mongodb] members";

fn judge_other(read: &[&MemberFacts], other: &Discovered) -> Option<Finding> {
    let name = other.name();
    let warning =
        |detail: String, todo: String| Some(Finding::warning("host", "other_mongod", detail, todo));
    let facts = match &other.facts {
        None if other.concealed => {
            return warning(
                format!(
                    "mongod {name} belongs to another user, and only root may see where it listens; it is not backed up"
                ),
                AS_ROOT.into(),
            );
        }
        None => {
            return warning(
                format!(
                    "mongod {name} listens on no address this host can reach (a container?); it is not backed up"
                ),
                IN_REACH.into(),
            );
        }
        // It holds nothing that could be missed.
        Some(Err(MongoError::Arbiter { .. })) => return None,
        Some(Err(error)) => {
            let todo = error.hint().unwrap_or_else(|| "see its log".into());
            return warning(
                format!("{error}; it is not backed up"),
                format!("{todo}; or name it in [mongodb] exclude"),
            );
        }
        Some(Ok(facts)) => facts,
    };
    let state = match &facts.replica_set {
        Some(set) if facts.hello.hidden => format!("a hidden {}", set.my_state),
        Some(set) => format!("a {}", set.my_state),
        None => "a standalone server".into(),
    };
    let Some(set) = &facts.hello.set else {
        return warning(
            format!("mongod at {name} is {state}; it is not backed up"),
            "only members of replica sets are backed up; name it in [mongodb] exclude to hear no more of it".into(),
        );
    };
    // Two sets may have one name, and differ by their ids.
    let id = |facts: &MemberFacts| facts.replica_set.as_ref().and_then(|set| set.id.clone());
    let same_set =
        |member: &&&MemberFacts| member.hello.set.as_ref() == Some(set) && id(member) == id(facts);
    if let Some(member) = read.iter().find(same_set) {
        let detail = format!(
            "mongod at {name} is {state} of {set}, whose data is backed up from {}",
            member.addr
        );
        return Some(Finding::ok("host", "other_mongod", detail));
    }
    warning(
        format!("mongod at {name} is {state} of {set}; it is not backed up"),
        match facts.hello.hidden {
            true => "name it in [mongodb] members, or in exclude".into(),
            false => format!(
                "back up a hidden secondary of {set}, here or where one runs; name this one in [mongodb] exclude"
            ),
        },
    )
}

/// Why there is nothing to back up, as far as that can be told.
fn no_member(
    others: &[Finding],
    unasked: &[(String, String)],
    silent: &BTreeSet<(String, String)>,
    excluded: &[MemberAddr],
) -> Finding {
    let refused = |detail: String, todo: String| Finding::refused("host", "members", detail, todo);
    if let Some((_, todo)) = unasked.first() {
        let names: Vec<_> = unasked.iter().map(|(name, _)| name.as_str()).collect();
        return refused(
            format!(
                "no hidden secondary was found, and {} could not be asked",
                names.join(", ")
            ),
            todo.clone(),
        )
        .passing();
    }
    if !excluded.is_empty() {
        let names: Vec<_> = excluded.iter().map(ToString::to_string).collect();
        return refused(
            format!(
                "no hidden secondary is left: [mongodb] exclude leaves out {}",
                names.join(", ")
            ),
            "remove the member to be backed up from [mongodb] exclude".into(),
        );
    }
    if !silent.is_empty() {
        let names = silent.iter();
        let names: Vec<_> = names
            .map(|(set, host)| format!("{host} of {set}"))
            .collect();
        return refused(
            format!(
                "no hidden secondary answers here, and others of its set do not hear of {}",
                names.join(", ")
            ),
            "start its mongod, or run freezeframe where it runs".into(),
        )
        .passing();
    }
    match others {
        [] => refused(
            "no mongod runs on this host".into(),
            "start that of the hidden secondary, or run freezeframe where one runs, or name the members in [mongodb] members".into(),
        )
        .passing(),
        _ => refused(
            "no mongod of this host is a hidden secondary".into(),
            "hide a secondary (hidden: true, priority: 0, votes: 0), or run freezeframe where one runs".into(),
        ),
    }
}

#[cfg(test)]
mod tests;
