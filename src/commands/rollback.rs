//! `rollback`: puts a kept snapshot back.

use std::fmt::Write;

use super::snapshot::environment;
use super::{Context, Failure, print};
use crate::blocking::off_thread;
use crate::cli::WhichKept;
use crate::error::Exit;
use crate::kept::Kept;
use crate::kept::rollback::{Plan, plan, roll_back};
use crate::snapshot::btrfs::SubvolumeSnapshot;
use crate::snapshot::btrfs::put_back::{before, outermost};

pub async fn run(context: Context, arguments: WhichKept) -> Result<Exit, Failure> {
    let json = context.json;
    let env = environment(context);
    let state_dir = env.config.host.state_dir.clone();
    let kept = Kept::find(&state_dir, &arguments.which)?;
    let exec = env.tools.exec.clone();
    let planned = off_thread(move || plan(kept, &state_dir, &exec)).await?;
    if !arguments.yes {
        print(json, &planned, || describe(&planned))?;
        return Ok(Exit::Refused);
    }
    roll_back(&env, &planned).await?;
    print(json, &planned, || done(&planned))?;
    Ok(Exit::Done)
}

fn describe(plan: &Plan) -> String {
    let kept = &plan.kept;
    let mut text = match plan.under_way {
        true => format!(
            "{} is being put back already; this goes on with it\n",
            kept.name()
        ),
        false => format!("putting back {}, taken {:.0}:\n", kept.name(), kept.taken),
    };
    for mount in plan.mounts.iter().rev() {
        let _ = writeln!(text, "  unmount  {}", mount.point.display());
    }
    for volume in &plan.volumes {
        let _ = writeln!(
            text,
            "  merge    {} into {}",
            volume.full_name(),
            volume.origin
        );
    }
    for mount in &plan.mounts {
        let _ = writeln!(
            text,
            "  mount    {} on {}",
            mount.device.display(),
            mount.point.display()
        );
    }
    for snapshot in outermost(&plan.subvolumes) {
        let _ = writeln!(
            text,
            "  exchange {} and a copy of its snapshot",
            snapshot.subvolume.display()
        );
    }
    if !plan.volumes.is_empty() {
        let _ = writeln!(
            text,
            "EVERYTHING written to these volumes since {:.0} is lost, mongod's or not, and the snapshot is used up",
            kept.taken
        );
    }
    text.push_str(&aside(plan));
    for member in &kept.contents.members {
        let _ = writeln!(
            text,
            "{} will stand where it stood then; started again as a member of its set it copies what it lacks from the others, so a whole \
             set goes back only if all its members do",
            member.shard
        );
    }
    text.push_str("see that nothing starts mongod before this has ended (systemctl disable mongod)\nnothing was done; add --yes to do it\n");
    text
}

/// Where what was there before goes, which is not thrown away.
fn aside(plan: &Plan) -> String {
    let line = |snapshot: &SubvolumeSnapshot| {
        format!(
            "what {} held before, its snapshot with it, lies in {}; when nobody needs it `btrfs subvolume delete` first the subvolumes in it (`btrfs subvolume list -o`), then it\n",
            snapshot.subvolume.display(),
            before(snapshot).display()
        )
    };
    outermost(&plan.subvolumes).into_iter().map(line).collect()
}

fn done(plan: &Plan) -> String {
    let mut text = format!("put back {}\n", plan.kept.name());
    text.push_str(&aside(plan));
    for member in &plan.kept.contents.members {
        let _ = writeln!(
            text,
            "start the mongod of {} on {}: it recovers as after a power cut",
            member.shard,
            member.storage.db_path.display()
        );
    }
    text
}
