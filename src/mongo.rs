//! Everything that talks to mongod: connections, facts, the lock, discovery, the balancer.
//!
//! Every connection is direct (a hidden member is invisible to topology discovery) and every
//! call has a deadline of ours, because the driver has none. A deadline is not a cancel: the
//! server goes on with what it was asked, so a lock or unlock that was not answered has an
//! error of its own.

pub mod balancer;
pub mod client;
pub mod facts;
pub mod fsync;
pub mod open_files;
pub mod oplog;
pub mod process;
pub mod topology;
pub mod users;

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

pub use crate::secret::Secret;
pub use client::{Mongod, connect};
pub use facts::MemberFacts;
pub use fsync::{LockCount, LockState, UnlockOutcome};
pub use process::{HostProcess, ServerProcess};

use crate::error::{Exit, Explain};
use crate::human;
use crate::ids::MemberAddr;

/// How to introduce ourselves to mongod.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// User; none where authentication is off, or with X.509 to take the certificate's subject.
    pub username: Option<String>,
    /// Password; none with X.509.
    pub password: Option<Secret>,
    /// Database the user was made in; `admin` (with X.509 `$external`) when none.
    pub auth_source: Option<String>,
    /// Mechanism; negotiated when none and there is a user.
    pub mechanism: Option<Mechanism>,
    /// TLS; plain TCP when none.
    pub tls: Option<TlsAccess>,
    /// Why it is none: a secret could not be had. Whoever needs no mongod needs no secret.
    pub withheld: Option<String>,
}

/// The authentication mechanisms operators use for service accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM-SHA-1.
    ScramSha1,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// The client certificate is the identity.
    X509,
}

/// How to speak TLS.
#[derive(Debug, Clone, Default)]
pub struct TlsAccess {
    /// PEM file of the authorities to trust; the well-known public ones when none.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client certificate and its key.
    pub certificate_key_file: Option<PathBuf>,
    /// What the key is encrypted with.
    pub certificate_key_password: Option<Secret>,
}

/// What went wrong with a mongod.
#[derive(Debug, Error, Clone)]
pub enum MongoError {
    /// The settings do not make a connection: a certificate that cannot be read, X.509 without TLS.
    #[error("cannot use the connection settings for {addr}: {detail}")]
    Settings {
        /// For which member.
        addr: MemberAddr,
        /// What is wrong.
        detail: String,
    },
    /// Nobody answered, the name does not resolve, the connection broke or TLS failed.
    #[error("cannot talk to mongod at {addr}: {detail}")]
    Unreachable {
        /// Where.
        addr: MemberAddr,
        /// What the network or TLS said.
        detail: String,
    },
    /// The server does not accept who we say we are.
    #[error("mongod at {addr} refused {user}: {detail}")]
    Authentication {
        /// Where.
        addr: MemberAddr,
        /// As whom.
        user: String,
        /// What the server said.
        detail: String,
    },
    /// The server wants to know who we are, and nobody has told us.
    #[error("mongod at {addr} asks for a user and a password, and none is configured")]
    NoCredential {
        /// Where.
        addr: MemberAddr,
    },
    /// An arbiter: it holds neither data nor users, so there is nothing to ask of it.
    #[error("mongod at {addr} is an arbiter{}", .set.as_ref().map(|set| format!(" of {set}")).unwrap_or_default())]
    Arbiter {
        /// Where.
        addr: MemberAddr,
        /// Its replica set.
        set: Option<String>,
    },
    /// A privilege is missing.
    #[error("not authorized to run {command} on {addr}: {detail}")]
    Unauthorized {
        /// Where.
        addr: MemberAddr,
        /// The command.
        command: &'static str,
        /// The privilege it needs.
        privilege: &'static str,
        /// What the server said.
        detail: String,
    },
    /// No answer in time to a command that only reads.
    #[error("{addr} did not answer {command} within {}", human::duration(*.timeout))]
    TimedOut {
        /// Where.
        addr: MemberAddr,
        /// The command.
        command: &'static str,
        /// The limit that passed.
        timeout: Duration,
    },
    /// A lock was asked for and the answer did not come: it may be held now, or land later.
    #[error("{addr} did not answer the lock ({detail}): it may be locked, or become so")]
    LockOutcomeUnknown {
        /// Where.
        addr: MemberAddr,
        /// A timeout, or how the connection broke.
        detail: String,
    },
    /// An unlock was asked for and the answer did not come: it may still be locked.
    #[error("{addr} did not answer the unlock ({detail}): it may still be locked")]
    UnlockOutcomeUnknown {
        /// Where.
        addr: MemberAddr,
        /// A timeout, or how the connection broke.
        detail: String,
    },
    /// The server refused the command for another reason.
    #[error("{command} failed on {addr}: {detail} (code {code})")]
    Command {
        /// Where.
        addr: MemberAddr,
        /// The command.
        command: &'static str,
        /// The server's error code, 0 when it gave none.
        code: i32,
        /// What the server said.
        detail: String,
    },
    /// A reply lacks what it must have.
    #[error("{addr} gave an unexpected reply to {command}: {detail}")]
    Reply {
        /// Where.
        addr: MemberAddr,
        /// The command.
        command: &'static str,
        /// What is missing or odd.
        detail: String,
    },
}

