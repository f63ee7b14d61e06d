//! `pack`: the archive engine by hand.

use std::ffi::OsString;
use std::fs::File;
use std::io::{IsTerminal, Write as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use tempfile::NamedTempFile;
use thiserror::Error;

use super::{Failure, Hand, print};
use crate::archive::{
    Level, Method, PackOptions, PackSummary, Profile, SourceTree, Unsnapped, estimate, pack,
};
use crate::cli::PackArgs;
use crate::error::{Exit, Explain};
use crate::human;
use crate::ids::{Hash, InvalidId, ShardName};
use crate::mongo;
use crate::progress::{Meter, Progress};

/// Standard input or output in the place of a file.
pub(super) const STANDARD: &str = "-";

/// What `pack --json` prints.
#[derive(Debug, Serialize)]
struct Packed {
    /// None where it went to standard output.
    file: Option<PathBuf>,
    profile: Profile,
    files: u64,
    data_size: u64,
    tar_size: u64,
    size: u64,
    blocks: u64,
    hash: Hash,
    unsnapped: Unsnapped,
    seconds: f64,
}

#[derive(Debug, Error)]
enum PackError {
    #[error("the profile {} knows no levels", profile.name())]
    NoLevels { profile: Profile },
    #[error("an archive is nothing for a terminal")]
    Terminal,
    #[error("cannot look at {}: {source}", path.display())]
    Source {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is the data directory of a mongod that runs", path.display())]
    Open { path: PathBuf },
    #[error("{} exists", path.display())]
    Exists { path: PathBuf },
    #[error("{} lies in {}, and would be packed into itself", path.display(), directory.display())]
    Inside { path: PathBuf, directory: PathBuf },
    #[error("cannot create {}: {source}", path.display())]
    Create {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot finish {}: {source}", path.display())]
    Keep {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Name(#[from] InvalidId),
}

impl Explain for PackError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoLevels { .. } => {
                Some("leave --level out, or pack with --profile portable".into())
            }
            Self::Terminal => Some("name a file with -o, or redirect standard output".into()),
            Self::Exists { .. } => Some("name a file that is not there yet".into()),
            Self::Open { .. } => Some(
                "what is packed while mongod writes can be worthless: stop it, or pack a snapshot; where it is held by fsyncLock, pack with --live"
                    .into(),
            ),
            Self::Inside { .. } => Some("name a file outside of the directory".into()),
            Self::Source { .. } | Self::Create { .. } | Self::Keep { .. } | Self::Name(_) => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::NoLevels { .. } | Self::Terminal | Self::Source { .. } | Self::Create { .. } => {
                Exit::Usage
            }
            Self::Open { .. } | Self::Exists { .. } | Self::Inside { .. } => Exit::Refused,
            Self::Keep { .. } | Self::Name(_) => Exit::Failed,
        }
    }
}

/// What is not whole yet lies in `folder` under a name that tells what it is, should we be killed.
fn partial(path: &Path, folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push(".");
    tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".partial")
        .tempfile_in(folder)
}

/// Where the archive goes.
enum Output {
    Standard(File),
    /// Named only when it is whole.
    File {
        path: PathBuf,
        file: NamedTempFile,
    },
}

impl Output {
    /// For an archive of `source`, a real path, of which it must not be a part.
    fn open(path: &Path, source: &Path) -> Result<Self, PackError> {
        let failed = |source| PackError::Create {
            path: path.to_owned(),
            source,
        };
        if path == Path::new(STANDARD) {
            let out = std::io::stdout();
            if out.is_terminal() {
                return Err(PackError::Terminal);
            }
            // Not by way of Rust's own buffer, which looks for line ends.
            let out = out.as_fd().try_clone_to_owned().map_err(failed)?;
            return Ok(Self::Standard(out.into()));
        }
        if path.symlink_metadata().is_ok() {
            return Err(PackError::Exists {
                path: path.to_owned(),
            });
        }
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        if folder.canonicalize().map_err(failed)?.starts_with(source) {
            return Err(PackError::Inside {
                path: path.to_owned(),
                directory: source.to_owned(),
            });
        }
        Ok(Self::File {
            path: path.to_owned(),
            // Its own words name a file that nobody asked for.
            file: partial(path, folder).map_err(|error| failed(error.kind().into()))?,
        })
    }

    fn sink(&mut self) -> &mut File {
        match self {
            Self::Standard(file) => file,
            Self::File { file, .. } => file.as_file_mut(),
        }
    }

    /// The archive is whole. Tells where it is.
    fn keep(self) -> Result<Option<PathBuf>, PackError> {
        let Self::File { path, file } = self else {
            return Ok(None);
        };
        let failed = |source| PackError::Keep {
            path: path.clone(),
            source,
        };
        file.as_file().sync_all().map_err(failed)?;
        match file.persist_noclobber(&path) {
            Ok(_) => Ok(Some(path)),
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(PackError::Exists { path })
            }
            Err(error) => Err(failed(error.error)),
        }
    }
}

