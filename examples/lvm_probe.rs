//! Drives the lvm provider on a real host, step by step, for `integration/lab/jobs/lvm`.
//!
//! lvm_probe DBPATH RUN COMMAND, where COMMAND is one of
//!   draw  plan  take  fill  mount  unmount  ours
//!   remove VG LV N     the run's N-th snapshot, of VG/LV, as a run journal names it
//!   check PATH         the preflight, with PATH as our state directory
//!   watch SECONDS      exit code 4 when a snapshot overflowed
//! SNAPSHOT_SIZE in the environment is the setting of that name.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use freezeframe::backup::preflight::storage::{OwnPath, Place, judge};
use freezeframe::config::SnapshotSize;
use freezeframe::error::Explain;
use freezeframe::exec::SystemExec;
use freezeframe::ids::RunId;
use freezeframe::snapshot::lvm::{Lvm, Planned, Sizing, Watch, plan};
use freezeframe::snapshot::{LvmSnapshot, Origin, SnapshotError, mount, rate};
use freezeframe::volume::{HostView, resolve};
use tokio_util::sync::CancellationToken;

const RUNTIME: &str = "/run/freezeframe";

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(hint) = error
                .downcast_ref::<SnapshotError>()
                .and_then(Explain::hint)
            {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (db_path, run): (&Path, RunId) = (Path::new(&args[0]), args[1].parse()?);
    let size = std::env::var("SNAPSHOT_SIZE").unwrap_or_else(|_| "auto".into());
    let lvm = Lvm::new(Arc::new(SystemExec));
    let host = HostView::real();
    if args[2] == "ours" {
        for volume in lvm.list_ours()? {
            println!("{} of {:?}", volume.full_name(), volume.origin);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args[2] == "remove" {
        let origin = Origin {
            vg: args[3].clone(),
            lv: args[4].clone(),
        };
        let lv = LvmSnapshot::name(run, args[5].parse()?);
        let snapshot = LvmSnapshot {
            origin,
            lv,
            cow_bytes: 64 << 20,
            run,
        };
        println!("{} {:?}", snapshot.full_name(), lvm.remove(&snapshot)?);
        return Ok(ExitCode::SUCCESS);
    }
    let layout = resolve(db_path, &host)?;
    if args[2] == "draw" {
        for filesystem in &layout.filesystems {
            println!("{}", filesystem.draw());
        }
        for graft in &layout.grafts {
            println!("{} -> {}", graft.at.display(), graft.path.display());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let facts = lvm.survey()?;
    let devices: Vec<_> = layout
        .filesystems
        .iter()
        .map(|filesystem| filesystem.device.number)
        .collect();
    let sizing = Sizing {
        rates: rate::measure(&host.sys, &devices, Duration::from_millis(200))?,
        expected: Duration::from_secs(5),
        setting: size.parse::<SnapshotSize>()?,
        floor: 64 << 20,
    };
    let planned = plan::plan(&facts, &[&layout], run, &sizing);
    if args[2] == "check" {
        let own = OwnPath::locate(Place::State, PathBuf::from(&args[3]), &host)?;
        for finding in judge(&[&layout], &facts, planned.as_deref(), &[own]) {
            println!(
                "{:?} {} {}: {}",
                finding.verdict, finding.check, finding.subject, finding.detail
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    let planned = planned?;
    let points = |planned: &[Planned]| -> Vec<PathBuf> {
        (1..=planned.len())
            .map(|n| mount::mount_point(Path::new(RUNTIME), run, n))
            .collect()
    };
    match args[2].as_str() {
        "plan" => println!("{planned:#?}"),
        "take" => {
            let all = lvm.take_all(&planned, || true);
            for taken in &all.taken {
                println!("took one in {:?}", taken.length);
            }
            if let Some((_, error)) = all.failed {
                return Err(error.into());
            }
        }
        "fill" => {
            for one in &planned {
                println!(
                    "{} {:?}",
                    one.snapshot.full_name(),
                    lvm.fill(&one.snapshot)?
                );
            }
        }
        "mount" => {
            for (one, point) in planned.iter().zip(points(&planned)) {
                mount::make_dir(&point)?;
                mount::mount(&one.snapshot.device(), &one.kind, &point)?;
                println!("{}", point.display());
            }
        }
        "unmount" => {
            for point in points(&planned) {
                mount::unmount(&point)?;
                mount::remove_dir(&point)?;
            }
            mount::remove_dir(&mount::run_dir(Path::new(RUNTIME), run))?;
        }
        "watch" => {
            let token = CancellationToken::new();
            let watch = Watch::start(lvm, &planned, Duration::from_millis(500), token.clone())?;
            for _ in 0..args[3].parse::<u32>()? * 10 {
                if token.is_cancelled() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            for one in &planned {
                match watch.finish(&one.snapshot) {
                    Ok(record) => println!("{record:?}"),
                    Err(error) => {
                        eprintln!("error: {error}; cancelled: {}", token.is_cancelled());
                        return Ok(ExitCode::from(4));
                    }
                }
            }
        }
        other => return Err(format!("unknown command {other}").into()),
    }
    Ok(ExitCode::SUCCESS)
}
