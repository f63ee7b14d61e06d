//! Each member's data: where it lies, whether the server sees it there as we do, and how much there is.

use super::super::Finding;
use crate::archive::{self, SourceTree};
use crate::blocking::off_thread;
use crate::error::Explain;
use crate::mongo::open_files::another_here;
use crate::mongo::{self, HostProcess, MemberFacts};
use crate::volume::{DataLayout, HostView, resolve};

/// A live data directory is walked again this often when a file vanishes under the walk.
const WALKS: u32 = 5;

pub(super) fn locate_data(facts: &MemberFacts, host: &HostView) -> Result<DataLayout, Finding> {
    let refuse = |detail: String, todo: Option<String>| {
        Finding::refused(
            "",
            "data",
            detail,
            todo.unwrap_or_else(|| "see the message".into()),
        )
    };
    let db_path =
        mongo::process::data_directory(facts.pid, &facts.options.db_path).map_err(|error| {
            refuse(
                error.to_string(),
                Some("run freezeframe as root on the host of this member".into()),
            )
        })?;
    resolve(&db_path, host).map_err(|error| refuse(error.to_string(), error.hint()))
}

/// Whether the server sees the files that we see.
pub(super) async fn look_at_files(name: &str, process: Option<&HostProcess>) -> Option<Finding> {
    let found = match process.map(|process| process.pid) {
        Some(pid) => off_thread(move || another_here(pid)).await,
        None => Err(std::io::Error::other("its process is not found here")),
    };
    match found {
        Ok(None) => None,
        Ok(Some(file)) => Some(Finding::refused(
            name,
            "files",
            format!(
                "{name} has {} open, which is another file here: it has mounts of its own, or something was mounted over it",
                file.display()
            ),
            "give this host the mounts that mongod has (BindPaths= of its unit, a container's volumes), at the same paths, or start mongod again without them",
        )),
        Err(error) => Some(Finding::warning(
            name,
            "files",
            format!("whether {name} has the files open that are here cannot be told: {error}"),
            "run freezeframe as root; where mongod runs in a container see that all of its volumes are mounted at the same paths here",
        )),
    }
}

/// Bytes that will be read. The directory is live: a file that mongod drops under the walk means another walk.
pub(super) fn data_size(
    source: Option<SourceTree>,
) -> Result<archive::Estimate, archive::ArchiveError> {
    let Some(source) = source else {
        return Ok(archive::Estimate::default());
    };
    let mut walks = 0;
    loop {
        walks += 1;
        match archive::estimate(&source) {
            Ok(estimate) => return Ok(estimate),
            Err(archive::ArchiveError::Inspect { source, .. })
                if walks < WALKS && source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}
