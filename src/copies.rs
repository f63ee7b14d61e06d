//! Copies of EBS volumes on this instance: made of the snapshots of a set, attached, assembled, beside whatever is there.
//!
//! The design, and what ends each failure, is `doc/ebs.md`, "Restore of a set". Everything is in the run journal before it is acquired, and goes back by
//! [`crate::backup::release`] in reverse: what lies on the disks ([`stack`]), the attachments, udev's rule ([`quiet`]), the volumes.

mod assemble;
mod error;
pub mod find;
pub mod lvm;
pub mod md;
pub mod plan;
pub mod probe;
pub mod quiet;
pub mod stack;
pub mod warm;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;

use crate::backup::Environment;
use crate::backup::boundary::{Step, within};
use crate::backup::journal::Entry;
use crate::backup::resource::Resource;
use crate::backup::run::Run;
use crate::blocking::off_thread;
use crate::ebs::attach::{self, Attachments};
use crate::ebs::ids::{SnapshotId, VolumeId};
use crate::ebs::made::{self, MadeVolumes};
use crate::ebs::{Volume, disks};
use crate::human;
use crate::volume::HostView;
use assemble::Assembler;
pub use error::CopyError;
use find::Candidate;
use plan::Plan;
use quiet::Quiet;
use stack::Stack;

/// A copy of one volume.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Copied {
    /// What it is a copy of.
    pub of: VolumeId,
    /// By way of which snapshot.
    pub snapshot: SnapshotId,
    /// The copy, and the name it is attached by.
    #[serde(flatten)]
    pub volume: Volume,
    /// What the kernel calls its disk.
    pub disk: String,
}

/// Copies that are up.
#[derive(Debug)]
pub struct Copies {
    /// One of each volume.
    pub volumes: Vec<Copied>,
    /// What is on them.
    pub filesystems: Vec<Candidate>,
    /// udev's rule.
    pub rule: Vec<Entry>,
    /// Where it lies.
    pub rule_path: PathBuf,
    /// How long each step took, in seconds.
    pub took: Vec<(&'static str, f64)>,
}

/// Makes, attaches and assembles what `plan` says.
///
/// # Errors
/// [`CopyError`]; what was acquired is in the journal of `run`.
pub async fn bring_up(run: &mut Run, plan: &Plan, env: &Environment) -> Result<Copies, CopyError> {
    let mut took = Vec::new();
    let mut since = Instant::now();
    let mut step = |name: &'static str, did: &str| {
        let time = std::mem::replace(&mut since, Instant::now()).elapsed();
        env.progress
            .say(&format!("{did} in {}", human::duration(time)));
        took.push((name, time.as_secs_f64()));
    };
    let volumes = make_volumes(run, plan, env).await?;
    step("create", &format!("{} volumes are made", volumes.len()));

    let (exec, sys) = (env.tools.exec.clone(), HostView::real().sys);
    let quiet = Quiet::new(run.id(), &volumes);
    let rule = run.plan_one(Resource::UdevRule {
        path: quiet.path(),
        volumes: volumes.clone(),
    })?;
    let (worker, writing) = (exec.clone(), quiet.clone());
    off_thread(move || writing.write(worker.as_ref())).await?;
    attach_volumes(run, plan, &volumes, env).await?;
    let found = disks::await_all(&sys, &volumes, &env.cancel).await?;
    step("attach", "they are attached");

    run.plan_one(Resource::Stack(Stack {
        run: run.id(),
        volumes: volumes.clone(),
    }))?;
    let originals = plan.orders.iter().map(|order| order.of.clone());
    let pairs: Vec<_> = originals.zip(&volumes).collect();
    let of_originals = pairs
        .iter()
        .filter_map(|(of, copy)| Some((of.clone(), found.get(&copy.id)?.clone())));
    let mut assembler = Assembler {
        exec,
        sys,
        run: run.id(),
        disks: of_originals.collect(),
        quiet,
    };
    let rule_path = assembler.quiet.path();
    let assembling = off_thread(move || assembler.assemble());
    let filesystems = within(Step::Assemble, assembling).await?;
    interrupted(env)?;
    step("assemble", "what lies on them is assembled");

    let copied = plan
        .orders
        .iter()
        .zip(&volumes)
        .filter_map(|(order, volume)| {
            Some(Copied {
                of: order.of.clone(),
                snapshot: order.order.snapshot.clone(),
                disk: found.get(&volume.id)?.name.clone(),
                volume: volume.clone(),
            })
        });
    Ok(Copies {
        volumes: copied.collect(),
        filesystems,
        rule,
        rule_path,
        took,
    })
}

/// Ends where we were asked to.
pub(crate) fn interrupted(env: &Environment) -> Result<(), CopyError> {
    match env.cancel.is_cancelled() {
        true => Err(CopyError::Interrupted),
        false => Ok(()),
    }
}

/// One volume for each order, in their order, all of them available.
async fn make_volumes(
    run: &mut Run,
    plan: &Plan,
    env: &Environment,
) -> Result<Vec<Volume>, CopyError> {
    let (ec2, patience) = (plan.ec2.as_ref(), plan.patience());
    let mut record = MadeVolumes {
        place: ec2.place(),
        run: run.id(),
        planned: Timestamp::now(),
        volumes: Vec::new(),
    };
    let entries = run.plan_one(Resource::EbsVolumes(record.clone()))?;
    let mut ids = BTreeMap::new();
    for one in &plan.orders {
        let making = made::make(ec2, &one.order, run.id(), &patience);
        let made = within(Step::CreateVolume, making).await?;
        ids.insert(one.of.clone(), made.id);
    }
    // With the ids in the journal nobody has to look for what else may come.
    record.volumes = ids.values().cloned().collect();
    run.plan_one(Resource::EbsVolumes(record.clone()))?;
    run.settled(&entries)?;
    made::await_available(ec2, &record.volumes, &patience, &env.cancel).await?;
    let volume = |one: &plan::Ordered| {
        let shape = &one.order.shape;
        Some(Volume {
            id: ids.get(&one.of)?.clone(),
            attached_as: one.name.clone(),
            bytes: shape.bytes,
            volume_type: shape.volume_type.clone(),
            iops: shape.iops,
            throughput: shape.throughput,
            encrypted: one.encrypted,
        })
    };
    Ok(plan.orders.iter().filter_map(volume).collect())
}

async fn attach_volumes(
    run: &mut Run,
    plan: &Plan,
    volumes: &[Volume],
    env: &Environment,
) -> Result<(), CopyError> {
    let (ec2, patience) = (plan.ec2.as_ref(), plan.patience());
    let attachments = Attachments {
        place: ec2.place(),
        instance: plan.instance.clone(),
        volumes: volumes.to_vec(),
    };
    run.plan_one(Resource::EbsAttachments(attachments.clone()))?;
    for volume in volumes {
        let attaching = attach::attach(ec2, &plan.instance, volume, &patience);
        within(Step::AttachVolume, attaching).await?;
    }
    attach::await_attached(ec2, &attachments, &patience, &env.cancel).await?;
    Ok(())
}
