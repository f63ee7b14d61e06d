//! `verify`: every hash again, and with `--deep` a mongod on the restored data.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use super::{Context, Failure, print};
use crate::backup::resource::Resource;
use crate::backup::run::Run;
use crate::catalog::verification::{Outcome, Verification, VerificationKind};
use crate::catalog::{self, Recorded, keep_verification};
use crate::cli::VerifyArgs;
use crate::ebs::patience::Patience;
use crate::error::Exit;
use crate::host;
use crate::human;
use crate::ids::BackupId;
use crate::manifest::FORMAT_FIRST;
use crate::reading::{Reading, while_marked};
use crate::restore::MongodBinary;
use crate::restore::fetch::Fetch;
use crate::restore::prove::{Proof, Proving, prove};
use crate::snapshot::mount::make_dir;
use crate::store::SharedStore;
use crate::verify::snapshots::{SnapshotReport, Unasked, unprotected, verify_snapshots};
use crate::verify::{VerifyReport, verify};

/// What `verify --json` prints.
#[derive(Debug, Serialize)]
struct Verified<'a> {
    #[serde(flatten)]
    report: &'a VerifyReport,
    proof: Option<&'a Proof>,
}

pub async fn run(context: Context, arguments: VerifyArgs) -> Result<Exit, Failure> {
    let store = context.store_of(&arguments.which.place)?;
    // A damaged one is what is looked for here.
    let id = match arguments.which.id.as_str() {
        "latest" => catalog::newest(store.as_ref()).await?,
        id => catalog::resolve(store.as_ref(), id).await?,
    };
    // What cannot be read is damage, which verifying archives tells better.
    let is_backup = match catalog::read_recorded(store.as_ref(), id).await {
        Ok(Recorded::Snapshots(manifest)) => {
            let recorded = Recorded::Snapshots(manifest);
            return of_snapshots(&context, &store, recorded, arguments.deep).await;
        }
        read => read.is_ok(),
    };
    // Before a terabyte is read in vain.
    let binary = match arguments.deep {
        true => Some(mongod_for(&context, &store, id, &arguments).await?),
        false => None,
    };
    let looking = look(&context, &store, id, &arguments, binary.as_ref());
    let (report, proof) = if is_backup {
        let reading = Reading {
            store: &store,
            id,
            verb: "verify",
            state_dir: &context.config.host.state_dir,
            tools: &context.tools,
        };
        while_marked(reading, looking).await??
    } else {
        looking.await?
    };
    print(
        context.json,
        &Verified {
            report: &report,
            proof: proof.as_ref(),
        },
        || render(&report, proof.as_ref()),
    )?;
    report.into_result()?;
    if let Some(proof) = proof {
        proof.verdict()?;
    }
    Ok(Exit::Done)
}

/// Reads everything, and proves it where there is a mongod for that.
async fn look(
    context: &Context,
    store: &SharedStore,
    id: BackupId,
    arguments: &VerifyArgs,
    binary: Option<&MongodBinary>,
) -> Result<(VerifyReport, Option<Proof>), Failure> {
    let threads = context.config.archive.thread_count();
    let report = verify(store, id, threads, &context.terminal, &context.cancel).await?;
    keep_verification(
        store.as_ref(),
        &report.record(Timestamp::now(), &host::name()),
    )
    .await;
    let proof = match binary {
        Some(binary) if report.findings.is_empty() => {
            Some(deep(context, store, id, arguments, binary).await?)
        }
        _ => None,
    };
    Ok((report, proof))
}

/// EC2 is asked whether every snapshot is there. That no byte was read is said, and recorded.
async fn of_snapshots(
    context: &Context,
    store: &SharedStore,
    recorded: Recorded,
    deep: bool,
) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let manifest = match (recorded, deep) {
        (Recorded::Snapshots(manifest), false) => manifest,
        // There is nothing to unpack.
        (recorded, _) => {
            recorded.archives()?;
            return Ok(Exit::Done);
        }
    };
    let access = &context.tools.ebs;
    let ec2 = access.open_at(&manifest.snapshots.place).await;
    let ec2 = ec2.map_err(Unasked::from)?;
    let patience = Patience::new(access.settings().retry_for.0, context.cancel.clone());
    let taken = manifest.snapshots.taken();
    let report = verify_snapshots(manifest.id, &taken, ec2.as_ref(), &patience).await?;
    let report = SnapshotReport {
        unprotected: unprotected(&manifest, access, &patience, Timestamp::now()).await,
        ..report
    };
    let seconds = begun.elapsed().as_secs();
    if let Some(record) = report.record(Timestamp::now(), &host::name(), seconds) {
        keep_verification(store.as_ref(), &record).await;
    }
    print(context.json, &report, || {
        let mut text: String = report
            .findings
            .iter()
            .map(|finding| format!("DAMAGED  {finding}\n"))
            .collect();
        if text.is_empty() {
            text = format!(
                "{}  EC2 shows all {} snapshots, complete and of the volumes they should be of; no byte of them was read\n",
                report.id, report.snapshots
            );
            if manifest.snapshots.copied().is_some() && report.unprotected.is_empty() {
                text.push_str("its copies are there, too\n");
            }
        }
        for finding in &report.unprotected {
            text.push_str(&format!("UNPROTECTED  {finding}\n"));
        }
        text
    })?;
    report.into_result()?;
    Ok(Exit::Done)
}

