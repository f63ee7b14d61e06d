//! Taking one: the window of a backup, and then nothing is archived.

use std::time::Duration;

use jiff::Timestamp;

use super::{Kept, KeptError, Taken};
use crate::backup::picture::Pictures;
use crate::backup::plan::PicturePlan;
use crate::backup::preflight::examine::{Aim, examine};
use crate::backup::run::Run;
use crate::backup::{BackupError, Environment, conclude, hold_still};
use crate::blocking::off_thread;
use crate::ids::Label;
use crate::snapshot::lvm::Purpose;

/// What the run journal says it does.
pub const SNAPSHOT: &str = "snapshot";

/// What is to be taken.
#[derive(Debug, Clone)]
pub struct Order {
    /// What for.
    pub label: Label,
    /// How long it is to be kept; its space is made for that long.
    pub keep: Duration,
}

/// Takes a picture of every member that the configuration names, or the host holds, and keeps it.
///
/// # Errors
/// [`BackupError`]; nothing is kept then, and nothing held, unless it is [`BackupError::StillHeld`].
pub async fn take(env: &Environment, order: &Order) -> Result<Kept, BackupError> {
    let begun = Run::begin_alone(&env.config.host.state_dir, SNAPSHOT);
    let mut run = begun.map_err(BackupError::NotBegun)?;
    let made = make(&mut run, env, order).await;
    conclude(run, made, env).await
}

async fn make(run: &mut Run, env: &Environment, order: &Order) -> Result<Kept, BackupError> {
    let state_dir = &env.config.host.state_dir;
    for kept in Kept::all(state_dir)?.into_iter().flatten() {
        if kept.label == order.label {
            return Err(KeptError::LabelTaken {
                label: kept.label,
                run: kept.run,
            }
            .into());
        }
    }
    let aim = Aim::Keep(order.keep);
    let plan = examine(env, run.id(), aim).await?.into_plan()?;
    let PicturePlan::Snapshots(planned) = &plan.picture else {
        return Err(KeptError::NoPicture.into());
    };
    let mut pictures = Pictures::plan(run, planned, Purpose::ToKeep, env)?;
    pictures.prepare(&env.cancel).await?;
    let taken = Timestamp::now();
    let (window, ()) = hold_still(run, &plan, env, |timeline, broken| {
        pictures.take(timeline, broken)
    })
    .await?
    .split();
    let snapshots = pictures.stay().await?;
    let of = Taken {
        taken,
        contents: plan.contents(),
        window,
        pictures: planned.clone(),
        expected: plan.expected,
    };
    let kept = Kept::new(run.id(), order.label.clone(), order.keep, of);
    // In the journal as the snapshots are: a run that dies before all of it is settled gives all of it back.
    let mut entries = run.plan_one(kept.record(state_dir))?;
    let (record, state_dir) = (kept.clone(), state_dir.clone());
    off_thread(move || record.write(&state_dir)).await?;
    entries.extend(snapshots);
    run.settled(&entries)?;
    Ok(kept)
}
