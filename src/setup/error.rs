//! Why a setup did not come to its end.

use std::path::PathBuf;

use thiserror::Error;

use crate::config::ConfigError;
use crate::error::{Exit, Explain};
use crate::ids::{MemberAddr, ShardName};
use crate::mongo::MongoError;
use crate::mongo::process::SearchFailed;

/// Why a setup did not come to its end.
#[derive(Debug, Error)]
pub enum SetupError {
    /// Nobody is there to answer.
    #[error("{question} Nobody can be asked here")]
    Unanswered {
        /// The question.
        question: String,
        /// What would have said it.
        option: &'static str,
    },
    /// The answer could not be read.
    #[error("cannot read the answer: {0}")]
    Answer(String),
    /// The store's address is none.
    #[error("{0}")]
    Store(String),
    /// The configuration that is there is none.
    #[error("{}: {reason}", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The configuration is not what it should be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The processes of this host cannot be listed.
    #[error(transparent)]
    Search(#[from] SearchFailed),
    /// There is nothing to back up.
    #[error(
        "no mongod of this host is a hidden member of a replica set{}",
        list(found)
    )]
    NoMember {
        /// Others that were found.
        found: Vec<String>,
    },
    /// A member that is named cannot be backed up.
    #[error("{}{member} {what}", set.as_ref().map(|set| format!("{set} at ")).unwrap_or_default())]
    Unfit {
        /// The member.
        member: MemberAddr,
        /// Its replica set.
        set: Option<ShardName>,
        /// What it is.
        what: &'static str,
    },
    /// A member knows no primary, on which alone a user can be made.
    #[error("{member} knows no primary of its replica set, on which the user would be made")]
    NoPrimary {
        /// The member.
        member: MemberAddr,
    },
    /// A user of that name is there, and its password is not ours.
    #[error("the user {user} is there on {primary} already, and its password is not in {}", password_file.display())]
    UserExists {
        /// The user.
        user: String,
        /// The primary.
        primary: MemberAddr,
        /// Where its password should be.
        password_file: PathBuf,
    },
    /// The password is in the environment or a credential of the unit.
    #[error(
        "the password of the configured user is in no file, so nobody can tell whether it works where backups are made"
    )]
    Elsewhere,
    /// The configuration names a user that is made in another way.
    #[error("the configuration has its user by a certificate, or in another database than admin")]
    OtherUser,
    /// A mongod did not do what was asked.
    #[error(transparent)]
    Mongo(#[from] MongoError),
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

fn list(found: &[String]) -> String {
    match found.is_empty() {
        true => String::new(),
        false => format!("; there are {}", found.join(", ")),
    }
}

impl Explain for SetupError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unanswered { option, .. } => Some(format!("say it with {option}")),
            Self::NoMember { .. } => Some(
                "start the member, or hide it (`hidden: true, priority: 0, votes: 0` in rs.conf()); or name it with --member HOST:PORT".into(),
            ),
            Self::Unfit { set, .. } => Some(match set {
                Some(set) => format!("name a hidden secondary of {set} with --member, or in [mongodb] members"),
                None => "name a hidden secondary with --member, or in [mongodb] members".into(),
            }),
            Self::UserExists { password_file, .. } => Some(format!(
                "copy {} from the host that has it and set up again; or --reset-password gives the user another one, which every other host then needs",
                password_file.display()
            )),
            Self::Elsewhere => Some("name a file in [mongodb] password_file, or go without setup: `freezeframe check` where the password is".into()),
            Self::OtherUser => Some("packaging/mongodb-role.js makes such a user".into()),
            Self::NoPrimary { .. } => {
                Some("see rs.status(): set up when the replica set has a primary".into())
            }
            Self::Config(error) => error.hint(),
            Self::Search(error) => error.hint(),
            Self::Mongo(MongoError::Authentication { .. }) => {
                Some("see user and password of the administrator, and --admin-source".into())
            }
            Self::Mongo(error) => error.hint(),
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Some("run it as root".into())
            }
            Self::File { action: "make", source, .. }
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Some("mount what belongs above it, or make the folder that it is to be in".into())
            }
            Self::Document { .. } | Self::Store(_) | Self::Answer(_) | Self::File { .. } => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Unanswered { .. } | Self::Store(_) | Self::Document { .. } => Exit::Usage,
            Self::NoMember { .. }
            | Self::Unfit { .. }
            | Self::NoPrimary { .. }
            | Self::UserExists { .. }
            | Self::Elsewhere
            | Self::OtherUser => Exit::Refused,
            Self::Config(error) => error.exit(),
            Self::Search(error) => error.exit(),
            Self::Mongo(error) => error.exit(),
            Self::Answer(_) | Self::File { .. } => Exit::Failed,
        }
    }
}
