//! `unlock`: for the night on which a member stands locked and nobody knows why.

use std::fmt::Write;

use super::{Context, Failure, print};
use crate::backup::journal::Owner;
use crate::cli::UnlockArgs;
use crate::error::Exit;
use crate::ids::MemberAddr;
use crate::unlock::{LockedMember, Unlocking, survey, take_off};

pub async fn run(context: Context, arguments: UnlockArgs) -> Result<Exit, Failure> {
    let members = survey(&context.config, &context.tools, &arguments.member).await?;
    if !arguments.yes {
        print(context.json, &members, || plan(&members, arguments.force))?;
        let unknown = members.iter().any(|member| member.error.is_some());
        let locked = members.iter().any(|member| member.locked);
        return Ok(match (unknown, locked) {
            (true, _) => Exit::StillHeld,
            (false, true) => Exit::Refused,
            (false, false) => Exit::Done,
        });
    }
    let taken_off = take_off(&members, arguments.force, &context.config, &context.tools).await?;
    let done = taken_off.members;
    print(context.json, &done, || report(&done))?;
    for failure in &taken_off.left {
        tracing::error!("{}", failure.sentence());
    }
    let open = |member: &&Unlocking| member.still_locked || member.error.is_some();
    // What a living run holds is in good hands: it was refused, and nothing is left lying.
    let in_good_hands = |member: &Unlocking| member.error.is_none() && member.at_work.is_some();
    let open: Vec<_> = done.iter().filter(open).collect();
    Ok(if open.is_empty() && taken_off.left.is_empty() {
        Exit::Done
    } else if taken_off.left.is_empty() && open.into_iter().all(in_good_hands) {
        Exit::Refused
    } else {
        Exit::StillHeld
    })
}

fn plan(members: &[LockedMember], force: bool) -> String {
    let mut text = String::new();
    for member in members {
        if let (true, Some(owner)) = (member.locked, &member.at_work) {
            let line = held(owner, &member.member, force);
            let _ = writeln!(text, "{}  {line}", member.member);
            continue;
        }
        let line = match (&member.locked, &member.run) {
            _ if member.error.is_some() => unknown(member.error.as_deref()),
            (false, _) => "not locked".to_owned(),
            (true, Some(run)) => format!("LOCKED; run {run} may hold it: would be recovered"),
            (true, None) if force => {
                "LOCKED by no run of freezeframe: every lock would be taken off".to_owned()
            }
            (true, None) => {
                format!(
                    "LOCKED by no run of freezeframe: not ours; to take it off all the same: {}",
                    by_force(&member.member)
                )
            }
        };
        let _ = writeln!(text, "{}  {line}", member.member);
    }
    let would_act = |member: &LockedMember| {
        let left_by_us = member.run.is_some() && member.at_work.is_none();
        member.locked && (force || left_by_us)
    };
    if members.iter().any(would_act) {
        text.push_str("nothing was done; add --yes to do it\n");
    }
    text
}

fn report(done: &[Unlocking]) -> String {
    let mut text = String::new();
    for member in done {
        let state = match (&member.error, member.still_locked, &member.at_work) {
            (Some(reason), true, _) => format!("STILL LOCKED: {reason}"),
            (Some(_), false, _) => unknown(member.error.as_deref()),
            (None, true, Some(owner)) => held(owner, &member.member, false),
            (None, true, None) => {
                format!(
                    "STILL LOCKED, by no run of freezeframe; to take it off all the same: {}",
                    by_force(&member.member)
                )
            }
            (None, false, _) => "not locked".into(),
        };
        let taken_off = match member.taken_off {
            0 => String::new(),
            1 => "  (1 lock taken off)".into(),
            count => format!("  ({count} locks taken off)"),
        };
        let _ = writeln!(text, "{}  {state}{taken_off}", member.member);
    }
    text
}

/// What is said of a lock that a living run holds.
fn held(owner: &Owner, member: &MemberAddr, force: bool) -> String {
    let holder = owner.at_work();
    if force {
        return format!(
            "LOCKED, held by {holder}: would be taken off, and that {} would fail",
            owner.verb
        );
    }
    format!(
        "LOCKED, held by {holder}, which gives it back by itself; to break into it, so that it fails: {}",
        by_force(member)
    )
}

fn by_force(member: &MemberAddr) -> String {
    format!("freezeframe unlock --member {member} --force --yes")
}

fn unknown(error: Option<&str>) -> String {
    let error = error.unwrap_or_default();
    let stopped = match error.contains("refused") {
        true => " (a mongod that does not run holds no lock)",
        false => "",
    };
    format!("UNKNOWN: {error}{stopped}")
}
