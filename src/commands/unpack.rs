//! `unpack`: an archive by hand, without manifest and file table.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use thiserror::Error;

use super::pack::{STANDARD, threads};
use super::{Failure, Hand, print};
use crate::archive::{ArchiveError, FileArchive, Profile, describe, unpack_alone};
use crate::cli::UnpackArgs;
use crate::error::{Exit, Explain};
use crate::human;
use crate::progress::{Meter, Progress};
use crate::restore::fetch::owners;
use crate::restore::target::Target;

/// What `unpack --json` prints.
#[derive(Debug, Serialize)]
struct Unpacked {
    directory: PathBuf,
    profile: Profile,
    files: u64,
    data_size: u64,
    seconds: f64,
}

#[derive(Debug, Error)]
enum UnpackError {
    #[error("standard input is a terminal and no archive")]
    Terminal,
    #[error("cannot open {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is no archive of freezeframe's, or its beginning is damaged", path.display())]
    NoArchive { path: PathBuf },
    #[error("cannot copy standard input to a file in {}: {source}", path.display())]
    Spool { path: PathBuf, source: io::Error },
}

impl Explain for UnpackError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Terminal => Some("name the archive's file, or redirect standard input".into()),
            Self::NoArchive { .. } => Some(
                "what xz and pixz made is opened by `tar xJf`; the command `file` tells what else it may be".into(),
            ),
            Self::Open { .. } => None,
            Self::Spool { .. } => Some(
                "blocks are found by the index at an archive's end, so what comes through a pipe is put into a file first: make room for it, or give the archive as a file"
                    .into(),
            ),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Terminal | Self::Open { .. } => Exit::Usage,
            Self::NoArchive { .. } => Exit::Damaged,
            Self::Spool { .. } => Exit::Restore,
        }
    }
}

pub fn run(hand: &Hand, arguments: UnpackArgs) -> Result<Exit, Failure> {
    let to = std::path::absolute(&arguments.directory).unwrap_or(arguments.directory);
    let begun = Instant::now();
    let (archive, target) = open(&arguments.file, &to)?;
    let described = describe(&archive).map_err(|error| told(error, &arguments.file))?;
    let target = match target {
        Some(target) => target,
        None => Target::prepare(&to, described.tar_size)?,
    };
    let meter = Meter::expecting(described.tar_size);
    hand.terminal.begin("unpack", &meter);
    let unpacked = unpack_alone(
        &archive,
        target.path(),
        threads(arguments.threads),
        owners(),
        &meter,
        &hand.cancel,
    );
    hand.terminal.end("unpack");
    let summary = unpacked?;
    target.finish()?;
    let unpacked = Unpacked {
        directory: to,
        profile: described.profile,
        files: summary.files,
        data_size: summary.data_size,
        seconds: begun.elapsed().as_secs_f64(),
    };
    print(hand.json, &unpacked, || render(&unpacked))?;
    Ok(Exit::Done)
}

/// What does not begin as an archive is more likely another file than a damaged one.
fn told(error: ArchiveError, file: &Path) -> Failure {
    match error {
        ArchiveError::Container { offset: 0, .. } => UnpackError::NoArchive {
            path: file.to_owned(),
        }
        .into(),
        error => error.into(),
    }
}

/// The archive, and the target where it had to be prepared already: what comes through a pipe goes into a file without a
/// name there first.
fn open(file: &Path, to: &Path) -> Result<(FileArchive, Option<Target>), Failure> {
    let failed = |source| UnpackError::Open {
        path: file.to_owned(),
        source,
    };
    if file != Path::new(STANDARD) {
        let opened = File::open(file).map_err(failed)?;
        return Ok((FileArchive::of(opened, file).map_err(failed)?, None));
    }
    let input = io::stdin();
    if input.is_terminal() {
        return Err(UnpackError::Terminal.into());
    }
    let input = File::from(input.as_fd().try_clone_to_owned().map_err(failed)?);
    if input.metadata().map_err(failed)?.is_file() {
        return Ok((FileArchive::of(input, file).map_err(failed)?, None));
    }
    let target = Target::prepare(to, 0)?;
    let spool = || {
        let mut spool = tempfile::tempfile_in(to)?;
        io::copy(&mut &input, &mut spool)?;
        FileArchive::of(spool, file)
    };
    let archive = spool().map_err(|source| UnpackError::Spool {
        path: to.to_owned(),
        source,
    })?;
    Ok((archive, Some(target)))
}

fn render(unpacked: &Unpacked) -> String {
    format!(
        "{}: {} files, {}, {}, in {}\n",
        unpacked.directory.display(),
        unpacked.files,
        human::size(unpacked.data_size),
        unpacked.profile.name(),
        human::duration(Duration::try_from_secs_f64(unpacked.seconds).unwrap_or_default()),
    )
}
