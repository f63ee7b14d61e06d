//! `snapshot`: a picture before risky maintenance, kept on the host.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{Context, Failure, print};
use crate::backup::Environment;
use crate::backup::window::Locking;
use crate::blocking::off_thread;
use crate::catalog::render::{age, columns};
use crate::cli::{SnapshotArgs, SnapshotVerb, WhichKept};
use crate::error::{Exit, Explain};
use crate::human;
use crate::ids::{Label, MemberAddr, OpTime, RunId, ShardName};
use crate::kept::Kept;
use crate::kept::condition::{Condition, State, look};
use crate::kept::remove::{remove, remove_overdue};
use crate::kept::rollback::can_be;
use crate::kept::take::{Order, take};
use crate::service::under_watch;

pub async fn run(context: Context, arguments: SnapshotArgs) -> Result<Exit, Failure> {
    match arguments.verb {
        None => under_watch(take_one(context, arguments.label, arguments.keep.0)).await,
        Some(SnapshotVerb::List) => list(context).await,
        Some(SnapshotVerb::Remove(which)) => remove_one(context, which).await,
    }
}

/// Nothing here needs the store, and one that cannot be reached keeps nobody from maintenance.
pub(super) fn environment(context: Context) -> Environment {
    let store = context.store_or_closed(&context.config.store.url);
    context.environment(store)
}

async fn take_one(context: Context, label: Option<Label>, keep: Duration) -> Result<Exit, Failure> {
    let json = context.json;
    let env = environment(context);
    remove_overdue(&env, Timestamp::now()).await;
    let order = Order {
        label: label.unwrap_or_else(|| Label::at(Timestamp::now())),
        keep,
    };
    let kept = take(&env, &order).await?;
    let (of, exec) = (kept.clone(), env.tools.exec.clone());
    let state_dir = env.config.host.state_dir.clone();
    // Now, and not when it is wanted.
    let rollback = match off_thread(move || can_be(&of, &state_dir, &exec)).await {
        Ok(()) => format!("put it back with `freezeframe rollback {}`", kept.label),
        Err(error) => {
            let hint = error.hint().unwrap_or_default();
            tracing::warn!("as this host is `freezeframe rollback` will not do: {error}: {hint}");
            "which `freezeframe rollback` cannot put back here".to_owned()
        }
    };
    let looked = looked_at(&env, vec![kept]).await;
    if let Some(listed) = looked.first() {
        print(json, listed, || taken(listed, &rollback))?;
    }
    Ok(Exit::Done)
}

fn taken(listed: &Listed, rollback: &str) -> String {
    let label = &listed.label;
    format!(
        "{label}  kept until {:.0}, database {}\narchive it with `freezeframe backup --from {label}`, {rollback}, end it with \
         `freezeframe snapshot remove {label} --yes`; `freezeframe snapshot list` shows how full it is\n",
        listed.keep_until,
        match listed.held_us {
            0 => "not locked".to_owned(),
            us => format!("held {}", human::duration(Duration::from_micros(us))),
        },
    )
}

/// A kept snapshot; what `snapshot --json` prints, and of which `snapshot list --json` prints an array.
#[derive(Debug, Serialize)]
struct Listed {
    label: Label,
    run: RunId,
    taken: Timestamp,
    keep_until: Timestamp,
    members: Vec<ListedMember>,
    /// Copy-on-write space in bytes that classic snapshots take from their groups.
    space_bytes: u64,
    held_us: u64,
    #[serde(flatten)]
    condition: Condition,
}

#[derive(Debug, Serialize)]
struct ListedMember {
    shard: ShardName,
    address: MemberAddr,
    optime: Option<OpTime>,
    optime_exact: bool,
}

impl Listed {
    fn new(kept: Kept, condition: Condition) -> Self {
        let exact = kept.contents.locking == Locking::Locked;
        let members = kept.contents.members.iter();
        Self {
            members: members
                .map(|member| ListedMember {
                    shard: member.shard.clone(),
                    address: member.address.clone(),
                    optime: kept.window.optimes.get(&member.address).copied(),
                    optime_exact: exact,
                })
                .collect(),
            space_bytes: kept.space(),
            held_us: kept.window.record.held_us,
            label: kept.label,
            run: kept.run,
            taken: kept.taken,
            keep_until: kept.keep_until,
            condition,
        }
    }
}

async fn looked_at(env: &Environment, all: Vec<Kept>) -> Vec<Listed> {
    let exec = env.tools.exec.clone();
    let looking = move || {
        let look_at = |kept: Kept| {
            let condition = look(&exec, &kept);
            Listed::new(kept, condition)
        };
        all.into_iter().map(look_at).collect()
    };
    off_thread(looking).await
}

/// Ends with 3 where one is, or soon will be, of no use: so a script, or a timer, can tell somebody.
async fn list(context: Context) -> Result<Exit, Failure> {
    let json = context.json;
    let all = Kept::all(&context.config.host.state_dir)?;
    let (good, bad): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    let env = environment(context);
    let listed = looked_at(&env, good.into_iter().flatten().collect()).await;
    print(json, &listed, || table(&listed, Timestamp::now()))?;
    let in_need = |listed: &Listed| listed.condition.state != State::Good;
    if let Some(Err(error)) = bad.into_iter().next() {
        return Err(error.into());
    }
    Ok(match listed.iter().any(in_need) {
        true => Exit::Refused,
        false => Exit::Done,
    })
}

fn table(listed: &[Listed], now: Timestamp) -> String {
    if listed.is_empty() {
        return "no snapshots are kept\n".into();
    }
    let header = [
        "LABEL",
        "AGE",
        "KEPT UNTIL",
        "SPACE",
        "FILL",
        "STATE",
        "MEMBERS",
    ];
    let row = |one: &Listed| {
        let members: Vec<_> = one
            .members
            .iter()
            .map(|member| member.shard.as_str())
            .collect();
        [
            one.label.to_string(),
            age(now.duration_since(one.taken)),
            format!("{:.0}", one.keep_until),
            match one.space_bytes {
                0 => "-".into(),
                bytes => human::size(bytes),
            },
            one.condition
                .fill
                .map_or_else(|| "-".into(), human::percent),
            match one.condition.state {
                State::Good if one.keep_until <= now => "overdue".into(),
                State::Good => "good".into(),
                State::FullSoon => "FULL SOON".into(),
                State::Lost => "LOST".into(),
                State::RollingBack => "ROLLING BACK".into(),
                State::Unknown => "UNKNOWN".to_owned(),
            },
            members.join(", "),
        ]
    };
    let rows: Vec<_> = std::iter::once(header.map(str::to_owned))
        .chain(listed.iter().map(row))
        .collect();
    let mut text = columns(&rows);
    for one in listed {
        if let Some(reason) = &one.condition.reason {
            let _ = writeln!(text, "{}: {reason}", one.label);
        }
    }
    text
}

async fn remove_one(context: Context, arguments: WhichKept) -> Result<Exit, Failure> {
    let kept = Kept::find(&context.config.host.state_dir, &arguments.which)?;
    let json = context.json;
    if !arguments.yes {
        let env = environment(context);
        let listed = looked_at(&env, vec![kept]).await;
        print(json, &listed, || {
            format!(
                "{}nothing was done; add --yes to remove it\n",
                table(&listed, Timestamp::now())
            )
        })?;
        return Ok(Exit::Refused);
    }
    let env = environment(context);
    remove(&env, &kept).await?;
    print(json, &kept.run, || format!("removed {}\n", kept.name()))?;
    Ok(Exit::Done)
}