impl MongoError {
    /// Whether the server will not let us do it, however often we try.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Unauthorized { .. } | Self::NoCredential { .. })
    }

    /// The member it is about.
    pub fn addr(&self) -> &MemberAddr {
        match self {
            Self::Settings { addr, .. }
            | Self::Unreachable { addr, .. }
            | Self::Authentication { addr, .. }
            | Self::NoCredential { addr }
            | Self::Arbiter { addr, .. }
            | Self::Unauthorized { addr, .. }
            | Self::TimedOut { addr, .. }
            | Self::LockOutcomeUnknown { addr, .. }
            | Self::UnlockOutcomeUnknown { addr, .. }
            | Self::Command { addr, .. }
            | Self::Reply { addr, .. } => addr,
        }
    }
}

impl Explain for MongoError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Settings { .. } => {
                Some("correct [mongodb] in the configuration, or the files it names".into())
            }
            Self::Unreachable { .. } => Some(
                "see that mongod runs and listens there, and that [mongodb] tls agrees with net.tls of mongod".into(),
            ),
            Self::Authentication { .. } => Some(
                "check user, password, auth_source and mechanism in [mongodb]; `freezeframe setup` makes the user, as does packaging/mongodb-role.js".into(),
            ),
            Self::NoCredential { .. } => Some(
                "`freezeframe setup` makes the user and names it in the configuration; packaging/mongodb-role.js makes it by hand, for username and password_file in [mongodb]".into(),
            ),
            Self::Arbiter { .. } => {
                Some("an arbiter holds no data; name a hidden secondary instead".into())
            }
            Self::Unauthorized { privilege, .. } => Some(format!(
                "grant {privilege}, or run mongodb-role.js, which makes the minimum role"
            )),
            Self::TimedOut { .. } => Some(
                "it is overloaded, stopped or stuck: see its log and the load of its host".into(),
            ),
            Self::LockOutcomeUnknown { .. } | Self::UnlockOutcomeUnknown { .. } => {
                Some("run `freezeframe recover`, which unlocks what this run may have locked".into())
            }
            // Seen on 6.0.5: the lock is refused until the commit point passes the end of the sync.
            Self::Command { detail, .. } if detail.contains("initial data timestamp") => Some(
                "the member has only just ended its initial sync; try again after the next majority write has reached it".into(),
            ),
            Self::Command { .. } | Self::Reply { .. } => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Settings { .. } => Exit::Usage,
            Self::Arbiter { .. } => Exit::Refused,
            Self::LockOutcomeUnknown { .. } | Self::UnlockOutcomeUnknown { .. } => Exit::StillHeld,
            _ => Exit::Failed,
        }
    }
}
