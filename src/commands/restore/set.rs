//! `restore` of a set of EBS snapshots.

use std::fmt::Write;
use std::time::Duration;

use crate::cli::RestoreArgs;
use crate::commands::{Context, Failure, print};
use crate::ebs::names::Wish;
use crate::error::Exit;
use crate::human;
use crate::manifest::snapshots::SnapshotManifest;
use crate::reading::{Reading, while_marked};
use crate::restore::set::{Order, RestoredSet, SetError, restore_set};
use crate::store::SharedStore;

pub(super) async fn run(
    context: Context,
    store: SharedStore,
    manifest: &SnapshotManifest,
    arguments: RestoreArgs,
) -> Result<Exit, Failure> {
    if !arguments.only.is_empty() {
        return Err(SetError::Only.into());
    }
    let json = context.json;
    let env = context.environment(store);
    let to = std::path::absolute(&arguments.to).unwrap_or(arguments.to);
    let volumes = arguments.volumes;
    let wish = Wish {
        volume_type: volumes.volume_type,
        iops: volumes.iops,
        throughput: volumes.throughput,
        gib: volumes.size,
    };
    let order = Order {
        to: &to,
        shard: arguments.shard.as_ref(),
        member: arguments.member.as_ref(),
        replset: arguments.replset.as_ref(),
        mongod: arguments
            .mongod
            .as_deref()
            .or(env.config.restore.mongod.as_deref()),
        wish: &wish,
        warm: volumes.warm,
    };
    let reading = Reading {
        store: &env.store,
        id: manifest.id,
        verb: "restore",
        state_dir: &env.config.host.state_dir,
        tools: &env.tools,
    };
    let restored = while_marked(reading, restore_set(manifest, &order, &env)).await??;
    print(json, &restored, || render(&restored))?;
    Ok(Exit::Done)
}

fn seconds(seconds: f64) -> String {
    human::duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

fn render(restored: &RestoredSet) -> String {
    let mut text = String::new();
    let steps: Vec<_> = restored
        .steps
        .iter()
        .map(|one| format!("{} {}", one.step, seconds(one.seconds)))
        .collect();
    let _ = writeln!(
        text,
        "{} restored below {} in {} ({})",
        restored.id,
        restored.to.display(),
        seconds(restored.seconds),
        steps.join(", "),
    );
    for volume in &restored.volumes {
        let _ = writeln!(
            text,
            "  {}  {}  {} of {}",
            volume.volume.id,
            volume.volume.attached_as,
            human::size(volume.volume.bytes),
            volume.snapshot,
        );
    }
    for mounted in &restored.mounts {
        let _ = writeln!(
            text,
            "  {}  {} on {}",
            mounted.point.display(),
            mounted.kind,
            mounted.device.display(),
        );
    }
    for member in &restored.members {
        let _ = writeln!(
            text,
            "\n{}: the data is as of {}, optime {}{}",
            member.shard,
            jiff::Timestamp::new(member.optime.seconds.into(), 0).unwrap_or_default(),
            member.optime,
            match member.optime_exact {
                true => "",
                false => " or later: it was not locked",
            },
        );
        for link in &member.links {
            let _ = writeln!(
                text,
                "  {} was a link to where it lay, and leads to the copy now",
                link.display()
            );
        }
        let _ = match &member.settled {
            Some(settled) => writeln!(text, "settled for {}: start it with", settled.member),
            None => writeln!(
                text,
                "not settled: it holds the old replica set's configuration (--member HOST:PORT settles it); to look into it, start it alone with"
            ),
        };
        let _ = writeln!(text, "\n  mongod {}", member.start.join(" "));
    }
    if !restored.warm {
        let _ = writeln!(
            text,
            "\nblocks come out of S3 when they are read for the first time: it is slow until then (--warm reads them through before)"
        );
    }
    if let Some(rule) = &restored.udev_rule {
        let twins: Vec<_> = restored
            .mounts
            .iter()
            .filter_map(|one| Some(format!("{} ({})", one.point.display(), one.twin.as_ref()?)))
            .collect();
        let _ = writeln!(
            text,
            "\nThis host has file systems of the same UUID: {}. Until the next boot {} keeps them apart. Before that boot detach one of \
             the two, or give the copy another UUID (xfs_admin -U generate, tune2fs -U random).",
            twins.join(", "),
            rule.display(),
        );
    }
    let _ = writeln!(
        text,
        "\nThe volumes are yours, bear the tag freezeframe-run={}, and cost money until they are deleted. To put all of it away again, stop \
         mongod, and then:\n",
        restored.run
    );
    // As one, so that nothing is detached or deleted where something before it failed.
    let _ = writeln!(text, "  {}", restored.put_away.join(" &&\n  "));
    text
}
