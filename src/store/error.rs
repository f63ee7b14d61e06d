//! Why a store did not do what was asked.

use std::time::Duration;

use thiserror::Error;

use crate::error::{Exit, Explain};

/// What stands for an object's key where credentials could not be had.
pub(super) const CREDENTIALS: &str = "credentials";

/// Why a store did not do what was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The key exists and nothing is ever overwritten.
    #[error("{key} already exists in {store}")]
    Exists {
        /// The store's address.
        store: String,
        /// The key.
        key: String,
    },
    /// There is no such key.
    #[error("{store} holds no {key}")]
    NotFound {
        /// The store's address.
        store: String,
        /// The key.
        key: String,
    },
    /// The object ended before the range did.
    #[error("{key} in {store} ends at byte {size}, before the {wanted} that were to be read")]
    Truncated {
        /// The store's address.
        store: String,
        /// The key.
        key: String,
        /// The object's size.
        size: u64,
        /// End of the wanted range.
        wanted: u64,
    },
    /// The key is no relative path made of plain components.
    #[error("{key:?} is no valid object key")]
    InvalidKey {
        /// The key.
        key: String,
    },
    /// The store's address cannot be used.
    #[error("store {url:?}: {reason}")]
    InvalidUrl {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no folder where the store should be.
    #[error("store {url:?}: there is no such folder; create it, or mount the disk it is on")]
    NoFolder {
        /// The address.
        url: String,
    },
    /// The server cannot be used at all: no credentials, no region, a file that cannot be read.
    #[error("cannot use {store}: {reason}")]
    NoAccess {
        /// The store's address.
        store: String,
        /// What is missing.
        reason: String,
    },
    /// The settings lead to another server than the one that was written to.
    #[error(
        "{store} is on {found} by the settings of now, and what is to be given back was written to {written}"
    )]
    OtherServer {
        /// The store's address.
        store: String,
        /// The server that was written to.
        written: String,
        /// The server of now.
        found: String,
    },
    /// The server does not let us.
    #[error("{store} does not let us {action} {key}: {detail}")]
    Denied {
        /// What was tried.
        action: &'static str,
        /// The store's address.
        store: String,
        /// The key.
        key: String,
        /// What the server said.
        detail: String,
    },
    /// The server did not answer, or had no time for us, for as long as we tried.
    #[error("cannot {action} {key} in {store}: {detail} (tried for {})", crate::human::duration(*.tried_for))]
    Unavailable {
        /// What was tried.
        action: &'static str,
        /// The store's address.
        store: String,
        /// The key.
        key: String,
        /// What happened last.
        detail: String,
        /// How long it was tried.
        tried_for: Duration,
    },
    /// Its certificate is signed by nobody we trust, or not for it.
    #[error("{store} cannot be trusted: {detail}")]
    Untrusted {
        /// The store's address.
        store: String,
        /// What is wrong with its certificate.
        detail: String,
    },
    /// The server refused for another reason, or what it answers cannot be.
    #[error("cannot {action} {key} in {store}: {detail}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// The store's address.
        store: String,
        /// The key.
        key: String,
        /// What the server said.
        detail: String,
    },
    /// An upload with the object lock that is configured was not let begin.
    #[error("{store} lets no upload with an object lock begin: {detail}")]
    LockRefused {
        /// The store's address.
        store: String,
        /// What the server said.
        detail: String,
    },
    /// We were asked to end.
    #[error("interrupted while using {store}")]
    Interrupted {
        /// The store's address.
        store: String,
    },
    /// The system refused.
    #[error("cannot {action} {key} in {store}: {source}")]
    Io {
        /// What was tried: "write", "read", ...
        action: &'static str,
        /// The store's address.
        store: String,
        /// The key.
        key: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl StoreError {
    /// Whether we may not do what was tried, however often.
    pub fn is_denial(&self) -> bool {
        match self {
            Self::Denied { .. } => true,
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }
}

impl Explain for StoreError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { source, .. }
                if matches!(
                    source.kind(),
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
                ) =>
            {
                Some("free space in the store, or write the address of a larger one".into())
            }
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Some("let the user that runs freezeframe write there".into())
            }
            Self::NoFolder { .. } => Some(
                "where the disk is there and the folder is another one, see [store] url and [[copy]] url".into(),
            ),
            Self::NotFound { .. } => Some("`freezeframe list` shows what the store holds".into()),
            Self::InvalidUrl { .. } => Some(
                "the address of a store is that of a folder that exists, such as file:///var/backups/freezeframe, or s3://bucket/prefix: see [store] url and [[copy]] url"
                    .into(),
            ),
            Self::Truncated { .. } => {
                Some("the object is damaged: restore from another backup".into())
            }
            Self::Unavailable { key, .. } if key == CREDENTIALS => Some(
                "no credentials could be had: give the instance a role, or set a profile or [s3] credentials_file".into(),
            ),
            Self::NoAccess { .. } => Some(
                "credentials come from the environment, a profile, a web identity or the instance's role; see [s3] in the configuration".into(),
            ),
            Self::OtherServer { written, .. } => Some(format!(
                "set [s3] endpoint so that it is {written} again and run `freezeframe recover`; if that server is gone for good, remove \
                 the run's journal"
            )),
            Self::LockRefused { .. } => Some(
                "[s3] lock needs a bucket that was made with object lock, and the permission s3:PutObjectRetention besides those of packaging/s3-policy.json; try without it to see whether it is that".into(),
            ),
            Self::Denied { .. } => Some(
                "packaging/s3-policy.json has every permission that is needed; see also the clock of this host, which signatures depend on".into(),
            ),
            Self::Untrusted { .. } => Some(
                "where the certificate is signed by an authority of your own, name that authority's PEM file in [s3] ca_file; \
                 see also that [s3] endpoint has the name for which the certificate is made"
                    .into(),
            ),
            Self::Unavailable { .. } => Some(
                "see that the store can be reached and is not throttled; [s3] retry_for says how long it is tried".into(),
            ),
            _ => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::InvalidUrl { .. } | Self::NoAccess { .. } => Exit::Usage,
            Self::Interrupted { .. } => Exit::Interrupted,
            Self::Truncated { .. } => Exit::Damaged,
            _ => Exit::Store,
        }
    }
}