/// The mongod that is going to prove the backup, fit for its data as far as the manifest can be read.
async fn mongod_for(
    context: &Context,
    store: &SharedStore,
    id: BackupId,
    arguments: &VerifyArgs,
) -> Result<MongodBinary, Failure> {
    let configured = context.config.restore.mongod.as_deref();
    let binary = MongodBinary::find(arguments.mongod.as_deref().or(configured)).await?;
    // A manifest that cannot be read is damage, which verifying tells better.
    if let Ok(manifest) = catalog::read_manifest(store.as_ref(), id).await {
        for member in &manifest.members {
            binary.fit_for(&member.server_version)?;
        }
    }
    Ok(binary)
}

async fn deep(
    context: &Context,
    store: &SharedStore,
    id: BackupId,
    arguments: &VerifyArgs,
    binary: &MongodBinary,
) -> Result<Proof, Failure> {
    let begun = Instant::now();
    let manifest = catalog::load(store.as_ref(), id).await?;
    let config = &context.config;
    let base = arguments.scratch.clone();
    let base = base.unwrap_or_else(|| config.scratch_dir());

    let mut run = Run::begin(&config.host.state_dir, "verify")?;
    let scratch = base.join(run.id().to_string());
    run.plan_one(Resource::Scratch {
        path: scratch.clone(),
    })?;
    let proven = prove_in(context, store, &manifest, binary, &scratch).await;
    if let Some(left) = run.finish(&context.tools).await?.into_iter().next() {
        return Err(left.error.into());
    }
    let proof = proven?;
    let failures = proof.shards.iter().flat_map(|shard| &shard.failures);
    let findings: Vec<String> = failures
        .map(|failure| {
            format!(
                "{}: {}",
                failure.namespace.as_deref().unwrap_or("mongod"),
                failure.problem
            )
        })
        .collect();
    let record = Verification {
        format: FORMAT_FIRST,
        id,
        kind: VerificationKind::Proven,
        outcome: if findings.is_empty() {
            Outcome::Passed
        } else {
            Outcome::Damaged
        },
        at: Timestamp::now(),
        tool: env!("CARGO_PKG_VERSION").into(),
        host: host::name(),
        bytes: manifest
            .members
            .iter()
            .map(|member| member.archive.size)
            .sum(),
        seconds: begun.elapsed().as_secs(),
        findings,
        details: serde_json::to_value(&proof).unwrap_or_default(),
    };
    keep_verification(store.as_ref(), &record).await;
    Ok(proof)
}

async fn prove_in(
    context: &Context,
    store: &SharedStore,
    manifest: &crate::manifest::Manifest,
    binary: &MongodBinary,
    scratch: &Path,
) -> Result<Proof, Failure> {
    make_dir(scratch)?;
    let fetch = Fetch {
        store,
        manifest,
        threads: context.config.archive.thread_count(),
        progress: &context.terminal,
        cancel: &context.cancel,
    };
    let proving = Proving {
        manifest,
        source: &fetch,
        scratch,
        binary,
    };
    Ok(prove(proving, &context.terminal, &context.cancel).await?)
}

fn render(report: &VerifyReport, proof: Option<&Proof>) -> String {
    let mut text = String::new();
    let read = human::size(report.bytes);
    let state = if report.findings.is_empty() {
        "every hash is right"
    } else {
        "DAMAGED"
    };
    let _ = writeln!(
        text,
        "{}  {state} ({}, {}, {read} read in {})",
        report.id,
        counted(report.archives, "archive", "archives"),
        counted(report.entries, "file", "files"),
        human::duration(Duration::from_secs(report.seconds))
    );
    for finding in &report.findings {
        let _ = writeln!(text, "  {finding}");
    }
    for stray in &report.strays {
        let _ = writeln!(text, "  {stray}: not part of the backup, does no harm");
    }
    let Some(proof) = proof else { return text };
    for shard in &proof.shards {
        let state = if shard.failures.is_empty() {
            "proven"
        } else {
            "NOT PROVEN"
        };
        let _ = writeln!(
            text,
            "{}  {state}: mongod {} started on it, {} collections with {} documents validated",
            shard.shard, proof.mongod, shard.collections, shard.documents
        );
        for failure in &shard.failures {
            let _ = writeln!(
                text,
                "  {}: {}",
                failure.namespace.as_deref().unwrap_or("mongod"),
                failure.problem
            );
        }
    }
    text
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