pub fn run(hand: &Hand, arguments: PackArgs) -> Result<Exit, Failure> {
    let profile = arguments.profile;
    let level = arguments.level.and_then(Level::new);
    let Some(method) = Method::new(profile, level) else {
        return Err(PackError::NoLevels { profile }.into());
    };
    let real = look_at(&arguments.dir, arguments.live)?;
    let source = SourceTree {
        root: arguments.dir,
        grafts: Vec::new(),
        exclude: Vec::new(),
        include_diagnostics: arguments.diagnostic_data,
        live: arguments.live,
    };
    let mut output = Output::open(&arguments.output, &real)?;
    let expected = estimate(&source)?.data_size;
    let meter = Meter::expecting(expected);
    let options = PackOptions {
        method,
        threads: threads(arguments.threads),
    };
    let begun = Instant::now();
    hand.terminal.begin("pack", &meter);
    let packed = pack(
        &source,
        &nobody()?,
        &options,
        output.sink(),
        &mut |_| Ok(()),
        &meter,
        &hand.cancel,
    );
    hand.terminal.end("pack");
    let summary = packed?;
    let packed = Packed::new(output.keep()?, &summary, begun.elapsed());
    match packed.file {
        Some(_) => print(hand.json, &packed, || render(&packed))?,
        // Standard output is the archive's.
        None => {
            let _ = write!(std::io::stderr(), "{}", render(&packed));
        }
    }
    Ok(Exit::Done)
}

/// The real path of a directory that can be packed.
fn look_at(dir: &Path, live: bool) -> Result<PathBuf, PackError> {
    let failed = |source| PackError::Source {
        path: dir.to_owned(),
        source,
    };
    let real = dir.canonicalize().map_err(failed)?;
    if !real.is_dir() {
        return Err(failed(std::io::ErrorKind::NotADirectory.into()));
    }
    if !live && mongo::process::is_open(&real).map_err(failed)? {
        return Err(PackError::Open {
            path: dir.to_owned(),
        });
    }
    Ok(real)
}

/// What was asked for, or one for each core.
pub(super) fn threads(asked: Option<std::num::NonZeroUsize>) -> std::num::NonZeroUsize {
    asked
        .or_else(|| std::thread::available_parallelism().ok())
        .unwrap_or(std::num::NonZeroUsize::MIN)
}

/// The replica set of lines that nobody keeps.
fn nobody() -> Result<ShardName, PackError> {
    Ok("archive".parse()?)
}

impl Packed {
    fn new(file: Option<PathBuf>, summary: &PackSummary, taken: Duration) -> Self {
        Self {
            file,
            profile: summary.profile,
            files: summary.files,
            data_size: summary.data_size,
            tar_size: summary.tar_size,
            size: summary.size,
            blocks: summary.blocks,
            hash: summary.hash,
            unsnapped: summary.unsnapped,
            seconds: taken.as_secs_f64(),
        }
    }
}

fn render(packed: &Packed) -> String {
    let place = match &packed.file {
        Some(file) => file.display().to_string(),
        None => "standard output".into(),
    };
    let mut text = format!(
        "{place}: {} files, {} in {}, {}, in {}\nBLAKE3 {}\n",
        packed.files,
        human::size(packed.tar_size),
        human::size(packed.size),
        packed.profile.name(),
        human::duration(Duration::try_from_secs_f64(packed.seconds).unwrap_or_default()),
        packed.hash,
    );
    if packed.unsnapped.tried > 0 {
        text.push_str(&format!(
            "{} of {} compressed pages and journal records are stored without their own compression\n",
            packed.unsnapped.proven, packed.unsnapped.tried
        ));
    }
    for (name, kind) in packed.unsnapped.kinds() {
        if kind.tried > 0 {
            let proven = kind.proven.total();
            text.push_str(&format!("  {name}: {proven} of {}", kind.tried));
            let made = kind.proven.versions().into_iter();
            let made = made.filter(|(_, count)| *count > 0);
            let made: Vec<_> = made
                .map(|(version, count)| format!("{count} as {version}"))
                .collect();
            if !made.is_empty() {
                text.push_str(&format!(", {}", made.join(", ")));
            }
            text.push('\n');
        }
    }
    text
}
