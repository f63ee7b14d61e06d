//! What can go wrong where figures are handed out.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::error::{Exit, Explain};

/// Why figures do not get to who wants them.
#[derive(Debug, Error)]
pub enum WatchError {
    /// The address is not to be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The text file cannot be written.
    #[error("cannot write the figures to {}: {source}", path.display())]
    TextFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody said which file.
    #[error("--textfile names no file, and the configuration has no [metrics] textfile")]
    NoTextFile,
}

impl Explain for WatchError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Some(
                "another program listens there (see `ss -ltnp`): name another with [metrics] listen, or --listen ADDR:PORT"
                    .into(),
            ),
            Self::Listen { .. } => Some("name an address of this host with [metrics] listen, or --listen ADDR:PORT".into()),
            Self::TextFile { .. } => Some(
                "the folder must exist, and is the one that node_exporter's --collector.textfile.directory names".into(),
            ),
            Self::NoTextFile => Some("name one: --textfile FILE".into()),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::NoTextFile => Exit::Usage,
            Self::Listen { .. } | Self::TextFile { .. } => Exit::Failed,
        }
    }
}
