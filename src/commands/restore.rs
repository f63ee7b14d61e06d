//! `restore`.

mod set;

use std::fmt::Write;
use std::time::Duration;

use super::{Context, Failure, print};
use crate::catalog::{self, Recorded};
use crate::cli::RestoreArgs;
use crate::error::{Exit, Explain};
use crate::human;
use crate::reading::{Reading, while_marked};
use crate::restore::fetch::Fetch;
use crate::restore::{Order, Restored, restore};

/// What the command that starts a restored member lacks, for nobody knows it here.
const BESIDES: &str = "with your mongod.conf, or what that has besides: access control (--keyFile, --auth), addresses (--bind_ip)";

pub async fn run(context: Context, arguments: RestoreArgs) -> Result<Exit, Failure> {
    let store = context.store_of(&arguments.which.place)?;
    let id = catalog::resolve(store.as_ref(), &arguments.which.id).await?;
    if let Recorded::Snapshots(manifest) = catalog::read_recorded(store.as_ref(), id).await? {
        return set::run(context, store, &manifest, arguments).await;
    }
    let manifest = catalog::load(store.as_ref(), id).await?;
    if arguments.volumes.is_some() {
        return Err(OfVolumes.into());
    }
    let fetch = Fetch {
        store: &store,
        manifest: &manifest,
        threads: context.config.archive.thread_count(),
        progress: &context.terminal,
        cancel: &context.cancel,
    };
    // What is said of the place must still be true in another directory.
    let to = std::path::absolute(&arguments.to).unwrap_or(arguments.to);
    let order = Order {
        to: &to,
        shard: arguments.shard.as_ref(),
        only: &arguments.only,
        member: arguments.member.as_ref(),
        replset: arguments.replset.as_ref(),
        mongod: arguments
            .mongod
            .as_deref()
            .or(context.config.restore.mongod.as_deref()),
    };
    let reading = Reading {
        store: &store,
        id,
        verb: "restore",
        state_dir: &context.config.host.state_dir,
        tools: &context.tools,
    };
    let restored = while_marked(reading, restore(&fetch, &order)).await??;
    print(context.json, &restored, || render(&restored))?;
    Ok(Exit::Done)
}

/// Options that mean nothing for archives.
#[derive(Debug, thiserror::Error)]
#[error("this backup is of archives: there are no volumes to be made")]
struct OfVolumes;

impl Explain for OfVolumes {
    fn hint(&self) -> Option<String> {
        Some("leave out --volume-type, --iops, --throughput, --size and --warm".into())
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

fn render(restored: &Restored) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} of {} restored to {}: {} files, {}, every hash right, in {}\nthe data is as of {}, optime {}{}",
        restored.shard,
        restored.id,
        restored.to.display(),
        restored.files,
        human::size(restored.data_bytes),
        human::duration(Duration::try_from_secs_f64(restored.seconds).unwrap_or_default()),
        jiff::Timestamp::new(restored.optime.seconds.into(), 0).unwrap_or_default(),
        restored.optime,
        match restored.optime_exact {
            true => "",
            false => " or later: it was not locked",
        },
    );
    if restored.start.is_empty() {
        return text;
    }
    let _ = match &restored.settled {
        Some(settled) => write!(text, "settled for {}: start it with", settled.member),
        None => write!(
            text,
            "not settled: it holds the old replica set's configuration (--member HOST:PORT settles it); to look into it, start it alone with"
        ),
    };
    let arguments = restored.start.join(" ");
    let _ = writeln!(text, "\n  mongod {arguments}");
    if restored.settled.is_some() {
        let _ = writeln!(text, "{BESIDES}");
    }
    text
}
